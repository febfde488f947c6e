//! Host and guest call each other to depth 1,000, and at every level something goes wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use selvedge::{HostError, InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const DEPTH: i32 = 1_000;

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory 1)
    (func (export "down") (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1)))
    (func (export "trap") unreachable)
    (func (export "load") (drop (i32.load (i32.const 65536))))
    (func (export "zero") (drop (i32.div_u (i32.const 1) (i32.load (i32.const 0)))))
    (func $deep (export "deep") (call $deep) (call $deep))
    (func (export "ok") (result i32) (i32.const 42)))"#;

/// How many host frames were left again.
struct Frame(Arc<AtomicUsize>);

impl Drop for Frame {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

type HostResult = Result<i32, HostError>;

/// Runs on a thread with a stack for a thousand levels of host frames.
fn at_depth(
    step: impl Fn(&Vmctx<'_>, i32) -> HostResult + Send + Sync + 'static,
    check: impl FnOnce(&mut InstanceHandle) + Send + 'static,
) {
    let left = Arc::new(AtomicUsize::new(0));
    let mut limits = Limits::default();
    limits.stack_len = 4 << 20;
    let mut sandbox = Sandbox::with(1, &limits);
    let counted = left.clone();
    let func = move |vmctx: &Vmctx<'_>, n: i32| {
        let _frame = Frame(counted.clone());
        step(vmctx, n)
    };
    sandbox.linker.func("h", "f", func).unwrap();
    let mut instance = sandbox.instance(GUEST);
    std::thread::Builder::new()
        .stack_size(256 << 20)
        .spawn(move || {
            check(&mut instance);
            if instance.is_terminated() {
                instance.reset().unwrap();
            }
            assert_eq!(returned_i32(instance.run("ok", &[])), 42);
        })
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(left.load(Relaxed), DEPTH as usize + 1, "frames of the host");
}

/// The level below.
fn down(vmctx: &Vmctx<'_>, n: i32) -> Result<i32, RuntimeError> {
    Ok(vmctx.call_export("down", &[Val::I32(n - 1)])?[0]
        .i32()
        .unwrap())
}

fn run(instance: &mut InstanceHandle) -> Result<i32, RuntimeError> {
    let result = instance.run("down", &[Val::I32(DEPTH)])?;
    Ok(i32::from(result.unwrap_returned()))
}

#[test]
fn traps_at_every_level_leave_the_levels_above_intact() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        let below = if n == 0 { 0 } else { down(vmctx, n)? };
        let kinds = [
            ("trap", TrapCode::Unreachable),
            ("load", TrapCode::HeapOutOfBounds),
            ("zero", TrapCode::IntegerDivisionByZero),
            ("deep", TrapCode::StackOverflow),
        ];
        let (name, code) = kinds[n as usize % 4];
        let trapped = fault(vmctx.call_export(name, &[]));
        assert_eq!(trapped.code, code);
        Ok(below)
    };
    at_depth(step, |instance| {
        assert_eq!(run(instance).unwrap(), DEPTH + 1)
    });
}

#[test]
fn a_trap_at_the_bottom_passes_all_levels() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        if n == 0 {
            vmctx.call_export("load", &[])?;
        }
        Ok(down(vmctx, n)?)
    };
    at_depth(step, |instance| {
        let fault = fault(run(instance));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds);
        assert_eq!(fault.memory_address(), Some(65536));
        let frames = fault.backtrace.frames.len() as u64 + fault.backtrace.omitted;
        assert_eq!(
            frames,
            DEPTH as u64 + 2,
            "one frame a level, and the one that trapped"
        );
    });
}

#[test]
fn panics_at_every_level_are_caught_at_the_one_above() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        if n > 0 {
            let below = catch_unwind(AssertUnwindSafe(|| down(vmctx, n)));
            assert_eq!(below.unwrap_err().downcast_ref(), Some(&(n - 1)));
        }
        std::panic::resume_unwind(Box::new(n))
    };
    at_depth(step, |instance| {
        let panic = catch_unwind(AssertUnwindSafe(|| run(instance)));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&DEPTH));
    });
}

#[test]
fn a_panic_at_the_bottom_passes_all_levels() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        if n == 0 {
            std::panic::resume_unwind(Box::new("bottom"));
        }
        Ok(down(vmctx, n)?)
    };
    at_depth(step, |instance| {
        let panic = catch_unwind(AssertUnwindSafe(|| run(instance)));
        assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"bottom"));
    });
}

#[test]
fn terminations_at_every_level_end_that_level_alone() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        if n > 0 {
            match down(vmctx, n) {
                Err(RuntimeError::RuntimeTerminated(details)) => {
                    let value = details.provided_details().unwrap().downcast_ref();
                    assert_eq!(value, Some(&(n - 1)));
                }
                other => panic!("{other:?}"),
            }
        }
        Err(HostError::terminate(n))
    };
    at_depth(step, |instance| match run(instance) {
        Err(RuntimeError::RuntimeTerminated(details)) => {
            assert_eq!(
                details.provided_details().unwrap().downcast_ref(),
                Some(&DEPTH)
            );
        }
        other => panic!("{other:?}"),
    });
}

#[test]
fn a_termination_at_the_bottom_passes_all_levels() {
    let step = |vmctx: &Vmctx<'_>, n: i32| {
        if n == 0 {
            return Err(HostError::terminate("bottom"));
        }
        Ok(down(vmctx, n)?)
    };
    at_depth(step, |instance| match run(instance) {
        Err(RuntimeError::RuntimeTerminated(details)) => {
            let value = details.provided_details().unwrap().downcast_ref();
            assert_eq!(value, Some(&"bottom"));
        }
        other => panic!("{other:?}"),
    });
}
