//! CRuby as the npm package `@ruby/4.0-wasm-wasi` has it: exports with names such as
//! `rb-eval-string-protect: func(...)`, lists and strings as addresses and lengths, and handles
//! for Ruby's values that the host keeps.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, bail};
use selvedge::{HostError, Linker, Module, Vmctx};

use crate::library::Library;

const INIT: &str = "ruby-init: func(args: list<string>) -> ()";
const EVAL: &str = "rb-eval-string-protect: func(str: string) -> tuple<handle<rb-abi-value>, s32>";

/// Runs a script.
pub(crate) fn run(wasm: &Path, script: &str) -> Result<()> {
    let mut ruby = Library::load(wasm, define, |library, len| {
        library.call("cabi_realloc", (0u32, 0u32, 1u32, len))
    })?;

    // An array of addresses and lengths. `-e_=0`: Ruby shall not read its script from standard input.
    let mut list = Vec::new();
    for arg in ["ruby.wasm", "-EUTF-8", "-e_=0"] {
        let (addr, len) = ruby.put_str(arg)?;
        list.extend(addr.to_le_bytes());
        list.extend((len + 1).to_le_bytes());
    }
    let args = ruby.put_bytes(&list, 0)?;
    ruby.call::<_, ()>(INIT, (args, list.len() as u32 / 8))?;

    // The result is where a handle and a state are; a state other than 0 is an exception.
    let (addr, len) = ruby.put_str(&format!("{script}\n$stdout.flush"))?;
    let result = ruby.call::<_, u32>(EVAL, (addr, len))?;
    match ruby.u32_at(result + 4)? {
        0 => Ok(()),
        state => bail!("the script ended with an exception, state {state}"),
    }
}

/// Handles for the values that Ruby gives out. What it imports to reach JavaScript traps if called.
fn define(linker: &mut Linker, module: &Module) -> Result<()> {
    let values = Arc::new(Mutex::new(Vec::<u32>::new()));
    let given = Arc::clone(&values);
    linker.func(
        "canonical_abi",
        "resource_new_rb-abi-value",
        move |_: &Vmctx<'_>, value: u32| {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            given.push(value);
            given.len() as u32 - 1
        },
    )?;
    linker.func(
        "canonical_abi",
        "resource_get_rb-abi-value",
        move |_: &Vmctx<'_>, handle: u32| -> Result<u32, HostError> {
            let values = values.lock().unwrap_or_else(PoisonError::into_inner);
            let value = values.get(handle as usize).copied();
            value.ok_or_else(|| HostError::new(format!("there is no handle {handle}")))
        },
    )?;
    linker.define_unknown_imports_as_traps(module)?;
    Ok(())
}
