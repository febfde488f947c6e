//! The engines that are compared, behind one small trait.
//!
//! A peer is asked for a runner, which owns everything that it needs and repeats one operation in a
//! loop of its own: the trait call and the box cost nothing inside the measured time.

mod selvedge;
mod wasmtime;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// With which settings the engines run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each with its defaults, on a pool of instances.
    Default,
    /// Each at its fastest, at the price of diagnosis: no backtraces.
    Lean,
}

impl Mode {
    /// As the report says it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Mode::Default => "default",
            Mode::Lean => "lean",
        }
    }
}

/// How an engine counts what its guests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meter {
    /// It does not.
    None,
    /// In units of fuel, of which there are enough.
    Fuel,
    /// By epochs, with a deadline that is not reached.
    Epochs,
    /// By epochs that begin every so many milliseconds: each stops the guest, which goes on at once.
    EpochsEvery(u64),
    /// It does not, but compares every address with the length of its memory.
    Bounds,
}

/// Selvedge with a meter.
pub(crate) fn selvedge_with(meter: Meter) -> Result<Box<dyn Peer>> {
    Ok(Box::new(selvedge::Selvedge::with_meter(meter)?))
}

/// Wasmtime with a meter.
pub(crate) fn wasmtime_with(meter: Meter) -> Result<Box<dyn Peer>> {
    Ok(Box::new(wasmtime::Wasmtime::with_meter(meter)?))
}

/// How a host function suspends its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspends {
    /// In the middle, so that its frames wait, too.
    InTheMiddle,
    /// By what it returns.
    ByReturning,
}

/// What a run of some operations gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// For all of them.
    pub(crate) elapsed: Duration,
    /// A result that depends on all of them, the same on every peer.
    pub(crate) check: u64,
}

/// Runs an operation so many times. `Send`, so that it can run in a thread pool of one's choice.
pub(crate) type Runner = Box<dyn FnMut(u64) -> Result<Sample> + Send>;

/// An engine, set up. Every module is a Wasm binary.
pub(crate) trait Peer {
    /// As messages name it.
    fn name(&self) -> &'static str;

    /// An operation is a typed call of the export `add (i32, i32) -> i32`.
    fn call_in(&self, wasm: &[u8]) -> Result<Runner>;

    /// An operation is a call of the host function `host.next (i32) -> i32` by the export
    /// `run (i32) -> i32`, which makes as many as its argument says.
    fn call_out(&self, wasm: &[u8]) -> Result<Runner>;

    /// As `call_out`, and each call suspends the guest, which is resumed at once: from the middle of the
    /// host function, or by what it returns. Where there is but one way, both are that.
    fn suspend(&self, wasm: &[u8], from: Suspends) -> Result<Runner>;

    /// An operation is a round of the loop in the export `run (i32) -> i32`, which makes as many as its
    /// argument says.
    fn rounds(&self, wasm: &[u8]) -> Result<Runner>;

    /// An operation is a new instance, a typed call of its export `run () -> i32`, and its drop.
    fn instantiate(&self, wasm: &[u8]) -> Result<Runner>;

    /// An operation is a new instance, a typed call of its export `run (i32) -> i32` with `argument`, if there
    /// is one, and its drop; on so many threads at a time, each of which does all of them. Imports that the
    /// module has trap.
    fn start(&self, wasm: &[u8], argument: Option<i32>, threads: usize) -> Result<Runner>;

    /// An operation is a typed call of the export `run () -> i32` that traps, up to the point where
    /// the same instance can be called again.
    fn trap(&self, wasm: &[u8]) -> Result<Runner>;

    /// An operation is a module in memory made ready to be instantiated, by all threads of the
    /// machine or by one.
    fn compile(&self, wasm: &[u8], parallel: bool) -> Result<Runner>;

    /// An operation is a call of the export `run (i32) -> i64` with `n`.
    fn compute(&self, wasm: &[u8], n: i32) -> Result<Runner>;
}

/// Two engines set up to be compared.
pub(crate) struct Pair {
    /// The settings of both.
    pub(crate) mode: Mode,
    /// Selvedge.
    pub(crate) ours: Box<dyn Peer>,
    /// Wasmtime.
    pub(crate) theirs: Box<dyn Peer>,
}

impl Pair {
    /// Sets both up.
    pub(crate) fn open(mode: Mode) -> Result<Pair> {
        Ok(Pair {
            mode,
            ours: Box::new(selvedge::Selvedge::new(mode)?),
            theirs: Box::new(wasmtime::Wasmtime::new(mode)?),
        })
    }
}

/// What [`repeat`] gives on several threads at a time, each of which does it: the time of the slowest, from when
/// all are there. Each has a processor of its own, if there are so many: the system would begin some samples with two
/// on one.
fn repeat_on(
    threads: usize,
    count: u64,
    operation: impl Fn(u64) -> Result<u64> + Sync,
) -> Result<Sample> {
    if threads == 1 {
        return repeat(count, operation);
    }
    let ready = Barrier::new(threads);
    let samples = thread::scope(|scope| {
        let run = |number| {
            pin_to(number);
            // What a thread does first is not what is measured.
            let first = operation(0);
            ready.wait();
            first?;
            repeat(count, &operation)
        };
        let threads: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || run(number)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Sample>>| {
            thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
        };
        threads.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    let slowest = samples.iter().max_by_key(|sample| sample.elapsed);
    slowest.copied().context("there are no threads")
}

/// Keeps this thread on one of the processors that it may use, as many behind the first as `number` says. Where there
/// are not so many or the system refuses, it stays where it is.
fn pin_to(number: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    if let Some(processor) = processors.nth(number) {
        let mut only = CpuSet::new();
        only.set(processor);
        let _ = sched_setaffinity(None, &only);
    }
}

/// The loop that every runner is: times `count` calls of `operation` and adds up their results.
/// The operation gets the sum so far, so that no call can be hoisted or dropped.
#[inline(always)]
fn repeat(count: u64, mut operation: impl FnMut(u64) -> Result<u64>) -> Result<Sample> {
    let mut check = 0u64;
    let start = Instant::now();
    for _ in 0..count {
        check = check.wrapping_add(operation(check)?);
    }
    Ok(Sample {
        elapsed: start.elapsed(),
        check,
    })
}
