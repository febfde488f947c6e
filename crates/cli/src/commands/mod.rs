//! The commands, a file each, and what they share: reading the input, settings of the compiler,
//! writing results.

mod compile;
mod input;
mod inspect;
mod invoke;
mod run;
mod validate;

use std::io::{self, Write};

use selvedge::{Engine, Settings};

use crate::args::{Command, CompilerArgs, OptLevel};
use crate::exit_code::ExitCode;
use crate::report::Failure;

/// Does what the command line asks for.
pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// The engine that the flags describe.
fn engine(args: &CompilerArgs) -> Result<Engine, Failure> {
    let opt_level = match args.opt_level {
        OptLevel::None => selvedge::OptLevel::None,
        OptLevel::Speed => selvedge::OptLevel::Speed,
        OptLevel::Size => selvedge::OptLevel::SpeedAndSize,
    };
    let settings = Settings::default()
        .with_opt_level(opt_level)
        .with_cpu(args.cpu)
        .with_dwarf(args.debug_info);
    Ok(Engine::new(&settings)?)
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
