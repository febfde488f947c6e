//! The VM structures, generated from the table in `selvedge-artifact`, and the host's view of one
//! instance's context.
//!
//! ```text
//!   slot:   | writable | read-only to the guest | memory 0 ...
//!                                               ^ vmctx
//!   alias:  | the same pages, writable          |
//!                                               ^ Context::top
//! ```
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::ptr;

use selvedge_artifact::vmfields::{VMCONTEXT_MAGIC, vm_context_header};
use selvedge_artifact::vmoffsets::VMOffsets;
use selvedge_artifact::with_vm_structs;

use crate::sys::keys;

macro_rules! rust_type {
    (ptr) => {
        usize
    };
    (u64) => {
        u64
    };
    (i64) => {
        i64
    };
    (u32) => {
        u32
    };
}

macro_rules! structs {
    ($($(#[$sdoc:meta])* $name:ident $module:ident { $($(#[$doc:meta])* $field:ident : $ty:ident,)* })*) => {$(
        #[doc = concat!("`", stringify!($name), "`, see `selvedge_artifact::vmfields`.")]
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        #[allow(dead_code, reason = "some fields are for generated code or for parts not built yet")]
        pub(crate) struct $name {
            $(pub(crate) $field: rust_type!($ty),)*
        }

        const _: () = {
            use selvedge_artifact::vmfields::$module::OFFSETS;
            $(assert!(core::mem::offset_of!($name, $field) == OFFSETS.$field as usize);)*
            assert!(size_of::<$name>() == OFFSETS.struct_len as usize);
        };
    )*};
}

with_vm_structs!(structs);

/// One slot of an argument array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct ArraySlot {
    /// The value, or its low half.
    pub(crate) lo: u64,
    /// The high half of a vector.
    pub(crate) hi: u64,
}

const _: () = assert!(size_of::<ArraySlot>() == selvedge_artifact::types::ARRAY_SLOT_LEN as usize);

impl ArraySlot {
    /// A slot that holds a scalar.
    pub(crate) const fn new(lo: u64) -> Self {
        Self { lo, hi: 0 }
    }

    /// A slot that holds a vector.
    pub(crate) const fn of_vector(vector: u128) -> Self {
        Self {
            lo: vector as u64,
            hi: (vector >> 64) as u64,
        }
    }

    /// The vector in the slot.
    pub(crate) const fn vector(self) -> u128 {
        (self.hi as u128) << 64 | self.lo as u128
    }
}

/// Whether a context of this format ends at an address. To be asked where one that went through a plain
/// word becomes a context again: debug builds ask before they enter a guest (R-10).
///
/// # Safety
///
/// - The eight bytes below are mapped readable.
#[cfg_attr(
    not(debug_assertions),
    allow(dead_code, reason = "asked in debug builds")
)]
pub(crate) unsafe fn is_context(vmctx: usize) -> bool {
    keys::open();
    let magic = VMOffsets::header(vm_context_header::OFFSETS.magic);
    let magic = ptr::with_exposed_provenance::<u64>(vmctx.wrapping_add_signed(magic as isize));
    // SAFETY: the caller's promise.
    unsafe { magic.read_unaligned() == VMCONTEXT_MAGIC }
}

/// The host's view of one instance's context: bytes below `top`, by negative offset.
///
/// Reads and writes go through a second mapping of the pages, so they work where the guest may only
/// read. They are checked against the length; the guest does not run while the host is in here.
#[derive(Debug)]
pub(crate) struct Context {
    top: *mut u8,
    len: usize,
}

impl Context {
    /// Makes the view.
    ///
    /// # Safety
    ///
    /// - The `len` bytes below `top` are mapped readable and writable for as long as the view lives.
    /// - `top` is aligned to 16 bytes.
    /// - They are accessed by nothing but this view and the guest whose context they are.
    pub(crate) unsafe fn new(top: *mut u8, len: usize) -> Self {
        debug_assert!(top.addr().is_multiple_of(16));
        Self { top, len }
    }

    /// The address of `size` bytes at an offset below the top.
    fn at(&self, offset: i32, size: usize) -> *mut u8 {
        let below = offset.unsigned_abs() as usize;
        assert!(
            offset < 0 && below <= self.len && size <= below,
            "context offset {offset} lies outside the {} bytes of the context",
            self.len
        );
        self.top.wrapping_sub(below)
    }

    /// Reads a word.
    pub(crate) fn read(&self, offset: i32) -> u64 {
        let at = self.at(offset, 8).cast::<u64>();
        // SAFETY: `at` checked that the bytes lie inside the view, which `new` was promised is mapped.
        unsafe { at.read_unaligned() }
    }

    /// Writes a word.
    pub(crate) fn write(&self, offset: i32, value: u64) {
        let at = self.at(offset, 8).cast::<u64>();
        // SAFETY: as for `read`.
        unsafe { at.write_unaligned(value) }
    }

    /// Reads the cell of a global. Of a scalar only the bytes of its type mean anything.
    pub(crate) fn read_cell(&self, offset: i32) -> ArraySlot {
        ArraySlot {
            lo: self.read(offset),
            hi: self.read(offset + 8),
        }
    }

    /// Writes the cell of a global.
    pub(crate) fn write_cell(&self, offset: i32, cell: ArraySlot) {
        self.write(offset, cell.lo);
        self.write(offset + 8, cell.hi);
    }

    /// Copies bytes out, upwards from an offset.
    pub(crate) fn read_bytes(&self, offset: i32, len: usize) -> Box<[u8]> {
        if len == 0 {
            return Box::default();
        }
        let at = self.at(offset, len);
        let mut bytes = vec![0; len];
        // SAFETY: as for `read`; the vector is new.
        unsafe { at.copy_to_nonoverlapping(bytes.as_mut_ptr(), len) };
        bytes.into_boxed_slice()
    }

    /// Writes bytes, upwards from an offset.
    pub(crate) fn write_bytes(&self, offset: i32, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let at = self.at(offset, bytes.len());
        // SAFETY: as for `read`; `bytes` can't overlap, since no slice of the context is ever made.
        unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Makes bytes zero, upwards from an offset.
    pub(crate) fn zero(&self, offset: i32, len: usize) {
        if len == 0 {
            return;
        }
        let at = self.at(offset, len);
        // SAFETY: as for `read`.
        unsafe { at.write_bytes(0, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_told_by_the_word_at_its_end() {
        let mut words = Box::new([0u64; 4]);
        let end = words.as_mut_ptr_range().end.expose_provenance();
        // SAFETY: the words below the address are there.
        assert!(!unsafe { is_context(end) });
        words[3] = VMCONTEXT_MAGIC;
        // SAFETY: as above.
        assert!(unsafe { is_context(end) });
        // SAFETY: as above.
        assert!(!unsafe { is_context(end - 8) });
    }

    #[test]
    fn offsets_outside_are_refused() {
        let mut pages = vec![0u128; 16];
        let top = pages.as_mut_ptr_range().end.cast::<u8>();
        // SAFETY: the vector's bytes are used through this view only, and it outlives the view.
        let context = unsafe { Context::new(top, 256) };
        context.write(-8, 7);
        context.write(-256, 9);
        assert_eq!((context.read(-8), context.read(-256)), (7, 9));
        context.write_bytes(-24, &[1; 16]);
        context.zero(-16, 8);
        assert_eq!(
            (context.read(-24), context.read(-16)),
            (0x0101_0101_0101_0101, 0)
        );
        let cell = ArraySlot::of_vector(u128::MAX / 3);
        context.write_cell(-32, cell);
        assert_eq!(context.read_cell(-32), cell);
        assert_eq!(cell.vector(), u128::MAX / 3);
        for offset in [0, 8, -4, -257, i32::MIN] {
            let outside =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| context.read(offset)));
            assert!(outside.is_err(), "{offset}");
        }
    }
}
