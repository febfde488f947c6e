//! A thread that counts epochs by the clock.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{Engine, WeakEngine};
use crate::error::Error;

/// Increments the epoch of an engine regularly, on a thread of its own, until it is dropped.
///
/// Epochs begin at whole periods after the start, a little late and never early: delays do not add up. While the thread
/// is not let run for longer than a period, the epochs of that time are left out, and not made up for: so an epoch lasts
/// a period at least, less what the last one was late. It does not keep the engine alive, and ends with it. A forked
/// child has no ticker of its parent's.
pub struct EpochTicker {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    wanted: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits; whether the end is wanted.
    fn wait_until(&self, time: Instant) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        while !*wanted {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(wanted, left);
            wanted = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *wanted
    }
}

/// The longest wait: clocks can't count what is much longer.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365);

impl EpochTicker {
    /// Starts the thread. Periods of more than a year are a year.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the period is zero; [`Error::System`] if there is no thread to be had.
    pub fn start(engine: &Engine, period: Duration) -> Result<Self, Error> {
        if period.is_zero() {
            return Err(Error::InvalidArgument(
                "the period of an epoch ticker is zero; give it one that the system can wait for",
            ));
        }
        let period = period.min(LONGEST);
        let stop = Arc::<Stop>::default();
        let thread = thread::Builder::new().name("selvedge-epochs".to_owned());
        let thread = thread.spawn({
            let (engine, stop) = (engine.downgrade(), stop.clone());
            move || tick(&engine, &stop, period)
        });
        Ok(Self {
            stop,
            thread: Some(thread.map_err(Error::system("start a thread"))?),
        })
    }
}

/// When the next epoch begins, if the last one was to at `last`: at a whole period after it that is still to come.
fn following(last: Instant, now: Instant, period: Duration) -> Instant {
    let late = now.saturating_duration_since(last).as_nanos();
    let periods = late / period.as_nanos() + 1;
    u32::try_from(periods)
        .ok()
        .and_then(|periods| last.checked_add(period.checked_mul(periods)?))
        .unwrap_or_else(|| now + period)
}

fn tick(engine: &WeakEngine, stop: &Stop, period: Duration) {
    let mut next = Instant::now() + period;
    while !stop.wait_until(next) {
        let Some(engine) = engine.upgrade() else {
            return;
        };
        // What wakes a guest that waits is the embedder's, and may panic; the other guests have their deadlines still.
        let _ = catch_unwind(AssertUnwindSafe(|| engine.increment_epoch()));
        next = following(next, Instant::now(), period);
    }
}

impl Drop for EpochTicker {
    /// Ends the thread, and waits until it has ended.
    fn drop(&mut self) {
        *self
            .stop
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take()
            // What wakes a guest may be what drops it.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for EpochTicker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochTicker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_begin_at_whole_periods() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let period = Duration::from_millis(10);
        assert_eq!(following(at(0), at(0), period), at(10));
        assert_eq!(following(at(0), at(3), period), at(10));
        assert_eq!(following(at(10), at(19), period), at(20));
        assert_eq!(following(at(10), at(20), period), at(30), "left out");
        assert_eq!(following(at(10), at(95), period), at(100));
        let nanosecond = Duration::from_nanos(1);
        assert!(following(at(0), at(100_000), nanosecond) > at(100_000));
    }

    #[test]
    fn a_period_of_zero_is_refused() {
        let engine = Engine::without_handler(crate::Tunables::default());
        let refused = EpochTicker::start(&engine, Duration::ZERO);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn a_ticker_counts_until_it_is_dropped_and_keeps_no_engine_alive() {
        let engine = Engine::without_handler(crate::Tunables::default());
        let ticker = EpochTicker::start(&engine, Duration::from_micros(50)).unwrap();
        while engine.epoch() < 3 {
            thread::yield_now();
        }
        drop(ticker);
        let last = engine.epoch();
        let ticker = EpochTicker::start(&engine, LONGEST * 2).unwrap();
        assert_eq!(engine.epoch(), last);
        // It is waiting for a year to pass.
        drop(ticker);
        let ticker = EpochTicker::start(&engine, Duration::from_micros(50)).unwrap();
        let name = engine.downgrade();
        drop(engine);
        while name.upgrade().is_some() {
            thread::yield_now();
        }
        drop(ticker);
    }
}
