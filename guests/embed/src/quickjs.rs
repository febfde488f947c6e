//! QuickJS as the npm package `quickjs-wasi` has it: values are addresses of cells in the guest, and
//! functions of the host are called through one import, `host_call`, with the name of the function.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use selvedge::{HostError, Linker, Module, Val, Vmctx};

use crate::library::{Library, str_in, u32_in};

/// The function that scripts print with.
const PRINT: &str = "print";

/// Runs a script and prints the value of its last statement.
pub(crate) fn run(wasm: &Path, script: &str) -> Result<()> {
    let mut quickjs = Library::load(wasm, define, |library, len| {
        library.call("wasm_malloc", len)
    })?;
    ensure!(
        quickjs.call::<_, u32>("qjs_init", ())? == 0,
        "QuickJS could not start"
    );

    let (name, len) = quickjs.put_str(PRINT)?;
    let print = quickjs.call::<_, u32>("qjs_new_host_function", (name, len, 0u32))?;
    let global = quickjs.call::<_, u32>("qjs_get_global", ())?;
    quickjs.call::<_, u32>("qjs_set_prop_string", (global, name, print))?;

    let (code, len) = quickjs.put_str(script)?;
    let (file, _) = quickjs.put_str("script")?;
    let value = quickjs.call::<_, u32>("qjs_eval", (code, len, file, 0u32))?;
    if quickjs.call::<_, u32>("qjs_is_exception", value)? != 0 {
        let thrown = quickjs.call::<_, u32>("qjs_get_exception", ())?;
        bail!("the script threw {}", string_of(&mut quickjs, thrown)?);
    }
    println!("{}", string_of(&mut quickjs, value)?);
    Ok(())
}

/// What JavaScript's `String(value)` gives.
fn string_of(quickjs: &mut Library, value: u32) -> Result<String> {
    let text = quickjs.call::<_, u32>("qjs_get_string", value)?;
    quickjs.str_at(text)
}

/// The six functions that QuickJS asks of its host.
fn define(linker: &mut Linker, _module: &Module) -> Result<()> {
    linker
        .func(
            "env",
            "host_get_timezone_offset",
            |_: &Vmctx<'_>, _: i32, _: i32| 0i32,
        )?
        .func("env", "host_interrupt", |_: &Vmctx<'_>| 0i32)?
        .func(
            "env",
            "host_promise_rejection",
            |_: &Vmctx<'_>, _: i32, _: i32, _: i32| (),
        )?
        .func(
            "env",
            "host_module_normalize",
            |_: &Vmctx<'_>, _: i32, _: i32| 0i32,
        )?
        .func(
            "env",
            "host_module_load",
            |_: &Vmctx<'_>, _: i32, _: i32| 0i32,
        )?
        .func("env", "host_call", host_call)?;
    Ok(())
}

/// `name` and `name_len`: which function; `argc` and `argv`: an array of values. Returns a value of
/// its own, which the guest frees.
fn host_call(
    vmctx: &Vmctx<'_>,
    name: u32,
    name_len: u32,
    _this: u32,
    argc: u32,
    argv: u32,
) -> Result<u32, HostError> {
    call(vmctx, name, name_len, argc, argv).map_err(|error| HostError::new(format!("{error:#}")))
}

fn call(vmctx: &Vmctx<'_>, name: u32, name_len: u32, argc: u32, argv: u32) -> Result<u32> {
    let name = {
        let heap = vmctx.heap()?;
        let bytes = heap
            .get(name as usize..)
            .and_then(|rest| rest.get(..name_len as usize));
        String::from_utf8_lossy(bytes.context("a name outside memory")?).into_owned()
    };
    ensure!(name == PRINT, "there is no host function {name}");

    let mut line = Vec::new();
    for i in 0..argc {
        let value = u32_in(&vmctx.heap()?, argv + 4 * i)?;
        // Back into the guest, which turns the value into a string, while it waits for this call.
        let text = call_export(vmctx, "qjs_get_string", &[value])?;
        line.push(str_in(&vmctx.heap()?, text)?);
        vmctx.call_export("qjs_free_cstring", &[Val::I32(text.cast_signed())])?;
    }
    writeln!(std::io::stdout(), "{}", line.join(" "))?;
    call_export(vmctx, "qjs_get_undefined", &[])
}

/// Calls an export of 32-bit parameters and one such result.
fn call_export(vmctx: &Vmctx<'_>, name: &str, params: &[u32]) -> Result<u32> {
    let params: Vec<Val> = params
        .iter()
        .map(|param| Val::I32(param.cast_signed()))
        .collect();
    match vmctx.call_export(name, &params)?.as_slice() {
        [Val::I32(result)] => Ok(result.cast_unsigned()),
        other => bail!("{name} returned {other:?}"),
    }
}
