//! What a region has done and holds, in numbers.
//!
//! Counts are kept where threads do not meet: in the list of the thread that gives a slot back. They are added up
//! when somebody asks.

use std::ops::AddAssign;
use std::time::Duration;

use crate::region::reset::Kind;

/// What a region has done since it was made, and holds now; see [`Region::metrics`](crate::Region::metrics).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct RegionMetrics {
    /// Slots in all.
    pub capacity: u32,
    /// Slots in use.
    pub used: u32,
    /// Slots that are free.
    pub free: u32,
    /// Slots that were ever used: at least as many as were in use at a time.
    pub ever_used: u32,
    /// Slots that were taken for an instance or a linked module.
    pub taken: u64,
    /// How many of them had all that the instance needed, since its program had run there before.
    pub taken_ready: u64,
    /// Instances that waited for a slot.
    pub waited: u64,
    /// Instances that were made outside the region.
    pub outside: u64,
    /// How memories were made clean, when instances were dropped or reset.
    pub resets: ResetCounts,
    /// How long that took, if [`RegionOptions::measure_resets`](crate::RegionOptions::measure_resets) says that it
    /// is to be measured; otherwise zero.
    pub reset_time: Duration,
    /// Bytes that guests' memories and contexts have in memory, those of free slots too, as far as the system
    /// tells (`PAGEMAP_SCAN`, Linux 6.7). Pages of images, which instances share, are not counted.
    pub resident_len: Option<u64>,
}

/// How often memories were made clean in which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ResetCounts {
    /// There was no memory.
    pub nothing: u64,
    /// All pages were compared with what belongs there.
    pub compared: u64,
    /// The pages that were written to were written back.
    pub written_back: u64,
    /// Some were written back, others given back to the system.
    pub partly: u64,
    /// All were given back to the system.
    pub given_back: u64,
    /// It failed, and the slot was to be mapped anew.
    pub failed: u64,
}

/// What is counted in a slot until it is given back: small, since each has its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlotCounts {
    /// By kind, and then those that failed.
    resets: [u32; Kind::COUNT + 1],
    nanos: u64,
}

impl SlotCounts {
    /// Counts a reset, or one that failed; whether there was room to count it.
    pub(crate) fn count(&mut self, kind: Option<Kind>) -> bool {
        let count = &mut self.resets[kind.map_or(Kind::COUNT, |kind| kind as usize)];
        let next = count.checked_add(1);
        *count = next.unwrap_or(*count);
        next.is_some()
    }

    /// Adds to the time.
    pub(crate) fn add_time(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos = self.nanos.saturating_add(nanos);
    }
}

impl From<SlotCounts> for Counts {
    fn from(counts: SlotCounts) -> Self {
        let [nothing, compared, written_back, partly, given_back, failed] =
            counts.resets.map(u64::from);
        Self {
            resets: ResetCounts {
                nothing,
                compared,
                written_back,
                partly,
                given_back,
                failed,
            },
            reset_time: Duration::from_nanos(counts.nanos),
            ..Self::default()
        }
    }
}

impl AddAssign for ResetCounts {
    fn add_assign(&mut self, other: Self) {
        self.nothing += other.nothing;
        self.compared += other.compared;
        self.written_back += other.written_back;
        self.partly += other.partly;
        self.given_back += other.given_back;
        self.failed += other.failed;
    }
}

/// What is counted in a list, and in a slot until it is given back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) taken: u64,
    pub(crate) taken_ready: u64,
    pub(crate) resets: ResetCounts,
    pub(crate) reset_time: Duration,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.taken += other.taken;
        self.taken_ready += other.taken_ready;
        self.resets += other.resets;
        self.reset_time = self.reset_time.saturating_add(other.reset_time);
    }
}

#[cfg(feature = "metrics")]
impl RegionMetrics {
    /// Tells the recorder of the `metrics` crate, with a label `region`: gauges and counters that begin with
    /// `selvedge_region_`.
    pub fn publish(&self, region: &str) {
        let labels = [("region", region.to_owned())];
        let gauge = |name: &'static str, value: f64| metrics::gauge!(name, &labels).set(value);
        let counter = |name: &'static str, value| metrics::counter!(name, &labels).absolute(value);
        gauge("selvedge_region_capacity", self.capacity.into());
        gauge("selvedge_region_used", self.used.into());
        gauge("selvedge_region_free", self.free.into());
        gauge("selvedge_region_ever_used", self.ever_used.into());
        if let Some(bytes) = self.resident_len {
            gauge("selvedge_region_resident_bytes", bytes as f64);
        }
        counter("selvedge_region_taken_total", self.taken);
        counter("selvedge_region_taken_ready_total", self.taken_ready);
        counter("selvedge_region_waited_total", self.waited);
        counter("selvedge_region_outside_total", self.outside);
        let micros = u64::try_from(self.reset_time.as_micros()).unwrap_or(u64::MAX);
        counter("selvedge_region_reset_microseconds_total", micros);
        let resets = &self.resets;
        for (kind, count) in [
            ("nothing", resets.nothing),
            ("compared", resets.compared),
            ("written_back", resets.written_back),
            ("partly", resets.partly),
            ("given_back", resets.given_back),
            ("failed", resets.failed),
        ] {
            let labels = [("region", region.to_owned()), ("kind", kind.to_owned())];
            metrics::counter!("selvedge_region_resets_total", &labels).absolute(count);
        }
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;
    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    /// Keeps what it is told, by name and kind.
    #[derive(Default)]
    struct Kept(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Kept {
        fn cell(&self, key: &Key) -> Arc<AtomicU64> {
            let labels = key.labels().map(|label| format!(" {}", label.value()));
            let name = format!("{}{}", key.name(), labels.collect::<String>());
            let mut kept = self.0.lock().unwrap();
            kept.entry(name).or_default().clone()
        }
    }

    impl Recorder for Kept {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.cell(key))
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.cell(key))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_recorder_is_told_everything() {
        let metrics = RegionMetrics {
            used: 3,
            taken: 5,
            resets: ResetCounts {
                partly: 7,
                ..ResetCounts::default()
            },
            resident_len: Some(4096),
            ..RegionMetrics::default()
        };
        let kept = Kept::default();
        metrics::with_local_recorder(&kept, || metrics.publish("one"));
        let told = kept.0.into_inner().unwrap();
        let of = |name: &str| told[name].load(Ordering::Relaxed);
        // Gauges are kept as the bits of a float.
        assert_eq!(f64::from_bits(of("selvedge_region_used one")), 3.0);
        assert_eq!(
            f64::from_bits(of("selvedge_region_resident_bytes one")),
            4096.0
        );
        assert_eq!(of("selvedge_region_taken_total one"), 5);
        assert_eq!(of("selvedge_region_resets_total one partly"), 7);
        assert_eq!(told.len(), 16);
    }
}
