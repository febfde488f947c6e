//! How long it takes to stop a guest that never calls: each stop timed on its own, both engines in turn.
//!
//! ```text
//!  kill, preempt   another thread says stop ----------> run or poll returns on the guest's thread
//!  cycle           resume or poll --> guest --> host function: stop --> resume or poll returns
//! ```
//!
//! A report of its own, since what counts is also how long the slowest take: medians and 99th percentiles over all stops.
//! The ratio is that of the medians of a round; its median over the rounds is shown. The machine's other work shows in the
//! percentiles first.

mod selvedge;
mod wasmtime;

use std::hint::spin_loop;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::harness::{Spread, quantile};

/// A guest that never ends and never calls, and one that does nothing but call `host.stop`.
const GUEST: &str = r#"
(module
  (import "host" "stop" (func $stop))
  (func (export "spins") (loop $again (br $again)))
  (func (export "calls") (loop $again (call $stop) (br $again))))
"#;

/// Stops of one kind in a round, of each engine.
const STOPS: usize = 100;

/// Turns of an empty loop that the other thread waits before it says stop: some ten microseconds, in which the guest
/// gets going.
const HEAD_START: u32 = 2_000;

/// An engine with a guest. Each method stops it so many times and gives the seconds that each took.
trait Stops {
    /// Ends a guest that spins, from another thread, until whoever runs it has the error.
    fn kill(&mut self, other: &Other, count: usize) -> Result<Vec<f64>>;

    /// Suspends a guest that spins, from another thread, until whoever runs it knows.
    fn preempt(&mut self, other: &Other, count: usize) -> Result<Vec<f64>>;

    /// Lets a suspended guest go on, which is told to stop by a host function that it calls first of all, until it is
    /// suspended again.
    fn cycle(&mut self, count: usize) -> Result<Vec<f64>>;
}

/// What the other thread does, once the guest's has begun.
type Stop = Box<dyn FnOnce() + Send>;

/// A thread that stops guests of this one.
struct Other {
    stops: SyncSender<Stop>,
    said: Receiver<Instant>,
    begun: Arc<AtomicBool>,
}

impl Other {
    fn new() -> Other {
        let (stops, to_stop) = sync_channel::<Stop>(1);
        let (say, said) = sync_channel(1);
        let begun = Arc::new(AtomicBool::new(false));
        let has_begun = begun.clone();
        thread::spawn(move || {
            while let Ok(stop) = to_stop.recv() {
                while !has_begun.swap(false, Ordering::Acquire) {
                    spin_loop();
                }
                for _ in 0..HEAD_START {
                    spin_loop();
                }
                let now = Instant::now();
                stop();
                if say.send(now).is_err() {
                    break;
                }
            }
        });
        Other { stops, said, begun }
    }

    /// Seconds from when the other thread begins to say stop until `run` returns; and what that gives.
    fn stops<R>(
        &self,
        stop: impl FnOnce() + Send + 'static,
        run: impl FnOnce() -> R,
    ) -> Result<(R, f64)> {
        let sent = self.stops.send(Box::new(stop));
        ensure!(sent.is_ok(), "the other thread has ended");
        self.begun.store(true, Ordering::Release);
        let result = run();
        let stopped = Instant::now();
        let said = self.said.recv().context("the other thread has ended")?;
        Ok((result, stopped.duration_since(said).as_secs_f64()))
    }
}

/// A kind of stop.
type Kind = fn(&mut dyn Stops, &Other) -> Result<Vec<f64>>;

/// The rows.
const KINDS: [(&str, Kind); 3] = [
    ("kill", |side, other| side.kill(other, STOPS)),
    ("preempt", |side, other| side.preempt(other, STOPS)),
    ("cycle", |side, _| side.cycle(STOPS)),
];

/// Measures all kinds whose name contains the filter and writes a line for each.
pub(crate) fn run(filter: &str, rounds: usize, out: &mut dyn Write) -> Result<()> {
    let wasm = wat::parse_str(GUEST).context("the guest does not parse")?;
    let mut ours = selvedge::Guest::new(&wasm)?;
    let mut theirs = wasmtime::Guest::new(&wasm)?;
    let other = Other::new();
    writeln!(
        out,
        "us of a stop, {rounds} rounds of {STOPS} stops each, medians and 99th percentiles; ratio: Wasmtime's median \
         over Selvedge's\n"
    )?;
    writeln!(
        out,
        "{:>24} {:>22} {:>22}  stop",
        "ratio", "Selvedge", "Wasmtime 48.0.8"
    )?;
    for (name, kind) in KINDS {
        if !name.contains(filter) {
            continue;
        }
        // Once for what only the first costs.
        kind(&mut ours, &other).context(name)?;
        kind(&mut theirs, &other).context(name)?;
        let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let (of_ours, of_theirs);
            if round % 2 == 0 {
                of_ours = kind(&mut ours, &other)?;
                of_theirs = kind(&mut theirs, &other)?;
            } else {
                of_theirs = kind(&mut theirs, &other)?;
                of_ours = kind(&mut ours, &other)?;
            }
            ratios.push(quantile(&of_theirs, 0.5) / quantile(&of_ours, 0.5));
            all_ours.extend(of_ours);
            all_theirs.extend(of_theirs);
        }
        let ratio = Spread::of(ratios);
        let ratio = format!("{:.2} [{:.2} .. {:.2}]", ratio.median, ratio.p10, ratio.p90);
        let figures = |all: &[f64]| {
            let micros = |at| quantile(all, at) * 1e6;
            format!("{:.2}, p99 {:.1}", micros(0.5), micros(0.99))
        };
        let (ours, theirs) = (figures(&all_ours), figures(&all_theirs));
        writeln!(out, "{ratio:>24} {ours:>22} {theirs:>22}  {name}")?;
        out.flush()?;
    }
    Ok(())
}
