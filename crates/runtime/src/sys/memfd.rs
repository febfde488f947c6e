//! Files that live in memory and have no name: what images are mapped from.
//!
//! A mapped file that someone shrinks turns reads into SIGBUS. A file made here can be sealed,
//! after which its length, and where possible its contents, can never change again, not even
//! through our own descriptor. Nothing here is unsafe.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{self, MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Makes a file of `len` zero bytes. `name` only shows up in `/proc/self/maps`; it need not be
/// unique.
pub(crate) fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels since 6.3 can be told to refuse files that might be executed as programs. Ours never
    // are, so say so; older kernels do not know the flag.
    let fd = match fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => fs::memfd_create(name, flags)?,
        made => made?,
    };
    fs::ftruncate(&fd, len)?;
    Ok(fd)
}

/// Fixes the length of `fd` for good, and its contents too unless a shared writable view of it
/// exists.
///
/// Private views can be made and written as before: they never write the file. Shared read-only
/// views of a file with fixed contents need Linux 6.7.
pub(crate) fn seal(fd: &OwnedFd) -> io::Result<()> {
    let length = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    match fs::fcntl_add_seals(fd, length | SealFlags::WRITE) {
        // The kernel refuses all seals of the call together when a writable view stands in the way
        // of one.
        Err(Errno::BUSY) => fs::fcntl_add_seals(fd, length)?,
        sealed => sealed?,
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(fd: &OwnedFd, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let (mut offset, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let written = match rustix::io::pwrite(fd, rest, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        offset += written as u64;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmap::{FileMap, Reservation};
    use crate::sys::page::page_len;

    #[test]
    fn what_is_written_is_read_back_and_the_rest_is_zero() {
        let fd = create("test", 10_000).unwrap();
        write_at(&fd, 5, b"five").unwrap();
        let map = FileMap::map(&fd.into()).unwrap();
        assert_eq!(map.as_slice().len(), 10_000);
        assert_eq!(&map.as_slice()[..10], b"\0\0\0\0\0five\0");
        assert!(map.as_slice()[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_sealed_file_keeps_its_length_and_contents() {
        let fd = create("test", 4096).unwrap();
        seal(&fd).unwrap();
        assert_eq!(fs::ftruncate(&fd, 0), Err(Errno::PERM));
        assert_eq!(fs::ftruncate(&fd, 8192), Err(Errno::PERM));
        assert_eq!(
            write_at(&fd, 0, b"x").unwrap_err().kind(),
            io::ErrorKind::PermissionDenied
        );
        assert_eq!(fs::fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn a_file_with_a_shared_writable_view_is_sealed_in_length_only() {
        let page = page_len();
        let fd = create("test", page as u64).unwrap();
        let view = Reservation::reserve(page).unwrap();
        view.map_file_shared(0, page, &fd, 0, true).unwrap();
        seal(&fd).unwrap();
        assert_eq!(fs::ftruncate(&fd, 0), Err(Errno::PERM));
        write_at(&fd, 0, b"still writable").unwrap();
    }

    #[test]
    fn a_write_behind_the_end_of_a_sealed_file_is_an_error() {
        let fd = create("test", 4096).unwrap();
        fs::fcntl_add_seals(&fd, SealFlags::GROW).unwrap();
        assert!(write_at(&fd, 4096, b"x").is_err());
    }
}
