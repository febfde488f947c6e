//! Room R1, x86-64: the register that says which protection keys the thread may use (PKRU), where it is and in the
//! frame of a signal.
//!
//! Two bits a key: no access, no writing. Key 0 is that of all memory that nobody has given another one.
//! Sources: Intel SDM volume 3 section 4.6.2, volume 1 chapter 13; `pkeys(7)` of Linux. What is not here: which
//! keys there are and which pages have one (`sys/keys.rs`).
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

use libc::ucontext_t;

use super::capture::{Described, XSTATE_BV, described};

/// The part of the register image that is PKRU, and its bit in sets of parts.
const PART: u32 = 9;
const PART_BIT: u64 = 1 << PART;

/// Both bits of a key.
pub(crate) const fn bits_of(key: u32) -> u32 {
    0b11 << (2 * key)
}

/// What a guest has whose pages have a key: nothing but that, and key 0.
pub(crate) const fn of_guest(key: u32) -> u32 {
    !(bits_of(0) | bits_of(key))
}

/// Whether the processor has keys and the system has switched them on: without, the instructions here are illegal.
pub(crate) fn is_there() -> bool {
    /// `OSPKE` in ecx of CPUID leaf 7.
    const OSPKE: u32 = 1 << 4;
    let leaves = __cpuid_count(0, 0).eax;
    leaves >= 7 && __cpuid_count(7, 0).ecx & OSPKE != 0
}

/// Has this thread use the keys of some bits, whatever it could use before.
///
/// # Safety
///
/// - [`is_there`].
/// - No code relies on this thread being refused.
#[cold]
pub(crate) unsafe fn open(bits: u32) {
    // SAFETY: the caller's promise.
    let now = unsafe { read() };
    if now & bits != 0 {
        // SAFETY: the caller's promise; memory is not touched, but what comes behind may touch more.
        unsafe {
            asm!("wrpkru", in("eax") now & !bits, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags));
        }
    }
}

/// The register of this thread.
///
/// # Safety
///
/// - [`is_there`].
pub(crate) unsafe fn read() -> u32 {
    let now: u32;
    // SAFETY: the caller's promise; reads a register.
    unsafe {
        asm!("rdpkru", out("eax") now, in("ecx") 0, out("edx") _, options(nomem, nostack, preserves_flags));
    }
    now
}

/// Has an interrupted thread use the keys of some bits from the time at which it goes on; false if it can use them
/// already, or if the frame has no place for it.
///
/// # Safety
///
/// - `context` is what the kernel gave to the running signal handler.
pub(crate) unsafe fn open_in_frame(context: *mut ucontext_t, bits: u32) -> bool {
    // SAFETY: the caller's promise.
    let image: *mut u8 = unsafe { (*context).uc_mcontext.fpregs }.cast();
    // SAFETY: the kernel's own image, or null.
    let Some(Described {
        features,
        image_len,
        ..
    }) = (unsafe { described(image) })
    else {
        return false;
    };
    // In the form that a frame has, where a part stands does not hang on which parts there are.
    let place = __cpuid_count(0xd, PART);
    let (len, at) = (place.eax as usize, place.ebx as usize);
    if features & PART_BIT == 0 || len < 4 || at + len > image_len as usize {
        return false;
    }
    // SAFETY: both words lie in the image, as just checked; the context is the running handler's alone.
    unsafe {
        let in_use = image.add(XSTATE_BV).cast::<u64>();
        let register = image.add(at).cast::<u32>();
        // Not in use means zero: everything is allowed.
        if in_use.read_unaligned() & PART_BIT == 0 || register.read_unaligned() & bits == 0 {
            return false;
        }
        register.write_unaligned(register.read_unaligned() & !bits);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_its_key_and_the_common_one() {
        assert_eq!(bits_of(1), 0b1100);
        assert_eq!(of_guest(1), 0xffff_fff0);
        assert_eq!(of_guest(15), 0x3fff_fffc);
        for key in 1..16 {
            let denied = (0..16).filter(|&other| of_guest(key) & bits_of(other) == bits_of(other));
            assert_eq!(denied.count(), 14, "{key}");
            assert_eq!(of_guest(key) & (bits_of(0) | bits_of(key)), 0);
        }
    }
}
