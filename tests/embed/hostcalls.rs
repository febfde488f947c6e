//! Host functions: what they may do to the guest that calls them, calling back into it, errors,
//! termination and panics.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge::{
    FuncType, HostError, InstanceHandle, RuntimeError, TerminationDetails, TrapCode, Val, ValType,
    Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

/// A guest whose export `run` calls `h.f`, with the means to be called back.
const CALLER: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 1)
    (global $calls (export "calls") (mut i32) (i32.const 0))
    (func $count (global.set $calls (i32.add (global.get $calls) (i32.const 1))))
    (func (export "run") (param i32) (result i32) (call $count) (call $f (local.get 0)))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "trap") unreachable)
    (func (export "divide") (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0))))"#;

/// An instance of [`CALLER`] with this host function.
fn caller<R: selvedge::HostReturn<Results = i32> + 'static>(
    func: impl Fn(&Vmctx<'_>, i32) -> R + Send + Sync + 'static,
) -> (Sandbox, InstanceHandle) {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    let instance = sandbox.instance(CALLER);
    (sandbox, instance)
}

/// The values of a call back into the guest, as one `i32`.
fn one(values: &[Val]) -> i32 {
    values[0].i32().unwrap()
}

/// The instance still computes.
fn assert_usable(instance: &mut InstanceHandle) {
    assert_eq!(
        returned_i32(instance.run("add", &[Val::I32(40), Val::I32(2)])),
        42
    );
}

#[test]
fn guest_and_host_call_each_other_sixty_levels_deep() {
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, RuntimeError> {
        if n == 0 {
            return Ok(1000);
        }
        let inner = one(&vmctx.call_export("run", &[Val::I32(n - 1)])?);
        Ok(one(
            &vmctx.call_export("add", &[Val::I32(inner), Val::I32(1)])?
        ))
    });
    for depth in [0, 1, 7, 60] {
        assert_eq!(
            returned_i32(instance.run("run", &[Val::I32(depth)])),
            1000 + depth
        );
    }
    assert_eq!(
        instance.global("calls").unwrap().i32(),
        Some(1 + 2 + 8 + 61)
    );
}

#[test]
fn an_inner_trap_is_an_error_for_the_host_function_and_the_outer_guest_goes_on() {
    let (_sandbox, mut instance) = caller(|vmctx, n| {
        let code = match vmctx.call_export("divide", &[Val::I32(n)]) {
            Ok(values) => return one(&values),
            Err(RuntimeError::RuntimeFault(fault)) => fault.code,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(code, TrapCode::IntegerDivisionByZero);
        -7
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(1)])), 1);
    for _ in 0..100 {
        assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), -7);
    }
    assert_usable(&mut instance);
}

#[test]
fn inner_traps_at_every_depth_leave_the_outer_levels_intact() {
    let (_sandbox, mut instance) = caller(|vmctx, n| {
        let inner = if n > 0 {
            one(&vmctx.call_export("run", &[Val::I32(n - 1)]).unwrap())
        } else {
            0
        };
        for trapping in ["trap", "divide"] {
            let args: &[Val] = if trapping == "trap" {
                &[]
            } else {
                &[Val::I32(0)]
            };
            fault(vmctx.call_export(trapping, args));
        }
        inner + 1
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(50)])), 51);
    assert_usable(&mut instance);
}

#[test]
fn an_inner_trap_that_is_passed_up_is_the_outer_calls_error() {
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, RuntimeError> {
        let args = [Val::I32(n - 1)];
        let (name, args): (_, &[Val]) = if n == 0 {
            ("trap", &[])
        } else {
            ("run", &args)
        };
        Ok(one(&vmctx.call_export(name, args)?))
    });
    for depth in [0, 1, 50] {
        let fault = fault(instance.run("run", &[Val::I32(depth)]));
        assert_eq!(fault.code, TrapCode::Unreachable);
    }
    assert_usable(&mut instance);
}

#[test]
fn errors_of_calls_back_are_those_of_calls() {
    let (_sandbox, mut instance) = caller(|vmctx, n| {
        let error = match n {
            0 => vmctx.call_export("absent", &[]),
            1 => vmctx.call_export("memory", &[]),
            _ => vmctx.call_export("add", &[Val::I64(1)]),
        }
        .unwrap_err();
        match error {
            RuntimeError::UnknownExport { .. } => 0,
            RuntimeError::ExportKind { .. } => 1,
            RuntimeError::TypeMismatch { .. } => 2,
            other => panic!("{other}"),
        }
    });
    for n in 0..3 {
        assert_eq!(returned_i32(instance.run("run", &[Val::I32(n)])), n);
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the database said {0}")]
struct DatabaseError(u32);

#[test]
fn an_error_of_a_host_function_comes_out_as_it_is() {
    let (_sandbox, mut instance) =
        caller(|_, n| -> Result<i32, HostError> { Err(HostError::new(DatabaseError(n as u32))) });
    let error = instance.run("run", &[Val::I32(7)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a host function failed: the database said 7"
    );
    let RuntimeError::HostFunction(source) = error else {
        panic!("another error")
    };
    assert_eq!(source.downcast_ref(), Some(&DatabaseError(7)));
    assert_usable(&mut instance);
}

#[test]
fn an_error_of_a_host_function_passes_through_all_levels() {
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, HostError> {
        if n == 0 {
            return Err(HostError::new(DatabaseError(9)));
        }
        Ok(one(&vmctx.call_export("run", &[Val::I32(n - 1)])?))
    });
    let error = instance.run("run", &[Val::I32(20)]).unwrap_err();
    let RuntimeError::HostFunction(source) = error else {
        panic!("{error}")
    };
    assert_eq!(source.downcast_ref(), Some(&DatabaseError(9)));
    assert_usable(&mut instance);
}

#[test]
fn a_host_function_may_trap_like_an_instruction() {
    let (_sandbox, mut instance) =
        caller(|_, _| -> Result<i32, TrapCode> { Err(TrapCode::IntegerOverflow) });
    let fault = fault(instance.run("run", &[Val::I32(7)]));
    assert_eq!(fault.code, TrapCode::IntegerOverflow);
    assert_eq!(fault.backtrace.frames[0].func_name.as_deref(), Some("run"));
    assert_usable(&mut instance);
}

#[test]
fn a_host_function_ends_the_guest_and_hands_out_a_value() {
    #[derive(Debug, PartialEq)]
    struct ExitCode(i32);
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, HostError> {
        if n > 0 {
            vmctx.call_export("run", &[Val::I32(n - 1)])?;
        }
        Err(HostError::terminate(ExitCode(n)))
    });
    for depth in [0, 10] {
        let error = instance.run("run", &[Val::I32(depth)]).unwrap_err();
        let RuntimeError::RuntimeTerminated(details) = error else {
            panic!("{error}")
        };
        let value = details.provided_details().unwrap();
        assert_eq!(
            value.downcast_ref(),
            Some(&ExitCode(0)),
            "the innermost one ended it"
        );
        assert!(instance.is_terminated());
        instance.reset().unwrap();
    }
    assert_usable(&mut instance);
}

#[test]
fn a_termination_can_be_caught_by_an_outer_host_function() {
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, HostError> {
        if n == 0 {
            return Err(HostError::terminate("enough"));
        }
        match vmctx.call_export("run", &[Val::I32(n - 1)]) {
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::Provided(_))) => Ok(77),
            other => Ok(one(&other?)),
        }
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(5)])), 77);
}

#[test]
fn a_panic_of_a_host_function_goes_on_in_the_caller() {
    let (_sandbox, mut instance) = caller(|_, n| {
        assert!(n != 3, "three is too many");
        n
    });
    for _ in 0..3 {
        let run = AssertUnwindSafe(|| instance.run("run", &[Val::I32(3)]));
        let payload = catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"three is too many"));
        assert!(instance.is_terminated());
        instance.reset().unwrap();
        assert_eq!(returned_i32(instance.run("run", &[Val::I32(2)])), 2);
        assert_usable(&mut instance);
    }
}

#[test]
fn a_panic_carries_its_payload_through_all_levels_and_drops_what_hosts_hold() {
    #[derive(Debug, PartialEq)]
    struct Payload(Vec<u8>);
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Guard;
    impl Drop for Guard {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (_sandbox, mut instance) = caller(|vmctx, n| -> Result<i32, HostError> {
        let _guard = Guard;
        if n == 0 {
            panic_any(Payload(vec![1, 2, 3]));
        }
        Ok(one(&vmctx.call_export("run", &[Val::I32(n - 1)])?))
    });
    let run = AssertUnwindSafe(|| instance.run("run", &[Val::I32(50)]));
    let payload = catch_unwind(run).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&Payload(vec![1, 2, 3])));
    assert_eq!(DROPPED.load(Ordering::Relaxed), 51);
    instance.reset().unwrap();
    assert_usable(&mut instance);
}

#[test]
fn a_host_function_may_catch_the_panic_of_an_inner_one() {
    let (_sandbox, mut instance) = caller(|vmctx, n| {
        if n == 0 {
            panic!("inner");
        }
        let call = AssertUnwindSafe(|| vmctx.call_export("run", &[Val::I32(n - 1)]));
        match catch_unwind(call) {
            Ok(values) => one(&values.unwrap()) + 1,
            Err(_) => 100,
        }
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(9)])), 108);
    assert_usable(&mut instance);
}

#[test]
fn panics_and_errors_of_functions_with_arguments_beyond_registers_are_carried_too() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |_: &Vmctx<'_>,
             a: i32,
             _: i32,
             _: i32,
             _: i32,
             _: i32|
             -> Result<(i32, i32), TrapCode> {
                match a {
                    0 => panic!("zero"),
                    1 => Err(TrapCode::NullReference),
                    _ => Ok((a, a + 1)),
                }
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32 i32 i32 i32 i32) (result i32 i32)))
            (func (export "run") (param i32) (result i32)
                (i32.add (call $f (local.get 0) (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))))"#,
    );
    let payload =
        catch_unwind(AssertUnwindSafe(|| instance.run("run", &[Val::I32(0)]))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"zero"));
    instance.reset().unwrap();
    assert_eq!(
        fault(instance.run("run", &[Val::I32(1)])).code,
        TrapCode::NullReference
    );
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(2)])), 5);
}

#[test]
fn failures_of_a_host_function_that_the_host_calls_itself_come_out_too() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |_: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
                match n {
                    0 => panic!("zero"),
                    1 => Err(HostError::new(DatabaseError(1))),
                    2 => Err(HostError::terminate(2u8)),
                    3 => Err(TrapCode::Unreachable.into()),
                    n => Ok(n),
                }
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32) (result i32))) (export "f" (func $f)))"#,
    );
    let payload = catch_unwind(AssertUnwindSafe(|| instance.run("f", &[Val::I32(0)]))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"zero"));
    instance.reset().unwrap();
    let error = instance.run("f", &[Val::I32(1)]).unwrap_err();
    assert!(matches!(error, RuntimeError::HostFunction(_)));
    let error = instance.run("f", &[Val::I32(2)]).unwrap_err();
    assert!(matches!(error, RuntimeError::RuntimeTerminated(_)));
    instance.reset().unwrap();
    assert_eq!(
        fault(instance.run("f", &[Val::I32(3)])).code,
        TrapCode::Unreachable
    );
    assert_eq!(returned_i32(instance.run("f", &[Val::I32(4)])), 4);
}

#[test]
fn an_untyped_host_function_must_leave_values_of_its_type() {
    let mut sandbox = Sandbox::new();
    let ty = FuncType::new([ValType::I32], [ValType::I32]);
    sandbox
        .linker
        .func_new("h", "f", ty, |_, params, results| {
            assert!(matches!(results, [Val::I32(0)]), "results begin as zeros");
            if params[0].i32() == Some(1) {
                results[0] = Val::I64(1);
            }
            Ok(())
        })
        .unwrap();
    let mut instance = sandbox.instance(CALLER);
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 0);
    let error = instance.run("run", &[Val::I32(1)]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the host function returns (i32), got (i64)"),
        "{error}"
    );
    assert_usable(&mut instance);
}

#[test]
fn a_host_function_runs_a_guest_of_another_instance() {
    let sandbox = Sandbox::new();
    let other = Arc::new(std::sync::Mutex::new(sandbox.instance(
        r#"(module (memory (export "m") 1)
            (func (export "run") (param i32) (result i32)
                (i32.load (local.get 0))))"#,
    )));
    let (_sandbox, mut instance) = caller(move |_, n| -> Result<i32, RuntimeError> {
        let mut other = other.lock().unwrap();
        match other.run("run", &[Val::I32(n)]) {
            Ok(result) => Ok(result.unwrap_returned().into()),
            Err(RuntimeError::RuntimeFault(fault)) if n == -1 => {
                assert_eq!(fault.code, TrapCode::HeapOutOfBounds);
                // Only its own guest was on its stack.
                assert_eq!(fault.backtrace.frames.len(), 1);
                Ok(5)
            }
            Err(error) => Err(error),
        }
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 0);
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(-1)])), 5);
    assert_eq!(
        fault(instance.run("run", &[Val::I32(65536)])).code,
        TrapCode::HeapOutOfBounds
    );
    assert_usable(&mut instance);
}

#[test]
fn a_panic_of_an_inner_instances_host_function_passes_through_the_outer_one() {
    let mut inner = Sandbox::new();
    inner
        .linker
        .func("h", "f", |_: &Vmctx<'_>, _: i32| -> i32 {
            panic!("innermost")
        })
        .unwrap();
    let other = std::sync::Mutex::new(inner.instance(CALLER));
    let (_sandbox, mut instance) = caller(move |_, n| {
        // A panic poisons the lock, which is of no meaning here.
        let mut other = other
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if other.is_terminated() {
            other.reset().unwrap();
        }
        match n {
            0 => returned_i32(other.run("add", &[Val::I32(1), Val::I32(2)])),
            _ => returned_i32(other.run("run", &[Val::I32(0)])),
        }
    });
    for _ in 0..5 {
        let run = AssertUnwindSafe(|| instance.run("run", &[Val::I32(1)]));
        let payload = catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"innermost"));
        // The panic ended both guests.
        instance.reset().unwrap();
        assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 3);
        fault(instance.run("trap", &[]));
    }
}

#[test]
fn host_functions_are_kept_as_long_as_a_program_or_instance_uses_them() {
    let kept = Arc::new(());
    let mut sandbox = Sandbox::new();
    let held = kept.clone();
    sandbox
        .linker
        .func("h", "f", move |_: &Vmctx<'_>, n: i32| {
            n + Arc::strong_count(&held) as i32
        })
        .unwrap();
    let program = sandbox.program(CALLER);
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    drop((sandbox, program));
    assert_eq!(Arc::strong_count(&kept), 2);
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 2);
    drop(instance);
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn the_host_functions_of_a_linker_are_shared_by_all_instances() {
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", move |_: &Vmctx<'_>, n: i32| {
            counter.fetch_add(1, Ordering::Relaxed);
            n
        })
        .unwrap();
    let program = sandbox.program(CALLER);
    let mut instances: Vec<_> = (0..5)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    for instance in &mut instances {
        returned(instance.run("run", &[Val::I32(1)]));
    }
    assert_eq!(count.load(Ordering::Relaxed), 5);
}
