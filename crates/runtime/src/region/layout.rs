//! Addresses of a region's slots from its limits: pure arithmetic.
//!
//! ```text
//!  region: | guard | slot 0 | slot 1 | ...
//!  slot:   | context | memory reservation | guard |
//!                    ^ vmctx
//! ```
//!
//! A page table of the processor's has the pages of 2 MiB. The context and the first 64 KiB of memory 0 lie in one, at
//! its end: a small guest needs no more of them, and whoever asks the kernel which pages of a memory were written to
//! waits for it to look at few entries that are empty (half a microsecond for all of one table).
//!
//! A dense slot has no guard, and no page for its context, unless the embedder wants memories that begin on pages: the
//! context stands at the beginning, as long as the program needs, and memory 0 right behind it. What a slot may be given
//! to the system of is its pages, so its length is a multiple of them; but where memories have no byte, several slots
//! share a page.
//!
//! ```text
//!  packed: | context | memory reservation | rest of a page |
//!                    ^ vmctx, by the program
//! ```
//!
//! The guard before slot 0 keeps what lies below the first context as far away as between slots: a
//! wrong negative offset of up to 2 GiB finds no neighbour (I-6).
//!
//! Slots with protection keys lie closer, so that what a guest can reach holds slots of other keys, and the next one
//! of its own key is as far away as without keys (I-82); what the last guest can reach is reserved, too:
//!
//! ```text
//!  region: | guard | slot 0, key 1 | slot 1, key 2 | ... | slot n, key 1 | ... | guard |
//!                          |------------- reach of slot 0 -------------|
//! ```

use selvedge_artifact::tunables::Tunables;

use crate::error::Error;
use crate::region::limits::Limits;
use crate::sys::keys::Key;
use crate::sys::mmap::Stripes;
use crate::sys::page::{PageLen, page_len};

/// Rounds a length up to whole pages; saturates.
pub(crate) fn round_up_to_page(len: usize) -> usize {
    PageLen::round_up(len).map_or(usize::MAX / page_len() * page_len(), PageLen::get)
}

/// Bytes whose pages one page table of the processor's has.
const TABLE_LEN: usize = 2 << 20;

/// Bytes of memory 0 that share a table with the context, where nothing else is asked for.
const WITH_CONTEXT_LEN: usize = 64 << 10;

/// Addresses at which memory 0 of a slot may begin: multiples of `step`, and so much less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grid {
    step: usize,
    less: usize,
}

impl Grid {
    /// For memories that are to begin at multiples of `alignment`, a power of two, and of pages unless they are dense.
    pub(crate) fn of(alignment: usize, dense: bool) -> Self {
        if dense || alignment > WITH_CONTEXT_LEN {
            Self {
                step: alignment,
                less: 0,
            }
        } else {
            Self {
                step: TABLE_LEN,
                less: WITH_CONTEXT_LEN,
            }
        }
    }
}

/// Where slots lie in a region's reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    /// Bytes before the first slot.
    front_guard_len: usize,
    /// Bytes from slot to slot.
    stride: usize,
    /// Bytes of context below `vmctx`.
    context_len: usize,
    /// Slots.
    slots: u32,
    /// Bytes behind the last slot that its guest can reach.
    back_guard_len: usize,
    /// Bytes behind that, by which all slots may be moved up so that memories begin where they should.
    slack: usize,
    /// If a memory begins right behind its context: what its address is a multiple of.
    packed: Option<usize>,
}

/// The least that the address of a memory is a multiple of: a cache line, and more than any access needs.
pub(crate) const MIN_ALIGNMENT: usize = 64;

impl Layout {
    /// As [`Layout::with_keys`], for slots without.
    #[cfg(test)]
    pub(crate) fn new(
        slots: u32,
        limits: &Limits,
        tunables: &Tunables,
        grid: Grid,
        dense: bool,
    ) -> Result<Self, Error> {
        Self::with_keys(slots, limits, tunables, grid, dense, 1)
    }

    /// Lays out a region whose memories are to begin on a grid, which is one of pages unless the region is dense, and
    /// whose slots have so many protection keys in turn: none and one are the same here.
    pub(crate) fn with_keys(
        slots: u32,
        limits: &Limits,
        tunables: &Tunables,
        grid: Grid,
        dense: bool,
        keys: usize,
    ) -> Result<Self, Error> {
        let too_large =
            || Error::InvalidLimits(format!("{slots} slots need more than the address space"));
        if slots == 0 {
            return Err(Error::InvalidLimits(
                "a region needs at least one slot".to_owned(),
            ));
        }
        if dense && !tunables.explicit_bounds {
            return Err(Error::InvalidLimits(
                "dense slots are for an engine whose code compares every address (explicit_bounds)"
                    .to_owned(),
            ));
        }
        if tunables.compact_contexts && !dense {
            return Err(Error::InvalidLimits(
                "the engine's code is for dense regions alone (compact_contexts)".to_owned(),
            ));
        }
        let packed = (dense && grid.step < page_len()).then_some(grid.step);
        // What a page of a packed slot holds beside its memory is its own context, and nobody else's.
        let unit = match packed {
            Some(alignment) if limits.memory_len == 0 => alignment,
            _ => grid.step.max(page_len()),
        };
        let (reservation, guard) = if dense {
            (limits.memory_len.next_multiple_of(page_len() as u64), 0)
        } else {
            (tunables.memory_reservation_len, tunables.memory_guard_len)
        };
        let guard = usize::try_from(guard).map_err(|_| too_large())?;
        let reservation = usize::try_from(reservation).map_err(|_| too_large())?;
        // Code that relies on the reservation has no other bound, and code that does not has only the length.
        if limits.memory_len > tunables.memory_reservation_len {
            return Err(Error::InvalidLimits(format!(
                "a memory of {:#x} bytes is more than the {reservation:#x} that are reserved for one",
                limits.memory_len
            )));
        }
        let context_len = match packed {
            Some(alignment) => limits.context_len.checked_next_multiple_of(alignment),
            None => Some(limits.context_len),
        };
        let context_len = context_len.ok_or_else(too_large)?;
        // From a slot to the next one that its guest must not find where it can reach.
        let apart = context_len
            .checked_add(reservation)
            .and_then(|len| len.checked_add(guard))
            .ok_or_else(too_large)?;
        let len = if keys > 1 {
            let memory = usize::try_from(limits.memory_len).map_err(|_| too_large())?;
            let own = context_len.checked_add(round_up_to_page(memory));
            own.ok_or_else(too_large)?.max(apart.div_ceil(keys))
        } else {
            apart
        };
        let stride = len.checked_next_multiple_of(unit).ok_or_else(too_large)?;
        let layout = Self {
            front_guard_len: guard,
            stride,
            context_len,
            slots,
            back_guard_len: apart.saturating_sub(stride).next_multiple_of(page_len()),
            // Where the reservation begins is a multiple of pages only.
            slack: grid.step.saturating_sub(page_len()),
            packed,
        };
        layout.checked_total().ok_or_else(too_large)?;
        Ok(layout)
    }

    fn checked_total(&self) -> Option<usize> {
        self.stride
            .checked_mul(self.slots as usize)?
            .checked_add(self.front_guard_len)?
            .checked_add(self.back_guard_len)?
            .checked_add(self.slack)?
            .checked_next_multiple_of(page_len())
    }

    /// Moves all slots up so that their memories begin on the grid, now that it is known where the reservation
    /// begins.
    pub(crate) fn aligned(mut self, base: usize, grid: Grid) -> Self {
        if self.packed.is_some() {
            // Slots begin where the reservation does, on a page, and are multiples of the alignment.
            return self;
        }
        let first = base.wrapping_add(self.vmctx(0, 0));
        let up = first.wrapping_add(grid.less).wrapping_neg() & (grid.step - 1);
        debug_assert!(up <= self.slack, "both are multiples of pages");
        self.front_guard_len += up;
        self.slack -= up;
        self
    }

    /// Which parts of the reservation have which of some keys, one at least.
    pub(crate) fn stripes(&self, keys: Vec<Key>) -> Stripes {
        Stripes {
            first: self.front_guard_len,
            stride: self.stride,
            keys,
        }
    }

    /// Bytes of the whole reservation.
    pub(crate) fn total_len(&self) -> usize {
        self.checked_total().unwrap_or(usize::MAX)
    }

    /// Bytes of all contexts together, as the second mapping has them.
    pub(crate) fn contexts_len(&self) -> usize {
        self.context_len * self.slots as usize
    }

    /// Offset of a slot's context in the reservation.
    pub(crate) fn context(&self, slot: u32) -> usize {
        self.front_guard_len + self.stride * slot as usize
    }

    /// Offset of the `vmctx`, which is the base of memory 0, in the reservation, for a program that needs so many
    /// bytes of context.
    pub(crate) fn vmctx(&self, slot: u32, used: usize) -> usize {
        let below = match self.packed {
            Some(alignment) => used.next_multiple_of(alignment),
            None => self.context_len,
        };
        self.context(slot) + below
    }

    /// Whether a memory begins right behind its context, on no page.
    pub(crate) fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Whether slots share pages.
    pub(crate) fn shares_pages(&self) -> bool {
        !self.stride.is_multiple_of(page_len())
    }

    /// Offset of a slot's context in the second mapping.
    pub(crate) fn alias(&self, slot: u32) -> usize {
        self.context_len * slot as usize
    }

    /// Bytes of context of a slot.
    pub(crate) fn context_len(&self) -> usize {
        self.context_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_apart_by_their_guards() {
        let tunables = Tunables::default();
        let limits = Limits::default();
        let pages = Grid {
            step: 4096,
            less: 0,
        };
        let layout = Layout::new(7, &limits, &tunables, pages, false).unwrap();
        let (reservation, guard) = (4usize << 30, 2usize << 30);
        assert!(layout.context(0) >= guard);
        for slot in 0..7 {
            assert_eq!(
                layout.vmctx(slot, 0) - layout.context(slot),
                limits.context_len
            );
            assert_eq!(layout.vmctx(slot, 0) % 4096, 0);
            let end = layout.vmctx(slot, 0) + reservation + guard;
            let next = if slot == 6 {
                layout.total_len()
            } else {
                layout.context(slot + 1)
            };
            assert_eq!(end, next);
        }
    }

    #[test]
    fn memories_are_aligned_wherever_the_reservation_begins() {
        let (tunables, limits) = (Tunables::default(), Limits::default());
        for alignment in [4096usize, 1 << 16, 1 << 21, 1 << 30] {
            let grid = Grid::of(alignment, false);
            let layout = Layout::new(3, &limits, &tunables, grid, false).unwrap();
            for base in [0x7000_0000_1000usize, 0x7f00_0000_0000, 0x7123_4567_8000] {
                let moved = layout.aligned(base, grid);
                assert_eq!(moved.total_len(), layout.total_len());
                assert!(moved.context(0) >= 2 << 30, "the guard stays");
                for slot in 0..3 {
                    let first = base + moved.vmctx(slot, 0);
                    assert_eq!(first % alignment, 0);
                    if alignment <= 1 << 16 {
                        let table = |addr: usize| addr >> 21;
                        assert_eq!(table(first - 1), table(first + (64 << 10) - 1));
                        assert_ne!(table(first), table(first + (64 << 10)));
                    }
                }
                let end = moved.vmctx(2, 0) + (6usize << 30);
                assert!(end <= moved.total_len());
            }
        }
        let far = Grid::of(1 << 63, false);
        assert!(Layout::new(1, &limits, &tunables, far, false).is_err());
    }

    #[test]
    fn dense_slots_are_as_long_as_what_they_hold() {
        let tunables = Tunables {
            explicit_bounds: true,
            ..Tunables::default()
        };
        let limits = Limits {
            memory_len: 100_000,
            context_len: 8192,
            ..Limits::default()
        };
        let layout = Layout::new(1000, &limits, &tunables, Grid::of(4096, true), true).unwrap();
        assert_eq!(layout.context(0), 0);
        assert_eq!(layout.vmctx(1, 0) - layout.vmctx(0, 0), 8192 + 102_400);
        assert_eq!(layout.vmctx(0, 500), 8192);
        assert_eq!(layout.total_len(), 1000 * (8192 + 102_400));
        assert!(!layout.is_packed() && !layout.shares_pages());
        let guarded = Tunables::default();
        assert!(Layout::new(1, &limits, &guarded, Grid::of(4096, true), true).is_err());
    }

    #[test]
    fn the_memory_of_a_packed_slot_begins_behind_its_context() {
        let tunables = Tunables {
            explicit_bounds: true,
            ..Tunables::default()
        };
        let limits = |memory_len, context_len| Limits {
            memory_len,
            context_len,
            ..Limits::default()
        };
        for alignment in [64, 256, 2048] {
            let grid = Grid::of(alignment, true);
            let layout = Layout::new(10, &limits(1 << 16, 5000), &tunables, grid, true);
            let layout = layout.unwrap().aligned(0x7000_0000_1000, grid);
            assert!(layout.is_packed() && !layout.shares_pages());
            for slot in 0..10 {
                assert_eq!(layout.context(slot) % 4096, 0);
                for used in [1, 64, 500, 5000] {
                    let vmctx = layout.vmctx(slot, used);
                    let below = vmctx - layout.context(slot);
                    assert!((used..used + alignment).contains(&below));
                    assert_eq!(vmctx % alignment, 0);
                    assert!(vmctx + (1 << 16) <= layout.context(slot) + layout.stride);
                }
            }
            // Without memories, contexts are all that there is.
            let layout = Layout::new(10, &limits(0, 512), &tunables, grid, true).unwrap();
            assert_eq!(layout.context(9) - layout.context(8), alignment.max(512));
            assert!(layout.shares_pages());
            assert_eq!(layout.total_len() % 4096, 0);
            assert!(layout.vmctx(9, 512) <= layout.total_len());
        }
    }

    #[test]
    fn code_for_dense_regions_is_for_those_alone() {
        let tunables = Tunables {
            explicit_bounds: true,
            compact_contexts: true,
            ..Tunables::default()
        };
        assert!(
            Layout::new(
                1,
                &Limits::default(),
                &tunables,
                Grid::of(4096, false),
                false
            )
            .is_err()
        );
        assert!(Layout::new(1, &Limits::default(), &tunables, Grid::of(64, true), true).is_ok());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let tunables = Tunables::default();
        let limits = Limits::default();
        assert!(Layout::new(0, &limits, &tunables, Grid::of(4096, false), false).is_err());
        let huge = Tunables {
            memory_reservation_len: u64::MAX,
            ..tunables
        };
        assert!(Layout::new(1, &limits, &huge, Grid::of(4096, false), false).is_err());
        let large = Tunables {
            memory_reservation_len: 1 << 50,
            ..tunables
        };
        assert!(Layout::new(u32::MAX, &limits, &large, Grid::of(4096, false), false).is_err());
        let small = Tunables {
            memory_reservation_len: limits.memory_len - 4096,
            explicit_bounds: true,
            ..tunables
        };
        assert!(Layout::new(1, &limits, &small, Grid::of(4096, false), false).is_err());
    }

    #[test]
    fn within_reach_of_a_guest_no_other_slot_has_its_key() {
        let reservation = 4usize << 30;
        let guard = 2usize << 30;
        for keys in [1usize, 2, 3, 7, 15] {
            for memory_len in [0u64, 1 << 16, 100_000, 300 << 20, 1 << 30, 4 << 30] {
                for alignment in [4096, 1 << 21] {
                    let limits = Limits {
                        memory_len,
                        ..Limits::default()
                    };
                    let tunables = Tunables::default();
                    let slots = 40;
                    let grid = Grid::of(alignment, false);
                    let layout =
                        Layout::with_keys(slots, &limits, &tunables, grid, false, keys).unwrap();
                    let whole = Layout::new(slots, &limits, &tunables, grid, false).unwrap();
                    assert!(
                        layout.stride <= whole.stride && layout.total_len() <= whole.total_len()
                    );
                    let stripes = layout.stripes((1..=keys as u32).map(Key::numbered).collect());
                    let memory_len = round_up_to_page(memory_len as usize);
                    for slot in 0..slots {
                        let vmctx = layout.vmctx(slot, 0);
                        let reach = vmctx - guard..vmctx + reservation + guard;
                        assert!(reach.end <= layout.total_len(), "{keys} {memory_len}");
                        let own = layout.context(slot)..vmctx + memory_len;
                        let key = stripes.key(own.start, own.len());
                        assert_eq!(key, Some(Key::numbered(slot % keys as u32 + 1)));
                        for other in (0..slots).filter(|&other| other != slot) {
                            let start = layout.context(other);
                            let end = layout.vmctx(other, 0) + memory_len;
                            assert!(end <= own.start || start >= own.end, "slots lie apart");
                            if slot % keys as u32 == other % keys as u32 {
                                assert!(
                                    end <= reach.start || start >= reach.end,
                                    "{keys} {memory_len}"
                                );
                            }
                        }
                    }
                }
            }
        }
        let small = Limits {
            memory_len: 64 << 20,
            ..Limits::default()
        };
        let pages = Grid::of(4096, false);
        let many = Layout::with_keys(100, &small, &Tunables::default(), pages, false, 15).unwrap();
        let few = Layout::new(100, &small, &Tunables::default(), pages, false).unwrap();
        assert_eq!(few.stride.div_ceil(many.stride), 15);
    }
}
