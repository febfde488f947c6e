//! The bytes of a shared memory: one reservation, one length for all who have it, and accesses that
//! tolerate writers on other threads.
//!
//! No slice of these bytes is ever made. The host reads and writes them by atomic instructions, whole
//! words where alignment allows; what races with a guest is a value of no particular meaning, never more
//! (I-40).
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::context::VMMemoryDefinition;
use crate::region::layout::round_up_to_page;
use crate::sys::mmap::Reservation;

/// What generated code reads of a shared memory: a `VMMemoryDefinition` whose length may change under it.
#[derive(Debug)]
#[repr(C)]
struct Definition {
    base: usize,
    len: AtomicU64,
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Definition, base) == offset_of!(VMMemoryDefinition, base));
    assert!(offset_of!(Definition, len) == offset_of!(VMMemoryDefinition, len));
    assert!(size_of::<Definition>() == size_of::<VMMemoryDefinition>());
};

/// Bytes that several threads have at the same time. They neither move nor shrink.
#[derive(Debug)]
pub(crate) struct SharedBytes {
    /// Boxed: generated code holds its address.
    definition: Box<Definition>,
    space: Reservation,
    growing: Mutex<()>,
}

/// Bytes of a word that is copied at once.
const WORD: usize = size_of::<u64>();
/// Bytes that a copy between two shared memories holds at a time.
const CHUNK: usize = 4096;

impl SharedBytes {
    /// Reserves address space and makes the first `len` bytes of it accessible; they are zero.
    pub(crate) fn reserve(reserved_len: usize, len: usize) -> io::Result<Self> {
        let space = Reservation::reserve(reserved_len)?;
        space.protect_read_write(0, round_up_to_page(len))?;
        let definition = Box::new(Definition {
            base: space.base().expose_provenance(),
            len: AtomicU64::new(len as u64),
        });
        Ok(Self {
            definition,
            space,
            growing: Mutex::default(),
        })
    }

    /// Address of byte 0.
    pub(crate) fn addr(&self) -> usize {
        self.definition.base
    }

    /// Address of what generated code reads.
    pub(crate) fn definition_addr(&self) -> usize {
        (&raw const *self.definition).expose_provenance()
    }

    /// Its address space.
    pub(crate) fn range(&self) -> Range<usize> {
        self.space.addr()..self.space.addr() + self.space.len()
    }

    /// Accessible bytes.
    pub(crate) fn len(&self) -> u64 {
        self.definition.len.load(Ordering::SeqCst)
    }

    /// Lets `next` say how long the memory becomes, given how long it is, and makes it so; the former
    /// length. Threads that grow it come one after the other.
    pub(crate) fn grow(&self, next: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.len();
        let new = next(old).filter(|&new| new >= old)?;
        let (from, to) = (
            round_up_to_page(old as usize),
            round_up_to_page(new as usize),
        );
        if to > from {
            self.space.protect_read_write(from, to - from).ok()?;
        }
        // Whoever reads the new length finds the bytes accessible.
        self.definition.len.store(new, Ordering::SeqCst);
        Some(old)
    }

    /// The address of `len` bytes that are inside.
    fn at(&self, at: u64, len: u64) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        (end <= self.len()).then(|| self.space.base().wrapping_add(at as usize))
    }

    fn byte(&self, at: u64) -> Option<&AtomicU8> {
        let at = self.at(at, 1)?;
        // SAFETY: inside, so mapped as long as `self` (I-40).
        Some(unsafe { AtomicU8::from_ptr(at) })
    }

    /// Copies bytes out; `None` if they do not lie inside.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> Option<()> {
        self.at(at, into.len() as u64)?;
        let (head, rest) = into.split_at_mut(until_word(at).min(into.len()));
        let (words, tail) = rest.as_chunks_mut::<WORD>();
        let mut from = at;
        for byte in head {
            *byte = self.byte(from)?.load(Ordering::Relaxed);
            from += 1;
        }
        for word in words {
            *word = self.atomic64(from)?.load(Ordering::Relaxed).to_ne_bytes();
            from += WORD as u64;
        }
        for byte in tail {
            *byte = self.byte(from)?.load(Ordering::Relaxed);
            from += 1;
        }
        Some(())
    }

    /// Copies bytes in; `None`, and nothing is written, if they do not fit.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Option<()> {
        self.at(at, bytes.len() as u64)?;
        let (head, rest) = bytes.split_at(until_word(at).min(bytes.len()));
        let (words, tail) = rest.as_chunks::<WORD>();
        let mut to = at;
        for &byte in head {
            self.byte(to)?.store(byte, Ordering::Relaxed);
            to += 1;
        }
        for word in words {
            let word = u64::from_ne_bytes(*word);
            self.atomic64(to)?.store(word, Ordering::Relaxed);
            to += WORD as u64;
        }
        for &byte in tail {
            self.byte(to)?.store(byte, Ordering::Relaxed);
            to += 1;
        }
        Some(())
    }

    /// Fills a range; `None`, and nothing is written, if it does not lie inside.
    pub(crate) fn fill(&self, at: u64, value: u8, len: u64) -> Option<()> {
        self.at(at, len)?;
        let bytes = [value; CHUNK];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(CHUNK as u64);
            self.write(at + done, &bytes[..count as usize])?;
            done += count;
        }
        Some(())
    }

    /// Copies a range from another shared memory, or from this one as if by way of a third place.
    pub(crate) fn copy_from(&self, at: u64, source: &Self, from: u64, len: u64) -> Option<()> {
        self.at(at, len)?;
        source.at(from, len)?;
        let mut bytes = [0; CHUNK];
        // What lies in the way of an overlapping copy is moved first.
        let backwards = core::ptr::eq(self, source) && at > from;
        let mut done = 0;
        while done < len {
            let count = (len - done).min(CHUNK as u64);
            let offset = if backwards { len - done - count } else { done };
            let chunk = &mut bytes[..count as usize];
            source.read(from + offset, chunk)?;
            self.write(at + offset, chunk)?;
            done += count;
        }
        Some(())
    }

    /// The word at an address that is a multiple of 4 and inside, for atomic instructions.
    fn atomic32(&self, at: u64) -> Option<&AtomicU32> {
        let at = self.at(at, 4).filter(|_| at.is_multiple_of(4))?;
        // SAFETY: mapped as long as `self`, and aligned (I-40).
        Some(unsafe { AtomicU32::from_ptr(at.cast()) })
    }

    /// The word at an address that is a multiple of 8 and inside, for atomic instructions.
    fn atomic64(&self, at: u64) -> Option<&AtomicU64> {
        let at = self.at(at, 8).filter(|_| at.is_multiple_of(8))?;
        // SAFETY: mapped as long as `self`, and aligned (I-40).
        Some(unsafe { AtomicU64::from_ptr(at.cast()) })
    }

    /// Loads an aligned word; `None` if it is not aligned or outside, as for all below.
    pub(crate) fn load32(&self, at: u64) -> Option<u32> {
        Some(u32::from_le(self.atomic32(at)?.load(Ordering::SeqCst)))
    }

    pub(crate) fn load64(&self, at: u64) -> Option<u64> {
        Some(u64::from_le(self.atomic64(at)?.load(Ordering::SeqCst)))
    }

    /// Stores an aligned word.
    pub(crate) fn store32(&self, at: u64, value: u32) -> Option<()> {
        self.atomic32(at)?.store(value.to_le(), Ordering::SeqCst);
        Some(())
    }

    pub(crate) fn store64(&self, at: u64, value: u64) -> Option<()> {
        self.atomic64(at)?.store(value.to_le(), Ordering::SeqCst);
        Some(())
    }

    /// Exchanges an aligned word if it is as expected; what it was.
    pub(crate) fn exchange32(&self, at: u64, expected: u32, new: u32) -> Option<u32> {
        let order = Ordering::SeqCst;
        let word = self.atomic32(at)?;
        let former = word.compare_exchange(expected.to_le(), new.to_le(), order, order);
        Some(u32::from_le(former.unwrap_or_else(|found| found)))
    }

    pub(crate) fn exchange64(&self, at: u64, expected: u64, new: u64) -> Option<u64> {
        let order = Ordering::SeqCst;
        let word = self.atomic64(at)?;
        let former = word.compare_exchange(expected.to_le(), new.to_le(), order, order);
        Some(u64::from_le(former.unwrap_or_else(|found| found)))
    }
}

/// Bytes from an address to the next that is a multiple of a word.
fn until_word(at: u64) -> usize {
    at.wrapping_neg() as usize % WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_every_alignment_and_length_move_what_they_say() {
        let memory = SharedBytes::reserve(1 << 20, 65536).unwrap();
        let pattern: Vec<u8> = (1..=40).collect();
        for at in 0..9 {
            for len in 0..40 {
                memory.fill(0, 0xee, 64).unwrap();
                memory.write(at, &pattern[..len]).unwrap();
                let mut all = [0; 64];
                memory.read(0, &mut all).unwrap();
                let end = at as usize + len;
                assert_eq!(all[at as usize..end], pattern[..len]);
                assert!(
                    all[..at as usize]
                        .iter()
                        .chain(&all[end..])
                        .all(|&b| b == 0xee)
                );
                let mut part = vec![0; len];
                memory.read(at, &mut part).unwrap();
                assert_eq!(part, pattern[..len]);
            }
        }
    }

    #[test]
    fn overlapping_copies_are_as_if_by_a_third_place() {
        let memory = SharedBytes::reserve(1 << 20, 65536).unwrap();
        let bytes: Vec<u8> = (0..20000u32).map(|i| (i % 251) as u8).collect();
        for (from, to) in [(100, 103), (103, 100), (100, 5000), (5000, 100), (7, 7)] {
            memory.write(from, &bytes).unwrap();
            memory.copy_from(to, &memory, from, 20000).unwrap();
            let mut found = vec![0; 20000];
            memory.read(to, &mut found).unwrap();
            assert_eq!(found, bytes, "{from} to {to}");
        }
    }

    #[test]
    fn nothing_outside_is_touched_and_words_are_aligned() {
        let memory = SharedBytes::reserve(1 << 20, 65536).unwrap();
        assert!(memory.write(65530, &[0; 7]).is_none());
        assert!(memory.read(u64::MAX, &mut [0]).is_none());
        assert!(memory.fill(65536, 1, 1).is_none());
        assert!(memory.copy_from(0, &memory, 65535, 2).is_none());
        assert!(memory.load32(65534).is_none() && memory.load32(2).is_none());
        assert!(memory.store64(4, 1).is_none() && memory.load64(65536).is_none());
        memory.store64(65528, 7).unwrap();
        assert_eq!(memory.exchange64(65528, 7, 9), Some(7));
        assert_eq!(memory.exchange32(65528, 7, 1), Some(9));
        assert_eq!(memory.load32(65528), Some(9));
        assert_eq!(memory.grow(|len| Some(len + 65536)), Some(65536));
        assert_eq!(memory.load64(65536), Some(0));
        assert_eq!(memory.grow(|len| Some(len - 1)), None);
        assert_eq!(
            memory.grow(|_| Some(4 << 20)),
            None,
            "beyond the reservation"
        );
        assert_eq!(memory.len(), 2 * 65536);
    }
}
