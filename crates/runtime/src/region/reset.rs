//! How memory 0 of a slot becomes what it was in the beginning.
//!
//! ```text
//!   memory of up to 64 KiB   every page is compared with what belongs there       no system call
//!   larger                   so is the longest run of pages that were written
//!                            before                                                no system call
//!                            of others the kernel tells which were written         one, or more
//!                            they are compared, up to what a slot may keep
//!                            what is beyond is given back                          one
//!   much of it in vain       everything is given back                              one
//!   the kernel can't tell    everything is given back                              one
//! ```
//!
//! What differs is written back. To give pages back costs the one who touches them again a page fault each: 1.5 us
//! here, where comparing a page takes 0.06 to 0.1 us and finding it 0.035 us (Linux 6.18).

use std::io;
use std::ops::Range;

use crate::region::layout::round_up_to_page;
use crate::region::options::RegionOptions;
use crate::region::slot::{Own, Slot};
use crate::sys::page::page_len;
use crate::sys::pagemap::{Pagemap, Runs};
use crate::vm::pages::{Direction, InitialPages};

/// Bytes up to which all pages are compared: sixteen take 0.2 to 0.6 us, a scan that finds nothing 0.4 us, and
/// one that finds something 0.6 us.
const COMPARED_LEN: usize = 64 << 10;

/// What a slot may compare in vain before it gives its pages back: so many pages, and so many for each that its last
/// guest changed. A page that was written to once stays the slot's own, whether later guests write to it or not. In
/// time, this is some two times what the next guest pays for the pages that it needs again.
const VAIN_PAGES: usize = 256;
const VAIN_PAGES_EACH: usize = 64;

/// How a region resets its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resets {
    keep_len: usize,
    pagemap: Option<&'static Pagemap>,
    measured: bool,
}

/// How a memory was made clean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Nothing was to be done.
    Empty,
    /// All pages were compared.
    Compared,
    /// The pages that the kernel told were written back.
    Written,
    /// Some were written back, some given back.
    Partly,
    /// All were given back.
    GivenBack,
}

impl Kind {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::GivenBack as usize + 1;
}

impl Resets {
    pub(crate) fn new(options: &RegionOptions) -> Self {
        Self {
            keep_len: options.keep_resident_len,
            measured: options.measure_resets,
            pagemap: if options.find_written_pages {
                Pagemap::get()
            } else {
                None
            },
        }
    }

    /// Whether somebody wants to know how long it takes.
    pub(crate) fn is_measured(&self) -> bool {
        self.measured
    }

    /// With a pagemap of the caller's.
    #[cfg(test)]
    pub(crate) fn with_pagemap(self, pagemap: Option<&'static Pagemap>) -> Self {
        Self { pagemap, ..self }
    }

    /// Makes the initial bytes of a slot's memory what belongs there. `count` is how often it was done before.
    ///
    /// # Errors
    ///
    /// What the kernel says. The slot must be mapped anew then.
    pub(crate) fn reset(&self, slot: &mut Slot, count: u32) -> io::Result<Kind> {
        let len = slot.initial_len();
        if len == 0 {
            return Ok(Kind::Empty);
        }
        let direction = if count.is_multiple_of(2) {
            Direction::Up
        } else {
            Direction::Down
        };
        if len <= COMPARED_LEN.min(self.keep_len) {
            // Pages that no guest has written to are those of the image and of zeroes, which the processor's cache has
            // once for all slots.
            InitialPages::of(slot).restore_changed(0..len, direction);
            return Ok(Kind::Compared);
        }
        if self.keep_len == 0 {
            slot.give_back(0)?;
            return Ok(Kind::GivenBack);
        }
        let Some(pagemap) = self.pagemap else {
            slot.give_back(0)?;
            return Ok(Kind::GivenBack);
        };
        // A scan that fails has told nothing, but what was written back before it is right all the same.
        match self.write_back(slot, pagemap, direction) {
            Ok(Kept::All) => Ok(Kind::Written),
            Ok(Kept::Below(from)) => {
                slot.give_back(from)?;
                Ok(Kind::Partly)
            }
            Ok(Kept::InVain) => {
                slot.give_back(0)?;
                Ok(Kind::GivenBack)
            }
            Err(_) => {
                slot.give_back(0)?;
                Ok(Kind::GivenBack)
            }
        }
    }

    /// Ranges of offsets of a memory outside which nothing was written: all of it, where nobody can tell.
    pub(crate) fn written(&self, start: usize, len: usize) -> Vec<Range<usize>> {
        let all = vec![0..len; 1];
        let Some(pagemap) = self.pagemap.filter(|_| len > COMPARED_LEN) else {
            return all;
        };
        let mut written = Vec::new();
        let mut runs = Runs::new();
        let (memory, pages) = (start..start + len, pages_of(start..start + len));
        let mut at = pages.start;
        while at < pages.end {
            let Ok(next) = pagemap.scan(at..pages.end, &mut runs) else {
                return all;
            };
            if next <= at {
                return all;
            }
            for run in runs.told() {
                if run.start < at || run.end > next || run.start > run.end {
                    return all;
                }
                written.push(offsets(run, &memory));
            }
            at = next;
        }
        written
    }

    /// Makes pages clean until enough are kept: a run that is known from the last time, for which the kernel need
    /// not be asked page by page, and then the others, lowest first.
    fn write_back(
        &self,
        slot: &mut Slot,
        pagemap: &Pagemap,
        direction: Direction,
    ) -> io::Result<Kept> {
        let mut left = self.keep_len / page_len() * page_len();
        let Own { run, vain } = slot.take_own();
        let mut longest = if run.len() <= left { run } else { 0..0 };
        let mut pages = InitialPages::of(slot);
        let memory = pages.addr()..pages.addr() + pages.len();
        let start = memory.start;
        let all = pages_of(memory.clone());
        let known = match longest.is_empty() {
            true => all.start..all.start,
            false => pages_of(start + longest.start..start + longest.end),
        };
        let mut changed = pages.restore_changed(longest.clone(), direction);
        left -= longest.len();
        let mut kept = longest.len();
        let mut beyond = None;
        let mut runs = Runs::new();
        'all: for part in [all.start..known.start, known.end..all.end] {
            let mut at = part.start;
            while at < part.end {
                let next = pagemap.scan(at..part.end, &mut runs)?;
                if next <= at {
                    return Err(io::Error::other("the scan for dirty pages does not go on"));
                }
                for run in runs.told() {
                    if run.start < at || run.end > next || run.start > run.end {
                        return Err(io::Error::other(
                            "the scan told pages that were not asked for",
                        ));
                    }
                    let run = offsets(run, &memory);
                    let mut len = run.len();
                    if len > left {
                        // What stays and what does not meet between two pages.
                        let cut = (start + run.start + left) / page_len() * page_len();
                        len = cut.saturating_sub(start + run.start);
                    }
                    changed += pages.restore_changed(run.start..run.start + len, direction);
                    left -= len;
                    kept += len;
                    longest = joined(longest, run.start..run.start + len);
                    if len < run.len() {
                        beyond = Some(run.start + len);
                        break 'all;
                    }
                }
                at = next;
            }
        }
        let vain = vain + (kept / page_len() - changed);
        if vain > VAIN_PAGES + VAIN_PAGES_EACH * changed {
            return Ok(Kept::InVain);
        }
        slot.set_own(Own { run: longest, vain });
        Ok(beyond.map_or(Kept::All, Kept::Below))
    }
}

/// The pages that have a part of a range of addresses: those of a dense slot begin with its context.
fn pages_of(range: Range<usize>) -> Range<usize> {
    range.start / page_len() * page_len()..round_up_to_page(range.end)
}

/// Offsets in a memory of the part of a run of pages that lies in it.
fn offsets(run: Range<usize>, memory: &Range<usize>) -> Range<usize> {
    let start = run.start.clamp(memory.start, memory.end);
    start - memory.start..run.end.clamp(start, memory.end) - memory.start
}

/// What became of a memory whose pages were gone over.
enum Kept {
    /// It is clean.
    All,
    /// It is clean up to this offset. There are more pages of its own than may stay.
    Below(usize),
    /// It is clean, and has many pages of its own that nobody writes to.
    InVain,
}

/// Two runs as one if they meet, else the longer one.
fn joined(one: Range<usize>, other: Range<usize>) -> Range<usize> {
    if one.end == other.start && !one.is_empty() {
        one.start..other.end
    } else if other.end == one.start && !one.is_empty() {
        other.start..one.end
    } else if other.len() > one.len() {
        other
    } else {
        one
    }
}

#[cfg(test)]
mod tests {
    use super::{joined, offsets, pages_of};

    #[test]
    fn of_pages_the_part_counts_that_lies_in_the_memory() {
        let memory = 0x7_0240..0x8_0240;
        assert_eq!(pages_of(memory.clone()), 0x7_0000..0x8_1000);
        assert_eq!(pages_of(0x7_0000..0x8_0000), 0x7_0000..0x8_0000);
        assert_eq!(offsets(0x7_0000..0x7_1000, &memory), 0..0xdc0);
        assert_eq!(offsets(0x7_1000..0x7_3000, &memory), 0xdc0..0x2dc0);
        assert_eq!(offsets(0x8_0000..0x8_1000, &memory), 0xfdc0..0x1_0000);
        assert!(offsets(0x8_1000..0x8_2000, &memory).is_empty());
        assert!(offsets(0x6_0000..0x7_0000, &memory).is_empty());
    }

    #[test]
    fn runs_that_meet_are_one_and_of_others_the_longer_stays() {
        assert_eq!(joined(0..0, 0..8), 0..8);
        assert_eq!(joined(0..0, 4..8), 4..8);
        assert_eq!(joined(0..4, 4..8), 0..8);
        assert_eq!(joined(4..8, 0..4), 0..8);
        assert_eq!(joined(0..4, 5..8), 0..4);
        assert_eq!(joined(0..4, 5..80), 5..80);
    }
}
