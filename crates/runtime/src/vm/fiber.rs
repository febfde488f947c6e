//! A stack of its own for a host function that suspends its guest in the middle.
//!
//! ```text
//!  host stack                       fiber stack                     guest stack
//!  | embedder: run or resume |      | Fiber's root        |         | frames of the guest   |
//!  | guest_to_host's place   |      | host function       |         | guest_to_host's frame |
//!  | Fiber::slice            | ---> | Vmctx::yield_       |         +-----------------------+
//!  +-------------------------+ <--- +---------------------+         waits until the root is done
//! ```
//!
//! A slice of the fiber runs on top of whoever called `slice`: first the entry from generated code, later
//! `vm/resume.rs`. Between slices the frames of the host function wait on the fiber's stack, so they are
//! bound to the thread that made them (I-50). What goes in and out stands in the store (`Suspension`).
//! The switch is corosensei's; nothing unwinds through it, since the root catches everything.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;

use corosensei::stack::StackPointer;
use corosensei::{Coroutine, CoroutineResult};

use crate::stack::{Stack, cache};
use crate::sys::thread;

/// Bytes of a fiber's stack: room for a host function and for guests that it enters, see
/// `HOST_STACK_ROOM` of `vm/enter.rs`. Paid for when touched.
const FIBER_STACK_LEN: usize = 1 << 20;

/// What a waiting host function is woken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wake {
    /// It goes on.
    GoOn,
    /// Nobody will resume the guest: its frames are to be unwound.
    Unwind,
}

/// What a host function on a fiber suspends itself with.
#[repr(transparent)]
pub(crate) struct Yielder(corosensei::Yielder<Wake, ()>);

impl Yielder {
    /// Ends the slice; what the host function is woken for.
    pub(crate) fn suspend(&self) -> Wake {
        self.0.suspend(())
    }

    fn of(yielder: &corosensei::Yielder<Wake, ()>) -> &Self {
        let wrapped: *const Self = core::ptr::from_ref(yielder).cast();
        // SAFETY: the wrapper is transparent, and the reference lives as long.
        unsafe { &*wrapped }
    }
}

/// A stack of the cache, as corosensei wants it.
struct FiberStack(Box<Stack>);

// SAFETY: the stack has a guard of 64 KiB below its usable bytes (I-10), which are more than 4 KiB; both
// ends are on page boundaries.
unsafe impl corosensei::stack::Stack for FiberStack {
    fn base(&self) -> StackPointer {
        StackPointer::new(self.0.top()).expect("a stack does not end at address 0")
    }

    fn limit(&self) -> StackPointer {
        StackPointer::new(self.0.bounds().guard.start).expect("nothing is mapped at address 0")
    }
}

/// A host function that has been suspended.
pub(crate) struct Fiber {
    /// Nothing when it is done; otherwise never dropped, since its frames can't be left.
    coroutine: ManuallyDrop<Option<Coroutine<Wake, (), (), FiberStack>>>,
    /// Usable bytes of its stack.
    usable: Range<usize>,
    /// The thread that its frames belong to.
    thread: u64,
}

impl Fiber {
    /// Runs a function on a fiber; the fiber if it has suspended itself.
    ///
    /// # Errors
    ///
    /// If no stack can be mapped.
    ///
    /// # Safety
    ///
    /// - `root` does not unwind.
    pub(crate) unsafe fn start(root: impl FnOnce(&Yielder) + 'static) -> io::Result<Option<Self>> {
        let stack = FiberStack(cache::acquire_fiber(FIBER_STACK_LEN)?);
        let usable = stack.0.bounds().usable.clone();
        let coroutine = Coroutine::with_stack(stack, |yielder, wake| {
            debug_assert_eq!(wake, Wake::GoOn);
            root(Yielder::of(yielder));
        });
        let mut fiber = Self {
            coroutine: ManuallyDrop::new(Some(coroutine)),
            usable,
            thread: thread::id(),
        };
        let done = fiber.slice(Wake::GoOn);
        Ok((!done).then_some(fiber))
    }

    /// Whether the frames belong to the calling thread.
    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.thread == thread::id()
    }

    /// Runs the host function until it suspends itself again; whether it is done. On another thread it is not run.
    #[inline]
    pub(crate) fn slice(&mut self, wake: Wake) -> bool {
        if !self.is_of_this_thread() {
            return false;
        }
        let Some(coroutine) = self.coroutine.as_mut() else {
            return true;
        };
        let on_fiber = thread::OtherStack::enter(&self.usable);
        let result = coroutine.resume(wake);
        drop(on_fiber);
        match result {
            CoroutineResult::Yield(()) => false,
            CoroutineResult::Return(()) => {
                if let Some(coroutine) = self.coroutine.take() {
                    cache::release_fiber(coroutine.into_stack().0);
                }
                true
            }
        }
    }
}
