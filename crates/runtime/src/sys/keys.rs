//! Protection keys: those of this process, and giving them to pages (`pkeys(7)`).
//!
//! The kernel has 15 for a process. They are got when somebody wants them, and never given back: a page that is
//! forgotten would belong to whoever gets the number next. Threads can't use a key until they say so
//! ([`open`]); those that make one, or begin after that, can.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::ffi::c_void;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use libc::{siginfo_t, ucontext_t};
use rustix::mm::MprotectFlags;

use crate::arch::pkru;

/// A key of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key(u32);

/// Those that we have got, in their order.
static KEYS: Mutex<Vec<Key>> = Mutex::new(Vec::new());

/// The bits of those in the register.
static OURS: AtomicU32 = AtomicU32::new(0);

impl Key {
    /// What the register is to hold while a guest runs whose pages have this key.
    pub(crate) fn for_guest(self) -> u32 {
        pkru::of_guest(self.0)
    }

    /// The key with a number.
    #[cfg(test)]
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// Keys of this process: as many as are wanted, or as there are, which is one at least. Who asks again gets the
/// same ones. The calling thread can use them.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn get(wanted: u32) -> Result<Vec<Key>, String> {
    if !pkru::is_there() {
        return Err(
            "this processor has no protection keys, or the system does not use them".to_owned(),
        );
    }
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    while keys.len() < wanted as usize {
        // SAFETY: takes no pointers. No page has the key yet.
        let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
        match u32::try_from(key) {
            Ok(number @ 1..=15) => {
                OURS.fetch_or(pkru::bits_of(number), Ordering::Release);
                keys.push(Key(number));
            }
            _ if !keys.is_empty() => break,
            _ => {
                let error = io::Error::last_os_error();
                return Err(format!("the kernel gives this process none: {error}"));
            }
        }
    }
    let got = keys.iter().take(wanted as usize).copied().collect();
    drop(keys);
    open();
    Ok(got)
}

/// Has this thread use our keys, if there are any. To be called by whoever is about to touch a guest's pages.
#[inline(always)]
pub(crate) fn open() {
    let ours = OURS.load(Ordering::Relaxed);
    if ours != 0 {
        // SAFETY: there are keys, so the processor has them; that a thread of the host is refused is nothing that
        // anybody relies on (I-82).
        unsafe { pkru::open(ours) };
    }
}

/// The bits of the register that are not our keys'.
pub(crate) fn not_ours() -> u32 {
    !OURS.load(Ordering::Relaxed)
}

/// Gives a part of address space rights and a key.
///
/// # Safety
///
/// - As for `mprotect`: the part is the caller's, and nobody relies on what it could do there.
pub(super) unsafe fn protect(
    start: *mut c_void,
    len: usize,
    rights: MprotectFlags,
    key: Key,
) -> io::Result<()> {
    // SAFETY: the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_pkey_mprotect, start, len, rights.bits(), key.0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `SEGV_PKUERR`: why there is a SIGSEGV if the page's key refused the access.
pub(crate) const REFUSED: i32 = 4;

/// Called in a handler of SIGSEGV, for a fault of the host's own code: whether the thread was refused one of our
/// keys, and can use them from now on, so that it is to try again.
///
/// # Safety
///
/// - Both are what the kernel gave to the running handler of SIGSEGV, with the code [`REFUSED`].
pub(crate) unsafe fn open_for_host(info: *const siginfo_t, context: *mut ucontext_t) -> bool {
    /// Offset of `si_pkey` (`asm-generic/siginfo.h`): behind the address and room for two more.
    const KEY_AT: usize = 32;
    let ours = OURS.load(Ordering::Acquire);
    // SAFETY: the caller's promise; with the code that it has the kernel has filled the field.
    let key = unsafe { info.cast::<u8>().add(KEY_AT).cast::<u32>().read_unaligned() };
    // SAFETY: the caller's promise.
    key < 16 && pkru::bits_of(key) & ours != 0 && unsafe { pkru::open_in_frame(context, ours) }
}
