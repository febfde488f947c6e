//! The stack that signals are taken on, one per thread.
//!
//! ```text
//!  low                                              high
//!  | guard page, no access | 256 KiB, read and write |      frames of handlers grow down from here
//! ```
//!
//! A guest that overflows its stack has no room left for a signal frame, so the frame must go
//! elsewhere. With AVX-512 and AMX it takes 12 KiB before the handler has run one instruction, and
//! handlers that were there before ours may be hungry too. Rust's own threads come with an
//! alternate stack of 8 KiB or so, which is why most threads get one from here.
//!
//! What is not promised: on a thread that is ending, Rust takes the alternate stack away before
//! destructors of thread-locals run. A guest that is entered from such a destructor still traps
//! properly, but overflowing its stack there ends the process.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr;

use super::local::LocalCell;
use super::mmap::Reservation;
use super::page::{PageLen, page_len};

/// An alternate stack that someone else installed is good enough from this length on.
const KEPT_LEN: usize = 64 << 10;

/// Bytes of a stack of ours.
const OWN_LEN: usize = 256 << 10;

thread_local! {
    /// Whether this thread has been seen with a good stack. Needs no destructor, hence costs one
    /// load.
    static READY: Cell<bool> = const { Cell::new(false) };

    /// The stack that we gave to this thread, if we did.
    static OWN: RefCell<Option<SignalStack>> = const { RefCell::new(None) };
}

/// Sees to it that this thread takes signals on a stack of 64 KiB or more. Must not be called from
/// a signal handler.
///
/// The first call on a thread costs a few system calls, later ones one load.
#[inline]
pub(crate) fn ensure() -> io::Result<()> {
    if READY.load() {
        return Ok(());
    }
    prepare_thread()
}

#[cold]
fn prepare_thread() -> io::Result<()> {
    let current = exchange(None)?;
    let enabled = current.ss_flags & libc::SS_DISABLE == 0;
    if !enabled || current.ss_size < KEPT_LEN {
        OWN.try_with(|own| {
            let stack = SignalStack::install()?;
            *own.borrow_mut() = Some(stack);
            Ok(())
        })
        .unwrap_or_else(|_| {
            Err(io::Error::other(
                "cannot set up a signal stack: this thread is ending and would never remove it",
            ))
        })?;
    }
    super::interrupt::unblock()?;
    READY.set(true);
    Ok(())
}

/// An alternate stack of this thread, which is removed and unmapped with this value.
struct SignalStack {
    memory: ManuallyDrop<Reservation>,
    /// The lowest byte of the stack, above the guard page.
    start: usize,
}

impl SignalStack {
    fn install() -> io::Result<Self> {
        let guard_len = page_len();
        let len = PageLen::round_up(OWN_LEN).map_or(OWN_LEN, PageLen::get);
        let memory = Reservation::reserve(guard_len + len)?;
        memory.protect_read_write(guard_len, len)?;
        // Every page is there before the first signal: some kernels (5.2, 5.3) corrupted vector
        // registers when the frame itself had to be faulted in, and a handler is a bad place to
        // learn that memory has run out.
        for offset in (guard_len..guard_len + len).step_by(guard_len) {
            let page = memory.base().wrapping_add(offset);
            // SAFETY: the page is in the part that was just made writable, and nobody else knows of
            // it yet.
            unsafe { page.write_volatile(0) };
        }
        let start = memory.base().wrapping_add(guard_len);
        exchange(Some(&libc::stack_t {
            ss_sp: start.cast(),
            ss_flags: 0,
            ss_size: len,
        }))?;
        Ok(Self {
            memory: ManuallyDrop::new(memory),
            start: start.addr(),
        })
    }

    /// Makes the kernel forget this stack, unless someone has put another in its place, which is
    /// theirs to remove.
    fn disable(&self) -> io::Result<()> {
        let current = exchange(None)?;
        if current.ss_flags & libc::SS_DISABLE != 0 || current.ss_sp.addr() != self.start {
            return Ok(());
        }
        // The length is ignored by Linux when disabling; other systems check it all the same.
        let disabled = libc::stack_t {
            ss_flags: libc::SS_DISABLE,
            ss_sp: ptr::null_mut(),
            ..current
        };
        exchange(Some(&disabled))?;
        Ok(())
    }
}

impl Drop for SignalStack {
    /// Runs on the thread that installed the stack, as the value never leaves its thread-local.
    fn drop(&mut self) {
        READY.set(false);
        // Disabled first and unmapped then, so that a signal in between is taken on the thread's
        // own stack. Should the kernel keep it (it does while a handler runs on it), the memory
        // stays mapped for good.
        if self.disable().is_ok() {
            // SAFETY: the value is being dropped, hence this is the one drop of the field, and the
            // kernel does not know the stack any more.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

/// Sets this thread's alternate stack, if one is given, and returns the one it had.
fn exchange(new: Option<&libc::stack_t>) -> io::Result<libc::stack_t> {
    let mut old = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: 0,
    };
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are null or point to a `stack_t`. A new stack is memory of a
    // `SignalStack`, which disables it before it is unmapped.
    let result = unsafe { libc::sigaltstack(new, &raw mut old) };
    if result == 0 {
        Ok(old)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
