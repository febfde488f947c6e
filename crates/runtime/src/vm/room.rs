//! Room for the state of a store's guest when it is stopped between two instructions.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::Cell;
use core::fmt;
use core::ptr;

use crate::arch::capture::{Captured, Stopped};

/// The room of one store: none until somebody may want it, and from then on always at the same place.
///
/// The signal handler of the guest's thread fills it while the guest is interrupted; everything else touches it
/// only while the guest does not run.
pub(crate) struct Room(Cell<*mut Captured>);

impl Room {
    pub(crate) const fn none() -> Self {
        Self(Cell::new(ptr::null_mut()))
    }

    /// Makes the room, unless it is there.
    pub(crate) fn ensure(&self) {
        if self.0.get().is_null() {
            self.0.set(Box::into_raw(Box::new(Captured::new())));
        }
    }

    /// For the signal handler; null if there is none.
    pub(crate) fn as_ptr(&self) -> *mut Captured {
        self.0.get()
    }

    /// Where the guest was stopped.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        // SAFETY: made by `ensure`, and the guest does not run.
        unsafe { self.0.get().as_ref() }.map(Captured::stopped)
    }

    /// Sets where the guest goes on.
    pub(crate) fn set_pc(&self, pc: usize) {
        // SAFETY: as above.
        if let Some(captured) = unsafe { self.0.get().as_mut() } {
            captured.set_pc(pc);
        }
    }

    /// Sets the pinned register with which the guest goes on.
    pub(crate) fn set_pinned(&self, value: u64) {
        // SAFETY: as above.
        if let Some(captured) = unsafe { self.0.get().as_mut() } {
            captured.set_pinned(value);
        }
    }

    /// What `arch::capture::go_on` wants.
    pub(crate) fn registers(&self) -> usize {
        // SAFETY: as above.
        unsafe { self.0.get().as_ref() }.map_or(0, Captured::registers)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.0.get().is_null() {
            // SAFETY: made by `ensure`, and dropped once.
            drop(unsafe { Box::from_raw(self.0.get()) });
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Room").field(&self.0.get()).finish()
    }
}
