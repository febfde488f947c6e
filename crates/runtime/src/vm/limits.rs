//! The `VMRuntimeLimits` of a store, at its place, with the accesses that the host makes.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::context::VMRuntimeLimits;
use crate::arch::{Control, KeyRegs, ParkedRegs};
use crate::stop::epochs::NEVER;
use crate::stop::verdicts::Verdicts;
use crate::stop::words::{FIRST_TICKET, Words};
use crate::sys::keys::{self, Key};

/// Request bit: leave the guest, the reason is in the store.
pub(crate) const LEAVE: u32 = 1;
/// Request bit, beside the other one: the reason is an exception, which the guest may catch.
const THROWN: u32 = 2;

/// A `VMRuntimeLimits` that trampolines write and read beside the host, with what other threads look at.
///
/// Host and guest of a store never run at the same time, so plain accesses are enough for most; they go
/// through the cell because the compiler can't see those of the trampolines. Other threads have a share in it
/// (kill switches), and touch the atomic words only ([`LimitsCell::words`]).
#[derive(Debug)]
pub(crate) struct LimitsCell(UnsafeCell<Control>, Verdicts);

// SAFETY: whoever has the store accesses the plain fields, one thread at a time; a share without the store gives
// access to atomic words alone.
unsafe impl Send for LimitsCell {}
// SAFETY: as above.
unsafe impl Sync for LimitsCell {}

/// What an inner entry overwrites.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    pub(crate) fp: usize,
    pub(crate) pc: usize,
    pub(crate) entry_sp: usize,
    parked: ParkedRegs,
}

impl LimitsCell {
    fn initial() -> (VMRuntimeLimits, ParkedRegs) {
        let limits = VMRuntimeLimits {
            stack_limit: u64::MAX,
            fuel_consumed: 0,
            epoch_deadline: NEVER,
            last_wasm_exit_fp: 0,
            last_wasm_exit_pc: 0,
            last_wasm_entry_sp: 0,
            host_sp: 0,
            request: 0,
            interrupt: 0,
        };
        (limits, ParkedRegs::default())
    }

    pub(crate) fn new() -> Self {
        let (limits, parked) = Self::initial();
        let control = Control {
            limits,
            parked,
            place: AtomicU64::new(0),
            ticket: AtomicU64::new(FIRST_TICKET),
            thread: AtomicU32::new(0),
            keys: KeyRegs::none(),
        };
        Self(UnsafeCell::new(control), Verdicts::default())
    }

    /// As [`LimitsCell::new`], of a guest whose pages have a key: that stays as it is.
    pub(crate) fn keyed(key: Key) -> Self {
        let mut limits = Self::new();
        limits.0.get_mut().keys = KeyRegs::of(key.for_guest(), keys::not_ours());
        limits
    }

    /// The words that other threads look at. Model checks have words of their own, which are not in here.
    #[cfg(all(test, loom))]
    pub(crate) fn words(&self) -> Words<'_> {
        unreachable!("no model runs a guest")
    }

    /// The words that other threads look at.
    #[cfg(not(all(test, loom)))]
    #[inline]
    pub(crate) fn words(&self) -> Words<'_> {
        let control = self.0.get();
        // SAFETY: the fields live as long as this; all accesses to the words are atomic, those of the
        // assembly by their size.
        unsafe {
            Words {
                ticket: &(*control).ticket,
                interrupt: AtomicU32::from_ptr(&raw mut (*control).limits.interrupt),
                place: &(*control).place,
                thread: &(*control).thread,
                verdicts: &self.1,
            }
        }
    }

    /// Makes everything what it is in the beginning, but that switches of former runs stay void.
    pub(crate) fn renew(&self) {
        self.words().renew();
        let (limits, parked) = Self::initial();
        let control = self.0.get();
        // SAFETY: no guest runs, and the one field of `limits` that others may write is left out.
        unsafe {
            (*control).parked = parked;
            (*control).limits.stack_limit = limits.stack_limit;
            (*control).limits.fuel_consumed = limits.fuel_consumed;
            (*control).limits.epoch_deadline = limits.epoch_deadline;
            (*control).limits.last_wasm_exit_fp = limits.last_wasm_exit_fp;
            (*control).limits.last_wasm_exit_pc = limits.last_wasm_exit_pc;
            (*control).limits.last_wasm_entry_sp = limits.last_wasm_entry_sp;
            (*control).limits.host_sp = limits.host_sp;
            (*control).limits.request = limits.request;
        }
    }

    /// What the assembly gets.
    pub(crate) fn control(&self) -> *const Control {
        self.0.get()
    }

    /// What generated code gets.
    pub(crate) fn as_ptr(&self) -> *const VMRuntimeLimits {
        self.control().cast()
    }

    /// Where the guest was last left, and where it was entered.
    pub(crate) fn exit(&self) -> Exit {
        let control = self.0.get();
        // SAFETY: nothing else accesses these fields now: the guest does not run.
        unsafe {
            Exit {
                parked: (*control).parked,
                fp: (*control).limits.last_wasm_exit_fp as usize,
                pc: (*control).limits.last_wasm_exit_pc as usize,
                entry_sp: (*control).limits.last_wasm_entry_sp as usize,
            }
        }
    }

    /// Puts back what an inner entry has overwritten.
    pub(crate) fn restore(&self, exit: Exit) {
        let control = self.0.get();
        // SAFETY: as for `exit`.
        unsafe {
            (*control).parked = exit.parked;
            (*control).limits.last_wasm_exit_fp = exit.fp as u64;
            (*control).limits.last_wasm_exit_pc = exit.pc as u64;
            (*control).limits.last_wasm_entry_sp = exit.entry_sp as u64;
        }
    }

    /// Says where the guest's stack ends.
    pub(crate) fn set_stack_limit(&self, limit: usize) {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.stack_limit = limit as u64 };
    }

    /// Where the host's stack was when the guest was entered. For the signal handler of the guest's thread.
    pub(crate) fn host_sp(&self) -> usize {
        // SAFETY: as for `exit`; the thread that the handler interrupted is not writing it.
        unsafe { (*self.0.get()).limits.host_sp as usize }
    }

    /// The count of fuel as of the last time that the guest was left: negative while some is left.
    pub(crate) fn fuel(&self) -> i64 {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.fuel_consumed }
    }

    /// Sets the count of fuel with which the guest goes on.
    pub(crate) fn set_fuel(&self, count: i64) {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.fuel_consumed = count };
    }

    /// The epoch at which the guest is to stop.
    pub(crate) fn epoch_deadline(&self) -> u64 {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.epoch_deadline }
    }

    /// Notes the epoch at which the guest is to stop.
    pub(crate) fn set_epoch_deadline(&self, epoch: u64) {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.epoch_deadline = epoch };
    }

    /// Has a parked guest that counts fuel go on with the count as it is now.
    pub(crate) fn park_fuel(&self) {
        let count = self.fuel();
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).parked.set_pinned(count.cast_unsigned()) };
    }

    /// Has the trampoline leave the guest, if that does not catch what was `thrown`.
    pub(crate) fn request_leave(&self, thrown: bool) {
        let request = if thrown { LEAVE | THROWN } else { LEAVE };
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.request = request };
    }

    /// Whether the guest is to be left for an exception.
    pub(crate) fn is_thrown(&self) -> bool {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.request & THROWN != 0 }
    }

    /// Whether the trampoline is to leave the guest. Can be called in a signal handler of the guest's thread.
    pub(crate) fn leave_requested(&self) -> bool {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.request & LEAVE != 0 }
    }

    /// Takes the request back.
    pub(crate) fn clear_request(&self) {
        // SAFETY: as for `exit`.
        unsafe { (*self.0.get()).limits.request = 0 };
    }
}
