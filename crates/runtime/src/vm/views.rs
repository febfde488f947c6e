//! The views of a slot's pages that a record holds: its context and its memory 0.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use super::context::Context;
use super::memory::GuestMemory;
use crate::region::slot::Slot;

/// The context of the instance in a slot.
pub(crate) fn context(slot: &Slot) -> Context {
    // SAFETY: the slot's part of the region's second mapping is writable while the region lives, and the
    // slot keeps the region (I-1, I-5). A record keeps its slot beside the view. `vmctx` is a
    // multiple of 64 at least, and so is the end of the context in the second mapping.
    unsafe { Context::new(slot.context_top(), slot.context_len()) }
}

/// Memory 0 of the instance in a slot, `len` bytes of which the slot has made accessible.
pub(crate) fn memory(slot: &Slot, len: usize) -> GuestMemory {
    // SAFETY: the slot has mapped the module's initial memory at `vmctx` (I-6) and keeps it so until it
    // is dropped; a record keeps its slot beside the view.
    unsafe { GuestMemory::new(slot.vmctx(), len) }
}

/// Grows memory 0 in its slot.
pub(crate) fn grow(memory: &GuestMemory, slot: &mut Slot, len: usize) -> std::io::Result<()> {
    debug_assert!(!memory.is_borrowed() && len >= memory.len());
    slot.grow_memory(len)?;
    // SAFETY: the slot has just made `len` bytes accessible.
    unsafe { memory.set_len(len) };
    Ok(())
}

/// Makes memory 0 in its slot what it was in the beginning.
pub(crate) fn reset(memory: &GuestMemory, slot: &mut Slot) -> std::io::Result<()> {
    let len = slot.initial_len();
    debug_assert!(!memory.is_borrowed() && len <= memory.len());
    // SAFETY: the first bytes stay accessible.
    unsafe { memory.set_len(len) };
    slot.clean()
}
