//! Which pages of a range hold something of their own: written since they were mapped or given back.
//!
//! ```text
//!   a private view of a file:  | page of the file | copied by a write | never touched | copied, swapped out |
//!   fresh memory:              | the zero page    | written           | never touched | written, swapped out |
//!   found                                           ^^^                                 ^^^
//! ```
//!
//! Linux 6.7 and later tell this by one `ioctl` on `/proc/self/pagemap` (`PAGEMAP_SCAN`). A page has
//! something of its own if the process has it, in memory or in swap, and it is neither a page of a file
//! nor the page of zeroes. Pages in swap count: they come back when they are touched.
//!
//! Whether the kernel answers as described is tried once per process, with pages whose state is known. An
//! open pagemap shows the memory of the process that opened it, so a forked child opens its own; it learns
//! that it is one from a page that the kernel empties on a fork, however the fork was made.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

use super::memfd;
use super::mmap::Reservation;
use super::page::page_len;

/// Runs of pages that one call tells at most. The kernel's copy of the list fits a page, beyond which one
/// call takes half as long again (660 ns against 1,065 ns for a range of 128 KiB without dirty pages; Linux
/// 6.18, one loaded run).
pub(crate) const MAX_RUNS: usize = 128;

/// Room for what one call tells, and what the last one told. It is not cleared first, which would take a tenth as
/// long as a call.
#[derive(Debug)]
pub(crate) struct Runs {
    runs: [MaybeUninit<Run>; MAX_RUNS],
    told: usize,
}

impl Runs {
    /// Nothing told yet.
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self {
            runs: [const { MaybeUninit::uninit() }; MAX_RUNS],
            told: 0,
        }
    }

    /// Addresses of the runs that the last call told, lowest first.
    pub(crate) fn told(&self) -> impl Iterator<Item = Range<usize>> {
        let told = self.runs.get(..self.told).unwrap_or_default();
        // SAFETY: the kernel has written the first `told`, which are integers.
        told.iter()
            .map(|run| unsafe { run.assume_init_ref() }.addrs())
    }
}

/// A run of pages, as the kernel writes it (`struct page_region`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Run {
    start: u64,
    end: u64,
    categories: u64,
}

impl Run {
    /// Addresses of the run.
    fn addrs(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[derive(Debug)]
#[repr(C)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u64 = 3 << 30 | (size_of::<ScanArg>() as u64) << 16 | (b'f' as u64) << 8 | 16;

/// Which pages are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pages {
    /// Those that hold something of their own.
    Own,
    /// Those that are in memory.
    Present,
}

/// The pagemap of this process.
#[derive(Debug)]
pub(crate) struct Pagemap {
    fd: OwnedFd,
    /// A page that reads 1 in the process that opened `fd`, and 0 in a child of it.
    here: Reservation,
}

impl Pagemap {
    /// The pagemap of this process; `None` if the kernel has no such call, or does not answer as it should.
    pub(crate) fn get() -> Option<&'static Self> {
        static PAGEMAP: OnceLock<Option<Pagemap>> = OnceLock::new();
        PAGEMAP
            .get_or_init(|| {
                Self::open()
                    .and_then(|map| map.try_out().map(|()| map))
                    .ok()
            })
            .as_ref()
    }

    fn open() -> io::Result<Self> {
        let here = Reservation::reserve(page_len())?;
        here.protect_read_write(0, page_len())?;
        here.wipe_on_fork(0, page_len())?;
        let map = Self {
            fd: open_pagemap()?,
            here,
        };
        map.here().store(1, Ordering::Release);
        Ok(map)
    }

    /// A pagemap that never answers.
    #[cfg(test)]
    pub(crate) fn broken() -> Self {
        let here = Reservation::reserve(page_len()).unwrap();
        here.protect_read_write(0, page_len()).unwrap();
        let fd = memfd::create("selvedge-no-pagemap", 0).unwrap();
        let map = Self { fd, here };
        map.here().store(1, Ordering::Release);
        map
    }

    fn here(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped readable and writable as long as `self` has it, is zero or what was
        // stored through this reference, and is used in no other way.
        unsafe { AtomicU32::from_ptr(self.here.base().cast()) }
    }

    /// Tells runs of pages of their own in a range, as many as `runs` has room for; the address up to which
    /// all were told. Both ends of the range are on page boundaries.
    ///
    /// # Errors
    ///
    /// What the kernel says. Nothing is known of the range then.
    #[inline]
    pub(crate) fn scan(&self, range: Range<usize>, runs: &mut Runs) -> io::Result<usize> {
        self.tell(range, Pages::Own, runs)
    }

    /// Bytes in pages of a range.
    ///
    /// # Errors
    ///
    /// As [`Pagemap::scan`].
    pub(crate) fn count(&self, range: Range<usize>, pages: Pages) -> io::Result<u64> {
        let mut runs = Runs::new();
        let (mut at, mut bytes) = (range.start, 0);
        while at < range.end {
            let next = self.tell(at..range.end, pages, &mut runs)?;
            if next <= at {
                return Err(io::Error::other("the scan does not go on"));
            }
            bytes += runs.told().map(|run| run.len() as u64).sum::<u64>();
            at = next;
        }
        Ok(bytes)
    }

    #[inline]
    fn tell(&self, range: Range<usize>, pages: Pages, runs: &mut Runs) -> io::Result<usize> {
        runs.told = 0;
        if self.here().load(Ordering::Acquire) == 0 {
            self.open_again()?;
        }
        let (not, must, one_of) = match pages {
            Pages::Own => {
                let no_page_of = PAGE_IS_FILE | PAGE_IS_PFNZERO;
                (no_page_of, no_page_of, PAGE_IS_PRESENT | PAGE_IS_SWAPPED)
            }
            Pages::Present => (0, PAGE_IS_PRESENT, 0),
        };
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            flags: 0,
            start: range.start as u64,
            end: range.end as u64,
            walk_end: 0,
            vec: runs.runs.as_mut_ptr().expose_provenance() as u64,
            vec_len: MAX_RUNS as u64,
            max_pages: 0,
            category_inverted: not,
            category_mask: must,
            category_anyof_mask: one_of,
            return_mask: 0,
        };
        // SAFETY: the kernel reads and writes `arg`, and writes at most `MAX_RUNS` runs to `runs`, both of
        // which are borrowed for this call; it only looks at the range.
        let told = unsafe { libc::ioctl(self.fd.as_raw_fd(), PAGEMAP_SCAN, &raw mut arg) };
        let told = usize::try_from(told).map_err(|_| io::Error::last_os_error())?;
        if told > MAX_RUNS || arg.walk_end < arg.start || arg.walk_end > arg.end {
            return Err(io::Error::other(
                "the kernel's account of dirty pages makes no sense",
            ));
        }
        runs.told = told;
        Ok(arg.walk_end as usize)
    }

    /// In a child: opens its own pagemap in place of its parent's. Two threads may do so at once; the
    /// number of the descriptor stays.
    #[cold]
    fn open_again(&self) -> io::Result<()> {
        let own = open_pagemap()?;
        // SAFETY: both are open descriptors of ours; the second is replaced by a copy of the first at one
        // stroke and keeps its owner.
        let number = unsafe { libc::dup3(own.as_raw_fd(), self.fd.as_raw_fd(), libc::O_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        self.here().store(1, Ordering::Release);
        Ok(())
    }

    /// Compares what the kernel says of pages with what was done to them.
    fn try_out(&self) -> io::Result<()> {
        let page = page_len();
        let file = memfd::create("selvedge-trial", 4 * page as u64)?;
        memfd::write_at(&file, 0, &[1])?;
        let space = Reservation::reserve(8 * page)?;
        space.map_file_private(0, 4 * page, &file, 0, true)?;
        space.protect_read_write(4 * page, 4 * page)?;
        let at = |number: usize| space.base().wrapping_add(number * page);
        // Of the file, then of fresh memory: untouched, read, written, untouched.
        for first in [0, 4] {
            // SAFETY: all eight pages are mapped readable and writable, and nobody else knows them.
            unsafe {
                at(first + 1).read_volatile();
                at(first + 2).write_volatile(1);
            }
        }
        let mut runs = Runs::new();
        let all = space.addr()..space.addr() + space.len();
        let end = self.scan(all.clone(), &mut runs)?;
        let found = runs.told();
        let written = [2, 6].map(|number| at(number).addr()..at(number + 1).addr());
        if end == all.end && found.eq(written) {
            Ok(())
        } else {
            Err(io::Error::other(
                "the kernel tells other pages than were written",
            ))
        }
    }
}

fn open_pagemap() -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(
        "/proc/self/pagemap",
        flags,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests;
