//! Model checks of the words: no kill is lost, none hits another run, and both sides agree on what happened.

use super::*;
use crate::primitive::model;
use loom::sync::Arc;
use loom::sync::atomic::fence;
use loom::thread;

/// Words that are not in a `Control`.
pub(crate) struct OwnWords {
    ticket: AtomicU64,
    interrupt: AtomicU32,
    place: AtomicU64,
    thread: AtomicU32,
    verdicts: Verdicts,
    /// Whether a signal is on its way to the guest's thread.
    signal: AtomicU32,
}

impl OwnWords {
    fn new() -> Self {
        Self {
            ticket: AtomicU64::new(FIRST_TICKET),
            interrupt: AtomicU32::new(0),
            place: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            verdicts: Verdicts::default(),
            signal: AtomicU32::new(0),
        }
    }

    /// Words of a guest that is in a host function.
    pub(crate) fn running() -> Self {
        let words = Self::new();
        words.words().begin(1);
        words
    }

    pub(crate) fn words(&self) -> Words<'_> {
        Words {
            ticket: &self.ticket,
            interrupt: &self.interrupt,
            place: &self.place,
            thread: &self.thread,
            verdicts: &self.verdicts,
        }
    }

    /// What a door does: whether it finds nothing. As the assembly: plain accesses, and the other side's barrier.
    pub(crate) fn door_is_open(&self) -> bool {
        let words = self.words();
        words.set_phase(phase::GUEST);
        light_barrier();
        words.interrupt.load(Ordering::Relaxed) == 0
    }

    /// Whether the guest may go on behind a door.
    fn door(&self) -> bool {
        self.door_is_open() || !self.handle()
    }

    /// What the signal handler does: whether it ends the guest.
    fn handle(&self) -> bool {
        let kill = self.words().wanted().kill;
        if kill {
            self.words().honour();
        }
        kill
    }

    /// An instruction of the guest: a signal that is there is taken; whether the guest goes on.
    fn instruction(&self) -> bool {
        self.signal.swap(0, Ordering::AcqRel) == 0 || !self.handle()
    }

    /// A run of a guest with a hostcall in the middle; whether it was ended from outside.
    fn run(&self) -> bool {
        let words = self.words();
        words.begin(1);
        let through = self.door()
            && self.instruction()
            && {
                words.back_in_host();
                self.door()
            }
            && self.instruction();
        words.end() || !through
    }

    fn kill(&self, run: u64) -> Result<KillSuccess, KillError> {
        self.words().kill(
            run,
            || fence(Ordering::SeqCst),
            |_| self.signal.store(1, Ordering::Release),
        )
    }
}

#[test]
fn loom_a_kill_ends_the_run_that_it_says_it_ends() {
    model(|| {
        let words = Arc::new(OwnWords::new());
        let run = words.words().run();
        let killer = thread::spawn({
            let words = words.clone();
            move || words.kill(run)
        });
        let first = words.run();
        let second = words.run();
        let said = killer.join().unwrap();
        // A signal may come when all is over.
        words.handle();
        assert_eq!(said.is_ok(), first, "{said:?}");
        assert!(!second, "the next run is not the switch's");
        assert!(!words.run(), "nor the one after it");
        assert!(matches!(
            said,
            Ok(_) | Err(KillError::NotTerminable | KillError::Invalid)
        ));
    });
}

#[test]
fn loom_of_two_switches_one_ends_the_run() {
    model(|| {
        let words = Arc::new(OwnWords::new());
        let run = words.words().run();
        let killers = [(); 2].map(|()| {
            let words = words.clone();
            thread::spawn(move || words.kill(run))
        });
        let killed = words.run();
        let said = killers.map(|killer| killer.join().unwrap());
        let ended = said.iter().filter(|said| said.is_ok()).count();
        assert_eq!(ended, usize::from(killed), "{said:?}");
        assert!(!words.run());
    });
}

#[test]
fn loom_a_guest_that_never_leaves_sees_every_kill() {
    model(|| {
        let words = Arc::new(OwnWords::new());
        let run = words.words().run();
        let killer = thread::spawn({
            let words = words.clone();
            move || words.kill(run).unwrap()
        });
        words.words().begin(1);
        let entered = words.door();
        killer.join().unwrap();
        // An endless loop: it has only the signal to end it.
        let goes_on = entered && words.instruction();
        assert!(!goes_on, "the kill was lost");
        assert!(words.words().end());
    });
}

#[test]
fn loom_a_suspended_guest_takes_the_kill_with_it() {
    model(|| {
        let words = Arc::new(OwnWords::running());
        let run = words.words().run();
        let killer = thread::spawn({
            let words = words.clone();
            move || words.kill(run)
        });
        words.words().suspend();
        words.words().begin(2);
        let through = words.door() && words.instruction();
        let killed = words.words().end() || !through;
        let said = killer.join().unwrap();
        assert_eq!(said.is_ok(), killed, "{said:?}");
    });
}

#[test]
fn loom_a_wish_to_suspend_is_found_or_was_too_late() {
    model(|| {
        let words = Arc::new(OwnWords::running());
        let other = thread::spawn({
            let words = words.clone();
            move || {
                words.words().preempt(
                    || fence(Ordering::SeqCst),
                    |_| words.signal.store(1, Ordering::Release),
                )
            }
        });
        let words_ = words.words();
        words_.set_phase(phase::GUEST);
        light_barrier();
        let at_door = words_.interrupt.load(Ordering::Relaxed) & PREEMPT != 0;
        let was_running = other.join().unwrap();
        let signalled = words.signal.swap(0, Ordering::AcqRel) == 1;
        assert!(was_running, "it is not over yet");
        assert!(at_door || signalled, "the wish was lost");
        assert_eq!(words_.wanted(), Wanted::of(PREEMPT));
        words_.suspend();
        assert_eq!(words_.wanted(), Wanted::of(0));
    });
}

#[test]
fn loom_a_kill_that_is_held_up_is_told_the_truth_of_its_run() {
    model(|| {
        let words = Arc::new(OwnWords::running());
        let run = words.words().run();
        let killer = {
            let words = words.clone();
            thread::spawn(move || words.words().kill(run, || fence(Ordering::SeqCst), |_| ()))
        };
        let killed = words.words().end();
        // The next run is killed, too, which is not to be taken for the first.
        words.words().begin(1);
        let next = words.words().run();
        let said = words.words().kill(next, || fence(Ordering::SeqCst), |_| ());
        assert_eq!(said, Ok(KillSuccess::Pending));
        assert!(words.words().end());
        assert_eq!(killer.join().unwrap().is_ok(), killed);
    });
}
