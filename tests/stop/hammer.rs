//! Guests of every kind, suspended at random times: each result is what it is without.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use selvedge::{InstanceHandle, RunResult, RuntimeError, Val};
use selvedge_tests::random::Random;
use selvedge_tests::threads::WhenDone;

use crate::guests::{self, KINDS};

/// How often guests are suspended in total; `SELVEDGE_HAMMER` says more.
fn suspensions() -> u64 {
    std::env::var("SELVEDGE_HAMMER").map_or(2_000, |count| count.parse().expect("it is in order"))
}

fn i64_of(result: Result<RunResult, RuntimeError>) -> i64 {
    match result.expect("it is in order").unwrap_returned().values() {
        [Val::I64(value)] => *value,
        other => panic!("{other:?}"),
    }
}

/// Runs to the end, resumed as often as it takes; how often that was.
fn to_the_end(
    instance: &mut InstanceHandle,
    kind: &str,
    rounds: i64,
    mut between: impl FnMut(&mut InstanceHandle),
) -> (i64, u64) {
    let mut suspended = 0;
    let mut result = instance.run(kind, &[Val::I64(rounds)]);
    while let Ok(RunResult::Preempted) = result {
        suspended += 1;
        between(instance);
        result = instance.resume();
    }
    (i64_of(result), suspended)
}

#[test]
fn x_22_guests_that_are_suspended_at_random_times_compute_the_same() {
    const ROUNDS: i64 = 100_000;
    let wanted = suspensions();
    let mut instance = guests::instance();
    let expected = KINDS.map(|kind| i64_of(instance.run(kind, &[Val::I64(ROUNDS)])));
    let switch = instance.preempt_switch().expect("it is in order");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random::new(1);
            while !done.load(Relaxed) {
                switch.preempt();
                // Some progress between two signals.
                for _ in 0..random.below(2_000) {
                    std::hint::spin_loop();
                }
            }
        });
        let _done = WhenDone(&done);
        let mut suspended = 0;
        let mut of_kind = [0; KINDS.len()];
        while suspended < wanted || of_kind.contains(&0) {
            for (i, kind) in KINDS.into_iter().enumerate() {
                let (sum, count) = to_the_end(&mut instance, kind, ROUNDS, |_| ());
                assert_eq!(sum, expected[i], "{kind} after {count} suspensions");
                of_kind[i] += count;
                suspended += count;
            }
        }
    });
}

#[test]
fn slices_of_time_suspend_guests_and_change_nothing() {
    const ROUNDS: i64 = 1_000_000;
    let mut instance = guests::instance();
    for kind in KINDS {
        let expected = i64_of(instance.run(kind, &[Val::I64(ROUNDS)]));
        let slice = Duration::from_micros(100);
        let mut result = instance.run_for(slice, kind, &[Val::I64(ROUNDS)]);
        while let Ok(RunResult::Preempted) = result {
            assert!(instance.is_preempted());
            result = instance.resume_for(slice);
        }
        assert_eq!(i64_of(result), expected, "{kind}");
    }
}
