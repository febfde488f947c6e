//! Limiters that take their time: the guest waits for them, and can be ended meanwhile.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use selvedge::{
    AsyncLimiter, Engine, FuelCosts, Growing, Growth, InstanceBuilder, InstanceHandle, KillSuccess,
    Limits, Linker, Permission, RunAsync, RunResult, RuntimeError, Settings, SharedMemory,
    TerminationDetails, Val, Vmctx,
};
use selvedge_tests::sandbox::{self, Sandbox, returned_i32};

const GROWS: &str = r#"(module
    (import "h" "grow" (func $grow (param i32) (result i32)))
    (import "h" "nested" (func $nested (param i32) (result i32)))
    (memory (export "m") 2 20) (table $t (export "t") 3 50 funcref)
    (func $seven (export "seven") (result i32) (i32.const 7))
    (func $grow_memory (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "twice") (param i32) (result i32)
        (i32.add (i32.mul (i32.const 100) (memory.grow (local.get 0))) (memory.grow (local.get 0))))
    (func (export "table") (param i32) (result i32)
        (if (i32.ne (table.grow $t (ref.func $seven) (local.get 0)) (i32.const -1)) (then
            (return (call_indirect $t (result i32) (i32.sub (table.size $t) (i32.const 1))))))
        (i32.const -1))
    (func (export "size") (result i32) (memory.size))
    (func (export "host") (param i32) (result i32) (call $grow (local.get 0)))
    (func (export "nested") (param i32) (result i32) (call $nested (local.get 0))))"#;

/// What a limiter and its test share.
#[derive(Default)]
struct Office {
    /// The answer to all questions, once there is one.
    answer: Mutex<Option<bool>>,
    waiting: Mutex<Option<Waker>>,
    asked: Mutex<Vec<(Growing, u64, u64)>>,
    failures: Mutex<Vec<String>>,
    dropped: AtomicU32,
}

impl Office {
    fn answer(&self, answer: bool) {
        *self.answer.lock().unwrap() = Some(answer);
        if let Some(waker) = self.waiting.lock().unwrap().take() {
            waker.wake();
        }
    }

    fn asked(&self) -> Vec<(Growing, u64, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.failures.lock().unwrap())
    }
}

/// A question that was asked.
struct Question(Arc<Office>);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
    }
}

/// Asks an office.
struct Asks(Arc<Office>);

impl AsyncLimiter for Asks {
    fn growing(&mut self, growth: &Growth) -> Permission {
        let question = (growth.what, growth.current, growth.desired);
        self.0.asked.lock().unwrap().push(question);
        let question = Question(self.0.clone());
        Box::pin(poll_fn(move |cx| {
            let office = &question.0;
            match *office.answer.lock().unwrap() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    *office.waiting.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    fn growth_failed(&mut self, growth: &Growth, error: &RuntimeError) {
        let line = format!("{:?} {}: {error}", growth.what, growth.desired);
        self.0.failures.lock().unwrap().push(line);
    }
}

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    add_host(&mut sandbox.linker);
    sandbox
}

fn add_host(linker: &mut Linker) {
    linker
        .func("h", "grow", |vmctx: &Vmctx<'_>, pages: u32| {
            vmctx.grow_memory(pages).map(u32::cast_signed)
        })
        .unwrap()
        .func("h", "nested", |vmctx: &Vmctx<'_>, pages: i32| {
            let values = vmctx.call_export("memory", &[Val::I32(pages)])?;
            Ok::<_, selvedge::HostError>(values[0].i32().unwrap())
        })
        .unwrap();
}

fn instance() -> (InstanceHandle, Arc<Office>) {
    with(|builder| builder)
}

fn with(
    options: impl for<'a> FnOnce(InstanceBuilder<'a>) -> InstanceBuilder<'a>,
) -> (InstanceHandle, Arc<Office>) {
    let office = Arc::new(Office::default());
    let sandbox = sandbox();
    let program = sandbox.program(GROWS);
    let builder = sandbox.region.instance_builder(&program);
    let builder = options(builder.with_async_limiter(Asks(office.clone())));
    (builder.build().unwrap(), office)
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A run in one slice: its end would be another reason to be woken.
fn run<'a>(instance: &'a mut InstanceHandle, name: &str, by: i32) -> Pin<Box<RunAsync<'a>>> {
    Box::pin(instance.run_async(name, &[Val::I32(by)]).without_slices())
}

fn poll(run: &mut Pin<Box<RunAsync<'_>>>, waker: &Waker) -> Poll<Result<RunResult, RuntimeError>> {
    run.as_mut().poll(&mut Context::from_waker(waker))
}

/// The result of a run whose limiter answers at once.
fn now(instance: &mut InstanceHandle, name: &str, by: i32) -> Result<RunResult, RuntimeError> {
    let mut run = run(instance, name, by);
    match poll(&mut run, Waker::noop()) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("there is an answer"),
    }
}

#[test]
fn a_guest_waits_for_its_limiter_and_goes_on_with_the_answer() {
    for (answer, result, size) in [(true, 2, 5), (false, -1, 2)] {
        let (mut instance, office) = instance();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut growing = run(&mut instance, "memory", 3);
        assert!(poll(&mut growing, &waker).is_pending());
        assert!(poll(&mut growing, &waker).is_pending());
        assert_eq!(office.asked(), [(Growing::Memory, 2 << 16, 5 << 16)]);
        assert_eq!(wakes.0.load(SeqCst), 0);
        office.answer(answer);
        assert_eq!(wakes.0.load(SeqCst), 1);
        match poll(&mut growing, &waker) {
            Poll::Ready(grown) => assert_eq!(returned_i32(grown), result),
            Poll::Pending => panic!("there is an answer"),
        }
        drop(growing);
        assert_eq!(returned_i32(instance.run("size", &[])), size);
        let failures = office.failures();
        if answer {
            assert!(failures.is_empty(), "{failures:?}");
        } else {
            let line = "Memory 327680: the limiter of the instance refused to let a memory grow";
            assert_eq!(failures, [line]);
        }
        assert_eq!(office.dropped.load(SeqCst), 1);
    }
}

#[test]
fn every_growth_is_a_question_and_growth_by_nothing_is_none() {
    let (mut instance, office) = instance();
    office.answer(true);
    assert_eq!(returned_i32(now(&mut instance, "twice", 2)), 204);
    let asked = [(2, 4), (4, 6)].map(|(from, to)| (Growing::Memory, from << 16, to << 16));
    assert_eq!(office.asked(), asked);
    assert_eq!(returned_i32(now(&mut instance, "memory", 0)), 6);
    assert_eq!(returned_i32(instance.run("memory", &[Val::I32(0)])), 6);
    assert_eq!(office.asked(), []);
    // What the limits refuse is no question; the limiter is told.
    assert_eq!(returned_i32(now(&mut instance, "memory", 15)), -1);
    assert_eq!(office.asked(), []);
    assert_eq!(office.failures().len(), 1);
    // The embedder asks nobody.
    assert_eq!(instance.grow_memory(1).unwrap(), 6);
    assert_eq!(office.asked(), []);
}

#[test]
fn tables_wait_too_and_keep_what_they_are_filled_with() {
    let (mut instance, office) = instance();
    let mut growing = run(&mut instance, "table", 4);
    assert!(poll(&mut growing, Waker::noop()).is_pending());
    office.answer(true);
    match poll(&mut growing, Waker::noop()) {
        Poll::Ready(grown) => assert_eq!(returned_i32(grown), 7),
        Poll::Pending => panic!("there is an answer"),
    }
    drop(growing);
    assert_eq!(office.asked(), [(Growing::Table, 3, 7)]);
    office.answer(false);
    assert_eq!(returned_i32(now(&mut instance, "table", 4)), -1);
}

#[test]
fn who_cannot_wait_is_refused_and_nobody_is_asked() {
    let (mut instance, office) = instance();
    office.answer(true);
    let refused = instance.run("memory", &[Val::I32(1)]);
    assert!(
        matches!(refused, Err(RuntimeError::AsyncRequired("a memory"))),
        "{refused:?}"
    );
    assert!(instance.is_faulted());
    let refused = instance.run("table", &[Val::I32(1)]);
    assert!(
        matches!(refused, Err(RuntimeError::AsyncRequired("a table"))),
        "{refused:?}"
    );
    let typed = instance.typed_func::<i32, i32>("memory").unwrap();
    let refused = typed.call(&mut instance, 1);
    assert!(
        matches!(refused, Err(RuntimeError::AsyncRequired(_))),
        "{refused:?}"
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the limiter of the instance answers later, and a memory is to grow now; run the guest \
         with `run_async`, and do not grow it in host functions"
    );
    // Neither does a host function wait, nor a guest that a host function waits for.
    let refused = now(&mut instance, "host", 1);
    assert!(
        matches!(refused, Err(RuntimeError::AsyncRequired(_))),
        "{refused:?}"
    );
    let refused = now(&mut instance, "nested", 1);
    assert!(
        matches!(refused, Err(RuntimeError::YieldRefused(_))),
        "{refused:?}"
    );
    assert_eq!(office.asked(), []);
    assert_eq!(returned_i32(now(&mut instance, "memory", 1)), 2);
    // A run that was a future does not make the next one that.
    let refused = instance.run("memory", &[Val::I32(1)]);
    assert!(matches!(refused, Err(RuntimeError::AsyncRequired(_))));
}

#[test]
fn a_guest_that_waits_for_its_limiter_is_ended_and_given_up() {
    let (mut instance, office) = instance();
    let switch = instance.kill_switch();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut growing = run(&mut instance, "memory", 1);
    assert!(poll(&mut growing, &waker).is_pending());
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    assert_eq!(wakes.0.load(SeqCst), 1);
    let ended = poll(&mut growing, &waker);
    assert!(
        matches!(
            ended,
            Poll::Ready(Err(RuntimeError::RuntimeTerminated(
                TerminationDetails::Remote
            )))
        ),
        "{ended:?}"
    );
    drop(growing);
    assert_eq!(office.dropped.load(SeqCst), 1);
    instance.reset().unwrap();

    let mut growing = run(&mut instance, "memory", 1);
    assert!(poll(&mut growing, Waker::noop()).is_pending());
    drop(growing);
    assert_eq!(office.dropped.load(SeqCst), 2);
    assert!(instance.is_terminated());
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("size", &[])), 2);
}

#[test]
fn a_refusal_ends_the_guest_if_the_embedder_wants_it() {
    let (mut instance, office) = with(|builder| builder.terminate_on_growth_failure());
    office.answer(false);
    let ended = now(&mut instance, "memory", 1);
    match ended {
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::GrowthFailed(text))) => {
            assert!(text.contains("refused to let a memory grow"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shared_memory_that_others_grow_meanwhile_is_asked_about_again() {
    let mut sandbox = Sandbox::new();
    let memory = SharedMemory::new(&sandbox.engine, 1, 9).unwrap();
    sandbox.linker.shared_memory("h", "m", &memory).unwrap();
    let program = sandbox.program(
        r#"(module (import "h" "m" (memory 1 9 shared))
            (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let office = Arc::new(Office::default());
    let builder = sandbox.region.instance_builder(&program);
    let builder = builder.with_async_limiter(Asks(office.clone()));
    let mut instance = builder.build().unwrap();
    let mut growing = run(&mut instance, "memory", 2);
    assert!(poll(&mut growing, Waker::noop()).is_pending());
    memory.grow(3).unwrap();
    office.answer(true);
    match poll(&mut growing, Waker::noop()) {
        Poll::Ready(grown) => assert_eq!(returned_i32(grown), 4),
        Poll::Pending => panic!("there is an answer"),
    }
    let asked = [(1, 3), (4, 6)].map(|(from, to)| (Growing::Memory, from << 16, to << 16));
    assert_eq!(office.asked(), asked);
}

#[test]
fn a_guest_that_counts_fuel_waits_without_using_any() {
    let settings = Settings::default().with_fuel(FuelCosts::default());
    let engine = Engine::new(&settings).unwrap();
    let mut linker = Linker::new(&engine);
    add_host(&mut linker);
    let program = linker
        .program(&engine.compile(GROWS.as_bytes()).unwrap())
        .unwrap();
    let region = sandbox::region(&engine, 2, &Limits::default());
    let left = |limited: bool| {
        let office = Arc::new(Office::default());
        let mut builder = region.instance_builder(&program);
        if limited {
            builder = builder.with_async_limiter(Asks(office.clone()));
        }
        let mut instance = builder.with_fuel(10_000).build().unwrap();
        let mut growing = run(&mut instance, "twice", 1);
        let mut grown = poll(&mut growing, Waker::noop());
        if limited {
            assert!(grown.is_pending());
            office.answer(true);
            grown = poll(&mut growing, Waker::noop());
        }
        match grown {
            Poll::Ready(grown) => assert_eq!(returned_i32(grown), 203),
            Poll::Pending => panic!("there is an answer"),
        }
        drop(growing);
        instance.fuel().unwrap()
    };
    assert_eq!(left(true), left(false));
}

#[test]
fn a_panic_of_the_answer_or_the_question_is_one_of_a_host_function() {
    struct Panics(bool);
    impl AsyncLimiter for Panics {
        fn growing(&mut self, _: &Growth) -> Permission {
            assert!(!self.0, "the question's");
            Box::pin(async { panic!("the answer's") })
        }
    }
    for at_once in [false, true] {
        let sandbox = sandbox();
        let program = sandbox.program(GROWS);
        let builder = sandbox.region.instance_builder(&program);
        let mut instance = builder.with_async_limiter(Panics(at_once)).build().unwrap();
        instance.set_catch_panics(true);
        let ended = now(&mut instance, "memory", 1);
        assert!(
            matches!(
                ended,
                Err(RuntimeError::RuntimeTerminated(
                    TerminationDetails::OtherPanic(_)
                ))
            ),
            "{ended:?}"
        );
    }
}

#[test]
fn many_guests_share_what_there_is_and_wait_for_each_other() {
    use tokio::sync::{OwnedSemaphorePermit, Semaphore};

    /// Gives pages of one store to many guests; what a guest has had comes back when it is dropped.
    struct Shares(Arc<Semaphore>, Arc<Mutex<Vec<OwnedSemaphorePermit>>>);
    impl AsyncLimiter for Shares {
        fn growing(&mut self, growth: &Growth) -> Permission {
            let pages = u32::try_from((growth.desired - growth.current) >> 16).unwrap();
            let (store, mine) = (self.0.clone(), self.1.clone());
            Box::pin(async move {
                let Ok(permit) = store.acquire_many_owned(pages).await else {
                    return false;
                };
                mine.lock().unwrap().push(permit);
                true
            })
        }
    }
    const GUESTS: usize = 24;
    let store = Arc::new(Semaphore::new(5));
    let mut sandbox = Sandbox::with(GUESTS as u32, &Limits::default());
    add_host(&mut sandbox.linker);
    let program = sandbox.program(GROWS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..GUESTS)
        .map(|_| {
            let limiter = Shares(store.clone(), Arc::default());
            let builder = sandbox.region.instance_builder(&program);
            let mut guest = builder.with_async_limiter(limiter).build().unwrap();
            runtime.spawn(async move {
                let grown = guest.run_async("memory", &[Val::I32(3)]).await;
                returned_i32(grown)
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(runtime.block_on(task).unwrap(), 2);
    }
    assert_eq!(store.available_permits(), 5);
}
