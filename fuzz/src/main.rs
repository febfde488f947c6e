//! Selvedge beside other engines on modules made at random, and its readers fed with damage.
//!
//! This file reads the command line and says what each thread does with a seed. Cases come from
//! `generate` and `observe`, engines stand in `engines`, `compare` holds them against each other, `damage` feeds the
//! readers, `drive` counts seeds and threads, `report` prints.

mod compare;
mod damage;
mod drive;
mod engines;
mod features;
mod generate;
mod observe;
mod random;
mod report;
#[allow(unreachable_pub, reason = "the file is also one of the tests' library")]
#[path = "../../tests/src/tenants.rs"]
mod tenants;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::compare::Engines;
use crate::damage::{Answer, Compiling, Reading};
use crate::drive::{Plan, Worker};
use crate::features::Feature;
use crate::generate::Case;
use crate::report::{Kind, Report, Tally};

const USAGE: &str = "\
usage: selvedge-fuzz differential|compile|artifact|tenants [OPTIONS]
       selvedge-fuzz differential FILE...

  differential      valid modules on Selvedge, Wasmtime, wasmi: outcomes, memories, tables, globals
  compile           any modules, damaged or not, through the compiler: it answers and does not panic
  artifact          damaged artifacts through their reader: it answers and does not panic
  tenants           instances in used slots, after guests that wrote, grew, trapped, were ended: like in fresh ones

  FILE              modules to compare, as binary or text, in place of generated ones
  --seed N          the first seed (default 0); seed N --count 1 does one case again
  --count N         seeds in all (default 1000, or no end with --time)
  --time SECONDS    when to stop
  --jobs N          threads (default 1)
  --features LIST   proposals that generated modules may use: simd,tail-call or all, for example;
                    without it those that Selvedge has, with an empty list WebAssembly 2.0 less SIMD
";

/// What the command line asks for.
#[derive(Debug)]
struct Args {
    kind: Kind,
    plan: Plan,
    features: Vec<Feature>,
    files: Vec<PathBuf>,
}

impl Args {
    /// `None` if the usage text was asked for.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let kind = match args.next().as_deref() {
            Some("differential") => Kind::Differential,
            Some("compile") => Kind::Compile,
            Some("artifact") => Kind::Artifact,
            Some("tenants") => Kind::Tenants,
            Some("--help" | "-h") | None => return Ok(None),
            Some(other) => bail!("there is no command `{other}`; see --help"),
        };
        let mut plan = Plan {
            seed: 0,
            count: None,
            time: None,
            jobs: 1,
        };
        let mut list = None;
        let mut files = Vec::new();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
            let number = |text: String| {
                text.parse::<u64>()
                    .with_context(|| format!("{text} is no number"))
            };
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--seed" => plan.seed = number(value()?)?,
                "--count" => plan.count = Some(number(value()?)?),
                "--time" => plan.time = Some(Duration::from_secs(number(value()?)?)),
                "--jobs" => plan.jobs = number(value()?)? as usize,
                "--features" => list = Some(value()?),
                option if option.starts_with('-') => {
                    bail!("there is no option {option}; see --help")
                }
                file if kind == Kind::Differential => files.push(file.into()),
                file => bail!("only `differential` takes files, such as {file}"),
            }
        }
        Ok(Some(Self {
            kind,
            plan,
            features: features::parse(list.as_deref())?,
            files,
        }))
    }
}

/// Exit codes: nothing found, something found, the tool itself could not go on.
fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "selvedge-fuzz: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The number of findings.
fn run() -> Result<u64> {
    let Some(args) = Args::parse(env::args().skip(1))? else {
        write!(io::stdout(), "{USAGE}")?;
        return Ok(0);
    };
    let Args {
        kind,
        plan,
        features,
        files,
    } = args;
    let report = Report::new(kind);
    match kind {
        Kind::Differential if !files.is_empty() => {
            let worker = Differential::new(&features)?;
            for file in files {
                let wasm = wat::parse_file(&file)?;
                report.add(worker.compare(&Case::of_wasm(plan.seed, wasm)?, &report));
            }
        }
        Kind::Differential => plan.run(&report, || Differential::new(&features))?,
        Kind::Compile => plan.run(&report, || Compiling::new(features.clone()))?,
        Kind::Artifact => plan.run(&report, || Reading::new(features.clone()))?,
        Kind::Tenants => plan.run(&report, || Ok(Tenants))?,
    }
    report.close()?;
    Ok(report.found())
}

/// Compares engines.
struct Differential {
    engines: Engines,
    features: Vec<Feature>,
}

impl Differential {
    fn new(features: &[Feature]) -> Result<Self> {
        Ok(Self {
            engines: Engines::new()?,
            features: features.to_vec(),
        })
    }

    fn compare(&self, case: &Case, report: &Report) -> Tally {
        let mut tally = Tally {
            modules: 1,
            ..Tally::default()
        };
        match self.engines.compare(case) {
            Ok(agreed) => {
                tally.calls = agreed.calls;
                tally.returned = agreed.returned;
                tally.inconclusive = agreed.inconclusive.into();
            }
            Err(difference) => {
                tally.found = 1;
                report.difference(case.seed, &case.wasm, &difference);
            }
        }
        tally
    }
}

impl Worker for Differential {
    fn work(&mut self, seed: u64, at_work: &Path, report: &Report) -> Result<Tally> {
        let case = Case::of_seed(seed, &self.features)?;
        fs::write(at_work, &case.wasm)?;
        Ok(self.compare(&case, report))
    }
}

impl Worker for Compiling {
    fn work(&mut self, seed: u64, at_work: &Path, report: &Report) -> Result<Tally> {
        let bytes = self.bytes(seed)?;
        fs::write(at_work, &bytes)?;
        Ok(answered(self.feed(&bytes), seed, &bytes, "wasm", report))
    }
}

impl Worker for Reading {
    fn work(&mut self, seed: u64, at_work: &Path, report: &Report) -> Result<Tally> {
        let bytes = self.bytes(seed)?;
        fs::write(at_work, &bytes)?;
        Ok(answered(self.feed(&bytes), seed, &bytes, "sva", report))
    }
}

/// Lets instances follow each other in few slots.
struct Tenants;

impl Tenants {
    /// In one region.
    const EACH: usize = 100;
}

impl Worker for Tenants {
    fn work(&mut self, seed: u64, at_work: &Path, report: &Report) -> Result<Tally> {
        fs::write(at_work, format!("seed {seed}\n"))?;
        let walked = compare::guarded(|| tenants::walk(seed, Self::EACH));
        let left = walked.unwrap_or_else(|panic| Err(format!("a panic: {panic}")));
        if let Err(why) = &left {
            report.finding(seed, why.as_bytes(), "txt", why);
        }
        Ok(Tally {
            modules: 1,
            calls: Self::EACH as u64,
            accepted: left.is_ok().into(),
            found: left.is_err().into(),
            ..Tally::default()
        })
    }
}

fn answered(answer: Answer, seed: u64, bytes: &[u8], ending: &str, report: &Report) -> Tally {
    if let Answer::Wrong(why) = &answer {
        report.finding(seed, bytes, ending, why);
    }
    Tally {
        modules: 1,
        accepted: u64::from(answer == Answer::Accepted),
        found: u64::from(matches!(answer, Answer::Wrong(_))),
        ..Tally::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_command_line_is_read_and_slips_are_named() {
        let args = parse("differential --seed 7 --count 3 --jobs 2 --features simd")
            .unwrap()
            .unwrap();
        assert_eq!(
            (args.plan.seed, args.plan.count, args.plan.jobs),
            (7, Some(3), 2)
        );
        assert!(args.features.iter().any(|feature| feature.name == "simd"));
        assert!(parse("").unwrap().is_none());
        for (line, word) in [
            ("differ", "differ"),
            ("compile --sed 1", "--sed"),
            ("compile --seed", "--seed"),
            ("compile --seed x", "x"),
            ("artifact a.sva", "a.sva"),
        ] {
            assert!(
                parse(line).unwrap_err().to_string().contains(word),
                "{line}"
            );
        }
    }
}
