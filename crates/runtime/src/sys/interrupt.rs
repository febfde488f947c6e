//! Interrupting another thread: the signal, the barrier that goes before it, and a timer for oneself.
//!
//! The signal carries our cookie, so that the handler tells ours from those of others, which go on to whoever
//! handled them before. It is never sent without a look at where the other thread is first, and before that
//! look stands a barrier on *its* side: [`barrier`] makes every running thread of the process execute one
//! (`membarrier(2)`). So the threads that enter and leave guests need none: plain stores and loads, in program
//! order, are enough.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::{signal, thread};

/// What our signals carry.
static COOKIE: u8 = 0;

/// What our signals carry: an address that no signal of others names.
pub(super) fn cookie() -> usize {
    (&raw const COOKIE).addr()
}

const REGISTER: libc::c_int = libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
const EXPEDITED: libc::c_int = libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED;

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes the process ready for [`barrier`]. May be called more than once.
pub(crate) fn prepare() -> io::Result<()> {
    membarrier(REGISTER)
}

/// Has every running thread of the process execute a full barrier. After [`prepare`] it does not fail; in the
/// child of a fork the preparation is inherited.
pub(crate) fn barrier() -> io::Result<()> {
    membarrier(EXPEDITED)
}

/// Sends the interrupt signal to a thread of this process. One that has ended is an error, and no other
/// process can be hit.
pub(crate) fn send(os_thread: u32) -> io::Result<()> {
    // SAFETY: zero is a value of every field.
    let mut info: libc::siginfo_t = unsafe { MaybeUninit::zeroed().assume_init() };
    info.si_signo = signal::interrupt_signal();
    info.si_code = libc::SI_QUEUE;
    // SAFETY: no arguments.
    let pid = unsafe { libc::getpid() };
    /// `_sifields._rt` of the kernel's `siginfo`: what stands behind the first three words.
    #[repr(C)]
    struct Fields {
        head: [libc::c_int; 4],
        pid: libc::pid_t,
        uid: libc::uid_t,
        value: usize,
    }
    let fields: *mut Fields = (&raw mut info).cast();
    // SAFETY: `siginfo_t` is 128 bytes, and these are the kernel's offsets in it (sigaction(2), and
    // `asm-generic/siginfo.h`).
    unsafe {
        (*fields).pid = pid;
        (*fields).value = cookie();
    }
    // SAFETY: a signal to a thread of ours, whose handler is installed.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            libc::c_long::from(pid),
            libc::c_long::from(os_thread),
            libc::c_long::from(info.si_signo),
            &raw const info,
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the interrupt signal through to this thread.
pub(crate) fn unblock() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a set to be filled, and then one that is.
    let result = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal::interrupt_signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(result))
    }
}

/// Nanoseconds of the clock that timers run by. Can be called in a signal handler.
pub(crate) fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a place to be filled. The call can't fail: the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64)
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec as u64)
}

/// Nanoseconds, as many as there is room for.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A timer that sends the interrupt signal to the thread that made it.
struct Timer(libc::timer_t);

impl Timer {
    fn new() -> io::Result<Self> {
        // SAFETY: zero is a value of every field.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal::interrupt_signal();
        event.sigev_value = libc::sigval {
            sival_ptr: (&raw const COOKIE).cast_mut().cast(),
        };
        event.sigev_notify_thread_id = thread::os_id().cast_signed();
        let mut timer = MaybeUninit::uninit();
        // SAFETY: an event that is whole, and a place to be filled.
        let made = unsafe {
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, timer.as_mut_ptr())
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call has filled it.
        Ok(Self(unsafe { timer.assume_init() }))
    }

    /// Sets when it fires, once; 0 for never.
    fn set(&self, at: u64) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (at % 1_000_000_000) as i64,
        };
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: value,
        };
        // SAFETY: the timer is ours and has not been deleted.
        let set = unsafe {
            libc::timer_settime(
                self.0,
                libc::TIMER_ABSTIME,
                &raw const setting,
                ptr::null_mut(),
            )
        };
        if set == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: as above; this is the last use.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// The timer of a thread, made when it is first wanted, and whose it is: a child of a fork has none of its
/// parent's timers.
struct Own {
    timer: Option<(u32, Timer)>,
}

thread_local! {
    static OWN: Cell<Own> = const { Cell::new(Own { timer: None }) };
}

/// Has this thread interrupted at a time of [`now`]'s clock; 0 takes that back.
///
/// # Errors
///
/// If the system gives no timer, or the thread is ending.
pub(crate) fn alarm(at: u64) -> io::Result<()> {
    let set = OWN.try_with(|own| {
        let Own { timer } = own.replace(Own { timer: None });
        let timer = match timer {
            Some((owner, timer)) if owner == thread::os_id() => timer,
            former => {
                // A parent's timer, whose number may be another's here.
                std::mem::forget(former);
                if at == 0 {
                    return Ok(());
                }
                Timer::new()?
            }
        };
        let set = timer.set(at);
        own.set(Own {
            timer: Some((thread::os_id(), timer)),
        });
        set
    });
    set.unwrap_or_else(|_| Err(io::Error::other("this thread is ending")))
}
