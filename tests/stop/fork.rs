//! `fork(2)` while guests run and are suspended: the child goes on with the thread that forked, and with copies of
//! all guests that are nobody's just then.
//!
//! What is unsafe here: to fork.
#![allow(unsafe_code, reason = "a fork has no safe form; see the file's head")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use selvedge::{
    Engine, InstanceHandle, KillError, KillSuccess, KillSwitch, Program, Region, RunResult,
    RuntimeError, TerminationDetails, TrapCode, Val,
};
use selvedge_tests::children;
use selvedge_tests::sandbox::{fault, returned};
use selvedge_tests::threads::WhenDone;

use crate::guests::{self, KINDS};

const ROUNDS: [Val; 1] = [Val::I64(30_000)];
const SLICE: Duration = Duration::from_micros(100);

/// In a process of its own, whose other threads are known.
#[test]
fn x_24_guests_go_on_in_the_parent_and_in_the_child_of_a_fork() {
    children::check_ends("fork::child", "fork", 0);
}

/// Runs a body in a forked child, which must come to its end. It leaves everything as it is.
fn in_forked_child(body: impl FnOnce()) {
    // SAFETY: the child has this thread alone, and the others are in guests or on the way to them: none has a lock
    // that the body takes, and those of the allocator are the C library's care. It ends without destructors.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        // One that hangs is to end.
        // SAFETY: no pointers.
        unsafe { libc::alarm(600) };
        let done = catch_unwind(AssertUnwindSafe(body)).is_ok();
        // SAFETY: ends the process.
        unsafe { libc::_exit(if done { 7 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a status to be filled.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
        "the child ended with status {status:#x}"
    );
}

fn i64_of(result: Result<RunResult, RuntimeError>) -> i64 {
    match returned(result)[..] {
        [Val::I64(value)] => value,
        ref other => panic!("{other:?}"),
    }
}

fn is_remote<T>(result: &Result<T, RuntimeError>) -> bool {
    matches!(
        result,
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
    )
}

/// A guest of each kind, suspended where it stood after a slice, or before it began.
fn suspended(region: &Region, program: &Program) -> Vec<InstanceHandle> {
    let new = |kind: &&str| {
        let mut instance = region.new_instance(program).expect("a slot is free");
        // It ends in no slice.
        let much = [Val::I64(1 << 30)];
        let kind = if *kind == "hostcalls" {
            "for_ever"
        } else {
            kind
        };
        let args = if kind == "for_ever" { &[][..] } else { &much };
        let result = instance.run_for(SLICE, kind, args);
        assert!(result.expect("it is in order").is_preempted());
        instance
    };
    KINDS.iter().map(new).collect()
}

/// Whatever a guest can do, it does.
fn check_guests(region: &Region, program: &Program, expected: &[i64]) {
    let mut instance = region.new_instance(program).expect("a slot is free");
    assert!(instance.heap().expect("it has one").iter().all(|b| *b == 0));
    for (kind, &expected) in KINDS.into_iter().zip(expected) {
        assert_eq!(i64_of(instance.run(kind, &ROUNDS)), expected, "{kind}");
        // The timer of a forked thread is its own.
        let mut result = instance.run_for(SLICE, kind, &ROUNDS);
        while let Ok(RunResult::Preempted) = result {
            result = instance.resume_for(SLICE);
        }
        assert_eq!(i64_of(result), expected, "{kind}");
    }
    let trapped = fault(instance.run("trap", &ROUNDS));
    assert_eq!(trapped.code, TrapCode::Unreachable);
    for _ in 0..3 {
        let preempted = instance.run_for(SLICE, "for_ever", &[]);
        assert!(preempted.expect("it is in order").is_preempted());
        instance.reset().expect("it is in order");
        // A signal finds the thread by its number, which is another one in a child.
        let switch = instance.kill_switch();
        let result = thread::scope(|scope| {
            let killed = scope.spawn(move || switch.terminate());
            let result = instance.run("for_ever", &[]);
            assert!(killed.join().expect("it is in order").is_ok());
            result
        });
        assert!(is_remote(&result), "{result:?}");
        instance.reset().expect("it is in order");
    }
}

/// Lets the suspended ones go on, until the last was seen to make progress; then they are ended where they stand.
fn check_suspended(suspended: Vec<InstanceHandle>) {
    for (kind, mut instance) in KINDS.into_iter().zip(suspended) {
        for _ in 0..2 {
            let result = instance.resume_for(SLICE);
            assert!(result.expect("it is in order").is_preempted(), "{kind}");
        }
        let switch = instance.kill_switch();
        assert_eq!(switch.terminate(), Ok(KillSuccess::Pending), "{kind}");
        assert!(is_remote(&instance.resume()), "{kind}");
        assert_eq!(switch.terminate(), Err(KillError::Invalid));
    }
}

/// Those whose result is known go on to their end.
fn check_short(short: Vec<InstanceHandle>, expected: &[i64]) {
    for ((kind, &expected), mut instance) in KINDS.into_iter().zip(expected).zip(short) {
        if !instance.is_preempted() {
            continue;
        }
        assert_eq!(i64_of(instance.resume()), expected, "{kind}");
    }
}

/// Not a test of its own: the body of the child that forks. Without a case it does nothing.
#[test]
fn child() {
    if children::case().is_none() {
        return;
    }
    let sandbox = guests::sandbox(32);
    let (region, program) = (&sandbox.region, &sandbox.program(guests::GUEST));
    let new = || region.new_instance(program).expect("a slot is free");
    let expected = KINDS.map(|kind| i64_of(new().run(kind, &ROUNDS)));
    let done = AtomicBool::new(false);
    for round in 0..10 {
        let mut looping = new();
        let looping_switch: KillSwitch = looping.kill_switch();
        let mut ready = new();
        let ready_switch = ready.kill_switch();
        let endless = suspended(region, program);
        // They are shorter than a slice on some machines.
        let short: Vec<_> = KINDS
            .iter()
            .map(|kind| {
                let mut instance = new();
                let result = instance.run_for(SLICE, kind, &ROUNDS);
                let result = result.expect("it is in order");
                assert_eq!(result.is_preempted(), instance.is_preempted());
                instance
            })
            .collect();
        done.store(false, Relaxed);
        thread::scope(|scope| {
            let _done = WhenDone(&done);
            let looping = scope.spawn(move || looping.run("for_ever", &[]));
            let mut trapping = new();
            let done = &done;
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    fault(trapping.run("trap", &ROUNDS));
                }
            });
            // At different times of their lives.
            for _ in 0..round * 1_000 {
                std::hint::spin_loop();
            }
            let mut endless = Some(endless);
            let mut short = Some(short);
            in_forked_child(|| {
                // The parent's thread can't be hit from here.
                let _ = looping_switch.terminate();
                check_guests(region, program, &expected);
                check_short(short.take().expect("it is there"), &expected);
                check_suspended(endless.take().expect("it is there"));
                assert_eq!(ready_switch.terminate(), Ok(KillSuccess::Cancelled));
                assert!(is_remote(&ready.run("integers", &ROUNDS)));
            });
            // Nothing of that has happened here.
            assert!(!looping.is_finished());
            assert_eq!(i64_of(ready.run("integers", &ROUNDS)), expected[0]);
            assert_eq!(ready_switch.terminate(), Err(KillError::Invalid));
            check_short(short.take().expect("it is there"), &expected);
            check_suspended(endless.take().expect("it is there"));
            check_guests(region, program, &expected);
            assert!(looping_switch.terminate().is_ok());
            assert!(is_remote(&looping.join().expect("it is in order")));
        });
    }
    assert_eq!(region.used_slots(), 0);
}

/// In a process of its own, as the other.
#[test]
fn epoch_deadlines_hold_in_a_child_that_is_forked_while_other_threads_set_and_reach_them() {
    children::check_ends("fork::child_at_epochs", "epochs", 0);
}

/// Sets deadlines, which another thread reaches, until it is over.
fn hammer(engine: &Engine, mut instance: InstanceHandle, done: &AtomicBool) {
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                engine.increment_epoch();
            }
        });
        let mut ticks = 0;
        while !done.load(Relaxed) {
            ticks = (ticks + 1) % 5;
            let set = instance.set_epoch_deadline(ticks);
            set.expect("guests can be suspended");
            if ticks == 4 {
                instance.clear_epoch_deadline();
            }
        }
    });
}

fn expires(result: Result<RunResult, RuntimeError>) {
    assert_eq!(fault(result).code, TrapCode::EpochDeadline);
}

/// What a child does with guests whose deadlines were set before the fork, and with others.
fn check_deadlines(engine: &Engine, mut before: Vec<InstanceHandle>, mut new: InstanceHandle) {
    // One that is moved, and one that is taken back.
    before[0].set_epoch_deadline(1).expect("it is in order");
    before[1].clear_epoch_deadline();
    let last = before
        .iter()
        .filter_map(|instance| instance.epoch_deadline());
    let last = last.max().expect("some have one");
    while engine.increment_epoch() < last {}
    for (n, instance) in before.iter_mut().enumerate() {
        if n != 1 {
            expires(instance.run("for_ever", &[]));
        }
        i64_of({
            instance.clear_epoch_deadline();
            instance.run("integers", &ROUNDS)
        });
    }
    // While it runs.
    new.set_epoch_deadline(1_000).expect("it is in order");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = WhenDone(&done);
        scope.spawn(|| {
            while !done.load(Relaxed) {
                engine.increment_epoch();
            }
        });
        expires(new.run("for_ever", &[]));
    });
}

/// Not a test of its own, as [`child`].
#[test]
fn child_at_epochs() {
    if children::case().is_none() {
        return;
    }
    let sandbox = guests::sandbox(16);
    let (engine, region) = (&sandbox.engine, &sandbox.region);
    let program = &sandbox.program(guests::GUEST);
    let new = || region.new_instance(program).expect("a slot is free");
    for round in 0..200_u64 {
        let before = |ticks: u64| {
            let mut instance = new();
            let set = instance.set_epoch_deadline(ticks);
            set.expect("guests can be suspended");
            instance
        };
        let before = || [20_000, 30_000, 40_000, 1].map(before).into();
        let (first, second): (Vec<_>, Vec<_>) = (before(), before());
        let (in_child, in_grandchild) = (new(), new());
        let (of_parent, of_child) = (new(), new());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let _done = WhenDone(&done);
            scope.spawn(|| hammer(engine, of_parent, &done));
            for _ in 0..round * 100 {
                std::hint::spin_loop();
            }
            in_forked_child(|| {
                if round % 10 == 0 {
                    // A child of the child, in which others are at it again.
                    let done = AtomicBool::new(false);
                    thread::scope(|scope| {
                        let _done = WhenDone(&done);
                        scope.spawn(|| hammer(engine, of_child, &done));
                        in_forked_child(|| check_deadlines(engine, second, in_grandchild));
                    });
                }
                check_deadlines(engine, first, in_child);
            });
        });
    }
}
