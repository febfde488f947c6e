//! What metering and explicit bounds checks cost: each program with and without them, on both engines, in turn.
//!
//! Epochs come in two ways: with a deadline that is not reached, and with one that each epoch of so many
//! milliseconds reaches, which suspends the guest, asks a closure and lets it go on.
//!
//! A ratio here is an engine's time with the meter over its own time without, within one round, so what
//! the engines do otherwise cancels. This is a report of its own: it compares more than two sides.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use crate::cases::cpu::{self, Guest};
use crate::harness::Spread;
use crate::peers::{Meter, Peer, Runner, selvedge_with, wasmtime_with};

/// The columns: what is measured against the same engine without a meter.
const COLUMNS: [(&str, Meter, Open); 8] = [
    ("Selvedge fuel", Meter::Fuel, selvedge_with),
    ("Selvedge bounds", Meter::Bounds, selvedge_with),
    ("Selvedge epochs", Meter::Epochs, selvedge_with),
    ("Selvedge 10 ms", Meter::EpochsEvery(10), selvedge_with),
    ("Selvedge 1 ms", Meter::EpochsEvery(1), selvedge_with),
    ("Wasmtime fuel", Meter::Fuel, wasmtime_with),
    ("Wasmtime epochs", Meter::Epochs, wasmtime_with),
    ("Wasmtime 1 ms", Meter::EpochsEvery(1), wasmtime_with),
];

type Open = fn(Meter) -> Result<Box<dyn Peer>>;

/// Both sides of a column.
struct Column {
    plain: Box<dyn Peer>,
    metered: Box<dyn Peer>,
}

/// Measures all programs whose name contains the filter and writes a line for each.
pub(crate) fn run(filter: &str, rounds: usize, out: &mut dyn Write) -> Result<()> {
    let mut columns = Vec::new();
    for (_, meter, open) in COLUMNS {
        columns.push(Column {
            plain: open(Meter::None)?,
            metered: open(meter)?,
        });
    }
    writeln!(
        out,
        "time with the meter over time without, {rounds} rounds, medians [p10 .. p90]\n"
    )?;
    for (name, ..) in COLUMNS {
        write!(out, "{name:>24}")?;
    }
    writeln!(out, "  program")?;
    let mut sums = [0.0; COLUMNS.len()];
    let mut count = 0;
    for guest in cpu::guests()? {
        if !guest.name.contains(filter) {
            continue;
        }
        let spreads = measure(&guest, &columns, rounds).with_context(|| guest.name)?;
        for (sum, spread) in sums.iter_mut().zip(&spreads) {
            *sum += spread.median.ln();
            let text = format!(
                "{:.3} [{:.2} .. {:.2}]",
                spread.median, spread.p10, spread.p90
            );
            write!(out, "{text:>24}")?;
        }
        writeln!(out, "  {}", guest.name)?;
        out.flush()?;
        count += 1;
    }
    ensure!(count > 0, "no program has {filter} in its name");
    for sum in sums {
        write!(out, "{:>24.3}", (sum / f64::from(count)).exp())?;
    }
    writeln!(out, "  geometric mean of {count}")?;
    Ok(())
}

fn measure(guest: &Guest, columns: &[Column], rounds: usize) -> Result<Vec<Spread>> {
    let mut runners: Vec<[Runner; 2]> = Vec::new();
    for column in columns {
        let open = |peer: &dyn Peer| peer.compute(&guest.wasm, guest.n);
        runners.push([open(&*column.plain)?, open(&*column.metered)?]);
    }
    let mut checks = Vec::new();
    for runner in runners.iter_mut().flatten() {
        checks.push(runner(1)?.check);
    }
    ensure!(
        checks.iter().all(|check| *check == checks[0]),
        "results differ: {checks:x?}"
    );
    let mut ratios = vec![Vec::with_capacity(rounds); columns.len()];
    for round in 0..rounds {
        for ([plain, metered], ratios) in runners.iter_mut().zip(&mut ratios) {
            // The order changes, so that neither always comes second.
            let (without, with);
            if round % 2 == 0 {
                without = plain(1)?.elapsed;
                with = metered(1)?.elapsed;
            } else {
                with = metered(1)?.elapsed;
                without = plain(1)?.elapsed;
            }
            ratios.push(with.as_secs_f64() / without.as_secs_f64());
        }
    }
    Ok(ratios.into_iter().map(Spread::of).collect())
}
