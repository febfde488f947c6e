//! What must work in a build with `panic = "abort"`: traps, errors and terminations, at several depths.
//! `x_06` of `tests/faults/checklist.rs` builds and runs it so.
#![forbid(unsafe_code)]

use selvedge::{HostError, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

fn main() {
    if cfg!(panic = "unwind") {
        panic!("this is to be built with panic=abort");
    }
    let func = |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
        match n {
            0 => Err(TrapCode::NullReference.into()),
            -1 => Err(HostError::new("an error")),
            -2 => Err(HostError::terminate(5_i32)),
            n => Ok(vmctx.call_export("run", &[Val::I32(n - 4)])?[0]
                .i32()
                .unwrap_or(0)
                + 1),
        }
    };
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", func)
        .expect("the name is free");
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32) (result i32))) (memory 1)
            (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
            (func (export "load") (drop (i32.load (i32.const 65536))))
            (func $deep (export "deep") (call $deep) (call $deep))
            (func (export "ok") (result i32) (i32.const 42)))"#,
    );
    for depth in 0..20 {
        let mut run = |bottom: i32| instance.run("run", &[Val::I32(4 * depth + bottom)]);
        assert_eq!(fault(run(0)).code, TrapCode::NullReference);
        if depth > 0 {
            assert!(matches!(run(-1), Err(RuntimeError::HostFunction(_))));
            assert!(matches!(run(-2), Err(RuntimeError::RuntimeTerminated(_))));
        }
        assert_eq!(
            fault(instance.run("load", &[])).code,
            TrapCode::HeapOutOfBounds
        );
        assert_eq!(
            fault(instance.run("deep", &[])).code,
            TrapCode::StackOverflow
        );
        assert_eq!(returned_i32(instance.run("ok", &[])), 42);
    }
}
