//! The one place where a guest's wish makes a host thread wait: on a descriptor, on a clock, or on
//! both. Everything that may sleep goes through here.
//!
//! A system call that a signal cuts short (`EINTR`) is taken up again. This is where a kill switch
//! is going to look: it interrupts the thread, the call returns early, and between two tries the
//! request word of the instance tells whether there is to be another.

use crate::errno::Errno;
use crate::p1::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno as Host;

/// Bytes that a write to a pipe takes without blocking once the pipe has reported room: `PIPE_BUF`
/// on Linux.
pub(crate) const NONBLOCKING_WRITE: usize = 4096;

/// Runs a system call until it does something other than being interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> Result<T, Host>) -> Result<T, Host> {
    loop {
        match call() {
            Err(Host::INTR) => {}
            other => return other,
        }
    }
}

/// Moves bytes through `fd` as a guest that set or did not set `NONBLOCK` expects, whatever the
/// host's own flag is. The host's flag of an inherited descriptor is shared with other processes
/// (the shell, the next program in the pipe), so it is neither trusted nor changed.
pub(crate) fn transfer(
    fd: BorrowedFd<'_>,
    want: PollFlags,
    nonblock: bool,
    mut call: impl FnMut() -> Result<usize, Host>,
) -> Result<usize, Errno> {
    if nonblock && !is_ready(fd, want)? {
        return Err(Errno::Again);
    }
    loop {
        match retry(&mut call) {
            Err(Host::AGAIN) if !nonblock => {
                wait(&mut [PollFd::from_borrowed_fd(fd, want)], None)?;
            }
            other => return Ok(other?),
        }
    }
}

/// Whether `fd` is ready (or broken, which a read or write then reports) at this moment.
fn is_ready(fd: BorrowedFd<'_>, want: PollFlags) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(fd, want)];
    let ready = retry(|| {
        poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        )
    })?;
    Ok(ready > 0)
}

/// Waits until one of `fds` is ready or the monotonic clock reaches `deadline` (nanoseconds), and
/// returns how many are ready: 0 at the deadline. Without descriptors it is a sleep.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Option<u64>) -> Result<usize, Errno> {
    loop {
        let left = deadline.map(|deadline| timespec(deadline.saturating_sub(clock::monotonic())));
        match poll(fds, left.as_ref()) {
            Err(Host::INTR) => {}
            // The kernel may round; only the clock decides.
            Ok(0) if deadline.is_some_and(|deadline| clock::monotonic() < deadline) => {}
            other => return Ok(other?),
        }
    }
}

fn timespec(nanos: u64) -> Timespec {
    const PER_SECOND: u64 = 1_000_000_000;
    // At most 18 thousand million seconds and less than a thousand million nanoseconds.
    Timespec {
        tv_sec: (nanos / PER_SECOND).cast_signed(),
        tv_nsec: (nanos % PER_SECOND).cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::io::Write;

    #[test]
    fn a_nonblocking_read_of_an_empty_pipe_returns_at_once() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut buf = [0u8; 4];
        let mut read = |nonblock| {
            transfer(reader.as_fd(), PollFlags::IN, nonblock, || {
                rustix::io::read(&reader, &mut buf)
            })
        };
        assert_eq!(read(true), Err(Errno::Again));
        writer.write_all(b"ab").unwrap();
        assert_eq!(read(true), Ok(2));
        drop(writer);
        assert_eq!(read(true), Ok(0), "the end is no reason to wait");
    }

    #[test]
    fn a_blocking_read_waits_though_the_host_descriptor_would_not() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let flags = rustix::fs::fcntl_getfl(&reader).unwrap();
        rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut buf = [0u8; 4];
        assert_eq!(rustix::io::read(&reader, &mut buf), Err(Host::AGAIN));
        let writing = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            writer.write_all(b"xyz").unwrap();
        });
        let got = transfer(reader.as_fd(), PollFlags::IN, false, || {
            rustix::io::read(&reader, &mut buf)
        });
        assert_eq!(got, Ok(3));
        writing.join().unwrap();
    }

    #[test]
    fn a_sleep_ends_no_earlier_than_its_deadline() {
        let deadline = clock::monotonic() + 3_000_000;
        assert_eq!(wait(&mut [], Some(deadline)), Ok(0));
        assert!(clock::monotonic() >= deadline);
        assert_eq!(wait(&mut [], Some(0)), Ok(0), "a deadline that has passed");
    }

    #[test]
    fn the_longest_timeout_is_one_the_kernel_can_take() {
        let longest = timespec(u64::MAX);
        assert!(longest.tv_sec > 0 && longest.tv_nsec < 1_000_000_000);
    }
}
