//! Pages of memory 0 while its slot is made clean: what the guest left in them, replaced by what a new
//! instance finds there.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::ops::Range;

use crate::arch;
use crate::region::slot::Slot;
use crate::sys::keys;
use crate::sys::page::page_len;

/// Pages that are gone over upwards, whatever the direction is: processors foresee that, across pages too.
const STEP_PAGES: usize = 4;

/// In which direction pages are gone over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// The initial bytes of memory 0 in a slot, and what belongs there: an image, and zeroes behind it.
#[derive(Debug)]
pub(crate) struct InitialPages<'a> {
    base: *mut u8,
    len: usize,
    image: &'a [u8],
}

impl<'a> InitialPages<'a> {
    /// The pages of a slot that nobody uses: its instance is gone, or does not run and has no view out.
    pub(crate) fn of(slot: &'a mut Slot) -> Self {
        keys::open();
        Self {
            base: slot.vmctx(),
            len: slot.initial_len(),
            image: slot.image_bytes(),
        }
    }

    /// Bytes in all: whole pages.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Address of the first byte.
    pub(crate) fn addr(&self) -> usize {
        self.base.expose_provenance()
    }

    /// Writes what belongs there to a range of offsets, whatever is there.
    pub(crate) fn restore(&mut self, range: Range<usize>) {
        let (target, image) = self.part(range);
        let (imaged, zero) = target.split_at_mut(image.len());
        imaged.copy_from_slice(image);
        zero.fill(0);
    }

    /// Writes what belongs there to those cache lines of a range that hold something else, and tells how many pages
    /// had any, more or less: those beside them may be counted, too. Others are only read, so that they need no
    /// memory of their own.
    ///
    /// Who goes over the same pages again and again changes the direction every time: what the processor's cache
    /// still has is what came last.
    pub(crate) fn restore_changed(&mut self, range: Range<usize>, direction: Direction) -> usize {
        let step = STEP_PAGES * page_len();
        let steps = range.len().div_ceil(step);
        let mut changed = 0;
        for number in 0..steps {
            let number = match direction {
                Direction::Up => number,
                Direction::Down => steps - 1 - number,
            };
            let start = range.start + number * step;
            let (target, image) = self.part(start..range.end.min(start + step));
            let len = target.len();
            let (imaged, zero) = target.split_at_mut(image.len());
            let imaged = !image.is_empty() && arch::make_equal(imaged, image);
            let zeroed = !zero.is_empty() && arch::make_zero(zero);
            if imaged | zeroed {
                changed += len / page_len();
            }
        }
        changed
    }

    /// The bytes of a range, and as much of the image as belongs to them.
    fn part(&mut self, range: Range<usize>) -> (&mut [u8], &'a [u8]) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} lies outside the {} bytes of a memory's beginning",
            self.len
        );
        let from = range.start.min(self.image.len());
        let to = range.end.min(self.image.len());
        // SAFETY: the slot has made the initial bytes of its memory readable and writable (I-6), and is
        // borrowed mutably as long as `self` lives. No guest runs, since whoever cleans a slot has its
        // instance or what is left of it; no view is out (I-8): `Instance::reset` refuses then, and an
        // instance that is gone has none.
        let target =
            unsafe { std::slice::from_raw_parts_mut(self.base.add(range.start), range.len()) };
        (target, &self.image[from..to])
    }
}

/// Makes a range of offsets of memory 0 zero in a slot that nobody uses. What is zero is only read.
pub(crate) fn clear(slot: &mut Slot, range: Range<usize>) {
    let len = slot.accessible_len();
    assert!(
        range.start <= range.end && range.end <= len,
        "{range:?} lies outside the {len} bytes of a memory"
    );
    // SAFETY: the slot has made as many bytes of its memory readable and writable; it is borrowed mutably, and as in
    // `InitialPages::part` nobody else has them.
    let bytes =
        unsafe { std::slice::from_raw_parts_mut(slot.vmctx().add(range.start), range.len()) };
    arch::make_zero(bytes);
}

/// Makes the context in a slot zero whose instance is gone.
pub(crate) fn clear_context(slot: &mut Slot) {
    let len = slot.context_len();
    // SAFETY: the bytes below the top are the slot's, readable and writable (I-1, I-5), and the record whose context
    // they were is gone: what it had is a slot that nobody uses.
    let bytes = unsafe { std::slice::from_raw_parts_mut(slot.context_top().sub(len), len) };
    bytes.fill(0);
}

#[cfg(test)]
mod tests;
