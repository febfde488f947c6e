//! `selvedge snapshot`: a program is initialized once, and what comes of it is an artifact that begins there.
//!
//! What belongs to the host stays behind. Directories are noted by name, and `run` asks for the same ones; a guest
//! that holds other files open gives no snapshot. Arguments and variables are those of the run, as far as the guest
//! has not read them before.

use std::time::Instant;

use selvedge::wasi::WasiCtx;
use selvedge::{ExternType, FuncType, Module};

use crate::args::SnapshotArgs;
use crate::commands::compile;
use crate::commands::guest::{self, ended};
use crate::commands::input::Input;
use crate::commands::invoke::{REACTOR_ENTRY, exported_funcs, is_entry};
use crate::commands::supervise::{Ended, supervised};
use crate::exit_code::ExitCode;
use crate::report::{self, Failure, FileName};

/// The note of a directory that the guest knows.
pub(super) const PREOPEN: &str = "wasi preopened directory";

pub(super) fn run(args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let engine = super::engine(&args.compiler, args.count_fuel)?;
    let input = Input::open(&args.file)?;
    let file = input.name().clone();
    compile::check_output(&args.output, input.path())?;
    let module = input.into_module(&engine)?;
    let export = entry(args, &module, &file)?;
    let program = guest::link(&args.guest, &engine, &module, &file, |_| {})?;
    let mut instance = guest::instance(&args.guest, &program, &args.file, &[])?;
    let result = supervised(&mut instance, args.guest.timeout, |watch, instance| {
        if module.has_start() {
            watch.run(instance, |instance| instance.run_start())?;
        }
        match export {
            Some(export) => watch.run(instance, |instance| instance.run(export, &[]).map(drop)),
            None => Ok(()),
        }
    })?;
    match result {
        Ok(()) => {}
        Err(Ended::Stopped(why, backtrace)) => return Err(Failure::stopped(why, backtrace)),
        // A guest that exits has nothing left to go on with.
        Err(Ended::Error(error)) => {
            return match ended(error)? {
                ExitCode::Guest(code) => Err(Failure::ExitedBeforeSnapshot(code)),
                other => Ok(other),
            };
        }
    }
    let ctx = instance.remove_embed_ctx::<WasiCtx>();
    let preopens = match &ctx {
        Some(ctx) => ctx.initial_preopens().ok_or(Failure::OpenFiles)?,
        None => Vec::new(),
    };
    let notes: Vec<_> = preopens.iter().map(|dir| (PREOPEN, *dir)).collect();
    let snapshot = instance.snapshot().map_err(Failure::Snapshot)?;
    let artifact = snapshot.to_artifact(&notes).map_err(Failure::Snapshot)?;
    let artifact = artifact.as_bytes();
    compile::write(&args.output, artifact).map_err(|source| Failure::Write {
        path: args.output.clone(),
        source,
    })?;
    report::compiled(&args.output, artifact.len(), started.elapsed());
    Ok(ExitCode::Success)
}

/// The function that is run first.
fn entry<'a>(
    args: &'a SnapshotArgs,
    module: &Module,
    file: &FileName,
) -> Result<Option<&'a str>, Failure> {
    let Some(export) = args.after.as_deref() else {
        let initializes = is_entry(module, REACTOR_ENTRY) && !module.is_snapshot();
        if initializes || module.has_start() {
            return Ok(initializes.then_some(REACTOR_ENTRY));
        }
        return Err(Failure::NothingToRunFirst {
            file: file.clone(),
            funcs: exported_funcs(module),
        });
    };
    match module.export_type(export) {
        Some(ExternType::Func(ty)) if ty.params == FuncType::default().params => Ok(Some(export)),
        Some(ExternType::Func(ty)) => Err(Failure::ArgumentCount {
            name: export.to_owned(),
            ty,
            found: 0,
        }),
        Some(ty) => Err(Failure::NotAFunction {
            file: file.clone(),
            name: export.to_owned(),
            ty: Box::new(ty),
        }),
        None => Err(Failure::NoSuchExport {
            file: file.clone(),
            name: export.to_owned(),
            funcs: exported_funcs(module),
        }),
    }
}
