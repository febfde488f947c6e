//! Where threads wait at an address of a shared memory until another notifies them.
//!
//! ```text
//!   wait:    lock the lot; is the word as expected? stand in line; unlock; sleep until my state changes
//!   notify:  lock the lot; the first in line who still wait: state = notified, counted, woken
//! ```
//!
//! A waiter's state changes once, under its own lock: notified, timed out or interrupted, whichever comes
//! first. So a notification that was counted has woken somebody, and a wait that ended otherwise was not
//! counted. The word is compared under the lock of the lot: a notification that follows a change of the
//! word finds whoever went to sleep on the former value.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::task::Task;
use super::words::Words;
use crate::primitive::{Arc, Condvar, Mutex, MutexGuard};

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// By a notification.
    Notified,
    /// At once: the word was not as expected.
    Mismatch,
    /// By its time-out.
    TimedOut,
    /// By somebody who wants the guest to end.
    Interrupted,
}

/// Those who wait at addresses of one memory.
#[derive(Debug, Default)]
pub(crate) struct ParkingLot {
    lines: Mutex<HashMap<u64, VecDeque<Arc<Waiter>>>>,
}

/// One thread that waits.
#[derive(Debug, Default)]
struct Waiter {
    /// How its wait ended, once it has.
    woken: Mutex<Option<Woken>>,
    changed: Condvar,
}

/// What is guarded is whole after every statement, so a thread that panicked left nothing broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiter {
    /// Ends the wait, unless it has ended.
    fn wake(&self, how: Woken) -> bool {
        let mut woken = lock(&self.woken);
        if woken.is_some() {
            return false;
        }
        *woken = Some(how);
        self.changed.notify_one();
        true
    }

    /// Sleeps until the wait ends.
    fn sleep(&self, deadline: Option<Instant>) -> Woken {
        let mut woken = lock(&self.woken);
        loop {
            if let Some(how) = *woken {
                return how;
            }
            woken = match deadline {
                None => self
                    .changed
                    .wait(woken)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        *woken = Some(Woken::TimedOut);
                        continue;
                    }
                    let waited = self.changed.wait_timeout(woken, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl ParkingLot {
    /// Waits at an address while `is_expected` says so of its word, which is asked once. Without a time-out,
    /// or with one beyond what the clock counts, it waits for ever.
    pub(crate) fn wait(
        &self,
        addr: u64,
        is_expected: impl FnOnce() -> bool,
        timeout: Option<Duration>,
        hook: Option<Interruptible<'_>>,
    ) -> Woken {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let waiter = Arc::new(Waiter::default());
        {
            let mut lines = lock(&self.lines);
            if !is_expected() {
                return Woken::Mismatch;
            }
            lines.entry(addr).or_default().push_back(waiter.clone());
        }
        let how = match hook {
            Some(hook) => {
                let waiter = waiter.clone();
                let wake = waiter.clone();
                let wake: Wake = std::sync::Arc::new(move || {
                    wake.wake(Woken::Interrupted);
                });
                hook.wait(wake, || waiter.sleep(deadline))
            }
            None => waiter.sleep(deadline),
        };
        if how != Woken::Notified {
            // Whoever notified has taken it out of the line.
            let mut lines = lock(&self.lines);
            if let Some(line) = lines.get_mut(&addr) {
                line.retain(|other| !Arc::ptr_eq(other, &waiter));
                if line.is_empty() {
                    lines.remove(&addr);
                }
            }
        }
        how
    }

    /// Wakes who waits at an address, those who came first first, `count` at most; how many it woke.
    pub(crate) fn notify(&self, addr: u64, count: u32) -> u32 {
        let mut lines = lock(&self.lines);
        let Some(line) = lines.get_mut(&addr) else {
            return 0;
        };
        let mut woken = 0;
        while woken < count {
            let Some(waiter) = line.pop_front() else {
                break;
            };
            woken += u32::from(waiter.wake(Woken::Notified));
        }
        if line.is_empty() {
            lines.remove(&addr);
        }
        woken
    }

    /// How many wait at an address.
    pub(crate) fn waiting(&self, addr: u64) -> usize {
        lock(&self.lines).get(&addr).map_or(0, VecDeque::len)
    }
}

/// How another thread ends a wait of a guest, in the runtime, in a host function or for a future: each store has one,
/// and who wants to end the guest keeps it.
#[derive(Default)]
pub(crate) struct WaitHook {
    /// The run that waits, and what wakes it.
    waiting: Mutex<Option<(u64, Wake)>>,
    /// The task that waits with a guest that is suspended.
    task: Task,
}

/// Wakes one that waits.
pub(crate) type Wake = std::sync::Arc<dyn Fn() + Send + Sync>;

/// What a wait needs to know of its guest.
#[derive(Clone, Copy)]
pub(crate) struct Interruptible<'a> {
    pub(crate) hook: &'a WaitHook,
    pub(crate) words: Words<'a>,
}

impl WaitHook {
    /// Ends the wait of a run, if it waits.
    pub(crate) fn interrupt(&self, run: u64) {
        self.interrupt_if(|of_run| of_run == run);
    }

    /// Ends the wait that is, if it is of the right run. That is asked when no other wait can begin.
    pub(crate) fn interrupt_if(&self, is_right: impl FnOnce(u64) -> bool) {
        if let Some((of_run, wake)) = &*lock(&self.waiting)
            && is_right(*of_run)
        {
            wake();
        }
        self.task.wake();
    }

    /// The task that waits with a guest that is suspended.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }
}

impl fmt::Debug for WaitHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitHook").finish_non_exhaustive()
    }
}

impl Interruptible<'_> {
    /// Waits where the hook reaches it. Whether the end of the run is wanted is looked at after the wait can be
    /// found: whoever wants it says so first, so it either finds the wait or is seen.
    pub(crate) fn wait<R>(&self, wake: Wake, wait: impl FnOnce() -> R) -> R {
        /// Takes the wait back also if it unwinds.
        struct Done<'a>(&'a WaitHook, Option<(u64, Wake)>);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                *lock(&self.0.waiting) = self.1.take();
            }
        }
        let outer = lock(&self.hook.waiting).replace((self.words.run(), wake.clone()));
        let _done = Done(self.hook, outer);
        if self.words.is_to_end() {
            wake();
        }
        wait()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
