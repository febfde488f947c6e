//! Model checks: no task sleeps on when the end of its guest is wanted.

use std::task::Wake;

use super::*;
use crate::primitive::{Arc, Condvar, Ordering, model};
use crate::stop::parking::WaitHook;
use crate::stop::words::models::OwnWords;
use loom::sync::atomic::fence;
use loom::thread;

/// A task that sleeps until it is woken.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

impl Wake for Sleeper {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// The words of a run whose guest is suspended, and its hook.
struct Shared {
    hook: WaitHook,
    words: OwnWords,
}

impl Shared {
    fn new() -> Arc<Self> {
        let words = OwnWords::running();
        words.words().suspend();
        Arc::new(Self {
            hook: WaitHook::default(),
            words,
        })
    }

    /// Ends the run as a kill switch does.
    fn kill(&self) {
        let run = self.words.words().run();
        let killed = self
            .words
            .words()
            .kill(run, || fence(Ordering::SeqCst), |_| ());
        // Signalled, if the guest has been ended for it already.
        assert!(killed.is_ok(), "{killed:?}");
        if killed == Ok(crate::KillSuccess::Pending) {
            self.hook.interrupt(run);
        }
    }

    /// A thread that ends the run.
    fn killer(shared: &Arc<Self>) -> thread::JoinHandle<()> {
        let shared = shared.clone();
        thread::spawn(move || shared.kill())
    }

    /// Ends the guest as the poll does that has seen the kill.
    fn end(&self) {
        self.words.words().honour();
        assert!(self.words.words().end());
    }

    /// What a poll does whose future is not ready: whether it ends the guest.
    fn poll(&self, waker: &Waker) -> bool {
        let guest = Interruptible {
            hook: &self.hook,
            words: self.words.words(),
        };
        guest.wakes(waker)
    }
}

#[test]
fn loom_a_kill_wakes_the_task_that_waits_or_is_seen_by_it() {
    model(|| {
        let shared = Shared::new();
        let killer = Shared::killer(&shared);
        let sleeper = std::sync::Arc::new(Sleeper::default());
        let waker = Waker::from(sleeper.clone());
        // loom finds the sleep that nobody ends: then all threads wait.
        while !shared.poll(&waker) {
            sleeper.sleep();
        }
        shared.end();
        killer.join().unwrap();
    });
}

#[test]
fn loom_a_task_that_moves_is_woken_by_the_waker_that_it_gave_last() {
    model(|| {
        let shared = Shared::new();
        let killer = Shared::killer(&shared);
        let first = std::sync::Arc::new(Sleeper::default());
        let last = std::sync::Arc::new(Sleeper::default());
        if !shared.poll(&Waker::from(first)) {
            let waker = Waker::from(last.clone());
            while !shared.poll(&waker) {
                last.sleep();
            }
        }
        shared.end();
        killer.join().unwrap();
    });
}
