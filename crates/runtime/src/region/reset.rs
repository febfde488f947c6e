//! How memory 0 of a slot becomes what it was in the beginning.
//!
//! ```text
//!   memory of up to 64 KiB   every page is compared with what belongs there       no system call
//!   larger                   the longest run of pages that were written before
//!                            is written back                                       no system call
//!                            of others the kernel tells which were written         one, or more
//!                            they are written back, up to what a slot may keep
//!                            what is beyond is given back                          one
//!   the kernel can't tell    everything is given back                              one
//! ```
//!
//! To give pages back costs the one who touches them again a page fault each: 1.5 us here, where writing a page
//! back takes 0.09 us and finding it 0.035 us (Linux 6.18, one loaded run).

use std::io;
use std::ops::Range;

use crate::region::options::RegionOptions;
use crate::region::slot::Slot;
use crate::sys::page::page_len;
use crate::sys::pagemap::{Pagemap, Runs};
use crate::vm::pages::InitialPages;

/// Bytes up to which all pages are compared: sixteen take 0.55 us, a scan that finds one of them 0.95 us.
const COMPARED_LEN: usize = 64 << 10;

/// Resets after which a slot gives all of its pages back, those that are written to every time too.
const GIVE_BACK_PERIOD: u32 = 512;

/// The reset at which a slot that is compared gets all of its pages: pages of the image and of zeroes, which have
/// other addresses too, take three times as long to read (1.7 us against 0.55 us for sixteen). Before it, a slot
/// was used seldom, and only holds what its guests wrote to.
const OWNED_FROM: u32 = 2;

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
        if len <= COMPARED_LEN.min(self.keep_len) {
            let mut pages = InitialPages::of(slot);
            if count == OWNED_FROM {
                pages.restore(0..len);
            } else {
                pages.restore_changed();
            }
            return Ok(Kind::Compared);
        }
        if self.keep_len == 0 || count % GIVE_BACK_PERIOD == GIVE_BACK_PERIOD - 1 {
            slot.give_back(0)?;
            return Ok(Kind::GivenBack);
        }
        let Some(pagemap) = self.pagemap else {
            slot.give_back(0)?;
            return Ok(Kind::GivenBack);
        };
        // A scan that fails has told nothing, but what was written back before it is right all the same.
        match self.write_back(slot, pagemap) {
            Ok(None) => Ok(Kind::Written),
            Ok(Some(from)) => {
                slot.give_back(from)?;
                Ok(Kind::Partly)
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
        let (mut at, end) = (start, start + len);
        while at < end {
            let Ok(next) = pagemap.scan(at..end, &mut runs) else {
                return all;
            };
            if next <= at {
                return all;
            }
            for run in runs.told() {
                if run.start < at || run.end > next || run.start > run.end {
                    return all;
                }
                written.push(run.start - start..run.end - start);
            }
            at = next;
        }
        written
    }

    /// Writes pages back until enough are kept: a run that is known from the last time, for which the kernel need
    /// not be asked page by page, and then the others, lowest first. The offset from which all others are to be
    /// given back, if there are any.
    fn write_back(&self, slot: &mut Slot, pagemap: &Pagemap) -> io::Result<Option<usize>> {
        let mut left = self.keep_len / page_len() * page_len();
        let mut longest = Some(slot.take_own())
            .filter(|own| own.len() <= left)
            .unwrap_or_default();
        let mut pages = InitialPages::of(slot);
        let (start, end) = (pages.addr(), pages.addr() + pages.len());
        pages.restore(longest.clone());
        left -= longest.len();
        let mut runs = Runs::new();
        for part in [start..start + longest.start, start + longest.end..end] {
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
                    let run = run.start - start..run.end - start;
                    let kept = left.min(run.len());
                    pages.restore(run.start..run.start + kept);
                    left -= kept;
                    if kept < run.len() {
                        return Ok(Some(run.start + kept));
                    }
                    longest = joined(longest, run);
                }
                at = next;
            }
        }
        slot.set_own(longest);
        Ok(None)
    }
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
    use super::joined;

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
