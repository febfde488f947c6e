//! A memory outside the slot: a reservation of its own, the part of it that can be accessed, and the
//! view of that part.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::io;
use std::ops::Range;

use super::memory::GuestMemory;
use crate::region::layout::round_up_to_page;
use crate::sys::mmap::Reservation;

/// A memory with its address space.
#[derive(Debug)]
pub(crate) struct FarMemory {
    view: GuestMemory,
    space: Reservation,
}

impl FarMemory {
    /// Reserves address space and makes the first `len` bytes of it accessible; they are zero.
    pub(crate) fn reserve(reserved_len: usize, len: usize) -> io::Result<Self> {
        let space = Reservation::reserve(reserved_len)?;
        space.protect_read_write(0, round_up_to_page(len))?;
        // SAFETY: the bytes have just been made accessible. The reservation stands beside the view, gives
        // its address to nobody else, and takes no access back.
        let view = unsafe { GuestMemory::new(space.base(), len) };
        Ok(Self { view, space })
    }

    /// The view of its bytes.
    pub(crate) fn view(&self) -> &GuestMemory {
        &self.view
    }

    /// Its address space.
    pub(crate) fn range(&self) -> Range<usize> {
        self.space.addr()..self.space.addr() + self.space.len()
    }

    /// Makes the first `len` bytes zero and the others inaccessible.
    pub(crate) fn reset(&self, len: usize) -> io::Result<()> {
        debug_assert!(!self.view.is_borrowed() && len <= self.view.len());
        let (old, new) = (round_up_to_page(self.view.len()), round_up_to_page(len));
        // SAFETY: the first bytes stay accessible.
        unsafe { self.view.set_len(len) };
        if old > 0 {
            self.space.decommit(0, old)?;
        }
        if old > new {
            self.space.protect_none(new, old - new)?;
        }
        Ok(())
    }

    /// Makes more of it accessible.
    pub(crate) fn grow(&self, len: usize) -> io::Result<()> {
        debug_assert!(!self.view.is_borrowed() && len >= self.view.len());
        let old = round_up_to_page(self.view.len());
        let new = round_up_to_page(len);
        self.space.protect_read_write(old, new - old)?;
        // SAFETY: `len` bytes are accessible now.
        unsafe { self.view.set_len(len) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_memory_grows_in_place_up_to_its_reservation() {
        let memory = FarMemory::reserve(1 << 20, 0).unwrap();
        let base = memory.view().addr();
        assert_eq!(memory.view().borrow().unwrap().bytes(), []);
        memory.grow(65536).unwrap();
        memory.view().borrow_mut().unwrap().bytes_mut()[65535] = 7;
        memory.grow(3 * 65536).unwrap();
        assert_eq!(memory.view().addr(), base);
        let bytes = memory.view().borrow().unwrap();
        assert_eq!((bytes.bytes()[65535], bytes.bytes()[3 * 65536 - 1]), (7, 0));
        drop(bytes);
        assert!(memory.grow(2 << 20).is_err());
        memory.view().borrow_mut().unwrap().bytes_mut()[0] = 9;
        memory.reset(65536).unwrap();
        assert_eq!(memory.view().borrow().unwrap().bytes(), [0; 65536]);
        memory.grow(3 * 65536).unwrap();
        assert_eq!(memory.view().borrow().unwrap().bytes(), [0; 3 * 65536]);
        assert_eq!(memory.view().len(), 3 * 65536);
    }
}
