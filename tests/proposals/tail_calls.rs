//! Tail calls take constant stack whoever is called, pass any number of values, and leave backtraces
//! that name the frames that are still there.

use selvedge::{HostError, InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned, returned_i32};

/// Calls in a chain: at a few bytes a frame more than any guest stack here would hold.
const DEPTH: i32 = 1_000_000;

/// A sandbox whose stacks are as small as they may be.
fn small() -> Sandbox {
    let mut limits = Limits::default();
    limits.stack_len = 16 << 10;
    Sandbox::with(8, &limits)
}

/// Whether `DEPTH` is even, as the guest finds by counting down.
fn assert_counts_down(instance: &mut InstanceHandle) {
    for (count, expected) in [(0, 1), (1, 0), (DEPTH, 1), (DEPTH + 1, 0)] {
        let found = returned_i32(instance.run("even", &[Val::I32(count)]));
        assert_eq!(found, expected, "{count}");
    }
}

#[test]
fn a_million_direct_tail_calls_take_no_more_stack_than_one() {
    assert_counts_down(&mut small().instance(
        "(module
            (func $even (export \"even\") (param i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
                (return_call $odd (i32.sub (local.get 0) (i32.const 1))))
            (func $odd (param i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
                (return_call $even (i32.sub (local.get 0) (i32.const 1)))))",
    ));
}

#[test]
fn a_million_indirect_tail_calls_take_no_more_stack_than_one() {
    assert_counts_down(&mut small().instance(
        "(module
            (type $t (func (param i32) (result i32)))
            (table 2 2 funcref) (elem (i32.const 0) $even $odd)
            (func $even (export \"even\") (type $t)
                (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
                (return_call_indirect (type $t)
                    (i32.sub (local.get 0) (i32.const 1)) (i32.const 1)))
            (func $odd (type $t)
                (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
                (return_call_indirect (type $t)
                    (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))",
    ));
}

/// Two linked modules that call each other: `a` through its import, `b` through its own table and
/// through that of another module.
#[test]
fn a_million_tail_calls_between_linked_modules_take_no_more_stack_than_one() {
    let sandbox = small();
    let mut instance = sandbox.instance("(module)");
    let modules = [
        ("tables", "(module (table (export \"table\") 1 1 funcref))"),
        (
            "b",
            "(module
                (type $t (func (param i32) (result i32)))
                (import \"tables\" \"table\" (table $theirs 1 1 funcref))
                (table $own (export \"own\") 1 1 funcref)
                (func (export \"odd\") (type $t)
                    (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
                    (if (i32.and (local.get 0) (i32.const 2)) (then
                        (return_call_indirect $theirs (type $t)
                            (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))
                    (return_call_indirect $own (type $t)
                        (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))",
        ),
        (
            "a",
            "(module
                (type $t (func (param i32) (result i32)))
                (import \"b\" \"odd\" (func $odd (type $t)))
                (import \"b\" \"own\" (table $own 1 1 funcref))
                (import \"tables\" \"table\" (table $theirs 1 1 funcref))
                (elem (table $own) (i32.const 0) func $even)
                (elem (table $theirs) (i32.const 0) func $even)
                (global $kept (mut i32) (i32.const 0))
                (func $even (export \"even\") (type $t)
                    ;; The context is this module's own again.
                    (global.set $kept (i32.add (global.get $kept) (i32.const 1)))
                    (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
                    (return_call $odd (i32.sub (local.get 0) (i32.const 1))))
                (func (export \"kept\") (result i32) (global.get $kept)))",
        ),
    ];
    let mut last = None;
    for (name, wat) in modules {
        let member = instance
            .link(&sandbox.linker, &sandbox.module(wat))
            .unwrap();
        instance.set_member_name(name, member).unwrap();
        last = Some(member);
    }
    let a = last.unwrap();
    let even = instance.run_member(a, "even", &[Val::I32(DEPTH)]);
    assert_eq!(returned_i32(even), 1);
    let kept = instance.run_member(a, "kept", &[]);
    assert_eq!(returned_i32(kept), DEPTH / 2 + 1);
}

/// A chain that ends in host functions of both kinds, direct and through a table.
#[test]
fn host_functions_are_called_in_place_of_the_frame_that_leaves() {
    let mut sandbox = small();
    let linker = &mut sandbox.linker;
    linker
        .func("host", "double", |_: &Vmctx<'_>, n: i32| n * 2)
        .unwrap();
    // More integers than registers, so the arguments travel by array.
    let sum = |_: &Vmctx<'_>, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64| {
        a + 10 * b + 100 * c + 1000 * d + 10_000 * e + 100_000 * f
    };
    linker.func("host", "sum", sum).unwrap();
    let mut instance = sandbox.instance(
        "(module
            (type $t (func (param i32) (result i32)))
            (import \"host\" \"double\" (func $double (type $t)))
            (import \"host\" \"sum\" (func $sum (param i64 i64 i64 i64 i64 i64) (result i64)))
            (table 1 1 funcref) (elem (i32.const 0) $double)
            (func $direct (type $t) (return_call $double (local.get 0)))
            (func $indirect (type $t) (return_call_indirect (type $t) (local.get 0) (i32.const 0)))
            ;; Frames that leave had more arguments on the stack than their callee has.
            (func $wide (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i32)
                (return_call $double (i32.wrap_i64 (local.get 9))))
            (func (export \"repeat\") (param i32) (result i32) (local i32)
                (loop $again
                    (local.set 1 (i32.add (local.get 1) (call $direct (i32.const 1))))
                    (local.set 1 (i32.add (local.get 1) (call $indirect (i32.const 2))))
                    (local.set 1 (i32.add (local.get 1) (call $wide
                        (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)
                        (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 4))))
                    (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                    (br_if $again (local.get 0)))
                (local.get 1))
            (func (export \"sum\") (result i64)
                (return_call $sum (i64.const 1) (i64.const 2) (i64.const 3)
                    (i64.const 4) (i64.const 5) (i64.const 6)))
            (func $count (export \"count\") (param i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return_call $double (i32.const 21))))
                (return_call $count (i32.sub (local.get 0) (i32.const 1)))))",
    );
    let repeated = instance.run("repeat", &[Val::I32(10_000)]);
    assert_eq!(returned_i32(repeated), 10_000 * (2 + 4 + 8));
    assert_eq!(
        bits(&returned(instance.run("sum", &[]))),
        bits(&[Val::I64(654_321)])
    );
    assert_eq!(returned_i32(instance.run("count", &[Val::I32(DEPTH)])), 42);
}

/// Callees with more and with fewer arguments and results on the stack than their callers.
#[test]
fn any_number_of_values_is_passed_in_a_million_tail_calls() {
    let twelve = "i64 ".repeat(12);
    let all = |from: usize| -> String {
        (from..from + 12)
            .map(|n| format!("(i64.const {n})"))
            .collect()
    };
    let gets: String = (0..12).map(|n| format!("(local.get {n})")).collect();
    let wat = format!(
        "(module
            (type $few (func (param i32) (result {twelve})))
            (type $many (func (param i32 {twelve}) (result {twelve})))
            (table 2 2 funcref) (elem (i32.const 0) $few $many)
            (func $few (export \"few\") (type $few)
                (return_call $many (local.get 0) {}))
            (func $many (type $many) (local i64)
                (if (i32.eqz (local.get 0)) (then
                    (return_call $last {})))
                (if (i32.and (local.get 0) (i32.const 1)) (then
                    (return_call_indirect (type $few)
                        (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))
                (return_call $few (i32.sub (local.get 0) (i32.const 1))))
            (func $last (param {twelve}) (result {twelve}) {gets}))",
        all(1),
        (1..=12)
            .map(|n| format!("(local.get {n})"))
            .collect::<String>(),
    );
    let mut instance = small().instance(&wat);
    let expected: Vec<Val> = (1..=12).map(Val::I64).collect();
    for count in [0, 1, 2, DEPTH] {
        assert_eq!(
            bits(&returned(instance.run("few", &[Val::I32(count)]))),
            bits(&expected)
        );
    }
}

#[test]
fn a_backtrace_has_the_frames_that_wait_and_not_those_that_left() {
    let mut sandbox = Sandbox::new();
    let failing =
        |_: &Vmctx<'_>| -> Result<(), HostError> { Err(HostError::Trap(TrapCode::Unreachable)) };
    sandbox.linker.func("host", "fail", failing).unwrap();
    let mut instance = sandbox.instance(
        "(module
            (type $t (func))
            (import \"host\" \"fail\" (func $fail))
            (table 3 3 funcref) (elem (i32.const 0) $trap)
            (func $trap unreachable)
            (func $leaves (return_call $trap))
            (func $waits (export \"direct\") (call $leaves))
            (func $to_host (return_call $fail))
            (func $waits_for_host (export \"host\") (call $to_host) (nop))
            (func $null (return_call_indirect (type $t) (i32.const 1)))
            (func $waits_for_null (export \"null\") (call $null) (nop))
            (func (export \"at_once\") (return_call $fail))
            (func (export \"fine\") (result i32) (i32.const 7)))",
    );
    let cases: [(&str, TrapCode, &[&str]); 4] = [
        ("direct", TrapCode::Unreachable, &["trap", "waits"]),
        ("host", TrapCode::Unreachable, &["waits_for_host"]),
        // The builtin looks before the frame leaves.
        (
            "null",
            TrapCode::IndirectCallToNull,
            &["null", "waits_for_null"],
        ),
        ("at_once", TrapCode::Unreachable, &[]),
    ];
    for (export, code, expected) in cases {
        let fault = fault(instance.run(export, &[]));
        assert_eq!(fault.code, code, "{export}");
        let frames = fault.backtrace.frames.iter();
        let names: Vec<_> = frames
            .map(|f| f.func_name.as_deref().unwrap_or("?"))
            .collect();
        assert_eq!(names, expected, "{export}");
        assert_eq!(returned_i32(instance.run("fine", &[])), 7);
    }
}

/// A host function reached by a tail call may call the guest again.
#[test]
fn a_host_function_that_was_tail_called_enters_the_guest_again() {
    let mut sandbox = Sandbox::new();
    let again = |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, RuntimeError> {
        match vmctx.call_export("count", &[Val::I32(n - 1)])?[..] {
            [Val::I32(found)] => Ok(found + 1),
            _ => Err(RuntimeError::InvalidArgument("count gives an i32")),
        }
    };
    sandbox.linker.func("host", "again", again).unwrap();
    let mut instance = sandbox.instance(
        "(module
            (import \"host\" \"again\" (func $again (param i32) (result i32)))
            (func (export \"count\") (param i32) (result i32)
                (if (i32.eqz (local.get 0)) (then (return (i32.const 100))))
                (return_call $again (local.get 0))))",
    );
    assert_eq!(returned_i32(instance.run("count", &[Val::I32(20)])), 120);
}
