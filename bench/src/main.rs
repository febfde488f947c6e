//! Selvedge beside Wasmtime: the same modules, the same operations, in one process and one run.
//!
//! This file reads the command line, runs the cases and hands the rows to the report. What is
//! measured is in `cases`, how in `harness`, by whom in `peers`, and how it looks in `report`.

mod cases;
mod harness;
mod metering;
mod peers;
mod report;
mod stops;

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::peers::Pair;

const USAGE: &str = "\
usage: selvedge-bench [FILTER] [--rounds N] [--json] [--list] [--metering] [--stops]

  FILTER      run only the cases whose name contains this, such as `cpu/` or `trap`
  --rounds N  samples of each side of a pair, interleaved (default 21, at least 3)
  --json      print the rows as JSON, when all have been measured
  --list      print the names of the cases and stop
  --metering  what fuel, epochs and explicit bounds checks cost the programs of cpu/, in a table of its own
  --stops     how long it takes to kill, to preempt and to resume a guest, in a table of its own
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Args {
    filter: String,
    rounds: usize,
    json: bool,
    list: bool,
    metering: bool,
    stops: bool,
}

impl Args {
    /// `None` if the usage text was asked for.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Args>> {
        let mut parsed = Args {
            filter: String::new(),
            rounds: 21,
            json: false,
            list: false,
            metering: false,
            stops: false,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => parsed.json = true,
                "--list" => parsed.list = true,
                "--metering" => parsed.metering = true,
                "--stops" => parsed.stops = true,
                "--rounds" => {
                    let rounds = args.next().context("--rounds wants a number")?;
                    parsed.rounds = rounds
                        .parse()
                        .ok()
                        .filter(|&rounds| rounds >= 3)
                        .with_context(|| format!("--rounds {rounds} is not a number from 3 up"))?;
                }
                flag if flag.starts_with('-') => bail!("there is no flag {flag}"),
                filter if parsed.filter.is_empty() => parsed.filter = filter.to_string(),
                second => bail!("one filter at most, {second} is a second one"),
            }
        }
        Ok(Some(parsed))
    }
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    let args = match Args::parse(env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            return exit(out.write_all(USAGE.as_bytes()).map(|()| ExitCode::SUCCESS));
        }
        Err(error) => {
            return exit(write!(io::stderr(), "{error}\n{USAGE}").map(|()| ExitCode::from(2)));
        }
    };
    exit(without_host_backtraces().and_then(|()| run(&args, &mut out)))
}

/// Starts this program again without `RUST_BACKTRACE`, if it is set: with it, an error that Wasmtime
/// returns walks the host's stack, which is not what the rows of traps are about.
fn without_host_backtraces() -> Result<()> {
    const OFF: &str = "0";
    let variables = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];
    if variables
        .iter()
        .all(|name| env::var_os(name).is_none_or(|value| value == OFF))
    {
        return Ok(());
    }
    let program = env::current_exe()?;
    let error = Command::new(program)
        .args(env::args_os().skip(1))
        .envs(variables.map(|v| (v, OFF)))
        .exec();
    Err(error).context("cannot start again without RUST_BACKTRACE")
}

/// Turns what could not be said elsewhere into an exit code.
fn exit<E: Display>(result: Result<ExitCode, E>) -> ExitCode {
    result.unwrap_or_else(|error| {
        // Nothing is left to do if standard error is closed too.
        let _ = writeln!(io::stderr(), "selvedge-bench: {error:#}");
        ExitCode::FAILURE
    })
}

/// Measures every case that the filter lets through. A case that fails is a row that says so, and
/// makes the exit code 1, so that one missing feature doesn't hide the other figures.
fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if args.metering {
        metering::run(&args.filter, args.rounds, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.stops {
        stops::run(&args.filter, args.rounds, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cases: Vec<_> = cases::all()?
        .into_iter()
        .filter(|case| case.full_name().contains(&args.filter))
        .collect();
    if cases.is_empty() {
        bail!("no case has {} in its name; --list shows them", args.filter);
    }
    if args.list {
        for case in &cases {
            writeln!(out, "{:44} {}", case.full_name(), case.what)?;
        }
        return Ok(ExitCode::SUCCESS);
    }

    let mut pairs: Vec<Pair> = Vec::new();
    let mut rows = Vec::new();
    if !args.json {
        report::write_header(out, args.rounds)?;
    }
    for case in &cases {
        // Opened when the first case wants it: the pools of a pair reserve terabytes of addresses.
        let pair = match pairs.iter().position(|pair| pair.mode == case.mode) {
            Some(at) => &pairs[at],
            None => pairs.push_mut(Pair::open(case.mode)?),
        };
        let row = harness::measure(case, pair, args.rounds);
        if !args.json {
            report::write_row(out, &row)?;
            out.flush()?;
        }
        rows.push(row);
    }
    if args.json {
        report::write_json(out, args.rounds, &rows)?;
    } else {
        report::write_footer(out, &rows)?;
    }
    let all_measured = rows.iter().all(|row| row.outcome.is_ok());
    Ok(if all_measured {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<Args>> {
        Args::parse(args.iter().map(|arg| arg.to_string()))
    }

    #[test]
    fn flags_and_filter_come_in_any_order() {
        let args = parse(&["--rounds", "5", "cpu/", "--json"])
            .unwrap()
            .unwrap();
        let expected = Args {
            filter: "cpu/".into(),
            rounds: 5,
            json: true,
            list: false,
            metering: false,
            stops: false,
        };
        assert_eq!(args, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(parse(&["--rounds"]).is_err());
        assert!(parse(&["--rounds", "two"]).is_err());
        assert!(parse(&["--rounds", "1"]).is_err());
        assert!(parse(&["--fast"]).is_err());
        assert!(parse(&["a", "b"]).is_err());
        assert_eq!(parse(&["--help"]).unwrap(), None);
    }
}
