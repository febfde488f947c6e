//! The one place where a guest's wish makes a host thread wait: on a descriptor, on a clock, or on
//! both. Everything that may sleep goes through here.
//!
//! Who ends the guest ends the wait: an eventfd of the guest's context is polled beside what the guest
//! waits for, and writing to it wakes the thread. So nothing waits in a system call but `poll`: a
//! descriptor is asked whether it is ready before it is read or written. Where somebody else reads or
//! fills it between the two calls, the thread waits in the second, and the guest ends when that returns.
//!
//! A system call that a signal cuts short (`EINTR`) is taken up again.

use crate::errno::Errno;
use crate::p1::clock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno as Host;
use selvedge_runtime::Vmctx;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The guest that waits, as far as a wait needs to know it.
pub(crate) trait Guest {
    /// Runs `wait`, and calls `wake` if somebody ends the guest meanwhile or has ended it before. It is
    /// not called any more once this has returned.
    fn wait(&self, wake: Arc<dyn Fn() + Send + Sync>, wait: &mut dyn FnMut());
}

impl Guest for Vmctx<'_> {
    fn wait(&self, wake: Arc<dyn Fn() + Send + Sync>, wait: &mut dyn FnMut()) {
        self.wait_interruptibly(wake, wait);
    }
}

/// What wakes a thread that waits for one guest. It is made at its first wait.
#[derive(Debug, Default)]
pub(crate) struct Alarm(OnceLock<Arc<Bell>>);

#[derive(Debug)]
struct Bell {
    event: OwnedFd,
    rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Relaxed);
        // It can only fail by being rung already, two to the power of 64 times.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// For the next wait. Nobody rings it now: the guest does not wait.
    fn silence(&self) -> Result<(), Errno> {
        if self.rung.swap(false, Ordering::Relaxed) {
            retry(|| rustix::io::read(&self.event, &mut [0; 8]))?;
        }
        Ok(())
    }
}

impl Alarm {
    fn bell(&self) -> Result<&Arc<Bell>, Errno> {
        if let Some(bell) = self.0.get() {
            return Ok(bell);
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let rung = AtomicBool::new(false);
        Ok(self.0.get_or_init(|| Arc::new(Bell { event, rung })))
    }
}

/// How a guest waits. All that can make its thread sleep takes this.
#[derive(Clone, Copy)]
pub(crate) struct Waits<'a> {
    pub(crate) guest: &'a dyn Guest,
    pub(crate) alarm: &'a Alarm,
}

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
    waits: Waits<'_>,
    fd: BorrowedFd<'_>,
    want: PollFlags,
    nonblock: bool,
    mut call: impl FnMut() -> Result<usize, Host>,
) -> Result<usize, Errno> {
    loop {
        if !is_ready(fd, want)? {
            if nonblock {
                return Err(Errno::Again);
            }
            waits.until(&mut vec![PollFd::from_borrowed_fd(fd, want)], None)?;
        }
        match retry(&mut call) {
            Err(Host::AGAIN) if !nonblock => {}
            other => return Ok(other?),
        }
    }
}

/// Writes all to a descriptor that may not be ready, no more at a time than it takes without waiting
/// once it is; at most the first such piece if the guest set `NONBLOCK`. What a pipe takes as a whole
/// stays whole.
pub(crate) fn write(
    waits: Waits<'_>,
    fd: BorrowedFd<'_>,
    nonblock: bool,
    slices: &[IoSlice<'_>],
) -> Result<usize, Errno> {
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    if len <= NONBLOCKING_WRITE {
        return transfer(waits, fd, PollFlags::OUT, nonblock, || {
            rustix::io::writev(fd, slices)
        });
    }
    if FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::RegularFile {
        return Ok(retry(|| rustix::io::writev(fd, slices))?);
    }
    let mut written = 0;
    for piece in slices
        .iter()
        .flat_map(|slice| slice.chunks(NONBLOCKING_WRITE))
    {
        match transfer(waits, fd, PollFlags::OUT, nonblock, || {
            rustix::io::write(fd, piece)
        }) {
            Err(error) if written == 0 => return Err(error),
            // What has been written counts; the next call tells the error.
            Err(_) => break,
            Ok(len) => {
                written += len;
                if len < piece.len() || nonblock {
                    break;
                }
            }
        }
    }
    Ok(written)
}

/// Whether `fd` is ready (or broken, which a read or write then reports) at this moment.
fn is_ready(fd: BorrowedFd<'_>, want: PollFlags) -> Result<bool, Errno> {
    Ok(ask(&mut [PollFd::from_borrowed_fd(fd, want)])? > 0)
}

impl<'a> Waits<'a> {
    /// Waits until one of `fds` is ready or the monotonic clock reaches `deadline` (nanoseconds), and
    /// returns how many are ready: 0 at the deadline. Without descriptors it is a sleep. Leaves `fds` as
    /// many as they were.
    ///
    /// `EINTR` says that somebody ended the guest. It never sees it, since it goes no further than the
    /// call that it is in.
    pub(crate) fn until(
        self,
        fds: &mut Vec<PollFd<'a>>,
        deadline: Option<u64>,
    ) -> Result<usize, Errno> {
        let bell = self.alarm.bell()?;
        bell.silence()?;
        fds.push(PollFd::from_borrowed_fd(bell.event.as_fd(), PollFlags::IN));
        let ring = bell.clone();
        let mut ready = Ok(0);
        self.guest.wait(Arc::new(move || ring.ring()), &mut || {
            ready = wait(fds, deadline);
        });
        let woken = fds.pop().is_some_and(|bell| !bell.revents().is_empty());
        if woken { Err(Errno::Intr) } else { ready }
    }
}

/// What `fds` are at this moment; returns how many are ready.
pub(crate) fn ask(fds: &mut [PollFd<'_>]) -> Result<usize, Errno> {
    wait(fds, Some(0))
}

/// Waits without being woken.
fn wait(fds: &mut [PollFd<'_>], deadline: Option<u64>) -> Result<usize, Errno> {
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
    use crate::p1::harness::{Alone, Thread};
    use std::io::Write;

    #[test]
    fn a_nonblocking_read_of_an_empty_pipe_returns_at_once() {
        let alarm = Alarm::default();
        let waits = Alone.waits(&alarm);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut buf = [0u8; 4];
        let mut read = |nonblock| {
            transfer(waits, reader.as_fd(), PollFlags::IN, nonblock, || {
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
        let alarm = Alarm::default();
        let waits = Alone.waits(&alarm);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let flags = rustix::fs::fcntl_getfl(&reader).unwrap();
        rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut buf = [0u8; 4];
        assert_eq!(rustix::io::read(&reader, &mut buf), Err(Host::AGAIN));
        let waiting = Thread::this();
        let writing = std::thread::spawn(move || {
            waiting.until_it_sleeps();
            writer.write_all(b"xyz").unwrap();
        });
        let got = transfer(waits, reader.as_fd(), PollFlags::IN, false, || {
            rustix::io::read(&reader, &mut buf)
        });
        assert_eq!(got, Ok(3));
        writing.join().unwrap();
    }

    #[test]
    fn a_sleep_ends_no_earlier_than_its_deadline() {
        let deadline = clock::monotonic() + 3_000_000;
        let alarm = Alarm::default();
        let waits = Alone.waits(&alarm);
        assert_eq!(waits.until(&mut Vec::new(), Some(deadline)), Ok(0));
        assert!(clock::monotonic() >= deadline);
        assert_eq!(
            waits.until(&mut Vec::new(), Some(0)),
            Ok(0),
            "a deadline that has passed"
        );
    }

    /// A guest that somebody has ended.
    struct Ended;

    impl Guest for Ended {
        fn wait(&self, wake: Arc<dyn Fn() + Send + Sync>, wait: &mut dyn FnMut()) {
            wake();
            wait();
        }
    }

    #[test]
    fn the_end_of_the_guest_ends_its_wait_and_no_later_one() {
        let alarm = Alarm::default();
        let alone = Alone.waits(&alarm);
        let ended = Waits {
            guest: &Ended,
            alarm: &alarm,
        };
        let (reader, mut writer) = std::io::pipe().unwrap();
        let read = |waits| {
            transfer(waits, reader.as_fd(), PollFlags::IN, false, || {
                rustix::io::read(&reader, &mut [0; 8])
            })
        };
        for _ in 0..3 {
            assert_eq!(ended.until(&mut Vec::new(), None), Err(Errno::Intr));
            assert_eq!(read(ended), Err(Errno::Intr));
            assert_eq!(alone.until(&mut Vec::new(), Some(0)), Ok(0));
            writer.write_all(b"ab").unwrap();
            assert_eq!(read(alone), Ok(2));
        }
    }

    #[test]
    fn a_full_pipe_is_waited_for_and_nothing_is_lost() {
        let alarm = Alarm::default();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let ended = Waits {
            guest: &Ended,
            alarm: &alarm,
        };
        let slices = [IoSlice::new(&bytes[..7]), IoSlice::new(&bytes[7..])];
        let len = write(ended, writer.as_fd(), false, &slices).unwrap();
        assert!(len > 7 && len < bytes.len(), "{len}");
        let again = write(ended, writer.as_fd(), false, &slices);
        assert_eq!(again, Err(Errno::Intr), "there is no room");
        let again = write(ended, writer.as_fd(), true, &slices);
        assert_eq!(again, Err(Errno::Again));
        let mut got = vec![0; len];
        std::io::Read::read_exact(&mut reader, &mut got).unwrap();
        assert_eq!(got, bytes[..len]);
        let reading = std::thread::spawn(move || {
            let mut got = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut got).unwrap();
            got
        });
        let waits = Alone.waits(&alarm);
        assert_eq!(
            write(waits, writer.as_fd(), false, &slices),
            Ok(bytes.len())
        );
        drop(writer);
        assert_eq!(reading.join().unwrap(), bytes);
    }

    #[test]
    fn the_longest_timeout_is_one_the_kernel_can_take() {
        let longest = timespec(u64::MAX);
        assert!(longest.tv_sec > 0 && longest.tv_nsec < 1_000_000_000);
    }
}
