//! How deep guests recurse: frames from a few words to several pages, on a stack of 128 KiB.

use selvedge::{InstanceHandle, Limits, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const STACK: usize = 128 << 10;

/// A recursive function with `locals` numbers that are all needed behind the call, so that they lie on the stack.
fn recursive(locals: usize) -> String {
    let declared = "(local i64)".repeat(locals);
    let set: String = (1..=locals)
        .map(|i| {
            // Loads are neither repeated nor put off beyond a call.
            format!("(local.set {i} (i64.load (i32.const {})))", i * 8)
        })
        .collect();
    let add: String = (1..=locals)
        .map(|i| format!("(local.set $sum (i64.add (local.get $sum) (local.get {i})))"))
        .collect();
    format!(
        r#"(module (import "h" "f" (func $f)) (memory 2)
            (func $down (export "down") (param i32) (result i64) {declared} (local $sum i64)
                {set}
                (if (local.get 0)
                    (then (local.set $sum (call $down (i32.sub (local.get 0) (i32.const 1))))))
                {add}
                (local.get $sum))
            (func $hosts (export "hosts") (param i32) (result i32) (call $f)
                (if (result i32) (local.get 0)
                    (then (i32.add (call $hosts (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
                    (else (i32.const 0))))
            (func (export "one") (result i32) (i32.const 1)))"#
    )
}

fn instance(locals: usize) -> InstanceHandle {
    let mut limits = Limits::default();
    limits.stack_len = STACK;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox.linker.func("h", "f", |_: &Vmctx<'_>| {}).unwrap();
    let mut instance = sandbox.instance(&recursive(locals));
    let mut heap = instance.heap_mut().unwrap();
    for (number, word) in (0u64..).zip(heap.as_chunks_mut::<8>().0) {
        *word = number.to_le_bytes();
    }
    drop(heap);
    instance
}

/// What the recursion gives: the sum over all levels of the sum of all locals.
fn expected(locals: usize, depth: i64) -> i64 {
    (locals * (locals + 1) / 2) as i64 * (depth + 1)
}

#[test]
fn frames_of_every_size_recurse_as_deep_as_their_stack_holds() {
    // Locals of eight bytes each; depths that fit for sure, and one that can't.
    for (locals, fits, overflows) in [
        (6, 400, 20_000),
        (64, 180, 300),
        (500, 20, 33),
        (2_000, 5, 9),
        (8_000, 1, 3),
    ] {
        let mut instance = instance(locals);
        for depth in [0, 1, 2, fits / 2, fits] {
            let result = instance.run("down", &[Val::I32(depth.min(fits))]).unwrap();
            let depth = i64::from(depth.min(fits));
            assert_eq!(
                i64::from(result.unwrap_returned()),
                expected(locals, depth),
                "{locals} at {depth}"
            );
        }
        // The overflow is the guest's, in its code, and harms nothing.
        for _ in 0..3 {
            let trapped = fault(instance.run("down", &[Val::I32(overflows)]));
            assert_eq!(trapped.code, TrapCode::StackOverflow, "{locals}");
            let frames = &trapped.backtrace.frames;
            assert!(!frames.is_empty() && frames.iter().all(|frame| frame.func_index == 1));
            assert!(instance.is_faulted());
            assert_eq!(returned_i32(instance.run("one", &[])), 1);
        }
        let again = instance.run("down", &[Val::I32(fits)]).unwrap();
        assert_eq!(
            i64::from(again.unwrap_returned()),
            expected(locals, fits.into())
        );
    }
}

#[test]
fn recursion_with_calls_of_the_host_goes_as_deep_as_without_and_overflows_in_the_guest() {
    let mut instance = instance(1);
    assert_eq!(
        returned_i32(instance.run("hosts", &[Val::I32(1_000)])),
        1_000
    );
    let trapped = fault(instance.run("hosts", &[Val::I32(100_000)]));
    assert_eq!(trapped.code, TrapCode::StackOverflow);
    assert!(
        trapped
            .backtrace
            .frames
            .iter()
            .all(|frame| frame.func_index == 2)
    );
    assert_eq!(
        returned_i32(instance.run("hosts", &[Val::I32(1_000)])),
        1_000
    );
}
