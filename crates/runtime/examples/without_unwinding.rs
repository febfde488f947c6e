//! What must work in a build with `panic = "abort"`: traps, errors and terminations at several depths, and
//! suspended host functions that are given up. The argument is an artifact, for there is no compiler in here.
//!
//! `x_06` of `tests/faults/without_unwinding.rs` compiles the guest, and builds and runs this. With `panic` for
//! a second argument a host function panics, which is to end the process.
#![allow(unsafe_code, reason = "loads an artifact that the test has just made")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge_runtime::{
    Engine, Error, HostError, Instance, Limits, Linker, Module, Region, RunResult, TrapCode, Val,
    Vmctx,
};

/// How often what a suspended host function holds was dropped.
static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() {
    if cfg!(panic = "unwind") {
        panic!("this is to be built with panic=abort");
    }
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().expect("the artifact is the first argument"));
    let engine = Engine::new().expect("the handler can be installed");
    let mut linker = Linker::new(&engine);
    linker
        .func("h", "f", host_function)
        .and_then(|linker| linker.suspending_func("h", "wait", wait))
        .expect("the names are free");
    // SAFETY: the test has just compiled it, and leaves it alone.
    let module = unsafe { Module::load_file(&engine, &path) }.expect("the artifact is in order");
    let program = linker.program(&module).expect("the imports are there");
    let region = Region::new(&engine, 2, &Limits::default()).expect("there is address space");
    let mut instance = region.new_instance(&program).expect("there is a slot");

    if args.next().is_some_and(|what| what == "panic") {
        let ended = run(&mut instance, "run", -3);
        unreachable!("the process is to end in the host function: {ended:?}");
    }
    for depth in 0..20 {
        traps(&mut instance, depth);
    }
    suspends(&mut instance);
    drop(instance);
    assert_eq!(region.used_slots(), 0);
}

/// The deeper entries of `n` are four apart; what is left at the bottom says how it ends.
fn host_function(vmctx: &Vmctx<'_>, n: i32) -> Result<i32, HostError> {
    match n {
        0 => Err(TrapCode::NullReference.into()),
        -1 => Err(HostError::new("an error")),
        -2 => Err(HostError::terminate(5_i32)),
        -3 => panic!("in a host function"),
        n => {
            let below = vmctx.call_export("run", &[Val::I32(n - 4)])?;
            Ok(below[0].i32().expect("the type says so") + 1)
        }
    }
}

fn wait(vmctx: &Vmctx<'_>) -> Result<(), HostError> {
    let _held = Held;
    vmctx.yield_()
}

fn run(instance: &mut Instance, name: &str, n: i32) -> Result<RunResult, Error> {
    instance.run(name, &[Val::I32(n)])
}

fn code(ended: Result<RunResult, Error>) -> TrapCode {
    match ended {
        Err(Error::RuntimeFault(fault)) => fault.code,
        other => panic!("the guest was to trap: {other:?}"),
    }
}

fn works(instance: &mut Instance) {
    let forty_two = instance.run("ok", &[]).expect("the guest is in order");
    assert_eq!(i32::from(forty_two.unwrap_returned()), 42);
}

fn traps(instance: &mut Instance, depth: i32) {
    let at = |bottom: i32| 4 * depth + bottom;
    assert_eq!(code(run(instance, "run", at(0))), TrapCode::NullReference);
    let ended = run(instance, "run", at(-1));
    assert!(matches!(ended, Err(Error::HostFunction(_))), "{ended:?}");
    assert_eq!(code(instance.run("load", &[])), TrapCode::HeapOutOfBounds);
    assert_eq!(code(instance.run("deep", &[])), TrapCode::StackOverflow);
    works(instance);
    let ended = run(instance, "run", at(-2));
    assert!(
        matches!(ended, Err(Error::RuntimeTerminated(_))),
        "{ended:?}"
    );
    instance.reset().expect("the guest can begin anew");
    works(instance);
}

/// A host function that waits is finished, or given up; then its frames are leaked, not unwound (I-50).
fn suspends(instance: &mut Instance) {
    for (resumed, dropped) in [(true, 1), (false, 1), (true, 2)] {
        let yielded = instance.run("wait", &[]).expect("the guest waits");
        assert!(matches!(yielded, RunResult::Yielded(_)));
        if resumed {
            let returned = instance.resume().expect("the guest goes on");
            assert!(matches!(returned, RunResult::Returned(_)));
        } else {
            instance.reset().expect("the guest can begin anew");
        }
        assert_eq!(DROPPED.load(Ordering::Relaxed), dropped);
        works(instance);
    }
}
