//! Suspended guests: by host functions from the middle and by what they return, with and without values,
//! across memory accesses, calls back, threads, resets and drops.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge::{
    Exception, Flow, FuncType, HostError, InstanceHandle, RunResult, RuntimeError, Tag,
    TerminationDetails, TrapCode, Val, ValType, Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

/// A guest that adds up what `h.f` returns, with values of its own live across the calls.
const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 1)
    (global $calls (export "calls") (mut i32) (i32.const 0))
    (func (export "run") (param $n i32) (result i32) (local $sum i32) (local $i i32) (local $x f64)
        (local.set $x (f64.const 0.5))
        (loop $again
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (local.set $sum (i32.add (local.get $sum) (call $f (local.get $i))))
            (local.set $x (f64.add (local.get $x) (f64.const 1)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $i) (local.get $n))))
        (i32.store (i32.const 0) (i32.trunc_f64_s (local.get $x)))
        (local.get $sum))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "deep") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
            (else (call $f (i32.const 0)))))
    (func $deep (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
            (else (call $f (i32.const 0)))))
    (func (export "trap") unreachable))"#;

/// An instance of [`GUEST`] with this host function, which may suspend in the middle.
fn suspending<R: selvedge::HostReturn<Results = i32> + 'static>(
    func: impl Fn(&Vmctx<'_>, i32) -> R + Send + Sync + 'static,
) -> (Sandbox, InstanceHandle) {
    let mut sandbox = Sandbox::new();
    sandbox.linker.suspending_func("h", "f", func).unwrap();
    let instance = sandbox.instance(GUEST);
    (sandbox, instance)
}

/// An instance of [`GUEST`] with this host function, which may suspend by what it returns.
fn returning<R: selvedge::HostReturn<Results = i32> + 'static>(
    func: impl Fn(&Vmctx<'_>, i32) -> R + Send + Sync + 'static,
) -> (Sandbox, InstanceHandle) {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    let instance = sandbox.instance(GUEST);
    (sandbox, instance)
}

fn yielded<A: std::any::Any>(result: Result<RunResult, RuntimeError>) -> A {
    let val = result.unwrap().yielded().unwrap();
    *val.downcast().expect("a value of the right type")
}

#[test]
fn a_guest_that_is_suspended_in_the_middle_goes_on_where_it_was() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        let local = i * 10;
        vmctx.yield_()?;
        Ok(local + 1)
    });
    let result = instance.run("run", &[Val::I32(5)]).unwrap();
    assert!(result.is_yielded() && result.yielded().unwrap().is_none());
    for i in 1..5 {
        assert!(instance.is_yielded());
        assert_eq!(instance.global("calls").unwrap().i32(), Some(i));
        assert!(instance.resume().unwrap().is_yielded());
    }
    assert_eq!(returned_i32(instance.resume()), 10 + 20 + 30 + 40 + 5);
    assert!(instance.is_ready());
    assert_eq!(instance.heap().unwrap()[0], 5);
    assert_eq!(
        returned_i32(instance.run("add", &[Val::I32(1), Val::I32(2)])),
        3
    );
}

#[test]
fn a_guest_that_is_suspended_by_a_return_value_goes_on_where_it_was() {
    let (_sandbox, mut instance) =
        returning(|_, i| Flow::from(Yield::returning(i + 100).with_val(i)));
    assert_eq!(yielded::<i32>(instance.run("run", &[Val::I32(4)])), 0);
    for i in 1..4 {
        assert_eq!(yielded::<i32>(instance.resume()), i);
    }
    assert_eq!(returned_i32(instance.resume()), 406);
    assert_eq!(instance.heap().unwrap()[0], 4);
}

#[test]
fn values_go_both_ways_from_the_middle() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        let given: u64 = vmctx.yield_val_expecting_val(format!("number {i}"))?;
        let more: Vec<i32> = vmctx.yield_expecting_val()?;
        vmctx.yield_val(given)?;
        Ok(given as i32 + more.iter().sum::<i32>())
    });
    let text: String = yielded(instance.run("run", &[Val::I32(1)]));
    assert_eq!(text, "number 0");
    assert!(
        instance
            .resume_with_val(40u64)
            .unwrap()
            .yielded()
            .unwrap()
            .is_none()
    );
    assert_eq!(yielded::<u64>(instance.resume_with_val(vec![1, 1])), 40);
    assert_eq!(returned_i32(instance.resume()), 42);
}

#[test]
fn values_go_both_ways_by_return_values() {
    let (_sandbox, mut instance) = returning(|_, _| -> Flow<i32> {
        Yield::expecting(|vmctx: &Vmctx<'_>, a: i32| {
            vmctx.heap_mut()?[100] = a as u8;
            let next =
                Yield::expecting(move |_: &Vmctx<'_>, b: i64| Ok(Flow::Return(a + b as i32)));
            Ok(next.with_val("and another").into())
        })
        .with_val("a number")
        .into()
    });
    assert_eq!(
        yielded::<&str>(instance.run("run", &[Val::I32(1)])),
        "a number"
    );
    assert_eq!(
        yielded::<&str>(instance.resume_with_val(2i32)),
        "and another"
    );
    assert_eq!(instance.heap().unwrap()[100], 2);
    assert_eq!(returned_i32(instance.resume_with_val(40i64)), 42);
}

#[test]
fn a_wrong_value_is_refused_and_the_guest_stays_suspended() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        match i {
            0 => vmctx.yield_expecting_val::<i32>(),
            _ => vmctx.yield_().map(|()| 1),
        }
    });
    instance.run("run", &[Val::I32(2)]).unwrap();
    for _ in 0..3 {
        let error = instance.resume_with_val(1u32).unwrap_err();
        assert!(error.to_string().contains("a value of type i32"), "{error}");
        let error = instance.resume().unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidArgument(_)));
        assert!(instance.is_yielded());
    }
    assert!(instance.resume_with_val(6i32).unwrap().is_yielded());
    let error = instance.resume_with_val(6i32).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidArgument(_)));
    assert_eq!(returned_i32(instance.resume()), 7);
}

#[test]
fn the_embedder_reads_and_writes_everything_while_the_guest_waits() {
    let (_sandbox, mut instance) = suspending(|vmctx, _| -> Result<i32, HostError> {
        vmctx.heap_mut()?[7] = 1;
        vmctx.yield_()?;
        assert_eq!(vmctx.heap()?.len(), 2 << 16, "the host has grown it");
        Ok(i32::from(vmctx.heap()?[7]))
    });
    instance.run("run", &[Val::I32(1)]).unwrap();
    assert_eq!(instance.heap().unwrap()[7], 1);
    instance.heap_mut().unwrap()[7] = 99;
    assert_eq!(instance.grow_memory(1).unwrap(), 1);
    instance.set_global("calls", &Val::I32(50)).unwrap();
    instance.insert_embed_ctx(5u8);
    assert_eq!(returned_i32(instance.resume()), 99);
    assert_eq!(instance.global("calls").unwrap().i32(), Some(50));
}

#[test]
fn only_resuming_and_resetting_move_a_suspended_guest() {
    let (_sandbox, mut instance) = suspending(|vmctx, _| vmctx.yield_().map(|()| 3));
    let add = instance.typed_func::<(i32, i32), i32>("add").unwrap();
    instance.run("run", &[Val::I32(1)]).unwrap();
    let refused = |result: Result<RunResult, RuntimeError>| {
        assert!(matches!(result, Err(RuntimeError::InvalidArgument(_))));
    };
    refused(instance.run("add", &[Val::I32(1), Val::I32(2)]));
    assert!(matches!(
        add.call(&mut instance, (1, 2)),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert_eq!(returned_i32(instance.resume()), 3);
    refused(instance.resume());
    refused(instance.resume_with_val(1));
    assert_eq!(add.call(&mut instance, (1, 2)).unwrap(), 3);
}

#[test]
fn a_typed_call_that_is_suspended_says_so_and_keeps_what_was_handed_out() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| vmctx.yield_val(i).map(|()| 7));
    let run = instance.typed_func::<i32, i32>("run").unwrap();
    let error = run.call(&mut instance, 1).unwrap_err();
    assert!(matches!(error, RuntimeError::InstanceYielded));
    assert!(instance.is_yielded());
    let val = instance.take_yielded().unwrap();
    assert_eq!(val.downcast_ref(), Some(&0i32));
    assert!(val.downcast::<u8>().is_err() && instance.take_yielded().is_none());
    assert_eq!(returned_i32(instance.resume()), 7);
}

#[test]
fn a_host_function_calls_the_guest_before_and_after_it_waits() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        let add = |a: i32, b: i32| -> Result<i32, HostError> {
            Ok(vmctx.call_export("add", &[Val::I32(a), Val::I32(b)])?[0]
                .i32()
                .unwrap())
        };
        let before = add(i, 1)?;
        fault(vmctx.call_export("trap", &[]));
        vmctx.yield_()?;
        let after = add(before, 1)?;
        fault(vmctx.call_export("trap", &[]));
        vmctx.yield_()?;
        add(after, 1)
    });
    let mut result = instance.run("run", &[Val::I32(3)]).unwrap();
    let mut waits = 0;
    while result.is_yielded() {
        waits += 1;
        result = instance.resume().unwrap();
    }
    assert_eq!((waits, i32::from(result.unwrap_returned())), (6, 3 + 4 + 5));
    assert_eq!(
        instance.heap().unwrap()[0],
        3,
        "registers were kept for the guest"
    );
}

#[test]
fn a_guest_deep_in_its_stack_waits_with_all_its_frames() {
    let (_sandbox, mut instance) = suspending(|vmctx, _| vmctx.yield_().map(|()| 0));
    for depth in [1, 1000, 5000] {
        assert!(
            instance
                .run("deep", &[Val::I32(depth)])
                .unwrap()
                .is_yielded()
        );
        assert_eq!(returned_i32(instance.resume()), depth);
    }
}

#[test]
fn an_error_trap_or_panic_after_waiting_ends_the_guest_as_before() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        vmctx.yield_()?;
        match i {
            0 => match vmctx.heap()?[50] {
                1 => Err(HostError::new("no")),
                2 => Err(TrapCode::IntegerOverflow.into()),
                3 => Err(HostError::terminate(8u8)),
                _ => panic!("four"),
            },
            _ => Ok(1),
        }
    });
    for n in 1..=4u8 {
        instance.reset().unwrap();
        instance.heap_mut().unwrap()[50] = n;
        assert!(instance.run("run", &[Val::I32(1)]).unwrap().is_yielded());
        let result = catch_unwind(AssertUnwindSafe(|| instance.resume()));
        match (n, result) {
            (1, Ok(Err(RuntimeError::HostFunction(error)))) => assert_eq!(error.to_string(), "no"),
            (2, Ok(Err(RuntimeError::RuntimeFault(fault)))) => {
                assert_eq!(fault.code, TrapCode::IntegerOverflow);
                assert_eq!(fault.backtrace.frames[0].func_name.as_deref(), Some("run"));
            }
            (3, Ok(Err(RuntimeError::RuntimeTerminated(details)))) => {
                assert_eq!(
                    details.provided_details().unwrap().downcast_ref(),
                    Some(&8u8)
                );
            }
            (4, Err(payload)) => assert_eq!(payload.downcast_ref(), Some(&"four")),
            (n, other) => panic!("{n}: {other:?}"),
        }
        assert_eq!(
            (instance.is_faulted(), instance.is_terminated()),
            (n < 3, n >= 3)
        );
    }
}

#[test]
fn a_panic_becomes_a_value_for_who_asks_for_it() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        if i == 1 {
            vmctx.yield_()?;
        }
        panic!("number {i}")
    });
    instance.set_catch_panics(true);
    let error = instance.run("run", &[Val::I32(1)]).unwrap_err();
    let RuntimeError::RuntimeTerminated(TerminationDetails::OtherPanic(payload)) = error else {
        panic!("{error}")
    };
    assert_eq!(payload.to_string(), "number 0");
    assert!(payload.into_inner().is::<String>() && instance.is_terminated());
}

/// Counts how often it is dropped, and is of one thread.
struct Guard(
    Arc<AtomicU32>,
    Cell<()>,
    std::marker::PhantomData<*const ()>,
);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn guarded() -> (Sandbox, InstanceHandle, Arc<AtomicU32>) {
    let dropped = Arc::new(AtomicU32::new(0));
    let counter = dropped.clone();
    let (sandbox, instance) = suspending(move |vmctx, _| -> Result<i32, HostError> {
        let _guard = Guard(counter.clone(), Cell::new(()), std::marker::PhantomData);
        vmctx.yield_()?;
        Ok(1)
    });
    (sandbox, instance, dropped)
}

#[test]
fn dropping_a_suspended_instance_unwinds_its_host_function() {
    let (sandbox, mut instance, dropped) = guarded();
    instance.run("run", &[Val::I32(1)]).unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    drop(instance);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn resetting_a_suspended_instance_unwinds_its_host_function() {
    let (_sandbox, mut instance, dropped) = guarded();
    for n in 1..=20 {
        instance.run("run", &[Val::I32(1)]).unwrap();
        instance.reset().unwrap();
        assert!(instance.is_ready());
        assert_eq!(dropped.load(Ordering::Relaxed), n);
        assert_eq!(instance.global("calls").unwrap().i32(), Some(0));
    }
    instance.run("run", &[Val::I32(1)]).unwrap();
    assert_eq!(returned_i32(instance.resume()), 1);
}

#[test]
fn a_host_function_that_catches_its_unwinding_is_not_resumed_by_it() {
    let caught = Arc::new(AtomicU32::new(0));
    let counter = caught.clone();
    let (_sandbox, mut instance) = suspending(move |vmctx, _| -> Result<i32, HostError> {
        for _ in 0..3 {
            if catch_unwind(AssertUnwindSafe(|| vmctx.yield_())).is_err() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        panic!("something else")
    });
    instance.run("run", &[Val::I32(1)]).unwrap();
    instance.reset().unwrap();
    assert_eq!(caught.load(Ordering::Relaxed), 3);
    assert!(instance.is_ready());
}

#[test]
fn destructors_of_an_unwound_host_function_may_call_the_guest() {
    struct CallsBack<'a>(&'a Vmctx<'a>);
    impl Drop for CallsBack<'_> {
        fn drop(&mut self) {
            let sum = self
                .0
                .call_export("add", &[Val::I32(1), Val::I32(2)])
                .unwrap();
            assert_eq!(sum[0].i32(), Some(3));
            fault(self.0.call_export("trap", &[]));
        }
    }
    let (_sandbox, mut instance) = suspending(|vmctx, _| -> Result<i32, HostError> {
        let _calls_back = CallsBack(vmctx);
        vmctx.yield_()?;
        Ok(1)
    });
    instance.run("run", &[Val::I32(1)]).unwrap();
    instance.reset().unwrap();
    assert_eq!(
        returned_i32(instance.run("add", &[Val::I32(1), Val::I32(2)])),
        3
    );
}

#[test]
fn frames_of_another_thread_are_neither_resumed_nor_unwound() {
    let (sandbox, mut instance, dropped) = guarded();
    instance.run("run", &[Val::I32(1)]).unwrap();
    let mut instance = std::thread::spawn(move || {
        assert!(matches!(instance.resume(), Err(RuntimeError::OtherThread)));
        assert!(matches!(instance.reset(), Err(RuntimeError::OtherThread)));
        assert!(instance.is_yielded());
        instance
    })
    .join()
    .unwrap();
    assert_eq!(returned_i32(instance.resume()), 1);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    instance.run("run", &[Val::I32(1)]).unwrap();
    std::thread::spawn(move || drop(instance)).join().unwrap();
    assert_eq!(
        dropped.load(Ordering::Relaxed),
        1,
        "they stay where they are"
    );
    assert_eq!(sandbox.region.used_slots(), 0, "the slot does not");
}

#[test]
fn a_guest_without_frames_of_the_host_is_resumed_on_any_thread() {
    let (_sandbox, mut instance) = returning(|_, i| -> Flow<i32> {
        Yield::then(move |vmctx| Ok(Flow::Return(i + i32::from(vmctx.heap()?[3])))).into()
    });
    instance.run("run", &[Val::I32(3)]).unwrap();
    instance.heap_mut().unwrap()[3] = 10;
    for _ in 0..2 {
        instance = std::thread::spawn(move || {
            assert!(instance.resume().unwrap().is_yielded());
            instance
        })
        .join()
        .unwrap();
    }
    assert_eq!(returned_i32(instance.resume()), 33);
}

#[test]
fn what_is_borrowed_keeps_a_guest_from_being_suspended() {
    let (_sandbox, mut instance) = suspending(|vmctx, i| -> Result<i32, HostError> {
        let borrow_error = |result: Result<(), HostError>| match result.unwrap_err() {
            HostError::Terminate(details) => details,
            other => panic!("{other}"),
        };
        if i == 0 {
            let heap = vmctx.heap()?;
            assert_eq!(
                borrow_error(vmctx.yield_()),
                TerminationDetails::BorrowError("heap")
            );
            drop(heap);
            let ctx = vmctx.get_embed_ctx::<u8>()?;
            assert_eq!(
                borrow_error(vmctx.yield_()),
                TerminationDetails::BorrowError("embed_ctx")
            );
            drop(ctx);
        }
        vmctx.yield_().map(|()| 1)
    });
    instance.insert_embed_ctx(0u8);
    assert!(instance.run("run", &[Val::I32(1)]).unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume()), 1);
}

fn refusal(result: Result<RunResult, RuntimeError>) -> &'static str {
    match result.unwrap_err() {
        RuntimeError::YieldRefused(why) => why,
        other => panic!("{other}"),
    }
}

#[test]
fn an_ordinary_host_function_is_not_suspended_in_the_middle() {
    let (_sandbox, mut instance) = returning(|vmctx, _| vmctx.yield_().map(|()| 1));
    assert!(refusal(instance.run("run", &[Val::I32(1)])).contains("suspending_func"));
    assert!(instance.is_faulted());
}

#[test]
fn a_guest_that_a_host_function_called_is_not_suspended_under_it() {
    let nested = |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
        if n > 0 {
            return vmctx.yield_().map(|()| n);
        }
        let error = vmctx.call_export("run", &[Val::I32(2)]).unwrap_err();
        assert!(matches!(error, RuntimeError::YieldRefused(_)), "{error}");
        vmctx.yield_()?;
        Ok(8)
    };
    // The inner guest calls with 0 first, and so on until the stack of the fiber is short.
    let (_sandbox, mut instance) =
        suspending(move |vmctx, n| match vmctx.get_embed_ctx_mut::<u32>() {
            Ok(mut depth) if *depth == 0 => {
                *depth += 1;
                drop(depth);
                nested(vmctx, 0)
            }
            _ => nested(vmctx, n + 1),
        });
    instance.insert_embed_ctx(0u32);
    assert!(instance.run("run", &[Val::I32(1)]).unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume()), 8);

    let (_sandbox, mut instance) = returning(|vmctx, _| -> Result<Flow<i32>, HostError> {
        let inner = vmctx.get_embed_ctx_mut::<bool>()?.to_owned();
        *vmctx.get_embed_ctx_mut::<bool>()? = true;
        if !inner {
            let error = vmctx.call_export("run", &[Val::I32(1)]).unwrap_err();
            assert!(matches!(error, RuntimeError::YieldRefused(_)), "{error}");
        }
        Ok(Yield::returning(5).into())
    });
    instance.insert_embed_ctx(false);
    assert!(instance.run("run", &[Val::I32(1)]).unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume()), 5);
}

#[test]
fn a_host_function_that_a_host_function_called_suspends_no_guest() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .suspending_func("h", "middle", |vmctx: &Vmctx<'_>| {
            vmctx.yield_().map(|()| 1_i32)
        })
        .unwrap()
        .func("h", "word", |_: &Vmctx<'_>| -> Flow<i32> {
            Yield::returning(2).into()
        })
        .unwrap()
        .func("h", "closure", |_: &Vmctx<'_>| -> Flow<i32> {
            Yield::then(|_: &Vmctx<'_>| Ok(Flow::Return(3))).into()
        })
        .unwrap()
        .func("h", "outer", |vmctx: &Vmctx<'_>| {
            for name in ["middle", "word", "closure"] {
                let error = vmctx.call_export(name, &[]).unwrap_err();
                assert!(matches!(error, RuntimeError::YieldRefused(_)), "{error}");
            }
            Flow::from(Yield::returning(4))
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module
            (import "h" "middle" (func (result i32))) (export "middle" (func 0))
            (import "h" "word" (func (result i32))) (export "word" (func 1))
            (import "h" "closure" (func (result i32))) (export "closure" (func 2))
            (import "h" "outer" (func $outer (result i32)))
            (func (export "run") (result i32) (i32.add (call $outer) (i32.const 10))))"#,
    );
    for _ in 0..3 {
        assert!(instance.run("run", &[]).unwrap().is_yielded());
        assert_eq!(returned_i32(instance.resume()), 14);
    }
}

#[test]
fn a_host_function_that_no_guest_called_can_suspend_none() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .suspending_func("h", "f", |vmctx: &Vmctx<'_>| vmctx.yield_())
        .unwrap()
        .func("h", "g", |_: &Vmctx<'_>| Flow::from(Yield::returning(())))
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f)) (import "h" "g" (func $g))
            (export "f" (func $f)) (export "g" (func $g)))"#,
    );
    assert!(refusal(instance.run("f", &[])).contains("no guest"));
    assert!(refusal(instance.run("g", &[])).contains("no guest"));
    assert!(!instance.is_yielded());
}

#[test]
fn recursion_over_fibers_ends_in_a_trap() {
    let (_sandbox, mut instance) = suspending(|vmctx, n| -> Result<i32, RuntimeError> {
        Ok(vmctx.call_export("run", &[Val::I32(n + 1)])?[0]
            .i32()
            .unwrap())
    });
    let fault = fault(instance.run("run", &[Val::I32(1)]));
    assert_eq!(fault.code, TrapCode::StackOverflow);
}

#[test]
fn suspending_inside_catch_traps_is_refused() {
    use selvedge::traphandlers::{VMConfig, catch_traps};
    let (_sandbox, mut instance) = suspending(|vmctx, _| -> Result<i32, HostError> {
        let inside = catch_traps(None, &VMConfig::new(), || vmctx.yield_());
        assert!(inside?.unwrap_err().to_string().contains("catch_traps"));
        vmctx.yield_().map(|()| 1)
    });
    let outside = catch_traps(None, &VMConfig::new(), || {
        instance.run("run", &[Val::I32(1)])
    });
    assert!(outside.unwrap().unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume()), 1);
}

#[test]
fn results_of_every_kind_reach_a_guest_that_has_waited() {
    let mut sandbox = Sandbox::new();
    let many = FuncType::new([ValType::I32], [ValType::V128, ValType::FUNCREF]);
    sandbox
        .linker
        .suspending_func("h", "f32", |vmctx: &Vmctx<'_>| {
            vmctx.yield_().map(|()| 1.5f32)
        })
        .unwrap()
        .func("h", "f64", |_: &Vmctx<'_>| {
            Flow::from(Yield::returning(2.5f64))
        })
        .unwrap()
        .suspending_func("h", "pair", |vmctx: &Vmctx<'_>, a: i64| {
            vmctx.yield_().map(|()| (a, a as i32 + 1))
        })
        .unwrap()
        .func("h", "triple", |_: &Vmctx<'_>, a: i32| {
            Flow::from(Yield::returning((a, 2.0f32, i64::from(a))))
        })
        .unwrap()
        .suspending_func_new("h", "many", many, |vmctx, args, results| {
            vmctx.yield_()?;
            results[0] = Val::V128(args[0].i32().unwrap() as u128);
            Ok(())
        })
        .unwrap()
        .suspending_func("h", "none", |vmctx: &Vmctx<'_>| vmctx.yield_())
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module
            (import "h" "f32" (func $f32 (result f32)))
            (import "h" "f64" (func $f64 (result f64)))
            (import "h" "pair" (func $pair (param i64) (result i64 i32)))
            (import "h" "triple" (func $triple (param i32) (result i32 f32 i64)))
            (import "h" "many" (func $many (param i32) (result v128 funcref)))
            (import "h" "none" (func $none))
            (func (export "run") (result f32 f64 i64 i32 i32 f32 i64 v128 funcref)
                (call $f32) (call $f64) (call $pair (i64.const 9)) (call $triple (i32.const 4))
                (call $many (i32.const 77)) (call $none)))"#,
    );
    let mut result = instance.run("run", &[]).unwrap();
    let mut waits = 0;
    while result.is_yielded() {
        waits += 1;
        result = instance.resume().unwrap();
    }
    assert_eq!(waits, 6);
    let values = selvedge_tests::sandbox::bits(result.unwrap_returned().values());
    let expected = [
        Val::F32(1.5),
        Val::F64(2.5),
        Val::I64(9),
        Val::I32(10),
        Val::I32(4),
        Val::F32(2.0),
        Val::I64(4),
        Val::V128(77),
        Val::FuncRef(None),
    ];
    assert_eq!(values, selvedge_tests::sandbox::bits(&expected));
}

#[test]
fn a_start_function_that_is_suspended_is_finished_by_resuming() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .suspending_func("h", "f", |vmctx: &Vmctx<'_>| vmctx.yield_val(3u8))
        .unwrap();
    let program = sandbox.program(
        r#"(module (import "h" "f" (func $f)) (global (export "done") (mut i32) (i32.const 0))
            (func $start (call $f) (global.set 0 (i32.const 1))) (start $start)
            (func (export "run")))"#,
    );
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    assert!(instance.is_not_started());
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartYielded)
    ));
    assert!(instance.take_yielded().unwrap().is::<u8>() && instance.is_yielded());
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartAlreadyRun)
    ));
    assert!(instance.resume().unwrap().is_returned());
    assert!(instance.is_ready());
    assert_eq!(instance.global("done").unwrap().i32(), Some(1));
    instance.reset().unwrap();
    assert!(instance.is_not_started());
}

#[test]
fn many_suspended_guests_wait_beside_each_other_on_one_thread() {
    let mut sandbox = Sandbox::with(40, &selvedge::Limits::default());
    sandbox
        .linker
        .suspending_func("h", "f", |vmctx: &Vmctx<'_>, i: i32| {
            vmctx.yield_().map(|()| i)
        })
        .unwrap();
    let program = sandbox.program(GUEST);
    let mut instances: Vec<_> = (0..40)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    for instance in &mut instances {
        instance.run("run", &[Val::I32(10)]).unwrap();
    }
    for _ in 1..10 {
        for instance in &mut instances {
            assert!(instance.resume().unwrap().is_yielded());
        }
    }
    for instance in &mut instances {
        assert_eq!(returned_i32(instance.resume()), 45);
    }
}

#[test]
fn an_exception_after_waiting_is_caught_by_the_guest() {
    let mut sandbox = Sandbox::new();
    let tag = Tag::new(FuncType::new([ValType::I32], [])).unwrap();
    let (middle, returned) = (tag.clone(), tag.clone());
    let throw = move |tag: &Tag, n: i32| -> HostError {
        Exception::new(tag, [Val::I32(n)]).unwrap().into()
    };
    sandbox
        .linker
        .tag("h", "t", &tag)
        .unwrap()
        .suspending_func(
            "h",
            "f",
            move |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
                vmctx.yield_()?;
                Err(throw(&middle, n + 1))
            },
        )
        .unwrap()
        .func("h", "g", move |_: &Vmctx<'_>, n: i32| -> Flow<i32> {
            let tag = returned.clone();
            Yield::then(move |_| Err(throw(&tag, n + 2))).into()
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module
            (import "h" "t" (tag $t (param i32)))
            (import "h" "f" (func $f (param i32) (result i32)))
            (import "h" "g" (func $g (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (local $sum i32)
                (local.set $sum (block $caught (result i32)
                    (try_table (result i32) (catch $t $caught) (call $f (local.get 0)))))
                (i32.add (local.get $sum) (block $caught (result i32)
                    (try_table (result i32) (catch $t $caught) (call $g (local.get 0))))))
            (func (export "uncaught") (result i32) (call $f (i32.const 1))))"#,
    );
    for n in [10, 20] {
        assert!(instance.run("run", &[Val::I32(n)]).unwrap().is_yielded());
        assert!(instance.resume().unwrap().is_yielded());
        assert_eq!(returned_i32(instance.resume()), 2 * n + 3);
    }
    assert!(instance.run("uncaught", &[]).unwrap().is_yielded());
    let error = instance.resume().unwrap_err();
    assert!(matches!(error, RuntimeError::UncaughtException(_)));
    assert!(instance.is_faulted());
}
