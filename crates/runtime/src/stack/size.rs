//! How long guest stacks are where nobody says otherwise: the default of the process, and what one
//! thread asks for while a closure runs.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys::local::LocalCell;

/// Least bytes of a guest stack: a guest that calls the host once needs a few frames.
pub(crate) const MIN_STACK_SIZE: usize = 16 << 10;

/// Most bytes that [`set_stack_size`] sets: 100 MiB. A region's own limits may ask for more.
pub const MAX_STACK_SIZE: usize = 100 << 20;

/// Bytes of a guest stack where neither limits nor [`set_stack_size`] say otherwise. Read and set
/// without order: a change is seen by limits that are made later, and orders nothing else.
static DEFAULT_STACK_SIZE: AtomicUsize = AtomicUsize::new(1 << 20);

thread_local! {
    /// The length that this thread asks for, 0 for that of the limits. `const` and without a
    /// destructor: there for as long as the thread is.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

/// Sets the process's default length of guest stacks, in bytes: what
/// [`Limits::default`](crate::Limits) says from now on. Clamped to 16 KiB and [`MAX_STACK_SIZE`].
/// Regions that exist keep the length that they were made with.
pub fn set_stack_size(size: usize) {
    DEFAULT_STACK_SIZE.store(clamp(size), Ordering::Relaxed);
}

/// The process's default length of guest stacks, in bytes.
pub fn get_stack_size() -> usize {
    DEFAULT_STACK_SIZE.load(Ordering::Relaxed)
}

fn clamp(size: usize) -> usize {
    size.clamp(MIN_STACK_SIZE, MAX_STACK_SIZE)
}

/// What guests of one thread run with while a closure runs, as `catch_traps` takes it.
///
/// `None` leaves a value to the limits of the region.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct VMConfig {
    /// Bytes of the guest's stack, clamped to 16 KiB and [`MAX_STACK_SIZE`] and rounded up to a page.
    pub wasm_stack_size: Option<usize>,
}

impl VMConfig {
    /// Nothing asked for.
    pub const fn new() -> Self {
        Self {
            wasm_stack_size: None,
        }
    }

    /// Asks for this length of stack, in bytes.
    #[must_use]
    pub const fn with_stack_size(mut self, size: usize) -> Self {
        self.wasm_stack_size = Some(size);
        self
    }

    /// Has this thread ask for the configured length while a closure runs.
    pub(crate) fn scope<R>(&self, run: impl FnOnce() -> R) -> R {
        /// Puts the outer length back, also if the closure unwinds.
        struct Restore(usize);
        impl Drop for Restore {
            fn drop(&mut self) {
                ASKED.set(self.0);
            }
        }
        let outer = ASKED.get();
        let _restore = Restore(outer);
        ASKED.set(self.wasm_stack_size.map_or(outer, clamp));
        run()
    }
}

/// The length of a stack that is to be made now, where the limits say `limit`.
#[inline]
pub(super) fn wanted(limit: usize) -> usize {
    match ASKED.load() {
        0 => limit,
        asked => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_nest_and_end() {
        let config = VMConfig::new().with_stack_size(64 << 10);
        assert_eq!(wanted(7), 7);
        config.scope(|| {
            assert_eq!(wanted(7), 64 << 10);
            VMConfig::new().scope(|| assert_eq!(wanted(7), 64 << 10, "nothing asked for"));
            VMConfig::new()
                .with_stack_size(0)
                .scope(|| assert_eq!(wanted(7), MIN_STACK_SIZE));
            VMConfig::new()
                .with_stack_size(usize::MAX)
                .scope(|| assert_eq!(wanted(7), MAX_STACK_SIZE));
            assert_eq!(wanted(7), 64 << 10);
        });
        let unwound =
            std::panic::catch_unwind(|| config.scope(|| std::panic::resume_unwind(Box::new(1))));
        assert!(unwound.is_err());
        assert_eq!(wanted(7), 7);
    }
}
