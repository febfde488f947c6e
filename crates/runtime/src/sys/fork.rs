//! For tests: a child process in which something may go fatally wrong.
//!
//! Signal dispositions belong to the whole process, and a fault that is not caught ends it; so
//! tests of both happen in a copy. Not part of the runtime.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Exited(c_int),
    Killed(c_int),
}

/// What a child exits with when its body panics. The message is on standard error.
pub(crate) const PANICKED: c_int = 101;

/// Runs `body` in a child process, which exits with what it returns, and waits for its end.
pub(crate) fn run(body: impl FnOnce() -> c_int) -> Outcome {
    // SAFETY: the child runs only `body` and leaves with `_exit`, so nothing of the parent's is
    // dropped twice. Other threads are not in it: bodies take no lock that another test may have
    // held. (The allocator's are handled by the C library.)
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let no_core_file = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: a limit to be read.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core_file) };
        // A child that hangs dies of SIGALRM, rather than its test never ending.
        // SAFETY: no pointers.
        unsafe { libc::alarm(300) };
        let code = panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        // SAFETY: ends the process; nothing is owed to anybody in it.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: a status to be filled.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid: {}", std::io::Error::last_os_error());
    if libc::WIFSIGNALED(status) {
        Outcome::Killed(libc::WTERMSIG(status))
    } else {
        Outcome::Exited(libc::WEXITSTATUS(status))
    }
}

/// Makes a signal end the process again. The test harness catches some of them for its own
/// messages.
pub(crate) fn set_default(signum: c_int) {
    // SAFETY: the default disposition calls no function.
    unsafe { libc::signal(signum, libc::SIG_DFL) };
}

/// From now on, a system call of this process fails with an error.
pub(crate) fn refuse(call: libc::c_long, errno: c_int) {
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    let op = |code: u16, jt: u8, jf: u8, k: u32| libc::sock_filter { code, jt, jf, k };
    let mut ops = [
        // The number of the call stands first in what a filter sees.
        op(load, 0, 0, 0),
        op(equal, 0, 1, call as u32),
        op(answer, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        op(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: ops.len() as u16,
        filter: ops.as_mut_ptr(),
    };
    // SAFETY: a filter of four instructions, which the kernel copies.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(set, 0, "seccomp: {}", std::io::Error::last_os_error());
}
