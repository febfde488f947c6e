//! Start functions that wait: for host functions that return futures, and for limiters that take their time.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use selvedge::{
    AsyncLimiter, Awaiting, CallAsync, Flow, Growth, HostError, InstanceHandle, KillSuccess,
    Permission, RuntimeError, TerminationDetails, TrapCode, Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};
use tokio::sync::oneshot;

/// A module whose start function does something, and whose global tells how far it came.
fn starts(does: &str) -> String {
    format!(
        r#"(module
            (import "h" "wait" (func $wait (result i32)))
            (import "h" "yield" (func $yield))
            (memory 1 5)
            (global $n (export "n") (mut i32) (i32.const 0))
            (func $start (global.set $n (i32.const 1)) {does})
            (start $start)
            (func (export "get") (result i32) (global.get $n))
            (func (export "wait") (result i32) (call $wait))
            (func (export "size") (result i32) (memory.size)))"#
    )
}

const WAITS: &str = "(global.set $n (i32.add (call $wait) (call $wait)))";

/// A question of a guest.
type Question = oneshot::Sender<i32>;

/// A sandbox whose guests ask, and their questions.
fn sandbox() -> (Sandbox, Receiver<Question>) {
    let mut sandbox = Sandbox::new();
    let (ask, asked) = channel();
    let wait = move |_: &Vmctx<'_>| {
        let (tell, told) = oneshot::channel();
        ask.send(tell).expect("the test listens");
        Awaiting::new(async move { told.await.map_err(|_| HostError::new("nobody tells")) })
    };
    let linker = &mut sandbox.linker;
    linker.func("h", "wait", wait).expect("a new name");
    let suspends = |_: &Vmctx<'_>| Flow::from(Yield::returning(()).with_val("why?"));
    linker.func("h", "yield", suspends).expect("a new name");
    (sandbox, asked)
}

fn instance(does: &str) -> (InstanceHandle, Receiver<Question>) {
    let (sandbox, asked) = sandbox();
    (sandbox.instance(&starts(does)), asked)
}

type Start<'a> = Pin<Box<CallAsync<'a, ()>>>;

/// In one slice: its end would be another reason to be woken.
fn start(instance: &mut InstanceHandle) -> Start<'_> {
    Box::pin(instance.run_start_async().without_slices())
}

fn poll(start: &mut Start<'_>) -> Poll<Result<(), RuntimeError>> {
    start.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn is_done(polled: Poll<Result<(), RuntimeError>>) {
    assert!(matches!(polled, Poll::Ready(Ok(()))), "{polled:?}");
}

#[track_caller]
fn failed(polled: Poll<Result<(), RuntimeError>>) -> RuntimeError {
    match polled {
        Poll::Ready(Err(error)) => error,
        other => panic!("it was to fail: {other:?}"),
    }
}

#[test]
fn a_start_function_waits_for_futures_and_runs_once() {
    let (mut instance, asked) = instance(WAITS);
    for _ in 0..3 {
        let mut starting = start(&mut instance);
        for answer in [20, 3] {
            assert!(poll(&mut starting).is_pending());
            assert!(poll(&mut starting).is_pending());
            let question = asked.try_recv().expect("it asks");
            question.send(answer).expect("it waits");
        }
        is_done(poll(&mut starting));
        // The future is over, too.
        assert!(matches!(
            failed(poll(&mut starting)),
            RuntimeError::InvalidArgument(_)
        ));
        drop(starting);
        assert!(instance.is_ready());
        assert_eq!(returned_i32(instance.run("get", &[])), 23);
        assert!(matches!(
            failed(poll(&mut start(&mut instance))),
            RuntimeError::StartAlreadyRun
        ));
        assert!(matches!(
            instance.run_start(),
            Err(RuntimeError::StartAlreadyRun)
        ));
        instance.reset().expect("it can be reset");
        assert!(instance.is_not_started());
    }
    // A future that is not polled has begun nothing.
    drop(start(&mut instance));
    assert!(instance.is_not_started());
}

#[test]
fn where_nothing_waits_it_is_as_run_start() {
    let (mut counts, _) = instance("(global.set $n (i32.const 9))");
    is_done(poll(&mut start(&mut counts)));
    assert_eq!(returned_i32(counts.run("get", &[])), 9);
    let mut none = Sandbox::new().instance("(module (memory 1))");
    for _ in 0..2 {
        is_done(poll(&mut start(&mut none)));
        assert!(none.is_ready());
    }
    let (mut traps, _) = instance("unreachable");
    let error = failed(poll(&mut start(&mut traps)));
    assert_eq!(fault::<()>(Err(error)).code, TrapCode::Unreachable);
    assert!(traps.is_faulted());
    assert!(matches!(
        failed(poll(&mut start(&mut traps))),
        RuntimeError::StartAlreadyRun
    ));
}

#[test]
fn a_start_function_may_fail_behind_its_wait() {
    let (mut instance, asked) = instance("(drop (call $wait)) unreachable");
    let mut starting = start(&mut instance);
    assert!(poll(&mut starting).is_pending());
    let question = asked.try_recv().expect("it asks");
    question.send(0).expect("it waits");
    let error = failed(poll(&mut starting));
    assert_eq!(fault::<()>(Err(error)).code, TrapCode::Unreachable);
    drop(starting);
    assert!(instance.is_faulted());
    instance.reset().expect("it can be reset");
    let mut starting = start(&mut instance);
    assert!(poll(&mut starting).is_pending());
    drop(asked.try_recv().expect("it asks"));
    let error = failed(poll(&mut starting));
    assert!(matches!(error, RuntimeError::HostFunction(_)), "{error}");
}

/// A limiter whose questions are a test's.
struct Asks(Sender<oneshot::Sender<bool>>);

impl AsyncLimiter for Asks {
    fn growing(&mut self, _: &Growth) -> Permission {
        let (tell, told) = oneshot::channel();
        self.0.send(tell).expect("the test listens");
        Box::pin(async move { told.await.unwrap_or(false) })
    }
}

#[test]
fn a_start_function_waits_for_the_limiter() {
    let (sandbox, _asked) = sandbox();
    let program = sandbox.program(&starts("(global.set $n (memory.grow (i32.const 2)))"));
    let (ask, asked) = channel();
    let builder = || {
        let builder = sandbox.region.instance_builder(&program);
        builder.with_async_limiter(Asks(ask.clone()))
    };
    // By itself it can't wait, nor in a plain run.
    let error = builder().run_start_by_itself().build().unwrap_err();
    assert!(matches!(error, RuntimeError::AsyncRequired(_)), "{error}");
    let mut instance = builder().build().expect("a free slot");
    let error = instance.run_start().unwrap_err();
    assert!(matches!(error, RuntimeError::AsyncRequired(_)), "{error}");
    assert!(asked.try_recv().is_err());
    for (allowed, old, size) in [(true, 1, 3), (false, -1, 1)] {
        instance.reset().expect("it can be reset");
        let mut starting = start(&mut instance);
        assert!(poll(&mut starting).is_pending());
        let question = asked.try_recv().expect("it asks");
        question.send(allowed).expect("it waits");
        is_done(poll(&mut starting));
        drop(starting);
        assert_eq!(returned_i32(instance.run("get", &[])), old);
        assert_eq!(returned_i32(instance.run("size", &[])), size);
    }
}

#[test]
fn a_start_function_that_waits_is_killed_or_given_up() {
    let (mut instance, asked) = instance(WAITS);
    for kill in [true, false] {
        let switch = instance.kill_switch();
        let mut starting = start(&mut instance);
        assert!(poll(&mut starting).is_pending());
        let question = asked.try_recv().expect("it asks");
        if kill {
            assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
            let error = failed(poll(&mut starting));
            let remote = RuntimeError::RuntimeTerminated(TerminationDetails::Remote);
            assert_eq!(error.to_string(), remote.to_string());
        }
        drop(starting);
        assert!(question.is_closed(), "its future is dropped");
        assert!(instance.is_terminated());
        instance.reset().expect("it can be reset");
        assert!(instance.is_not_started());
    }
}

#[test]
fn start_functions_of_linked_modules_wait_one_after_the_other() {
    let (sandbox, asked) = sandbox();
    let mut instance = sandbox.instance(&starts(WAITS));
    let silent = sandbox.module("(module)");
    instance.link(&sandbox.linker, &silent).expect("it fits");
    // Linking runs their start functions plainly, so they must not wait then.
    let order: Arc<Mutex<Vec<i32>>> = Arc::default();
    let told = order.clone();
    let mut linker = sandbox.linker.clone();
    let tell = move |_: &Vmctx<'_>, n: i32| {
        let told = told.clone();
        Awaiting::new(async move {
            told.lock().expect("no panic").push(n);
            Ok::<_, HostError>(())
        })
    };
    let waits = Arc::new(Mutex::new(false));
    let asks = waits.clone();
    let may_wait = move |_: &Vmctx<'_>| i32::from(*asks.lock().expect("no panic"));
    linker
        .func("h", "tell", tell)
        .and_then(|linker| linker.func("h", "may", may_wait))
        .expect("new names");
    let late = sandbox.module(
        r#"(module (import "h" "tell" (func $tell (param i32))) (import "h" "may" (func $may (result i32)))
            (func $start (if (call $may) (then (call $tell (i32.const 5))))) (start $start))"#,
    );
    for _ in 0..2 {
        instance.link(&linker, &late).expect("it fits");
    }
    *waits.lock().expect("no panic") = true;
    instance.reset().expect("it can be reset");
    let mut starting = start(&mut instance);
    for answer in [1, 2] {
        assert!(poll(&mut starting).is_pending());
        assert_eq!(*order.lock().expect("no panic"), []);
        let question = asked.try_recv().expect("it asks");
        question.send(answer).expect("it waits");
    }
    is_done(poll(&mut starting));
    assert_eq!(*order.lock().expect("no panic"), [5, 5]);
    drop(starting);
    assert!(instance.is_ready());
    assert_eq!(returned_i32(instance.run("get", &[])), 3);
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartAlreadyRun)
    ));
}

#[test]
fn a_start_function_that_is_suspended_otherwise_can_be_resumed() {
    let (mut instance, asked) =
        instance("(call $yield) (global.set $n (i32.add (call $wait) (i32.const 1)))");
    let error = failed(poll(&mut start(&mut instance)));
    assert!(matches!(error, RuntimeError::StartYielded), "{error}");
    assert!(instance.is_yielded());
    // Asking again changes nothing.
    assert!(matches!(
        failed(poll(&mut start(&mut instance))),
        RuntimeError::StartAlreadyRun
    ));
    let yielded = instance
        .take_yielded()
        .expect("it has handed out something");
    assert_eq!(yielded.downcast_ref(), Some(&"why?"));
    let mut resumed = Box::pin(instance.resume_async(yielded).without_slices());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(resumed.as_mut().poll(&mut cx).is_pending());
    let question = asked.try_recv().expect("it asks");
    question.send(6).expect("it waits");
    assert!(resumed.as_mut().poll(&mut cx).is_ready());
    drop(resumed);
    assert_eq!(returned_i32(instance.run("get", &[])), 7);
}

#[test]
fn an_endless_start_function_leaves_the_thread_to_others() {
    let (mut instance, _asked) = instance("(loop $l (br $l))");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let task = tokio::task::spawn(async move {
            let slice = Duration::from_micros(200);
            drop(instance.run_start_async().with_slice(slice).await);
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!task.is_finished());
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    });
}
