//! `selvedge run`: a module or an artifact, linked to WASI, in a region of one slot.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use selvedge::{InstanceHandle, Module, RuntimeError};

use crate::args::RunArgs;
use crate::commands::guest::{self, ended};
use crate::commands::input::Input;
use crate::commands::invoke::{Call, Plan};
use crate::commands::snapshot;
use crate::commands::stats::Stats;
use crate::commands::supervise::{Ended, Watch, supervised};
use crate::exit_code::ExitCode;
use crate::report::Failure;
use crate::values;

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let mut stats = args.stats.then(Stats::begin);
    let input = Input::open(args.file())?;
    // Whether the code of an artifact counts was decided when it was made.
    let counts_fuel = args.fuel.is_some() || (args.stats && !input.is_artifact());
    let engine = super::engine(&args.compiler, counts_fuel)?;
    let file = input.name().clone();
    let module = input.into_module(&engine)?;
    let plan = Plan::new(args, &module, &file)?;
    let program = guest::link(&args.guest, &engine, &module, &file, |linker| {
        if let Some(stats) = &mut stats {
            stats.count_calls(linker);
        }
    })?;
    check_directories(args, &module)?;
    let mut instance = guest::instance(&args.guest, &program, args.file(), args.guest_args())?;
    if let Some(units) = args.fuel {
        instance.set_fuel(units)?;
    }
    if let Some(stats) = &mut stats {
        stats.loaded();
    }
    let result = supervised(&mut instance, args.guest.timeout, |watch, instance| {
        call(watch, instance, &module, &plan)
    })?;
    if let Some(stats) = &stats {
        stats.tell(&instance);
    }
    match result {
        Ok(results) => super::print(&results).map(|()| ExitCode::Success),
        Err(Ended::Stopped(why, backtrace)) => Err(Failure::stopped(why, backtrace)),
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

/// A guest that goes on from a snapshot finds the directories that it knows, by the same names and numbers.
fn check_directories(args: &RunArgs, module: &Module) -> Result<(), Failure> {
    let notes = module
        .notes()
        .filter(|(name, _)| *name == snapshot::PREOPEN);
    let known: Vec<_> = notes.map(|(_, dir)| dir.to_owned()).collect();
    let given = args.guest.dirs.iter().map(|dir| &dir.guest);
    if known.is_empty() || given.eq(&known) {
        return Ok(());
    }
    Err(Failure::OtherDirectories(known))
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
    if let Some(initialize) = plan.initialize.filter(|_| !module.is_snapshot()) {
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
