//! Opening what may be a named pipe, so that a guest which waits for the other end can be ended.
//!
//! ```text
//!  to read:   open without waiting; is there a writer, or was there one?  no: wait a little, ask again
//!  to write:  open without waiting: refused while nobody reads            wait a little, try again
//! ```
//!
//! The kernel waits for the other end in `open` itself, where nothing but a signal ends it. So everything is opened
//! with `O_NONBLOCK`, and the guest waits in `blocking.rs` like everywhere. The kernel tells nobody when another end is
//! opened, so it is asked: every millisecond at first, and every 16 at last. Data, and a writer that comes and goes, are
//! seen at once by who reads.
//!
//! The host's descriptor stays as it is opened: what the guest opens is its own, and a read or write that would wait
//! goes back to `blocking.rs`.

use crate::blocking::{self, Waits};
use crate::errno::Errno;
use crate::p1::clock;
use cap_std::fs::File;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::AsFd;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

const FIRST_PAUSE: u64 = 1_000_000;
const LAST_PAUSE: u64 = 16_000_000;

/// Opens something for a guest, by `open` with `O_NONBLOCK`. `is_pipe` is asked of what can't be opened now.
pub(crate) fn open(
    waits: Waits<'_>,
    nonblock: bool,
    is_pipe: impl Fn() -> bool,
    open: impl Fn() -> Result<File, Errno>,
) -> Result<File, Errno> {
    if nonblock {
        return open();
    }
    let mut pause = FIRST_PAUSE;
    let file = loop {
        match open() {
            Err(Errno::Nxio) if is_pipe() => {}
            // Somebody has a lease on a regular file, and is told by the kernel to give it back.
            Err(Errno::Again) => {}
            other => break other?,
        }
        rest(waits, None, &mut pause)?;
    };
    let reads_only = fcntl_getfl(&file)?.intersection(OFlags::RWMODE) == OFlags::RDONLY;
    if reads_only && FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Fifo {
        wait_for_writer(waits, &file)?;
    }
    Ok(file)
}

/// Waits until somebody writes to a pipe, has it open to write, or has had it since it was opened here.
fn wait_for_writer(waits: Waits<'_>, pipe: &File) -> Result<(), Errno> {
    let (_reader, copy) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut pause = FIRST_PAUSE;
    // Copies a byte without taking it: nothing is there without a writer, and with one it would wait.
    while blocking::retry(|| tee(pipe, &copy, 1, SpliceFlags::NONBLOCK)) == Ok(0) {
        if rest(waits, Some(pipe), &mut pause)? {
            break;
        }
    }
    Ok(())
}

/// Waits a little, longer each time, or until there is something to read: data, or the end of it.
fn rest(waits: Waits<'_>, pipe: Option<&File>, pause: &mut u64) -> Result<bool, Errno> {
    let deadline = clock::monotonic().saturating_add(*pause);
    *pause = LAST_PAUSE.min(*pause * 2);
    let pipe = pipe.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
    Ok(waits.until(&mut pipe.into_iter().collect(), Some(deadline))? > 0)
}

#[cfg(test)]
mod tests;
