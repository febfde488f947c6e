//! Room R3: the stacks that guests run on, and host functions that suspend theirs (`vm/fiber.rs`).
//!
//! ```text
//!  low                                                                                   high
//!  | guard, >= 64 KiB | reserve, 256 KiB | usable: limit() .. top(), grows down | guard, >= 64 KiB |
//!  | no access        | no access        | read and write, when touched         | no access        |
//! ```
//!
//! Guest code has no stack checks. Every frame larger than the low guard touches each guard's
//! length on its way down, so the first access beyond the limit lands in the low guard and becomes
//! a trap (I-10). The high guard stops what runs upwards, and both keep a stack away from whatever
//! the kernel maps next to it. No frame of the host ever stands here, so a stack may be reused or
//! unmapped with whatever guest frames are still on it.
//!
//! The reserve is part of the low guard as far as guests are concerned. It is there for signal handlers
//! of others that do without `SA_ONSTACK` and so run on the guest's stack (D-14): one that meets the
//! guest's last bytes is lent a piece of the reserve until the stack is released. The guest behind that
//! handler then goes on into the piece, where the next handler may meet its end: hence several pieces.
//!
//! What an earlier guest left in a stack stays there. A guest cannot read it: compiled code reads
//! only what it has written.
//!
//! Whether guests go deep is learnt without asking the system, from marks right below the bytes that are kept: a guest that
//! has frames further down has written over some of them (I-10).
//!
//! What is not here: which guest is on which stack, and the switch (`arch`). A stack is address space, and the proof that
//! it can be run on lies with those who do.
#![allow(unsafe_code, reason = "room R3, SAFETY.md")]

pub(crate) mod cache;
pub(crate) mod size;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::mmap::Reservation;
use crate::sys::page::PageLen;

/// Bytes of the guards of stacks from the cache: the default of `Tunables::stack_guard_len`,
/// which no compiled module may exceed.
pub(crate) const GUARD_LEN: usize = 64 << 10;

/// Bytes that a signal handler on a guest's stack is lent at a time: the handler's own frames, and those of
/// the signals that arrived with its own, some 4 KiB each with the vector state of AVX-512.
const LOAN_LEN: usize = 32 << 10;

/// Bytes that can be lent before a stack is released.
const RESERVE_LEN: usize = 8 * LOAN_LEN;

/// Bytes below the top that keep their memory when a stack is trimmed.
const KEPT_LEN: usize = 256 << 10;

/// Bytes below those that are marked. A guest that went deeper has written there: from one return address of its frames, or
/// place that a long frame has touched on its way down, to the next it is no more than a guard and what a frame saves.
const MARKED_LEN: usize = GUARD_LEN + (4 << 10);

/// The mark. Neither an address nor zero, which long frames touch their pages with.
const MARK: u64 = 0x5e1b_ed6e_0f57_ac4b;

/// What is known of how deep guests went on a stack.
#[derive(Clone, Copy, Debug)]
enum Depth {
    /// Nothing: there are no marks.
    Unknown,
    /// Not below the marks since what is there was given back.
    Shallow,
    /// Below the marks.
    Deep,
}

/// The addresses of a guest stack. The low guard lies right below the usable bytes.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Usable bytes.
    pub(crate) usable: Range<usize>,
    /// The guard below them: a fault in here is an overflow.
    pub(crate) guard: Range<usize>,
    /// The part of the guard that signal handlers may be lent; the rest is as long as any guard.
    pub(crate) reserve: Range<usize>,
    /// Bytes of the reserve, from its high end, that are accessible. Set by the signal handler of the
    /// thread that has the stack.
    lent: AtomicUsize,
}

impl Bounds {
    /// The next piece of the reserve to lend, which reaches down to `addr` if one is given. `None` if
    /// the reserve does not hold it.
    pub(crate) fn next_loan(&self, addr: Option<usize>) -> Option<Range<usize>> {
        let end = self.reserve.end - self.lent.load(Ordering::Relaxed);
        let below = self.reserve.end - addr.unwrap_or(end).min(end);
        let len = (below / LOAN_LEN + 1) * LOAN_LEN;
        (len <= self.reserve.len()).then(|| self.reserve.end - len..end)
    }

    /// Notes that a loan has been made accessible.
    pub(crate) fn set_lent(&self, loan: &Range<usize>) {
        self.lent
            .store(self.reserve.end - loan.start, Ordering::Relaxed);
    }

    /// Whether some of the reserve is lent.
    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Relaxed) != 0
    }
}

/// A guest stack. Dropping it unmaps it.
#[derive(Debug)]
pub(crate) struct Stack {
    memory: Reservation,
    bounds: Bounds,
    depth: Depth,
}

impl Stack {
    /// Maps a stack with at least `usable_len` usable bytes between guards of at least `guard_len` each,
    /// all rounded up to pages.
    pub(crate) fn new(usable_len: usize, guard_len: usize) -> io::Result<Self> {
        let layout = || {
            let usable_len = PageLen::round_up(usable_len.max(1))?.get();
            let guard_len = PageLen::round_up(guard_len.max(1))?.get();
            let low_guard_len = guard_len.checked_add(RESERVE_LEN)?;
            let len = low_guard_len
                .checked_add(usable_len)?
                .checked_add(guard_len)?;
            Some((low_guard_len, usable_len, len))
        };
        let (low_guard_len, usable_len, len) = layout().ok_or_else(|| {
            let message = format!(
                "a stack of {usable_len} bytes and a guard of {guard_len} exceed the address space"
            );
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let memory = Reservation::reserve(len)?;
        memory.protect_read_write(low_guard_len, usable_len)?;
        let (start, limit) = (memory.addr(), memory.addr() + low_guard_len);
        let bounds = Bounds {
            usable: limit..limit + usable_len,
            guard: start..limit,
            reserve: limit - RESERVE_LEN..limit,
            lent: AtomicUsize::new(0),
        };
        Ok(Self {
            memory,
            bounds,
            depth: Depth::Unknown,
        })
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

    /// Takes the reserve back from a signal handler that it was lent to.
    #[cold]
    fn close_reserve(&self) -> io::Result<()> {
        let offset = self.bounds.guard.len() - RESERVE_LEN;
        self.memory.decommit(offset, RESERVE_LEN)?;
        self.memory.protect_none(offset, RESERVE_LEN)?;
        self.bounds.lent.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Looks whether guests went deep since it was looked at last. What lies deep is given back if they did not, and did
    /// before or may have. What was on the stack is lost.
    #[cold]
    fn tend(&mut self) -> io::Result<()> {
        let below = self.usable_len().saturating_sub(KEPT_LEN);
        let Some(deep) = below.checked_sub(MARKED_LEN).filter(|&len| len > 0) else {
            return Ok(());
        };
        let guard_len = self.bounds.guard.len();
        // SAFETY: usable bytes can be read and written, and nothing runs on a stack that can be had by `&mut`.
        let went_deep = unsafe { self.memory.mark(guard_len + deep, MARKED_LEN, MARK) }?;
        self.depth = match (self.depth, went_deep) {
            (Depth::Shallow | Depth::Deep, true) => Depth::Deep,
            (Depth::Shallow, false) => Depth::Shallow,
            (Depth::Deep, false) | (Depth::Unknown, _) => {
                self.memory.decommit(guard_len, deep)?;
                Depth::Shallow
            }
        };
        Ok(())
    }

    /// Gives back the memory of all but the highest 256 KiB. What was on the stack is lost.
    fn trim(&mut self) -> io::Result<()> {
        self.depth = Depth::Unknown;
        match self.usable_len().checked_sub(KEPT_LEN) {
            Some(len) => self.memory.decommit(self.bounds.guard.len(), len),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
