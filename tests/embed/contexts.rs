//! Contexts: values of the embedder's that live with an instance, by their type.

use selvedge::{HostError, RuntimeError, TerminationDetails, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, returned, returned_i32};

#[derive(Debug, PartialEq)]
struct Counter(i32);

#[derive(Debug, PartialEq)]
struct Name(String);

const GUEST: &str = r#"(module (import "h" "f" (func $f (param i32) (result i32)))
    (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"#;

fn sandbox(
    func: impl Fn(&Vmctx<'_>, i32) -> Result<i32, HostError> + Send + Sync + 'static,
) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox
}

#[test]
fn each_instance_has_its_own_context() {
    let sandbox = sandbox(|vmctx, n| {
        let mut counter = vmctx.embed_ctx_mut::<Counter>()?;
        counter.0 += n;
        Ok(counter.0)
    });
    let program = sandbox.program(GUEST);
    let make = |start| {
        let builder = sandbox.region.instance_builder(&program);
        builder.with_embed_ctx(Counter(start)).build().unwrap()
    };
    let (mut a, mut b) = (make(0), make(100));
    assert_eq!(returned_i32(a.run("run", &[Val::I32(1)])), 1);
    assert_eq!(returned_i32(b.run("run", &[Val::I32(1)])), 101);
    assert_eq!(returned_i32(a.run("run", &[Val::I32(5)])), 6);
    assert_eq!(*a.get_embed_ctx::<Counter>().unwrap().unwrap(), Counter(6));
    assert_eq!(
        *b.get_embed_ctx::<Counter>().unwrap().unwrap(),
        Counter(101)
    );
}

#[test]
fn contexts_of_several_types_stand_side_by_side() {
    let sandbox = sandbox(|vmctx, _| {
        // Two different ones may be borrowed at a time.
        let counter = vmctx.embed_ctx_mut::<Counter>()?;
        let name = vmctx.embed_ctx::<Name>()?;
        Ok(counter.0 + name.0.len() as i32)
    });
    let program = sandbox.program(GUEST);
    let mut instance = sandbox
        .region
        .instance_builder(&program)
        .with_embed_ctx(Counter(1))
        .with_embed_ctx(Name("abc".to_owned()))
        .with_embed_ctx(Counter(10))
        .build()
        .unwrap();
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 13);
}

#[test]
fn contexts_are_put_in_looked_at_and_taken_out_by_the_host() {
    let sandbox = sandbox(|_, n| Ok(n));
    let mut instance = sandbox.instance(GUEST);
    assert!(!instance.contains_embed_ctx::<Counter>());
    assert!(instance.get_embed_ctx::<Counter>().is_none());
    assert_eq!(instance.insert_embed_ctx(Counter(1)), None);
    assert_eq!(instance.insert_embed_ctx(Counter(2)), Some(Counter(1)));
    assert!(instance.contains_embed_ctx::<Counter>());
    assert!(!instance.contains_embed_ctx::<Name>());
    instance.get_embed_ctx_mut::<Counter>().unwrap().unwrap().0 += 5;
    {
        let _held = instance.get_embed_ctx::<Counter>().unwrap().unwrap();
        assert!(instance.get_embed_ctx::<Counter>().unwrap().is_ok());
        assert!(instance.get_embed_ctx_mut::<Counter>().unwrap().is_err());
    }
    assert_eq!(instance.remove_embed_ctx::<Counter>(), Some(Counter(7)));
    assert_eq!(instance.remove_embed_ctx::<Counter>(), None);
}

#[test]
fn a_missing_context_ends_the_guest() {
    let sandbox = sandbox(|vmctx, _| Ok(vmctx.embed_ctx::<Counter>()?.0));
    let mut instance = sandbox.instance(GUEST);
    let error = instance.run("run", &[Val::I32(0)]).unwrap_err();
    assert!(matches!(
        error,
        RuntimeError::RuntimeTerminated(TerminationDetails::CtxNotFound)
    ));
    instance.insert_embed_ctx(Counter(4));
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 4);
}

#[test]
fn a_context_that_is_borrowed_is_not_borrowed_again_to_be_changed() {
    let sandbox = sandbox(|vmctx, n| match n {
        0 => {
            let _held = vmctx.embed_ctx::<Counter>()?;
            let _also = vmctx.embed_ctx::<Counter>()?;
            let refused = vmctx.embed_ctx_mut::<Counter>().unwrap_err();
            assert!(matches!(
                refused,
                HostError::Terminate(TerminationDetails::BorrowError(_))
            ));
            Ok(1)
        }
        _ => {
            let _held = vmctx.embed_ctx_mut::<Counter>()?;
            vmctx.embed_ctx::<Counter>()?;
            Ok(1)
        }
    });
    let mut instance = sandbox.instance(GUEST);
    instance.insert_embed_ctx(Counter(0));
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(0)])), 1);
    let error = instance.run("run", &[Val::I32(1)]).unwrap_err();
    assert!(matches!(
        error,
        RuntimeError::RuntimeTerminated(TerminationDetails::BorrowError("get_embed_ctx"))
    ));
    // The borrow went with the host function.
    assert!(instance.get_embed_ctx_mut::<Counter>().unwrap().is_ok());
}

#[test]
fn a_context_may_be_held_while_the_guest_is_called_back() {
    let sandbox = sandbox(|vmctx, n| {
        if n == 0 {
            return match vmctx.embed_ctx_mut::<Counter>() {
                Ok(_) => Ok(1),
                Err(_) => Ok(2),
            };
        }
        let _held = (n == 1)
            .then(|| vmctx.embed_ctx_mut::<Counter>())
            .transpose()?;
        let result = vmctx.call_export("run", &[Val::I32(0)])?;
        Ok(result[0].i32().unwrap())
    });
    let mut instance = sandbox.instance(GUEST);
    instance.insert_embed_ctx(Counter(0));
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(1)])), 2);
    assert_eq!(returned_i32(instance.run("run", &[Val::I32(2)])), 1);
}

#[test]
fn contexts_are_dropped_with_their_instance() {
    let sandbox = sandbox(|_, n| Ok(n));
    let mut instance = sandbox.instance(GUEST);
    let kept = std::sync::Arc::new(());
    instance.insert_embed_ctx(kept.clone());
    returned(instance.run("run", &[Val::I32(0)]));
    assert_eq!(std::sync::Arc::strong_count(&kept), 2);
    drop(instance);
    assert_eq!(std::sync::Arc::strong_count(&kept), 1);
}
