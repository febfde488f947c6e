//! `selvedge run`: a module or an artifact, linked to WASI, in a region of one slot.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    Engine, ExternType, HostError, InstanceHandle, Limits, Linker, Module, Program, Region,
    RuntimeError,
};
use thiserror::Error;

use crate::args::RunArgs;
use crate::commands::input::Input;
use crate::commands::invoke::{Call, Plan};
use crate::commands::stats::Stats;
use crate::commands::supervise::{Ended, Watch, supervised};
use crate::exit_code::ExitCode;
use crate::report::{Failure, FileName};
use crate::values;

/// A guest called an import that `--unknown-imports-trap` stands in for.
#[derive(Debug, Error)]
#[error("guest trapped: it called the import {module:?} {name:?}, which nothing provides")]
struct UnknownImportCalled {
    module: String,
    name: String,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut stats = args.stats.then(Stats::begin);
    let input = Input::open(args.file())?;
    // Whether the code of an artifact counts was decided when it was made.
    let counts_fuel = args.fuel.is_some() || (args.stats && !input.is_artifact());
    let engine = super::engine(&args.compiler, counts_fuel)?;
    let file = input.name().clone();
    let module = input.into_module(&engine)?;
    let plan = Plan::new(args, &module, &file)?;
    let program = link(args, &engine, &module, &file, stats.as_mut())?;
    let region = Region::new(&engine, 1, &limits(args)).map_err(not_started)?;
    let mut builder = region.instance_builder(&program);
    if !args.no_wasi {
        builder = builder.with_embed_ctx(wasi_ctx(args)?);
    }
    let mut instance = builder.build().map_err(not_started)?;
    if let Some(units) = args.fuel {
        instance.set_fuel(units)?;
    }
    if let Some(stats) = &mut stats {
        stats.loaded();
    }
    let result = supervised(&mut instance, args.timeout, |watch, instance| {
        call(watch, instance, &module, &plan)
    })?;
    if let Some(stats) = &stats {
        stats.tell(&instance);
    }
    match result {
        Ok(results) => super::print(&results).map(|()| ExitCode::Success),
        Err(Ended::Stopped(why, backtrace)) => Err(Failure::Stopped {
            why,
            backtrace: backtrace.map(Box::new),
        }),
        Err(Ended::Error(error)) => {
            dump(args, &instance, &error)?;
            ended(error)
        }
    }
}

/// Writes the core dump that was asked for, if the guest trapped. Where that fails, the trap is told all the
/// same.
fn dump(args: &RunArgs, instance: &InstanceHandle, error: &RuntimeError) -> Result<(), Failure> {
    let (Some(path), RuntimeError::RuntimeFault(fault)) = (&args.coredump, error) else {
        return Ok(());
    };
    let failed = |source| Failure::CoreDump {
        trap: error.to_string(),
        path: path.clone(),
        source,
    };
    let file = File::create(path).map_err(failed)?;
    let mut out = BufWriter::new(file);
    instance
        .core_dump(Some(fault), &mut out)
        .map_err(|error| failed(io::Error::other(error)))?;
    out.flush().map_err(failed)
}

/// Resolves the module's imports.
fn link(
    args: &RunArgs,
    engine: &Engine,
    module: &Module,
    file: &FileName,
    stats: Option<&mut Stats>,
) -> Result<Program, Failure> {
    let mut linker = Linker::new(engine);
    if !args.no_wasi {
        wasi::add_to_linker(&mut linker)?;
    }
    if let Some(stats) = stats {
        stats.count_calls(&mut linker);
    }
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

/// The limits that the flags describe.
fn limits(args: &RunArgs) -> Limits {
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
fn wasi_ctx(args: &RunArgs) -> Result<WasiCtx, Failure> {
    let mut builder = WasiCtx::builder();
    let file = args.file();
    let name = args
        .argv0
        .as_deref()
        .or(file.file_name())
        .unwrap_or(OsStr::new(""));
    builder.inherit_stdio().arg(name).args(args.guest_args());
    builder.envs(args.env.iter().map(|var| (&var.key, &var.value)));
    for dir in &args.dirs {
        builder.preopened_dir(&dir.host, &dir.guest)?;
    }
    Ok(builder.build()?)
}

/// Runs the start section, what makes a reactor ready, and the function that was asked for; gives its
/// results as lines.
fn call(
    watch: &Watch,
    instance: &mut InstanceHandle,
    module: &Module,
    plan: &Plan<'_>,
) -> Result<String, Ended> {
    if module.has_start() {
        watch.run(instance, |instance| instance.run_start())?;
    }
    if let Some(initialize) = plan.initialize {
        watch.run(instance, |instance| instance.run(initialize, &[]))?;
    }
    let Some(Call {
        export,
        args,
        print_results,
    }) = &plan.call
    else {
        return Ok(String::new());
    };
    let results = watch.run(instance, |instance| instance.run(export, args)?.returned())?;
    let lines = results
        .values()
        .iter()
        .map(|value| values::format(value) + "\n");
    Ok(if *print_results {
        lines.collect()
    } else {
        String::new()
    })
}

/// What an error of a running guest means for the process.
fn ended(error: RuntimeError) -> Result<ExitCode, Failure> {
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
