//! How a case is measured: samples of both sides in turn, then medians and spreads.
//!
//! ```text
//! check     both sides once, results compared
//! calibrate operations per sample, for each side on its own
//! round 1   ours, theirs
//! round 2   theirs, ours          a drift of the machine hits both alike,
//! round 3   ours, theirs          and neither always comes second
//! ```
//!
//! The ratio is taken within each round, so that a slow second of the machine, which both sides of
//! a round share, cancels; its median and spread are over the rounds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cases::{Case, Work};
use crate::peers::{Mode, Pair, Peer, Runner};

/// The aim for one sample of repeated operations: long against the clock and a lost time slice.
const SAMPLE: Duration = Duration::from_millis(25);

/// A median and what lies around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The tenth percentile.
    pub(crate) p10: f64,
    /// Half of the samples are below.
    pub(crate) median: f64,
    /// The ninetieth percentile.
    pub(crate) p90: f64,
}

impl Spread {
    /// Of at least one sample, none of them NaN.
    pub(crate) fn of(samples: Vec<f64>) -> Spread {
        Spread {
            p10: quantile(&samples, 0.1),
            median: quantile(&samples, 0.5),
            p90: quantile(&samples, 0.9),
        }
    }
}

/// What so large a part of at least one sample is below, between the two nearest samples as far as it lies between
/// them. None is NaN.
pub(crate) fn quantile(samples: &[f64], part: f64) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let position = part * (samples.len() - 1) as f64;
    let below = samples[position.floor() as usize];
    let above = samples[position.ceil() as usize];
    below + (above - below) * position.fract()
}

/// What a case gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measured {
    /// Their time over ours: above 1, Selvedge is faster.
    pub(crate) ratio: Spread,
    /// Seconds per operation.
    pub(crate) ours: Spread,
    /// Seconds per operation.
    pub(crate) theirs: Spread,
}

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Row {
    /// The first part of the case's name.
    pub(crate) group: &'static str,
    /// The case's name, whole.
    pub(crate) name: String,
    /// The settings of both engines.
    pub(crate) mode: Mode,
    /// The figures, or why there are none.
    pub(crate) outcome: Result<Measured>,
}

/// Measures one case on both engines, which are in its mode.
pub(crate) fn measure(case: &Case, pair: &Pair, rounds: usize) -> Row {
    let outcome = compare(case, pair.ours.as_ref(), pair.theirs.as_ref(), rounds);
    Row {
        group: case.group,
        name: case.full_name(),
        mode: case.mode,
        outcome,
    }
}

/// One side of a pair, ready to be sampled.
struct Side {
    runner: Runner,
    operations: u64,
    seconds: Vec<f64>,
}

impl Side {
    /// Prepares a side and runs a few operations for their result, which is returned.
    fn open(case: &Case, peer: &dyn Peer) -> Result<(Side, u64)> {
        let mut runner = (case.make)(peer).with_context(|| peer.name())?;
        let operations = match case.work {
            Work::Repeated => 100,
            Work::Once { .. } => 1,
        };
        let check = runner(operations).with_context(|| peer.name())?.check;
        Ok((
            Side {
                runner,
                operations,
                seconds: Vec::new(),
            },
            check,
        ))
    }

    /// Finds how many operations take about [`SAMPLE`], going up by doubling.
    fn calibrate(&mut self, work: Work) -> Result<()> {
        if let Work::Once { .. } = work {
            return Ok(());
        }
        loop {
            let elapsed = (self.runner)(self.operations)?.elapsed;
            if elapsed >= SAMPLE / 2 {
                let scale = SAMPLE.as_secs_f64() / elapsed.as_secs_f64();
                self.operations = ((self.operations as f64 * scale) as u64).max(1);
                return Ok(());
            }
            self.operations *= 2;
        }
    }

    /// Takes one sample; returns seconds per operation.
    fn sample(&mut self) -> Result<f64> {
        let elapsed = (self.runner)(self.operations)?.elapsed;
        let seconds = elapsed.as_secs_f64() / self.operations as f64;
        self.seconds.push(seconds);
        Ok(seconds)
    }
}

fn compare(case: &Case, ours: &dyn Peer, theirs: &dyn Peer, rounds: usize) -> Result<Measured> {
    let (mut a, our_result) = Side::open(case, ours)?;
    let (mut b, their_result) = Side::open(case, theirs)?;
    ensure!(
        our_result == their_result,
        "results differ: {:#x} from {}, {:#x} from {}",
        our_result,
        ours.name(),
        their_result,
        theirs.name()
    );
    a.calibrate(case.work)?;
    b.calibrate(case.work)?;

    let rounds = match case.work {
        Work::Repeated => rounds,
        Work::Once { rounds_divisor } => (rounds / rounds_divisor).max(3),
    };
    let mut ratios = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let (ours, theirs);
        if round % 2 == 0 {
            ours = a.sample()?;
            theirs = b.sample()?;
        } else {
            theirs = b.sample()?;
            ours = a.sample()?;
        }
        ratios.push(theirs / ours);
    }
    Ok(Measured {
        ratio: Spread::of(ratios),
        ours: Spread::of(a.seconds),
        theirs: Spread::of(b.seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_samples() {
        let spread = Spread::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(
            spread,
            Spread {
                p10: 1.4,
                median: 3.0,
                p90: 4.6
            }
        );
        assert_eq!(
            Spread::of(vec![7.0]),
            Spread {
                p10: 7.0,
                median: 7.0,
                p90: 7.0
            }
        );
        assert_eq!(Spread::of(vec![1.0, 2.0]).median, 1.5);
    }
}
