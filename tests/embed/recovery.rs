//! After whatever end of a guest, its instance works again: without a reset if it faulted, with one if it was
//! ended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge::{HostError, InstanceHandle, RuntimeError, TerminationDetails, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32)))
    (memory 1) (global $g (mut i32) (i32.const 0))
    (table 3 funcref) (elem (i32.const 1) $nothing)
    (func $nothing)
    (func $change (global.set $g (i32.const 1)) (i32.store (i32.const 0) (i32.const 7)))
    (func (export "store") (call $change) (i32.store (i32.const 65536) (i32.const 0)))
    (func (export "signature") (call $change)
        (drop (call_indirect (result i32) (i32.const 1))))
    (func (export "null") (call $change) (call_indirect (i32.const 0)))
    (func (export "table") (call $change) (call_indirect (i32.const 3)))
    (func (export "divide") (call $change) (drop (i32.div_s (i32.const 1) (i32.load (i32.const 8)))))
    (func (export "overflow") (call $change)
        (drop (i32.div_s (i32.const 0x80000000) (i32.sub (i32.load (i32.const 8)) (i32.const 1)))))
    (func (export "convert") (call $change) (drop (i32.trunc_f64_s (f64.const nan))))
    (func (export "unreachable") (call $change) unreachable)
    (func $deep (export "deep") (call $change) (call $deep))
    (func (export "host") (param i32) (call $change) (call $f (local.get 0)))
    (func (export "state") (result i32) (i32.add (global.get $g) (i32.load (i32.const 0)))))"#;

fn instance() -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |vmctx: &Vmctx<'_>, n: i32| -> Result<(), HostError> {
                match n {
                    0 => vmctx.terminate("a static text"),
                    1 => std::panic::panic_any(77u16),
                    2 => Err(HostError::new("failed")),
                    _ => Err(TrapCode::Unreachable.into()),
                }
            },
        )
        .unwrap();
    sandbox.instance(GUEST)
}

#[test]
fn after_every_trap_the_instance_runs_on_and_a_reset_makes_it_new() {
    let mut instance = instance();
    for (name, code) in [
        ("store", TrapCode::HeapOutOfBounds),
        ("signature", TrapCode::BadSignature),
        ("null", TrapCode::IndirectCallToNull),
        ("table", TrapCode::UndefinedElement),
        ("divide", TrapCode::IntegerDivisionByZero),
        ("overflow", TrapCode::IntegerOverflow),
        ("convert", TrapCode::BadConversionToInteger),
        ("unreachable", TrapCode::Unreachable),
        ("deep", TrapCode::StackOverflow),
    ] {
        assert_eq!(returned_i32(instance.run("state", &[])), 0, "before {name}");
        assert_eq!(fault(instance.run(name, &[])).code, code, "{name}");
        assert!(instance.is_faulted() && instance.resume().is_err());
        // Another function runs without a reset, on what the guest left.
        assert_eq!(returned_i32(instance.run("state", &[])), 8, "after {name}");
        assert!(instance.is_ready());
        assert_eq!(fault(instance.run(name, &[])).code, code, "{name} again");
        instance.reset().unwrap();
        assert!(instance.is_ready());
    }
}

#[test]
fn after_every_end_by_a_host_function_a_reset_makes_the_instance_new() {
    let mut instance = instance();
    for _ in 0..3 {
        match instance.run("host", &[Val::I32(0)]) {
            Err(RuntimeError::RuntimeTerminated(details)) => {
                let text = details.provided_details().unwrap().downcast_ref::<&str>();
                assert_eq!(text, Some(&"a static text"));
            }
            other => panic!("{other:?}"),
        }
        assert_recovers(&mut instance, true);

        instance.set_catch_panics(true);
        match instance.run("host", &[Val::I32(1)]) {
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::OtherPanic(payload))) => {
                assert!(payload.with(|value| value.downcast_ref() == Some(&77u16)));
            }
            other => panic!("{other:?}"),
        }
        assert_recovers(&mut instance, true);

        instance.set_catch_panics(false);
        let payload = catch_unwind(AssertUnwindSafe(|| instance.run("host", &[Val::I32(1)])));
        assert_eq!(payload.unwrap_err().downcast_ref(), Some(&77u16));
        assert_recovers(&mut instance, true);

        let error = instance.run("host", &[Val::I32(2)]).unwrap_err();
        assert!(matches!(error, RuntimeError::HostFunction(_)), "{error}");
        assert_recovers(&mut instance, false);
        assert_eq!(
            fault(instance.run("host", &[Val::I32(3)])).code,
            TrapCode::Unreachable
        );
        assert_recovers(&mut instance, false);
    }
}

/// The instance is in the state that such an end leaves, and a reset makes it new.
fn assert_recovers(instance: &mut InstanceHandle, terminated: bool) {
    assert_eq!(instance.is_terminated(), terminated);
    assert_eq!(instance.is_faulted(), !terminated);
    let run = instance.run("state", &[]);
    match terminated {
        true => assert!(matches!(run, Err(RuntimeError::InvalidArgument(_)))),
        false => assert_eq!(returned_i32(run), 8),
    }
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("state", &[])), 0);
}

#[test]
fn a_start_function_that_is_ended_in_any_way_has_run_and_a_reset_lets_it_run_again() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |vmctx: &Vmctx<'_>| -> Result<(), HostError> {
            let mut left = vmctx.get_embed_ctx_mut::<u32>()?;
            *left -= 1;
            match *left {
                3 => vmctx.terminate(5u8),
                2 => Err(TrapCode::Unreachable.into()),
                1 => Err(HostError::new("failed")),
                _ => Ok(()),
            }
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f)) (global $g (mut i32) (i32.const 0))
            (func $start (global.set $g (i32.const 1)) (call $f)) (start $start)
            (func (export "started") (result i32) (global.get $g)))"#,
    );
    instance.insert_embed_ctx(4u32);
    for round in 0..4 {
        assert!(instance.is_not_started());
        assert!(matches!(
            instance.run("started", &[]),
            Err(RuntimeError::InstanceNeedsStart)
        ));
        let ended = instance.run_start();
        assert!(matches!(
            (round, ended),
            (0, Err(RuntimeError::RuntimeTerminated(_)))
                | (1, Err(RuntimeError::RuntimeFault(_)))
                | (2, Err(RuntimeError::HostFunction(_)))
                | (3, Ok(()))
        ));
        assert!(matches!(
            instance.run_start(),
            Err(RuntimeError::StartAlreadyRun)
        ));
        match round {
            0 => assert!(instance.is_terminated() && instance.run("started", &[]).is_err()),
            _ => assert_eq!(returned_i32(instance.run("started", &[])), 1),
        }
        instance.reset().unwrap();
    }
    // Its effects went with each reset.
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(0));
}

#[test]
fn a_call_that_fails_before_it_enters_the_guest_changes_nothing() {
    let mut instance = instance();
    returned(instance.run("state", &[]));
    for _ in 0..3 {
        assert!(instance.run("absent", &[]).is_err());
        assert!(instance.run("state", &[Val::I32(1)]).is_err());
        assert!(instance.run("host", &[]).is_err());
        assert!(instance.run("host", &[Val::F32(1.0)]).is_err());
        assert!(instance.run_func_idx(0, 0, &[]).is_err());
        assert!(instance.is_ready());
    }
    assert_eq!(returned_i32(instance.run("state", &[])), 0);
}
