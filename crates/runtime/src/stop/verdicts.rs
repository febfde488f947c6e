//! What became of the runs whose kill is still under way.
//!
//! A switch says that it wants the end of a run, and looks some time later what came of that. By then the run may be over,
//! and any number of runs after it. So the run writes it down for whoever still asks, and for nobody else.

use std::sync::PoisonError;

use crate::primitive::{Mutex, MutexGuard, yield_now};

/// Kills of one instance that can be under way at a time: each instance has room for them, so they are few. More wait
/// for their turn, a few instructions long.
const MOST: usize = 4;

/// Kills that are under way. It allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Verdicts(Mutex<[Asking; MOST]>);

/// A kill that is under way: twice the number of the run, and 1 more if the run has ended for it; 0 if there is none,
/// since no run has that number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Asking(u64);

impl Asking {
    const NONE: Self = Self(0);

    /// Of a run, which may have ended for it. Numbers of runs have 62 bits.
    const fn of(run: u64, ended: bool) -> Self {
        Self(run << 1 | ended as u64)
    }
}

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, [Asking; MOST]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kill of a run begins; its place here.
    pub(super) fn begin(&self, run: u64) -> usize {
        loop {
            let mut list = self.lock();
            if let Some(free) = list.iter().position(|&asking| asking == Asking::NONE) {
                list[free] = Asking::of(run, false);
                return free;
            }
            drop(list);
            yield_now();
        }
    }

    /// A run has ended because that was wanted. Said before the next run is there.
    pub(super) fn ended(&self, run: u64) {
        for asking in self.lock().iter_mut() {
            if *asking == Asking::of(run, false) {
                *asking = Asking::of(run, true);
            }
        }
    }

    /// The kill that has this place is done; whether its run has ended for it.
    pub(super) fn finish(&self, place: usize) -> bool {
        let mine = std::mem::take(&mut self.lock()[place]);
        mine.0 & 1 != 0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use crate::stop::words::{KillError, KillSuccess};
    use crate::vm::limits::LimitsCell;

    fn never(_: u32) {
        panic!("the guest is in a host function");
    }

    #[test]
    fn a_kill_that_is_held_up_for_many_runs_is_told_what_became_of_its_own() {
        let cell = LimitsCell::new();
        let words = cell.words();
        words.begin(1);
        // Between its two looks, the run ends for it, and many others after that.
        let held_up = || {
            assert!(words.end());
            for _ in 0..100 {
                words.begin(1);
                let said = words.kill(words.run(), || (), never);
                assert_eq!(said, Ok(KillSuccess::Pending));
                assert!(words.end());
            }
        };
        let said = words.kill(words.run(), held_up, never);
        assert_eq!(said, Ok(KillSuccess::Signalled));
        // One that is too late, though later runs ended for others.
        words.begin(1);
        let run = words.run();
        assert!(!words.end());
        words.begin(1);
        assert_eq!(
            words.kill(words.run(), || (), never),
            Ok(KillSuccess::Pending)
        );
        assert!(words.end());
        assert_eq!(words.kill(run, || (), never), Err(KillError::Invalid));
    }

    #[test]
    fn more_kills_than_are_counted_wait_for_their_turn() {
        let cell = LimitsCell::new();
        cell.words().begin(1);
        let run = cell.words().run();
        let said: Vec<_> = std::thread::scope(|scope| {
            let kill = || cell.words().kill(run, || (), never);
            let killers: Vec<_> = (0..40).map(|_| scope.spawn(kill)).collect();
            let said = killers.into_iter().map(|killer| killer.join().unwrap());
            said.collect()
        });
        let ended = said.iter().filter(|said| said.is_ok()).count();
        assert_eq!(ended, 1, "{said:?}");
        assert!(cell.words().end());
    }
}
