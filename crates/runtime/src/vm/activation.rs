//! What this thread is running: one record an entry into a guest, on the host's stack.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::Cell;
use core::ops::Range;
use core::ptr;
use std::any::Any;
use std::rc::Rc;

use selvedge_artifact::traps::TrapCode;

use super::context::VMRuntimeLimits;
use crate::fault::details::TrapInfo;
use crate::host::error::HostError;
use crate::instance::exceptions::Exn;
use crate::instance::store::Store;
use crate::stack::Bounds;
use crate::sys::local::LocalCell;
use crate::traphandlers::UnwindReason;

/// Why a guest was left without returning, as the side that stopped it left it in the store.
pub(crate) enum Outcome {
    /// A host function failed or ended the guest.
    Host(HostError),
    /// A host function panicked.
    Panic(Box<dyn Any + Send>),
    /// A libcall trapped.
    Trap(TrapCode, Option<Box<TrapInfo>>),
    /// The guest threw, and nothing of it catches.
    Exception(Rc<Exn>),
}

impl Outcome {
    /// Whether it is an exception, which guests catch.
    pub(crate) fn is_exception(&self) -> bool {
        matches!(
            self,
            Self::Exception(_) | Self::Host(HostError::Exception(_))
        )
    }
}

impl From<UnwindReason> for Outcome {
    fn from(reason: UnwindReason) -> Self {
        match reason {
            UnwindReason::Panic(payload) => Self::Panic(payload),
            UnwindReason::UserTrap(error) => Self::Host(HostError::Error(error)),
            UnwindReason::LibTrap(code) => Self::Trap(code, None),
        }
    }
}

/// Why the signal handler has the guest left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// It trapped.
    Trap(TrapCode),
    /// The embedder's handler wants it ended, instead of this trap if it is one.
    Terminate(Option<TrapCode>),
    /// A signal that is no trap, with its number.
    Fatal(core::ffi::c_int),
}

/// A signal for which the guest is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrapRecord {
    /// Why.
    pub(crate) ending: Ending,
    /// The faulting instruction.
    pub(crate) pc: usize,
    /// Its frame pointer.
    pub(crate) fp: usize,
    /// The pinned register: the count of fuel, in guests that count it.
    pub(crate) pinned: u64,
    /// The address that was refused, for an access outside a memory.
    pub(crate) addr: Option<usize>,
}

/// How the signal handler has stopped a guest that did not trap.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interrupted {
    /// It ends.
    Killed {
        /// The pinned register.
        pinned: u64,
    },
    /// It is suspended, and its state is in the store's room.
    Suspended,
    /// It traps, since its epoch deadline is reached; whether its state is in the store's room.
    Expired {
        /// So that where it stands is known.
        kept: bool,
    },
    /// It is suspended at a check of the fuel, and its state is in the store's room.
    OutOfFuel,
}

/// One entry into a guest. Lives on the host's stack and is linked to the entry outside it, which may be
/// of another store. The signal handler reads it: plain words only, nothing with a destructor.
#[derive(Debug)]
pub(crate) struct Activation {
    outer: Cell<*const Activation>,
    /// The store whose guest it is.
    store: *const Store,
    /// The limits that generated code of this entry uses.
    pub(crate) limits: *const VMRuntimeLimits,
    /// Where the guest's stack is.
    bounds: *const Bounds,
    /// Reservations of the memories that the guest may access.
    pub(crate) memories: *const [Range<usize>],
    /// Filled by the signal handler.
    pub(crate) trap: Cell<Option<TrapRecord>>,
    /// Filled by the signal handler.
    pub(crate) interrupted: Cell<Option<Interrupted>>,
}

thread_local! {
    /// The innermost activation. `const` and without destructor: reading it in a signal handler
    /// initialises nothing (D-11).
    static CURRENT: Cell<*const Activation> = const { Cell::new(ptr::null()) };
}

impl Activation {
    /// Where the guest's stack is.
    pub(crate) fn bounds(&self) -> &Bounds {
        // SAFETY: whoever made the record holds the stack, and with it its bounds, for as long as the
        // record lives.
        unsafe { &*self.bounds }
    }

    /// The store whose guest it is.
    pub(crate) fn store(&self) -> &Store {
        // SAFETY: whoever made the record borrows the store for as long as the record lives.
        unsafe { &*self.store }
    }

    /// Makes a record that is not published yet. The record must not outlive the stack.
    #[inline]
    pub(crate) fn new(
        store: &Store,
        limits: *const VMRuntimeLimits,
        bounds: &Bounds,
        memories: *const [Range<usize>],
    ) -> Self {
        Self {
            outer: Cell::new(ptr::null()),
            store,
            limits,
            bounds,
            memories,
            trap: Cell::new(None),
            interrupted: Cell::new(None),
        }
    }

    /// Publishes the record for the time of a call (I-3).
    #[inline]
    pub(crate) fn publish<R>(&self, call: impl FnOnce() -> R) -> R {
        /// Takes the record back also if the call unwinds.
        struct Restore(*const Activation);
        impl Drop for Restore {
            #[inline]
            fn drop(&mut self) {
                CURRENT.swap(self.0);
            }
        }
        let outer = CURRENT.swap(self);
        let _restore = Restore(outer);
        self.outer.set(outer);
        call()
    }

    /// Whether the signal handler has stopped the guest.
    #[inline]
    pub(crate) fn was_stopped(&self) -> bool {
        self.trap.get().is_some() || self.interrupted.get().is_some()
    }

    /// Whether the caller stands on the stack of this thread's innermost guest.
    pub(crate) fn on_guest_stack() -> bool {
        let sp = crate::arch::stack_pointer();
        Self::with_current(|activation| activation.bounds().usable.contains(&sp)).unwrap_or(false)
    }

    /// Calls a function with the innermost activation of this thread, if there is one. Usable in a
    /// signal handler.
    #[inline]
    pub(crate) fn with_current<R>(f: impl FnOnce(&Activation) -> R) -> Option<R> {
        let current = CURRENT.load();
        // SAFETY: a published record stands on the stack of a frame of this thread that has not
        // returned (I-3).
        unsafe { current.as_ref() }.map(f)
    }
}
