//! Guests whose runs are futures.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge::{
    Awaiting, HostError, InstanceHandle, Limits, RunAsync, RunResult, RuntimeError, TrapCode, Val,
    Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

#[path = "../../crates/selvedge/examples/tokio_guests.rs"]
mod example;

#[test]
fn the_example_for_tokio_does_what_it_says() {
    let sums = example::run(5).expect("it works");
    assert_eq!(sums, [10, 30, 60, 100, 150]);
}

const GUEST: &str = r#"(module
    (import "h" "later" (func $later (param i64) (result i64)))
    (import "h" "never" (func $never))
    (import "h" "fail" (func $fail (result f64)))
    (import "h" "yield" (func $yield))
    (memory (export "memory") 1)
    (func (export "sum") (param $n i64) (result i64)
        (local $sum i64)
        (loop $l
            (local.set $sum (i64.add (local.get $sum) (call $later (local.get $n))))
            (br_if $l (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1))) (i64.const 0))))
        (local.get $sum))
    (func (export "never") (call $never))
    (func (export "fail") (result f64) (call $fail))
    (func (export "yield") (result i32) (call $yield) (i32.const 7))
    (func (export "trap") (drop (call $later (i64.const 1))) unreachable)
    (func (export "for_ever") (loop $l (br $l))))"#;

fn sandbox(slots: u32) -> Sandbox {
    let mut sandbox = Sandbox::with(slots, &Limits::default());
    sandbox
        .linker
        .func("h", "later", |_: &Vmctx<'_>, x: i64| {
            Awaiting::new(async move {
                tokio::task::yield_now().await;
                Ok::<_, HostError>(x * 2)
            })
        })
        .expect("a new name")
        .func("h", "never", |_: &Vmctx<'_>| {
            Awaiting::<()>::new(pending::<Result<(), HostError>>())
        })
        .expect("a new name")
        .func("h", "fail", |_: &Vmctx<'_>| {
            Awaiting::<f64>::new(async { Err(HostError::terminate("no")) })
        })
        .expect("a new name")
        .func("h", "yield", |_: &Vmctx<'_>| {
            selvedge::Flow::from(Yield::returning(()).with_val(5_u8))
        })
        .expect("a new name");
    sandbox
}

fn instance() -> InstanceHandle {
    sandbox(1).instance(GUEST)
}

/// One thread, on which all tasks take turns.
fn one_thread() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

fn value(result: Result<RunResult, RuntimeError>) -> Val {
    let values = result
        .expect("the guest returns")
        .returned()
        .expect("it returned");
    values.values()[0].clone()
}

#[test]
fn a_host_functions_future_is_awaited_and_gives_its_results() {
    let mut instance = instance();
    for _ in 0..3 {
        let sum = one_thread().block_on(instance.run_async("sum", &[Val::I64(100)]));
        assert_eq!(value(sum).i64(), Some(10_100));
    }
    assert!(instance.is_ready());
}

#[test]
fn runs_are_futures_that_can_be_sent() {
    fn sent<T: Send>(_: &T) {}
    let mut instance = instance();
    sent(&instance.run_async("sum", &[]));
}

#[test]
fn guests_that_never_call_leave_the_thread_to_the_others() {
    let runtime = one_thread();
    let sandbox = sandbox(20);
    let program = sandbox.program(GUEST);
    let new = || sandbox.region.new_instance(&program).expect("a free slot");
    runtime.block_on(async {
        let loops: Vec<_> = (0..10)
            .map(|_| {
                let mut guest = new();
                tokio::task::spawn(async move {
                    let slice = Duration::from_micros(200);
                    drop(guest.run_async("for_ever", &[]).with_slice(slice).await);
                })
            })
            .collect();
        let sums: Vec<_> = (0..10)
            .map(|n| {
                let mut guest = new();
                tokio::task::spawn(async move {
                    value(guest.run_async("sum", &[Val::I64(10 + n)]).await).i64()
                })
            })
            .collect();
        for (n, sum) in (10..).zip(sums) {
            assert_eq!(sum.await.expect("no panic"), Some(n * (n + 1)));
        }
        for guest in loops {
            assert!(!guest.is_finished());
            guest.abort();
            assert!(guest.await.is_err_and(|error| error.is_cancelled()));
        }
    });
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn guests_move_between_the_threads_of_an_executor() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(3)
        .build()
        .expect("a runtime");
    let sandbox = sandbox(30);
    let program = sandbox.program(GUEST);
    let tasks: Vec<_> = (0..30)
        .map(|n| {
            let mut guest = sandbox.region.new_instance(&program).expect("a free slot");
            runtime.spawn(async move {
                let run = guest.run_async("sum", &[Val::I64(500 + n)]);
                value(run.with_slice(Duration::from_micros(100)).await).i64()
            })
        })
        .collect();
    for (n, task) in (500..).zip(tasks) {
        assert_eq!(runtime.block_on(task).expect("no panic"), Some(n * (n + 1)));
    }
}

#[test]
fn a_run_that_is_dropped_ends_its_guest_and_the_future_it_waits_for() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let mut sandbox = Sandbox::new();
    let tell = dropped.clone();
    sandbox
        .linker
        .func("h", "never", move |_: &Vmctx<'_>| {
            let told = Told(tell.clone());
            Awaiting::<()>::new(async move {
                let _told = told;
                pending::<Result<(), HostError>>().await
            })
        })
        .expect("a new name");
    let mut instance = sandbox.instance(
        r#"(module (import "h" "never" (func $never)) (func (export "never") (call $never))
            (func (export "f") (result i32) (i32.const 3)))"#,
    );
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut run = pin!(instance.run_async("never", &[]));
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(!dropped.load(SeqCst));
    }
    assert!(dropped.load(SeqCst));
    assert!(instance.is_terminated());
    instance.reset().expect("it can be reset");
    // One that has not begun changes nothing.
    drop(instance.run_async("never", &[]));
    assert!(instance.is_ready());
    assert_eq!(value(instance.run("f", &[])).i32(), Some(3));
}

#[test]
fn errors_traps_and_panics_come_out_of_the_future() {
    let runtime = one_thread();
    let mut instance = instance();
    let error = runtime
        .block_on(instance.run_async("fail", &[]))
        .expect_err("it fails");
    assert!(
        matches!(error, RuntimeError::RuntimeTerminated(_)),
        "{error}"
    );
    instance.reset().expect("it can be reset");
    let trap = fault(runtime.block_on(instance.run_async("trap", &[])));
    assert_eq!(trap.code, TrapCode::Unreachable);
    let absent = runtime.block_on(instance.run_async("absent", &[]));
    assert!(matches!(absent, Err(RuntimeError::UnknownExport { .. })));
    let switch = instance.kill_switch();
    let killer = std::thread::spawn(move || switch.terminate());
    assert!(
        runtime
            .block_on(instance.run_async("for_ever", &[]))
            .is_err()
    );
    assert!(killer.join().expect("no panic").is_ok());
}

#[test]
fn a_future_that_is_done_says_so_when_it_is_polled_again() {
    let mut instance = instance();
    let mut cx = Context::from_waker(Waker::noop());
    let mut run: std::pin::Pin<Box<RunAsync<'_>>> = Box::pin(instance.run_async("sum", &[]));
    assert!(matches!(
        run.as_mut().poll(&mut cx),
        Poll::Ready(Err(RuntimeError::TypeMismatch { .. }))
    ));
    assert!(matches!(
        run.as_mut().poll(&mut cx),
        Poll::Ready(Err(RuntimeError::InvalidArgument(_)))
    ));
}

#[test]
fn other_suspensions_come_out_and_plain_runs_can_be_awaited_later() {
    let runtime = one_thread();
    let mut instance = instance();
    let result = runtime
        .block_on(instance.run_async("yield", &[]))
        .expect("it is suspended");
    let yielded = result.yielded().expect("it is suspended");
    assert_eq!(yielded.downcast_ref::<u8>(), Some(&5));
    let result = runtime.block_on(instance.resume_async(yielded));
    assert_eq!(value(result).i32(), Some(7));

    let result = instance
        .run("sum", &[Val::I64(3)])
        .expect("it is suspended");
    let yielded = result.yielded().expect("it is suspended");
    let sum = runtime.block_on(instance.resume_async(yielded));
    assert_eq!(value(sum).i64(), Some(12));
}

#[test]
fn a_guest_that_waits_takes_no_thread_and_is_woken() {
    let (go, calls) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
    let mut sandbox = Sandbox::new();
    let (waits_for, counts) = (go.clone(), calls.clone());
    sandbox
        .linker
        .func("h", "wait", move |_: &Vmctx<'_>| {
            let (go, calls) = (waits_for.clone(), counts.clone());
            Awaiting::<i32>::new(async move {
                calls.fetch_add(1, SeqCst);
                go.notified().await;
                Ok::<_, HostError>(4)
            })
        })
        .expect("a new name");
    let mut guest = sandbox.instance(
        r#"(module (import "h" "wait" (func $wait (result i32))) (func (export "f") (result i32) (call $wait)))"#,
    );
    one_thread().block_on(async {
        let task = tokio::task::spawn(async move { value(guest.run_async("f", &[]).await).i32() });
        while calls.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished());
        go.notify_one();
        assert_eq!(task.await.expect("no panic"), Some(4));
    });
}

#[test]
fn typed_calls_are_futures_too() {
    fn sent<T: Send>(_: &T) {}
    let runtime = one_thread();
    let mut instance = instance();
    let sum = instance.typed_func::<i64, i64>("sum").expect("it is there");
    for n in [1, 100] {
        let call = sum.call_async(&mut instance, n);
        sent(&call);
        let total = runtime.block_on(call.with_slice(Duration::from_micros(100)));
        assert_eq!(total.expect("it returns"), n * (n + 1));
        assert!(instance.is_ready());
    }
    let trap = instance.typed_func::<(), ()>("trap").expect("it is there");
    let trapped = runtime.block_on(trap.call_async(&mut instance, ()).without_slices());
    assert_eq!(fault(trapped).code, TrapCode::Unreachable);
    let fail = instance.typed_func::<(), f64>("fail").expect("it is there");
    let failed = runtime.block_on(fail.call_async(&mut instance, ()));
    assert!(matches!(failed, Err(RuntimeError::RuntimeTerminated(_))));
    instance.reset().expect("it can be reset");
    // What a host function hands out is where it is after a call that is no future.
    let yields = instance
        .typed_func::<(), i32>("yield")
        .expect("it is there");
    let suspended = runtime.block_on(yields.call_async(&mut instance, ()));
    assert!(matches!(suspended, Err(RuntimeError::InstanceYielded)));
    let yielded = instance
        .take_yielded()
        .expect("it has handed out something");
    assert_eq!(yielded.downcast_ref::<u8>(), Some(&5));
    let result = runtime.block_on(instance.resume_async(yielded));
    assert_eq!(value(result).i32(), Some(7));
    // One that is dropped ends its guest, if that has begun.
    let never = instance.typed_func::<(), ()>("never").expect("it is there");
    drop(never.call_async(&mut instance, ()));
    assert!(instance.is_ready());
    {
        let mut call = pin!(never.call_async(&mut instance, ()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    assert!(instance.is_terminated());
}

#[test]
fn a_typed_call_takes_and_gives_all_kinds_of_numbers() {
    let mut instance = Sandbox::new().instance(
        r#"(module (func (export "turn") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
            (local.get 3) (local.get 2) (local.get 1) (local.get 0)))"#,
    );
    let turn = instance
        .typed_func::<(i32, i64, f32, f64), (f64, f32, i64, i32)>("turn")
        .expect("it is there");
    let turned = one_thread().block_on(turn.call_async(&mut instance, (-1, i64::MIN, 0.5, -2.25)));
    assert_eq!(turned.expect("it returns"), (-2.25, 0.5, i64::MIN, -1));
    // Of another instance it is nobody's.
    let mut other = Sandbox::new().instance("(module)");
    let foreign = one_thread().block_on(turn.call_async(&mut other, (0, 0, 0.0, 0.0)));
    assert!(matches!(foreign, Err(RuntimeError::ForeignReference)));
}

#[test]
fn a_guest_that_waits_for_what_is_always_ready_leaves_the_thread_to_the_others() {
    let mut sandbox = Sandbox::with(2, &Limits::default());
    let ready = |_: &Vmctx<'_>| Awaiting::new(async { Ok::<_, HostError>(()) });
    sandbox
        .linker
        .func("h", "ready", ready)
        .expect("a new name");
    let wat = r#"(module (import "h" "ready" (func $ready))
        (func (export "for_ever") (loop $l (call $ready) (br $l)))
        (func (export "once") (result i32) (call $ready) (i32.const 4)))"#;
    let (mut endless, mut short) = (sandbox.instance(wat), sandbox.instance(wat));
    one_thread().block_on(async move {
        let endless = tokio::task::spawn(async move {
            let slice = Duration::from_micros(200);
            drop(endless.run_async("for_ever", &[]).with_slice(slice).await);
        });
        // The endless one is polled first, and gives the thread back.
        tokio::task::yield_now().await;
        let once = tokio::task::spawn(async move { value(short.run_async("once", &[]).await) });
        assert_eq!(once.await.expect("no panic").i32(), Some(4));
        endless.abort();
        assert!(endless.await.is_err_and(|error| error.is_cancelled()));
    });
}
