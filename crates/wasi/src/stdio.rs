//! What a guest's descriptors 0, 1 and 2 lead to: the host's own, nothing, a file, or memory that
//! the embedder holds the other end of. All are streams: they can't be sought, and what the guest
//! is told of their kind is what they are on the host.

use crate::errno::Errno;
use rustix::fd::{AsFd, BorrowedFd};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a guest's standard input comes from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Input {
    /// Always at its end.
    #[default]
    Null,
    /// The host's own. It is read without a buffer, so bytes that `std::io::stdin` has already
    /// taken into its buffer are not seen by the guest.
    Inherit,
    /// Bytes in memory.
    Pipe(ReadPipe),
    /// A file, pipe or terminal of the host.
    File(File),
}

/// Where a guest's standard output or standard error goes.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Output {
    /// Nowhere: every write succeeds.
    #[default]
    Null,
    /// The host's own, without a buffer; what the host has buffered for it goes out first.
    Inherit,
    /// Memory.
    Pipe(WritePipe),
    /// A file, pipe or terminal of the host.
    File(File),
}

impl From<ReadPipe> for Input {
    fn from(pipe: ReadPipe) -> Input {
        Input::Pipe(pipe)
    }
}

impl From<File> for Input {
    fn from(file: File) -> Input {
        Input::File(file)
    }
}

impl From<WritePipe> for Output {
    fn from(pipe: WritePipe) -> Output {
        Output::Pipe(pipe)
    }
}

impl From<File> for Output {
    fn from(file: File) -> Output {
        Output::File(file)
    }
}

/// Bytes that a guest reads as its standard input. Clones are the same pipe.
#[derive(Clone, Default)]
pub struct ReadPipe {
    /// The bytes and how many of them have been read.
    shared: Arc<Mutex<(Vec<u8>, usize)>>,
}

impl ReadPipe {
    /// A pipe that holds `bytes` and then ends.
    pub fn new(bytes: impl Into<Vec<u8>>) -> ReadPipe {
        ReadPipe {
            shared: Arc::new(Mutex::new((bytes.into(), 0))),
        }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        let state = lock(&self.shared);
        state.0.len() - state.1
    }

    /// Moves bytes into `buf`; 0 at the end.
    pub(crate) fn read(&self, buf: &mut [u8]) -> usize {
        let mut state = lock(&self.shared);
        let (bytes, pos) = &mut *state;
        let len = buf.len().min(bytes.len() - *pos);
        buf[..len].copy_from_slice(&bytes[*pos..*pos + len]);
        *pos += len;
        len
    }
}

impl fmt::Debug for ReadPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadPipe")
            .field("remaining", &self.remaining())
            .finish()
    }
}

/// Memory that takes what a guest writes. Clones are the same pipe, so the embedder keeps one and
/// reads it when it likes.
#[derive(Clone)]
pub struct WritePipe {
    shared: Arc<Mutex<Vec<u8>>>,
    max_len: usize,
}

impl WritePipe {
    /// A pipe that takes everything. A guest can make it as large as the host's memory: for guests
    /// that aren't trusted, see [`WritePipe::bounded`].
    pub fn new() -> WritePipe {
        WritePipe::bounded(usize::MAX)
    }

    /// A pipe that holds at most `max_len` bytes; then writes fail with `ENOSPC`.
    pub fn bounded(max_len: usize) -> WritePipe {
        WritePipe {
            shared: Arc::default(),
            max_len,
        }
    }

    /// A copy of what it holds.
    pub fn contents(&self) -> Vec<u8> {
        lock(&self.shared).clone()
    }

    /// What it holds; it is empty afterwards.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.shared))
    }

    /// Appends as much of `buf` as there is room for.
    pub(crate) fn write(&self, buf: &[u8]) -> Result<usize, Errno> {
        let mut bytes = lock(&self.shared);
        let len = buf.len().min(self.max_len.saturating_sub(bytes.len()));
        if len == 0 && !buf.is_empty() {
            return Err(Errno::Nospc);
        }
        bytes.try_reserve(len).map_err(|_| Errno::Nospc)?;
        bytes.extend_from_slice(&buf[..len]);
        Ok(len)
    }
}

impl Default for WritePipe {
    fn default() -> WritePipe {
        WritePipe::new()
    }
}

impl fmt::Debug for WritePipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritePipe")
            .field("len", &lock(&self.shared).len())
            .finish()
    }
}

/// Neither pipe is ever left half changed, so a thread that panicked while holding one did no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The other end of a stream descriptor, as the functions see it.
#[derive(Debug)]
pub(crate) enum Stream {
    Stdin(Input),
    Stdout(Output),
    Stderr(Output),
}

impl Stream {
    pub(crate) fn is_input(&self) -> bool {
        matches!(self, Stream::Stdin(_))
    }

    /// The host's descriptor, where there is one.
    pub(crate) fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Stream::Stdin(Input::Inherit) => Some(rustix::stdio::stdin()),
            Stream::Stdout(Output::Inherit) => Some(rustix::stdio::stdout()),
            Stream::Stderr(Output::Inherit) => Some(rustix::stdio::stderr()),
            Stream::Stdin(Input::File(file))
            | Stream::Stdout(Output::File(file))
            | Stream::Stderr(Output::File(file)) => Some(file.as_fd()),
            Stream::Stdin(Input::Null | Input::Pipe(_))
            | Stream::Stdout(Output::Null | Output::Pipe(_))
            | Stream::Stderr(Output::Null | Output::Pipe(_)) => None,
        }
    }

    /// Sends what the host itself has printed but not yet written, so that the order of the host's
    /// and the guest's lines is that of their making. The host's standard error has no buffer.
    pub(crate) fn flush_host(&self) -> Result<(), Errno> {
        if matches!(self, Stream::Stdout(Output::Inherit)) {
            std::io::stdout().flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_pipe_gives_its_bytes_once_and_then_ends() {
        let pipe = ReadPipe::new("hello");
        let mut buf = [0u8; 3];
        assert_eq!(pipe.read(&mut buf), 3);
        assert_eq!(&buf, b"hel");
        assert_eq!(pipe.clone().read(&mut buf), 2, "a clone is the same pipe");
        assert_eq!(&buf[..2], b"lo");
        assert_eq!(pipe.read(&mut buf), 0);
        assert_eq!(pipe.remaining(), 0);
    }

    #[test]
    fn a_bounded_pipe_takes_what_fits_and_then_refuses() {
        let pipe = WritePipe::bounded(4);
        assert_eq!(pipe.write(b"abc"), Ok(3));
        assert_eq!(pipe.write(b"def"), Ok(1));
        assert_eq!(pipe.write(b"g"), Err(Errno::Nospc));
        assert_eq!(pipe.write(b""), Ok(0));
        assert_eq!(pipe.contents(), b"abcd");
        assert_eq!(pipe.take(), b"abcd");
        assert_eq!(pipe.write(b"g"), Ok(1), "room again");
    }
}
