//! Guests that stop at epochs: when, how, and what they are then. The tests begin the epochs themselves.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use selvedge::{
    Awaiting, Ending, Engine, EpochDecision, FaultDetails, HostError, Instance, Limits, RunResult,
    RuntimeError, Scheduler, Settings, Task, TrapCode, Val, Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};
use selvedge_tests::threads::WhenDone;

const GUEST: &str = r#"(module
    (import "h" "tick" (func $tick))
    (import "h" "again" (func $again))
    (import "h" "extend" (func $extend (param i64)))
    (memory 64)
    (global $count (export "count") (mut i32) (i32.const 0))
    (func (export "for_ever") (call $tick) (loop $l (br $l)))
    (func $inner (export "inner") (loop $l (br $l)))
    (func (export "outer") (result i32) (call $again) (i32.const 3))
    (func (export "count_up") (param $n i32) (result i32)
        (loop $l
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (call $tick)
            (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (global.get $count))
    (func (export "bulk")
        (call $tick)
        (loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x400000))
            (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3fffff))
            (br $l)))
    (func (export "extends") (param i64) (result i32)
        (call $tick) (call $extend (local.get 0)) (call $tick) (i32.const 9)))"#;

/// What the guest's host functions do.
fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::with(4, &Limits::default());
    let engine = sandbox.engine.clone();
    let tick = move |_: &Vmctx<'_>| {
        engine.increment_epoch();
    };
    let again = |vmctx: &Vmctx<'_>| {
        vmctx
            .get_embed_ctx::<mpsc::Sender<()>>()
            .unwrap()
            .send(())
            .unwrap();
        // Whatever becomes of the inner guest, the outer one is to go on.
        let inner = vmctx.call_export("inner", &[]);
        assert!(
            matches!(&inner, Err(RuntimeError::RuntimeFault(fault)) if fault.code == TrapCode::EpochDeadline),
            "{inner:?}"
        );
    };
    let extend = |vmctx: &Vmctx<'_>, ticks: i64| -> Result<(), HostError> {
        assert!(vmctx.epoch_deadline().is_some());
        vmctx.set_epoch_deadline(ticks.cast_unsigned())?;
        Ok(())
    };
    sandbox
        .linker
        .func("h", "tick", tick)
        .unwrap()
        .func("h", "again", again)
        .unwrap()
        .func("h", "extend", extend)
        .unwrap();
    sandbox
}

fn count(instance: &Instance) -> i32 {
    // The first global, of those that count.
    instance.globals().get(0).unwrap().i32().unwrap()
}

/// The fault of a guest that has come to its deadline.
fn expired(result: Result<RunResult, RuntimeError>) -> FaultDetails {
    let fault = fault(result);
    assert_eq!(fault.code, TrapCode::EpochDeadline);
    fault
}

/// Does something while another thread begins epochs.
fn beside_epochs<R>(next_epoch: impl Fn() -> u64 + Sync, run: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                next_epoch();
                thread::yield_now();
            }
        });
        let _done = WhenDone(&done);
        run()
    })
}

#[test]
fn without_a_deadline_epochs_are_nobodys_business() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(instance.epoch_deadline(), None);
    assert_eq!(sandbox.engine.epoch(), 0);
    let args = [Val::I32(1000)];
    assert_eq!(returned_i32(instance.run("count_up", &args)), 1000);
    assert_eq!(sandbox.engine.epoch(), 1000);
    assert_eq!(sandbox.engine.increment_epoch(), 1001);
    // Another engine has its own.
    assert_eq!(Engine::new(&Settings::default()).unwrap().epoch(), 0);

    instance.set_epoch_deadline(5).unwrap();
    assert_eq!(instance.epoch_deadline(), Some(1006));
    instance.set_epoch_deadline(u64::MAX).unwrap();
    assert_eq!(instance.epoch_deadline(), None, "that is never");
    instance.set_epoch_deadline(3).unwrap();
    instance.clear_epoch_deadline();
    assert_eq!(instance.epoch_deadline(), None);
    assert_eq!(returned_i32(instance.run("count_up", &args)), 2000);
}

#[test]
fn at_its_deadline_a_guest_traps_wherever_it_is() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    for name in ["for_ever", "inner", "bulk"] {
        instance.set_epoch_deadline(2).unwrap();
        let run = || instance.run(name, &[]);
        let fault = expired(beside_epochs(|| sandbox.engine.increment_epoch(), run));
        let frames = &fault.backtrace.frames;
        assert!(frames.len() <= 1, "{frames:?}");
        assert!(instance.is_faulted());
        // The deadline stays reached.
        assert!(
            expired(instance.run("count_up", &[Val::I32(1)]))
                .to_string()
                .contains("epoch deadline reached")
        );
        assert_eq!(count(&instance), 0);
    }
    instance.clear_epoch_deadline();
    assert_eq!(returned_i32(instance.run("count_up", &[Val::I32(1)])), 1);
}

#[test]
fn the_epoch_of_the_deadline_is_the_one_that_stops() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    for ticks in 0..5 {
        instance.reset().unwrap();
        instance.set_epoch_deadline(ticks).unwrap();
        // It begins an epoch each time round.
        let fault = expired(instance.run("count_up", &[Val::I32(100)]));
        assert_eq!(count(&instance), ticks as i32);
        let names: Vec<_> = fault
            .backtrace
            .frames
            .iter()
            .map(|frame| frame.func_name.as_deref())
            .collect();
        let expected: &[_] = if ticks == 0 { &[] } else { &[Some("count_up")] };
        assert_eq!(names, expected);
    }
}

#[test]
fn a_suspended_guest_goes_on_with_a_new_deadline_and_not_without() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    instance.epoch_deadline_suspend();
    instance.set_epoch_deadline(1).unwrap();
    let mut result = instance.run("count_up", &[Val::I32(20)]).unwrap();
    let mut stopped = 0;
    while let RunResult::EpochReached = result {
        stopped += 1;
        let at = stopped * 2 - 1;
        assert!(instance.is_epoch_reached() && instance.is_preempted());
        for _ in 0..2 {
            assert!(instance.resume().unwrap().is_epoch_reached());
            assert_eq!(count(&instance), at);
            assert_eq!(instance.backtrace().frames.len(), 1);
        }
        assert!(matches!(
            instance.heap_mut().map(drop),
            Err(RuntimeError::InstancePreempted)
        ));
        assert!(instance.resume_with_val(1).is_err());
        instance.set_epoch_deadline(2).unwrap();
        assert!(instance.is_epoch_reached(), "that is why it is suspended");
        result = instance.resume().unwrap();
    }
    assert_eq!(stopped, 10);
    assert!(!instance.is_epoch_reached() && instance.is_ready());
    assert_eq!(returned_i32(Ok(result)), 20);

    // Reached before it is entered.
    instance.set_epoch_deadline(0).unwrap();
    assert!(
        instance
            .run("count_up", &[Val::I32(1)])
            .unwrap()
            .is_epoch_reached()
    );
    assert_eq!(count(&instance), 20);
    // And then to trap after all.
    instance.epoch_deadline_trap();
    expired(instance.resume());
    assert!(instance.is_faulted());
    assert_eq!(count(&instance), 20);
}

#[test]
fn a_typed_call_says_that_its_guest_is_suspended() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    let count_up = instance.typed_func::<i32, i32>("count_up").unwrap();
    instance.epoch_deadline_suspend();
    instance.set_epoch_deadline(1).unwrap();
    let result = count_up.call(&mut instance, 3);
    assert!(matches!(result, Err(RuntimeError::InstancePreempted)));
    assert!(instance.is_epoch_reached());
    instance.clear_epoch_deadline();
    assert_eq!(returned_i32(instance.resume()), 3);
}

#[test]
fn a_closure_lets_the_guest_go_on_suspends_it_or_ends_it() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    let asked = Arc::new(AtomicU64::new(0));
    let times = asked.clone();
    instance.epoch_deadline_callback(move |instance| {
        assert!(instance.is_epoch_reached());
        assert_eq!(
            instance.backtrace().frames[0].func_name.as_deref(),
            Some("count_up")
        );
        assert_eq!(instance.heap().unwrap().len(), 64 << 16);
        times.fetch_add(1, SeqCst);
        match count(instance) {
            0..5 => EpochDecision::Continue(2),
            5..10 => EpochDecision::Suspend(1),
            _ => EpochDecision::Trap,
        }
    });
    instance.set_epoch_deadline(1).unwrap();
    // At 1, 3, 5.
    assert!(
        instance
            .run("count_up", &[Val::I32(100)])
            .unwrap()
            .is_preempted()
    );
    assert_eq!(count(&instance), 5);
    assert!(instance.is_preempted() && !instance.is_epoch_reached());
    for at in 6..10 {
        assert!(instance.resume().unwrap().is_preempted());
        assert_eq!(count(&instance), at);
    }
    let fault = expired(instance.resume());
    assert_eq!(fault.backtrace.frames.len(), 1);
    assert_eq!(count(&instance), 10);
    assert_eq!(asked.load(SeqCst), 3 + 4 + 1);
    assert!(instance.is_faulted());
    assert!(
        instance.kill_switch().terminate().is_ok(),
        "the next run is a new one"
    );
    assert!(matches!(
        instance.run("count_up", &[Val::I32(1)]),
        Err(RuntimeError::RuntimeTerminated(_))
    ));
}

#[test]
fn a_closure_is_asked_in_typed_calls_and_may_panic() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    let count_up = instance.typed_func::<i32, i32>("count_up").unwrap();
    instance.epoch_deadline_callback(|_| EpochDecision::Continue(3));
    instance.set_epoch_deadline(1).unwrap();
    assert_eq!(count_up.call(&mut instance, 10).unwrap(), 10);

    let asked = Arc::new(AtomicBool::new(false));
    instance.epoch_deadline_callback(move |_| {
        assert!(asked.swap(true, SeqCst), "for the first time");
        EpochDecision::Continue(u64::MAX)
    });
    instance.set_epoch_deadline(1).unwrap();
    let call = std::panic::AssertUnwindSafe(|| count_up.call(&mut instance, 5));
    assert!(std::panic::catch_unwind(call).is_err());
    assert!(instance.is_epoch_reached());
    assert_eq!(returned_i32(instance.resume()), 15);
}

#[test]
fn host_functions_set_the_deadline_of_their_guest() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    for (ticks, goes_on) in [
        (i64::MAX, true),
        (-1, true),
        (2, true),
        (1, false),
        (0, false),
    ] {
        instance.set_epoch_deadline(2).unwrap();
        let result = instance.run("extends", &[Val::I64(ticks)]);
        if goes_on {
            assert_eq!(returned_i32(result), 9);
        } else {
            expired(result);
        }
    }
}

#[test]
fn an_inner_guest_traps_and_is_not_suspended() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(GUEST);
    let (begins, begun) = mpsc::channel::<()>();
    instance.insert_embed_ctx(begins);
    instance.set_epoch_deadline(1).unwrap();
    let fault = thread::scope(|scope| {
        let outer = scope.spawn(|| instance.run("outer", &[]));
        begun.recv().unwrap();
        sandbox.engine.increment_epoch();
        expired(outer.join().unwrap())
    });
    // The host function goes on when its guest has trapped; what called it does not.
    assert_eq!(
        fault.backtrace.frames[0].func_name.as_deref(),
        Some("outer")
    );
}

/// A guest that calls itself through the host, and counts.
const NESTED: &str = r#"(module
    (import "h" "tick" (func $tick))
    (import "h" "call" (func $call))
    (global $count (export "count") (mut i32) (i32.const 0))
    (func $once (global.set $count (i32.add (global.get $count) (i32.const 1))))
    (func (export "inner") (call $tick) (call $once) (call $tick) (call $once))
    (func (export "outer") (call $once) (call $call) (call $once)))"#;

#[test]
fn a_guest_with_an_inner_one_is_suspended_when_the_host_function_returns() {
    let mut sandbox = sandbox();
    sandbox
        .linker
        .func("h", "call", |vmctx: &Vmctx<'_>| {
            vmctx.call_export("inner", &[]).map(drop)
        })
        .unwrap();
    let mut instance = sandbox.instance(NESTED);
    instance.epoch_deadline_suspend();
    instance.set_epoch_deadline(1).unwrap();
    assert!(instance.run("outer", &[]).unwrap().is_epoch_reached());
    assert_eq!(count(&instance), 3, "the inner one is done");
    assert_eq!(
        instance.backtrace().frames[0].func_name.as_deref(),
        Some("outer")
    );
    instance.clear_epoch_deadline();
    assert!(returned(instance.resume()).is_empty());
    assert_eq!(count(&instance), 4);
}

#[test]
fn each_instance_has_its_own_deadline() {
    let mut sandbox = sandbox();
    let inner = sandbox.instance(GUEST);
    let inner = std::sync::Mutex::new(inner);
    sandbox
        .linker
        .func("h", "call", move |_: &Vmctx<'_>| {
            let mut inner = inner.lock().unwrap();
            // The deadline of the outer guest is not the inner one's.
            assert_eq!(returned_i32(inner.run("count_up", &[Val::I32(5)])), 5);
            inner.reset().unwrap();
            inner.set_epoch_deadline(2).unwrap();
            expired(inner.run("count_up", &[Val::I32(5)]));
            inner.clear_epoch_deadline();
            inner.reset().unwrap();
        })
        .unwrap();
    let mut outer = sandbox.instance(NESTED);
    outer.set_epoch_deadline(1).unwrap();
    expired(outer.run("outer", &[]));
    assert_eq!(count(&outer), 1, "it got no further than the host function");
    outer.set_epoch_deadline(100).unwrap();
    assert!(returned(outer.run("outer", &[])).is_empty());
}

#[test]
fn linked_modules_share_the_deadline() {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(r#"(module (func (export "f")))"#);
    let member = instance
        .link(&sandbox.linker, &sandbox.module(GUEST))
        .unwrap();
    instance.set_epoch_deadline(3).unwrap();
    expired(instance.run_member(member, "count_up", &[Val::I32(100)]));
    expired(instance.run("f", &[]));
    instance.set_epoch_deadline(1).unwrap();
    assert!(returned(instance.run("f", &[])).is_empty());

    // The start function of one that is linked.
    let start = r#"(module (import "h" "tick" (func $tick)) (func $s (call $tick) (loop $l (br $l))) (start $s))"#;
    let error = instance
        .link(&sandbox.linker, &sandbox.module(start))
        .unwrap_err();
    assert!(
        matches!(error, RuntimeError::RuntimeFault(fault) if fault.code == TrapCode::EpochDeadline)
    );
}

#[test]
fn start_functions_have_the_deadline_too() {
    let sandbox = sandbox();
    let wat = r#"(module (import "h" "tick" (func $tick)) (global $n (export "count") (mut i32) (i32.const 0))
        (func $s (call $tick) (call $tick) (global.set $n (i32.const 1))) (start $s))"#;
    let program = sandbox.program(wat);
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    instance.set_epoch_deadline(2).unwrap();
    let error = instance.run_start().unwrap_err();
    assert!(
        matches!(error, RuntimeError::RuntimeFault(fault) if fault.code == TrapCode::EpochDeadline)
    );

    instance.reset().unwrap();
    instance.epoch_deadline_suspend();
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartYielded)
    ));
    assert!(instance.is_epoch_reached(), "a reset leaves the deadline");
    instance.set_epoch_deadline(10).unwrap();
    assert!(instance.resume().unwrap().is_returned());
    assert_eq!(count(&instance), 1);

    instance.reset().unwrap();
    instance.set_epoch_deadline(1).unwrap();
    instance.epoch_deadline_callback(|_| EpochDecision::Continue(1));
    instance.run_start().unwrap();
    assert_eq!(count(&instance), 1);
}

#[test]
fn a_start_function_that_runs_by_itself_has_the_deadline_of_its_instance() {
    let sandbox = sandbox();
    let wat = r#"(module (import "h" "tick" (func $tick))
        (func $s (call $tick) (call $tick)) (start $s))"#;
    let program = sandbox.program(wat);
    for (ticks, ends) in [(1, false), (3, true)] {
        let builder = sandbox.region.instance_builder(&program);
        let builder = builder.with_epoch_deadline(ticks);
        let result = builder.run_start_by_itself().build();
        match result {
            Ok(instance) => {
                assert!(ends && instance.is_ready());
                assert_eq!(instance.epoch_deadline(), Some(sandbox.engine.epoch() + 1));
            }
            Err(RuntimeError::RuntimeFault(fault)) => {
                assert!(!ends && fault.code == TrapCode::EpochDeadline);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits where nobody notifies.
const WAITS: &str = r#"(module
    (import "h" "begins" (func $begins))
    (memory 1 1 shared)
    (func (export "wait")
        (call $begins)
        (loop $l (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))) (br $l))))"#;

#[test]
fn a_guest_that_waits_is_woken_to_trap() {
    for in_host_function in [true, false] {
        let mut sandbox = Sandbox::with(1, &Limits::default());
        let (begins, begun) = mpsc::channel();
        let engine = sandbox.engine.clone();
        sandbox
            .linker
            .func("h", "begins", move |vmctx: &Vmctx<'_>| {
                if in_host_function {
                    engine.increment_epoch();
                    assert!(vmctx.interrupted());
                }
                begins.send(()).unwrap();
            })
            .unwrap();
        let mut instance = sandbox.instance(WAITS);
        for _ in 0..20 {
            instance.set_epoch_deadline(1).unwrap();
            let engine = &sandbox.engine;
            let begun = &begun;
            thread::scope(|scope| {
                let guest = scope.spawn(|| instance.run("wait", &[]));
                begun.recv().unwrap();
                if !in_host_function {
                    // At any time on its way into the wait, or when it sleeps.
                    engine.increment_epoch();
                }
                expired(guest.join().unwrap());
            });
        }
    }
}

#[test]
fn instances_that_are_dropped_leave_no_deadline_to_the_next_in_their_slots() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(
        r#"(module (func (export "f") (param $n i32) (result i32)
            (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (i32.const 5)))"#,
    );
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    sandbox.engine.increment_epoch();
                    thread::yield_now();
                }
            });
        }
        let _done = WhenDone(&done);
        let mut stopped = 0;
        while stopped < 300 {
            let mut instance = sandbox.region.new_instance(&program).unwrap();
            assert_eq!(instance.epoch_deadline(), None);
            assert_eq!(returned_i32(instance.run("f", &[Val::I32(100)])), 5);
            instance.epoch_deadline_suspend();
            instance.set_epoch_deadline(stopped % 3).unwrap();
            match instance.run("f", &[Val::I32(20_000)]).unwrap() {
                RunResult::EpochReached => stopped += 1,
                result => assert_eq!(returned_i32(Ok(result)), 5),
            }
            if stopped % 2 == 0 {
                instance.clear_epoch_deadline();
                instance.reset().unwrap();
                assert_eq!(returned_i32(instance.run("f", &[Val::I32(100)])), 5);
            }
        }
    });
}

#[test]
fn code_has_nothing_for_epochs() {
    // There is no setting for them, and what an engine compiles does not depend on who was stopped in it.
    let sandbox = sandbox();
    let before = sandbox.engine.precompile(GUEST.as_bytes()).unwrap();
    let mut instance = sandbox.instance(GUEST);
    instance.epoch_deadline_suspend();
    instance.set_epoch_deadline(1).unwrap();
    assert!(instance.run("for_ever", &[]).unwrap().is_epoch_reached());
    assert!(instance.preempt_switch().is_ok());
    let after = sandbox.engine.precompile(GUEST.as_bytes()).unwrap();
    let never = Engine::new(&Settings::default()).unwrap();
    assert!(before == after && before == never.precompile(GUEST.as_bytes()).unwrap());
}

#[test]
fn fuel_is_exact_however_often_epochs_stop_its_guest() {
    use crate::bounded::guests::{GUEST, KINDS};
    let mut instance = crate::bounded::instance(selvedge::OptLevel::Speed, GUEST);
    let engine = instance.region().engine().clone();
    crate::bounded::warm_up(&mut instance);
    let args = [Val::I64(20_000)];
    let outcome = |instance: &Instance, result| {
        let sum = returned(result)[0].i64().unwrap();
        (sum, instance.get_instruction_count().unwrap())
    };
    let expected = KINDS.map(|kind| {
        instance.set_instruction_count(0).unwrap();
        let whole = instance.run(kind, &args);
        outcome(&instance, whole)
    });
    instance.epoch_deadline_suspend();
    beside_epochs(
        || engine.increment_epoch(),
        || {
            let mut stopped = 0;
            while stopped < 500 {
                for (kind, expected) in KINDS.into_iter().zip(expected) {
                    instance.set_instruction_count(0).unwrap();
                    instance.set_epoch_deadline(1).unwrap();
                    let mut result = instance.run(kind, &args);
                    while let Ok(RunResult::EpochReached) = result {
                        stopped += 1;
                        instance.set_epoch_deadline(1).unwrap();
                        result = instance.resume();
                    }
                    assert_eq!(outcome(&instance, result), expected, "{kind}");
                }
            }
        },
    );
}

#[test]
fn slices_of_time_of_fuel_and_of_epochs_go_together() {
    let mut instance = crate::bounded::instance(selvedge::OptLevel::Speed, GUEST_WITH_FUEL);
    let engine = instance.region().engine().clone();
    instance.set_suspend_on_out_of_fuel(true).unwrap();
    instance.epoch_deadline_suspend();
    instance.set_fuel(3_000_000).unwrap();
    instance.set_epoch_deadline(1).unwrap();
    engine.increment_epoch();
    let slice = std::time::Duration::from_micros(100);
    assert!(
        instance
            .run_for(slice, "loop", &[])
            .unwrap()
            .is_epoch_reached()
    );
    assert_eq!(instance.fuel(), Some(3_000_000), "it has not begun");
    instance.set_epoch_deadline(1).unwrap();
    let mut result = instance.resume_for(slice).unwrap();
    while result.is_preempted() {
        assert!(!instance.is_epoch_reached());
        result = instance.resume_for(slice).unwrap();
    }
    assert!(result.is_out_of_fuel() && !instance.is_epoch_reached());
    engine.increment_epoch();
    assert!(
        instance.resume().unwrap().is_out_of_fuel(),
        "it has no fuel either"
    );
    instance.set_fuel(100).unwrap();
    assert!(instance.resume().unwrap().is_epoch_reached());
    assert_eq!(instance.fuel(), Some(100));
    instance.clear_epoch_deadline();
    assert!(instance.resume().unwrap().is_out_of_fuel());
}

const GUEST_WITH_FUEL: &str = r#"(module (func (export "loop") (loop $l (br $l))))"#;

/// Polls futures in turn until all are done; how often each was polled.
fn in_turn<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<(T, u32)> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut polls = vec![0; futures.len()];
    while done.iter().any(Option::is_none) {
        for (i, future) in futures.iter_mut().enumerate() {
            if done[i].is_none() {
                polls[i] += 1;
                if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
                    done[i] = Some(result);
                }
            }
        }
    }
    done.into_iter().flatten().zip(polls).collect()
}

#[test]
fn runs_that_are_futures_leave_their_thread_after_so_many_epochs() {
    let sandbox = sandbox();
    let [mut a, mut b, mut c] = [(); 3].map(|()| sandbox.instance(GUEST));
    c.epoch_deadline_callback(|_| EpochDecision::Suspend(10));
    c.set_epoch_deadline(10).unwrap();
    let args = [Val::I32(100)];
    let runs: Vec<Pin<Box<dyn Future<Output = _>>>> = vec![
        Box::pin(
            a.run_async("count_up", &args)
                .without_slices()
                .with_epoch_slices(10)
                .unwrap(),
        ),
        Box::pin(b.run_async("count_up", &args).without_slices()),
        Box::pin(c.run_async("count_up", &args).without_slices()),
    ];
    let polls: Vec<u32> = in_turn(runs)
        .into_iter()
        .map(|(result, polls)| {
            assert_eq!(returned_i32(result), 100);
            polls
        })
        .collect();
    // b runs to its end while the deadlines of the others are reached; each of their epochs is one time round.
    assert!(
        polls[0] >= 10 && polls[1] == 1 && polls[2] >= 10,
        "{polls:?}"
    );

    // Without slices of epochs it is the embedder's to set another deadline.
    a.set_epoch_deadline(1).unwrap();
    let run: Pin<Box<dyn Future<Output = _>>> = Box::pin(a.run_async("count_up", &args));
    let (result, polls) = in_turn(vec![run]).pop().unwrap();
    assert!(result.unwrap().is_epoch_reached() && polls == 1);
    a.clear_epoch_deadline();
    assert_eq!(returned_i32(a.resume()), 200);
    let refused = a
        .run_async("count_up", &args)
        .with_epoch_slices(0)
        .map(drop);
    assert!(matches!(refused, Err(RuntimeError::InvalidArgument(_))));
}

/// Says whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_guest_that_waits_for_a_future_traps_at_its_deadline() {
    let mut sandbox = sandbox();
    sandbox
        .linker
        .func("h", "never", |_: &Vmctx<'_>| {
            Awaiting::<()>::new(std::future::pending::<Result<(), HostError>>())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "never" (func $never)) (func $f (export "f") (call $never)))"#,
    );
    for _ in 0..2 {
        instance.set_epoch_deadline(2).unwrap();
        let mut run = Box::pin(instance.run_async("f", &[]));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        sandbox.engine.increment_epoch();
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(!woken.0.load(SeqCst));
        sandbox.engine.increment_epoch();
        assert!(woken.0.load(SeqCst), "nobody polls it otherwise");
        let Poll::Ready(result) = run.as_mut().poll(&mut cx) else {
            panic!("it has come to its deadline");
        };
        let fault = expired(result);
        assert_eq!(fault.backtrace.frames[0].func_name.as_deref(), Some("f"));
        drop(run);
        assert!(instance.is_faulted());
    }
    // It is reached before it begins to wait.
    let waker = Waker::noop();
    let mut run = Box::pin(instance.run_async("f", &[]));
    let result = run.as_mut().poll(&mut Context::from_waker(waker));
    assert!(result.map(expired).is_ready());
}

#[test]
fn schedulers_give_guests_back_at_their_deadlines() {
    let sandbox = sandbox();
    let scheduler = Scheduler::new(1, std::time::Duration::from_millis(10)).unwrap();
    let mut instance = sandbox.instance(GUEST);
    instance.epoch_deadline_suspend();
    instance.set_epoch_deadline(1).unwrap();
    let args = [Val::I32(100)];
    let outcome = scheduler
        .spawn(Task::run(instance, "count_up", &args))
        .wait();
    assert!(
        matches!(outcome.ending, Ending::EpochReached),
        "{:?}",
        outcome.ending
    );
    let mut instance = outcome.instance.unwrap();
    instance.epoch_deadline_callback(|_| EpochDecision::Suspend(1));
    instance.set_epoch_deadline(1).unwrap();
    let outcome = scheduler.spawn(Task::resume(instance)).wait();
    let Ending::Returned(values) = outcome.ending else {
        panic!("{:?}", outcome.ending);
    };
    assert_eq!(values.values()[0].i32(), Some(100));
    assert!(outcome.slices >= 99);
}
