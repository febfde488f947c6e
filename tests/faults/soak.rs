//! Traps of every kind, and modules that come and go, on two threads for long: nothing is lost, nothing
//! leaks. `SELVEDGE_SOAK=1` runs the full counts: a million traps, a hundred thousand modules.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use selvedge::{InstanceHandle, Limits, Linker, OptLevel, Region, Settings, TrapCode, Vmctx};
use selvedge_tests::children;
use selvedge_tests::held::Held;
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

/// The full count, or a part of it that takes a moment.
fn count(full: usize) -> usize {
    match std::env::var_os("SELVEDGE_SOAK") {
        Some(_) => full,
        None => full / 50,
    }
}

const KINDS: [(&str, TrapCode); 12] = [
    ("unreachable", TrapCode::Unreachable),
    ("load", TrapCode::HeapOutOfBounds),
    ("checked", TrapCode::HeapOutOfBounds),
    ("fill", TrapCode::HeapOutOfBounds),
    ("zero", TrapCode::IntegerDivisionByZero),
    ("convert", TrapCode::BadConversionToInteger),
    ("table", TrapCode::TableOutOfBounds),
    ("undefined", TrapCode::UndefinedElement),
    ("null", TrapCode::IndirectCallToNull),
    ("signature", TrapCode::BadSignature),
    ("recursion", TrapCode::StackOverflow),
    ("host", TrapCode::NullReference),
];

const GUEST: &str = r#"(module
    (import "h" "trap" (func $host_trap))
    (memory 1) (table $t 3 funcref) (elem (i32.const 0) func $nothing) (func $nothing)
    (func (export "unreachable") unreachable)
    (func (export "load") (drop (i32.load (i32.const 65536))))
    (func (export "checked") (i64.store offset=0xfffffff8 (i32.const -8) (i64.const 1)))
    (func (export "fill") (memory.fill (i32.const 0) (i32.const 0) (i32.const 65537)))
    (func (export "zero") (drop (i32.div_s (i32.const 1) (i32.load (i32.const 0)))))
    (func (export "convert") (drop (i32.trunc_f32_s (f32.const nan))))
    (func (export "table") (drop (table.get $t (i32.const 3))))
    (func (export "undefined") (call_indirect $t (i32.const 3)))
    (func (export "null") (call_indirect $t (i32.const 2)))
    (func (export "signature") (call_indirect $t (param i32) (i32.const 1) (i32.const 0)))
    (func $deep (export "recursion") (call $deep) (call $deep))
    (func (export "host") (call $host_trap))
    (func (export "ok") (result i32) (i32.const 42)))"#;

fn trap_once(instance: &mut InstanceHandle, round: usize) {
    let (name, code) = KINDS[round % KINDS.len()];
    assert_eq!(fault(instance.run(name, &[])).code, code, "{name}");
}

fn host_trap(_: &Vmctx<'_>) -> Result<(), TrapCode> {
    Err(TrapCode::NullReference)
}

/// In a process of its own, so that other tests' memory is not counted.
#[test]
fn a_million_traps_on_two_threads_leave_nothing_behind() {
    children::check_ends("soak::child", "traps", 0);
}

#[test]
fn a_hundred_thousand_modules_come_and_go_while_others_run_and_leave_nothing_behind() {
    children::check_ends("soak::child", "modules", 0);
}

/// Not a test of its own: the body of the children. Without a case it does nothing.
#[test]
fn child() {
    match children::case().as_deref() {
        Some("traps") => traps(),
        Some("modules") => modules(),
        _ => {}
    }
}

fn traps() {
    let mut limits = Limits::default();
    limits.stack_len = 64 << 10;
    let mut sandbox = Sandbox::with(2, &limits);
    sandbox.linker.func("h", "trap", host_trap).unwrap();
    let program = sandbox.program(GUEST);
    let each = count(1_000_000) / 2;
    let soak = |rounds: usize| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut instance = sandbox.region.new_instance(&program).unwrap();
                    for round in 0..rounds {
                        trap_once(&mut instance, round);
                    }
                    assert_eq!(returned_i32(instance.run("ok", &[])), 42);
                });
            }
        });
    };
    soak(each / 10);
    let early = Held::now();
    soak(each - each / 10);
    early.check_flat();
}

fn modules() {
    let engine =
        selvedge::Engine::new(&Settings::default().with_opt_level(OptLevel::None)).unwrap();
    let mut linker = Linker::new(&engine);
    linker.func("h", "trap", host_trap).unwrap();
    let mut limits = Limits::default();
    limits.stack_len = 64 << 10;
    let region = Region::new(&engine, 3, &limits).unwrap();
    let running = linker
        .program(&engine.compile(GUEST.as_bytes()).unwrap())
        .unwrap();
    let small = r#"(module (memory 1)
        (func (export "load") (drop (i32.load (i32.const 65536))))
        (func (export "trap") unreachable))"#;
    let each = count(100_000) / 2;
    let soak = |rounds: usize| {
        let at_work = AtomicUsize::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        let module = engine.compile(small.as_bytes()).unwrap();
                        let program = linker.program(&module).unwrap();
                        let mut instance = region.new_instance(&program).unwrap();
                        let load = fault(instance.run("load", &[]));
                        assert_eq!(load.code, TrapCode::HeapOutOfBounds);
                        assert_eq!(load.backtrace.frames.len(), 1);
                        assert_eq!(fault(instance.run("trap", &[])).code, TrapCode::Unreachable);
                    }
                    at_work.fetch_sub(1, Relaxed);
                });
            }
            // Meanwhile guests of another module trap and return.
            let mut instance = region.new_instance(&running).unwrap();
            let mut round = 0;
            while at_work.load(Relaxed) > 0 {
                trap_once(&mut instance, round);
                assert_eq!(returned_i32(instance.run("ok", &[])), 42);
                round += 1;
            }
        });
    };
    soak(each / 10);
    let early = Held::now();
    soak(each - each / 10);
    early.check_flat();
    assert_eq!(region.used_slots(), 0);
}
