//! The text of a module, mapped so that it can be executed and no longer written.
//!
//! Pages are never writable and executable at once. What the text is, and that it is worth running,
//! is the caller's business.
#![allow(unsafe_code, reason = "room R4, SAFETY.md")]

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr;

use crate::sys::mmap::Reservation;
use crate::sys::page::PageLen;

/// What fills the last page behind the text: `int3` on x86-64, one byte long, so that it stops a
/// stray jump anywhere.
const FILL: u8 = 0xCC;

/// Executable text. Dropping it unmaps it (I-4).
#[derive(Debug)]
pub(crate) struct CodeMapping {
    memory: Reservation,
    len: usize,
}

impl CodeMapping {
    /// Copies `text` to pages of its own.
    pub(crate) fn from_bytes(text: &[u8]) -> io::Result<Self> {
        let memory = reserve(text.len())?;
        let (base, mapped_len) = (memory.base(), memory.len());
        memory.protect_read_write(0, mapped_len)?;
        // SAFETY: the pages were just made writable, nobody else knows of them, and there are at
        // least as many bytes as in `text`.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), base, text.len()) };
        let rest = base.wrapping_add(text.len());
        // SAFETY: as above, for the bytes from the end of the text to the end of the pages.
        unsafe { ptr::write_bytes(rest, FILL, mapped_len - text.len()) };
        memory.protect_read_exec(0, mapped_len)?;
        Ok(Self {
            memory,
            len: text.len(),
        })
    }

    /// Maps `len` bytes of a file from `file_offset` on, which lies on a page boundary. Processes
    /// that map the same file share the memory.
    ///
    /// The file must not be written as long as the mapping lives: pages that were not touched yet
    /// would change with it. What stands in the file behind the text, up to the next page boundary,
    /// is executable too, but outside [`Self::range`].
    pub(crate) fn from_file(file: impl AsFd, file_offset: u64, len: usize) -> io::Result<Self> {
        // Without this check, text behind the end of the file would be a SIGBUS waiting to be
        // executed (D-13).
        let file_len = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        if file_offset
            .checked_add(len as u64)
            .is_none_or(|end| end > file_len)
        {
            let message = format!(
                "text of {len} bytes at {file_offset:#x} leaves its file of {file_len} bytes"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        if len == 0 {
            return Self::from_bytes(&[]);
        }
        let memory = reserve(len)?;
        memory.map_file_exec(0, memory.len(), file, file_offset)?;
        Ok(Self { memory, len })
    }

    /// The first byte of the text.
    pub(crate) fn base(&self) -> *const u8 {
        self.memory.base()
    }

    /// Bytes of text.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The addresses of the text, without what fills its last page.
    pub(crate) fn range(&self) -> Range<usize> {
        let start = self.memory.addr();
        start..start + self.len
    }
}

/// Address space for `len` bytes, at least a page, so that even empty text has an address of its
/// own.
fn reserve(len: usize) -> io::Result<Reservation> {
    let len = PageLen::round_up(len.max(1)).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("text of {len} bytes exceeds the address space"),
        )
    })?;
    Reservation::reserve(len.get())
}

#[cfg(test)]
mod tests;
