//! Pages of memory 0 while its slot is made clean: what the guest left in them, replaced by what a new
//! instance finds there.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::ops::Range;

use crate::arch;
use crate::region::slot::Slot;
use crate::sys::page::page_len;

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

    /// Writes what belongs there to those pages that hold something else. Others are only read, so that they
    /// need no memory of their own.
    pub(crate) fn restore_changed(&mut self) {
        for start in (0..self.len).step_by(page_len()) {
            let (target, image) = self.part(start..start + page_len());
            let (imaged, zero) = target.split_at_mut(image.len());
            // Nothing is not compared: the C library would load from behind the image with an empty mask, which takes
            // the processor 0.1 us if nothing is mapped there.
            if !image.is_empty() && imaged != image {
                imaged.copy_from_slice(image);
            }
            if !arch::is_zero(zero) {
                zero.fill(0);
            }
        }
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

#[cfg(test)]
mod tests;
