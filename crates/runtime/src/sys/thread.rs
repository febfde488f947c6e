//! The stack of the thread that runs: how much of it is left.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ops::Range;

thread_local! {
    /// Bounds of this thread's stack once known; empty if they can't be known.
    static BOUNDS: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Bytes between a stack pointer and the end of this thread's stack; `None` if the bounds can't be known
/// or the pointer is not in them, as on a stack that a library made.
#[inline]
pub(crate) fn stack_left(sp: usize) -> Option<usize> {
    let (low, high) = match BOUNDS.get() {
        Some(bounds) => bounds,
        None => remember(),
    };
    (low..high).contains(&sp).then(|| sp - low)
}

#[cold]
fn remember() -> (usize, usize) {
    let bounds = query().map_or((0, 0), |range| (range.start, range.end));
    BOUNDS.set(Some(bounds));
    bounds
}

/// Asks the C library (`pthread_getattr_np(3)`). For the main thread the low end follows the resource
/// limit, so it may not be mapped yet; that is what the kernel will let it grow to.
fn query() -> Option<Range<usize>> {
    let mut attr = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: initialises `attr` if it succeeds.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attr.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut addr, mut len) = (core::ptr::null_mut(), 0);
    // SAFETY: `attr` was initialised above, and is destroyed once.
    let found = unsafe {
        let found = libc::pthread_attr_getstack(attr.as_ptr(), &raw mut addr, &raw mut len);
        libc::pthread_attr_destroy(attr.as_mut_ptr());
        found
    };
    (found == 0).then(|| addr.addr()..addr.addr().saturating_add(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_variable_lies_in_the_stack() {
        let here = 0u8;
        let left = stack_left((&raw const here).addr()).unwrap();
        assert!(left > 4096);
        assert_eq!(stack_left(8), None);
    }
}
