//! Guests that are stopped before every single instruction of theirs, and of the host's around them.

use std::cell::Cell;
use std::thread;

use selvedge::{
    InstanceHandle, KillError, KillSuccess, RuntimeError, TerminationDetails, TypedFunc, Val, Vmctx,
};
use selvedge_tests::sandbox::Sandbox;

use crate::stepping::{Plan, step};

/// Small guests, each with something else on the way in or out.
const SMALL: &str = r#"(module
    (import "h" "plain" (func $plain (param i64) (result i64)))
    (import "h" "nested" (func $nested (param i64) (result i64)))
    (import "h" "fails" (func $fails (param i64) (result i64)))
    (memory (export "heap") 1 4)
    (table 4 funcref)
    (elem (i32.const 1) $add)
    (type $of_two (func (param i64 i64) (result i64)))
    (global $g (mut i64) (i64.const 5))
    (func $add (type $of_two) (i64.add (local.get 0) (local.get 1)))
    (func (export "nothing") (param i64) (result i64) (local.get 0))
    (func (export "hostcall") (param i64) (result i64)
        (i64.add (call $plain (local.get 0)) (i64.const 3)))
    (func (export "nested") (param i64) (result i64)
        (i64.mul (call $nested (local.get 0)) (i64.const 3)))
    (func (export "inner") (param i64) (result i64)
        (i64.add (call $plain (local.get 0)) (i64.const 100)))
    (func (export "indirect") (param i64) (result i64)
        (call_indirect (type $of_two) (local.get 0) (i64.const 9) (i32.const 1)))
    (func (export "bulk") (param i64) (result i64)
        (i64.store (i32.const 8) (local.get 0))
        (i64.store (i32.const 0) (i64.const -1))
        (memory.copy (i32.const 4) (i32.const 0) (i32.const 12))
        (memory.fill (i32.const 2) (i32.const 7) (i32.const 3))
        (global.set $g (i64.add (global.get $g) (i64.load (i32.const 2))))
        (i64.xor (global.get $g) (i64.xor (i64.load (i32.const 0)) (i64.load (i32.const 8)))))
    (func (export "grow") (param i64) (result i64)
        (i64.add (local.get 0) (i64.extend_i32_u (memory.grow (i32.const 1)))))
    (func (export "trap") (param i64) (result i64)
        (i64.div_u (i64.add (local.get 0) (i64.const 1)) (i64.sub (local.get 0) (local.get 0))))
    (func (export "failing") (param i64) (result i64)
        (i64.add (call $fails (local.get 0)) (i64.const 3)))
    (tag $tag (param i64))
    (func (export "flags") (param i64) (result i64)
        (local $lo i64) (local $hi i64)
        (i64.add128 (i64.const -3) (local.get 0) (local.get 0) (i64.const -1))
        (local.set $hi) (local.set $lo)
        (i64.add128 (local.get $lo) (local.get $hi) (local.get $hi) (i64.const -9))
        (local.set $hi) (local.set $lo)
        (i64.mul_wide_u (local.get $lo) (i64.const 0x94d049bb133111eb))
        (local.set $hi (i64.add (local.get $hi))) (local.set $lo)
        (select (i64.xor (local.get $lo) (local.get $hi)) (local.get $lo)
            (i64.lt_s (local.get $lo) (local.get $hi))))
    (func (export "floats") (param i64) (result i64)
        (local $x f64)
        (local.set $x (f64.convert_i64_s (local.get 0)))
        (local.set $x (f64.div (f64.sqrt (local.get $x)) (f64.add (local.get $x) (f64.const 0.3))))
        (i64.add (i64.reinterpret_f64 (local.get $x))
            (i64.extend_i32_u (i32.reinterpret_f32 (f32.mul (f32.demote_f64 (local.get $x)) (f32.const 1.7))))))
    (func (export "vectors") (param i64) (result i64)
        (local $a v128) (local $b v128)
        (local.set $a (i64x2.splat (local.get 0)))
        (local.set $b (i32x4.mul (i8x16.swizzle (v128.const i32x4 1 2 3 4) (local.get $a)) (v128.const i32x4 5 6 7 8)))
        (local.set $a (v128.xor (f32x4.convert_i32x4_s (local.get $b)) (i16x8.add (local.get $a) (local.get $b))))
        (i64.xor (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a))))
    (func $odd (param i64 i64) (result i64)
        (return_call $even (i64.sub (local.get 0) (i64.const 1)) (i64.add (local.get 1) (local.get 0)) (f64.const 2)))
    (func $even (param i64 i64 f64) (result i64)
        (if (i64.le_s (local.get 0) (i64.const 1)) (then (return (local.get 1))))
        (return_call $odd (i64.sub (local.get 0) (i64.const 1)) (i64.mul (local.get 1) (i64.const 3))))
    (func (export "tail") (param i64) (result i64)
        (call $odd (local.get 0) (i64.const 1)))
    (func $thrower (param i64) (throw $tag (i64.add (local.get 0) (i64.const 1))))
    (func (export "throws") (param i64) (result i64)
        (block $caught (result i64)
            (try_table (catch $tag $caught) (call $thrower (local.get 0)))
            (i64.const 0))
        (i64.add (local.get 0)))
)"#;

/// Those that return, each another way in or out.
const GOING_ON: [&str; 6] = ["nothing", "hostcall", "nested", "indirect", "bulk", "grow"];
/// Those that return, each with other state.
const COMPUTING: [&str; 5] = ["flags", "floats", "vectors", "tail", "throws"];
/// Those that end otherwise.
const ENDING: [&str; 2] = ["trap", "failing"];

/// The argument of every call.
const ARG: i64 = 7;

fn small() -> (Sandbox, InstanceHandle) {
    let mut sandbox = Sandbox::with(1, &selvedge::Limits::default());
    let plain = |_: &Vmctx<'_>, x: i64| x * 2;
    let nested = |vmctx: &Vmctx<'_>, _: i64| -> Result<i64, selvedge::HostError> {
        match vmctx.call_export("inner", &[Val::I64(ARG)])?[..] {
            [Val::I64(x)] => Ok(x + 1),
            ref other => panic!("{other:?}"),
        }
    };
    let fails = |vmctx: &Vmctx<'_>, _: i64| vmctx.terminate::<i64, _>("of its own");
    sandbox
        .linker
        .func("h", "plain", plain)
        .expect("it is in order")
        .func("h", "nested", nested)
        .expect("it is in order")
        .func("h", "fails", fails)
        .expect("it is in order");
    let instance = sandbox.instance(SMALL);
    (sandbox, instance)
}

/// What a run comes to, as far as it can be compared.
fn told(result: Result<i64, RuntimeError>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote)) => "Remote".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn call(instance: &mut InstanceHandle, name: &str) -> Result<i64, RuntimeError> {
    let func: TypedFunc<i64, i64> = instance.typed_func(name)?;
    func.call(instance, ARG)
}

/// Calls a function again and again, and does `act` before its first instruction, before its second, until it has
/// no more; `check` sees each result. How many there were.
fn at_every(
    instance: &mut InstanceHandle,
    (delay, on_guest_stack): (u64, bool),
    name: &str,
    act: impl Fn(&mut InstanceHandle) -> Box<dyn Fn()>,
    mut check: impl FnMut(&mut InstanceHandle, u64, Result<i64, RuntimeError>),
) -> u64 {
    // The way out of a fault is long, and so is that into an inner guest, and the same at most instructions.
    let long = name == "nested" || ENDING.contains(&name);
    let stride = if long && !on_guest_stack { 7 } else { 1 };
    let mut at = 1;
    loop {
        let act = act(instance);
        let func: TypedFunc<i64, i64> = instance.typed_func(name).expect("it is in order");
        let plan = Plan {
            at,
            delay,
            on_guest_stack,
        };
        let (result, acted) = step(plan, &*act, || func.call(instance, ARG));
        if !acted {
            return at - 1;
        }
        check(instance, at, result);
        at += stride;
    }
}

thread_local! {
    /// What the switch of this thread's run has said.
    static SAID: Cell<Option<Result<KillSuccess, KillError>>> = const { Cell::new(None) };
}

fn kill(instance: &mut InstanceHandle) -> Box<dyn Fn()> {
    let switch = instance.kill_switch();
    Box::new(move || SAID.set(Some(switch.terminate())))
}

/// Kills a guest at every instruction from before the call to after it, with signals that are so late; what the
/// switches have said, one after the other.
fn kill_at_every(name: &str, delay: u64) -> Vec<Result<KillSuccess, KillError>> {
    let (_, mut instance) = small();
    let undisturbed = told(call(&mut instance, name));
    instance.reset().expect("it is in order");
    let mut seen = Vec::new();
    let check = |instance: &mut InstanceHandle, at, result| {
        let said = SAID.take().expect("it is in order");
        let result = told(result);
        let what = format!("{name} at {at}: {said:?}, {result}");
        match said {
            // Whoever ends by itself, too, says so; but not if the guest was ended before that.
            Ok(_) if ENDING.contains(&name) => {
                assert!(result == undisturbed || result == "Remote", "{what}");
            }
            Ok(_) => assert_eq!(result, "Remote", "{what}"),
            Err(_) => assert_eq!(result, undisturbed, "{what}"),
        }
        if seen.last() != Some(&said) {
            seen.push(said);
        }
        instance.reset().expect("it is in order");
        assert_eq!(
            told(call(instance, name)),
            undisturbed,
            "afterwards: {what}"
        );
        instance.reset().expect("it is in order");
    };
    at_every(&mut instance, (delay, false), name, kill, check);
    seen
}

const CANCELLED: Result<KillSuccess, KillError> = Ok(KillSuccess::Cancelled);
const SIGNALLED: Result<KillSuccess, KillError> = Ok(KillSuccess::Signalled);
const PENDING: Result<KillSuccess, KillError> = Ok(KillSuccess::Pending);
const LATE: Result<KillSuccess, KillError> = Err(KillError::NotTerminable);
const OVER: Result<KillSuccess, KillError> = Err(KillError::Invalid);

#[test]
fn x_24_a_kill_before_any_instruction_ends_the_run_or_says_that_it_does_not() {
    let way = [CANCELLED, PENDING, SIGNALLED, LATE, OVER];
    assert_eq!(kill_at_every("nothing", 0), way);
    let way = [
        CANCELLED, PENDING, SIGNALLED, PENDING, SIGNALLED, LATE, OVER,
    ];
    assert_eq!(kill_at_every("hostcall", 0), way);
}

#[test]
fn x_24_a_kill_before_any_instruction_of_an_inner_guest_ends_the_outer_one() {
    let seen = kill_at_every("nested", 0);
    assert_eq!(seen.first(), Some(&CANCELLED));
    assert_eq!(seen.last(), Some(&OVER));
    // In the outer guest, the inner one, its host function, the inner one, the outer one.
    let signalled = seen.iter().filter(|&&said| said == SIGNALLED).count();
    assert!(signalled >= 3, "{seen:?}");
}

#[test]
fn x_24_a_signal_that_comes_late_hits_its_run_or_none() {
    for delay in [3, 40] {
        let way = [CANCELLED, PENDING, SIGNALLED, LATE, OVER];
        assert_eq!(kill_at_every("nothing", delay), way);
    }
}

#[test]
fn x_24_a_kill_before_any_instruction_of_a_guest_that_ends_otherwise() {
    for name in ENDING {
        let seen = kill_at_every(name, 0);
        assert_eq!(seen.last(), Some(&OVER), "{name}");
        assert!(seen.contains(&SIGNALLED), "{name}");
    }
}

#[test]
fn x_23_a_kill_at_every_instruction_leaves_a_clean_slot() {
    for name in GOING_ON {
        let (sandbox, mut instance) = small();
        let undisturbed = told(call(&mut instance, name));
        instance.reset().unwrap();
        let program = sandbox.linker.program(instance.module()).unwrap();
        let check = |instance: &mut InstanceHandle, at, result| {
            let said = SAID.take().unwrap();
            assert_eq!(said.is_ok(), told(result) == "Remote", "{name} at {at}");
            // The slot is the region's only one, so that the next instance gets it.
            instance.reset().unwrap();
            assert!(
                instance.heap().unwrap().iter().all(|&byte| byte == 0),
                "{name} at {at}"
            );
            assert_eq!(told(call(instance, name)), undisturbed, "{name} after {at}");
            instance.reset().unwrap();
        };
        let count = at_every(&mut instance, (0, true), name, kill, check);
        assert!(count > 10, "{name}: {count}");
        let switch = instance.kill_switch();
        drop(instance);
        assert_eq!(switch.terminate(), OVER, "{name}");
        let mut next = sandbox.region.new_instance(&program).unwrap();
        assert!(next.heap().unwrap().iter().all(|&byte| byte == 0));
        assert_eq!(told(call(&mut next, name)), undisturbed, "{name}");
    }
}

/// Resumes until the end, every other time on another thread.
fn go_on(instance: &mut InstanceHandle, elsewhere: bool) -> String {
    let resumed = if elsewhere {
        thread::scope(|scope| {
            scope
                .spawn(|| instance.resume())
                .join()
                .expect("it is in order")
        })
    } else {
        instance.resume()
    };
    told(
        resumed.map(|result| match result.unwrap_returned().values() {
            [Val::I64(value)] => *value,
            other => panic!("{other:?}"),
        }),
    )
}

/// Suspends a guest at every instruction; how many there were, and how often it was suspended.
fn suspend_at_every(name: &str, (delay, on_guest_stack): (u64, bool)) -> (u64, u64) {
    let (_, mut instance) = small();
    let undisturbed = told(call(&mut instance, name));
    instance.reset().expect("it is in order");
    let switch = instance.preempt_switch().expect("it is in order");
    let act = |_: &mut InstanceHandle| -> Box<dyn Fn()> {
        let switch = switch.clone();
        Box::new(move || {
            let _ = switch.preempt();
        })
    };
    let mut suspended = 0;
    let check = |instance: &mut InstanceHandle, at: u64, result| {
        let result = if instance.is_preempted() {
            suspended += 1;
            // It can be walked wherever it stands.
            assert!(instance.backtrace().frames.len() <= 2, "{name} at {at}");
            go_on(instance, at.is_multiple_of(3))
        } else {
            told(result)
        };
        assert_eq!(result, undisturbed, "{name} at {at}");
        instance.reset().expect("it is in order");
        // No wish is left for the next run.
        assert_eq!(told(call(instance, name)), undisturbed, "{name} after {at}");
        instance.reset().expect("it is in order");
    };
    let count = at_every(&mut instance, (delay, on_guest_stack), name, act, check);
    (count, suspended)
}

#[test]
fn x_21_a_guest_that_is_suspended_at_any_instruction_computes_the_same() {
    for name in GOING_ON.into_iter().chain(COMPUTING).chain(["trap"]) {
        let (count, suspended) = suspend_at_every(name, (0, true));
        assert!(
            suspended > 5 && suspended <= count,
            "{name}: {suspended} of {count}"
        );
    }
}

#[test]
fn x_24_a_wish_to_suspend_before_any_instruction_is_fulfilled_or_forgotten() {
    for (name, delay) in [("nothing", 0), ("hostcall", 0), ("nothing", 5)] {
        let (count, suspended) = suspend_at_every(name, (delay, false));
        assert!(
            suspended > 5 && suspended < count,
            "{name}: {suspended} of {count}"
        );
    }
}

/// Reaches the epoch deadline of a guest at every instruction; how many there were, and how often it was stopped. What it
/// comes to when it goes on, or else the trap, is compared.
fn reach_at_every(name: &str, suspends: bool, (delay, on_guest_stack): (u64, bool)) -> (u64, u64) {
    let (sandbox, mut instance) = small();
    let undisturbed = told(call(&mut instance, name));
    instance.reset().expect("it is in order");
    if suspends {
        instance.epoch_deadline_suspend();
    }
    let act = |instance: &mut InstanceHandle| -> Box<dyn Fn()> {
        instance.set_epoch_deadline(1).expect("it is in order");
        let engine = sandbox.engine.clone();
        Box::new(move || {
            engine.increment_epoch();
        })
    };
    let mut stopped = 0;
    let check = |instance: &mut InstanceHandle, at: u64, result| {
        let result = if instance.is_preempted() {
            assert!(suspends && instance.is_epoch_reached(), "{name} at {at}");
            assert!(instance.backtrace().frames.len() <= 2, "{name} at {at}");
            stopped += 1;
            let goes_no_further = instance.resume().expect("it is suspended");
            assert!(goes_no_further.is_epoch_reached(), "{name} at {at}");
            instance.clear_epoch_deadline();
            go_on(instance, at.is_multiple_of(3))
        } else {
            told(result)
        };
        let is_trap = result.contains("epoch deadline reached");
        stopped += u64::from(is_trap);
        assert!(
            result == undisturbed || is_trap && !suspends,
            "{name} at {at}: {result}"
        );
        assert!(!is_trap || instance.is_faulted(), "{name} at {at}");
        instance.clear_epoch_deadline();
        instance.reset().expect("it is in order");
        assert_eq!(told(call(instance, name)), undisturbed, "{name} after {at}");
        instance.reset().expect("it is in order");
    };
    let count = at_every(&mut instance, (delay, on_guest_stack), name, act, check);
    (count, stopped)
}

#[test]
fn a_deadline_that_is_reached_at_any_instruction_suspends_or_ends_the_guest() {
    for (name, suspends) in [
        ("hostcall", true),
        ("nested", true),
        ("bulk", true),
        ("hostcall", false),
    ] {
        let (count, stopped) = reach_at_every(name, suspends, (0, true));
        assert!(
            stopped > 5 && stopped <= count,
            "{name}: {stopped} of {count}"
        );
    }
}

#[test]
fn a_deadline_that_is_reached_around_a_run_is_found_or_waits_for_the_next() {
    for (suspends, delay) in [(true, 0), (false, 5)] {
        let (count, stopped) = reach_at_every("nothing", suspends, (delay, false));
        assert!(stopped > 5 && stopped < count, "{stopped} of {count}");
    }
}
