//! Wakers, cancellers and the end of a scheduler that come at the same time, and thousands of guests that wait.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use selvedge::{
    Awaiting, Ending, HostError, InstanceHandle, Limits, Outcome, Scheduler, Task, Ticket, Val,
    Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};
use tokio::sync::{mpsc, oneshot};

const SLICE: Duration = Duration::from_micros(200);

const GUEST: &str = r#"(module
    (import "h" "wait" (func $wait (param i32) (result i32)))
    (func (export "sum") (param $n i32) (result i32) (local $sum i32)
        (loop $l
            (local.set $sum (i32.add (local.get $sum) (call $wait (local.get $n))))
            (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $sum))
    (func (export "f") (result i32) (i32.const 3))
    (func (export "for_ever") (loop $l (br $l))))"#;

/// An event that happens once, and who waits for it.
#[derive(Default)]
struct Event {
    happened: AtomicBool,
    /// Somebody has been told to wait.
    polled: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Futures that wait for it.
    futures: AtomicU32,
}

impl Event {
    fn happen(&self) {
        self.happened.store(true, SeqCst);
        let waker = self.waker.lock().expect("no panic").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(self: Arc<Self>) -> impl Future<Output = i32> {
        struct Waits(Arc<Event>);
        impl Drop for Waits {
            fn drop(&mut self) {
                self.0.futures.fetch_sub(1, SeqCst);
            }
        }
        self.futures.fetch_add(1, SeqCst);
        let waits = Waits(self);
        poll_fn(move |cx| {
            let event = &waits.0;
            *event.waker.lock().expect("no panic") = Some(cx.waker().clone());
            event.polled.store(true, SeqCst);
            if event.happened.load(SeqCst) {
                Poll::Ready(7)
            } else {
                Poll::Pending
            }
        })
    }
}

/// Guests whose host function waits for the event that they have.
fn eventful(slots: u32) -> Sandbox {
    let mut sandbox = Sandbox::with(slots, &Limits::default());
    let wait = |vmctx: &Vmctx<'_>, _: i32| {
        let event = vmctx.get_embed_ctx::<Arc<Event>>();
        let event = Arc::clone(&*event.expect("the test gave it"));
        Awaiting::new(async move { Ok::<_, HostError>(event.wait().await) })
    };
    sandbox.linker.func("h", "wait", wait).expect("a new name");
    sandbox
}

fn scheduler(threads: usize) -> Scheduler {
    Scheduler::new(threads, SLICE).expect("it has threads")
}

/// Does two things on two threads, the second a little later or earlier than the first, in each round otherwise.
fn at_once(round: u32, first: impl FnOnce() + Send, second: impl FnOnce() + Send) {
    let together = Barrier::new(2);
    let delay = |len: u32| {
        together.wait();
        for _ in 0..len {
            std::hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            delay(round * 13 % 300);
            first();
        });
        delay(round * 29 % 300);
        second();
    });
}

/// A guest that was to end in one way or the other, and what became of it is as its end says.
fn check(outcome: Outcome, event: &Event, is_other: impl Fn(&Ending) -> bool) -> InstanceHandle {
    match &outcome.ending {
        Ending::Returned(values) => assert_eq!(i32::from(values), 7),
        other => assert!(is_other(other), "{other:?}"),
    }
    assert_eq!(event.futures.load(SeqCst), 0, "its future is dropped");
    let mut instance = outcome.instance.expect("it is given back");
    instance.reset().expect("it can be reset");
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
    instance
}

/// A guest that waits, or is about to.
fn spawn(scheduler: &Scheduler, mut instance: InstanceHandle, round: u32) -> (Ticket, Arc<Event>) {
    let event = Arc::new(Event::default());
    instance.insert_embed_ctx(event.clone());
    let ticket = scheduler.spawn(Task::run(instance, "sum", &[Val::I32(1)]));
    // In some rounds it may not have begun.
    while !round.is_multiple_of(4) && !event.polled.load(SeqCst) {
        thread::yield_now();
    }
    (ticket, event)
}

#[test]
fn a_wake_and_a_cancel_at_once_end_a_guest_in_one_way() {
    let sandbox = eventful(1);
    let scheduler = scheduler(2);
    let mut instance = sandbox.instance(GUEST);
    for round in 0..1_000 {
        let (ticket, event) = spawn(&scheduler, instance, round);
        let canceller = ticket.canceller();
        at_once(round, || event.happen(), || canceller.cancel());
        let cancelled = |ending: &Ending| matches!(ending, Ending::Cancelled);
        instance = check(ticket.wait(), &event, cancelled);
        event.happen();
    }
}

#[test]
fn a_wake_and_the_end_of_the_scheduler_at_once_lose_no_guest() {
    let sandbox = eventful(3);
    let mut instances: Vec<_> = (0..3).map(|_| sandbox.instance(GUEST)).collect();
    for round in 0..300 {
        let scheduler = scheduler(1 + round as usize % 2);
        let guests: Vec<_> = instances
            .drain(..)
            .map(|instance| spawn(&scheduler, instance, round))
            .collect();
        at_once(
            round,
            || guests.iter().for_each(|(_, event)| event.happen()),
            move || drop(scheduler),
        );
        for (ticket, event) in guests {
            assert!(ticket.is_finished());
            let shut_down = |ending: &Ending| matches!(ending, Ending::ShutDown);
            instances.push(check(ticket.wait(), &event, shut_down));
            event.happen();
        }
    }
}

#[test]
fn a_cancel_and_the_end_of_the_scheduler_at_once_lose_no_guest() {
    let sandbox = eventful(1);
    let mut instance = sandbox.instance(GUEST);
    for round in 0..300 {
        let scheduler = scheduler(1);
        let (ticket, event) = spawn(&scheduler, instance, round);
        let canceller = ticket.canceller();
        at_once(round, || canceller.cancel(), move || drop(scheduler));
        let either = |ending: &Ending| matches!(ending, Ending::ShutDown | Ending::Cancelled);
        instance = check(ticket.wait(), &event, either);
    }
}

#[test]
fn a_wake_and_a_deadline_at_once_end_a_guest_in_one_way() {
    let sandbox = eventful(1);
    let scheduler = scheduler(2);
    let mut instance = sandbox.instance(GUEST);
    for round in 0..200_u32 {
        let event = Arc::new(Event::default());
        instance.insert_embed_ctx(event.clone());
        let len = Duration::from_micros(u64::from(300 + round * 11 % 900));
        let deadline = std::time::Instant::now() + len;
        let task = Task::run(instance, "sum", &[Val::I32(1)]).with_deadline(deadline);
        let ticket = scheduler.spawn(task);
        while std::time::Instant::now() < deadline {
            std::hint::spin_loop();
        }
        event.happen();
        let outcome = ticket.wait();
        instance = match outcome.ending {
            // It stands where it was, with its future or behind it, and goes on.
            Ending::DeadlineExceeded if outcome.slices > 0 => {
                let rest = scheduler.spawn(Task::resume(outcome.instance.expect("it is there")));
                check(rest.wait(), &event, |_| false)
            }
            _ => check(outcome, &event, |ending| {
                matches!(ending, Ending::DeadlineExceeded)
            }),
        };
    }
}

/// What the many wait for: timers of an executor, and channels that other threads answer.
fn many(slots: u32, handle: tokio::runtime::Handle) -> Sandbox {
    let mut limits = Limits::default();
    limits.memory_len = 64 << 10;
    limits.stack_len = 64 << 10;
    let mut sandbox = Sandbox::with(slots, &limits);
    let (ask, mut asked) = mpsc::unbounded_channel::<(i32, oneshot::Sender<i32>)>();
    handle.spawn(async move {
        // Answers in another order than it is asked in.
        let mut held = Vec::new();
        while let Some((n, tell)) = asked.recv().await {
            held.push((n, tell));
            if asked.is_empty() || held.len() > 20 {
                while let Some((n, tell)) = held.pop() {
                    // Who has asked may have been cancelled.
                    let _ = tell.send(n);
                }
            }
        }
    });
    let wait = move |_: &Vmctx<'_>, n: i32| {
        let (handle, ask) = (handle.clone(), ask.clone());
        Awaiting::new(async move {
            if n % 3 == 0 {
                let len = Duration::from_micros(u64::from(n.unsigned_abs()) * 50);
                let timer = handle.spawn(async move { tokio::time::sleep(len).await });
                timer.await.expect("no panic");
                return Ok(n);
            }
            let (tell, told) = oneshot::channel();
            ask.send((n, tell)).expect("somebody listens");
            told.await.map_err(|_| HostError::new("nobody answers"))
        })
    };
    sandbox.linker.func("h", "wait", wait).expect("a new name");
    sandbox
}

#[test]
fn thousands_of_guests_wait_for_timers_and_channels_beside_endless_loops() {
    const GUESTS: i32 = 3_000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let sandbox = many(GUESTS as u32 + 4, runtime.handle().clone());
    let program = sandbox.program(GUEST);
    let instance = || sandbox.region.new_instance(&program).expect("a free slot");
    let scheduler = scheduler(2);
    let loops: Vec<_> = (0..4)
        .map(|_| scheduler.spawn(Task::run(instance(), "for_ever", &[])))
        .collect();
    let tickets: Vec<_> = (0..GUESTS)
        .map(|i| {
            let n = i % 7 + 1;
            let ticket = scheduler.spawn(Task::run(instance(), "sum", &[Val::I32(n)]));
            // Some are cancelled, wherever they are by then.
            let is_cancelled = i % 50 == 49;
            if is_cancelled {
                ticket.cancel();
            }
            (n, is_cancelled, ticket)
        })
        .collect();
    for (n, is_cancelled, ticket) in tickets {
        let outcome = ticket.wait();
        match outcome.ending {
            Ending::Returned(values) => {
                assert_eq!(i32::from(values), n * (n + 1) / 2);
                assert!(outcome.slices > 0 && !outcome.cpu_time.is_zero());
            }
            Ending::Cancelled => assert!(is_cancelled),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scheduler.waiting(), 0);
    for ticket in loops {
        assert!(!ticket.is_finished());
        ticket.cancel();
        assert!(matches!(ticket.wait().ending, Ending::Cancelled));
    }
    assert_eq!(sandbox.region.used_slots(), 0);
}
