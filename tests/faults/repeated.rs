//! Every kind of fault ten thousand times on two threads: none is lost, none leaks, and the region is
//! as good as new afterwards.

use std::thread;

use selvedge::{Limits, Program, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const TIMES: u32 = 10_000;

const GUEST: &str = r#"(module
    (import "h" "trap" (func $host_trap)) (import "h" "fail" (func $host_fail))
    (import "h" "nest" (func $nest))
    (memory 1) (table $t 3 funcref) (elem (i32.const 0) func $nothing) (func $nothing)
    (func (export "unreachable") unreachable)
    (func (export "load") (drop (i32.load (i32.const 65536))))
    (func (export "store") (i64.store offset=1000 (i32.const -8) (i64.const 1)))
    (func (export "fill") (memory.fill (i32.const 0) (i32.const 0) (i32.const 65537)))
    (func (export "zero") (drop (i32.div_s (i32.const 1) (i32.load (i32.const 0)))))
    (func (export "overflow") (drop (i64.div_s (i64.const 0x8000000000000000) (i64.sub (i64.load (i32.const 0)) (i64.const 1)))))
    (func (export "convert") (drop (i32.trunc_f32_s (f32.const nan))))
    (func (export "table") (drop (table.get $t (i32.const 3))))
    (func (export "undefined") (call_indirect $t (i32.const 3)))
    (func (export "null") (call_indirect $t (i32.const 2)))
    (func (export "signature") (call_indirect $t (param i32) (i32.const 1) (i32.const 0)))
    (func $deep (export "recursion") (call $deep) (call $deep))
    (func $wide (export "frames") (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
        (call $wide (local.get 11) (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4)
            (local.get 5) (local.get 6) (local.get 7) (local.get 8) (local.get 9) (local.get 10))
        (i64.store (i32.const 0) (i64.add (local.get 3) (local.get 7))))
    (func (export "host trap") (call $host_trap))
    (func (export "host fail") (call $host_fail))
    (func (export "nested") (call $nest) unreachable)
    (func (export "ok") (result i32) (i32.const 42)))"#;

fn sandbox() -> Sandbox {
    let mut limits = Limits::default();
    limits.stack_len = 16 << 10;
    let mut sandbox = Sandbox::with(2, &limits);
    sandbox
        .linker
        .func("h", "trap", |_: &Vmctx<'_>| -> Result<(), TrapCode> {
            Err(TrapCode::NullReference)
        })
        .unwrap()
        .func(
            "h",
            "fail",
            |_: &Vmctx<'_>| -> Result<(), selvedge::HostError> {
                Err(selvedge::HostError::new("it failed"))
            },
        )
        .unwrap()
        .func("h", "nest", |vmctx: &Vmctx<'_>| {
            assert_eq!(
                fault(vmctx.call_export("zero", &[])).code,
                TrapCode::IntegerDivisionByZero
            );
            assert_eq!(
                fault(vmctx.call_export("recursion", &[])).code,
                TrapCode::StackOverflow
            );
        })
        .unwrap();
    sandbox
}

/// Runs an export that traps, over and over, in one instance and in a new one every hundred times.
fn repeat(sandbox: &Sandbox, program: &Program, name: &str, args: &[Val], code: TrapCode) {
    for _ in 0..TIMES / 100 {
        let mut instance = sandbox.region.new_instance(program).unwrap();
        for _ in 0..100 {
            assert_eq!(fault(instance.run(name, args)).code, code, "{name}");
        }
        assert_eq!(returned_i32(instance.run("ok", &[])), 42, "{name}");
    }
}

/// The same on two threads at once.
fn check(name: &str, args: &[Val], code: TrapCode) {
    let sandbox = sandbox();
    let program = sandbox.program(GUEST);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| repeat(&sandbox, &program, name, args, code));
        }
    });
    assert_eq!(sandbox.region.used_slots(), 0);
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    assert_eq!(returned_i32(instance.run("ok", &[])), 42);
}

macro_rules! repeated {
    ($($test:ident: $export:literal $code:ident;)*) => {$(
        #[test]
        fn $test() {
            check($export, &[], TrapCode::$code);
        }
    )*};
}

repeated! {
    unreachable: "unreachable" Unreachable;
    load_outside_memory: "load" HeapOutOfBounds;
    store_outside_memory: "store" HeapOutOfBounds;
    fill_outside_memory: "fill" HeapOutOfBounds;
    division_by_zero: "zero" IntegerDivisionByZero;
    division_overflow: "overflow" IntegerOverflow;
    conversion_of_nan: "convert" BadConversionToInteger;
    table_access_outside: "table" TableOutOfBounds;
    call_outside_table: "undefined" UndefinedElement;
    call_of_null: "null" IndirectCallToNull;
    call_of_another_type: "signature" BadSignature;
    recursion: "recursion" StackOverflow;
    trap_by_host_function: "host trap" NullReference;
    nested_traps_then_a_trap: "nested" Unreachable;
}

#[test]
fn recursion_with_large_frames() {
    check(
        "frames",
        &[const { Val::I64(1) }; 12],
        TrapCode::StackOverflow,
    );
}

#[test]
fn failure_of_a_host_function() {
    let sandbox = sandbox();
    let program = sandbox.program(GUEST);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                for _ in 0..TIMES {
                    let error = instance.run("host fail", &[]).unwrap_err();
                    assert!(matches!(error, RuntimeError::HostFunction(_)));
                }
                assert_eq!(returned_i32(instance.run("ok", &[])), 42);
            });
        }
    });
}

#[test]
fn all_kinds_in_turn_in_one_instance() {
    let sandbox = sandbox();
    let program = sandbox.program(GUEST);
    let kinds = [
        ("unreachable", TrapCode::Unreachable),
        ("recursion", TrapCode::StackOverflow),
        ("load", TrapCode::HeapOutOfBounds),
        ("nested", TrapCode::Unreachable),
        ("zero", TrapCode::IntegerDivisionByZero),
        ("host trap", TrapCode::NullReference),
        ("null", TrapCode::IndirectCallToNull),
    ];
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                for _ in 0..TIMES / 10 {
                    for (name, code) in kinds {
                        assert_eq!(fault(instance.run(name, &[])).code, code);
                        assert_eq!(returned_i32(instance.run("ok", &[])), 42);
                    }
                }
            });
        }
    });
}
