//! Start functions that run by themselves, when an instance is made and when it is reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge::{
    Flow, HostError, InstanceHandle, Limits, Program, RuntimeError, Settings, TrapCode, Vmctx,
    Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const COUNTS: &str = r#"(module (global $n (export "n") (mut i32) (i32.const 40)) (memory 1)
    (func $start (global.set $n (i32.add (global.get $n) (i32.const 1))) (i32.store (i32.const 0) (i32.const 9)))
    (start $start)
    (func (export "get") (result i32) (global.get $n))
    (func (export "again") (result i32) (call $start) (global.get $n))
    (func (export "set") (global.set $n (i32.const 0))))"#;

fn build(sandbox: &Sandbox, program: &Program) -> Result<InstanceHandle, RuntimeError> {
    let builder = sandbox.region.instance_builder(program);
    builder.run_start_by_itself().build()
}

#[test]
fn a_start_function_runs_by_itself_on_creation_and_on_reset() {
    let sandbox = Sandbox::new();
    let mut instance = build(&sandbox, &sandbox.program(COUNTS)).unwrap();
    for _ in 0..3 {
        assert!(instance.is_ready());
        assert!(matches!(
            instance.run_start(),
            Err(RuntimeError::StartAlreadyRun)
        ));
        assert_eq!(returned_i32(instance.run("get", &[])), 41);
        assert_eq!(instance.heap().unwrap()[0], 9);
        assert_eq!(returned_i32(instance.run("again", &[])), 42);
        instance.run("set", &[]).unwrap();
        instance.reset().unwrap();
    }
}

#[test]
fn a_module_without_a_start_function_is_ready_either_way() {
    let sandbox = Sandbox::new();
    let mut instance = build(&sandbox, &sandbox.program("(module (memory 1))")).unwrap();
    assert!(instance.is_ready());
    instance.reset().unwrap();
    assert!(instance.is_ready());
}

#[test]
fn start_run_reset_and_start_again_by_hand_give_the_same() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(COUNTS);
    for _ in 0..3 {
        assert!(matches!(
            instance.run("get", &[]),
            Err(RuntimeError::InstanceNeedsStart)
        ));
        assert_eq!(instance.heap().unwrap()[0], 0);
        instance.run_start().unwrap();
        assert_eq!(returned_i32(instance.run("get", &[])), 41);
        instance.reset().unwrap();
    }
}

#[test]
fn a_start_function_that_fails_on_creation_is_an_error_and_takes_no_slot() {
    let mut sandbox = Sandbox::with(1, &Limits::default());
    sandbox
        .linker
        .func("h", "end", |_: &Vmctx<'_>| -> Result<(), HostError> {
            Err(HostError::terminate(3_u8))
        })
        .unwrap()
        .func("h", "panic", |_: &Vmctx<'_>| -> () { panic!("in start") })
        .unwrap()
        .func("h", "suspend", |_: &Vmctx<'_>| {
            selvedge::Flow::from(Yield::returning(()))
        })
        .unwrap();
    let trapping = sandbox.program("(module (func $f unreachable) (start $f))");
    let of_host = |name| {
        sandbox.program(&format!(
            "(module (import \"h\" \"{name}\" (func $f)) (func $s (call $f)) (start $s))"
        ))
    };
    for _ in 0..3 {
        assert_eq!(
            fault(build(&sandbox, &trapping)).code,
            TrapCode::Unreachable
        );
        assert!(matches!(
            build(&sandbox, &of_host("end")),
            Err(RuntimeError::RuntimeTerminated(_))
        ));
        assert!(matches!(
            build(&sandbox, &of_host("suspend")),
            Err(RuntimeError::StartYielded)
        ));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            build(&sandbox, &of_host("panic")).map(drop)
        }));
        assert!(panicked.is_err());
        assert_eq!(
            (sandbox.region.used_slots(), sandbox.region.free_slots()),
            (0, 1)
        );
        build(&sandbox, &sandbox.program(COUNTS)).unwrap();
    }
}

#[test]
fn a_start_function_that_fails_on_reset_leaves_the_instance_as_it_left_it() {
    let mut sandbox = Sandbox::new();
    // Traps the second time.
    sandbox
        .linker
        .func("h", "once", |vmctx: &Vmctx<'_>| -> Result<(), HostError> {
            let mut calls = vmctx.get_embed_ctx_mut::<u32>()?;
            *calls += 1;
            if *calls == 2 {
                Err(TrapCode::Unreachable.into())
            } else {
                Ok(())
            }
        })
        .unwrap();
    let program = sandbox.program(
        r#"(module (import "h" "once" (func $once)) (memory 1)
            (func $start (i32.store (i32.const 0) (i32.const 5)) (call $once)) (start $start))"#,
    );
    let builder = sandbox
        .region
        .instance_builder(&program)
        .with_embed_ctx(0_u32);
    let mut instance = builder.run_start_by_itself().build().unwrap();
    instance.heap_mut().unwrap()[1] = 1;
    assert_eq!(fault(instance.reset()).code, TrapCode::Unreachable);
    assert!(instance.is_faulted());
    assert_eq!(instance.heap().unwrap()[..2], [5, 0]);
    instance.reset().unwrap();
    assert!(instance.is_ready());
}

#[test]
fn fuel_bounds_a_start_function() {
    let settings = Settings::default().with_fuel(selvedge::FuelCosts::default());
    let engine = selvedge::Engine::new(&settings).unwrap();
    let region = selvedge::Region::new(&engine, 1, &Limits::default()).unwrap();
    let module = engine
        .compile(b"(module (func $f (loop (br 0))) (start $f))")
        .unwrap();
    let program = selvedge::Linker::new(&engine).program(&module).unwrap();
    let builder = region.instance_builder(&program).with_fuel(1000);
    let error = fault(builder.run_start_by_itself().build());
    assert_eq!(error.code, TrapCode::OutOfFuel);
    assert_eq!(region.used_slots(), 0);
    // Fuel for code that does not count it is a mistake.
    let sandbox = Sandbox::new();
    let program = sandbox.program(COUNTS);
    let refused = sandbox
        .region
        .instance_builder(&program)
        .with_fuel(1)
        .build();
    assert!(matches!(refused, Err(RuntimeError::FuelNotCounted)));
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn a_start_function_that_is_an_import_runs_and_cannot_suspend() {
    let wat = r#"(module (import "h" "f" (func $f)) (start $f)
        (func (export "one") (result i32) (i32.const 1)))"#;
    let mut sandbox = Sandbox::new();
    let ran = Arc::new(AtomicU32::new(0));
    let count = ran.clone();
    sandbox
        .linker
        .func("h", "f", move |_: &Vmctx<'_>| {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    let mut instance = sandbox.instance(wat);
    instance.run_start().unwrap();
    assert_eq!(ran.load(Ordering::Relaxed), 1);
    assert_eq!(returned_i32(instance.run("one", &[])), 1);

    // One that suspends has no guest under it to be suspended: that is its failure, not the instance's.
    let mut suspending = Sandbox::new();
    suspending
        .linker
        .suspending_func("h", "f", |vmctx: &Vmctx<'_>| vmctx.yield_())
        .unwrap();
    let mut returning = Sandbox::new();
    returning
        .linker
        .func("h", "f", |_: &Vmctx<'_>| Flow::from(Yield::returning(())))
        .unwrap();
    for sandbox in [suspending, returning] {
        let mut instance = sandbox.instance(wat);
        for _ in 0..3 {
            let error = instance.run_start().unwrap_err();
            assert!(matches!(error, RuntimeError::YieldRefused(_)), "{error}");
            assert!(instance.is_faulted() && !instance.is_yielded());
            assert!(instance.resume().is_err());
            assert!(matches!(
                instance.run_start(),
                Err(RuntimeError::StartAlreadyRun)
            ));
            assert_eq!(returned_i32(instance.run("one", &[])), 1);
            instance.reset().unwrap();
            assert!(instance.is_not_started());
        }
        drop(instance);
        assert_eq!(sandbox.region.used_slots(), 0);
    }
}
