//! Guests that talk with their host by suspending: factorials one by one, and what goes on meanwhile.

use std::sync::{Arc, Mutex};

use selvedge::{
    HostError, InstanceHandle, RunResult, RuntimeError, TerminationDetails, Val, Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

/// Computes a factorial by recursion, and shows each on its way up.
const FACTORIAL: &str = r#"(module
    (import "h" "show" (func $show (param i64)))
    (import "h" "multiply" (func $multiply (param i64 i64) (result i64)))
    (global (export "shown") (mut i32) (i32.const 0))
    (func $inner (param i64) (result i64) (local $f i64)
        (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 1))
            (else
                (local.set $f (i64.mul (local.get 0) (call $inner (i64.sub (local.get 0) (i64.const 1)))))
                (call $show (local.get $f))
                (local.get $f))))
    (func (export "factorial") (param i64) (result i64) (call $inner (local.get 0)))
    (func $by_host (export "by_host") (param i64) (result i64)
        (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 1))
            (else (call $multiply (local.get 0) (call $by_host (i64.sub (local.get 0) (i64.const 1))))))))"#;

/// What the host is asked to multiply.
struct Factors(i64, i64);

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .suspending_func("h", "show", |vmctx: &Vmctx<'_>, n: i64| vmctx.yield_val(n))
        .unwrap()
        .suspending_func("h", "multiply", |vmctx: &Vmctx<'_>, a: i64, b: i64| {
            // A view of globals may be held: it gives out values, and what it says is what is there then.
            let globals = vmctx.globals_mut();
            let product: i64 = vmctx.yield_val_expecting_val(Factors(a, b))?;
            let shown = globals.get(0).and_then(|value| value.i32()).unwrap_or(0);
            assert_eq!(i64::from(shown), a, "as the embedder set it");
            Ok::<_, HostError>(product)
        })
        .unwrap();
    sandbox
}

fn yielded<T: 'static>(result: RunResult) -> T {
    let value = result.yielded().unwrap().downcast::<T>();
    *value.expect("a value of that type")
}

#[test]
fn nested_recursion_shows_each_factorial() {
    let mut instance = sandbox().instance(FACTORIAL);
    for _ in 0..3 {
        let mut shown = Vec::new();
        let mut result = instance.run("factorial", &[Val::I64(5)]).unwrap();
        while result.is_yielded() {
            assert!(result.has_yielded::<i64>() && !result.has_yielded::<i32>());
            shown.push(yielded::<i64>(result));
            result = instance.resume().unwrap();
        }
        assert_eq!(shown, [1, 2, 6, 24, 120]);
        assert_eq!(i64::from(result.unwrap_returned()), 120);
    }
}

#[test]
fn the_host_multiplies_for_the_guest() {
    let mut instance = sandbox().instance(FACTORIAL);
    let mut products = Vec::new();
    let mut result = instance.run("by_host", &[Val::I64(5)]).unwrap();
    while result.is_yielded() {
        let Factors(a, b) = yielded(result);
        // Wrong ways to go on change nothing.
        assert!(instance.resume().is_err());
        assert!(instance.resume_with_val("a text").is_err());
        assert!(instance.resume_with_val((a * b) as i32).is_err());
        assert!(instance.is_yielded());
        instance.globals_mut().set(0, &Val::I32(a as i32)).unwrap();
        products.push(a * b);
        result = instance.resume_with_val(a * b).unwrap();
    }
    assert_eq!(products, [1, 2, 6, 24, 120]);
    assert_eq!(i64::from(result.unwrap_returned()), 120);
}

#[test]
fn a_suspended_guest_is_resumed_while_another_one_runs_on_the_thread() {
    let sandbox = sandbox();
    let mut waiting = sandbox.instance(FACTORIAL);
    let first = waiting.run("factorial", &[Val::I64(3)]).unwrap();
    assert_eq!(yielded::<i64>(first), 1);
    let shared: Arc<Mutex<InstanceHandle>> = Arc::new(Mutex::new(waiting));
    let inner = shared.clone();
    let mut other = Sandbox::new();
    other
        .linker
        .func("h", "f", move |_: &Vmctx<'_>| -> Result<i32, HostError> {
            let mut instance = inner.lock().unwrap();
            // Refused, which loses nothing.
            assert!(instance.resume_with_val(1u8).is_err());
            let result = instance.resume()?;
            Ok(yielded::<i64>(result) as i32)
        })
        .unwrap();
    let mut outer = other.instance(
        r#"(module (import "h" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))"#,
    );
    assert_eq!(returned_i32(outer.run("run", &[])), 2);
    assert_eq!(returned_i32(outer.run("run", &[])), 6);
    let mut waiting = shared.lock().unwrap();
    assert!(waiting.is_yielded());
    let last = waiting.resume().unwrap().unwrap_returned();
    assert_eq!(i64::from(last), 6);
}

#[test]
fn an_embedder_looks_for_what_it_got_in_every_way() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .suspending_func("h", "f", |vmctx: &Vmctx<'_>, n: i32| match n {
            0 => vmctx.yield_(),
            1 => vmctx.yield_val(()),
            2 => vmctx.yield_val(String::from("text")),
            _ => Ok(()),
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32)))
            (func (export "run") (param i32) (call $f (local.get 0))))"#,
    );
    let mut run = |n: i32| {
        instance.reset().unwrap();
        instance.run("run", &[Val::I32(n)]).unwrap()
    };
    let nothing = run(0);
    assert!(nothing.is_yielded() && nothing.yielded_ref().unwrap().is_none());
    assert!(matches!(
        nothing.returned(),
        Err(RuntimeError::InstanceNotReturned)
    ));
    let unit = run(1).yielded().unwrap();
    assert!(
        unit.is_some() && unit.is::<()>(),
        "an explicit unit is a value"
    );
    let text = run(2).yielded().unwrap();
    assert_eq!(text.downcast_ref::<String>().unwrap(), "text");
    let text = text.downcast::<u8>().expect_err("gives itself back");
    assert_eq!(*text.downcast::<String>().unwrap(), "text");
    let returned = run(3);
    assert!(returned.is_returned() && returned.returned_ref().unwrap().values().is_empty());
    assert!(matches!(
        returned.yielded(),
        Err(RuntimeError::InstanceNotYielded)
    ));
}

#[test]
fn a_guest_reports_by_a_context_what_it_was_given() {
    #[derive(Debug, Default)]
    struct Heard(bool);
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "hear",
            |vmctx: &Vmctx<'_>, at: u32, len: u32| -> Result<(), HostError> {
                let heap = vmctx.heap()?;
                let range = (at as usize)
                    .checked_add(len as usize)
                    .map(|end| at as usize..end);
                let text = range.and_then(|range| heap.get(range));
                let text = text.ok_or_else(|| HostError::new("outside"))?;
                assert!(vmctx.check_heap(text.as_ptr(), text.len()));
                vmctx.get_embed_ctx_mut::<Heard>()?.0 = text == b"hello";
                Ok(())
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "hear" (func $hear (param i32 i32)))
            (memory 1) (data (i32.const 100) "hello")
            (func (export "say") (param i32 i32) (call $hear (local.get 0) (local.get 1))))"#,
    );
    instance.insert_embed_ctx(Heard::default());
    let heard = |instance: &InstanceHandle| instance.get_embed_ctx::<Heard>().unwrap().unwrap().0;
    instance.run("say", &[Val::I32(101), Val::I32(5)]).unwrap();
    assert!(!heard(&instance));
    instance.run("say", &[Val::I32(100), Val::I32(5)]).unwrap();
    assert!(heard(&instance));
    for (at, len) in [(65536, 1), (65535, 2), (-1, 5), (0, -1), (-1, -1)] {
        let error = instance
            .run("say", &[Val::I32(at), Val::I32(len)])
            .unwrap_err();
        assert!(matches!(error, RuntimeError::HostFunction(_)), "{error}");
    }
}

#[test]
fn what_a_host_function_holds_is_dropped_when_it_ends_its_guest() {
    static LOCK: Mutex<u32> = Mutex::new(0);
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            |vmctx: &Vmctx<'_>, n: i32| -> Result<(), HostError> {
                let _guard = LOCK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match n {
                    0 => vmctx.terminate("the end"),
                    _ => panic!("a panic"),
                }
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32)))
            (func (export "run") (param i32) (call $f (local.get 0))))"#,
    );
    instance.set_catch_panics(true);
    assert!(instance.run("run", &[Val::I32(0)]).is_err());
    assert!(
        LOCK.try_lock().is_ok(),
        "free, and not poisoned: nothing panicked"
    );
    instance.reset().unwrap();
    assert!(matches!(
        instance.run("run", &[Val::I32(1)]),
        Err(RuntimeError::RuntimeTerminated(
            TerminationDetails::OtherPanic(_)
        ))
    ));
    assert!(matches!(
        LOCK.try_lock(),
        Err(std::sync::TryLockError::Poisoned(_))
    ));
}
