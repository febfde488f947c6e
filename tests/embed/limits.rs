//! Limits of a region: each is enforced, and the error says what to raise.

use selvedge::{Limits, Region, RuntimeError, TrapCode, Val};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

/// A sandbox whose limits differ from the default in one thing.
fn limited(change: impl FnOnce(&mut Limits)) -> Sandbox {
    let mut limits = Limits::default();
    change(&mut limits);
    Sandbox::with(4, &limits)
}

/// Why a module is not instantiated.
fn refused(sandbox: &Sandbox, wat: &str) -> String {
    let error = sandbox
        .region
        .new_instance(&sandbox.program(wat))
        .unwrap_err();
    assert!(
        matches!(error, RuntimeError::LimitsExceeded { .. }),
        "{error}"
    );
    assert_eq!(sandbox.region.used_slots(), 0, "the slot is given back");
    error.to_string()
}

#[test]
fn a_memory_that_begins_too_large_is_refused() {
    let sandbox = limited(|limits| limits.memory_len = 2 << 16);
    assert_eq!(
        refused(&sandbox, "(module (memory 3))"),
        "limits exceeded: 196608 bytes of memory are needed, 131072 are given; \
         raise memory_len in the limits"
    );
    sandbox.instance("(module (memory 2))");
    sandbox.instance("(module (memory 0))");
}

#[test]
fn a_memory_does_not_grow_beyond_the_limit() {
    let sandbox = limited(|limits| limits.memory_len = 2 << 16);
    let mut instance = sandbox.instance(
        r#"(module (memory 1 100) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(2)])), -1);
    assert!(matches!(
        instance.grow_memory(2),
        Err(RuntimeError::LimitsExceeded { .. })
    ));
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), 1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(0)])), 2);
}

#[test]
fn without_a_limit_a_memory_grows_to_four_gibibytes() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1)
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 7)))
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#,
    );
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(65535)])), 1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(0)])), 65536);
    returned(instance.run("store", &[Val::I32(-1)]));
    assert_eq!(returned_i32(instance.run("load", &[Val::I32(-1)])), 7);
    assert_eq!(instance.heap().unwrap().len(), 4 << 30);
    assert_eq!(instance.heap().unwrap()[(4 << 30) - 1], 7);
}

#[test]
fn tables_have_a_limit_when_they_begin_and_when_they_grow() {
    let sandbox = limited(|limits| limits.table_elements = 100);
    assert_eq!(
        refused(&sandbox, "(module (table 101 funcref))"),
        "limits exceeded: 101 table elements are needed, 100 are given; \
         raise table_elements in the limits"
    );
    let mut instance = sandbox.instance(
        r#"(module (table $t 90 funcref)
            (func (export "grow") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))"#,
    );
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(11)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(10)])), 90);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(-1)])), -1);
}

#[test]
fn a_module_with_more_globals_than_the_context_holds_is_refused() {
    let sandbox = limited(|limits| limits.context_len = 8 << 10);
    let globals = |count: usize| {
        format!(
            "(module {})",
            "(global (mut i64) (i64.const 1))".repeat(count)
        )
    };
    let message = refused(&sandbox, &globals(1000));
    assert!(message.contains("bytes of context"), "{message}");
    assert!(
        message.ends_with("raise context_len in the limits"),
        "{message}"
    );
    sandbox.instance(&globals(10));
    Sandbox::new().instance(&globals(1000));
}

#[test]
fn the_stack_is_as_long_as_the_limit_says() {
    let recursion = r#"(module (func $f (export "run") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))))"#;
    let deepest = |stack_len: usize| {
        let sandbox = limited(|limits| limits.stack_len = stack_len);
        let mut instance = sandbox.instance(recursion);
        // The deepest recursion that fits, by halving.
        let (mut fits, mut fails) = (1, 100 << 20);
        while fails - fits > 1 {
            let middle = (fits + fails) / 2;
            match instance.run("run", &[Val::I32(middle)]) {
                Ok(_) => fits = middle,
                Err(error) => {
                    assert_eq!(fault::<()>(Err(error)).code, TrapCode::StackOverflow);
                    fails = middle;
                }
            }
        }
        fits
    };
    let (small, large) = (deepest(16 << 10), deepest(1 << 20));
    // Frames are at most a few hundred bytes and at least a return address and a frame pointer.
    assert!(small > 30 && small <= (16 << 10) / 16, "{small}");
    let ratio = f64::from(large) / f64::from(small);
    assert!(
        (60.0..70.0).contains(&ratio),
        "64 times the stack, {ratio} times the depth"
    );
}

#[test]
fn the_same_thread_serves_stacks_of_several_lengths_in_turn() {
    let recursion = r#"(module (func $f (export "run") (param i32)
        (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (drop (i32.const 0))))))"#;
    let mut instances = [16 << 10, 1 << 20, 64 << 10]
        .map(|len| limited(|limits| limits.stack_len = len).instance(recursion));
    let depths = [100, 10_000, 400];
    for _ in 0..50 {
        for (instance, depth) in instances.iter_mut().zip(depths) {
            returned(instance.run("run", &[Val::I32(depth)]));
            let code = fault(instance.run("run", &[Val::I32(depth * 20)])).code;
            assert_eq!(code, TrapCode::StackOverflow);
        }
    }
}

#[test]
fn backtraces_are_as_long_as_the_limit_says() {
    let recursion = r#"(module (func $f (export "run") (param i32)
        (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))
            (else unreachable)) (drop (i32.const 0))))"#;
    for (limit, frames) in [(0, 0), (1, 1), (10, 10), (1000, 101)] {
        let sandbox = limited(|limits| limits.backtrace_frames = limit);
        let mut instance = sandbox.instance(recursion);
        let backtrace = fault(instance.run("run", &[Val::I32(100)])).backtrace;
        assert_eq!(backtrace.frames.len(), frames);
        let omitted = if limit == 0 { 0 } else { 101 - frames as u64 };
        assert_eq!(backtrace.omitted, omitted);
    }
}

#[test]
fn limits_that_make_no_sense_are_refused_with_the_range() {
    let sandbox = Sandbox::new();
    let refuse = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        match Region::new(&sandbox.engine, 1, &limits) {
            Err(error @ RuntimeError::InvalidLimits(_)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(
        refuse(|l| l.stack_len = 0).starts_with("invalid limits: stack_len is 0, it must be from")
    );
    assert!(refuse(|l| l.stack_len = usize::MAX).contains("stack_len"));
    assert!(refuse(|l| l.context_len = 0).contains("context_len"));
    assert!(refuse(|l| l.context_len = usize::MAX).contains("context_len"));
    assert!(refuse(|l| l.memory_len = u64::MAX).contains("memory_len"));
    let error = Region::new(&sandbox.engine, 0, &Limits::default()).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidLimits(_)));
}

#[test]
fn more_slots_than_address_space_is_an_error() {
    let sandbox = Sandbox::new();
    for slots in [1 << 20, u32::MAX] {
        let error = Region::new(&sandbox.engine, slots, &Limits::default()).unwrap_err();
        assert!(
            matches!(
                error,
                RuntimeError::System { .. } | RuntimeError::InvalidLimits(_)
            ),
            "{error}"
        );
    }
    assert!(Region::new(&sandbox.engine, 2, &Limits::default()).is_ok());
}
