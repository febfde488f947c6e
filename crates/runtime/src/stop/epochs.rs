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

use std::collections::BTreeMap;
use std::fmt;
use std::sync::PoisonError;

use super::words::{EPOCH, EXPIRED, Words};
use crate::primitive::{AtomicU64, Mutex, MutexGuard, Ordering};

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
pub(crate) trait Guest {
    /// Its words.
    fn words(&self) -> Words<'_>;
    /// Ends its wait, if it waits and is to end.
    fn wake(&self);
}

/// A guest in the line.
#[derive(Debug)]
struct Armed<G> {
    guest: G,
    wish: Wish,
}

/// In the order of their deadlines; guests with the same one by their numbers.
type Line<G> = BTreeMap<(u64, usize), Armed<G>>;

/// The epochs of one engine.
pub(crate) struct Epochs<G> {
    now: AtomicU64,
    /// The first deadline of the line. Written under its lock.
    next: AtomicU64,
    line: Mutex<Line<G>>,
}

impl<G: Guest> Epochs<G> {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU64::new(0),
            next: AtomicU64::new(NEVER),
            line: Mutex::new(BTreeMap::new()),
        }
    }

    /// The epoch that is.
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    /// What is guarded is whole after every statement, so a thread that panicked left nothing broken.
    fn lock(&self) -> MutexGuard<'_, Line<G>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
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
        let due = {
            let mut line = self.lock();
            let now = self.now();
            let mut due = Vec::new();
            while let Some(first) = line.first_entry().filter(|first| first.key().0 <= now) {
                due.push(first.remove());
            }
            self.set_next(&line);
            if due.is_empty() {
                return;
            }
            for armed in &due {
                armed.guest.words().reach_epoch(armed.wish.bit());
            }
            barrier();
            for armed in &due {
                armed.guest.words().interrupt_guest(&send);
            }
            due
        };
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
        let mut line = self.lock();
        let left = line.remove(&(former, number));
        words.forget_epoch();
        if deadline != NEVER {
            let guest = guest();
            line.insert((deadline, number), Armed { guest, wish });
        }
        self.set_next(&line);
        if self.now() >= deadline {
            line.remove(&(deadline, number));
            self.set_next(&line);
            words.reach_epoch(wish.bit());
        }
        drop(line);
        drop(left);
    }

    /// How many are in the line.
    #[cfg(all(test, loom))]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().len()
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
