//! A handler of the embedder's that sees this thread's signals before ours decides.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::Cell;
use core::ffi::c_int;
use core::fmt;
use core::ptr;

use crate::sys::local::LocalCell;
use crate::sys::signal::SignalInfo;

/// What an embedder's handler is: it gets the number of the signal, what the kernel says of it and the
/// interrupted thread's context, and says whether it has handled it. If so, the thread goes on with the
/// context as the handler left it: at the same instruction, which faults again if nothing was mended.
/// If not, the signal is treated as if there were no handler.
///
/// A fault of the handler itself is not shown to it again.
pub type TrapHandlerFn<'a> =
    dyn Fn(c_int, *const libc::siginfo_t, *mut libc::ucontext_t) -> bool + Send + Sync + 'a;

/// A [`TrapHandlerFn`] that somebody has vouched for.
#[derive(Clone, Copy)]
pub struct TrapHandler<'a>(&'a TrapHandlerFn<'a>);

impl<'a> TrapHandler<'a> {
    /// Vouches for a handler.
    ///
    /// # Safety
    ///
    /// The function runs in a signal handler, which may have interrupted anything, the allocator too:
    ///
    /// - It calls nothing that is not async-signal-safe: it does not allocate, lock, format or panic.
    /// - If it changes the context, the thread can go on with what it makes of it; it moves no guest's
    ///   stack pointer or pc.
    pub unsafe fn new(handler: &'a TrapHandlerFn<'a>) -> Self {
        Self(handler)
    }

    /// Shows this thread's signals to the handler while a closure runs.
    pub(crate) fn scope<R>(self, run: impl FnOnce() -> R) -> R {
        /// Puts the outer handler back, also if the closure unwinds.
        struct Restore(Published);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let handler: *const TrapHandlerFn<'a> = self.0;
        // SAFETY: the two types differ in a lifetime only, and the pointer is published for the time of
        // this call alone, which the function outlives (I-70).
        let handler = unsafe {
            core::mem::transmute::<*const TrapHandlerFn<'a>, *const TrapHandlerFn<'static>>(handler)
        };
        let _restore = Restore(CURRENT.replace(Some(handler)));
        run()
    }
}

impl fmt::Debug for TrapHandler<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrapHandler")
            .field(&ptr::from_ref(self.0).cast::<()>())
            .finish()
    }
}

type Published = Option<*const TrapHandlerFn<'static>>;

thread_local! {
    /// The handler of this thread. `const` and without destructor: reading it in a signal handler
    /// initialises nothing (D-11).
    static CURRENT: Cell<Published> = const { Cell::new(None) };
}

/// Shows a signal to this thread's handler, if there is one; whether it has handled it. Called in the
/// signal handler.
pub(crate) fn handles(info: &SignalInfo) -> bool {
    let Some(handler) = CURRENT.load() else {
        return false;
    };
    // Out of sight while it runs: a fault of its own is the host's, and would call it for ever.
    CURRENT.set(None);
    // SAFETY: published by a call of `scope` on this thread that has not returned, and which the
    // function outlives (I-70).
    let handled = unsafe { (*handler)(info.signum, info.info, info.context) };
    CURRENT.set(Some(handler));
    handled
}
