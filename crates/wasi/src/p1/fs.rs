//! `path_*`: what is done with names below a directory. Every path is resolved by `cap-std`, which
//! does not let it out of the directory it is given with; what may be changed is asked of the
//! directory's descriptor before anything is done.

use crate::blocking::{Guest, Waits};
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{Descriptor, OpenDir, OpenFile};
use crate::p1::clock;
use crate::p1::fd::{self, NewTime};
use crate::p1::layout::{FdFlags, FileType, Filestat, LookupFlags, OFlags, Rights};
use crate::p1::memory::{self, Memory};
use crate::p1::named_pipe;
use crate::path;
use cap_fs_ext::{
    DirExt, FileTypeExt, FollowSymlinks, OpenOptionsFollowExt, OpenOptionsSyncExt, SystemTimeSpec,
};
use cap_std::fs::{Dir, File, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use cap_std::time::{Duration, SystemTime};
use rustix::fd::AsFd;
use rustix::fs::{OFlags as HostOFlags, fstat};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(crate) fn path_create_directory(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    path: u32,
    path_len: u32,
) -> Result<(), Errno> {
    let path = &*path::from_guest(bytes, path, path_len)?;
    let open = ctx.fds.mutable_dir(fd, Rights::PATH_CREATE_DIRECTORY)?;
    Ok(open.dir.create_dir(path)?)
}

pub(crate) fn path_filestat_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    flags: u32,
    path: u32,
    path_len: u32,
    stat: u32,
) -> Result<(), Errno> {
    let flags = LookupFlags::from_guest(flags)?;
    let path = &*path::from_guest(bytes, path, path_len)?;
    let (open, _) = ctx.fds.dir(fd, Rights::PATH_FILESTAT_GET)?;
    let found = if flags.contains(LookupFlags::SYMLINK_FOLLOW) || path::names_dir(path) {
        open.dir.metadata(path)?
    } else {
        open.dir.symlink_metadata(path)?
    };
    if path::names_dir(path) && !found.is_dir() {
        return Err(Errno::Notdir);
    }
    memory::write(bytes, stat, &filestat(&found).to_bytes())
}

fn filestat(found: &Metadata) -> Filestat {
    let filetype = rustix::fs::FileType::from_raw_mode(found.mode());
    Filestat {
        dev: found.dev(),
        ino: found.ino(),
        filetype: FileType::from(filetype),
        nlink: found.nlink(),
        size: found.size(),
        atim: clock::nanos_of(found.atime(), found.atime_nsec()),
        mtim: clock::nanos_of(found.mtime(), found.mtime_nsec()),
        ctim: clock::nanos_of(found.ctime(), found.ctime_nsec()),
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_filestat_set_times(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    flags: u32,
    path: u32,
    path_len: u32,
    atim: u64,
    mtim: u64,
    fst_flags: u32,
) -> Result<(), Errno> {
    let flags = LookupFlags::from_guest(flags)?;
    let times = fd::times_from_guest(atim, mtim, fst_flags)?;
    let path = &*path::from_guest(bytes, path, path_len)?;
    let open = ctx.fds.mutable_dir(fd, Rights::PATH_FILESTAT_SET_TIMES)?;
    let (access, modification) = (to_spec(times.access), to_spec(times.modification));
    if flags.contains(LookupFlags::SYMLINK_FOLLOW) || path::names_dir(path) {
        open.dir.set_times(path, access, modification)?;
    } else {
        open.dir.set_symlink_times(path, access, modification)?;
    }
    Ok(())
}

fn to_spec(time: NewTime) -> Option<SystemTimeSpec> {
    match time {
        NewTime::Keep => None,
        NewTime::Now => Some(SystemTimeSpec::SymbolicNow),
        NewTime::At(nanos) => {
            let epoch = SystemTime::from_std(std::time::UNIX_EPOCH);
            Some(SystemTimeSpec::Absolute(
                epoch + Duration::from_nanos(nanos),
            ))
        }
    }
}

/// Both directories must let the guest change things, the old one too: the new name would otherwise
/// be a way to write to a file that may only be read.
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_link(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    old_fd: u32,
    old_flags: u32,
    old_path: u32,
    old_path_len: u32,
    new_fd: u32,
    new_path: u32,
    new_path_len: u32,
) -> Result<(), Errno> {
    let flags = LookupFlags::from_guest(old_flags)?;
    let old_path = &*path::from_guest(bytes, old_path, old_path_len)?;
    let new_path = &*path::from_guest(bytes, new_path, new_path_len)?;
    let old = ctx.fds.mutable_dir(old_fd, Rights::PATH_LINK_SOURCE)?;
    let new = ctx.fds.mutable_dir(new_fd, Rights::PATH_LINK_TARGET)?;
    if flags.contains(LookupFlags::SYMLINK_FOLLOW) {
        let target = old.dir.canonicalize(old_path)?;
        old.dir.hard_link(target, &new.dir, new_path)?;
    } else {
        old.dir.hard_link(old_path, &new.dir, new_path)?;
    }
    Ok(())
}

/// Of the rights asked for, only reading and writing count, as the access mode of a POSIX `open`.
/// All others that fit the kind of file are granted as far as the directory passes them on: what
/// programs ask for differs from one libc to the next, and no other host refuses it.
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_open(
    guest: &dyn Guest,
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    dirflags: u32,
    path: u32,
    path_len: u32,
    oflags: u32,
    rights_base: u64,
    _rights_inheriting: u64,
    fdflags: u32,
    opened_fd: u32,
) -> Result<(), Errno> {
    memory::range(bytes, opened_fd, 4)?;
    let lookup = LookupFlags::from_guest(dirflags)?;
    let oflags = OFlags::from_guest(oflags)?;
    let fdflags = FdFlags::from_guest(fdflags)?;
    let path = &*path::from_guest(bytes, path, path_len)?;
    let mut needed = Rights::PATH_OPEN;
    if oflags.contains(OFlags::CREAT) {
        needed = needed.union(Rights::PATH_CREATE_FILE);
    }
    if oflags.contains(OFlags::TRUNC) {
        needed = needed.union(Rights::PATH_FILESTAT_SET_SIZE);
    }
    let (open, inheriting) = ctx.fds.dir(fd, needed)?;
    ctx.fds.free()?;

    let directory = oflags.contains(OFlags::DIRECTORY);
    let creating = OFlags::CREAT.union(OFlags::EXCL).union(OFlags::TRUNC);
    if directory && oflags.intersects(creating) {
        return Err(Errno::Inval);
    }
    let asked = Rights(rights_base & inheriting.0);
    let access = Access {
        read: asked.contains(Rights::FD_READ),
        // Some libc ask for the right to write to a directory; it has no meaning there.
        write: asked.contains(Rights::FD_WRITE) && !directory,
    };
    let waits = Waits {
        guest,
        alarm: &ctx.alarm,
    };
    let file = open_host(waits, open, path, lookup, oflags, fdflags, access)?;
    let filetype = fd::filetype_of(&fstat(&file)?);
    let descriptor = if filetype == FileType::Directory {
        let dir = Dir::from_std_file(file.into_std());
        let new = OpenDir {
            dir,
            preopen: None,
            mutable: open.mutable,
            listing: None,
        };
        Descriptor::dir(new, fdflags, inheriting)
    } else {
        if fdflags.contains(FdFlags::APPEND) {
            // Not when opening: `cap-std` won't append to what it truncates.
            fd::set_host_flags(file.as_fd(), fdflags)?;
        }
        let new = OpenFile {
            fd: file.into(),
            filetype,
            readable: access.read,
            writable: access.write,
            mutable: open.mutable,
        };
        Descriptor::file(new, fdflags, inheriting)
    };
    let new = ctx.fds.insert(descriptor)?;
    memory::write_u32(bytes, opened_fd, new)
}

/// What a guest wants to do with the file it opens.
#[derive(Clone, Copy, Debug)]
struct Access {
    read: bool,
    write: bool,
}

/// Opens on the host. `cap-std`, like `std`, creates and truncates only what it opens for writing,
/// which POSIX does not ask for; so a file may be open for more on the host than the guest asked
/// for, and the descriptor's own `readable` and `writable` decide.
fn open_host(
    waits: Waits<'_>,
    open: &OpenDir,
    path: &Path,
    lookup: LookupFlags,
    oflags: OFlags,
    fdflags: FdFlags,
    access: Access,
) -> Result<File, Errno> {
    let follow = if lookup.contains(LookupFlags::SYMLINK_FOLLOW) {
        FollowSymlinks::Yes
    } else {
        FollowSymlinks::No
    };
    let create = oflags.contains(OFlags::CREAT);
    let exclusive = create && oflags.contains(OFlags::EXCL);
    let truncate = oflags.contains(OFlags::TRUNC);

    let mut plain = OpenOptions::new();
    plain
        .follow(follow)
        .read(access.read || !access.write)
        .write(access.write)
        .sync(fdflags.contains(FdFlags::SYNC))
        .dsync(fdflags.contains(FdFlags::DSYNC))
        .rsync(fdflags.contains(FdFlags::RSYNC))
        .nonblock(true);
    if oflags.contains(OFlags::DIRECTORY) {
        plain.custom_flags(HostOFlags::DIRECTORY.bits().cast_signed());
    }
    let only_reads = !access.write && !truncate && !exclusive;
    let open_now = |options: &OpenOptions| {
        let is_pipe = || {
            let found = match follow {
                FollowSymlinks::Yes => open.dir.metadata(path),
                FollowSymlinks::No => open.dir.symlink_metadata(path),
            };
            found.is_ok_and(|found| found.file_type().is_fifo())
        };
        let nonblock = fdflags.contains(FdFlags::NONBLOCK);
        named_pipe::open(waits, nonblock, is_pipe, || {
            Ok(open.dir.open_with(path, options)?)
        })
    };

    if !open.mutable {
        if !only_reads {
            return Err(Errno::Rofs);
        }
        return match open_now(&plain) {
            Err(Errno::Noent) if create => Err(Errno::Rofs),
            other => other,
        };
    }

    let mut full = plain.clone();
    full.write(access.write || create || truncate)
        .truncate(truncate);
    if exclusive {
        full.create_new(true);
    } else {
        full.create(create);
    }
    match open_now(&full) {
        // It is there and may be read but not written, and nobody asked to write.
        Err(Errno::Acces | Errno::Rofs | Errno::Txtbsy) if create && only_reads => open_now(&plain),
        other => other,
    }
}

/// The link's text is cut where the buffer ends, as by `readlink`. An absolute one is refused: it
/// tells of the host and leads nowhere.
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_readlink(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    path: u32,
    path_len: u32,
    buf: u32,
    buf_len: u32,
    bufused: u32,
) -> Result<(), Errno> {
    memory::range(bytes, bufused, 4)?;
    let path = &*path::from_guest(bytes, path, path_len)?;
    let (open, _) = ctx.fds.dir(fd, Rights::PATH_READLINK)?;
    let target = open.dir.read_link(path)?;
    let target = target.as_os_str().as_bytes();
    let len = memory::range(bytes, buf, buf_len.into())?.len();
    let len = len.min(target.len());
    memory::write(bytes, buf, &target[..len])?;
    // At most the buffer's length, which came as 32 bits.
    memory::write_u32(bytes, bufused, len as u32)
}

pub(crate) fn path_remove_directory(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    path: u32,
    path_len: u32,
) -> Result<(), Errno> {
    let path = &*path::from_guest(bytes, path, path_len)?;
    let open = ctx.fds.mutable_dir(fd, Rights::PATH_REMOVE_DIRECTORY)?;
    Ok(open.dir.remove_dir(path::without_slashes(path))?)
}

#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_rename(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    old_fd: u32,
    old_path: u32,
    old_path_len: u32,
    new_fd: u32,
    new_path: u32,
    new_path_len: u32,
) -> Result<(), Errno> {
    let old_path = &*path::from_guest(bytes, old_path, old_path_len)?;
    let new_path = &*path::from_guest(bytes, new_path, new_path_len)?;
    let old = ctx.fds.mutable_dir(old_fd, Rights::PATH_RENAME_SOURCE)?;
    let new = ctx.fds.mutable_dir(new_fd, Rights::PATH_RENAME_TARGET)?;
    // `cap-std` takes the slash off the new name, and the kernel never sees it.
    if path::names_dir(new_path) && !old.dir.symlink_metadata(old_path)?.is_dir() {
        return Err(Errno::Notdir);
    }
    Ok(old.dir.rename(old_path, &new.dir, new_path)?)
}

/// A link with an absolute target is refused, so that a guest can't leave traps for programs of the
/// host that would follow it.
#[allow(
    clippy::too_many_arguments,
    reason = "the signature is the specification's"
)]
pub(crate) fn path_symlink(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    old_path: u32,
    old_path_len: u32,
    fd: u32,
    new_path: u32,
    new_path_len: u32,
) -> Result<(), Errno> {
    let target = &*path::from_guest(bytes, old_path, old_path_len)?;
    let new_path = &*path::from_guest(bytes, new_path, new_path_len)?;
    let open = ctx.fds.mutable_dir(fd, Rights::PATH_SYMLINK)?;
    Ok(DirExt::symlink(&open.dir, target, new_path)?)
}

pub(crate) fn path_unlink_file(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    path: u32,
    path_len: u32,
) -> Result<(), Errno> {
    let path = &*path::from_guest(bytes, path, path_len)?;
    let open = ctx.fds.mutable_dir(fd, Rights::PATH_UNLINK_FILE)?;
    Ok(open.dir.remove_file(path)?)
}

#[cfg(test)]
mod tests;
