//! Stack overflow in every form: by recursion, by large frames, by many arguments, inside nested
//! entries, and by host and guest calling each other without end.

use selvedge::{InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

/// Runs `run`, which is to exhaust the stack, several times, and `ok`, which is not.
fn check_overflow(instance: &mut InstanceHandle) {
    for _ in 0..5 {
        let fault = fault(instance.run("run", &[]));
        assert_eq!(fault.code, TrapCode::StackOverflow);
        assert!(!fault.backtrace.frames.is_empty());
        assert_eq!(returned_i32(instance.run("ok", &[])), 42);
    }
}

const OK: &str = r#"(func (export "ok") (result i32) (i32.const 42))"#;

/// A body with `count` locals that are all needed after a call of `callee`.
fn with_live_locals(count: usize, callee: &str) -> String {
    let sets: String = (0..count)
        .map(|i| format!("(local.set {i} (i64.load offset={} (i32.const 0)))", i * 8))
        .collect();
    let stores: String = (0..count)
        .map(|i| format!("(i64.store offset={} (i32.const 0) (local.get {i}))", i * 8))
        .collect();
    format!(
        "(local {}) {sets} (call {callee}) {stores}",
        "i64 ".repeat(count)
    )
}

#[test]
fn mutual_and_indirect_recursion_overflow() {
    let sandbox = Sandbox::new();
    check_overflow(&mut sandbox.instance(&format!(
        "(module {OK} (func $a (export \"run\") (call $b) (call $b)) (func $b (call $a) (call $a)))"
    )));
    check_overflow(&mut sandbox.instance(&format!(
        r#"(module {OK} (table funcref (elem $a)) (func $a (export "run")
            (call_indirect (i32.const 0)) (call_indirect (i32.const 0))))"#
    )));
}

#[test]
fn recursion_with_large_frames_overflows() {
    let sandbox = Sandbox::new();
    // Smaller than a page, larger than one, and larger than the guard of 64 KiB.
    for locals in [100, 1000, 10_000] {
        let body = with_live_locals(locals, "$f");
        check_overflow(&mut sandbox.instance(&format!(
            "(module {OK} (memory 5) (func $f (export \"run\") {body}))"
        )));
    }
}

#[test]
fn one_frame_larger_than_the_stack_overflows() {
    let mut limits = Limits::default();
    limits.stack_len = 64 << 10;
    let sandbox = Sandbox::with(2, &limits);
    let body = with_live_locals(12_000, "$g");
    check_overflow(&mut sandbox.instance(&format!(
        "(module {OK} (memory 5) (func $g) (func $f (export \"run\") {body}))"
    )));
}

#[test]
fn recursion_with_many_arguments_and_results_overflows() {
    let sandbox = Sandbox::new();
    let list = "i64 ".repeat(900);
    let args: String = (0..900).map(|i| format!("(local.get {i})")).collect();
    let zeros = "(i64.const 0)".repeat(900);
    let drops = "(drop)".repeat(900);
    check_overflow(&mut sandbox.instance(&format!(
        r#"(module {OK} (func $f (param {list}) (result {list}) (call $f {args}))
            (func (export "run") (call $f {zeros}) {drops}))"#
    )));
}

#[test]
fn an_overflow_at_a_call_of_the_host_or_the_runtime_is_the_guests() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "few", |_: &Vmctx<'_>| {})
        .unwrap()
        .func(
            "h",
            "many",
            |_: &Vmctx<'_>, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| {},
        )
        .unwrap();
    for call in [
        "(call $few)",
        "(call $many (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i32.const 6))",
        "(drop (memory.grow (i32.const 0)))",
        "(memory.fill (i32.const 0) (i32.const 0) (i32.const 8))",
        "(drop (table.grow (ref.null func) (i32.const 0)))",
    ] {
        check_overflow(&mut sandbox.instance(&format!(
            r#"(module (import "h" "few" (func $few))
                (import "h" "many" (func $many (param i32 i32 i32 i32 i32 i32)))
                {OK} (memory 1) (table 1 funcref)
                (func $f (export "run") {call} (call $f) {call}))"#
        )));
    }
}

/// A guest that overflows inside nested entries: `down(n)` goes `n` times through the host first.
const NESTED: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (func (export "down") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
    (func $deep (export "deep") (call $deep) (call $deep))
    (func (export "run") (drop (call $f (i32.const 30))) (call $deep))
    (func (export "ok") (result i32) (i32.const 42)))"#;

#[test]
fn an_overflow_inside_nested_entries_is_an_error_for_the_host_function_there() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, RuntimeError> {
                let below = if n > 0 {
                    vmctx.call_export("down", &[Val::I32(n - 1)])?[0]
                        .i32()
                        .unwrap()
                } else {
                    0
                };
                // At each level, over the frames of all levels above.
                assert_eq!(
                    fault(vmctx.call_export("deep", &[])).code,
                    TrapCode::StackOverflow
                );
                Ok(below)
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(NESTED);
    assert_eq!(returned_i32(instance.run("down", &[Val::I32(50)])), 51);
    check_overflow(&mut instance);
}

#[test]
fn an_overflow_inside_nested_entries_ends_all_of_them_if_it_is_passed_up() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, RuntimeError> {
                if n == 0 {
                    vmctx.call_export("deep", &[])?;
                }
                Ok(vmctx.call_export("down", &[Val::I32(n - 1)])?[0]
                    .i32()
                    .unwrap())
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(NESTED);
    for _ in 0..10 {
        assert_eq!(
            fault(instance.run("down", &[Val::I32(40)])).code,
            TrapCode::StackOverflow
        );
        assert_eq!(returned_i32(instance.run("ok", &[])), 42);
    }
}

/// Host and guest call each other without end, with these stacks.
fn endless(guest_stack: usize, host_stack: usize) {
    let mut limits = Limits::default();
    limits.stack_len = guest_stack;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox
        .linker
        .func(
            "h",
            "f",
            |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, RuntimeError> {
                Ok(vmctx.call_export("down", &[Val::I32(n + 1)])?[0]
                    .i32()
                    .unwrap())
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(NESTED);
    std::thread::Builder::new()
        .stack_size(host_stack)
        .spawn(move || {
            for _ in 0..5 {
                let fault = fault(instance.run("down", &[Val::I32(0)]));
                assert_eq!(fault.code, TrapCode::StackOverflow);
                assert_eq!(returned_i32(instance.run("ok", &[])), 42);
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn host_and_guest_that_call_each_other_without_end_exhaust_the_hosts_stack_in_order() {
    endless(1 << 20, 1 << 20);
}

#[test]
fn host_and_guest_that_call_each_other_without_end_exhaust_the_guests_stack_in_order() {
    endless(16 << 10, 64 << 20);
}

#[test]
fn a_host_function_has_the_hosts_stack_however_little_the_guest_has_left() {
    let mut limits = Limits::default();
    limits.stack_len = 16 << 10;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, n: i32| {
            let mut large = [0u8; 100_000];
            large[n as usize] = 1;
            i32::from(std::hint::black_box(&large).iter().sum::<u8>())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32) (result i32)))
            (func $deep (export "deep") (param i32) (result i32)
                (if (result i32) (local.get 0)
                    (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1)))
                        (call $f (local.get 0))))
                    (else (i32.const 0))))
            (func (export "ok")))"#,
    );
    for depth in 0..2000 {
        match instance.run("deep", &[Val::I32(depth)]) {
            Ok(result) => assert_eq!(i32::from(result.unwrap_returned()), depth),
            Err(error) => {
                assert_eq!(fault::<()>(Err(error)).code, TrapCode::StackOverflow);
                assert!(depth > 30);
            }
        }
    }
    returned(instance.run("ok", &[]));
}
