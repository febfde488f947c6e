//! How a region goes about its slots.

use std::time::Duration;

use crate::error::Error;
use crate::region::layout::MIN_ALIGNMENT;
use crate::sys::keys::{self, Key};
use crate::sys::page::page_len;

/// How a region goes about its slots; see [`Region::with_options`](crate::Region::with_options).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RegionOptions {
    /// Bytes of memory 0 that a slot keeps from one instance to the next: pages that a guest wrote to are
    /// written back and stay in memory up to so many bytes, which takes about a tenth of a microsecond a
    /// page; what is beyond is given back to the system, and costs the next guest more than a microsecond
    /// for each page that it touches again. 0 gives everything back. Default: 2 MiB.
    ///
    /// A slot gives everything back when it has looked at many pages in vain, so that those that one guest wrote to do
    /// not cost all later ones for ever.
    pub keep_resident_len: usize,
    /// Whether the system is asked which pages a guest wrote to (`PAGEMAP_SCAN`, Linux 6.7 and later), if it can
    /// tell. Otherwise memories of more than 64 KiB are given back to the system as a whole. Default: yes.
    pub find_written_pages: bool,
    /// Whether [`RegionMetrics::reset_time`](crate::RegionMetrics::reset_time) is measured, which takes two looks at the
    /// clock for each instance, about 50 ns. Default: no.
    pub measure_resets: bool,
    /// What is done when there is no free slot. Default: [`WhenFull::Fail`].
    pub when_full: WhenFull,
    /// Whether slots lie close together: each has address space for its context and
    /// [`Limits::memory_len`](crate::Limits::memory_len) bytes, and none around them, where usual slots take more than
    /// 6 GiB and several mappings. So there can be hundreds of thousands, also where the address space is small or
    /// mappings are few. The engine's code must compare every address itself (`explicit_bounds`). Contexts are not
    /// write-protected then, and images are copied, not shared: what keeps guests apart is that code alone. Default:
    /// no.
    ///
    /// An idle instance holds a page, with its context and the beginning of its memory, if the engine's code is for
    /// dense regions alone (`compact_contexts`), and otherwise another one if it has globals. Where
    /// [`Limits::memory_len`](crate::Limits::memory_len) is 0 it holds
    /// [`Limits::context_len`](crate::Limits::context_len) bytes, which 512 are enough for where there are few globals and
    /// tables.
    pub dense: bool,
    /// Protection keys (`pkeys(7)`) that slots are striped with, at most: 0 means none, more than there are (15 for a
    /// process) means as many as there are. All that a guest can reach of its slot has the key of its stripe, a thread that
    /// runs the guest can use no other one, and so slots of other keys may lie where usually a guard of 6 GiB is: there
    /// can be so many times the slots in the same address space, up to where
    /// [`Limits::context_len`](crate::Limits::context_len) and [`Limits::memory_len`](crate::Limits::memory_len) fill
    /// what lies between two of them. The code of guests is the same; every way in and out takes some 30 ns more.
    ///
    /// Keys are the process's: regions use the same ones, and they are never given back. [`Error::Unsupported`] where
    /// there is none, which needs an x86-64 processor with `pku`. A thread of the host that was not let use them yet
    /// is when it touches a guest's memory, by the handler of SIGSEGV if need be; but a system call that
    /// is given such memory fails there with `EFAULT`. Modules that are linked into an instance get address space of
    /// their own. Not for dense slots. Default: 0.
    pub protection_keys: u32,
    /// Bytes that the address of memory 0 of every instance is a multiple of: a power of two. Memories with
    /// 64-bit addresses or pages of one byte, and those after the first, lie elsewhere. What is less than a page
    /// means a page; in a dense region, where a memory that need not begin on a page shares one with its instance's
    /// context, what is less than 64 means 64. Default: 1, so the least.
    pub heap_alignment: usize,
}

impl RegionOptions {
    /// The alignment, at least that of a page, or of a cache line in a dense region.
    pub(crate) fn checked_alignment(&self) -> Result<usize, Error> {
        if !self.heap_alignment.is_power_of_two() {
            return Err(Error::InvalidArgument(
                "the alignment of memories must be a power of two",
            ));
        }
        // A page, and a line, is a multiple of all smaller powers of two.
        let least = if self.dense {
            MIN_ALIGNMENT
        } else {
            page_len()
        };
        Ok(self.heap_alignment.max(least))
    }

    /// What a context's length is a multiple of.
    pub(crate) fn context_unit(&self) -> usize {
        if self.dense && self.heap_alignment < page_len() {
            MIN_ALIGNMENT
        } else {
            page_len()
        }
    }

    /// The protection keys to stripe slots with, none if none are wanted.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, Error> {
        if self.protection_keys == 0 {
            return Ok(Vec::new());
        }
        if self.dense {
            return Err(Error::InvalidArgument(
                "dense slots have no protection keys: their guests are kept apart by their code",
            ));
        }
        keys::get(self.protection_keys).map_err(|why| Error::Unsupported {
            what: "protection keys",
            why,
        })
    }
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self {
            keep_resident_len: 2 << 20,
            find_written_pages: true,
            measure_resets: false,
            dense: false,
            when_full: WhenFull::Fail,
            protection_keys: 0,
            heap_alignment: 1,
        }
    }
}

/// What a region does when an instance is to be made and there is no free slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WhenFull {
    /// [`Error::RegionFull`](crate::Error::RegionFull).
    Fail,
    /// The calling thread waits until an instance of the region is dropped, at most so long; then
    /// [`Error::RegionFull`](crate::Error::RegionFull).
    Wait(Duration),
    /// The instance gets address space of its own, with the same limits, which is unmapped when it is dropped.
    /// It takes as long as a new region of one slot, and is not counted among the region's.
    Outside,
}
