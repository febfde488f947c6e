//! Room R3: the stacks that guests run on.
//!
//! ```text
//!  low                                                                            high
//!  | guard, >= 64 KiB | usable: limit() .. top(), grows down      | guard, >= 64 KiB |
//!  | no access        | read and write, paid for when touched     | no access        |
//! ```
//!
//! Guest code has no stack checks. Every frame larger than the low guard touches each guard's
//! length on its way down, so the first access beyond the limit lands in the low guard and becomes
//! a trap (I-10). The high guard stops what runs upwards, and both keep a stack away from whatever
//! the kernel maps next to it. No frame of the host ever stands here, so a stack may be reused or
//! unmapped with whatever guest frames are still on it.
//!
//! What an earlier guest left in a stack stays there. A guest cannot read it: compiled code reads
//! only what it has written.
//!
//! What is not here: which guest is on which stack, and the switch (`arch`). There is no unsafe
//! code in this room; a stack is address space, and the proof that it can be run on lies with those
//! who do.

pub(crate) mod cache;
pub(crate) mod size;

use std::io;
use std::ops::Range;

use crate::sys::mmap::Reservation;
use crate::sys::page::PageLen;

/// Bytes of the guards of stacks from the cache: the default of `Tunables::stack_guard_len`,
/// which no compiled module may exceed.
pub(crate) const GUARD_LEN: usize = 64 << 10;

/// Bytes below the top that keep their memory when a stack is trimmed.
const KEPT_LEN: usize = 256 << 10;

/// The addresses of a guest stack. The low guard lies right below the usable bytes.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Usable bytes.
    pub(crate) usable: Range<usize>,
    /// The guard below them: a fault in here is an overflow.
    pub(crate) guard: Range<usize>,
}

/// A guest stack. Dropping it unmaps it.
#[derive(Debug)]
pub(crate) struct Stack {
    memory: Reservation,
    bounds: Bounds,
}

impl Stack {
    /// Maps a stack with at least `usable_len` usable bytes between guards of at least `guard_len` each,
    /// all rounded up to pages.
    pub(crate) fn new(usable_len: usize, guard_len: usize) -> io::Result<Self> {
        let layout = || {
            let usable_len = PageLen::round_up(usable_len.max(1))?.get();
            let guard_len = PageLen::round_up(guard_len.max(1))?.get();
            let len = guard_len.checked_mul(2)?.checked_add(usable_len)?;
            Some((guard_len, usable_len, len))
        };
        let (guard_len, usable_len, len) = layout().ok_or_else(|| {
            let message = format!(
                "a stack of {usable_len} bytes and a guard of {guard_len} exceed the address space"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let memory = Reservation::reserve(len)?;
        memory.protect_read_write(guard_len, usable_len)?;
        let (start, limit) = (memory.addr(), memory.addr() + guard_len);
        let bounds = Bounds {
            usable: limit..limit + usable_len,
            guard: start..limit,
        };
        Ok(Self { memory, bounds })
    }

    /// Its addresses.
    #[inline]
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The address just above the highest usable byte: the stack pointer of an empty stack. On a
    /// page boundary.
    #[inline]
    pub(crate) fn top(&self) -> usize {
        self.bounds.usable.end
    }

    /// The address of the lowest usable byte.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.bounds.usable.start
    }

    /// Bytes between limit and top. Guards are not counted.
    #[inline]
    pub(crate) fn usable_len(&self) -> usize {
        self.bounds.usable.len()
    }

    /// Gives back the memory of all but the highest 256 KiB. What was on the stack is lost.
    fn trim(&self) -> io::Result<()> {
        match self.usable_len().checked_sub(KEPT_LEN) {
            Some(len) => self.memory.decommit(self.bounds.guard.len(), len),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
