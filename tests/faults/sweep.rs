//! The end of the stack, met at every place and in every phase: whatever a guest does there, it either
//! works or is an overflow. What matters is where the last few bytes go: the return address of a call,
//! the frame of a trampoline, the first word of a nested entry.

use selvedge::{InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

/// Recursion to a depth, with `padding` values kept in each frame, and `action` at the bottom.
fn module(padding: usize, action: &str) -> String {
    let keep: String = (0..padding)
        .map(|i| {
            format!(
                "(local.set {} (i64.load offset={} (i32.const 0)))",
                i + 1,
                i * 8
            )
        })
        .collect();
    let give: String = (0..padding)
        .map(|i| {
            format!(
                "(i64.store offset={} (i32.const 0) (local.get {}))",
                i * 8,
                i + 1
            )
        })
        .collect();
    format!(
        r#"(module
            (import "h" "back" (func $back)) (import "h" "few" (func $few (param i32) (result i32)))
            (import "h" "many" (func $many (param i32 i32 i32 i32 i32 i32) (result i32 i32)))
            (memory 1) (table $t 2 funcref) (elem (table $t) (i32.const 0) func $nothing)
            (func $nothing (export "nothing"))
            (func $down (export "down") (param i32) (local {})
                {keep}
                (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))) (else {action}))
                {give})
            (func (export "ok") (result i32) (i32.const 42)))"#,
        "i64 ".repeat(padding)
    )
}

fn sandbox() -> Sandbox {
    let mut limits = Limits::default();
    limits.stack_len = 16 << 10;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox
        .linker
        .func(
            "h",
            "back",
            |vmctx: &Vmctx<'_>| -> Result<(), RuntimeError> {
                vmctx.call_export("nothing", &[]).map(drop)
            },
        )
        .unwrap()
        .func("h", "few", |_: &Vmctx<'_>, n: i32| n)
        .unwrap()
        .func(
            "h",
            "many",
            |_: &Vmctx<'_>, a: i32, _: i32, _: i32, _: i32, _: i32, _: i32| (a, a),
        )
        .unwrap();
    sandbox
}

/// Runs the action at every depth around the end of the stack.
fn sweep(instance: &mut InstanceHandle, expected: Option<TrapCode>) {
    let mut overflows = 0;
    for depth in 0.. {
        match (instance.run("down", &[Val::I32(depth)]), expected) {
            (Ok(_), None) => assert_eq!(overflows, 0, "deeper than an overflow"),
            (Err(RuntimeError::RuntimeFault(fault)), _)
                if fault.code == TrapCode::StackOverflow =>
            {
                overflows += 1;
            }
            (Err(RuntimeError::RuntimeFault(fault)), Some(code)) if fault.code == code => {}
            (other, _) => panic!("at depth {depth}: {other:?}"),
        }
        if overflows > 40 {
            break;
        }
    }
    assert_eq!(returned_i32(instance.run("ok", &[])), 42);
}

fn check(action: &str, expected: Option<TrapCode>) {
    let sandbox = sandbox();
    for padding in 0..12 {
        sweep(&mut sandbox.instance(&module(padding, action)), expected);
    }
}

#[test]
fn a_call_of_the_guests_own() {
    check("(call $nothing)", None);
    check("(call_indirect $t (i32.const 0))", None);
}

#[test]
fn a_host_function_with_arguments_in_registers() {
    check("(drop (call $few (i32.const 1)))", None);
}

#[test]
fn a_host_function_with_arguments_beyond_registers() {
    check(
        "(call $many (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i32.const 6)) (drop) (drop)",
        None,
    );
}

#[test]
fn a_host_function_that_calls_back() {
    check("(call $back)", None);
}

#[test]
fn a_libcall() {
    check("(drop (memory.grow (i32.const 0)))", None);
    check("(table.set $t (i32.const 1) (ref.null func))", None);
    check(
        "(memory.copy (i32.const 0) (i32.const 8) (i32.const 8))",
        None,
    );
}

#[test]
fn traps_of_other_kinds() {
    check("unreachable", Some(TrapCode::Unreachable));
    check(
        "(drop (i32.load (i32.const 65536)))",
        Some(TrapCode::HeapOutOfBounds),
    );
    check(
        "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 1000))))",
        Some(TrapCode::IntegerDivisionByZero),
    );
    check(
        "(call_indirect $t (i32.const 1))",
        Some(TrapCode::IndirectCallToNull),
    );
    check(
        "(memory.fill (i32.const -1) (i32.const 0) (i32.const 8))",
        Some(TrapCode::HeapOutOfBounds),
    );
}
