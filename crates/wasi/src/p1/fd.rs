//! `fd_*` but for bytes (`io.rs`) and listings (`readdir.rs`): what a descriptor is, where it
//! stands, and what becomes of it.

use crate::blocking;
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{Descriptor, OpenFile, Target};
use crate::p1::clock;
use crate::p1::layout::{self, FdFlags, FileType, Filestat, FstFlags, Rights, fdstat};
use crate::p1::memory::{self, Memory};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    Advice, FallocateFlags, OFlags as HostOFlags, SeekFrom, Stat, Timestamps, fadvise, fallocate,
    fcntl_getfl, fcntl_setfl, fdatasync, fstat, fsync, ftruncate, futimens, seek,
};
use std::num::NonZeroU64;

/// A file, for what only files can do. Streams can't be sought and directories have no bytes.
fn file(descriptor: &Descriptor, rights: Rights) -> Result<&OpenFile, Errno> {
    match &descriptor.target {
        Target::File(file) => {
            descriptor.require(rights)?;
            Ok(file)
        }
        Target::Stream(_) => Err(Errno::Spipe),
        Target::Dir(_) => Err(Errno::Badf),
    }
}

/// The host descriptor behind it, where there is one.
pub(crate) fn host_fd(descriptor: &Descriptor) -> Option<BorrowedFd<'_>> {
    match &descriptor.target {
        Target::Stream(stream) => stream.host_fd(),
        Target::File(file) => Some(file.fd.as_fd()),
        Target::Dir(open) => Some(open.dir.as_fd()),
    }
}

pub(crate) fn fd_advise(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    offset: u64,
    len: u64,
    advice: u32,
) -> Result<(), Errno> {
    let advice = match advice {
        0 => Advice::Normal,
        1 => Advice::Sequential,
        2 => Advice::Random,
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        5 => Advice::NoReuse,
        _ => return Err(Errno::Inval),
    };
    let file = file(ctx.fds.get(fd)?, Rights::FD_ADVISE)?;
    if offset
        .checked_add(len)
        .is_none_or(|end| i64::try_from(end).is_err())
    {
        return Err(Errno::Inval);
    }
    Ok(fadvise(&file.fd, offset, NonZeroU64::new(len), advice)?)
}

pub(crate) fn fd_allocate(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    let file = file(descriptor, Rights::default())?;
    if !file.writable {
        return Err(Errno::Badf);
    }
    descriptor.require(Rights::FD_ALLOCATE)?;
    if len == 0 {
        return Err(Errno::Inval);
    }
    Ok(blocking::retry(|| {
        fallocate(&file.fd, FallocateFlags::empty(), offset, len)
    })?)
}

/// Any descriptor may be closed, the standard streams and the preopened directories too. The host's
/// own streams stay open for the host.
pub(crate) fn fd_close(ctx: &mut WasiCtx, _bytes: &mut dyn Memory, fd: u32) -> Result<(), Errno> {
    ctx.fds.remove(fd).map(drop)
}

pub(crate) fn fd_datasync(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    descriptor.require(Rights::FD_DATASYNC)?;
    match host_fd(descriptor) {
        Some(host) => Ok(blocking::retry(|| fdatasync(host))?),
        None => Err(Errno::Inval),
    }
}

pub(crate) fn fd_sync(ctx: &mut WasiCtx, _bytes: &mut dyn Memory, fd: u32) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    descriptor.require(Rights::FD_SYNC)?;
    match host_fd(descriptor) {
        Some(host) => Ok(blocking::retry(|| fsync(host))?),
        None => Err(Errno::Inval),
    }
}

pub(crate) fn fd_fdstat_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    stat: u32,
) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    let filetype = match &descriptor.target {
        Target::File(file) => file.filetype,
        Target::Dir(_) => FileType::Directory,
        // libc takes a character device that can't be sought for a terminal, and streams never
        // have the right to seek.
        Target::Stream(_) => match host_fd(descriptor) {
            Some(host) => filetype_of(&fstat(host)?),
            None => FileType::Unknown,
        },
    };
    let found = fdstat(
        filetype,
        descriptor.flags,
        descriptor.rights,
        descriptor.inheriting,
    );
    memory::write(bytes, stat, &found)
}

/// `APPEND` and `NONBLOCK` can be changed. The three that ask for synchronous writes are fixed when
/// a file is opened, since Linux can't change them later: to ask for another is `ENOTSUP`, not a
/// promise that isn't kept.
pub(crate) fn fd_fdstat_set_flags(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    flags: u32,
) -> Result<(), Errno> {
    let flags = FdFlags::from_guest(flags)?;
    let descriptor = ctx.fds.get_mut(fd)?;
    descriptor.require(Rights::FD_FDSTAT_SET_FLAGS)?;
    let fixed = FdFlags::DSYNC.union(FdFlags::RSYNC).union(FdFlags::SYNC);
    if flags.0 & fixed.0 != descriptor.flags.0 & fixed.0 {
        return Err(Errno::Notsup);
    }
    // A stream's host descriptor may be shared with other processes, so its flags are not touched:
    // `NONBLOCK` is acted out in `blocking.rs`.
    if let Target::File(file) = &descriptor.target {
        set_host_flags(file.fd.as_fd(), flags)?;
    }
    descriptor.flags = flags;
    Ok(())
}

/// Brings the host's flags of a file that the guest opened in line with the guest's, but for `NONBLOCK`: no call of the
/// host's may wait in the kernel (`named_pipe.rs`), and what a guest's waits for is in `blocking.rs`.
pub(crate) fn set_host_flags(fd: BorrowedFd<'_>, flags: FdFlags) -> Result<(), Errno> {
    let mut host = fcntl_getfl(fd)?;
    host.set(HostOFlags::APPEND, flags.contains(FdFlags::APPEND));
    Ok(fcntl_setfl(fd, host)?)
}

pub(crate) fn fd_fdstat_set_rights(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    base: u64,
    inheriting: u64,
) -> Result<(), Errno> {
    let base = Rights::from_guest(base)?;
    let inheriting = Rights::from_guest(inheriting)?;
    let descriptor = ctx.fds.get_mut(fd)?;
    if !descriptor.rights.contains(base) || !descriptor.inheriting.contains(inheriting) {
        return Err(Errno::Notcapable);
    }
    descriptor.rights = base;
    descriptor.inheriting = inheriting;
    Ok(())
}

pub(crate) fn fd_filestat_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    stat: u32,
) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    descriptor.require(Rights::FD_FILESTAT_GET)?;
    let found = match host_fd(descriptor) {
        Some(host) => filestat(&fstat(host)?),
        None => Filestat::NOTHING,
    };
    memory::write(bytes, stat, &found.to_bytes())
}

pub(crate) fn fd_filestat_set_size(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    size: u64,
) -> Result<(), Errno> {
    let descriptor = ctx.fds.get(fd)?;
    let Target::File(file) = &descriptor.target else {
        return Err(Errno::Inval);
    };
    if !file.writable {
        return Err(Errno::Inval);
    }
    descriptor.require(Rights::FD_FILESTAT_SET_SIZE)?;
    Ok(blocking::retry(|| ftruncate(&file.fd, size))?)
}

pub(crate) fn fd_filestat_set_times(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    atim: u64,
    mtim: u64,
    flags: u32,
) -> Result<(), Errno> {
    let times = times_from_guest(atim, mtim, flags)?;
    let descriptor = ctx.fds.get(fd)?;
    let mutable = match &descriptor.target {
        Target::Stream(_) => return Err(Errno::Inval),
        Target::File(file) => file.mutable,
        Target::Dir(open) => open.mutable,
    };
    descriptor.require(Rights::FD_FILESTAT_SET_TIMES)?;
    if !mutable {
        return Err(Errno::Rofs);
    }
    match host_fd(descriptor) {
        Some(host) => Ok(futimens(host, &times.to_host())?),
        None => Err(Errno::Inval),
    }
}

pub(crate) fn fd_prestat_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    prestat: u32,
) -> Result<(), Errno> {
    let name = preopen_name(ctx, fd)?;
    let len = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
    memory::write(bytes, prestat, &layout::prestat_dir(len))
}

pub(crate) fn fd_prestat_dir_name(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    path: u32,
    path_len: u32,
) -> Result<(), Errno> {
    let name = preopen_name(ctx, fd)?;
    if memory::range(bytes, path, path_len.into())?.len() < name.len() {
        return Err(Errno::Nametoolong);
    }
    memory::write(bytes, path, name.as_bytes())
}

/// libc asks from 3 on and takes `EBADF` as the end of the list, so that is the answer for every
/// descriptor that is not preopened, open or not.
fn preopen_name(ctx: &WasiCtx, fd: u32) -> Result<&str, Errno> {
    match &ctx.fds.get(fd)?.target {
        Target::Dir(open) => open.preopen.as_deref().ok_or(Errno::Badf),
        _ => Err(Errno::Badf),
    }
}

pub(crate) fn fd_renumber(
    ctx: &mut WasiCtx,
    _bytes: &mut dyn Memory,
    fd: u32,
    to: u32,
) -> Result<(), Errno> {
    ctx.fds.renumber(fd, to)
}

pub(crate) fn fd_seek(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    offset: i64,
    whence: u32,
    new_offset: u32,
) -> Result<(), Errno> {
    memory::range(bytes, new_offset, 8)?;
    // Asking where one is needs less than moving.
    let rights = if (offset, whence) == (0, 1) {
        Rights::FD_TELL
    } else {
        Rights::FD_SEEK
    };
    let file = file(ctx.fds.get(fd)?, rights)?;
    let to = match whence {
        0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::Inval)?),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        _ => return Err(Errno::Inval),
    };
    let at = seek(&file.fd, to)?;
    memory::write_u64(bytes, new_offset, at)
}

pub(crate) fn fd_tell(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    offset: u32,
) -> Result<(), Errno> {
    let file = file(ctx.fds.get(fd)?, Rights::FD_TELL)?;
    let at = seek(&file.fd, SeekFrom::Current(0))?;
    memory::write_u64(bytes, offset, at)
}

/// The attributes of a host file as preview 1 gives them.
pub(crate) fn filestat(stat: &Stat) -> Filestat {
    // The fields' types differ between architectures.
    #[allow(clippy::unnecessary_cast, reason = "u32 on some architectures")]
    Filestat {
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        filetype: filetype_of(stat),
        nlink: stat.st_nlink as u64,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        atim: clock::nanos_of(stat.st_atime as i64, stat.st_atime_nsec as i64),
        mtim: clock::nanos_of(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        ctim: clock::nanos_of(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    }
}

pub(crate) fn filetype_of(stat: &Stat) -> FileType {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).into()
}

/// What to do with the two times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewTimes {
    pub(crate) access: NewTime,
    pub(crate) modification: NewTime,
}

/// What to do with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewTime {
    Keep,
    Now,
    /// Nanoseconds since 1970.
    At(u64),
}

/// A time can't be set both to now and to a value.
pub(crate) fn times_from_guest(atim: u64, mtim: u64, flags: u32) -> Result<NewTimes, Errno> {
    let flags = FstFlags::from_guest(flags)?;
    let pick = |value, at, now| match (flags.contains(at), flags.contains(now)) {
        (true, true) => Err(Errno::Inval),
        (true, false) => Ok(NewTime::At(value)),
        (false, true) => Ok(NewTime::Now),
        (false, false) => Ok(NewTime::Keep),
    };
    Ok(NewTimes {
        access: pick(atim, FstFlags::ATIM, FstFlags::ATIM_NOW)?,
        modification: pick(mtim, FstFlags::MTIM, FstFlags::MTIM_NOW)?,
    })
}

impl NewTimes {
    fn to_host(self) -> Timestamps {
        Timestamps {
            last_access: self.access.to_host(),
            last_modification: self.modification.to_host(),
        }
    }
}

impl NewTime {
    fn to_host(self) -> rustix::fs::Timespec {
        let (tv_sec, tv_nsec) = match self {
            NewTime::Keep => (0, rustix::fs::UTIME_OMIT),
            NewTime::Now => (0, rustix::fs::UTIME_NOW),
            NewTime::At(nanos) => (
                (nanos / 1_000_000_000).cast_signed(),
                (nanos % 1_000_000_000).cast_signed(),
            ),
        };
        rustix::fs::Timespec { tv_sec, tv_nsec }
    }
}

#[cfg(test)]
mod tests;
