//! The program `selvedge`: parses the command line, runs the command, reports how it went. What can
//! be done is done by the crate `selvedge`; this one only asks for it.
#![deny(unsafe_code)]

mod args;
mod commands;
mod exit_code;
mod load;
mod report;
mod values;

use clap::Parser;

use crate::args::CommandLine;

fn main() -> std::process::ExitCode {
    let args = args::with_run_implied(std::env::args_os());
    let code = match CommandLine::try_parse_from(args) {
        Ok(line) => commands::run(line.command).unwrap_or_else(|failure| report::failure(&failure)),
        Err(answer) => report::command_line(&answer),
    };
    code.into()
}
