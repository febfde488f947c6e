//! The scheduler: guests in turn on few threads, however they end. Nothing here depends on how long anything takes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use selvedge::{
    Ending, Engine, Flow, FuelCosts, HostError, InstanceHandle, Limits, Linker, Outcome,
    RuntimeError, Scheduler, Settings, Task, TerminationDetails, Ticket, TrapCode, Val, Vmctx,
    Yield,
};
use selvedge_tests::sandbox::{self, Sandbox};

use crate::guests;

#[path = "../../crates/selvedge/examples/crowd.rs"]
mod example;

const SLICE: Duration = Duration::from_micros(200);

/// Calls `h.f` and adds one to its result.
const CALLS: &str = r#"(module (import "h" "f" (func $f (result i32)))
    (func (export "run") (result i32) (i32.add (call $f) (i32.const 1)))
    (func (export "three") (result i32) (i32.const 3)))"#;

fn scheduler(threads: usize) -> Scheduler {
    Scheduler::new(threads, SLICE).expect("it has threads")
}

fn for_ever(instance: InstanceHandle) -> Task {
    Task::run(instance, "for_ever", &[])
}

/// The one value that a guest returned.
fn returned(ticket: Ticket) -> Val {
    match ticket.wait().ending {
        Ending::Returned(values) => values.into_values().remove(0),
        other => panic!("the guest was to return: {other:?}"),
    }
}

/// That guests still have their turns.
fn is_alive(scheduler: &Scheduler) {
    let task = Task::run(guests::instance(), "integers", &[Val::I64(10)]);
    assert!(matches!(returned(scheduler.spawn(task)), Val::I64(_)));
}

/// An instance of [`CALLS`] whose function is this.
fn calling<R: selvedge::HostReturn<Results = i32> + 'static>(
    f: impl Fn(&Vmctx<'_>) -> R + Send + Sync + 'static,
) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", f).expect("it is in order");
    sandbox.instance(CALLS)
}

/// An instance that says when it is in its host function, and stays there until it is told something.
fn gated() -> (InstanceHandle, Receiver<()>, Sender<()>) {
    let (entered, is_entered) = channel();
    let (leave, may_leave) = channel();
    let ends = Mutex::new((entered, may_leave));
    let instance = calling(move |_: &Vmctx<'_>| -> i32 {
        let ends = ends.lock().expect("nobody panics with it");
        ends.0.send(()).expect("the test waits for it");
        ends.1.recv().expect("the test sends it");
        1
    });
    (instance, is_entered, leave)
}

fn reset_and_run(outcome: Outcome) {
    let mut instance = outcome.instance.expect("it is given back");
    instance.reset().expect("it can be reset");
    let result = instance.run("integers", &[Val::I64(10)]);
    let result = result.expect("it is as new");
    assert!(result.is_returned());
}

#[test]
fn guests_that_end_do_so_beside_more_endless_loops_than_threads() {
    let sandbox = guests::sandbox(40);
    for threads in [1, 2, 5] {
        let scheduler = scheduler(threads);
        let program = sandbox.program(guests::GUEST);
        let instance = || sandbox.region.new_instance(&program).unwrap();
        let loops: Vec<_> = (0..8)
            .map(|_| scheduler.spawn(for_ever(instance())))
            .collect();
        let rounds = [Val::I64(100_000)];
        let expected: Vec<_> = guests::KINDS
            .iter()
            .map(|kind| {
                let result = instance().run(kind, &rounds).unwrap();
                result.unwrap_returned().into_values().remove(0).i64()
            })
            .collect();
        let tickets: Vec<_> = guests::KINDS
            .iter()
            .map(|kind| scheduler.spawn(Task::run(instance(), kind, &rounds)))
            .collect();
        for (ticket, expected) in tickets.into_iter().zip(expected) {
            assert_eq!(returned(ticket).i64(), expected);
        }
        // Those that were in the queue before the first of the others had a slice before it, and are still there.
        for ticket in loops {
            assert!(!ticket.is_finished());
            ticket.cancel();
            let outcome = ticket.wait();
            assert!(matches!(outcome.ending, Ending::Cancelled), "{outcome:?}");
            // With several threads, one may have taken it and got no further.
            assert!(outcome.slices > 0 || threads > 1, "{outcome:?}");
            assert_eq!(outcome.cpu_time.is_zero(), outcome.slices == 0);
            reset_and_run(outcome);
        }
        is_alive(&scheduler);
    }
}

#[test]
fn turns_go_round() {
    let scheduler = scheduler(1);
    // The first one holds the thread until all are in the queue.
    let (gate, is_entered, leave) = gated();
    let gate = scheduler.spawn(Task::run(gate, "run", &[]));
    is_entered.recv().unwrap();
    let loops: Vec<_> = (0..5)
        .map(|_| scheduler.spawn(for_ever(guests::instance())))
        .collect();
    // It can't end in one slice, and whenever it has had one, so have the loops.
    let rounds = [Val::I64(10_000_000)];
    let long = scheduler.spawn(Task::run(guests::instance(), "integers", &rounds));
    assert_eq!(scheduler.queued(), 6);
    leave.send(()).unwrap();
    assert_eq!(returned(gate).i32(), Some(2));
    let slices = long.wait().slices;
    assert!(slices > 1);
    for ticket in loops {
        ticket.cancel();
        assert!(ticket.wait().slices >= slices);
    }
}

#[test]
fn an_endless_loop_ends_at_its_deadline_and_shows_where_it_stood() {
    let scheduler = scheduler(1);
    let mut time = Duration::from_millis(10);
    loop {
        time *= 2;
        let deadline = Instant::now() + time;
        let ticket = scheduler.spawn(for_ever(guests::instance()).with_deadline(deadline));
        let outcome = ticket.wait();
        assert!(matches!(outcome.ending, Ending::DeadlineExceeded));
        assert!(Instant::now() >= deadline);
        let instance = outcome.instance.as_ref().unwrap();
        // On a machine that is so busy that its turn came after the deadline it has not begun, and if the turn came
        // just before, it stands ahead of its first frame.
        assert_eq!(instance.is_preempted(), outcome.slices > 0);
        assert_eq!(outcome.cpu_time.is_zero(), outcome.slices == 0);
        let frames = instance.backtrace().frames.len();
        assert!(frames <= 1 && frames as u64 <= outcome.slices);
        reset_and_run(outcome);
        if frames == 1 {
            break;
        }
    }
}

#[test]
fn a_guest_whose_deadline_is_over_does_not_begin() {
    let scheduler = scheduler(2);
    let called = Arc::new(AtomicBool::new(false));
    let calls = called.clone();
    let instance = calling(move |_: &Vmctx<'_>| {
        calls.store(true, Ordering::Relaxed);
        1
    });
    let task = Task::run(instance, "run", &[]).with_deadline(Instant::now());
    let outcome = scheduler.spawn(task).wait();
    assert!(matches!(outcome.ending, Ending::DeadlineExceeded));
    assert_eq!((outcome.slices, outcome.cpu_time), (0, Duration::ZERO));
    assert!(!called.load(Ordering::Relaxed));
    // Nothing has happened to it.
    let again = scheduler.spawn(Task::run(outcome.instance.unwrap(), "run", &[]));
    assert_eq!(returned(again).i32(), Some(2));
}

#[test]
fn a_deadline_that_is_not_met_changes_nothing_and_resuming_a_late_guest_goes_on() {
    let scheduler = scheduler(1);
    let rounds = [Val::I64(3_000_000)];
    let expected = guests::instance().run("vectors", &rounds).unwrap();
    let expected = i64::from(expected.unwrap_returned());
    let mut outcome = None;
    // It gets to its end in pieces, each of which ends at a deadline.
    for piece in 0.. {
        let task = match outcome.take() {
            None => Task::run(guests::instance(), "vectors", &rounds),
            Some(instance) => Task::resume(instance),
        };
        let late = Instant::now() + Duration::from_millis(1);
        let far = Instant::now() + Duration::from_secs(1 << 30);
        // A piece that has not begun can't be resumed.
        let deadline = if piece > 3 { far } else { late };
        let done = scheduler.spawn(task.with_deadline(deadline)).wait();
        match done.ending {
            Ending::Returned(values) => {
                assert_eq!(i64::from(values), expected);
                break;
            }
            Ending::DeadlineExceeded => {
                assert!(piece <= 3);
                outcome = done.instance.filter(|instance| instance.is_preempted());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn errors_are_given_back_with_the_instance() {
    let scheduler = scheduler(1);
    let run = |name: &str, args: &[Val]| {
        scheduler
            .spawn(Task::run(guests::instance(), name, args))
            .wait()
    };
    let outcome = run("trap", &[Val::I64(1)]);
    match &outcome.ending {
        Ending::Failed(RuntimeError::RuntimeFault(fault)) => {
            assert_eq!(fault.code, TrapCode::Unreachable);
            assert_eq!(fault.backtrace.frames.len(), 1);
        }
        other => panic!("{other:?}"),
    }
    assert!(outcome.instance.as_ref().unwrap().is_faulted());
    reset_and_run(outcome);
    assert!(matches!(
        run("nothing", &[]).ending,
        Ending::Failed(RuntimeError::UnknownExport { .. })
    ));
    assert!(matches!(
        run("trap", &[]).ending,
        Ending::Failed(RuntimeError::TypeMismatch { .. })
    ));
    let outcome = scheduler.spawn(Task::resume(guests::instance())).wait();
    assert!(matches!(
        outcome.ending,
        Ending::Failed(RuntimeError::InvalidArgument(_))
    ));
    assert!(outcome.instance.unwrap().is_ready());
    let failing = calling(|_: &Vmctx<'_>| -> Result<i32, HostError> { Err(HostError::new("no")) });
    let outcome = scheduler.spawn(Task::run(failing, "run", &[])).wait();
    assert!(matches!(
        outcome.ending,
        Ending::Failed(RuntimeError::HostFunction(_))
    ));
}

#[test]
fn panics_of_host_functions_end_their_guest_only() {
    let scheduler = scheduler(1);
    let panicking = |catch| {
        let mut instance = calling(|_: &Vmctx<'_>| -> i32 { panic!("on purpose") });
        instance.set_catch_panics(catch);
        scheduler.spawn(Task::run(instance, "run", &[])).wait()
    };
    for _ in 0..3 {
        let outcome = panicking(false);
        match outcome.ending {
            Ending::Panicked(payload) => {
                assert_eq!(payload.downcast_ref::<&str>(), Some(&"on purpose"));
            }
            other => panic!("{other:?}"),
        }
        let mut instance = outcome.instance.unwrap();
        assert!(instance.is_terminated());
        instance.reset().unwrap();
        let three = scheduler.spawn(Task::run(instance, "three", &[]));
        assert_eq!(returned(three).i32(), Some(3));
        assert!(matches!(
            panicking(true).ending,
            Ending::Failed(RuntimeError::RuntimeTerminated(
                TerminationDetails::OtherPanic(_)
            ))
        ));
    }
}

/// Panics when it is dropped, and tells of it.
struct Bomb(Sender<()>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.send(()).expect("the test waits for it");
        panic!("on purpose");
    }
}

#[test]
fn a_guest_without_a_ticket_runs_to_its_end_and_is_dropped() {
    let scheduler = scheduler(1);
    let (dropped, is_dropped) = channel();
    let mut instance = guests::instance();
    instance.insert_embed_ctx(Bomb(dropped));
    drop(scheduler.spawn(Task::run(instance, "integers", &[Val::I64(1_000_000)])));
    is_dropped.recv().unwrap();
    // The destructor's panic has not ended the thread.
    is_alive(&scheduler);
}

#[test]
fn guests_in_a_host_function_end_when_it_returns() {
    let scheduler = scheduler(1);
    let (instance, is_entered, leave) = gated();
    let ticket = scheduler.spawn(Task::run(instance, "run", &[]));
    is_entered.recv().unwrap();
    let canceller = ticket.canceller();
    thread::spawn(move || canceller.cancel()).join().unwrap();
    assert!(!ticket.is_finished());
    leave.send(()).unwrap();
    let outcome = ticket.wait();
    assert!(matches!(outcome.ending, Ending::Cancelled), "{outcome:?}");
    assert!(outcome.instance.unwrap().is_terminated());

    // One that waits interruptibly is woken.
    let (entered, is_entered) = channel();
    let waiting = calling(move |vmctx: &Vmctx<'_>| {
        let (wake, woken) = channel();
        let wake = Mutex::new(wake);
        let wake = Arc::new(move || {
            // Nobody waits any more if the wait was just over.
            let _ = wake.lock().unwrap().send(());
        });
        entered.send(()).unwrap();
        vmctx.wait_interruptibly(wake, || woken.recv().unwrap());
        1
    });
    let ticket = scheduler.spawn(Task::run(waiting, "run", &[]));
    is_entered.recv().unwrap();
    ticket.cancel();
    assert!(matches!(ticket.wait().ending, Ending::Cancelled));
}

#[test]
fn cancelling_what_waits_or_has_ended() {
    let scheduler = scheduler(1);
    let (gate, is_entered, leave) = gated();
    let gate = scheduler.spawn(Task::run(gate, "run", &[]));
    is_entered.recv().unwrap();
    let queued = scheduler.spawn(Task::run(guests::instance(), "integers", &[Val::I64(1)]));
    queued.cancel();
    queued.cancel();
    leave.send(()).unwrap();
    let outcome = queued.wait();
    assert!(matches!(outcome.ending, Ending::Cancelled));
    assert_eq!(outcome.slices, 0);
    reset_and_run(outcome);

    // A guest that has ended is nobody's any more.
    let canceller = gate.canceller();
    let outcome = gate.wait();
    assert!(matches!(outcome.ending, Ending::Returned(_)));
    canceller.cancel();
    let mut instance = outcome.instance.unwrap();
    assert_eq!(
        i32::from(instance.run("three", &[]).unwrap().unwrap_returned()),
        3
    );
}

#[test]
fn a_guest_that_a_host_function_suspends_is_given_back() {
    let scheduler = scheduler(2);
    let instance = calling(|_: &Vmctx<'_>| Flow::from(Yield::returning(6).with_val("six?")));
    let ticket = scheduler.spawn(Task::run(instance, "run", &[]));
    let canceller = ticket.canceller();
    let outcome = ticket.wait();
    match outcome.ending {
        Ending::Yielded(val) => assert!(val.is::<&str>()),
        other => panic!("{other:?}"),
    }
    // Nobody can end it there now.
    canceller.cancel();
    let resumed = scheduler.spawn(Task::resume(outcome.instance.unwrap()));
    assert_eq!(returned(resumed).i32(), Some(7));
}

#[test]
fn a_guest_that_is_suspended_in_the_middle_of_a_host_function_is_refused() {
    let unwound = Arc::new(AtomicU32::new(0));
    let mut sandbox = Sandbox::new();
    let count = unwound.clone();
    let suspending = move |vmctx: &Vmctx<'_>| -> Result<i32, HostError> {
        struct Count<'a>(&'a AtomicU32);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let _count = Count(&count);
        vmctx.yield_()?;
        Ok(1)
    };
    sandbox
        .linker
        .suspending_func("h", "f", suspending)
        .unwrap();
    let scheduler = scheduler(1);
    let task = Task::run(sandbox.instance(CALLS), "run", &[]);
    let outcome = scheduler.spawn(task).wait();
    assert!(
        matches!(
            outcome.ending,
            Ending::Failed(RuntimeError::YieldRefused(_))
        ),
        "{outcome:?}"
    );
    assert!(outcome.instance.is_none());
    assert_eq!(unwound.load(Ordering::Relaxed), 1);
    assert_eq!(sandbox.region.used_slots(), 0);

    // One that is bound to this thread goes back to it as it is.
    let mut instance = sandbox.instance(CALLS);
    assert!(!instance.is_bound_to_thread());
    assert!(instance.run("run", &[]).unwrap().is_yielded());
    assert!(instance.is_bound_to_thread());
    let outcome = scheduler.spawn(Task::resume(instance)).wait();
    assert!(matches!(
        outcome.ending,
        Ending::Failed(RuntimeError::OtherThread)
    ));
    let mut instance = outcome.instance.unwrap();
    assert_eq!(i32::from(instance.resume().unwrap().unwrap_returned()), 2);
}

#[test]
fn a_guest_that_has_no_fuel_left_is_given_back_and_goes_on_with_more() {
    let engine = Engine::new(&Settings::default().with_fuel(FuelCosts::default())).unwrap();
    let wat = r#"(module (func (export "run") (result i64) (local $i i64)
        (loop $l
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (i64.const 1000))))
        (local.get $i)))"#;
    let module = engine.compile(wat.as_bytes()).unwrap();
    let program = Linker::new(&engine).program(&module).unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    let mut instance = region.new_instance(&program).unwrap();
    instance.set_suspend_on_out_of_fuel(true).unwrap();
    instance.set_fuel(1_000).unwrap();
    let scheduler = scheduler(1);
    let mut task = Task::run(instance, "run", &[]);
    let mut times = 0;
    loop {
        let outcome = scheduler.spawn(task).wait();
        match outcome.ending {
            Ending::Returned(values) => {
                assert_eq!(i64::from(values), 1_000);
                break;
            }
            Ending::OutOfFuel => times += 1,
            other => panic!("{other:?}"),
        }
        let mut instance = outcome.instance.unwrap();
        assert!(instance.is_out_of_fuel());
        instance.add_fuel(1_000).unwrap();
        task = Task::resume(instance);
    }
    assert!(times > 1, "{times}");
}

#[test]
fn dropping_the_scheduler_ends_all_its_guests() {
    let sandbox = guests::sandbox(20);
    let program = sandbox.program(guests::GUEST);
    let scheduler = scheduler(2);
    let tickets: Vec<_> = (0..20)
        .map(|_| scheduler.spawn(for_ever(sandbox.region.new_instance(&program).unwrap())))
        .collect();
    let (gate, is_entered, leave) = gated();
    let gate = scheduler.spawn(Task::run(gate, "run", &[]));
    // All loops have had a slice by then, and one thread is in a host function.
    is_entered.recv().unwrap();
    let dropped = thread::spawn(move || drop(scheduler));
    for ticket in tickets {
        let outcome = ticket.wait();
        assert!(matches!(outcome.ending, Ending::ShutDown), "{outcome:?}");
        reset_and_run(outcome);
    }
    // The last thread is waited for.
    assert!(!gate.is_finished());
    leave.send(()).unwrap();
    assert!(matches!(gate.wait().ending, Ending::ShutDown));
    dropped.join().unwrap();
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn a_guest_may_drop_the_scheduler_that_runs_it() {
    let scheduler = Arc::new(Mutex::new(None));
    let held = scheduler.clone();
    let instance = calling(move |_: &Vmctx<'_>| -> i32 {
        drop(held.lock().unwrap().take());
        1
    });
    let ticket = {
        let mut scheduler_now = scheduler.lock().unwrap();
        let running = self::scheduler(2);
        let ticket = running.spawn(Task::run(instance, "run", &[]));
        *scheduler_now = Some(running);
        ticket
    };
    assert!(matches!(ticket.wait().ending, Ending::ShutDown));
    assert!(scheduler.lock().unwrap().is_none());
}

#[test]
fn a_scheduler_has_a_thread() {
    assert!(matches!(
        Scheduler::new(0, SLICE),
        Err(RuntimeError::InvalidArgument(_))
    ));
    // Any slice will do.
    for slice in [Duration::ZERO, Duration::MAX] {
        let scheduler = Scheduler::new(1, slice).unwrap();
        is_alive(&scheduler);
    }
}

#[test]
fn ten_thousand_guests_end_beside_a_hundred_that_do_not() {
    let crowd = example::Crowd {
        // However busy the machine is.
        patience: Duration::from_secs(1 << 20),
        ..example::Crowd::default()
    };
    let (ending, endless) = crowd.run().unwrap();
    assert_eq!(
        (ending.count, ending.finished, ending.late),
        (9_900, 9_900, 0)
    );
    assert_eq!(
        (endless.count, endless.finished, endless.late),
        (100, 0, 100)
    );
    assert!(ending.slices >= 9_900, "{ending:?}");
}
