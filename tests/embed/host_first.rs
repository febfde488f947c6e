//! Host functions that the host calls itself, because the module exports what it imports: what holds for one that
//! a guest calls holds for them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use selvedge::{
    Flow, HostError, InstanceHandle, RuntimeError, TerminationDetails, TrapCode, Val, Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32))) (export "f" (func $f))
    (import "h" "suspend" (func $suspend))
    (memory (export "memory") 1)
    (func (export "store") (i32.store (i32.const 0) (i32.const 7)))
    (func (export "suspend") (result i32) (call $suspend) (i32.const 9))
    (func (export "trap") unreachable)
    (func (export "one") (result i32) (i32.const 1)))"#;

fn instance(
    func: impl Fn(&Vmctx<'_>, i32) -> Result<i32, HostError> + Send + Sync + 'static,
) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", func)
        .unwrap()
        .func("h", "suspend", |_: &Vmctx<'_>| {
            Flow::from(Yield::returning(()))
        })
        .unwrap();
    sandbox.instance(GUEST)
}

#[test]
fn no_guest_runs_while_such_a_function_holds_its_memory() {
    let mut instance = instance(|vmctx, n| {
        if n == 0 {
            let heap = vmctx.heap()?;
            let refused = vmctx.call_export("store", &[]);
            assert!(matches!(refused, Err(RuntimeError::MemoryBorrowed)));
            assert_eq!(heap[0], 0);
        }
        let mut heap = vmctx.heap_mut()?;
        heap[1] = 5;
        let refused = vmctx.call_export("store", &[]);
        assert!(matches!(refused, Err(RuntimeError::MemoryBorrowed)));
        assert_eq!(heap[..2], [0, 5]);
        assert!(vmctx.grow_memory(1).is_err());
        drop(heap);
        vmctx.call_export("store", &[])?;
        Ok(vmctx.heap()?[0].into())
    });
    for n in 0..2 {
        assert_eq!(returned_i32(instance.run("f", &[Val::I32(n)])), 7);
        instance.reset().unwrap();
    }
}

#[test]
fn no_guest_is_suspended_under_such_a_function() {
    let mut instance = instance(|vmctx, _| {
        for _ in 0..3 {
            let refused = vmctx.call_export("suspend", &[]);
            assert!(matches!(refused, Err(RuntimeError::YieldRefused(_))));
        }
        match vmctx.call_export("one", &[])?[..] {
            [Val::I32(one)] => Ok(one),
            ref other => panic!("{other:?}"),
        }
    });
    assert_eq!(returned_i32(instance.run("f", &[Val::I32(0)])), 1);
    assert!(instance.is_ready() && instance.resume().is_err());
    assert!(instance.run("suspend", &[]).unwrap().is_yielded());
    assert!(matches!(
        instance.run("f", &[Val::I32(0)]),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert_eq!(returned_i32(instance.resume()), 9);
}

#[test]
fn the_instance_is_left_as_such_a_function_ended() {
    let mut instance = instance(|vmctx, n| match n {
        0 => panic!("a panic"),
        1 => Err(HostError::new("failed")),
        2 => Err(HostError::terminate(2u8)),
        3 => Err(TrapCode::Unreachable.into()),
        4 => {
            fault(vmctx.call_export("trap", &[]));
            Ok(4)
        }
        n => Ok(n),
    });
    let run = |instance: &mut InstanceHandle, n| instance.run("f", &[Val::I32(n)]);
    let payload = catch_unwind(AssertUnwindSafe(|| run(&mut instance, 0))).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"a panic"));
    assert!(instance.is_terminated() && run(&mut instance, 5).is_err());
    instance.reset().unwrap();
    instance.set_catch_panics(true);
    assert!(matches!(
        run(&mut instance, 0),
        Err(RuntimeError::RuntimeTerminated(
            TerminationDetails::OtherPanic(_)
        ))
    ));
    assert!(instance.is_terminated());
    instance.reset().unwrap();
    assert!(matches!(
        run(&mut instance, 1),
        Err(RuntimeError::HostFunction(_))
    ));
    assert!(instance.is_faulted());
    assert_eq!(fault(run(&mut instance, 3)).code, TrapCode::Unreachable);
    assert!(instance.is_faulted());
    assert_eq!(returned_i32(run(&mut instance, 4)), 4);
    assert!(instance.is_ready(), "an inner guest's trap is not its end");
    assert!(matches!(
        run(&mut instance, 2),
        Err(RuntimeError::RuntimeTerminated(_))
    ));
    assert!(instance.is_terminated() && run(&mut instance, 5).is_err());
    instance.reset().unwrap();
    assert_eq!(returned_i32(run(&mut instance, 5)), 5);
}
