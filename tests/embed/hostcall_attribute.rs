//! Host functions that are free functions with `#[hostcall]`.

use selvedge::{
    Flow, GuestPtr, HostError, Hostcall, RuntimeError, TerminationDetails, TrapCode, Val, Vmctx,
    Yield, hostcall,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

/// The result of its arguments, under the name of the function and the module that is meant if none is named.
#[hostcall]
fn add(_: &Vmctx<'_>, a: i32, b: i64) -> i32 {
    a + b as i32
}

#[hostcall(module = "host", name = "add-one")]
pub(crate) fn increment(vmctx: &Vmctx<'_>, place: GuestPtr<u32>) -> Result<u32, HostError> {
    let mut heap = vmctx.heap_mut()?;
    let value = place.read(&heap)?;
    place.write(&mut heap, value + 1)?;
    Ok(value)
}

#[hostcall(suspending)]
fn wait(vmctx: &selvedge::Vmctx<'_>) -> Result<u32, HostError> {
    vmctx.yield_expecting_val::<u32>()
}

#[hostcall(module = "host")]
fn ask(_: &Vmctx<'_>, n: u32) -> Flow<u32> {
    Yield::expecting(move |_: &Vmctx<'_>, more: u32| Ok(Flow::Return(n + more))).into()
}

#[hostcall(module = "host")]
fn r#loop(vmctx: &Vmctx<'_>, how: i32) -> Result<(), HostError> {
    match how {
        0 => vmctx.terminate("ended"),
        1 => Err(TrapCode::Unreachable.into()),
        2 => panic!("a panic"),
        _ => Ok(()),
    }
}

const GUEST: &str = r#"(module
    (import "env" "add" (func $add (param i32 i64) (result i32)))
    (import "host" "add-one" (func $increment (param i32) (result i32)))
    (import "env" "wait" (func $wait (result i32)))
    (import "host" "ask" (func $ask (param i32) (result i32)))
    (import "host" "loop" (func $loop (param i32)))
    (memory 1) (data (i32.const 8) "\29")
    (func (export "add") (result i32) (call $add (i32.const 40) (i64.const 2)))
    (func (export "increment") (param i32) (result i32)
        (drop (call $increment (local.get 0))) (i32.load (local.get 0)))
    (func (export "wait") (result i32) (i32.add (call $wait) (i32.const 1)))
    (func (export "ask") (result i32) (call $ask (i32.const 5)))
    (func (export "loop") (param i32) (call $loop (local.get 0))))"#;

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let linker = &mut sandbox.linker;
    linker.hostcall::<add>().unwrap();
    linker.hostcall::<increment>().unwrap();
    linker
        .hostcall::<wait>()
        .unwrap()
        .hostcall::<ask>()
        .unwrap();
    linker.hostcall::<r#loop>().unwrap();
    sandbox
}

#[test]
fn free_functions_are_called_by_guests_under_their_names() {
    let mut instance = sandbox().instance(GUEST);
    assert_eq!(returned_i32(instance.run("add", &[])), 42);
    assert_eq!(returned_i32(instance.run("increment", &[Val::I32(8)])), 42);
    assert_eq!((add::MODULE, add::NAME), ("env", "add"));
    assert_eq!((increment::MODULE, increment::NAME), ("host", "add-one"));
    assert_eq!(r#loop::NAME, "loop");
}

#[test]
fn what_a_free_function_refuses_ends_the_guest_as_with_a_closure() {
    let mut instance = sandbox().instance(GUEST);
    for address in [65533, -4] {
        let error = instance.run("increment", &[Val::I32(address)]).unwrap_err();
        assert!(matches!(error, RuntimeError::HostFunction(_)), "{error}");
    }
    assert_eq!(
        fault(instance.run("loop", &[Val::I32(1)])).code,
        TrapCode::Unreachable
    );
    match instance.run("loop", &[Val::I32(0)]) {
        Err(RuntimeError::RuntimeTerminated(details)) => {
            let text = details.provided_details().unwrap().downcast_ref::<&str>();
            assert_eq!(text, Some(&"ended"));
        }
        other => panic!("{other:?}"),
    }
    instance.reset().unwrap();
    instance.set_catch_panics(true);
    assert!(matches!(
        instance.run("loop", &[Val::I32(2)]),
        Err(RuntimeError::RuntimeTerminated(
            TerminationDetails::OtherPanic(_)
        ))
    ));
    instance.reset().unwrap();
    instance.run("loop", &[Val::I32(3)]).unwrap();
}

#[test]
fn free_functions_suspend_in_the_middle_or_by_what_they_return() {
    let mut instance = sandbox().instance(GUEST);
    assert!(instance.run("wait", &[]).unwrap().is_yielded());
    assert!(matches!(
        instance.resume(),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert_eq!(returned_i32(instance.resume_with_val(6u32)), 7);
    assert!(instance.run("ask", &[]).unwrap().is_yielded());
    assert_eq!(returned_i32(instance.resume_with_val(6u32)), 11);
}

#[test]
fn a_free_function_is_still_one_and_is_defined_once() {
    let mut sandbox = sandbox();
    assert!(matches!(
        sandbox.linker.hostcall::<add>(),
        Err(RuntimeError::AlreadyDefined { .. })
    ));
    sandbox.linker.func("other", "sum", add).unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "other" "sum" (func $f (param i32 i64) (result i32)))
            (func (export "f") (result i32) (call $f (i32.const 1) (i64.const 2))))"#,
    );
    assert_eq!(returned_i32(instance.run("f", &[])), 3);
}
