//! The commands, a file each, and what they share: reading the input, settings of the compiler,
//! writing results.

mod compile;
mod guest;
mod input;
mod inspect;
mod invoke;
mod run;
mod snapshot;
mod stats;
pub(crate) mod supervise;
mod validate;
mod wast;

use std::io::{self, Write};

use selvedge::{Engine, FuelCosts, Proposals, Settings};

use crate::args::{Command, CompilerArgs, OptLevel, ProposalArgs};
use crate::exit_code::ExitCode;
use crate::report::Failure;

/// Does what the command line asks for.
pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Snapshot(args) => snapshot::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Wast(args) => wast::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// The engine that the flags describe.
fn engine(args: &CompilerArgs, fuel: bool) -> Result<Engine, Failure> {
    let mut settings = settings(args)?;
    if fuel {
        settings = settings.with_fuel(FuelCosts::default());
    }
    Ok(Engine::new(&settings)?)
}

/// The settings that the flags describe.
fn settings(args: &CompilerArgs) -> Result<Settings, Failure> {
    let opt_level = match args.opt_level {
        OptLevel::None => selvedge::OptLevel::None,
        OptLevel::Speed => selvedge::OptLevel::Speed,
        OptLevel::Size => selvedge::OptLevel::SpeedAndSize,
    };
    let settings = Settings::default()
        .with_opt_level(opt_level)
        .with_cpu(args.cpu)
        .with_dwarf(args.debug_info)
        .with_proposals(proposals(&args.proposals)?)
        .with_explicit_bounds(args.explicit_bounds)
        .with_nan_canonicalization(args.canonical_nans);
    Ok(if args.deterministic {
        settings.deterministic()
    } else {
        settings
    })
}

/// The proposals that the flags leave on.
fn proposals(args: &ProposalArgs) -> Result<Proposals, Failure> {
    let mut proposals = Proposals::default();
    for proposal in &args.disable {
        proposals.disable(*proposal);
    }
    for proposal in &args.enable {
        proposals.enable(*proposal).map_err(selvedge::Error::from)?;
    }
    // What one flag turned off another may have turned on again, since a third needs it.
    match args.disable.iter().find(|p| proposals.is_enabled(**p)) {
        Some(proposal) => Err(Failure::ProposalNeeded(*proposal)),
        None => Ok(proposals),
    }
}

/// Writes results to stdout. That nobody reads them any more is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::Stdout),
    }
}
