//! Seeds over threads, until a count, a time or too many findings end it.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::report::{Report, Tally};

/// How long to go on, and with how many hands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) count: Option<u64>,
    pub(crate) time: Option<Duration>,
    pub(crate) jobs: usize,
}

/// Seeds without a count or a time.
const DEFAULT_COUNT: u64 = 1000;
/// Findings after which more of them would not help.
const ENOUGH: u64 = 10;
/// Stack of a worker: guests call the host, which calls guests.
const STACK_LEN: usize = 256 << 20;

/// What each thread does: a seed, and the file where it keeps what it is at.
pub(crate) trait Worker {
    fn work(&mut self, seed: u64, at_work: &Path, report: &Report) -> Result<Tally>;
}

impl Plan {
    /// Does all seeds.
    pub(crate) fn run<W: Worker>(
        &self,
        report: &Report,
        worker: impl Fn() -> Result<W> + Sync,
    ) -> Result<()> {
        let count = match (self.count, self.time) {
            (Some(count), _) => count,
            (None, Some(_)) => u64::MAX,
            (None, None) => DEFAULT_COUNT,
        };
        let started = Instant::now();
        let next = AtomicU64::new(0);
        let go_on =
            || self.time.is_none_or(|time| started.elapsed() < time) && report.found() < ENOUGH;
        let hand = |number: usize| -> Result<()> {
            let mut worker = worker()?;
            let at_work = report.at_work(number)?;
            while go_on() {
                let offset = next.fetch_add(1, Ordering::Relaxed);
                if offset >= count {
                    break;
                }
                let seed = self.seed.wrapping_add(offset);
                let done = worker.work(seed, &at_work, report);
                report.add(done.with_context(|| format!("seed {seed}"))?);
            }
            // It may not have been made.
            let _ = std::fs::remove_file(&at_work);
            Ok(())
        };
        let hand = &hand;
        thread::scope(|scope| {
            let hands: Vec<_> = (0..self.jobs.max(1))
                .map(|number| {
                    thread::Builder::new()
                        .stack_size(STACK_LEN)
                        .spawn_scoped(scope, move || hand(number))
                })
                .collect::<Result<_, _>>()?;
            for hand in hands {
                match hand.join() {
                    Ok(ended) => ended?,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(())
        })
    }
}
