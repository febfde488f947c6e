//! A guest as the flags describe it: what it imports, what it may use, what it is given of the world, and what its
//! errors mean.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    Engine, ExternType, HostError, InstanceHandle, Limits, Linker, Module, Program, Region,
    RuntimeError,
};
use thiserror::Error;

use crate::args::GuestArgs;
use crate::exit_code::ExitCode;
use crate::report::{Failure, FileName};

/// A guest called an import that `--unknown-imports-trap` stands in for.
#[derive(Debug, Error)]
#[error("guest trapped: it called the import {module:?} {name:?}, which nothing provides")]
struct UnknownImportCalled {
    module: String,
    name: String,
}

/// Resolves the module's imports. `defined` gets the linker when it has what the flags define.
pub(super) fn link(
    args: &GuestArgs,
    engine: &Engine,
    module: &Module,
    file: &FileName,
    defined: impl FnOnce(&mut Linker),
) -> Result<Program, Failure> {
    let mut linker = Linker::new(engine);
    if !args.no_wasi {
        wasi::add_to_linker(&mut linker)?;
    }
    defined(&mut linker);
    loop {
        let (module, name, ty) = match linker.program(module) {
            Err(RuntimeError::UnknownImport { module, name, ty }) => (module, name, *ty),
            other => return other.map_err(not_started),
        };
        match ty {
            ExternType::Func(ty) if args.unknown_imports_trap => {
                let called = (module.clone(), name.clone());
                linker.func_new(&module, &name, ty, move |_, _, _| {
                    let (module, name) = called.clone();
                    Err(HostError::new(UnknownImportCalled { module, name }))
                })?;
            }
            ty => {
                let (file, no_wasi) = (file.clone(), args.no_wasi);
                return Err(Failure::UnknownImport {
                    file,
                    module,
                    name,
                    ty: Box::new(ty),
                    no_wasi,
                });
            }
        }
    }
}

/// An instance of the program, in a region of its own, with what the guest is given.
pub(super) fn instance(
    args: &GuestArgs,
    program: &Program,
    file: &Path,
    guest_args: &[OsString],
) -> Result<InstanceHandle, Failure> {
    let engine = program.module().engine();
    let region = Region::new(engine, 1, &limits(args)).map_err(not_started)?;
    let mut builder = region.instance_builder(program);
    if !args.no_wasi {
        builder = builder.with_embed_ctx(wasi_ctx(args, file, guest_args)?);
    }
    builder.build().map_err(not_started)
}

/// The limits that the flags describe.
fn limits(args: &GuestArgs) -> Limits {
    let mut limits = Limits::default();
    if let Some(len) = args.max_memory {
        // A memory with 32-bit addresses has 4 GiB at most, whatever it may have.
        limits.memory_len = len.min(limits.memory_len);
        limits.memory64_len = len;
        limits.total_memory_len = len;
    }
    if let Some(len) = args.stack_size {
        limits.stack_len = usize::try_from(len).unwrap_or(usize::MAX);
    }
    limits
}

/// What the guest is given of the world.
fn wasi_ctx(args: &GuestArgs, file: &Path, guest_args: &[OsString]) -> Result<WasiCtx, Failure> {
    let mut builder = WasiCtx::builder();
    let name = args
        .argv0
        .as_deref()
        .or(file.file_name())
        .unwrap_or(OsStr::new(""));
    builder.inherit_stdio().arg(name).args(guest_args);
    builder.envs(args.env.iter().map(|var| (&var.key, &var.value)));
    for dir in &args.dirs {
        builder.preopened_dir(&dir.host, &dir.guest)?;
    }
    Ok(builder.build()?)
}

/// What an error of a running guest means for the process.
pub(super) fn ended(error: RuntimeError) -> Result<ExitCode, Failure> {
    match error {
        RuntimeError::RuntimeTerminated(details) => {
            match details
                .provided_details()
                .and_then(|value| value.downcast_ref())
            {
                Some(wasi::Exit { code }) => Ok(ExitCode::Guest(*code)),
                None => Err(RuntimeError::RuntimeTerminated(details).into()),
            }
        }
        RuntimeError::RuntimeFault(_) | RuntimeError::UncaughtException(_) => {
            Err(Failure::Trap(Box::new(error)))
        }
        RuntimeError::HostFunction(error) if error.is::<UnknownImportCalled>() => {
            Err(Failure::Trap(error))
        }
        other => Err(other.into()),
    }
}

/// What an error on the way to a running guest means.
fn not_started(error: RuntimeError) -> Failure {
    match error {
        RuntimeError::LimitsExceeded {
            what,
            needed,
            given,
            knob,
        } => Failure::Limits {
            what,
            needed,
            given,
            knob,
        },
        RuntimeError::InvalidLimits(reason) => Failure::InvalidLimits(reason),
        other => other.into(),
    }
}
