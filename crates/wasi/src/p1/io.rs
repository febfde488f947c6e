//! `fd_read`, `fd_pread`, `fd_write` and `fd_pwrite`: bytes between descriptors and guest memory,
//! without a copy in between.
//!
//! A regular file is read until a call comes back short. Anything else is asked once: where the
//! next bytes have not come yet, asking again would wait though there is already something to
//! return.

use crate::blocking;
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{Descriptor, OpenFile, Target};
use crate::p1::layout::{FdFlags, FileType, Rights};
use crate::p1::memory::{self, BATCH, Buffers};
use crate::stdio::{Input, Output, Stream};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use std::io::{IoSlice, IoSliceMut};

/// The most bytes that one call moves: what Linux allows, and a number that guests whose sizes are
/// signed 32-bit can return.
const MAX_TRANSFER: usize = 0x7fff_f000;

pub(crate) fn fd_read(
    ctx: &mut WasiCtx,
    bytes: &mut [u8],
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    nread: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nread, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let nonblock = descriptor.flags.contains(FdFlags::NONBLOCK);
    let len = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Isdir),
        Target::File(file) => {
            let file = readable(descriptor, file, Rights::FD_READ)?;
            let (once, nonblock) = waits(file, nonblock);
            scatter(bytes, iovs, iovs_len, once, |slices, _| {
                blocking::transfer(file.fd.as_fd(), PollFlags::IN, nonblock, || {
                    rustix::io::readv(&file.fd, slices)
                })
            })?
        }
        Target::Stream(stream) => {
            if !stream.is_input() {
                return Err(Errno::Badf);
            }
            descriptor.require(Rights::FD_READ)?;
            scatter(bytes, iovs, iovs_len, true, |slices, _| {
                read_stream(stream, nonblock, slices)
            })?
        }
    };
    memory::write_u32(bytes, nread, len)
}

pub(crate) fn fd_pread(
    ctx: &mut WasiCtx,
    bytes: &mut [u8],
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    offset: u64,
    nread: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nread, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let file = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Isdir),
        Target::Stream(_) => return Err(Errno::Spipe),
        Target::File(file) => file,
    };
    readable(descriptor, file, Rights::FD_READ.union(Rights::FD_SEEK))?;
    let len = scatter(bytes, iovs, iovs_len, false, |slices, done| {
        let at = offset.checked_add(done as u64).ok_or(Errno::Inval)?;
        Ok(blocking::retry(|| {
            rustix::io::preadv(&file.fd, slices, at)
        })?)
    })?;
    memory::write_u32(bytes, nread, len)
}

pub(crate) fn fd_write(
    ctx: &mut WasiCtx,
    bytes: &mut [u8],
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    nwritten: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nwritten, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let nonblock = descriptor.flags.contains(FdFlags::NONBLOCK);
    let len = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Badf),
        Target::File(file) => {
            let file = writable(descriptor, file, Rights::FD_WRITE)?;
            let (_, nonblock) = waits(file, nonblock);
            gather(bytes, iovs, iovs_len, nonblock, |slices, _| {
                blocking::transfer(file.fd.as_fd(), PollFlags::OUT, nonblock, || {
                    rustix::io::writev(&file.fd, slices)
                })
            })?
        }
        Target::Stream(stream) => {
            if stream.is_input() {
                return Err(Errno::Badf);
            }
            descriptor.require(Rights::FD_WRITE)?;
            stream.flush_host()?;
            gather(bytes, iovs, iovs_len, nonblock, |slices, _| {
                write_stream(stream, nonblock, slices)
            })?
        }
    };
    memory::write_u32(bytes, nwritten, len)
}

/// On a file in append mode Linux writes at the end whatever the offset says, and so does this.
pub(crate) fn fd_pwrite(
    ctx: &mut WasiCtx,
    bytes: &mut [u8],
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    offset: u64,
    nwritten: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nwritten, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let file = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Badf),
        Target::Stream(_) => return Err(Errno::Spipe),
        Target::File(file) => file,
    };
    writable(descriptor, file, Rights::FD_WRITE.union(Rights::FD_SEEK))?;
    let len = gather(bytes, iovs, iovs_len, false, |slices, done| {
        let at = offset.checked_add(done as u64).ok_or(Errno::Inval)?;
        Ok(blocking::retry(|| {
            rustix::io::pwritev(&file.fd, slices, at)
        })?)
    })?;
    memory::write_u32(bytes, nwritten, len)
}

/// A file opened without reading is a bad descriptor to read from, as in POSIX; one whose right was
/// taken away later says so.
fn readable<'f>(
    descriptor: &Descriptor,
    file: &'f OpenFile,
    rights: Rights,
) -> Result<&'f OpenFile, Errno> {
    if !file.readable {
        return Err(Errno::Badf);
    }
    descriptor.require(rights)?;
    Ok(file)
}

fn writable<'f>(
    descriptor: &Descriptor,
    file: &'f OpenFile,
    rights: Rights,
) -> Result<&'f OpenFile, Errno> {
    if !file.writable {
        return Err(Errno::Badf);
    }
    descriptor.require(rights)?;
    Ok(file)
}

/// Whether the file is asked only once, and whether `NONBLOCK` matters: regular files are always
/// ready.
fn waits(file: &OpenFile, nonblock: bool) -> (bool, bool) {
    let regular = file.filetype == FileType::RegularFile;
    (!regular, nonblock && !regular)
}

fn read_stream(
    stream: &Stream,
    nonblock: bool,
    slices: &mut [IoSliceMut<'_>],
) -> Result<usize, Errno> {
    if let Some(fd) = stream.host_fd() {
        return blocking::transfer(fd, PollFlags::IN, nonblock, || {
            rustix::io::readv(fd, slices)
        });
    }
    match stream {
        Stream::Stdin(Input::Pipe(pipe)) => {
            Ok(slices.iter_mut().map(|slice| pipe.read(slice)).sum())
        }
        _ => Ok(0),
    }
}

fn write_stream(stream: &Stream, nonblock: bool, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    if let Some(fd) = stream.host_fd() {
        return blocking::transfer(fd, PollFlags::OUT, nonblock, || {
            rustix::io::writev(fd, slices)
        });
    }
    match stream {
        Stream::Stdout(Output::Pipe(pipe)) | Stream::Stderr(Output::Pipe(pipe)) => {
            let mut written = 0;
            for slice in slices {
                match pipe.write(slice) {
                    Ok(len) => written += len,
                    Err(error) if written == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(written)
        }
        _ => Ok(slices.iter().map(|slice| slice.len()).sum()),
    }
}

/// Fills the guest's buffers with what `read` gives, which is told how much came before. Stops at
/// the first call that comes back short, or after one if `once`. An error after some bytes have
/// come is kept for the next call: the bytes count.
fn scatter(
    bytes: &mut [u8],
    iovs: u32,
    iovs_len: u32,
    once: bool,
    mut read: impl FnMut(&mut [IoSliceMut<'_>], usize) -> Result<usize, Errno>,
) -> Result<u32, Errno> {
    let buffers = Buffers::new(bytes, iovs, iovs_len)?;
    let mut total = 0;
    let mut from = 0;
    let result = loop {
        let batch = match buffers.batch(bytes, from, MAX_TRANSFER - total) {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        from = batch.next;
        let wanted;
        let got = match bytes.get_disjoint_mut(batch.padded()) {
            Ok(slices) => {
                wanted = batch.len();
                let mut slices = slices.map(IoSliceMut::new);
                read(&mut slices[..batch.ranges().len()], total)
            }
            // The guest's buffers overlap, which is its own affair: one after the other, of which
            // the first is enough for this call.
            Err(_) => {
                let range = batch.ranges()[0].clone();
                wanted = usize::MAX;
                read(&mut [IoSliceMut::new(&mut bytes[range])], total)
            }
        };
        match got {
            Ok(len) => {
                total += len;
                if once || len < wanted {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    finish(total, result)
}

/// Takes the guest's buffers to `write`, likewise. With `small`, no more than what a pipe that has
/// reported room takes without waiting.
fn gather(
    bytes: &[u8],
    iovs: u32,
    iovs_len: u32,
    small: bool,
    mut write: impl FnMut(&[IoSlice<'_>], usize) -> Result<usize, Errno>,
) -> Result<u32, Errno> {
    let buffers = Buffers::new(bytes, iovs, iovs_len)?;
    let max = if small {
        blocking::NONBLOCKING_WRITE
    } else {
        MAX_TRANSFER
    };
    let mut total = 0;
    let mut from = 0;
    let result = loop {
        let batch = match buffers.batch(bytes, from, max - total) {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        from = batch.next;
        let mut slices = [IoSlice::new(&[]); BATCH];
        for (slice, range) in slices.iter_mut().zip(batch.ranges()) {
            *slice = IoSlice::new(&bytes[range.clone()]);
        }
        match write(&slices[..batch.ranges().len()], total) {
            Ok(len) => {
                total += len;
                if len < batch.len() {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    finish(total, result)
}

fn finish(total: usize, result: Result<(), Errno>) -> Result<u32, Errno> {
    match result {
        Err(error) if total == 0 => Err(error),
        // At most MAX_TRANSFER.
        _ => u32::try_from(total).map_err(|_| Errno::Overflow),
    }
}

#[cfg(test)]
mod tests;
