//! `Linker::count_calls`: every call of a host function is counted, and is what it would be without.

use std::sync::atomic::Ordering;

use selvedge::{Flow, FuncType, HostError, RuntimeError, Val, ValType, Vmctx, Yield};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "add" (func $add (param i32 i64 f32 f64) (result f64)))
    (import "h" "pair" (func $pair (param i32) (result i32 i64)))
    (import "h" "vector" (func $vector (param v128) (result v128)))
    (import "h" "middle" (func $middle (result i32)))
    (import "h" "word" (func $word (result i32)))
    (import "h" "fail" (func $fail))
    (import "h" "late" (func $late))
    (export "word" (func $word))
    (func (export "add") (result f64)
        (call $add (i32.const 1) (i64.const 2) (f32.const 3) (f64.const 4)))
    (func (export "pair") (result i32 i64) (call $pair (i32.const 5)))
    (func (export "vector") (result i32)
        (i32x4.extract_lane 3 (call $vector (v128.const i32x4 1 2 3 4))))
    (func (export "suspend") (result i32) (i32.add (call $middle) (call $word)))
    (func (export "fail") (call $fail))
    (func (export "late") (call $late))
    (func (export "many") (param i32)
        (loop $again
            (drop (call $pair (i32.const 1))) (drop)
            (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#;

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let vector = FuncType::new([ValType::V128], [ValType::V128]);
    let linker = &mut sandbox.linker;
    linker
        .func(
            "h",
            "add",
            |_: &Vmctx<'_>, a: i32, b: i64, c: f32, d: f64| {
                f64::from(a) + b as f64 + f64::from(c) + d
            },
        )
        .unwrap()
        .func("h", "pair", |_: &Vmctx<'_>, n: i32| (n, i64::from(n) << 32))
        .unwrap()
        .func_new("h", "vector", vector, |_, params, results| {
            results.clone_from_slice(params);
            Ok(())
        })
        .unwrap()
        .suspending_func("h", "middle", |vmctx: &Vmctx<'_>| {
            vmctx.yield_val_expecting_val::<_, i32>("how many?")
        })
        .unwrap()
        .func("h", "word", |_: &Vmctx<'_>| -> Flow<i32> {
            Yield::returning(30).into()
        })
        .unwrap()
        .func("h", "fail", |_: &Vmctx<'_>| -> Result<(), HostError> {
            Err(HostError::new("failed"))
        })
        .unwrap();
    sandbox
}

#[test]
fn all_kinds_of_host_functions_are_counted_and_do_what_they_did() {
    let mut sandbox = sandbox();
    let calls = sandbox.linker.count_calls();
    let late = |_: &Vmctx<'_>| {};
    sandbox.linker.func("h", "late", late).unwrap();
    let mut instance = sandbox.instance(GUEST);
    let count = || calls.load(Ordering::Relaxed);

    assert!(matches!(returned(instance.run("add", &[]))[..], [Val::F64(sum)] if sum == 10.0));
    assert_eq!(count(), 1);
    let pair = returned(instance.run("pair", &[]));
    assert!(matches!(pair[..], [Val::I32(5), Val::I64(0x5_0000_0000)]));
    assert_eq!(returned_i32(instance.run("vector", &[])), 4);
    assert_eq!(count(), 3);

    let asked = instance.run("suspend", &[]).unwrap().yielded().unwrap();
    assert_eq!(asked.downcast_ref(), Some(&"how many?"));
    assert!(instance.resume_with_val(12_i32).unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume()), 42);
    assert_eq!(count(), 5);

    let failed = instance.run("fail", &[]).unwrap_err();
    assert!(
        matches!(&failed, RuntimeError::HostFunction(error) if error.to_string() == "failed"),
        "{failed}"
    );
    returned(instance.run("late", &[]));
    assert_eq!(count(), 6, "what is defined later is not counted");
    returned(instance.run("many", &[Val::I32(10_000)]));
    assert_eq!(count(), 10_006);

    // Called by the host it is counted, too, and has no guest to suspend.
    let refused = instance.run("word", &[]).unwrap_err();
    assert!(
        matches!(refused, RuntimeError::YieldRefused(_)),
        "{refused}"
    );
    assert_eq!(count(), 10_007);
}

#[test]
fn two_counts_count_along_and_programs_of_before_are_left_alone() {
    let mut sandbox = sandbox();
    let late =
        |_: &Vmctx<'_>| -> Result<(), HostError> { Err(selvedge::TrapCode::Unreachable.into()) };
    sandbox.linker.func("h", "late", late).unwrap();
    let mut before = sandbox.instance(GUEST);
    let first = sandbox.linker.count_calls();
    let second = sandbox.linker.count_calls();
    let mut instance = sandbox.instance(GUEST);
    fault(before.run("late", &[]));
    assert_eq!(first.load(Ordering::Relaxed), 0);
    fault(instance.run("late", &[]));
    returned(instance.run("pair", &[]));
    for calls in [first, second] {
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
