//! The bytes of a memory as the host may touch them.
//!
//! Rules: the host gets a slice only while no guest of the store runs; a slice is borrowed by a
//! counter, so that a host function that holds one can't have the memory grown, a second writable
//! slice made, or the guest entered (I-8). Nothing else in the runtime makes slices of guest memory.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::Cell;

use crate::sys::keys;

/// A memory of an instance, where it lies.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    base: *mut u8,
    len: Cell<usize>,
    /// Readers, or -1 for a writer.
    borrows: Cell<isize>,
}

impl GuestMemory {
    /// Makes the view of a memory.
    ///
    /// # Safety
    ///
    /// - `len` bytes at `base` are mapped readable and writable, for as long as the view lives.
    /// - Beside the view only the guest that owns the memory, and guests linked to it, access them.
    pub(crate) unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self {
            base,
            len: Cell::new(len),
            borrows: Cell::new(0),
        }
    }

    /// Address of byte 0.
    pub(crate) fn addr(&self) -> usize {
        self.base.expose_provenance()
    }

    /// Accessible bytes.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Records that the memory has grown.
    ///
    /// # Safety
    ///
    /// - `len` bytes at the base are mapped readable and writable now.
    pub(crate) unsafe fn set_len(&self, len: usize) {
        self.len.set(len);
    }

    /// Whether a slice is out.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrows.get() != 0
    }

    /// Borrows the bytes; `None` while they are borrowed mutably.
    pub(crate) fn borrow(&self) -> Option<Borrow<'_>> {
        keys::open();
        let readers = self.borrows.get();
        let next = readers.checked_add(1).filter(|_| readers >= 0)?;
        self.borrows.set(next);
        Some(Borrow { memory: self })
    }

    /// Borrows the bytes to write them; `None` while they are borrowed.
    pub(crate) fn borrow_mut(&self) -> Option<BorrowMut<'_>> {
        if self.is_borrowed() {
            return None;
        }
        keys::open();
        self.borrows.set(-1);
        Some(BorrowMut { memory: self })
    }
}

/// A shared borrow.
#[derive(Debug)]
pub(crate) struct Borrow<'a> {
    memory: &'a GuestMemory,
}

impl Borrow<'_> {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let memory = self.memory;
        // SAFETY: mapped by the contract of `new`; the counter keeps writers and guests out while this
        // borrow lives, and the length from changing (I-8).
        unsafe { core::slice::from_raw_parts(memory.base, memory.len.get()) }
    }

    /// The bytes as numbers, as many as are whole.
    pub(crate) fn words(&self) -> &[u32] {
        words(self.bytes())
    }
}

impl Drop for Borrow<'_> {
    fn drop(&mut self) {
        self.memory.borrows.update(|n| n - 1);
    }
}

/// An exclusive borrow.
#[derive(Debug)]
pub(crate) struct BorrowMut<'a> {
    memory: &'a GuestMemory,
}

impl BorrowMut<'_> {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let memory = self.memory;
        // SAFETY: as for `bytes_mut`.
        unsafe { core::slice::from_raw_parts(memory.base, memory.len.get()) }
    }

    /// The bytes, writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = self.memory;
        // SAFETY: mapped by the contract of `new`; the counter says that this is the only borrow, and
        // keeps guests out while it lives (I-8).
        unsafe { core::slice::from_raw_parts_mut(memory.base, memory.len.get()) }
    }

    /// The bytes as numbers, as many as are whole.
    pub(crate) fn words(&self) -> &[u32] {
        words(self.bytes())
    }

    /// The bytes as numbers, writable.
    pub(crate) fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: any bytes are a number, and any number is bytes.
        let (before, words, _) = unsafe { self.bytes_mut().align_to_mut() };
        debug_assert!(before.is_empty(), "memories are aligned to more");
        words
    }
}

/// Bytes of a memory as numbers.
fn words(bytes: &[u8]) -> &[u32] {
    // SAFETY: any bytes are a number.
    let (before, words, _) = unsafe { bytes.align_to() };
    debug_assert!(before.is_empty(), "memories are aligned to more");
    words
}

impl Drop for BorrowMut<'_> {
    fn drop(&mut self) {
        self.memory.borrows.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borrows_exclude_each_other() {
        let mut bytes = vec![1u8, 2, 3];
        // SAFETY: the vector outlives the view and is not used beside it.
        let memory = unsafe { GuestMemory::new(bytes.as_mut_ptr(), 3) };
        let a = memory.borrow().unwrap();
        let b = memory.borrow().unwrap();
        assert_eq!(a.bytes(), b.bytes());
        assert!(memory.borrow_mut().is_none());
        drop((a, b));
        let mut w = memory.borrow_mut().unwrap();
        w.bytes_mut()[0] = 9;
        assert!(memory.borrow().is_none());
        assert!(memory.borrow_mut().is_none());
        drop(w);
        assert_eq!(memory.borrow().unwrap().bytes()[0], 9);
    }
}
