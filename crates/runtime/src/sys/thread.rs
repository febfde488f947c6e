//! The thread that runs: which it is, and how much of its stack is left.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use core::cell::Cell;
use core::mem::MaybeUninit;
use core::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::local::LocalCell;

thread_local! {
    /// The number of this thread, 0 until it is asked for.
    static ID: Cell<u64> = const { Cell::new(0) };
}

/// A number of this thread that no other thread of the process has or will have.
#[inline]
pub(crate) fn id() -> u64 {
    match ID.load() {
        0 => number(),
        id => id,
    }
}

#[cold]
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    ID.set(id);
    id
}

thread_local! {
    /// The kernel's number of this thread, 0 until it is asked for.
    static OS_ID: Cell<u32> = const { Cell::new(0) };
}

/// The kernel's number of this thread. Can be called in a signal handler.
#[inline]
pub(crate) fn os_id() -> u32 {
    match OS_ID.load() {
        0 => ask_os_id(),
        id => id,
    }
}

#[cold]
fn ask_os_id() -> u32 {
    // SAFETY: no arguments.
    let id = unsafe { libc::gettid() }.cast_unsigned();
    OS_ID.set(id);
    id
}

/// Forks between the first process that watched for them and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// How many forks there were between the first process that watched for them and this one. No two of a process, its
/// parent and their parents have the same number.
#[inline]
pub(crate) fn forks() -> u64 {
    // The child of a fork has one thread, which has changed it before it does anything else.
    FORKS.load(Ordering::Relaxed)
}

/// Has the child of a fork ask for its number anew, and know that it is one.
pub(crate) fn watch_forks() -> std::io::Result<()> {
    unsafe extern "C" fn in_child() {
        OS_ID.set(0);
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    static WATCHED: std::sync::OnceLock<i32> = std::sync::OnceLock::new();
    // SAFETY: the function touches a thread-local word of the one thread that the child has, and an atomic one.
    match WATCHED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) }) {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(*error)),
    }
}

thread_local! {
    /// Bounds of this thread's stack once known; empty if they can't be known.
    static BOUNDS: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// Bytes between a stack pointer and the end of this thread's stack; `None` if the bounds can't be known
/// or the pointer is not in them, as on a stack that a library made.
#[inline]
pub(crate) fn stack_left(sp: usize) -> Option<usize> {
    let (low, high) = match BOUNDS.load() {
        Some(bounds) => bounds,
        None => remember(),
    };
    (low..high).contains(&sp).then(|| sp - low)
}

/// While it lives, this thread runs on another stack than its own.
pub(crate) struct OtherStack(Option<(usize, usize)>);

impl OtherStack {
    /// Says that the thread is about to run on a stack with these usable bytes.
    pub(crate) fn enter(usable: &Range<usize>) -> Self {
        Self(BOUNDS.swap(Some((usable.start, usable.end))))
    }
}

impl Drop for OtherStack {
    fn drop(&mut self) {
        BOUNDS.swap(self.0);
    }
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
        let other = OtherStack::enter(&(4096..8192));
        assert_eq!(stack_left((&raw const here).addr()), None);
        assert_eq!(stack_left(5000), Some(904));
        drop(other);
        assert_eq!(stack_left((&raw const here).addr()), Some(left));
    }

    #[test]
    fn threads_have_different_numbers() {
        let mine = id();
        assert_eq!(id(), mine);
        assert_ne!(std::thread::spawn(id).join().unwrap(), mine);
    }
}
