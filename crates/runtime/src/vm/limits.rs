//! The `VMRuntimeLimits` of a store, at its place, with the accesses that the host makes.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::UnsafeCell;

use super::context::VMRuntimeLimits;
use crate::arch::{Control, ParkedRegs};

/// Request bit: leave the guest, the reason is in the store.
const LEAVE: u64 = 1;

/// A `VMRuntimeLimits` that trampolines write and read beside the host.
///
/// Host and guest of a store never run at the same time, so plain accesses are enough; they go through
/// the cell because the compiler can't see those of the trampolines.
#[derive(Debug)]
pub(crate) struct LimitsCell(UnsafeCell<Control>);

/// What an inner entry overwrites.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) fp: usize,
    pub(crate) pc: usize,
    pub(crate) entry_sp: usize,
    parked: ParkedRegs,
}

impl LimitsCell {
    pub(crate) fn new() -> Self {
        let limits = VMRuntimeLimits {
            stack_limit: u64::MAX,
            fuel_consumed: 0,
            epoch_deadline: 0,
            last_wasm_exit_fp: 0,
            last_wasm_exit_pc: 0,
            last_wasm_entry_sp: 0,
            host_sp: 0,
            request: 0,
        };
        let parked = ParkedRegs::default();
        Self(UnsafeCell::new(Control { limits, parked }))
    }

    /// What the assembly gets.
    pub(crate) fn control(&self) -> *const Control {
        self.0.get()
    }

    /// What generated code gets.
    pub(crate) fn as_ptr(&self) -> *const VMRuntimeLimits {
        self.control().cast()
    }

    fn with<R>(&self, f: impl FnOnce(&mut VMRuntimeLimits) -> R) -> R {
        // SAFETY: the closures below neither enter a guest nor call back, so this is the only access.
        f(unsafe { &mut (*self.0.get()).limits })
    }

    /// Where the guest was last left, and where it was entered.
    pub(crate) fn exit(&self) -> Exit {
        // SAFETY: as for `with`.
        let parked = unsafe { (*self.0.get()).parked };
        self.with(|limits| Exit {
            parked,
            fp: limits.last_wasm_exit_fp as usize,
            pc: limits.last_wasm_exit_pc as usize,
            entry_sp: limits.last_wasm_entry_sp as usize,
        })
    }

    /// Puts back what an inner entry has overwritten.
    pub(crate) fn restore(&self, exit: Exit) {
        // SAFETY: as for `with`.
        unsafe { (*self.0.get()).parked = exit.parked };
        self.with(|limits| {
            limits.last_wasm_exit_fp = exit.fp as u64;
            limits.last_wasm_exit_pc = exit.pc as u64;
            limits.last_wasm_entry_sp = exit.entry_sp as u64;
        });
    }

    /// Says where the guest's stack ends.
    pub(crate) fn set_stack_limit(&self, limit: usize) {
        self.with(|limits| limits.stack_limit = limit as u64);
    }

    /// The count of fuel as of the last time that the guest was left: negative while some is left.
    pub(crate) fn fuel(&self) -> i64 {
        self.with(|limits| limits.fuel_consumed)
    }

    /// Sets the count of fuel with which the guest goes on.
    pub(crate) fn set_fuel(&self, count: i64) {
        self.with(|limits| limits.fuel_consumed = count);
    }

    /// Has a parked guest that counts fuel go on with the count as it is now.
    pub(crate) fn park_fuel(&self) {
        let count = self.fuel();
        // SAFETY: as for `with`.
        unsafe { (*self.0.get()).parked.set_pinned(count.cast_unsigned()) };
    }

    /// Has the trampoline leave the guest.
    pub(crate) fn request_leave(&self) {
        self.with(|limits| limits.request |= LEAVE);
    }

    /// Whether the trampoline is to leave the guest.
    pub(crate) fn leave_requested(&self) -> bool {
        self.with(|limits| limits.request & LEAVE != 0)
    }

    /// Takes the request back.
    pub(crate) fn clear_request(&self) {
        self.with(|limits| limits.request &= !LEAVE);
    }
}
