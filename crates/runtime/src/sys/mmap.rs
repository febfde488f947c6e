//! Address space: ranges that we own, cut into parts with different contents and rights; and files
//! mapped to be read.
//!
//! ```text
//! Reservation   | no access | read, write | a file, private | no access |   one munmap in the end
//!               ^ addr(): every part is named by (offset, len) from here, in whole pages
//! ```
//!
//! A [`Reservation`] hands out raw pointers only, never references. Its methods therefore need no
//! promise from the caller: replacing or protecting pages can surprise nobody but code that
//! dereferences those pointers, and that code owes the proof that the pages are there. What is not
//! here: who uses a range for what (region, stack, code).
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use core::slice;
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};

use super::keys::{self, Key};
use super::page::page_len;

/// A range of address space that belongs to us until this value is dropped.
///
/// Nothing in it can be touched at first. The range costs no memory and no swap: pages that are
/// made accessible later are paid for when they are first written (`MAP_NORESERVE`).
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    len: usize,
    stripes: Option<Stripes>,
}

/// Parts of a range, all of one length and side by side, that have protection keys in turn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stripes {
    /// Offset of the first part.
    pub(crate) first: usize,
    /// Bytes of each.
    pub(crate) stride: usize,
    /// The keys, one at least.
    pub(crate) keys: Vec<Key>,
}

impl Stripes {
    /// The key of `len` bytes at an offset, if they lie in one part.
    pub(crate) fn key(&self, offset: usize, len: usize) -> Option<Key> {
        let at = offset.checked_sub(self.first)?;
        let number = at / self.stride;
        let fits = at % self.stride + len <= self.stride;
        fits.then(|| self.keys[number % self.keys.len()])
    }
}

// SAFETY: I-1. The value is the only owner of its range, and a range of address space belongs to
// the process, not to a thread.
unsafe impl Send for Reservation {}
// SAFETY: methods that take `&self` only call the kernel, which orders changes to the address space
// itself; none of them reads or writes the memory.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves `len` bytes, a positive whole number of pages, at an address of the kernel's
    /// choice.
    pub(crate) fn reserve(len: usize) -> io::Result<Self> {
        if len == 0 || !len.is_multiple_of(page_len()) {
            return Err(invalid(format!(
                "cannot reserve {len} bytes: not a positive whole number of pages"
            )));
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: without MAP_FIXED the kernel picks a range that nobody uses.
        let base = unsafe { mm::mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::other("the kernel mapped a range at address 0"))?;
        Ok(Self {
            base,
            len,
            stripes: None,
        })
    }

    /// Has every part that is made accessible from now on get the key of its stripe. Nothing is accessible yet.
    pub(crate) fn stripe(&mut self, stripes: Stripes) {
        self.stripes = Some(stripes);
    }

    /// The key that a part is to have; `None` without stripes.
    pub(crate) fn key(&self, offset: usize, len: usize) -> io::Result<Option<Key>> {
        let Some(stripes) = &self.stripes else {
            return Ok(None);
        };
        let key = stripes.key(offset, len).ok_or_else(|| {
            invalid(format!(
                "part at {offset:#x} of {len:#x} bytes does not lie in one stripe"
            ))
        })?;
        Ok(Some(key))
    }

    /// The lowest byte of the range. Whether it can be dereferenced depends on what was mapped
    /// there.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// The address of the lowest byte.
    pub(crate) fn addr(&self) -> usize {
        self.base.as_ptr().expose_provenance()
    }

    /// Bytes in the whole range.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes all access from a part. Its contents stay.
    pub(crate) fn protect_none(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, MprotectFlags::empty())
    }

    /// Makes a part readable and nothing else.
    #[cfg(test)]
    pub(crate) fn protect_read(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, MprotectFlags::READ)
    }

    /// Makes a part readable and writable.
    pub(crate) fn protect_read_write(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, MprotectFlags::READ | MprotectFlags::WRITE)
    }

    /// Makes a part readable and executable. No method makes pages writable and executable at once.
    pub(crate) fn protect_read_exec(&self, offset: usize, len: usize) -> io::Result<()> {
        self.protect(offset, len, MprotectFlags::READ | MprotectFlags::EXEC)
    }

    /// Replaces a part by fresh zeroed memory that can be read and written.
    #[cfg(test)]
    pub(crate) fn map_anonymous(&self, offset: usize, len: usize) -> io::Result<()> {
        self.map_fresh(offset, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Replaces a part by fresh pages without any access, and so gives back whatever was mapped
    /// there.
    pub(crate) fn map_none(&self, offset: usize, len: usize) -> io::Result<()> {
        self.map_fresh(offset, len, ProtFlags::empty())
    }

    /// Replaces a part by a copy-on-write view of a file: the file is never written.
    pub(crate) fn map_file_private(
        &self,
        offset: usize,
        len: usize,
        file: impl AsFd,
        file_offset: u64,
        writable: bool,
    ) -> io::Result<()> {
        self.map_file(
            offset,
            len,
            file,
            file_offset,
            rights(writable),
            MapFlags::PRIVATE,
        )
    }

    /// Replaces a part by a shared view of a file: what is written through one view shows in every
    /// other.
    pub(crate) fn map_file_shared(
        &self,
        offset: usize,
        len: usize,
        file: impl AsFd,
        file_offset: u64,
        writable: bool,
    ) -> io::Result<()> {
        self.map_file(
            offset,
            len,
            file,
            file_offset,
            rights(writable),
            MapFlags::SHARED,
        )
    }

    /// Replaces a part by a private view of a file that can be read and executed, and not written.
    pub(crate) fn map_file_exec(
        &self,
        offset: usize,
        len: usize,
        file: impl AsFd,
        file_offset: u64,
    ) -> io::Result<()> {
        let prot = ProtFlags::READ | ProtFlags::EXEC;
        self.map_file(offset, len, file, file_offset, prot, MapFlags::PRIVATE)
    }

    /// Gives the memory of a part back: anonymous pages read as zero again, private pages of a file
    /// as the file. Shared views of a file are left as they are.
    pub(crate) fn decommit(&self, offset: usize, len: usize) -> io::Result<()> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        // SAFETY: the part lies in our own range, of which nobody holds a reference (see the top of
        // this file).
        unsafe { mm::madvise(start, len, Advice::LinuxDontNeed) }?;
        Ok(())
    }

    /// Fills a part with a word; whether anything else was in there.
    ///
    /// # Safety
    ///
    /// - The part can be read and written, and nobody else does meanwhile.
    pub(crate) unsafe fn mark(&mut self, offset: usize, len: usize, mark: u64) -> io::Result<bool> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(false);
        };
        // SAFETY: the part lies in our own range, on page boundaries; the rest is the caller's promise. Memory that was
        // mapped is initialised.
        let words = unsafe { slice::from_raw_parts_mut(start.cast::<u64>(), len / 8) };
        let mut had_other = false;
        for page in words.chunks_exact_mut(page_len() / 8) {
            // Without a way out in the middle, so that it is done in vectors.
            if page.iter().fold(0, |all, word| all | (word ^ mark)) != 0 {
                page.fill(mark);
                had_other = true;
            }
        }
        Ok(had_other)
    }

    /// Has a part never be backed by huge pages, of which one would hold many small things.
    pub(crate) fn refuse_huge_pages(&self, offset: usize, len: usize) -> io::Result<()> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        // SAFETY: the part lies in our own range; nothing of what it holds changes.
        match unsafe { mm::madvise(start, len, Advice::LinuxNoHugepage) } {
            // A kernel without huge pages does not know the advice.
            Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the kernel empty a part in every child that this process forks.
    pub(crate) fn wipe_on_fork(&self, offset: usize, len: usize) -> io::Result<()> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        // SAFETY: the part lies in our own range; nothing of it changes in this process.
        unsafe { mm::madvise(start, len, Advice::LinuxWipeOnFork) }?;
        Ok(())
    }

    fn protect(&self, offset: usize, len: usize, rights: MprotectFlags) -> io::Result<()> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        match self.key(offset, len)? {
            // SAFETY: the part lies in our own range, of which nobody holds a reference (see the top of
            // this file).
            None => unsafe { mm::mprotect(start, len, rights) }?,
            // SAFETY: as above.
            Some(key) => unsafe { keys::protect(start, len, rights, key) }?,
        }
        Ok(())
    }

    fn map_fresh(&self, offset: usize, len: usize, prot: ProtFlags) -> io::Result<()> {
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        self.map_keyed(offset, len, prot, |prot| {
            // SAFETY: MAP_FIXED replaces pages of our own range only, of which nobody holds a
            // reference.
            unsafe { mm::mmap_anonymous(start, len, prot, flags) }?;
            Ok(())
        })
    }

    fn map_file(
        &self,
        offset: usize,
        len: usize,
        file: impl AsFd,
        file_offset: u64,
        prot: ProtFlags,
        sharing: MapFlags,
    ) -> io::Result<()> {
        if !file_offset.is_multiple_of(page_len() as u64) {
            return Err(invalid(format!(
                "cannot map a file from offset {file_offset:#x}: not on a page boundary"
            )));
        }
        let Some(start) = self.part(offset, len)? else {
            return Ok(());
        };
        let flags = sharing | MapFlags::NORESERVE | MapFlags::FIXED;
        self.map_keyed(offset, len, prot, |prot| {
            // SAFETY: MAP_FIXED replaces pages of our own range only, of which nobody holds a
            // reference.
            unsafe { mm::mmap(start, len, prot, flags, &file, file_offset) }?;
            Ok(())
        })
    }

    /// Makes a new mapping. Such a one has key 0, whatever was there before, so in a stripe it is made without any
    /// access, and gets rights and key by one call: at no time can a neighbour reach it.
    fn map_keyed(
        &self,
        offset: usize,
        len: usize,
        prot: ProtFlags,
        map: impl FnOnce(ProtFlags) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.stripes.is_none() || prot.is_empty() {
            return map(prot);
        }
        self.key(offset, len)?;
        map(ProtFlags::empty())?;
        self.protect(offset, len, MprotectFlags::from_bits_retain(prot.bits()))
    }

    /// The start of a part, once it is known to lie inside and on page boundaries; `None` for an
    /// empty part, for which there is nothing to do (and for which `mmap` would fail).
    fn part(&self, offset: usize, len: usize) -> io::Result<Option<*mut c_void>> {
        let page = page_len();
        if !offset.is_multiple_of(page) || !len.is_multiple_of(page) {
            return Err(invalid(format!(
                "part at {offset:#x} of {len:#x} bytes is not in whole pages"
            )));
        }
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(invalid(format!(
                "part at {offset:#x} of {len:#x} bytes leaves its reservation of {:#x} bytes",
                self.len
            )));
        }
        Ok((len != 0).then(|| self.base.as_ptr().wrapping_add(offset).cast()))
    }
}

/// Makes a range of whole pages accessible from within a signal handler; whether that went well.
///
/// # Safety
///
/// - The range is of a reservation that lives, and no code relies on faulting there.
pub(crate) unsafe fn open_in_handler(range: &Range<usize>) -> bool {
    let start = ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the caller's promise; the call is a bare system call, which takes no lock in the process.
    unsafe { libc::mprotect(start, range.len(), libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: I-1. The range is ours, and the owner of this value lets go of it only when
        // nothing uses the range any more.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(
            unmapped.is_ok(),
            "a range of our own can be unmapped: {unmapped:?}"
        );
    }
}

/// A whole file, mapped to be read.
///
/// The bytes are what the file holds at the time they are looked at. Whoever writes to the file
/// while it is mapped may change them, and who truncates it makes the next read of a missing page
/// end in SIGBUS. So a file is mapped only where its owner is trusted not to do so, and replaced by
/// renaming a new one over it.
#[derive(Debug)]
pub(crate) struct FileMap {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read-only and owned by this value alone; reading it needs no particular
// thread.
unsafe impl Send for FileMap {}
// SAFETY: as above; there is nothing to write.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps the whole of `file`, as long as it is now.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let len = usize::try_from(len)
            .ok()
            .filter(|len| isize::try_from(*len).is_ok())
            .ok_or_else(|| invalid(format!("a file of {len} bytes is too long to map")))?;
        if len == 0 {
            return Ok(Self {
                base: NonNull::dangling(),
                len,
            });
        }
        // SAFETY: without MAP_FIXED the kernel picks a range that nobody uses.
        let base = unsafe {
            mm::mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                file,
                0,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::other("the kernel mapped a file at address 0"))?;
        Ok(Self { base, len })
    }

    /// The bytes of the file.
    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes from `base` are mapped readable for as long as this value lives, and
        // no code of ours writes the file; that nobody else does is asked of whoever names the file
        // (see the type).
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: the mapping is ours, and every slice of it borrowed this value.
        let unmapped = unsafe { mm::munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(
            unmapped.is_ok(),
            "a mapping of our own can be unmapped: {unmapped:?}"
        );
    }
}

fn rights(writable: bool) -> ProtFlags {
    if writable {
        ProtFlags::READ | ProtFlags::WRITE
    } else {
        ProtFlags::READ
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests;
