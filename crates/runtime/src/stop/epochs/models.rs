//! Model checks of epochs: no deadline is missed, and none stops a guest that has another one by then.

use super::*;
use crate::primitive::model;
use crate::stop::words::models::OwnWords;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, fence};
use loom::thread;

/// A guest with its engine's epochs.
struct Shared {
    epochs: Epochs<Arc<OwnWords>>,
    guest: Arc<OwnWords>,
    /// Whether a signal is on its way to the guest's thread.
    signal: AtomicU32,
}

impl Guest for Arc<OwnWords> {
    fn words(&self) -> Words<'_> {
        OwnWords::words(self)
    }
    fn wake(&self) {}
}

impl Shared {
    /// A guest that is in a host function.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            epochs: Epochs::new(),
            guest: Arc::new(OwnWords::running()),
            signal: AtomicU32::new(0),
        })
    }

    fn increment(&self) -> u64 {
        self.epochs.increment(
            || fence(Ordering::SeqCst),
            // loom would put a plain store between the two halves of an exchange.
            |_| drop(self.signal.swap(1, Ordering::AcqRel)),
        )
    }

    /// A thread that increments once.
    fn ticks(shared: &Arc<Self>) -> thread::JoinHandle<u64> {
        let shared = shared.clone();
        thread::spawn(move || shared.increment())
    }

    fn set(&self, former: u64, deadline: u64) {
        let words = self.guest.words();
        let guest = || self.guest.clone();
        let wish = Wish::Suspend;
        self.epochs.set((former, 1), deadline, wish, words, guest);
    }

    /// Into the guest and on in it: whether it is stopped.
    fn is_stopped(&self) -> bool {
        let at_door = !self.guest.door_is_open();
        at_door || self.is_stopped_in_guest()
    }

    /// An instruction of the guest: a signal that is there is taken.
    fn is_stopped_in_guest(&self) -> bool {
        self.signal.swap(0, Ordering::AcqRel) == 1 && self.guest.words().wanted().suspend
    }
}

#[test]
fn loom_a_deadline_that_is_set_while_it_is_reached_is_not_missed() {
    model(|| {
        let shared = Shared::new();
        let ticker = Shared::ticks(&shared);
        shared.set(NEVER, 1);
        let stopped = shared.is_stopped();
        ticker.join().unwrap();
        assert!(stopped || shared.is_stopped_in_guest(), "it was missed");
        assert_eq!(shared.epochs.waiting(), 0);
    });
}

#[test]
fn loom_of_two_increments_one_reaches_the_deadline() {
    model(|| {
        let shared = Shared::new();
        shared.set(NEVER, 2);
        let tickers = [(); 2].map(|()| Shared::ticks(&shared));
        let stopped = shared.is_stopped();
        let mut epochs = tickers.map(|ticker| ticker.join().unwrap());
        epochs.sort_unstable();
        assert_eq!(epochs, [1, 2]);
        assert!(stopped || shared.is_stopped_in_guest(), "it was missed");
    });
}

#[test]
fn loom_a_deadline_that_was_moved_stops_nobody() {
    model(|| {
        let shared = Shared::new();
        shared.set(NEVER, 1);
        let ticker = Shared::ticks(&shared);
        // In a host function.
        shared.set(1, 3);
        let stopped = shared.is_stopped();
        ticker.join().unwrap();
        assert!(!stopped && !shared.is_stopped_in_guest());
        assert_eq!(shared.epochs.waiting(), 1);
    });
}

#[test]
fn loom_an_instance_that_is_dropped_leaves_nothing_behind() {
    model(|| {
        let shared = Shared::new();
        shared.set(NEVER, 1);
        let ticker = Shared::ticks(&shared);
        let words = shared.guest.words();
        words.end();
        shared.set(1, NEVER);
        assert!(
            !words.wanted().suspend,
            "the next one begins without a deadline"
        );
        assert_eq!(shared.epochs.waiting(), 0);
        ticker.join().unwrap();
        assert!(!words.wanted().suspend, "and so it stays");
    });
}
