//! Room R1: the processor. Chooses the architecture and lists what each must give.
//!
//! An architecture gives `enter` (host to guest), `leave` (where a trap or a termination continues
//! on the host's stack), `resume` (a parked guest goes on), `guest_to_host` (the one trampoline through which a guest calls the host),
//! `capture` (a guest is stopped between any two instructions, and goes on there), `places` (what a pc in this
//! room means), `pkru` (which protection keys a thread may use) and `regs` (registers of an interrupted thread). Nothing else in the crate knows registers.
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod capture;
#[cfg(target_arch = "x86_64")]
pub(crate) mod float_mode;
mod lines;
#[cfg(target_arch = "x86_64")]
pub(crate) mod pkru;
#[cfg(target_arch = "x86_64")]
pub(crate) mod places;
#[cfg(target_arch = "x86_64")]
pub(crate) mod probe;
pub(crate) mod regs;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{
    Control, KeyRegs, ParkedRegs, cpu_has, enter, enter_keyed, keyed_way, resume, resume_keyed,
    stack_pointer, way_out, way_to_host,
};
#[cfg(target_arch = "x86_64")]
use x86_64::{leave, leave_keyed};

/// Where a guest is: the low half of `Control::place`.
pub(crate) mod phase {
    /// In guest code, or on the last instructions before it, or on the first ones behind it.
    pub(crate) const GUEST: u32 = 1;
    /// It waits for a host function or a libcall.
    pub(crate) const HOST: u32 = 2;
    /// It is suspended, on no thread.
    pub(crate) const SUSPENDED: u32 = 3;
    /// It has been left for good.
    pub(crate) const LEFT: u32 = 4;
}

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "selvedge-runtime supports x86-64 only so far; see ARCHITECTURE.md for what a port needs"
);

pub(crate) use lines::{is_zero, make_equal, make_zero};

/// Target name of artifacts for this build.
pub(crate) const TARGET: &str = "x86_64-linux";
