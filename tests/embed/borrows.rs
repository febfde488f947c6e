//! Who may hold what of a guest at the same time: every pair of views, over one `Vmctx` and over two.

use selvedge::{HostError, InstanceHandle, RuntimeError, TerminationDetails, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 1 4)
    (global $g (mut i32) (i32.const 3))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "nothing")))"#;

type Func = fn(&Vmctx<'_>, i32) -> Result<i32, HostError>;

fn instance(func: Func) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    let mut instance = sandbox.instance(GUEST);
    instance.insert_embed_ctx(7u32);
    instance
}

/// What a host function that does this is ended with.
fn ended(func: Func) -> TerminationDetails {
    let mut instance = instance(func);
    let details = match instance.run("run", &[Val::I32(0)]) {
        Err(RuntimeError::RuntimeTerminated(details)) => details,
        other => panic!("{other:?}"),
    };
    // What was held is free again, and a reset brings everything back.
    assert!(instance.is_terminated());
    assert!(instance.heap_mut().is_ok());
    assert!(instance.get_embed_ctx_mut::<u32>().unwrap().is_ok());
    instance.reset().unwrap();
    instance.run("nothing", &[]).unwrap();
    details
}

#[test]
fn every_conflict_ends_the_guest_with_the_name_of_what_was_refused() {
    let cases: [(&str, Func); 9] = [
        ("heap_mut", |v, _| {
            let _held = v.heap()?;
            v.heap_mut().map(|_| 0)
        }),
        ("heap_mut", |v, _| {
            let _held = v.heap_mut()?;
            v.heap_mut().map(|_| 0)
        }),
        ("heap", |v, _| {
            let _held = v.heap_mut()?;
            v.heap().map(|_| 0)
        }),
        ("heap", |v, _| {
            let _held = v.heap()?;
            v.grow_memory(1).map(|_| 0)
        }),
        ("heap", |v, _| {
            let _held = v.heap_mut()?;
            v.grow_memory(0).map(|_| 0)
        }),
        ("get_embed_ctx", |v, _| {
            let _held = v.get_embed_ctx_mut::<u32>()?;
            v.get_embed_ctx::<u32>().map(|_| 0)
        }),
        ("get_embed_ctx_mut", |v, _| {
            let _held = v.get_embed_ctx::<u32>()?;
            v.get_embed_ctx_mut::<u32>().map(|_| 0)
        }),
        ("get_embed_ctx_mut", |v, _| {
            let _held = v.get_embed_ctx_mut::<u32>()?;
            v.get_embed_ctx_mut::<u32>().map(|_| 0)
        }),
        // What an inner call is refused with passes through the outer host function.
        ("heap_mut", |v, n| match n {
            0 => {
                let inner = v.call_export("run", &[Val::I32(1)])?;
                Ok(inner[0].i32().unwrap_or(0))
            }
            _ => {
                let _held = v.heap()?;
                v.heap_mut().map(|_| 0)
            }
        }),
    ];
    for (what, case) in cases {
        assert_eq!(ended(case), TerminationDetails::BorrowError(what));
    }
    let absent: Func = |v, _| v.get_embed_ctx::<String>().map(|_| 0);
    assert_eq!(ended(absent), TerminationDetails::CtxNotFound);
    let absent: Func = |v, _| v.get_embed_ctx_mut::<String>().map(|_| 0);
    assert_eq!(ended(absent), TerminationDetails::CtxNotFound);
}

#[test]
fn a_heap_grows_while_contexts_and_globals_are_held() {
    let mut instance = instance(|v, _| {
        let mut ctx = v.get_embed_ctx_mut::<u32>()?;
        let globals = v.globals_mut();
        let old = v.grow_memory(2)?;
        *ctx += 1;
        assert_eq!(globals.get(0).and_then(|g| g.i32()), Some(3));
        Ok(old as i32)
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 1);
    assert_eq!(instance.heap().unwrap().len(), 3 << 16);
    assert_eq!(*instance.get_embed_ctx::<u32>().unwrap().unwrap(), 8);
}

#[test]
fn two_vmctx_of_one_guest_see_each_others_writes_and_borrows() {
    let mut instance = instance(|v, n| {
        if n == 0 {
            v.heap_mut()?[10] = 1;
            // The inner host function has a `Vmctx` of its own.
            let inner = v.call_export("run", &[Val::I32(1)])?;
            assert_eq!(inner[0].i32(), Some(1));
            assert_eq!(v.heap()?[10], 2);
            assert_eq!(v.heap()?.len(), 2 << 16, "grown meanwhile");
            let _held = v.get_embed_ctx::<u32>()?;
            // A context may be held across the call, and the inner one sees that.
            v.call_export("run", &[Val::I32(2)])?;
            let _memory = v.heap()?;
            assert!(matches!(
                v.call_export("nothing", &[]),
                Err(RuntimeError::MemoryBorrowed)
            ));
            return Ok(0);
        }
        if n == 2 {
            assert!(v.get_embed_ctx::<u32>().is_ok());
            assert!(matches!(
                v.get_embed_ctx_mut::<u32>(),
                Err(HostError::Terminate(TerminationDetails::BorrowError(
                    "get_embed_ctx_mut"
                )))
            ));
            return Ok(0);
        }
        let seen = v.heap()?[10];
        v.heap_mut()?[10] = 2;
        v.grow_memory(1)?;
        Ok(seen.into())
    });
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 0);
}
