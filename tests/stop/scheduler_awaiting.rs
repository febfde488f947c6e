//! Guests of a scheduler that wait for futures. Nothing here depends on how long anything takes: where guests wait for
//! the clock, only what they compute is looked at.

use std::collections::HashMap;
use std::future::{Future, pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use selvedge::{
    AsyncLimiter, Awaiting, Ending, Growth, HostError, InstanceHandle, Limits, Outcome, Permission,
    RuntimeError, Scheduler, Task, TerminationDetails, Ticket, TrapCode, Val, Vmctx, YieldedVal,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};
use tokio::sync::oneshot;

const SLICE: Duration = Duration::from_micros(200);

const GUEST: &str = r#"(module
    (import "h" "wait" (func $wait (param i32) (result i32)))
    (import "h" "here" (func $here (result i32)))
    (memory 1 10)
    (func (export "wait") (param i32) (result i32) (i32.add (call $wait (local.get 0)) (i32.const 1)))
    (func (export "sum") (param $n i32) (result i32) (local $sum i32)
        (loop $l
            (local.set $sum (i32.add (local.get $sum) (call $wait (local.get $n))))
            (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $sum))
    (func (export "again") (loop $l (drop (call $wait (i32.const 1))) (br $l)))
    (func (export "then_loop") (drop (call $wait (i32.const 1))) (loop $l (br $l)))
    (func (export "here") (result i32) (call $here))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "f") (result i32) (i32.const 3))
    (func (export "for_ever") (loop $l (br $l))))"#;

/// Counts what lives.
struct Alive(Arc<AtomicU32>);

impl Alive {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Guests, and how many futures they wait for.
struct Guests {
    sandbox: Sandbox,
    futures: Arc<AtomicU32>,
}

impl Guests {
    /// Guests whose `wait` waits for this.
    fn new<F>(slots: u32, wait: impl Fn(i32) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = i32> + Send + 'static,
    {
        let mut sandbox = Sandbox::with(slots, &Limits::default());
        let futures = Arc::new(AtomicU32::new(0));
        let count = futures.clone();
        let wait = move |_: &Vmctx<'_>, n: i32| {
            let alive = Alive::new(&count);
            let future = wait(n);
            Awaiting::new(async move {
                let _alive = alive;
                Ok::<_, HostError>(future.await)
            })
        };
        let linker = &mut sandbox.linker;
        linker.func("h", "wait", wait).expect("a new name");
        linker
            .func("h", "here", |_: &Vmctx<'_>| 8)
            .expect("a new name");
        Self { sandbox, futures }
    }

    fn instance(&self) -> InstanceHandle {
        self.sandbox.instance(GUEST)
    }

    fn waits(&self) -> Task {
        Task::run(self.instance(), "wait", &[Val::I32(1)])
    }

    /// Futures that guests wait for.
    fn futures(&self) -> u32 {
        self.futures.load(SeqCst)
    }
}

/// Guests that wait for what they are told through channels, which come out at the other end.
fn told(slots: u32) -> (Guests, Receiver<oneshot::Sender<i32>>) {
    let (asks, asked) = channel();
    let guests = Guests::new(slots, move |_| {
        let (tell, told) = oneshot::channel();
        // A test may have heard enough.
        let _ = asks.send(tell);
        async move { told.await.unwrap_or(-1) }
    });
    (guests, asked)
}

fn scheduler(threads: usize) -> Scheduler {
    Scheduler::new(threads, SLICE).expect("it has threads")
}

/// One whose slices nobody cuts, however busy the machine is: what they count is known then.
fn in_long_slices(threads: usize) -> Scheduler {
    Scheduler::new(threads, Duration::from_secs(3_600)).expect("it has threads")
}

fn returned(ticket: Ticket) -> i32 {
    value(ticket.wait())
}

#[track_caller]
fn value(outcome: Outcome) -> i32 {
    match outcome.ending {
        Ending::Returned(values) => values.into(),
        other => panic!("the guest was to return: {other:?}"),
    }
}

fn is_cancelled(outcome: &Outcome) -> bool {
    matches!(outcome.ending, Ending::Cancelled)
}

/// Waits until a guest does, without a thread.
fn until_waiting(scheduler: &Scheduler, count: usize) {
    while scheduler.waiting() != count {
        thread::yield_now();
    }
}

fn is_mended(outcome: Outcome) {
    let mut instance = outcome.instance.expect("it is given back");
    instance.reset().expect("it can be reset");
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
}

#[test]
fn a_guest_that_waits_holds_no_thread_and_goes_on_when_it_is_woken() {
    let (guests, asked) = told(8);
    let scheduler = in_long_slices(1);
    let waiting = scheduler.spawn(guests.waits());
    let tell = asked.recv().expect("it waits");
    // The only thread has others to run.
    for _ in 0..3 {
        let other = scheduler.spawn(Task::run(guests.instance(), "here", &[]));
        assert_eq!(returned(other), 8);
    }
    assert_eq!((scheduler.queued(), scheduler.waiting()), (0, 1));
    assert!(!waiting.is_finished());
    tell.send(5).expect("somebody listens");
    let outcome = waiting.wait();
    // One up to the wait, one behind it.
    assert_eq!(outcome.slices, 2);
    assert!(!outcome.cpu_time.is_zero());
    assert_eq!(value(outcome), 6);
    assert_eq!((scheduler.waiting(), guests.futures()), (0, 0));
}

#[test]
fn a_future_that_is_ready_takes_no_second_turn() {
    let guests = Guests::new(2, |n| async move { n });
    let scheduler = in_long_slices(1);
    let outcome = scheduler.spawn(guests.waits()).wait();
    assert_eq!(outcome.slices, 1);
    assert_eq!(value(outcome), 2);
}

#[test]
fn a_guest_that_waits_for_what_is_always_ready_leaves_the_thread_to_others() {
    let guests = Guests::new(8, |n| async move { n });
    let scheduler = scheduler(1);
    let loops: Vec<_> = (0..3)
        .map(|_| scheduler.spawn(Task::run(guests.instance(), "again", &[])))
        .collect();
    let sum = Task::run(guests.instance(), "sum", &[Val::I32(10_000)]);
    let outcome = scheduler.spawn(sum).wait();
    // No machine enters and leaves a guest twice in every hundred nanoseconds.
    assert!(outcome.slices > 5, "{outcome:?}");
    assert_eq!(value(outcome), 50_005_000);
    for ticket in loops {
        ticket.cancel();
        let outcome = ticket.wait();
        assert!(is_cancelled(&outcome) && outcome.slices > 0, "{outcome:?}");
        is_mended(outcome);
    }
    assert_eq!(guests.futures(), 0);
}

#[test]
fn a_guest_that_has_waited_is_preempted_like_any_other() {
    let (guests, asked) = told(4);
    let scheduler = scheduler(1);
    let ticket = scheduler.spawn(Task::run(guests.instance(), "then_loop", &[]));
    asked.recv().expect("it waits").send(1).expect("it waits");
    // All of them end on its thread, whenever it goes on.
    for _ in 0..20 {
        let other = scheduler.spawn(Task::run(guests.instance(), "here", &[]));
        assert_eq!(returned(other), 8);
    }
    ticket.cancel();
    let outcome = ticket.wait();
    assert!(is_cancelled(&outcome));
    is_mended(outcome);
}

#[test]
fn a_future_may_wake_its_guest_while_it_is_polled() {
    // It wakes itself, and then somebody else does, before its poll has returned.
    let guests = Guests::new(2, |n| {
        let mut left = n;
        poll_fn(move |cx| {
            left -= 1;
            if left < 0 {
                return Poll::Ready(4);
            }
            let waker = cx.waker().clone();
            if left % 2 == 0 {
                waker.wake_by_ref();
            }
            if left % 3 == 0 {
                thread::spawn(move || waker.wake())
                    .join()
                    .expect("no panic");
            } else {
                waker.wake();
            }
            Poll::Pending
        })
    });
    let scheduler = in_long_slices(2);
    for n in 0..30 {
        let ticket = scheduler.spawn(Task::run(guests.instance(), "wait", &[Val::I32(n)]));
        let outcome = ticket.wait();
        assert_eq!(outcome.slices, if n == 0 { 1 } else { 2 });
        assert_eq!(value(outcome), 5);
    }
}

#[test]
fn no_wake_is_lost_whenever_it_comes() {
    // Another thread makes it ready and wakes, while the poll returns and the guest is put aside.
    let (asks, asked) = channel::<(Arc<AtomicBool>, Waker, u32)>();
    let waker = thread::spawn(move || {
        for (ready, waker, delay) in asked {
            for _ in 0..delay {
                std::hint::spin_loop();
            }
            ready.store(true, SeqCst);
            waker.wake();
        }
    });
    let delays = AtomicU32::new(0);
    let guests = Guests::new(4, move |n| {
        let (ready, asks) = (Arc::new(AtomicBool::new(false)), asks.clone());
        let delay = delays.fetch_add(37, SeqCst) % 1_500;
        let mut asks = Some(asks);
        poll_fn(move |cx| {
            if ready.load(SeqCst) {
                return Poll::Ready(n);
            }
            if let Some(asks) = asks.take() {
                let ask = (ready.clone(), cx.waker().clone(), delay);
                asks.send(ask).expect("it listens");
            }
            Poll::Pending
        })
    });
    let scheduler = scheduler(2);
    let tickets: Vec<_> = (0..3)
        .map(|_| scheduler.spawn(Task::run(guests.instance(), "sum", &[Val::I32(1_000)])))
        .collect();
    for ticket in tickets {
        assert_eq!(returned(ticket), 500_500);
    }
    drop(guests);
    waker.join().expect("no panic");
}

#[test]
fn wakers_may_be_called_at_any_time_and_keep_nothing() {
    let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
    let polls = Arc::new(AtomicU32::new(0));
    let (keep, polled) = (wakers.clone(), polls.clone());
    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = ready.clone();
    let guests = Guests::new(2, move |_| {
        let (keep, polled, is_ready) = (keep.clone(), polled.clone(), is_ready.clone());
        poll_fn(move |cx| {
            keep.lock().expect("no panic").push(cx.waker().clone());
            polled.fetch_add(1, SeqCst);
            if is_ready.load(SeqCst) {
                Poll::Ready(1)
            } else {
                Poll::Pending
            }
        })
    });
    let wake_all = || {
        let wakers = wakers.lock().expect("no panic").clone();
        for waker in wakers {
            waker.wake_by_ref();
            waker.wake();
        }
    };
    let scheduler = in_long_slices(2);
    let ticket = scheduler.spawn(guests.waits());
    // Nothing has happened to the future, but it is polled each time.
    for round in 1..20 {
        while polls.load(SeqCst) < round {
            thread::yield_now();
        }
        until_waiting(&scheduler, 1);
        wake_all();
    }
    ready.store(true, SeqCst);
    wake_all();
    let outcome = ticket.wait();
    assert_eq!(outcome.slices, 2);
    assert_eq!(value(outcome), 2);
    // The guest is gone, whoever keeps wakers.
    assert!(wakers.lock().expect("no panic").len() >= 20);
    assert_eq!(guests.sandbox.region.used_slots(), 0);
    wake_all();
    assert_eq!((scheduler.queued(), scheduler.waiting()), (0, 0));
    // Nor do they wake the next guest.
    ready.store(false, SeqCst);
    let ticket = scheduler.spawn(guests.waits());
    until_waiting(&scheduler, 1);
    let former = wakers.lock().expect("no panic").clone();
    let before = polls.load(SeqCst);
    for waker in &former[..former.len() - 1] {
        waker.wake_by_ref();
    }
    assert_eq!(scheduler.waiting(), 1);
    assert_eq!(polls.load(SeqCst), before);
    drop(scheduler);
    assert!(matches!(ticket.wait().ending, Ending::ShutDown));
    assert_eq!(guests.futures(), 0);
    wake_all();
}

#[test]
fn deadlines_hold_while_guests_wait() {
    let guests = Guests::new(32, |_| pending());
    for (threads, loops) in [(1, 0), (1, 3), (2, 0), (2, 1)] {
        let scheduler = scheduler(threads);
        let loops: Vec<_> = (0..loops)
            .map(|_| scheduler.spawn(Task::run(guests.instance(), "for_ever", &[])))
            .collect();
        let begin = Instant::now();
        // The first to wait is not the first to end, and some end together.
        let tickets: Vec<_> = [40, 10, 30, 10, 20]
            .map(|millis| {
                let deadline = begin + Duration::from_millis(millis);
                (
                    deadline,
                    scheduler.spawn(guests.waits().with_deadline(deadline)),
                )
            })
            .into();
        let for_ever = scheduler.spawn(guests.waits());
        for (deadline, ticket) in tickets {
            let outcome = ticket.wait();
            assert!(
                matches!(outcome.ending, Ending::DeadlineExceeded),
                "{outcome:?}"
            );
            assert!(Instant::now() >= deadline);
            let instance = outcome.instance.as_ref().expect("it is given back");
            // On a busy machine it may not have come to where it waits.
            let is_early = instance.is_preempted() || outcome.slices == 0;
            assert!(instance.is_awaiting() || is_early, "{instance:?}");
            is_mended(outcome);
        }
        assert!(!for_ever.is_finished());
        for ticket in loops.into_iter().chain([for_ever]) {
            ticket.cancel();
            assert!(is_cancelled(&ticket.wait()));
        }
        assert_eq!(guests.futures(), 0);
    }
}

#[test]
fn a_deadline_counts_for_threads_that_sleep_already() {
    // Both threads sleep without a deadline, or with a later one, when an earlier one comes.
    let guests = Guests::new(4, |_| pending());
    let scheduler = scheduler(2);
    let far = Instant::now() + Duration::from_secs(1 << 30);
    let later = scheduler.spawn(guests.waits().with_deadline(far));
    for _ in 0..20 {
        until_waiting(&scheduler, 1);
        let soon = Instant::now() + Duration::from_millis(2);
        let ticket = scheduler.spawn(guests.waits().with_deadline(soon));
        assert!(matches!(ticket.wait().ending, Ending::DeadlineExceeded));
    }
    later.cancel();
    assert!(is_cancelled(&later.wait()));
}

#[test]
fn a_guest_whose_deadline_was_over_goes_on_waiting_elsewhere() {
    let (guests, asked) = told(2);
    let scheduler = scheduler(1);
    let late = |task: Task| {
        let soon = Instant::now() + Duration::from_millis(5);
        let outcome = scheduler.spawn(task.with_deadline(soon)).wait();
        assert!(matches!(outcome.ending, Ending::DeadlineExceeded));
        outcome.instance.expect("it is given back")
    };
    // On a busy machine it may not have come to where it waits.
    let waits_late = || loop {
        let instance = late(guests.waits());
        if instance.is_awaiting() {
            assert!(instance.is_yielded());
            break (instance, asked.try_recv().expect("it has asked"));
        }
    };
    // In the scheduler, after other deadlines.
    let (instance, tell) = waits_late();
    let instance = late(Task::resume(late(Task::resume(instance))));
    assert!(instance.is_awaiting());
    let resumed = scheduler.spawn(Task::resume(instance));
    tell.send(1).expect("it waits");
    assert_eq!(returned(resumed), 2);
    // With the answer there before it is resumed.
    let (instance, tell) = waits_late();
    tell.send(2).expect("it waits");
    assert_eq!(returned(scheduler.spawn(Task::resume(instance))), 3);
    // As a future; plainly it can't, since there is a value to come.
    let (mut instance, tell) = waits_late();
    assert!(matches!(
        instance.resume(),
        Err(RuntimeError::InvalidArgument(_))
    ));
    tell.send(3).expect("it waits");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let future = instance.resume_async(YieldedVal::default());
    let result = runtime.expect("a runtime").block_on(future);
    assert_eq!(returned_i32(result), 4);
    // Or not at all.
    let (mut instance, tell) = waits_late();
    instance.reset().expect("it can be reset");
    assert!(tell.send(4).is_err(), "nobody listens");
    assert_eq!(guests.futures(), 0);
}

#[test]
fn a_guest_that_waits_is_cancelled_at_once_and_its_future_dropped() {
    let (guests, asked) = told(8);
    let scheduler = in_long_slices(1);
    let waiting = scheduler.spawn(guests.waits());
    let tell = asked.recv().expect("it waits");
    until_waiting(&scheduler, 1);
    waiting.cancel();
    waiting.canceller().cancel();
    let outcome = waiting.wait();
    assert!(is_cancelled(&outcome), "{outcome:?}");
    assert_eq!((outcome.slices, guests.futures()), (1, 0));
    assert!(tell.send(1).is_err(), "nobody listens");
    is_mended(outcome);
}

#[test]
fn a_guest_that_waits_is_cancelled_ahead_of_those_in_the_queue() {
    let (guests, asked) = told(8);
    let (entered, is_entered) = channel();
    let (leave, may_leave) = channel::<()>();
    let ends = Mutex::new((entered, may_leave));
    let mut others = Sandbox::new();
    let linker = &mut others.linker;
    let gate = move |_: &Vmctx<'_>| {
        let ends = ends.lock().expect("no panic");
        ends.0.send(()).expect("the test waits for it");
        ends.1.recv().expect("the test sends it");
    };
    linker.func("h", "gate", gate).expect("a new name");
    let tickets: Arc<Mutex<HashMap<i32, Ticket>>> = Arc::default();
    let seen = tickets.clone();
    let looks = move |_: &Vmctx<'_>| {
        let tickets = seen.lock().expect("no panic");
        i32::from(tickets.values().all(Ticket::is_finished))
    };
    linker.func("h", "looks", looks).expect("a new name");
    let wat = r#"(module (import "h" "gate" (func $gate)) (import "h" "looks" (func $looks (result i32)))
        (func (export "gate") (call $gate)) (func (export "looks") (result i32) (call $looks)))"#;

    let scheduler = scheduler(1);
    let mut tells = Vec::new();
    for n in 0..3 {
        let waiting = scheduler.spawn(guests.waits());
        tells.push(asked.recv().expect("it waits"));
        tickets.lock().expect("no panic").insert(n, waiting);
    }
    until_waiting(&scheduler, 3);
    // The thread is held up, and a guest is in the queue before the others are cancelled.
    let gate = scheduler.spawn(Task::run(others.instance(wat), "gate", &[]));
    is_entered.recv().expect("it comes");
    let looks = scheduler.spawn(Task::run(others.instance(wat), "looks", &[]));
    for ticket in tickets.lock().expect("no panic").values() {
        ticket.cancel();
    }
    leave.send(()).expect("it waits");
    assert_eq!(returned(looks), 1, "they end first");
    assert!(matches!(gate.wait().ending, Ending::Returned(_)));
    assert_eq!(guests.futures(), 0);
}

#[test]
fn kill_switches_and_epochs_end_guests_that_wait() {
    let guests = Guests::new(4, |_| pending());
    let scheduler = scheduler(1);
    let instance = guests.instance();
    let switch = instance.kill_switch();
    let ticket = scheduler.spawn(Task::run(instance, "wait", &[Val::I32(1)]));
    until_waiting(&scheduler, 1);
    assert!(switch.terminate().is_ok());
    let outcome = ticket.wait();
    assert!(
        matches!(
            outcome.ending,
            Ending::Failed(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
        ),
        "{outcome:?}"
    );
    is_mended(outcome);

    let mut instance = guests.instance();
    instance.set_epoch_deadline(1).expect("it is in order");
    let ticket = scheduler.spawn(Task::run(instance, "wait", &[Val::I32(1)]));
    until_waiting(&scheduler, 1);
    guests.sandbox.engine.increment_epoch();
    let outcome = ticket.wait();
    match &outcome.ending {
        Ending::Failed(RuntimeError::RuntimeFault(fault)) => {
            assert_eq!(fault.code, TrapCode::EpochDeadline);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(guests.futures(), 0);
    let mut instance = outcome.instance.expect("it is given back");
    instance.clear_epoch_deadline();
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
}

#[test]
fn panics_of_futures_end_their_guest_only() {
    let guests = Guests::new(4, |n| async move {
        match n {
            0 => panic!("at once"),
            1 => tokio::task::yield_now().await,
            _ => pending::<()>().await,
        }
        panic!("later")
    });
    let scheduler = scheduler(1);
    for (n, message) in [(0, "at once"), (1, "later"), (0, "at once")] {
        let mut instance = guests.instance();
        let arg = [Val::I32(n)];
        for catch in [false, true] {
            instance.set_catch_panics(catch);
            let outcome = scheduler.spawn(Task::run(instance, "wait", &arg)).wait();
            match outcome.ending {
                Ending::Panicked(payload) => {
                    assert!(!catch);
                    assert_eq!(payload.downcast_ref(), Some(&message));
                }
                Ending::Failed(RuntimeError::RuntimeTerminated(
                    TerminationDetails::OtherPanic(_),
                )) => assert!(catch),
                other => panic!("{other:?}"),
            }
            instance = outcome.instance.expect("it is given back");
            assert!(instance.is_terminated());
            instance.reset().expect("it can be reset");
        }
        assert_eq!(returned_i32(instance.run("f", &[])), 3);
    }
    assert_eq!(guests.futures(), 0);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[test]
fn a_future_may_panic_when_it_is_dropped() {
    let guests = Guests::new(4, |n| {
        let bomb = Bomb;
        async move {
            let _bomb = bomb;
            if n == 1 { pending().await } else { n }
        }
    });
    let scheduler = scheduler(1);
    // Cancelled while it waits, and done by itself: its own panic is that of the host function.
    let waiting = scheduler.spawn(guests.waits());
    until_waiting(&scheduler, 1);
    waiting.cancel();
    let outcome = waiting.wait();
    assert!(is_cancelled(&outcome));
    is_mended(outcome);
    let outcome = scheduler.spawn(Task::run(guests.instance(), "wait", &[Val::I32(2)]));
    let outcome = outcome.wait();
    assert!(matches!(outcome.ending, Ending::Panicked(_)), "{outcome:?}");
    is_mended(outcome);
    // When somebody else ends it, it is dropped in its turn.
    let instance = guests.instance();
    let switch = instance.kill_switch();
    let ticket = scheduler.spawn(Task::run(instance, "wait", &[Val::I32(1)]));
    until_waiting(&scheduler, 1);
    assert!(switch.terminate().is_ok());
    let outcome = ticket.wait();
    assert!(matches!(outcome.ending, Ending::Panicked(_)), "{outcome:?}");
    assert!(
        outcome
            .instance
            .as_ref()
            .expect("it is there")
            .is_terminated()
    );
    is_mended(outcome);
    // The thread is as it was.
    let other = scheduler.spawn(Task::run(guests.instance(), "here", &[]));
    assert_eq!(returned(other), 8);
}

/// A limiter that waits to be told.
struct Asks(Sender<oneshot::Sender<bool>>);

impl AsyncLimiter for Asks {
    fn growing(&mut self, _: &Growth) -> Permission {
        let (tell, told) = oneshot::channel();
        self.0.send(tell).expect("the test listens");
        Box::pin(async move { told.await.unwrap_or(false) })
    }
}

#[test]
fn guests_wait_for_limiters_that_take_their_time() {
    let guests = Guests::new(4, |n| async move { n });
    let program = guests.sandbox.program(GUEST);
    let scheduler = scheduler(1);
    let (asks, asked) = channel();
    let grows = || {
        let builder = guests.sandbox.region.instance_builder(&program);
        let instance = builder.with_async_limiter(Asks(asks.clone())).build();
        scheduler.spawn(Task::run(
            instance.expect("a free slot"),
            "grow",
            &[Val::I32(2)],
        ))
    };
    for (allowed, old) in [(true, 1), (false, -1)] {
        let ticket = grows();
        let tell = asked.recv().expect("it asks");
        until_waiting(&scheduler, 1);
        let other = scheduler.spawn(Task::run(guests.instance(), "here", &[]));
        assert_eq!(returned(other), 8);
        tell.send(allowed).expect("it waits");
        assert_eq!(returned(ticket), old);
    }
    let ticket = grows();
    let tell = asked.recv().expect("it asks");
    ticket.cancel();
    assert!(is_cancelled(&ticket.wait()));
    assert!(tell.send(true).is_err());
}

#[test]
fn dropping_the_scheduler_ends_those_that_wait() {
    let (guests, asked) = told(32);
    for threads in [1, 2] {
        let scheduler = scheduler(threads);
        let tickets: Vec<_> = (0..20).map(|_| scheduler.spawn(guests.waits())).collect();
        let tells: Vec<_> = asked.iter().take(20).collect();
        drop(scheduler);
        assert_eq!(guests.futures(), 0);
        for (ticket, tell) in tickets.into_iter().zip(tells) {
            assert!(ticket.is_finished());
            let outcome = ticket.wait();
            assert!(matches!(outcome.ending, Ending::ShutDown), "{outcome:?}");
            assert!(tell.send(1).is_err());
            is_mended(outcome);
        }
    }
    assert_eq!(guests.sandbox.region.used_slots(), 0);
}

#[test]
fn a_future_may_drop_the_scheduler_that_polls_it() {
    let held: Arc<Mutex<Option<Scheduler>>> = Arc::default();
    let of_future = held.clone();
    let guests = Guests::new(2, move |_| {
        let held = of_future.clone();
        async move {
            drop(held.lock().expect("no panic").take());
            pending().await
        }
    });
    let ticket = {
        let mut held = held.lock().expect("no panic");
        let scheduler = scheduler(2);
        let ticket = scheduler.spawn(guests.waits());
        *held = Some(scheduler);
        ticket
    };
    assert!(matches!(ticket.wait().ending, Ending::ShutDown));
    assert_eq!(guests.futures(), 0);
}

#[test]
fn a_guest_without_a_ticket_waits_and_runs_to_its_end() {
    let (guests, asked) = told(2);
    let scheduler = scheduler(1);
    let mut instance = guests.instance();
    let dropped = Arc::new(AtomicU32::new(0));
    instance.insert_embed_ctx(Alive::new(&dropped));
    drop(scheduler.spawn(Task::run(instance, "wait", &[Val::I32(1)])));
    let tell = asked.recv().expect("it waits");
    until_waiting(&scheduler, 1);
    assert_eq!(dropped.load(SeqCst), 1);
    tell.send(1).expect("it waits");
    while dropped.load(SeqCst) != 0 {
        thread::yield_now();
    }
}
