//! Model checks of waiting: no notification is lost, none is counted that woke nobody, no request to end
//! comes too early or too late.

use super::*;
use crate::primitive::{AtomicUsize, Ordering, model};
use crate::stop::words::models::OwnWords;
use loom::sync::atomic::fence;
use loom::thread;

const AT: u64 = 8;

/// A lot, a word that is waited for, and a hook.
#[derive(Default)]
struct Shared {
    lot: ParkingLot,
    hook: WaitHook,
    words: Option<OwnWords>,
    word: Option<AtomicUsize>,
}

fn shared() -> Arc<Shared> {
    Arc::new(Shared {
        word: Some(AtomicUsize::new(0)),
        words: Some(OwnWords::running()),
        ..Shared::default()
    })
}

impl Shared {
    fn word(&self) -> &AtomicUsize {
        self.word.as_ref().unwrap()
    }

    /// Waits while the word is zero.
    fn wait(&self, timeout: Option<Duration>) -> Woken {
        let is_zero = || self.word().load(Ordering::SeqCst) == 0;
        let guest = Interruptible {
            hook: &self.hook,
            words: self.words(),
        };
        self.lot.wait(AT, is_zero, timeout, Some(guest))
    }

    fn words(&self) -> Words<'_> {
        self.words.as_ref().unwrap().words()
    }

    /// Ends the run as a kill switch does.
    fn kill(&self) {
        let run = self.words().run();
        self.words()
            .kill(run, || fence(Ordering::SeqCst), |_| ())
            .unwrap();
        self.hook.interrupt(run);
    }

    fn change(&self) {
        self.word().store(1, Ordering::SeqCst);
    }
}

fn spawn<R: 'static>(
    shared: &Arc<Shared>,
    f: impl FnOnce(&Shared) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || f(&shared))
}

#[test]
fn loom_who_waits_for_a_change_does_not_miss_it() {
    model(|| {
        let shared = shared();
        // loom finds the wait that nobody ends: then all threads wait.
        let waiter = spawn(&shared, |shared| shared.wait(None));
        shared.change();
        let woken = shared.lot.notify(AT, 1);
        let expected = [Woken::Mismatch, Woken::Notified][woken as usize];
        assert_eq!(waiter.join().unwrap(), expected);
        assert_eq!(shared.lot.waiting(AT), 0);
    });
}

#[test]
fn loom_a_notification_counts_exactly_whom_it_woke() {
    model(|| {
        let shared = shared();
        let over_at_once = Some(Duration::ZERO);
        let waiters = [(); 2].map(|()| spawn(&shared, move |shared| shared.wait(over_at_once)));
        let woken = shared.lot.notify(AT, 1);
        let ends = waiters.map(|waiter| waiter.join().unwrap());
        let notified = ends.iter().filter(|end| **end == Woken::Notified).count();
        assert_eq!(notified, woken as usize, "{ends:?}");
        assert!(
            ends.iter()
                .all(|end| matches!(end, Woken::Notified | Woken::TimedOut)),
            "{ends:?}"
        );
        assert_eq!(shared.lot.waiting(AT), 0);
    });
}

#[test]
fn loom_a_request_ends_a_wait_whenever_it_comes() {
    model(|| {
        let shared = shared();
        let waiter = spawn(&shared, |shared| shared.wait(None));
        shared.kill();
        assert_eq!(waiter.join().unwrap(), Woken::Interrupted);
        assert_eq!(shared.lot.waiting(AT), 0);
        assert!(shared.words().end());
        shared.words().begin(1);
        assert_eq!(shared.wait(Some(Duration::ZERO)), Woken::TimedOut);
    });
}

#[test]
fn loom_a_wait_ends_one_way_when_a_request_and_a_notification_meet() {
    model(|| {
        let shared = shared();
        let waiter = spawn(&shared, |shared| shared.wait(None));
        let killer = spawn(&shared, Shared::kill);
        let woken = shared.lot.notify(AT, 1);
        let expected = [Woken::Interrupted, Woken::Notified][woken as usize];
        assert_eq!(waiter.join().unwrap(), expected);
        killer.join().unwrap();
        assert_eq!(shared.lot.waiting(AT), 0);
    });
}
