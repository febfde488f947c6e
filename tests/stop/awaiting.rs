//! Killing guests that wait for a future: whoever polls the run is woken, and the future is dropped.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use selvedge::{
    Awaiting, HostError, InstanceHandle, KillError, KillSuccess, KillSwitch, Limits, RunAsync,
    RunResult, RuntimeError, TerminationDetails, Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};
use tokio::runtime::Builder;

const GUEST: &str = r#"(module
    (import "h" "wait" (func $wait (result i32)))
    (func (export "wait") (result i32) (i32.add (call $wait) (i32.const 1)))
    (func (export "again") (loop $l (drop (call $wait)) (br $l)))
    (func (export "f") (result i32) (i32.const 3)))"#;

type Ended = Result<RunResult, RuntimeError>;

/// What the host's futures do when they are polled.
type Act = dyn Fn(&mut Context<'_>) -> Poll<i32> + Send + Sync;

/// Futures that are polled and dropped.
#[derive(Default)]
struct Counts {
    polled: AtomicU32,
    dropped: AtomicU32,
}

struct CountsItsEnd(Arc<Counts>);

impl Drop for CountsItsEnd {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

fn sandbox(slots: u32, act: Arc<Act>) -> (Sandbox, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let mut sandbox = Sandbox::with(slots, &Limits::default());
    let of_sandbox = counts.clone();
    let wait = move |_: &Vmctx<'_>| {
        let (act, counts) = (act.clone(), of_sandbox.clone());
        let told = CountsItsEnd(counts.clone());
        Awaiting::new(async move {
            let _told = told;
            let polled = poll_fn(move |cx| {
                counts.polled.fetch_add(1, SeqCst);
                act(cx)
            });
            Ok::<_, HostError>(polled.await)
        })
    };
    sandbox
        .linker
        .func("h", "wait", wait)
        .expect("it is in order");
    (sandbox, counts)
}

/// A guest that waits for what never comes.
fn waiting() -> (InstanceHandle, Arc<Counts>) {
    let (sandbox, counts) = sandbox(1, Arc::new(|_| Poll::Pending));
    (sandbox.instance(GUEST), counts)
}

/// A run that waits, in one slice: the end of a slice is another reason to wake the task.
fn wait(instance: &mut InstanceHandle) -> RunAsync<'_> {
    instance.run_async("wait", &[]).without_slices()
}

/// A waker that counts.
#[derive(Default)]
struct Wakes {
    count: AtomicU32,
    woken: Condvar,
    pending: Mutex<bool>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, SeqCst);
        *self.pending.lock().expect("no panic") = true;
        self.woken.notify_one();
    }
}

impl Wakes {
    fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::new(Self::default());
        (wakes.clone(), wakes.into())
    }

    fn count(&self) -> u32 {
        self.count.load(SeqCst)
    }

    /// The smallest executor: sleeps until it is woken, and polls then.
    fn block_on<F: Future>(future: F) -> F::Output {
        let (wakes, waker) = Self::new();
        let mut cx = Context::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            let mut pending = wakes.pending.lock().expect("no panic");
            while !std::mem::take(&mut *pending) {
                pending = wakes.woken.wait(pending).expect("no panic");
            }
        }
    }
}

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>, waker: &Waker) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(waker))
}

#[track_caller]
fn is_remote(ended: Ended) {
    assert!(
        matches!(
            ended,
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
        ),
        "{ended:?}"
    );
}

#[track_caller]
fn is_ended(polled: Poll<Ended>) {
    match polled {
        Poll::Ready(ended) => is_remote(ended),
        Poll::Pending => panic!("the guest was to end"),
    }
}

/// That the instance was ended, and is as good as new after a reset.
fn is_mended(mut instance: InstanceHandle) {
    assert!(instance.is_terminated());
    instance.reset().expect("it can be reset");
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
}

#[test]
fn a_kill_before_the_first_poll_ends_the_guest_before_it_waits() {
    let (mut instance, counts) = waiting();
    let switch = instance.kill_switch();
    let mut run = Box::pin(wait(&mut instance));
    assert_eq!(switch.terminate(), Ok(KillSuccess::Cancelled));
    is_ended(poll(&mut run, Waker::noop()));
    drop(run);
    assert_eq!(counts.polled.load(SeqCst), 0);
    is_mended(instance);
}

#[test]
fn a_kill_while_it_waits_wakes_the_task_and_drops_the_future() {
    let (mut instance, counts) = waiting();
    let switch = instance.kill_switch();
    let (wakes, waker) = Wakes::new();
    let mut run = Box::pin(wait(&mut instance));
    assert!(poll(&mut run, &waker).is_pending());
    assert_eq!(wakes.count(), 0);
    let of_thread = switch.clone();
    let said = thread::spawn(move || of_thread.terminate());
    assert_eq!(said.join().expect("no panic"), Ok(KillSuccess::Pending));
    assert_eq!(wakes.count(), 1);
    assert_eq!(counts.dropped.load(SeqCst), 0);
    is_ended(poll(&mut run, &waker));
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert_eq!(counts.polled.load(SeqCst), 1, "nobody waits for it");
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    drop(run);
    assert_eq!(wakes.count(), 1);
    is_mended(instance);
}

#[test]
fn a_kill_while_the_future_is_polled_is_seen_by_that_poll() {
    let switch: Arc<Mutex<Option<KillSwitch>>> = Arc::default();
    let of_poll = switch.clone();
    let kills = move |_: &mut Context<'_>| {
        let switch = of_poll.lock().expect("no panic").take();
        let switch = switch.expect("it is polled once");
        let said = thread::spawn(move || switch.terminate());
        assert_eq!(said.join().expect("no panic"), Ok(KillSuccess::Pending));
        Poll::Pending
    };
    let (sandbox, counts) = sandbox(1, Arc::new(kills));
    let mut instance = sandbox.instance(GUEST);
    *switch.lock().expect("no panic") = Some(instance.kill_switch());
    let mut run = Box::pin(wait(&mut instance));
    is_ended(poll(&mut run, Waker::noop()));
    drop(run);
    assert_eq!(counts.dropped.load(SeqCst), 1);
    is_mended(instance);
}

#[test]
fn a_kill_when_the_future_is_ready_ends_the_guest_when_it_would_go_on() {
    let ready = Arc::new(AtomicU32::new(0));
    let of_poll = ready.clone();
    let act = move |_: &mut Context<'_>| match of_poll.load(SeqCst) {
        0 => Poll::Pending,
        _ => Poll::Ready(1),
    };
    let (sandbox, _) = sandbox(1, Arc::new(act));
    let mut instance = sandbox.instance(GUEST);
    let switch = instance.kill_switch();
    let mut run = Box::pin(wait(&mut instance));
    assert!(poll(&mut run, Waker::noop()).is_pending());
    ready.store(1, SeqCst);
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    is_ended(poll(&mut run, Waker::noop()));
    drop(run);
    is_mended(instance);
}

#[test]
fn the_waker_of_the_last_poll_is_woken_and_no_other() {
    let (mut instance, _) = waiting();
    let switch = instance.kill_switch();
    let (first, first_waker) = Wakes::new();
    let (last, last_waker) = Wakes::new();
    let mut run = Box::pin(wait(&mut instance));
    assert!(poll(&mut run, &first_waker).is_pending());
    assert!(poll(&mut run, &last_waker).is_pending());
    assert!(poll(&mut run, &first_waker).is_pending());
    assert!(poll(&mut run, &last_waker).is_pending());
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    assert_eq!((first.count(), last.count()), (0, 1));
    is_ended(poll(&mut run, &last_waker));
}

#[test]
fn a_task_that_both_the_future_and_a_kill_wake_ends_once() {
    let waker_of_future: Arc<Mutex<Option<Waker>>> = Arc::default();
    let keep = waker_of_future.clone();
    let act = move |cx: &mut Context<'_>| {
        *keep.lock().expect("no panic") = Some(cx.waker().clone());
        Poll::Pending
    };
    let (sandbox, counts) = sandbox(1, Arc::new(act));
    let mut instance = sandbox.instance(GUEST);
    let switch = instance.kill_switch();
    let (wakes, waker) = Wakes::new();
    let mut run = Box::pin(wait(&mut instance));
    assert!(poll(&mut run, &waker).is_pending());
    let of_future = waker_of_future.lock().expect("no panic").take();
    of_future.expect("it was polled").wake();
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    assert_eq!(wakes.count(), 2);
    is_ended(poll(&mut run, &waker));
    assert_eq!(counts.dropped.load(SeqCst), 1);
}

#[test]
fn nobody_is_woken_or_kept_after_the_run() {
    let (mut instance, _) = waiting();
    let (wakes, waker) = Wakes::new();
    let mut run = Box::pin(wait(&mut instance));
    assert!(poll(&mut run, &waker).is_pending());
    drop((run, waker));
    assert_eq!(Arc::strong_count(&wakes), 1, "a waker is kept");
    instance.reset().expect("it can be reset");
    let switch = instance.kill_switch();
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(wakes.count(), 0);
}

#[test]
fn a_guest_that_waits_again_and_again_is_ended_at_any_of_them() {
    // The task is woken by the future itself, at once; the kill comes whenever it comes.
    let act = |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        Poll::Pending
    };
    let (sandbox, counts) = sandbox(1, Arc::new(act));
    let mut instance = sandbox.instance(GUEST);
    for round in 1..=200_u32 {
        let (switch, counts) = (instance.kill_switch(), counts.clone());
        let killer = thread::spawn(move || {
            let until = counts.polled.load(SeqCst) + round % 7;
            while counts.polled.load(SeqCst) < until {
                thread::yield_now();
            }
            switch.terminate()
        });
        is_remote(Wakes::block_on(instance.run_async("wait", &[])));
        let said = killer.join().expect("no panic");
        assert!(said.is_ok(), "{said:?}");
        instance.reset().expect("it can be reset");
    }
    assert!(counts.dropped.load(SeqCst) <= 200);
}

#[test]
fn a_task_that_sleeps_is_woken_whenever_the_kill_comes() {
    let (mut instance, counts) = waiting();
    for round in 0..200_u32 {
        let switch = instance.kill_switch();
        let killer = thread::spawn(move || {
            for _ in 0..round * 97 {
                std::hint::spin_loop();
            }
            switch.terminate()
        });
        // Without a wake this would sleep for ever.
        is_remote(Wakes::block_on(instance.run_async("again", &[])));
        let said = killer.join().expect("no panic");
        assert!(said.is_ok(), "{said:?}");
        instance.reset().expect("it can be reset");
    }
    // A future whose guest is ended first is not polled.
    assert!(counts.polled.load(SeqCst) <= counts.dropped.load(SeqCst));
}

#[test]
fn a_plain_run_that_waits_and_goes_on_as_a_future_is_woken_too() {
    let (mut instance, counts) = waiting();
    let switch = instance.kill_switch();
    let result = instance.run("wait", &[]).expect("it is suspended");
    let yielded = result.yielded().expect("it is suspended");
    let (wakes, waker) = Wakes::new();
    let mut run = Box::pin(instance.resume_async(yielded).without_slices());
    assert!(poll(&mut run, &waker).is_pending());
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    assert_eq!(wakes.count(), 1);
    is_ended(poll(&mut run, &waker));
    drop(run);
    assert_eq!(counts.dropped.load(SeqCst), 1);
    is_mended(instance);
}

/// A waker that drops the future it is for, as an executor may that is shut down.
struct Drops<F>(Mutex<Option<Pin<Box<F>>>>);

impl<F: Send + 'static> Wake for Drops<F> {
    fn wake(self: Arc<Self>) {
        let run = self.0.lock().expect("no panic").take();
        drop(run);
    }
}

#[test]
fn a_waker_may_drop_the_run() {
    let (mut instance, counts) = waiting();
    let switch = instance.kill_switch();
    let run = Box::pin(async move { wait(&mut instance).await });
    let task = Arc::new(Drops(Mutex::new(Some(run))));
    let waker = Waker::from(task.clone());
    {
        let mut run = task.0.lock().expect("no panic");
        let run = run.as_mut().expect("it is there");
        assert!(poll(run, &waker).is_pending());
    }
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert!(task.0.lock().expect("no panic").is_none());
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
}

/// Tells of every future that is polled for the first time.
fn telling(slots: u32) -> (Sandbox, Receiver<()>, Arc<Counts>) {
    let (begins, begun): (Sender<()>, _) = channel();
    let act = move |_: &mut Context<'_>| {
        // Who listens may have heard enough.
        let _ = begins.send(());
        Poll::Pending
    };
    let (sandbox, counts) = sandbox(slots, Arc::new(act));
    (sandbox, begun, counts)
}

#[test]
fn a_task_of_tokio_on_one_thread_is_woken() {
    let (sandbox, begun, counts) = telling(1);
    let mut instance = sandbox.instance(GUEST);
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    thread::scope(|scope| {
        let switch = instance.kill_switch();
        let killer = scope.spawn(move || {
            begun.recv().expect("it waits");
            switch.terminate()
        });
        is_remote(runtime.block_on(instance.run_async("wait", &[])));
        assert_eq!(killer.join().expect("no panic"), Ok(KillSuccess::Pending));
    });
    assert_eq!(counts.dropped.load(SeqCst), 1);
    is_mended(instance);
}

#[test]
fn tasks_of_tokio_on_several_threads_are_woken_each_for_its_own_guest() {
    const GUESTS: u32 = 30;
    let (sandbox, begun, counts) = telling(GUESTS);
    let program = sandbox.program(GUEST);
    let runtime = Builder::new_multi_thread()
        .worker_threads(3)
        .build()
        .expect("a runtime");
    let (switches, tasks): (Vec<_>, Vec<_>) = (0..GUESTS)
        .map(|_| {
            let mut instance = sandbox.region.new_instance(&program).expect("a free slot");
            let switch = instance.kill_switch();
            let task = runtime.spawn(async move {
                let ended = instance.run_async("wait", &[]).await;
                (ended, instance)
            });
            (switch, task)
        })
        .unzip();
    for _ in 0..GUESTS {
        begun.recv().expect("all wait");
    }
    for (n, (switch, task)) in switches.into_iter().zip(tasks).enumerate() {
        assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
        let (ended, instance) = runtime.block_on(task).expect("no panic");
        is_remote(ended);
        is_mended(instance);
        assert_eq!(counts.dropped.load(SeqCst) as usize, n + 1);
    }
}

#[test]
fn a_panic_of_a_future_is_one_of_the_host_function() {
    let act = |_: &mut Context<'_>| -> Poll<i32> { panic!("the future's") };
    let (sandbox, counts) = sandbox(1, Arc::new(act));
    let mut instance = sandbox.instance(GUEST);
    instance.set_catch_panics(true);
    let ended = Wakes::block_on(instance.run_async("wait", &[]));
    match ended {
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::OtherPanic(_))) => {}
        other => panic!("it was to be a value: {other:?}"),
    }
    instance.set_catch_panics(false);
    instance.reset().expect("it can be reset");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Wakes::block_on(instance.run_async("wait", &[]))
    }));
    let payload = panicked.expect_err("it goes on");
    assert_eq!(payload.downcast_ref(), Some(&"the future's"));
    assert_eq!(counts.dropped.load(SeqCst), 2);
    is_mended(instance);
}
