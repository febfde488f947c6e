//! Guests that are suspended when they have no fuel left, and go on with more.

use std::thread;
use std::time::Duration;

use selvedge::{
    Engine, FuelCosts, InstanceHandle, Limits, Linker, OptLevel, RunResult, RuntimeError, Settings,
    TrapCode, Val, Vmctx,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox;
use selvedge_tests::threads::WhenDone;

#[path = "../stop/guests.rs"]
#[allow(dead_code, reason = "the guest is what is wanted")]
pub(crate) mod guests;

use guests::{GUEST, KINDS};

pub(crate) fn instance(opt_level: OptLevel, wat: &str) -> InstanceHandle {
    let settings = Settings::default()
        .with_opt_level(opt_level)
        .with_fuel(FuelCosts::default());
    let engine = Engine::new(&settings).unwrap();
    let mut linker = Linker::new(&engine);
    linker
        .func("h", "twice", |_: &Vmctx<'_>, x: i64| x.wrapping_mul(2))
        .unwrap()
        .func("h", "halves", |_: &Vmctx<'_>, x: f64, y: f64| (x + y) / 2.0)
        .unwrap()
        .func("h", "again", |vmctx: &Vmctx<'_>| {
            vmctx.call_export("loop", &[]).map(drop)
        })
        .unwrap();
    let program = linker
        .program(&engine.compile(wat.as_bytes()).unwrap())
        .unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    region.new_instance(&program).unwrap()
}

/// Lets memory grow as far as the guest wants it.
pub(crate) fn warm_up(instance: &mut InstanceHandle) {
    for _ in 0..3 {
        instance.run("memory", &[Val::I64(1)]).unwrap();
    }
}

/// A result, and what it took.
fn outcome(instance: &InstanceHandle, result: Result<RunResult, RuntimeError>) -> (i64, u64) {
    let values = result.unwrap().unwrap_returned();
    let sum = values.values()[0].i64().unwrap();
    (sum, instance.get_instruction_count().unwrap())
}

#[test]
fn a_guest_that_is_refilled_ends_as_one_that_had_enough() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let mut instance = instance(opt_level, GUEST);
        warm_up(&mut instance);
        let mut random = Random::new(7);
        for kind in KINDS {
            let rounds = [Val::I64(500)];
            instance.set_fuel(u64::MAX).unwrap();
            instance.set_instruction_count(0).unwrap();
            let whole = instance.run(kind, &rounds);
            let expected = outcome(&instance, whole);
            for most in [1, 10, 200, 10_000] {
                instance.set_instruction_count(0).unwrap();
                let mut budget = || 1 + random.below(most) as u64;
                let mut suspended = 0;
                let mut result = instance.run_bounded(budget(), kind, &rounds);
                while let Ok(RunResult::OutOfFuel) = result {
                    assert!(instance.is_out_of_fuel() && instance.is_preempted());
                    assert_eq!(instance.fuel(), Some(0));
                    suspended += 1;
                    result = instance.resume_bounded(budget());
                }
                let found = outcome(&instance, result);
                assert_eq!(found, expected, "{kind}, {most} at a time");
                assert!(suspended > 0 || most > 200, "{kind}, {most} at a time");
            }
        }
    }
}

#[test]
fn counts_are_exact_whenever_guests_are_suspended() {
    let mut instance = instance(OptLevel::Speed, GUEST);
    warm_up(&mut instance);
    let switch = instance.preempt_switch().unwrap();
    let rounds = [Val::I64(20_000)];
    let expected = KINDS.map(|kind| {
        instance.set_instruction_count(0).unwrap();
        let whole = instance.run(kind, &rounds);
        outcome(&instance, whole)
    });
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                switch.preempt();
                thread::yield_now();
            }
        });
        let _done = WhenDone(&done);
        let mut suspended = 0;
        while suspended < 500 {
            for (kind, expected) in KINDS.into_iter().zip(expected) {
                instance.set_instruction_count(0).unwrap();
                let mut result = instance.run(kind, &rounds);
                while let Ok(RunResult::Preempted) = result {
                    suspended += 1;
                    result = instance.resume();
                }
                assert_eq!(outcome(&instance, result), expected, "{kind}");
            }
        }
    });
}

const NESTED: &str = r#"(module
    (import "h" "again" (func $again))
    (func (export "loop") (loop $l (br $l)))
    (func (export "outer") (call $again)))"#;

#[test]
fn without_more_fuel_a_guest_stays_where_it_is() {
    let mut instance = instance(OptLevel::Speed, NESTED);
    assert!(
        instance
            .run_bounded(100, "loop", &[])
            .unwrap()
            .is_out_of_fuel()
    );
    let consumed = instance.get_instruction_count();
    for _ in 0..3 {
        assert!(instance.resume().unwrap().is_out_of_fuel());
        assert_eq!(instance.get_instruction_count(), consumed);
    }
    assert!(instance.resume_with_val(1).is_err());
    assert_eq!(instance.backtrace().frames.len(), 1);
    assert_eq!(instance.add_fuel(50).unwrap(), 50);
    assert!(instance.resume().unwrap().is_out_of_fuel());
    assert!(instance.get_instruction_count() > consumed);
    instance.reset().unwrap();
    assert!(instance.is_ready() && !instance.is_out_of_fuel());

    instance.set_suspend_on_out_of_fuel(false).unwrap();
    instance.set_fuel(100).unwrap();
    let error = instance.run("loop", &[]).unwrap_err();
    assert!(
        matches!(error, RuntimeError::RuntimeFault(fault) if fault.code == TrapCode::OutOfFuel)
    );
}

#[test]
fn a_guest_that_a_host_function_waits_for_traps() {
    let mut instance = instance(OptLevel::Speed, NESTED);
    let error = instance.run_bounded(1_000, "outer", &[]).unwrap_err();
    assert!(
        matches!(error, RuntimeError::RuntimeFault(fault) if fault.code == TrapCode::OutOfFuel)
    );
}

#[test]
fn slices_of_fuel_and_of_time_go_together() {
    let mut instance = instance(OptLevel::Speed, GUEST);
    instance.set_suspend_on_out_of_fuel(true).unwrap();
    instance.set_fuel(1_000_000).unwrap();
    let slice = Duration::from_micros(100);
    let mut result = instance.run_for(slice, "for_ever", &[]).unwrap();
    while result.is_preempted() {
        result = instance.resume_for(slice).unwrap();
    }
    assert!(result.is_out_of_fuel());
}

#[test]
fn code_that_counts_nothing_can_not_be_bounded() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let program = Linker::new(&engine)
        .program(&engine.compile(b"(module (func (export \"f\")))").unwrap())
        .unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    let mut instance = region.new_instance(&program).unwrap();
    let refused = [
        instance.run_bounded(1, "f", &[]).map(drop),
        instance.set_suspend_on_out_of_fuel(true),
        instance.run_async("f", &[]).with_fuel_slices(1).map(drop),
    ];
    for result in refused {
        assert!(
            matches!(result, Err(RuntimeError::FuelNotCounted)),
            "{result:?}"
        );
    }
}

/// Counts its rounds in a shared memory.
const ROUNDS: &str = r#"(module
    (memory (export "heap") 1 1 shared)
    (func (export "f")
        (loop $l (drop (i64.atomic.rmw.add (i32.const 8) (i64.const 1))) (br $l))))"#;

#[test]
fn what_a_guest_has_consumed_is_known_also_if_it_is_ended_from_outside() {
    let rounds = 1_000;
    for by_epochs in [false, true] {
        let mut instance = instance(OptLevel::Speed, ROUNDS);
        let heap = instance.shared_memory("heap").unwrap();
        let engine = instance.region().engine().clone();
        let switch = instance.kill_switch();
        instance.set_epoch_deadline(1).unwrap();
        let ended = thread::scope(|scope| {
            let guest = scope.spawn(|| instance.run("f", &[]));
            while heap.load_u64(8).unwrap() < rounds {
                thread::yield_now();
            }
            if by_epochs {
                engine.increment_epoch();
            } else {
                switch.terminate().unwrap();
            }
            guest.join().unwrap()
        });
        assert!(ended.is_err());
        // Up to the last branch back: the round that it was in may not be counted.
        let rounds = heap.load_u64(8).unwrap();
        let units = instance.get_instruction_count().unwrap();
        let a_round = 4;
        assert!(
            units >= (rounds - 1) * a_round && units <= (rounds + 1) * a_round,
            "{units} units in {rounds} rounds"
        );
    }
}
