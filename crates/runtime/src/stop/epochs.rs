//! The epochs of an engine: a counter, and which guests have a deadline on it. No code of guests takes part.
//!
//! ```text
//!  increment:  now += 1; is next reached?          set:  lock; out of the line; forget what was reached
//!              no: done                                  into the line; next := the first of the line
//!              yes: lock                                 is now at the deadline? then as on the left
//!                   those that are due: out of the line; EPOCH or EXPIRED into their words
//!                   barrier on all threads; signals to those that are in guest code
//! ```
//!
//! **Why no deadline is missed.** Whoever sets one writes `next` and then reads `now`; whoever increments writes
//! `now` and then reads `next`; all four are sequentially consistent, so at least one sees the other. From the bits
//! in the words on it is as for kills (`stop/words.rs`).
//!
//! **Why none hits a guest that it is not for.** Bits are set and taken back under the lock, and who takes them back
//! has the instance, so its guest does not run meanwhile. A signal that is on its way then finds no bit and does
//! nothing. An instance that is dropped leaves the line first.
//!
//! **Why no fork loses one.** A thread that holds the lock when another one forks is not in the child, and what it was
//! changing stays half changed there. So the line is there twice, each with a lock of its own, and whoever has its turn
//! changes one after the other: at any moment one of them is whole and not locked. The child makes its own table of that
//! one (`sys/of_process.rs`). Bits are set before a guest leaves either line: whom the child does not find there has them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, TryLockError};

use super::words::{EPOCH, EXPIRED, Words};
use crate::primitive::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::sys::of_process::OfProcess;

/// The deadline of guests that have none: the counter never gets there.
pub(crate) const NEVER: u64 = u64::MAX;

/// What becomes of a guest at its deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    /// It is suspended.
    Suspend,
    /// It traps.
    Trap,
}

impl Wish {
    fn bit(self) -> u32 {
        match self {
            Self::Suspend => EPOCH,
            Self::Trap => EXPIRED,
        }
    }
}

/// A share in a guest, by which other threads stop it.
pub(crate) trait Guest: Clone {
    /// Its words.
    fn words(&self) -> Words<'_>;
    /// Ends its wait, if it waits and is to end.
    fn wake(&self);
}

/// A guest in the line.
#[derive(Clone, Debug)]
struct Armed<G> {
    guest: G,
    wish: Wish,
}

/// In the order of their deadlines; guests with the same one by their numbers.
type Line<G> = BTreeMap<(u64, usize), Armed<G>>;

/// Guests with a deadline.
struct Table<G> {
    /// Held by whoever changes the lines.
    turn: Mutex<()>,
    /// The same twice, but while somebody changes one of them.
    lines: [Mutex<Line<G>>; 2],
}

/// What is guarded is whole after every statement, so a thread that panicked left nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<G: Guest> Table<G> {
    fn new(line: Line<G>) -> Self {
        Self {
            turn: Mutex::new(()),
            lines: [Mutex::new(line.clone()), Mutex::new(line)],
        }
    }

    /// The table of a child, made of its parent's at the fork.
    fn of_child(parents: &Self) -> Self {
        let whole = parents.lines.iter().find_map(|line| match line.try_lock() {
            Ok(line) => Some(line.clone()),
            Err(TryLockError::Poisoned(line)) => Some(line.into_inner().clone()),
            Err(TryLockError::WouldBlock) => None,
        });
        debug_assert!(whole.is_some(), "one is locked at a time");
        Self::new(whole.unwrap_or_default())
    }
}

/// The epochs of one engine.
pub(crate) struct Epochs<G> {
    now: AtomicU64,
    /// The first deadline of the lines. Written by who has the turn.
    next: AtomicU64,
    table: OfProcess<Table<G>>,
}

impl<G: Guest> Epochs<G> {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            next: AtomicU64::new(NEVER),
            table: OfProcess::new(Table::new(BTreeMap::new())),
        }
    }

    /// The epoch that is.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn table(&self) -> &Table<G> {
        self.table.get(Table::of_child)
    }

    fn set_next(&self, line: &Line<G>) {
        let first = line.first_key_value().map_or(NEVER, |(&(at, _), _)| at);
        self.next.store(first, Ordering::SeqCst);
    }

    /// The next epoch begins; its number. `barrier` and `send` as for [`Words::kill`].
    pub(crate) fn increment(&self, barrier: impl FnOnce(), send: impl Fn(u32)) -> u64 {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        if now >= self.next.load(Ordering::SeqCst) {
            self.reach(barrier, send);
        }
        now
    }

    /// Stops those whose deadline is reached.
    #[cold]
    fn reach(&self, barrier: impl FnOnce(), send: impl Fn(u32)) {
        let table = self.table();
        let turn = lock(&table.turn);
        let now = self.now();
        let is_due = |&(&(deadline, _), _): &(&(u64, usize), &Armed<G>)| deadline <= now;
        let due: Vec<Armed<G>> = {
            let line = lock(&table.lines[0]);
            let due = line.iter().take_while(is_due);
            due.map(|(_, armed)| armed.clone()).collect()
        };
        for armed in &due {
            armed.guest.words().reach_epoch(armed.wish.bit());
        }
        let mut left = Vec::new();
        for line in &table.lines {
            let mut line = lock(line);
            while let Some(first) = line.first_entry().filter(|first| first.key().0 <= now) {
                left.push(first.remove());
            }
            self.set_next(&line);
        }
        if due.is_empty() {
            return;
        }
        barrier();
        for armed in &due {
            armed.guest.words().interrupt_guest(&send);
        }
        drop(turn);
        // What wakes a guest is the embedder's, so not under the lock.
        for armed in due {
            if armed.wish == Wish::Trap {
                armed.guest.wake();
            }
        }
    }

    /// Sets the deadline of a guest that does not run, and what becomes of it then. `number` is the guest's own, and
    /// `former` the deadline that it had.
    pub(crate) fn set(
        &self,
        (former, number): (u64, usize),
        deadline: u64,
        wish: Wish,
        words: Words<'_>,
        guest: impl FnOnce() -> G,
    ) {
        let armed = (deadline != NEVER).then(|| Armed {
            guest: guest(),
            wish,
        });
        let table = self.table();
        let turn = lock(&table.turn);
        words.forget_epoch();
        // Dropped when nothing is locked.
        let mut left = [None, None];
        for (line, left) in table.lines.iter().zip(&mut left) {
            let mut line = lock(line);
            *left = line.remove(&(former, number));
            if let Some(armed) = &armed {
                line.insert((deadline, number), armed.clone());
            }
            self.set_next(&line);
        }
        if self.now() >= deadline {
            words.reach_epoch(wish.bit());
            for line in &table.lines {
                let mut line = lock(line);
                line.remove(&(deadline, number));
                self.set_next(&line);
            }
        }
        drop(turn);
        drop((left, armed));
    }

    /// How many are in the line.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        let table = self.table();
        let _turn = lock(&table.turn);
        let [first, second] = &table.lines;
        let count = lock(first).len();
        assert_eq!(count, lock(second).len(), "they are the same");
        count
    }
}

impl<G> fmt::Debug for Epochs<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs")
            .field("now", &self.now)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
