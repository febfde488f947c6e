//! Guest memory as these functions touch it: checked reads and writes of numbers, ranges and lists
//! of buffers. Every address and length comes from the guest and is a value to check; a bad one is
//! `EFAULT`. No alignment is asked for, since x86-64 guests never need it and the numbers are copied,
//! not referenced.
//!
//! A memory that other threads may write is only copied, and what was copied is what is checked. One
//! that stands still while the guest waits for its call gives its bytes to whoever moves many.
//!
//! Nothing here allocates by a number that is only claimed: a list is walked where it lies, and its whole
//! extent must lie in the memory before the walk begins.

use crate::errno::Errno;
use selvedge_runtime::SharedMemory;
use std::ops::Range;

/// The memory of the guest that calls.
pub(crate) trait Memory {
    /// Bytes there are. They may become more, never fewer.
    fn byte_len(&self) -> u64;

    /// Copies bytes from an address on.
    fn load(&self, at: usize, into: &mut [u8]) -> Result<(), Errno>;

    /// Copies bytes to an address on.
    fn store(&mut self, at: usize, from: &[u8]) -> Result<(), Errno>;

    /// The bytes themselves, if nobody else can touch them.
    fn own(&mut self) -> Option<&mut [u8]>;
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Memory for T {
    fn byte_len(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn load(&self, at: usize, into: &mut [u8]) -> Result<(), Errno> {
        let from = self.as_ref().get(at..).and_then(|b| b.get(..into.len()));
        into.copy_from_slice(from.ok_or(Errno::Fault)?);
        Ok(())
    }

    fn store(&mut self, at: usize, from: &[u8]) -> Result<(), Errno> {
        let into = self.as_mut().get_mut(at..);
        let into = into.and_then(|bytes| bytes.get_mut(..from.len()));
        into.ok_or(Errno::Fault)?.copy_from_slice(from);
        Ok(())
    }

    fn own(&mut self) -> Option<&mut [u8]> {
        Some(self.as_mut())
    }
}

/// A memory that guests on other threads may have, too.
pub(crate) struct Shared(pub(crate) SharedMemory);

impl Memory for Shared {
    fn byte_len(&self) -> u64 {
        self.0.len()
    }

    fn load(&self, at: usize, into: &mut [u8]) -> Result<(), Errno> {
        self.0.read(at as u64, into).map_err(|_| Errno::Fault)
    }

    fn store(&mut self, at: usize, from: &[u8]) -> Result<(), Errno> {
        self.0.write(at as u64, from).map_err(|_| Errno::Fault)
    }

    fn own(&mut self) -> Option<&mut [u8]> {
        None
    }
}

/// Bytes of one entry of a list of buffers: address and length, 32 bits each.
const IOVEC_LEN: u64 = 8;

/// Buffers handed to the host's kernel in one call. More are taken in further calls. Guests' libc
/// uses two.
pub(crate) const BATCH: usize = 8;

/// The `len` bytes from `addr`, if all of them are in the memory.
pub(crate) fn range(memory: &dyn Memory, addr: u32, len: u64) -> Result<Range<usize>, Errno> {
    let start = u64::from(addr);
    let end = start.checked_add(len).ok_or(Errno::Fault)?;
    if end > memory.byte_len() {
        return Err(Errno::Fault);
    }
    // Both are at most the length of a memory of this process, so they fit.
    Ok(start as usize..end as usize)
}

/// A copy of bytes. It allocates as many, so whoever asks has looked at the length.
pub(crate) fn copy(memory: &dyn Memory, addr: u32, len: u32) -> Result<Vec<u8>, Errno> {
    let range = range(memory, addr, len.into())?;
    let mut bytes = vec![0; range.len()];
    memory.load(range.start, &mut bytes)?;
    Ok(bytes)
}

/// An address some bytes further on. Past the 32-bit end it is a fault, not a wrap to the start.
pub(crate) fn offset(addr: u32, by: u32) -> Result<u32, Errno> {
    addr.checked_add(by).ok_or(Errno::Fault)
}

fn read<const N: usize>(memory: &dyn Memory, addr: u32) -> Result<[u8; N], Errno> {
    let range = range(memory, addr, N as u64)?;
    let mut bytes = [0; N];
    memory.load(range.start, &mut bytes)?;
    Ok(bytes)
}

/// Copies bytes to the guest.
pub(crate) fn write(memory: &mut dyn Memory, addr: u32, bytes: &[u8]) -> Result<(), Errno> {
    let range = range(memory, addr, bytes.len() as u64)?;
    memory.store(range.start, bytes)
}

pub(crate) fn read_u8(memory: &dyn Memory, addr: u32) -> Result<u8, Errno> {
    Ok(u8::from_le_bytes(read(memory, addr)?))
}

pub(crate) fn read_u16(memory: &dyn Memory, addr: u32) -> Result<u16, Errno> {
    Ok(u16::from_le_bytes(read(memory, addr)?))
}

pub(crate) fn read_u32(memory: &dyn Memory, addr: u32) -> Result<u32, Errno> {
    Ok(u32::from_le_bytes(read(memory, addr)?))
}

pub(crate) fn read_u64(memory: &dyn Memory, addr: u32) -> Result<u64, Errno> {
    Ok(u64::from_le_bytes(read(memory, addr)?))
}

pub(crate) fn write_u32(memory: &mut dyn Memory, addr: u32, value: u32) -> Result<(), Errno> {
    write(memory, addr, &value.to_le_bytes())
}

pub(crate) fn write_u64(memory: &mut dyn Memory, addr: u32, value: u64) -> Result<(), Errno> {
    write(memory, addr, &value.to_le_bytes())
}

/// A guest's list of buffers (`iovec` and `ciovec`, which look the same), known to lie in the
/// memory as a list. The buffers it names are checked as they are come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    addr: u32,
    count: u32,
}

/// The next few buffers of a list, empty ones left out.
#[derive(Debug)]
pub(crate) struct Batch {
    ranges: [Range<usize>; BATCH],
    count: usize,
    /// Where in the list to go on.
    pub(crate) next: u32,
}

impl Batch {
    /// The ranges found, each inside the memory; they may overlap.
    pub(crate) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges[..self.count]
    }

    /// All places, unused ones as the empty range at 0, for [`<[u8]>::get_disjoint_mut`].
    pub(crate) fn padded(&self) -> [Range<usize>; BATCH] {
        self.ranges.clone()
    }

    /// Bytes in all the ranges. Eight buffers of 4 GiB fit easily.
    pub(crate) fn len(&self) -> usize {
        self.ranges().iter().map(ExactSizeIterator::len).sum()
    }
}

impl Buffers {
    /// The list of `count` buffers at `addr`.
    pub(crate) fn new(memory: &dyn Memory, addr: u32, count: u32) -> Result<Buffers, Errno> {
        range(memory, addr, u64::from(count) * IOVEC_LEN)?;
        Ok(Buffers { addr, count })
    }

    /// Up to [`BATCH`] buffers that are not empty, from position `from` on. `None` at the end of
    /// the list. The sum of the lengths of a batch stays below `limit`: the last range is cut.
    pub(crate) fn batch(
        &self,
        memory: &dyn Memory,
        from: u32,
        limit: usize,
    ) -> Result<Option<Batch>, Errno> {
        let mut batch = Batch {
            ranges: [const { 0..0 }; BATCH],
            count: 0,
            next: from,
        };
        let mut room = limit;
        while batch.next < self.count && batch.count < BATCH && room > 0 {
            // In bounds by `new`: the whole list lies below 2^32 or the memory would not hold it.
            let entry = u64::from(self.addr) + u64::from(batch.next) * IOVEC_LEN;
            let entry = u32::try_from(entry).map_err(|_| Errno::Fault)?;
            let buf = read_u32(memory, entry)?;
            let len = read_u32(memory, offset(entry, 4)?)?;
            batch.next += 1;
            if len == 0 {
                continue;
            }
            let mut found = range(memory, buf, len.into())?;
            found.end = found.end.min(found.start.saturating_add(room));
            room -= found.len();
            batch.ranges[batch.count] = found;
            batch.count += 1;
        }
        Ok((batch.count > 0).then_some(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_memory_ends() {
        let memory = [0u8; 16];
        assert_eq!(range(&memory, 0, 16), Ok(0..16));
        assert_eq!(range(&memory, 16, 0), Ok(16..16), "empty at the very end");
        assert_eq!(range(&memory, 16, 1), Err(Errno::Fault));
        assert_eq!(
            range(&memory, 17, 0),
            Err(Errno::Fault),
            "empty, but past the end"
        );
        assert_eq!(range(&memory, u32::MAX, u64::MAX), Err(Errno::Fault));
        assert_eq!(
            copy(&memory, 8, u32::MAX),
            Err(Errno::Fault),
            "no wrap to the start"
        );
    }

    #[test]
    fn numbers_need_all_of_their_bytes_and_no_alignment() {
        let mut memory = [0u8; 16];
        write_u64(&mut memory, 3, 0x0102_0304_0506_0708).unwrap();
        assert_eq!(read_u64(&memory, 3), Ok(0x0102_0304_0506_0708));
        assert_eq!(read_u32(&memory, 3), Ok(0x0506_0708));
        assert_eq!(read_u16(&memory, 3), Ok(0x0708));
        assert_eq!(read_u8(&memory, 3), Ok(8));
        assert_eq!(read_u32(&memory, 13), Err(Errno::Fault));
        assert_eq!(write_u32(&mut memory, 13, 1), Err(Errno::Fault));
        assert_eq!(memory[13..], [0; 3], "a refused write changes nothing");
    }

    /// A memory whose list of buffers stands at address 0.
    fn listed(entries: &[(u32, u32)], len: usize) -> Vec<u8> {
        let mut memory = vec![0u8; len];
        for (idx, (buf, len)) in entries.iter().enumerate() {
            write_u32(&mut memory, idx as u32 * 8, *buf).unwrap();
            write_u32(&mut memory, idx as u32 * 8 + 4, *len).unwrap();
        }
        memory
    }

    #[test]
    fn a_list_must_lie_in_the_memory_whatever_count_it_claims() {
        let memory = listed(&[(0, 0)], 64);
        assert!(Buffers::new(&memory, 0, 8).is_ok());
        assert_eq!(Buffers::new(&memory, 0, 9).unwrap_err(), Errno::Fault);
        assert_eq!(
            Buffers::new(&memory, 0, u32::MAX).unwrap_err(),
            Errno::Fault
        );
        assert_eq!(
            Buffers::new(&memory, u32::MAX, 1).unwrap_err(),
            Errno::Fault
        );
        assert!(Buffers::new(&memory, 64, 0).is_ok());
    }

    #[test]
    fn buffers_that_lie_are_refused_when_come_to() {
        for bad in [(60, 5), (u32::MAX, 1), (1, u32::MAX), (64, 1)] {
            let memory = listed(&[bad], 64);
            let buffers = Buffers::new(&memory, 0, 1).unwrap();
            assert_eq!(
                buffers.batch(&memory, 0, usize::MAX).unwrap_err(),
                Errno::Fault
            );
        }
        let memory = listed(&[(60, 4)], 64);
        let batch = Buffers::new(&memory, 0, 1)
            .unwrap()
            .batch(&memory, 0, usize::MAX);
        let batch = batch.unwrap().unwrap();
        assert_eq!((batch.ranges().len(), &batch.ranges()[0]), (1, &(60..64)));
    }

    #[test]
    fn empty_buffers_are_skipped_wherever_they_point() {
        let memory = listed(&[(u32::MAX, 0), (32, 2), (5, 0), (40, 3)], 64);
        let buffers = Buffers::new(&memory, 0, 4).unwrap();
        let batch = buffers.batch(&memory, 0, usize::MAX).unwrap().unwrap();
        assert_eq!(batch.ranges(), [32..34, 40..43]);
        assert_eq!(batch.len(), 5);
        assert!(
            buffers
                .batch(&memory, batch.next, usize::MAX)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn long_lists_come_in_batches_and_a_limit_cuts_the_last() {
        let entries: Vec<_> = (0..20).map(|n| (200 + n, 1)).collect();
        let memory = listed(&entries, 256);
        let buffers = Buffers::new(&memory, 0, 20).unwrap();
        let mut from = 0;
        let mut seen = Vec::new();
        while let Some(batch) = buffers.batch(&memory, from, usize::MAX).unwrap() {
            assert!(batch.ranges().len() <= BATCH);
            seen.extend(batch.ranges().iter().map(|range| range.start));
            from = batch.next;
        }
        assert_eq!(seen, (200..220).collect::<Vec<_>>());

        let memory = listed(&[(100, 10), (120, 10)], 256);
        let buffers = Buffers::new(&memory, 0, 2).unwrap();
        let batch = buffers.batch(&memory, 0, 14).unwrap().unwrap();
        assert_eq!(batch.ranges(), [100..110, 120..124]);
    }
}
