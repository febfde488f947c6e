//! What a run took, for `run --stats`.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use selvedge::{InstanceHandle, Linker};

/// What is known of a run so far.
#[derive(Debug)]
pub(super) struct Stats {
    began: Instant,
    /// When the guest could run.
    loaded: Instant,
    /// Calls of functions of the host.
    calls: Option<Arc<AtomicU64>>,
}

impl Stats {
    /// Nothing has been read yet.
    pub(super) fn begin() -> Self {
        let began = Instant::now();
        Self {
            began,
            loaded: began,
            calls: None,
        }
    }

    /// Counts calls of what the linker defines.
    pub(super) fn count_calls(&mut self, linker: &mut Linker) {
        self.calls = Some(linker.count_calls());
    }

    /// The guest is about to run.
    pub(super) fn loaded(&mut self) {
        self.loaded = Instant::now();
    }

    /// Writes everything to stderr, where a failure to write can't be told.
    pub(super) fn tell(&self, instance: &InstanceHandle) {
        let ran = self.loaded.elapsed();
        let calls = self.calls.as_ref();
        let report = Report {
            instructions: instance.get_instruction_count(),
            loading: self.loaded - self.began,
            running: ran,
            // Neither memories nor tables ever shrink.
            memory_len: instance.total_memory_len(),
            host_calls: calls.map_or(0, |calls| calls.load(Ordering::Relaxed)),
        };
        let _ = io::stderr().lock().write_all(report.text().as_bytes());
    }
}

/// The figures.
#[derive(Debug)]
struct Report {
    /// Nothing where the code does not count them.
    instructions: Option<u64>,
    loading: Duration,
    running: Duration,
    memory_len: u64,
    host_calls: u64,
}

impl Report {
    fn text(&self) -> String {
        let instructions = self.instructions.map_or_else(
            || {
                let how = "compile an artifact with `--count-fuel` and run it with `--fuel`";
                format!("not counted; {how}")
            },
            |count| format!("{} units of fuel", grouped(count)),
        );
        format!(
            "selvedge: what the run took\n  \
             instructions  {instructions}\n  \
             loading       {}\n  \
             running       {}\n  \
             memory        {} bytes in memories and tables at most\n  \
             host calls    {}\n",
            time(self.loading),
            time(self.running),
            grouped(self.memory_len),
            grouped(self.host_calls),
        )
    }
}

/// A number with a comma before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in the unit that suits it, with three decimals.
fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.3} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.3} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_in_groups_and_with_units() {
        let numbers = [0, 7, 999, 1000, 65_536, 1_234_567, u64::MAX].map(grouped);
        assert_eq!(
            numbers,
            [
                "0",
                "7",
                "999",
                "1,000",
                "65,536",
                "1,234,567",
                "18,446,744,073,709,551,615"
            ]
        );
        assert_eq!(time(Duration::from_micros(1_500)), "1.500 ms");
        assert_eq!(time(Duration::from_millis(999)), "999.000 ms");
        assert_eq!(time(Duration::from_millis(61_250)), "61.250 s");
    }

    #[test]
    fn each_figure_has_a_line() {
        let mut report = Report {
            instructions: Some(1_234),
            loading: Duration::from_micros(1_234),
            running: Duration::from_secs(2),
            memory_len: 65_536,
            host_calls: 3,
        };
        assert_eq!(
            report.text(),
            "selvedge: what the run took\n  \
             instructions  1,234 units of fuel\n  \
             loading       1.234 ms\n  \
             running       2.000 s\n  \
             memory        65,536 bytes in memories and tables at most\n  \
             host calls    3\n"
        );
        report.instructions = None;
        assert!(report.text().contains("--count-fuel"));
    }
}
