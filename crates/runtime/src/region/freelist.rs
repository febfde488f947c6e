//! The free slots of a region: a list for each thread, so that threads don't meet.
//!
//! ```text
//!   give   this thread's list, at its end
//!   take   this thread's list: one of the last few that ran the program, as it is
//!          slots that nobody has used, as long as this thread's list is short
//!          this thread's list: the one that has lain longest
//!          slots that nobody has used
//!          another thread's list: those that have lain longest, several at once
//! ```
//!
//! A list has a lock, which threads share only where there are more of them than lists, and when slots run short. A thread that makes and
//! drops instances of one program takes and gives the same slot, on a list that no other processor has in its cache.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::instance::husk::Husk;
use crate::program::Program;
use crate::region::alloc::AllocStrategy;
use crate::region::metrics::{Counts, SlotCounts};
use crate::region::slot::SlotState;

/// Lists at most. Beyond as many threads at a time, two share one.
const MAX_LISTS: u32 = 64;

/// Slots of a list that are looked at for one that ran the program.
const LOOKED_AT: usize = 8;

/// Slots that are moved from another thread's list at once.
const MOVED: usize = 4;

/// A free slot.
#[derive(Debug)]
pub(crate) enum Free {
    /// As it was mapped last, or not at all.
    Slot(SlotState),
    /// With all that a new instance of its program needs.
    Husk(Husk),
}

impl Free {
    /// A slot that nothing has used.
    fn unused(index: u32) -> Self {
        Self::Slot(SlotState::new(index))
    }

    /// What was counted in the slot since it was taken.
    fn take_counts(&mut self) -> SlotCounts {
        match self {
            Self::Slot(slot) => std::mem::take(&mut slot.counts),
            Self::Husk(husk) => husk.take_counts(),
        }
    }

    /// Whether little is to be done before the program runs in it.
    fn is_ready_for(&self, program: &Program) -> bool {
        match self {
            Self::Slot(slot) => slot.is_ready_for(program),
            Self::Husk(husk) => husk.is_of(program),
        }
    }
}

/// The list of a thread; alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct List(Mutex<Lane>);

/// What the lock of a list guards.
#[derive(Debug, Default)]
struct Lane {
    free: VecDeque<Free>,
    counts: Counts,
}

/// The free slots of a region.
#[derive(Debug)]
pub(crate) struct FreeList {
    lists: Box<[List]>,
    /// Numbers of slots that have no mappings.
    unused: Mutex<Vec<u32>>,
    /// Threads that wait for a slot.
    waiting: AtomicU32,
    wait: Mutex<()>,
    given: Condvar,
}

/// What is guarded is whole after every statement, so a thread that panicked left nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of this thread's; threads that live at a time have different ones, until they are many.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // A cell without a destructor is there as long as its thread.
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

impl FreeList {
    /// All slots, none of them used yet.
    pub(crate) fn new(slots: u32) -> Self {
        let lists = slots.clamp(1, MAX_LISTS);
        Self {
            lists: (0..lists).map(|_| List::default()).collect(),
            // The lowest is handed out first.
            unused: Mutex::new((0..slots).rev().collect()),
            waiting: AtomicU32::new(0),
            wait: Mutex::default(),
            given: Condvar::new(),
        }
    }

    fn own(&self) -> &Mutex<Lane> {
        &self.lists[thread_number() % self.lists.len()].0
    }

    /// How many are free. Others may take and give meanwhile.
    pub(crate) fn len(&self) -> usize {
        let listed: usize = self.lists.iter().map(|list| lock(&list.0).free.len()).sum();
        listed + lock(&self.unused).len()
    }

    /// Adds what was counted in a slot that stays in use.
    pub(crate) fn add_counts(&self, counts: SlotCounts) {
        lock(self.own()).counts += counts.into();
    }

    /// Slots that were never used, and what was counted so far.
    pub(crate) fn counts(&self) -> (usize, Counts) {
        let mut counts = Counts::default();
        for list in &self.lists {
            counts += lock(&list.0).counts;
        }
        (lock(&self.unused).len(), counts)
    }

    /// Takes a slot; `None` if there is none.
    pub(crate) fn take(&self, strategy: &AllocStrategy, program: &Program) -> Option<Free> {
        match strategy {
            AllocStrategy::Recent => self.take_recent(|free| free.is_ready_for(program)),
            _ => self.take_chosen(|count| strategy.choose(count)),
        }
    }

    /// Takes any slot.
    #[cfg(test)]
    pub(crate) fn take_any(&self) -> Option<Free> {
        self.take_recent(|_| false)
    }

    fn take_recent(&self, is_ready: impl Fn(&Free) -> bool) -> Option<Free> {
        {
            let mut own = lock(self.own());
            let Lane { free, counts } = &mut *own;
            let first = free.len().saturating_sub(LOOKED_AT);
            if let Some(at) = (first..free.len()).rev().find(|&at| is_ready(&free[at])) {
                counts.taken += 1;
                counts.taken_ready += 1;
                return free.remove(at);
            }
            if free.len() > LOOKED_AT {
                counts.taken += 1;
                return free.pop_front();
            }
        }
        let unused = lock(&self.unused).pop().map(Free::unused);
        let found = unused
            .or_else(|| lock(self.own()).free.pop_front())
            .or_else(|| self.take_from_others());
        if found.is_some() {
            lock(self.own()).counts.taken += 1;
        }
        found
    }

    /// Takes a slot of another thread's list, and brings some more for the next time.
    #[cold]
    fn take_from_others(&self) -> Option<Free> {
        let own = thread_number();
        for i in 1..self.lists.len() {
            let other = &self.lists[(own + i) % self.lists.len()].0;
            // One list is locked at a time.
            let mut taken: [Option<Free>; MOVED] = Default::default();
            {
                let mut other = lock(other);
                let count = other.free.len().div_ceil(2).min(MOVED);
                for place in taken.iter_mut().take(count) {
                    *place = other.free.pop_front();
                }
            }
            let mut taken = taken.into_iter().flatten();
            if let Some(first) = taken.next() {
                lock(self.own()).free.extend(taken);
                return Some(first);
            }
        }
        None
    }

    /// Takes the slot at a position of all, which are locked meanwhile.
    #[cold]
    fn take_chosen(&self, choose: impl FnOnce(usize) -> Option<usize>) -> Option<Free> {
        let mut lists: Vec<_> = self.lists.iter().map(|list| lock(&list.0)).collect();
        let mut unused = lock(&self.unused);
        let count = unused.len() + lists.iter().map(|list| list.free.len()).sum::<usize>();
        let mut at = choose(count)?;
        // Counted in any of them: all are locked.
        if let Some(list) = lists.first_mut() {
            list.counts.taken += 1;
        }
        if at < unused.len() {
            return Some(Free::unused(unused.remove(at)));
        }
        at -= unused.len();
        for list in &mut lists {
            if at < list.free.len() {
                return list.free.remove(at);
            }
            at -= list.free.len();
        }
        None
    }

    /// Gives a slot. What is `false` of it when its list is locked is given back to the caller instead.
    pub(crate) fn give(&self, mut free: Free, keep: impl FnOnce(&Free) -> bool) -> Option<Free> {
        {
            let counts = free.take_counts();
            let mut own = lock(self.own());
            own.counts += counts.into();
            if !keep(&free) {
                return Some(free);
            }
            own.free.push_back(free);
        }
        // Who waits says so before it looks at the lists; who gives looks whether anybody does afterwards.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
        None
    }

    #[cold]
    fn wake(&self) {
        let _waiting = lock(&self.wait);
        self.given.notify_one();
    }

    /// Takes a slot by a function, waiting until there is one; `None` when the time is over.
    #[cold]
    pub(crate) fn wait<R>(
        &self,
        at_most: Duration,
        mut take: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now().checked_add(at_most);
        let mut guard = lock(&self.wait);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let found = loop {
            if let Some(found) = take() {
                break Some(found);
            }
            guard = match deadline {
                None => self
                    .given
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break None;
                    }
                    let waited = self.given.wait_timeout(guard, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Takes all husks for which a function says so out of the lists.
    pub(crate) fn take_husks(&self, which: impl Fn(&Husk) -> bool) -> Vec<Husk> {
        let mut taken = Vec::new();
        for list in &self.lists {
            let mut list = lock(&list.0);
            for _ in 0..list.free.len() {
                match list.free.pop_front() {
                    Some(Free::Husk(husk)) if which(&husk) => taken.push(husk),
                    Some(other) => list.free.push_back(other),
                    None => break,
                }
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(list: &FreeList, slot: u32) {
        assert!(
            list.give(Free::Slot(SlotState::new(slot)), |_| true)
                .is_none()
        );
    }

    fn take(list: &FreeList) -> Option<u32> {
        match list.take_recent(|_| false)? {
            Free::Slot(slot) => Some(slot.index()),
            Free::Husk(_) => None,
        }
    }

    #[test]
    fn unused_slots_come_first_and_the_longest_unused_ones_then() {
        let list = FreeList::new(3);
        assert_eq!((take(&list), take(&list)), (Some(0), Some(1)));
        give(&list, 0);
        give(&list, 1);
        assert_eq!(list.len(), 3);
        assert_eq!(
            [take(&list), take(&list), take(&list)],
            [Some(2), Some(0), Some(1)]
        );
        assert_eq!((take(&list), list.len()), (None, 0));
    }

    #[test]
    fn a_thread_that_uses_many_slots_goes_round_before_it_takes_unused_ones() {
        let list = FreeList::new(100);
        for _ in 0..20 {
            let taken: Vec<_> = (0..=LOOKED_AT).map(|_| take(&list).unwrap()).collect();
            taken.into_iter().for_each(|slot| give(&list, slot));
        }
        let unused = lock(&list.unused).len();
        assert!(unused > 70, "{unused}");
    }

    #[test]
    fn slots_of_other_threads_are_found() {
        let list = FreeList::new(10);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while take(&list).is_some() {}
                (0..10).for_each(|slot| give(&list, slot));
            });
        });
        let mut all: Vec<_> = std::iter::from_fn(|| take(&list)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_chosen_position_counts_all() {
        let list = FreeList::new(3);
        let first = take(&list).unwrap();
        give(&list, first);
        let choose = |at| match list.take_chosen(|count| (at < count).then_some(at)) {
            Some(Free::Slot(slot)) => Some(slot.index()),
            _ => None,
        };
        assert_eq!((choose(3), choose(2)), (None, Some(0)));
        assert_eq!((choose(0), choose(0), choose(0)), (Some(2), Some(1), None));
    }

    #[test]
    fn who_waits_gets_the_next_slot_that_is_given_or_none_in_time() {
        let list = FreeList::new(1);
        assert_eq!(take(&list), Some(0));
        let wait = |time| list.wait(time, || take(&list));
        assert_eq!(wait(Duration::ZERO), None);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let slot = wait(Duration::MAX).unwrap();
                        give(&list, slot);
                    }
                });
            }
            give(&list, 0);
        });
        assert_eq!((list.len(), list.waiting.load(Ordering::Relaxed)), (1, 0));
    }

    #[test]
    fn what_is_not_to_be_kept_comes_back() {
        let list = FreeList::new(1);
        let slot = Free::Slot(SlotState::new(7));
        assert!(list.give(slot, |_| false).is_some());
        assert_eq!(list.len(), 1);
    }
}
