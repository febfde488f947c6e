//! Tests of waiting and notifying with threads of the system.

use super::*;
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
fn a_request_ends_waits_before_and_after_they_begin() {
    let (lot, hook) = (ParkingLot::default(), WaitHook::default());
    for _ in 0..200 {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| lot.wait(0, || true, None, Some(&hook)));
            hook.interrupt();
            assert_eq!(waiting.join().unwrap(), Woken::Interrupted);
        });
        assert_eq!(lot.notify(0, 1), 0);
        hook.clear();
    }
    thread::scope(|scope| {
        let waiting = scope.spawn(|| lot.wait(0, || true, None, Some(&hook)));
        until(&lot, 0, 1);
        hook.interrupt();
        assert_eq!(waiting.join().unwrap(), Woken::Interrupted);
    });
    hook.clear();
    let zero = Some(Duration::ZERO);
    assert_eq!(lot.wait(0, || true, zero, Some(&hook)), Woken::TimedOut);
}
