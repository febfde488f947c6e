//! Slices of time of this thread: whose guest is to be suspended when.
//!
//! One record a slice, on the host's stack, linked to the slice around it, as activations are. The signal handler
//! reads them when the thread's timer fires.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::Cell;
use core::ptr;
use std::io;

use super::limits::LimitsCell;
use crate::sys::interrupt;

struct Slice {
    limits: *const LimitsCell,
    end: u64,
    outer: *const Slice,
}

thread_local! {
    /// The innermost slice. `const` and without destructor, as `Activation`'s.
    static CURRENT: Cell<*const Slice> = const { Cell::new(ptr::null()) };
}

/// When the first of a slice and those around it ends; 0 if there is none.
fn first_end(mut slice: *const Slice) -> u64 {
    let mut first = 0;
    // SAFETY: published by a call of `scope` on this thread that has not returned (I-3).
    while let Some(record) = unsafe { slice.as_ref() } {
        if first == 0 || record.end < first {
            first = record.end;
        }
        slice = record.outer;
    }
    first
}

/// Has the guest of `limits` suspended if a call takes until `end`.
///
/// # Errors
///
/// If there is no timer to be had; then nothing was called.
pub(crate) fn scope<R>(limits: &LimitsCell, end: u64, call: impl FnOnce() -> R) -> io::Result<R> {
    /// Takes the record back also if the call unwinds.
    struct Restore<'a>(*const Slice, &'a LimitsCell);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            CURRENT.set(self.0);
            // A signal that is on its way arrives before this returns. Where the timer can't be set the handler
            // finds no slice that has ended.
            let _ = interrupt::alarm(first_end(self.0));
            // It may have come when the guest had just been left.
            self.1.words().forget_preemption();
        }
    }
    let slice = Slice {
        limits,
        end,
        outer: CURRENT.get(),
    };
    CURRENT.set(&raw const slice);
    let _restore = Restore(slice.outer, limits);
    interrupt::alarm(first_end(&raw const slice))?;
    Ok(call())
}

/// Wants the guests suspended whose slices have ended. Called in the signal handler.
pub(crate) fn expire() {
    let mut slice = CURRENT.get();
    if slice.is_null() {
        return;
    }
    let now = interrupt::now();
    // SAFETY: published by a call of `scope` on this thread that has not returned (I-3).
    while let Some(record) = unsafe { slice.as_ref() } {
        if record.end <= now {
            // SAFETY: borrowed by that call.
            unsafe { &*record.limits }.words().preempt_here();
        }
        slice = record.outer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_of_nested_slices_counts() {
        let limits = LimitsCell::new();
        let slice = |end, outer: *const Slice| Slice {
            limits: &raw const limits,
            end,
            outer,
        };
        let outer = slice(5, ptr::null());
        assert_eq!(first_end(&raw const outer), 5);
        let sooner = slice(3, &raw const outer);
        assert_eq!(first_end(&raw const sooner), 3);
        let later = slice(9, &raw const outer);
        assert_eq!(first_end(&raw const later), 5);
        assert_eq!(first_end(ptr::null()), 0);
    }
}
