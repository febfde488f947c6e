//! A thread that may not call the system, or not with one number, from some moment on.
//!
//! What is unsafe here: to tell the kernel (`seccomp(2)`), and to end a process without destructors.
#![allow(
    unsafe_code,
    reason = "there is no safe form of seccomp; see the file's head"
)]

/// What becomes of a call that may not be.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    /// The process dies of `SIGSYS`.
    Dies,
    /// It fails, and the system does not know it.
    Unknown,
}

/// A statement of the filter's language, which is that of BPF.
fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}

/// Which calls of the system are refused.
#[derive(Clone, Copy)]
pub(crate) enum Refused<'a> {
    /// These.
    These(&'a [i64]),
    /// All but these.
    AllBut(&'a [i64]),
}

/// From here on this thread, and those that it starts, may not make some calls of the system.
pub(crate) fn refuse(calls: Refused<'_>, refusal: Refusal) {
    let refused = match refusal {
        Refusal::Dies => libc::SECCOMP_RET_KILL_PROCESS,
        Refusal::Unknown => libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
    };
    let (listed, of_listed, of_others) = match calls {
        Refused::These(listed) => (listed, refused, libc::SECCOMP_RET_ALLOW),
        Refused::AllBut(listed) => (listed, libc::SECCOMP_RET_ALLOW, refused),
    };
    // The number is the first word of what the kernel tells.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for &number in listed {
        let number = u32::try_from(number).expect("it is a small number");
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        filter.push(libc::sock_filter {
            jf: 1,
            ..statement(equal, number)
        });
        filter.push(statement(libc::BPF_RET | libc::BPF_K, of_listed));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, of_others));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: no pointers.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
    // SAFETY: a program as long as it says, which the kernel copies.
    let done = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Ends the process with one system call, `exit_group`.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: there is nothing that it needs.
    unsafe { libc::_exit(code) }
}
