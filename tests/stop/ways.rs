//! The ways in and out of a guest: no lock, no atomic read-modify-write and no system call, by looking at every
//! instruction that is executed, and by a thread that may call the system no more. And the code of guests: the same
//! whether they can be preempted or not.

use std::cell::{Cell, RefCell};

use selvedge::{
    Engine, FuelCosts, FuncType, InstanceHandle, Limits, Linker, Settings, TypedFunc, Val, ValType,
    Vmctx,
};
use selvedge_tests::children;
use selvedge_tests::sandbox::{self, returned};

use crate::stepping::{code_at, watch};
use crate::system_calls::{Refusal, Refused, exit, refuse};

const GUEST: &str = r#"(module
    (import "h" "plain" (func $plain (param i64) (result i64)))
    (import "h" "values" (func $values (param i64) (result i64)))
    (import "h" "nested" (func $nested (param i64) (result i64)))
    (import "h" "other" (func $other (param i64) (result i64)))
    (memory (export "heap") 1)
    (func (export "nothing") (param i64) (result i64) (local.get 0))
    (func (export "plain") (param i64) (result i64)
        (i64.add (call $plain (local.get 0)) (i64.const 1)))
    (func (export "values") (param i64) (result i64)
        (i64.add (call $values (local.get 0)) (i64.const 1)))
    (func (export "inner") (param i64) (result i64) (i64.mul (local.get 0) (i64.const 3)))
    (func (export "nested") (param i64) (result i64)
        (i64.add (call $nested (local.get 0)) (i64.const 1)))
    (func (export "other") (param i64) (result i64)
        (i64.add (call $other (local.get 0)) (i64.const 1)))
    (func $deep (export "deep") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 0))
            (else (i64.add (call $deep (i64.sub (local.get 0) (i64.const 1))) (local.get 0)))))
    (func (export "bulk") (param i64) (result i64)
        (memory.fill (i32.const 0) (i32.const 7) (i32.const 100))
        (i64.add (i64.load (i32.const 0)) (local.get 0))))"#;

/// What is exported, each another way in or out.
const WAYS: [&str; 6] = ["nothing", "plain", "values", "nested", "other", "bulk"];

thread_local! {
    /// What a host function calls that is not its own guest.
    static OTHER: RefCell<Option<(InstanceHandle, TypedFunc<i64, i64>)>> = const { RefCell::new(None) };
}

/// Makes the guest that host functions of this thread call.
fn make_other(engine: &Engine) {
    let wat = br#"(module (func (export "double") (param i64) (result i64)
        (i64.shl (local.get 0) (i64.const 1))))"#;
    let region = sandbox::region(engine, 1, &Limits::default());
    let module = engine.compile(wat).expect("it is in order");
    let program = Linker::new(engine)
        .program(&module)
        .expect("it is in order");
    let instance = region.new_instance(&program).expect("there is a slot");
    let func = instance.typed_func("double").expect("it is there");
    OTHER.set(Some((instance, func)));
}

fn call_other(x: i64) -> i64 {
    OTHER.with_borrow_mut(|other| {
        let (instance, func) = other.as_mut().expect("it is there");
        func.call(instance, x).expect("it returns")
    })
}

fn engine(settings: &Settings) -> Engine {
    Engine::new(settings).expect("an engine can be made")
}

fn instance(engine: &Engine) -> InstanceHandle {
    of(engine, GUEST)
}

/// An instance of a module, which may import what [`GUEST`] does.
fn of(engine: &Engine, wat: &str) -> InstanceHandle {
    let region = sandbox::region(engine, 1, &Limits::default());
    let module = engine.compile(wat.as_bytes()).expect("it is in order");
    let mut linker = Linker::new(engine);
    let of_values = FuncType::new([ValType::I64], [ValType::I64]);
    make_other(engine);
    linker
        .func("h", "plain", |_: &Vmctx<'_>, x: i64| x + 1)
        .expect("it is in order")
        .func("h", "other", |_: &Vmctx<'_>, x: i64| call_other(x))
        .expect("it is in order")
        .func_new("h", "values", of_values, |_, params, results| {
            results[0] = params[0].clone();
            Ok(())
        })
        .expect("it is in order")
        .func("h", "nested", |vmctx: &Vmctx<'_>, x: i64| {
            let values = vmctx.call_export("inner", &[Val::I64(x)])?;
            Ok::<_, selvedge::HostError>(values[0].i64().unwrap_or(0))
        })
        .expect("it is in order");
    let program = linker.program(&module).expect("it is in order");
    region.new_instance(&program).expect("there is a slot")
}

/// Settings without and with a count of fuel in the code.
fn settings() -> [Settings; 2] {
    let plain = Settings::default();
    [plain.clone(), plain.with_fuel(FuelCosts::default())]
}

/// An instruction that other processors or the kernel notice, if these are its bytes.
fn noticed(byte: impl Fn(usize) -> u8) -> Option<&'static str> {
    let mut at = 0;
    // Prefixes: sizes, segments, repetitions, the lock.
    while matches!(
        byte(at),
        0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3
    ) {
        if byte(at) == 0xf0 {
            return Some("lock");
        }
        at += 1;
    }
    if byte(at) & 0xf0 == 0x40 {
        at += 1;
    }
    match byte(at) {
        // With memory it locks without saying so.
        0x86 | 0x87 if byte(at + 1) < 0xc0 => Some("xchg"),
        0xcd => Some("int"),
        0x0f => match byte(at + 1) {
            0x05 => Some("syscall"),
            0x34 => Some("sysenter"),
            0xae if byte(at + 2) >= 0xe8 => Some("fence"),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn instructions_that_are_noticed_are_told_from_others() {
    let table: [(&[u8], Option<&str>); 12] = [
        (&[0xf0, 0x48, 0x0f, 0xb1, 0x0f], Some("lock")),
        (&[0x66, 0xf0, 0x0f, 0xc1, 0x07], Some("lock")),
        (&[0xf0, 0xff, 0x00], Some("lock")),
        (&[0x48, 0x87, 0x07], Some("xchg")),
        (&[0x86, 0x03], Some("xchg")),
        (&[0x48, 0x87, 0xd8], None),
        (&[0x0f, 0x05], Some("syscall")),
        (&[0xcd, 0x80], Some("int")),
        (&[0x0f, 0xae, 0xf0], Some("fence")),
        // stmxcsr, which the way in has.
        (&[0x0f, 0xae, 0x5c, 0x24, 0x08], None),
        (&[0x48, 0x89, 0x07], None),
        (&[0xc5, 0xf8, 0x77], None),
    ];
    for (bytes, expected) in table {
        assert_eq!(noticed(|at| bytes[at]), expected, "{bytes:x?}");
    }
}

/// What a thread has executed.
#[derive(Default)]
struct Seen {
    count: Cell<u64>,
    first: Cell<Option<(&'static str, u64)>>,
}

/// Looks at all that is executed.
fn look<R>(run: impl FnOnce() -> R) -> (R, Seen) {
    let seen = Seen::default();
    let see = |pc| {
        seen.count.update(|count| count + 1);
        if seen.first.get().is_none()
            && let Some(kind) = noticed(|at| code_at(pc, at))
        {
            seen.first.set(Some((kind, pc)));
        }
    };
    let result = watch(&see, run);
    (result, seen)
}

fn nothing_is_noticed(what: &str, seen: &Seen, least: u64) {
    let count = seen.count.get();
    assert!(count >= least, "{what}: {count} instructions only");
    if let Some((kind, pc)) = seen.first.get() {
        let bytes: Vec<u8> = (0..8).map(|at| code_at(pc, at)).collect();
        panic!("{what}: {kind} at {pc:#x}, {bytes:x?}");
    }
}

#[test]
fn no_lock_and_no_system_call_is_executed_on_the_ways_in_and_out() {
    for settings in settings() {
        let mut instance = instance(&engine(&settings));
        for name in WAYS {
            let func: TypedFunc<i64, i64> = instance.typed_func(name).expect("it is there");
            let mut undisturbed = 0;
            for _ in 0..3 {
                undisturbed = func.call(&mut instance, 5).expect("it returns");
            }
            let (result, seen) = look(|| func.call(&mut instance, 5));
            assert_eq!(result.expect("it returns"), undisturbed, "{name}");
            nothing_is_noticed(&format!("typed {name}"), &seen, 50);
        }
        for name in WAYS {
            for _ in 0..3 {
                returned(instance.run(name, &[Val::I64(5)]));
            }
            let (result, seen) = look(|| instance.run(name, &[Val::I64(5)]));
            assert_eq!(returned(result).len(), 1);
            nothing_is_noticed(&format!("untyped {name}"), &seen, 100);
        }
    }
}

#[test]
fn a_lock_and_a_system_call_would_be_seen() {
    let mut instance = instance(&engine(&Settings::default()));
    returned(instance.run("nothing", &[Val::I64(1)]));
    let word = std::sync::atomic::AtomicU64::new(0);
    let word = std::hint::black_box(&word);
    let (_, seen) = look(|| word.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(seen.first.get().map(|(kind, _)| kind), Some("lock"));
    let (_, seen) = look(rustix::thread::gettid);
    assert_eq!(seen.first.get().map(|(kind, _)| kind), Some("syscall"));
}

const CALLS: u32 = 1_000_000;

/// Calls before the system is not called any more.
const WARM_UP: u32 = 10_000;

#[test]
fn a_million_calls_in_and_out_do_not_call_the_system() {
    children::check_ends("ways::child", "calls", 0);
    // Nor do those that go deep, and those that do now and then.
    children::check_ends("ways::child", "deep 1", 0);
    children::check_ends("ways::child", "deep 500", 0);
    children::check_ends("ways::child", "long 50", 0);
    // If that was once only, what it used is given back.
    children::check_dies("ways::child", "deep 1000000", libc::SIGSYS);
    children::check_dies("ways::child", "long 1000000", libc::SIGSYS);
    // A child that does is found.
    children::check_dies("ways::child", "calls the system", libc::SIGSYS);
}

#[test]
fn the_code_of_guests_is_the_same_where_they_cannot_be_preempted() {
    let engine = engine(&Settings::default());
    Engine::preemption().expect("this machine can do it");
    let here = engine.precompile(GUEST.as_bytes());
    let here = here.expect("it is in order");
    let dir = tempfile::tempdir().expect("there is room");
    let path = dir.path().join("artifact");
    let case = format!("compiles {}", path.display());
    children::check_ends("ways::child", &case, 0);
    let there = std::fs::read(&path).expect("the child has written it");
    assert!(here == there, "the bytes of the artifacts differ");
}

/// Not a test of its own: the bodies of children. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else { return };
    match case.split_once(' ') {
        None => calls(false),
        Some(("calls", _)) => calls(true),
        Some(("deep", each)) => deep(GUEST, 12_000, each.parse().expect("it is a number")),
        Some(("long", each)) => {
            deep(&long_frames(), 10, each.parse().expect("it is a number"));
        }
        Some((_, path)) => compiles(path),
    }
}

/// Calls in and out while every system call but the last would be the end, and makes such a one before the last if it is
/// to.
fn calls(calls_system: bool) {
    let mut guests = settings().map(|settings| {
        let instance = instance(&engine(&settings));
        let funcs = WAYS.map(|name| {
            let func: TypedFunc<i64, i64> = instance.typed_func(name).expect("it is there");
            func
        });
        (instance, funcs)
    });
    let mut call = || {
        let mut sum = 0_i64;
        for (instance, funcs) in &mut guests {
            for (name, func) in WAYS.iter().zip(funcs) {
                let typed = func.call(instance, 5).expect("it returns");
                let untyped = returned(instance.run(name, &[Val::I64(5)]))[0].i64();
                assert_eq!(untyped, Some(typed));
                sum = sum.wrapping_add(typed);
            }
        }
        sum
    };
    // The first look at a stack gives back what it has too much.
    let expected = call();
    for _ in 0..WARM_UP / WAYS.len() as u32 {
        call();
    }
    let mut wrong = 0;
    refuse(Refused::AllBut(&[libc::SYS_exit_group]), Refusal::Dies);
    for _ in 0..CALLS / (4 * WAYS.len() as u32) {
        wrong += u32::from(call() != expected);
    }
    if calls_system {
        let _ = rustix::thread::gettid();
    }
    exit(wrong.cast_signed());
}

/// A guest whose frames are longer than the guard of a stack, and touch it on their way down.
fn long_frames() -> String {
    let each = |text: &dyn Fn(usize) -> String| -> String { (0..9_000).map(text).collect() };
    let locals = each(&|_| "i64 ".to_owned());
    let load = each(&|i| {
        format!(
            "(local.set {} (i64.load offset={} (i32.const 0)))",
            i + 1,
            7 * i
        )
    });
    let add = each(&|i| format!("(local.get {}) i64.add ", i + 1));
    format!(
        r#"(module (memory 1) (func $deep (export "deep") (param i64) (result i64) (local {locals})
            (if (i64.eqz (local.get 0)) (then (return (i64.const 0))))
            {load}
            (call $deep (i64.sub (local.get 0) (i64.const 1)))
            (local.get 0) i64.add {add}))"#
    )
}

/// As [`calls`], with a guest that uses much of its stack, at each call or now and then.
fn deep(wat: &str, frames: i64, each: u32) {
    // What they use is looked at several times.
    const CALLS: u32 = 40_000;
    let engine = engine(&Settings::default());
    let mut instance = of(&engine, wat);
    let func: TypedFunc<i64, i64> = instance.typed_func("deep").expect("it is there");
    let mut call = |n: u32| {
        let frames = if n.is_multiple_of(each) { frames } else { 1 };
        let sum = func.call(&mut instance, frames).expect("it returns");
        u32::from(sum != frames * (frames + 1) / 2)
    };
    let mut wrong = 0;
    for n in 0..WARM_UP {
        wrong += call(n);
    }
    refuse(Refused::AllBut(&[libc::SYS_exit_group]), Refusal::Dies);
    for n in 0..CALLS {
        wrong += call(n);
    }
    exit(wrong.cast_signed());
}

/// Compiles where the system has no barrier on other threads any more, so that nothing suspends a guest, and runs what
/// it has compiled.
fn compiles(path: &str) {
    let engine = engine(&Settings::default());
    refuse(Refused::These(&[libc::SYS_membarrier]), Refusal::Unknown);
    let refused = Engine::preemption();
    assert!(refused.is_err(), "it was to be switched off");
    let artifact = engine.precompile(GUEST.as_bytes());
    std::fs::write(path, artifact.expect("it is in order")).expect("there is room");
    let mut instance = instance(&engine);
    assert!(instance.preempt_switch().is_err());
    let values = returned(instance.run("plain", &[Val::I64(5)]));
    assert_eq!(values[0].i64(), Some(7));
}
