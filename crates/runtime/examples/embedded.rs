//! A library for programs in other languages, whose runtimes have signal handlers of their own: it runs a
//! guest of an artifact and says how that ended. `x_27` of `tests/faults/without_unwinding.rs` has Python load it.
#![allow(
    unsafe_code,
    reason = "functions that C can call, and an artifact that the test has just made"
)]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use selvedge_runtime::{Engine, Error, Instance, Limits, Linker, Module, Region, TrapCode, Vmctx};

/// Runs a guest's exports `load`, `deep` and `ok` so many times in one instance. 42 if the first two trapped
/// as they should and the last returned 42 each time; else what went wrong.
///
/// # Safety
///
/// - The path is a string that ends in zero, of a file that the compiler wrote.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn selvedge_run(path: *const c_char, times: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    // SAFETY: as above.
    let module = Engine::new().and_then(|engine| unsafe {
        Module::load_file(&engine, Path::new(OsStr::from_bytes(path.to_bytes())))
            .map(|module| (engine, module))
    });
    let result = module.and_then(|(engine, module)| {
        let mut linker = Linker::new(&engine);
        linker.func("h", "f", |_: &Vmctx<'_>, n: i32| n)?;
        linker.func("h", "wait", |_: &Vmctx<'_>| ())?;
        let region = Region::new(&engine, 1, &Limits::default())?;
        let mut instance = region.new_instance(&linker.program(&module)?)?;
        let mut all = 42;
        for _ in 0..times {
            all = all.min(once(&mut instance)?);
        }
        Ok::<_, Error>(all)
    });
    result.unwrap_or(-1)
}

fn once(instance: &mut Instance) -> Result<c_int, Error> {
    for (name, code) in [
        ("load", TrapCode::HeapOutOfBounds),
        ("deep", TrapCode::StackOverflow),
    ] {
        match instance.run(name, &[]) {
            Err(Error::RuntimeFault(fault)) if fault.code == code => {}
            _ => return Ok(-2),
        }
    }
    Ok(i32::from(instance.run("ok", &[])?.unwrap_returned()))
}
