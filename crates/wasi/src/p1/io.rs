//! `fd_read`, `fd_pread`, `fd_write` and `fd_pwrite`: bytes between descriptors and guest memory. How they
//! get there is in `transfer`.
//!
//! A regular file is always ready, and is read until a call comes back short. Anything else is asked once: where the
//! next bytes have not come yet, asking again would wait though there is already something to
//! return.

use crate::blocking::{self, Guest, Waits};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{Descriptor, OpenFile, Target};
use crate::p1::layout::{FdFlags, FileType, Rights};
use crate::p1::memory::{self, Memory};
use crate::p1::transfer::{gather, scatter};
use crate::stdio::{Input, Output, Stream};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use std::io::{IoSlice, IoSliceMut};

pub(crate) fn fd_read(
    guest: &dyn Guest,
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    nread: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nread, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let waits = Waits {
        guest,
        alarm: &ctx.alarm,
    };
    let nonblock = descriptor.flags.contains(FdFlags::NONBLOCK);
    let len = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Isdir),
        Target::File(file) => {
            let file = readable(descriptor, file, Rights::FD_READ)?;
            let regular = file.filetype == FileType::RegularFile;
            scatter(bytes, iovs, iovs_len, !regular, |slices, _| {
                let read = || rustix::io::readv(&file.fd, slices);
                if regular {
                    return Ok(blocking::retry(read)?);
                }
                blocking::transfer(waits, file.fd.as_fd(), PollFlags::IN, nonblock, read)
            })?
        }
        Target::Stream(stream) => {
            if !stream.is_input() {
                return Err(Errno::Badf);
            }
            descriptor.require(Rights::FD_READ)?;
            scatter(bytes, iovs, iovs_len, true, |slices, _| {
                read_stream(stream, waits, nonblock, slices)
            })?
        }
    };
    memory::write_u32(bytes, nread, len)
}

pub(crate) fn fd_pread(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
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
    guest: &dyn Guest,
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    iovs: u32,
    iovs_len: u32,
    nwritten: u32,
) -> Result<(), Errno> {
    memory::range(bytes, nwritten, 4)?;
    let descriptor = ctx.fds.get(fd)?;
    let waits = Waits {
        guest,
        alarm: &ctx.alarm,
    };
    let nonblock = descriptor.flags.contains(FdFlags::NONBLOCK);
    let len = match &descriptor.target {
        Target::Dir(_) => return Err(Errno::Badf),
        Target::File(file) => {
            let file = writable(descriptor, file, Rights::FD_WRITE)?;
            let regular = file.filetype == FileType::RegularFile;
            gather(bytes, iovs, iovs_len, nonblock && !regular, |slices, _| {
                if regular {
                    return Ok(blocking::retry(|| rustix::io::writev(&file.fd, slices))?);
                }
                blocking::write(waits, file.fd.as_fd(), nonblock, slices)
            })?
        }
        Target::Stream(stream) => {
            if stream.is_input() {
                return Err(Errno::Badf);
            }
            descriptor.require(Rights::FD_WRITE)?;
            stream.flush_host()?;
            gather(bytes, iovs, iovs_len, nonblock, |slices, _| {
                write_stream(stream, waits, nonblock, slices)
            })?
        }
    };
    memory::write_u32(bytes, nwritten, len)
}

/// On a file in append mode Linux writes at the end whatever the offset says, and so does this.
pub(crate) fn fd_pwrite(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
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

fn read_stream(
    stream: &Stream,
    waits: Waits<'_>,
    nonblock: bool,
    slices: &mut [IoSliceMut<'_>],
) -> Result<usize, Errno> {
    if let Some(fd) = stream.host_fd() {
        return blocking::transfer(waits, fd, PollFlags::IN, nonblock, || {
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

fn write_stream(
    stream: &Stream,
    waits: Waits<'_>,
    nonblock: bool,
    slices: &[IoSlice<'_>],
) -> Result<usize, Errno> {
    if let Some(fd) = stream.host_fd() {
        return blocking::write(waits, fd, nonblock, slices);
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

#[cfg(test)]
mod tests;
