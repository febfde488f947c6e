//! The rows as text for a person or JSON for a script. Takes no measurements.

use std::fs;
use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::harness::{Measured, Row, Spread};

/// What the figures depend on besides the code, as far as this process can tell.
#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    kernel: String,
    threads: usize,
    /// Processes that wanted to run in the last minute; this one adds one.
    load: String,
}

impl Machine {
    fn read() -> Machine {
        let first_line = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap_or("unknown");
            line.rsplit(": ").next().unwrap_or(line).to_string()
        };
        Machine {
            processor: first_line("/proc/cpuinfo", "model name"),
            kernel: first_line("/proc/sys/kernel/osrelease", ""),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            load: first_line("/proc/loadavg", "").split(' ').take(1).collect(),
        }
    }
}

/// What stands above the rows.
pub(crate) fn write_header(out: &mut dyn Write, rounds: usize) -> io::Result<()> {
    let machine = Machine::read();
    writeln!(
        out,
        "{}, {} threads, Linux {}, load {}; {rounds} rounds, medians [p10 .. p90]",
        machine.processor, machine.threads, machine.kernel, machine.load
    )?;
    writeln!(
        out,
        "ratio: Wasmtime's time over Selvedge's; above 1, Selvedge is faster\n"
    )?;
    writeln!(
        out,
        "{:>22}  {:>30}  {:>30}  case",
        "ratio", "Selvedge", "Wasmtime 48.0.8"
    )
}

/// One line.
pub(crate) fn write_row(out: &mut dyn Write, row: &Row) -> io::Result<()> {
    match &row.outcome {
        Ok(measured) => writeln!(
            out,
            "{:>22}  {:>30}  {:>30}  {}",
            ratio(&measured.ratio),
            time(&measured.ours),
            time(&measured.theirs),
            row.name
        ),
        Err(error) => writeln!(out, "{:>22}  {}: {error:#}", "failed", row.name),
    }
}

/// What stands under the rows: the mean of each group, and how many failed.
pub(crate) fn write_footer(out: &mut dyn Write, rows: &[Row]) -> io::Result<()> {
    writeln!(out)?;
    for (group, mean, count) in means(rows) {
        writeln!(
            out,
            "{mean:>7.3}  geometric mean of {count} ratios of {group}"
        )?;
    }
    let failed = rows.iter().filter(|row| row.outcome.is_err()).count();
    if failed > 0 {
        writeln!(out, "{failed} of {} cases failed", rows.len())?;
    }
    Ok(())
}

/// The geometric mean of the ratios of each group that has more than one, in their order.
fn means(rows: &[Row]) -> Vec<(&'static str, f64, usize)> {
    let mut groups: Vec<&'static str> = rows.iter().map(|row| row.group).collect();
    groups.dedup();
    let mean = |group| {
        let ratios: Vec<f64> = rows
            .iter()
            .filter(|row| row.group == group)
            .filter_map(|row| row.outcome.as_ref().ok())
            .map(|measured| measured.ratio.median.ln())
            .collect();
        let count = ratios.len();
        (
            group,
            (ratios.iter().sum::<f64>() / count as f64).exp(),
            count,
        )
    };
    groups
        .into_iter()
        .map(mean)
        .filter(|(_, _, count)| *count > 1)
        .collect()
}

/// Everything as one JSON object. Times are seconds.
pub(crate) fn write_json(out: &mut dyn Write, rounds: usize, rows: &[Row]) -> Result<()> {
    #[derive(Serialize)]
    struct JsonRow<'a> {
        name: &'a str,
        mode: &'static str,
        #[serde(flatten)]
        measured: Option<Measured>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    }
    #[derive(Serialize)]
    struct Json<'a> {
        machine: Machine,
        rounds: usize,
        rows: Vec<JsonRow<'a>>,
    }
    let rows = rows.iter().map(|row| JsonRow {
        name: &row.name,
        mode: row.mode.text(),
        measured: row.outcome.as_ref().ok().copied(),
        error: row.outcome.as_ref().err().map(|error| format!("{error:#}")),
    });
    let json = Json {
        machine: Machine::read(),
        rounds,
        rows: rows.collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &json)?;
    writeln!(out)?;
    Ok(())
}

fn ratio(spread: &Spread) -> String {
    format!(
        "{:.2} [{:.2} .. {:.2}]",
        spread.median, spread.p10, spread.p90
    )
}

/// In the unit that suits the median, with three digits or so.
fn time(spread: &Spread) -> String {
    let (unit, scale) = match spread.median {
        s if s < 1e-6 => ("ns", 1e9),
        s if s < 1e-3 => ("us", 1e6),
        s if s < 1.0 => ("ms", 1e3),
        _ => ("s", 1.0),
    };
    let digits = |seconds: f64| {
        let value = seconds * scale;
        match value {
            v if v < 10.0 => format!("{v:.2}"),
            v if v < 100.0 => format!("{v:.1}"),
            v => format!("{v:.0}"),
        }
    };
    format!(
        "{} {unit} [{} .. {}]",
        digits(spread.median),
        digits(spread.p10),
        digits(spread.p90)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::Mode;

    #[test]
    fn times_are_in_the_unit_of_their_median() {
        let spread = Spread {
            p10: 9.5e-9,
            median: 22.34e-9,
            p90: 1.2e-6,
        };
        assert_eq!(time(&spread), "22.3 ns [9.50 .. 1200]");
        let spread = Spread {
            p10: 0.9,
            median: 1.5,
            p90: 12.0,
        };
        assert_eq!(time(&spread), "1.50 s [0.90 .. 12.0]");
    }

    #[test]
    fn means_are_geometric_and_leave_failures_out() {
        let row = |ratio: Option<f64>| Row {
            group: "cpu",
            name: "cpu/x".into(),
            mode: Mode::Default,
            outcome: ratio.map_or_else(
                || Err(anyhow::anyhow!("no")),
                |median| {
                    let spread = Spread {
                        p10: median,
                        median,
                        p90: median,
                    };
                    Ok(Measured {
                        ratio: spread,
                        ours: spread,
                        theirs: spread,
                    })
                },
            ),
        };
        let rows = [row(Some(0.5)), row(None), row(Some(2.0))];
        let means = means(&rows);
        assert_eq!(means.len(), 1);
        assert!((means[0].1 - 1.0).abs() < 1e-12);
        assert_eq!(means[0].2, 2);
    }
}
