//! What a process has of memory. It says something of a guest only in a process without other tests: see
//! [`children`](crate::children).

use std::fs;

/// Memory of this process at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Pages that are in memory.
    pub pages: usize,
    /// Ranges that are mapped.
    pub ranges: usize,
}

/// What a run may hold more at its end than at its first part's: caches of the allocator, no more.
const MORE_PAGES: usize = 512;
const MORE_RANGES: usize = 64;

impl Held {
    /// What is held now.
    pub fn now() -> Self {
        Self {
            pages: resident().expect("the system has procfs"),
            ranges: fs::read_to_string("/proc/self/maps")
                .expect("the system has procfs")
                .lines()
                .count(),
        }
    }

    /// Since then nothing has been kept of what came and went in between. There must have been more than a
    /// thousand of it, so that a page kept of each would be seen.
    #[track_caller]
    pub fn check_flat(self) {
        let now = Self::now();
        assert!(
            now.pages <= self.pages + MORE_PAGES && now.ranges <= self.ranges + MORE_RANGES,
            "{self:?} has become {now:?}"
        );
    }
}

/// Bytes in memory that are this process's own: a page that it has mapped twice counts once, and those of files, which
/// other processes map too, do not.
pub fn own_len() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("the system has procfs");
    let kib = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.map_or(0, |number| number.parse().expect("a number of KiB"))
    };
    1024 * (kib("Pss_Anon:") + kib("Pss_Shmem:"))
}

/// Pages in memory. The page tables tell it; the kernel's counters, which are asked where it does not read page
/// tables for us, may lag by some pages for each core.
fn resident() -> Option<usize> {
    if let Ok(rollup) = fs::read_to_string("/proc/self/smaps_rollup") {
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
        return Some(kib / 4);
    }
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse().ok()
}
