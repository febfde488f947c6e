//! Tests of waiting and notifying with threads of the system.

use super::*;
use crate::vm::limits::LimitsCell;
use std::thread;

/// Until so many wait.
fn until(lot: &ParkingLot, addr: u64, count: usize) {
    while lot.waiting(addr) != count {
        thread::yield_now();
    }
}

#[test]
fn notifications_are_counted_exactly_and_reach_their_address_only() {
    let lot = ParkingLot::default();
    thread::scope(|scope| {
        let waiters: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| lot.wait(8, || true, None, None)))
            .collect();
        until(&lot, 8, 5);
        assert_eq!(lot.notify(16, 9), 0);
        assert_eq!(lot.notify(8, 0), 0);
        assert_eq!(lot.notify(8, 2), 2);
        assert_eq!(lot.waiting(8), 3);
        assert_eq!(lot.notify(8, u32::MAX), 3);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Woken::Notified);
        }
    });
    assert!(lock(&lot.lines).is_empty());
}

#[test]
fn a_wait_ends_at_once_or_by_its_time_out_and_is_not_counted_then() {
    let lot = ParkingLot::default();
    let zero = Some(Duration::ZERO);
    assert_eq!(lot.wait(0, || false, None, None), Woken::Mismatch);
    assert_eq!(lot.wait(0, || true, zero, None), Woken::TimedOut);
    let short = Some(Duration::from_millis(1));
    assert_eq!(lot.wait(0, || true, short, None), Woken::TimedOut);
    assert_eq!(lot.notify(0, 1), 0);
    assert!(lock(&lot.lines).is_empty());
}

#[test]
fn a_kill_ends_waits_before_and_after_they_begin_and_no_others() {
    let (lot, hook, limits) = (
        ParkingLot::default(),
        WaitHook::default(),
        LimitsCell::new(),
    );
    let words = limits.words();
    let guest = Interruptible { hook: &hook, words };
    let kill = |run| {
        words.kill(run, || (), |_| ()).unwrap();
        hook.interrupt(run);
    };
    for until_it_waits in [false, true] {
        for _ in 0..200 {
            words.begin(1);
            let run = words.run();
            thread::scope(|scope| {
                let waiting = scope.spawn(|| lot.wait(0, || true, None, Some(guest)));
                if until_it_waits {
                    until(&lot, 0, 1);
                }
                kill(run);
                assert_eq!(waiting.join().unwrap(), Woken::Interrupted);
            });
            assert_eq!(lot.notify(0, 1), 0);
            assert!(words.end());
            words.begin(1);
            // A switch of an earlier run does nothing to this one.
            hook.interrupt(run);
            assert!(words.kill(run, || (), |_| ()).is_err());
            let zero = Some(Duration::ZERO);
            assert_eq!(lot.wait(0, || true, zero, Some(guest)), Woken::TimedOut);
            assert!(!words.end());
        }
    }
}
