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
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::primitive::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering};

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
        hook: Option<&WaitHook>,
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
            Some(hook) => hook.parked(&waiter, || waiter.sleep(deadline)),
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

/// How another thread ends the wait of a guest: each store has one, and who wants to end the guest keeps
/// it. A request stays until it is taken back, so that it is never too early.
#[derive(Debug, Default)]
pub(crate) struct WaitHook {
    requested: AtomicBool,
    parked: Mutex<Option<Arc<Waiter>>>,
}

impl WaitHook {
    /// Ends the wait of the guest, and every later one at once.
    #[cfg_attr(not(test), expect(dead_code, reason = "the kill switch will use it"))]
    pub(crate) fn interrupt(&self) {
        self.requested.store(true, Ordering::SeqCst);
        if let Some(waiter) = &*lock(&self.parked) {
            waiter.wake(Woken::Interrupted);
        }
    }

    /// Takes the request back.
    #[cfg_attr(not(test), expect(dead_code, reason = "the kill switch will use it"))]
    pub(crate) fn clear(&self) {
        self.requested.store(false, Ordering::SeqCst);
    }

    /// Sleeps where the hook reaches it. The request is looked at after the waiter can be found: whoever
    /// makes one either finds it, or is seen.
    fn parked(&self, waiter: &Arc<Waiter>, sleep: impl FnOnce() -> Woken) -> Woken {
        *lock(&self.parked) = Some(waiter.clone());
        if self.requested.load(Ordering::SeqCst) {
            waiter.wake(Woken::Interrupted);
        }
        let how = sleep();
        *lock(&self.parked) = None;
        how
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
