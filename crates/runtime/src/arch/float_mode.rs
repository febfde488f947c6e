//! How the processor computes with floats on this thread: rounding, denormals, exceptions.
//!
//! WebAssembly rounds to the nearest and keeps denormals. A thread may have other modes, most often because some library
//! was built with `-ffast-math`, which changes them for whole threads when it is loaded. Guests have no instruction that
//! changes them, so it is enough to look when one is entered.
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::arch::asm;

/// What the modes are when a thread begins, and what WebAssembly asks for.
const PLAIN: u32 = 0x1f80;

/// Bits that operations set, and that change nothing.
const STATUS: u32 = 0x3f;

/// Calls a function that does not unwind with the modes that guests compute in.
#[inline]
pub(crate) fn plain<R>(call: impl FnOnce() -> R) -> R {
    let found = read();
    if found & !STATUS == PLAIN {
        return call();
    }
    changed(found, call)
}

#[cold]
#[inline(never)]
fn changed<R>(found: u32, call: impl FnOnce() -> R) -> R {
    write(PLAIN);
    let result = call();
    write(found);
    result
}

fn read() -> u32 {
    let mut modes = 0_u32;
    // SAFETY: stores four bytes into the local.
    unsafe {
        asm!("stmxcsr [{}]", in(reg) &raw mut modes, options(nostack, preserves_flags));
    }
    modes
}

fn write(modes: u32) {
    // SAFETY: loads four bytes, which are what a thread begins with, or what was read before.
    unsafe {
        asm!("ldmxcsr [{}]", in(reg) &raw const modes, options(nostack, preserves_flags, readonly));
    }
}
