//! What is measured: one file a group, each a table of cases.

mod calls;
mod compile;
pub(crate) mod cpu;
mod exceptions;
mod instantiate;
mod start;
mod trap;

use anyhow::{Context, Result};

use crate::peers::{Mode, Peer, Runner};

/// How much work a sample is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// So many operations as fill a sample: for operations of nano- to microseconds.
    Repeated,
    /// One operation, which is long enough. Only one in `rounds_divisor` rounds is taken.
    Once {
        /// At least 1.
        rounds_divisor: usize,
    },
}

/// Makes the runner of a case on a peer.
pub(crate) type Make = Box<dyn Fn(&dyn Peer) -> Result<Runner>>;

/// One thing to measure on two peers.
pub(crate) struct Case {
    /// What kind of thing.
    pub(crate) group: &'static str,
    /// Which, unique in its group together with `mode`.
    pub(crate) name: String,
    /// A line for `--list`.
    pub(crate) what: String,
    /// The settings of both engines.
    pub(crate) mode: Mode,
    /// How much work a sample is.
    pub(crate) work: Work,
    /// How to do it.
    pub(crate) make: Make,
}

impl Case {
    /// `group/name`, with the mode if it is not the default: what the filter is compared with.
    pub(crate) fn full_name(&self) -> String {
        match self.mode {
            Mode::Default => format!("{}/{}", self.group, self.name),
            Mode::Lean => format!("{}/{} (lean)", self.group, self.name),
        }
    }
}

/// Every case, in the order of the report.
pub(crate) fn all() -> Result<Vec<Case>> {
    let mut cases = calls::cases()?;
    cases.extend(instantiate::cases()?);
    cases.extend(start::cases()?);
    cases.extend(trap::cases()?);
    cases.extend(exceptions::cases()?);
    cases.extend(compile::cases()?);
    cases.extend(cpu::cases()?);
    Ok(cases)
}

/// For the cases where it makes a difference.
const BOTH_MODES: [Mode; 2] = [Mode::Default, Mode::Lean];

/// Text to binary, so that every peer gets the same bytes and none of them parses text.
fn binary(wat: &str) -> Result<Vec<u8>> {
    wat::parse_str(wat).context("a guest of the benchmarks does not parse")
}
