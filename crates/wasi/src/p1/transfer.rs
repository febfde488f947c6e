//! Bytes between a guest's list of buffers and the host: from and to the memory itself, or, if guests on other
//! threads may have it, by way of a buffer of the host's. Knows no descriptors.

use crate::blocking;
use crate::errno::Errno;
use crate::p1::memory::{BATCH, Buffers, Memory};
use std::io::{IoSlice, IoSliceMut};

/// The most bytes that one call moves: what Linux allows, and a number that guests whose sizes are
/// signed 32-bit can return.
const MAX_TRANSFER: usize = 0x7fff_f000;

/// The most bytes of a shared memory that are copied at once.
const PIECE: usize = 64 << 10;

/// Fills slices, and is told how much came before.
type Read<'a> = dyn FnMut(&mut [IoSliceMut<'_>], usize) -> Result<usize, Errno> + 'a;
/// Takes slices, likewise.
type Write<'a> = dyn FnMut(&[IoSlice<'_>], usize) -> Result<usize, Errno> + 'a;

/// Fills the guest's buffers with what `read` gives, which is told how much came before. Stops at
/// the first call that comes back short, or after one if `once`. An error after some bytes have
/// come is kept for the next call: the bytes count.
pub(crate) fn scatter(
    memory: &mut dyn Memory,
    iovs: u32,
    iovs_len: u32,
    once: bool,
    mut read: impl FnMut(&mut [IoSliceMut<'_>], usize) -> Result<usize, Errno>,
) -> Result<u32, Errno> {
    let buffers = Buffers::new(memory, iovs, iovs_len)?;
    let mut total = 0;
    let result = match memory.own() {
        Some(bytes) => scatter_own(bytes, buffers, once, &mut read, &mut total),
        None => scatter_copied(memory, buffers, once, &mut read, &mut total),
    };
    finish(total, result)
}

fn scatter_own(
    bytes: &mut [u8],
    buffers: Buffers,
    once: bool,
    read: &mut Read<'_>,
    total: &mut usize,
) -> Result<(), Errno> {
    let mut from = 0;
    while let Some(batch) = buffers.batch(&bytes, from, MAX_TRANSFER - *total)? {
        from = batch.next;
        let wanted;
        let got = match bytes.get_disjoint_mut(batch.padded()) {
            Ok(slices) => {
                wanted = batch.len();
                let mut slices = slices.map(IoSliceMut::new);
                read(&mut slices[..batch.ranges().len()], *total)?
            }
            // The guest's buffers overlap, which is its own affair: one after the other, of which
            // the first is enough for this call.
            Err(_) => {
                let range = batch.ranges()[0].clone();
                wanted = usize::MAX;
                read(&mut [IoSliceMut::new(&mut bytes[range])], *total)?
            }
        };
        *total += got;
        if once || got < wanted {
            break;
        }
    }
    Ok(())
}

/// Buffer after buffer: what comes is in the guest's memory before more is asked for.
fn scatter_copied(
    memory: &mut dyn Memory,
    buffers: Buffers,
    once: bool,
    read: &mut Read<'_>,
    total: &mut usize,
) -> Result<(), Errno> {
    let mut piece = Vec::new();
    let mut from = 0;
    while let Some(batch) = buffers.batch(memory, from, MAX_TRANSFER - *total)? {
        from = batch.next;
        for range in batch.ranges() {
            let mut at = range.start;
            while at < range.end {
                piece.resize((range.end - at).min(PIECE), 0);
                let got = read(&mut [IoSliceMut::new(&mut piece)], *total)?;
                memory.store(at, &piece[..got])?;
                at += got;
                *total += got;
                if once || got < piece.len() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Takes the guest's buffers to `write`, likewise. With `small`, no more than what a pipe that has
/// reported room takes without waiting.
pub(crate) fn gather(
    memory: &mut dyn Memory,
    iovs: u32,
    iovs_len: u32,
    small: bool,
    mut write: impl FnMut(&[IoSlice<'_>], usize) -> Result<usize, Errno>,
) -> Result<u32, Errno> {
    let buffers = Buffers::new(memory, iovs, iovs_len)?;
    let max = if small {
        blocking::NONBLOCKING_WRITE
    } else {
        MAX_TRANSFER
    };
    let mut total = 0;
    let result = match memory.own() {
        Some(bytes) => gather_own(bytes, buffers, max, &mut write, &mut total),
        None => gather_copied(memory, buffers, max, &mut write, &mut total),
    };
    finish(total, result)
}

fn gather_own(
    bytes: &mut [u8],
    buffers: Buffers,
    max: usize,
    write: &mut Write<'_>,
    total: &mut usize,
) -> Result<(), Errno> {
    let mut from = 0;
    while let Some(batch) = buffers.batch(&bytes, from, max - *total)? {
        from = batch.next;
        let mut slices = [IoSlice::new(&[]); BATCH];
        for (slice, range) in slices.iter_mut().zip(batch.ranges()) {
            *slice = IoSlice::new(&bytes[range.clone()]);
        }
        let len = write(&slices[..batch.ranges().len()], *total)?;
        *total += len;
        if len < batch.len() {
            break;
        }
    }
    Ok(())
}

/// Short buffers are put together, so that what a guest writes by one call of a few goes out at once.
fn gather_copied(
    memory: &mut dyn Memory,
    buffers: Buffers,
    max: usize,
    write: &mut Write<'_>,
    total: &mut usize,
) -> Result<(), Errno> {
    let mut piece = Vec::new();
    // Whether all of it was taken.
    let mut flush = |piece: &mut Vec<u8>, total: &mut usize| {
        let len = match piece.is_empty() {
            true => 0,
            false => write(&[IoSlice::new(piece)], *total)?,
        };
        *total += len;
        let whole = len == piece.len();
        piece.clear();
        Ok::<bool, Errno>(whole)
    };
    let mut from = 0;
    loop {
        let batch = match buffers.batch(memory, from, max - *total - piece.len()) {
            Ok(Some(batch)) => batch,
            end => {
                // What came before a buffer that lies is written.
                flush(&mut piece, total)?;
                return end.map(drop);
            }
        };
        from = batch.next;
        for range in batch.ranges() {
            let mut at = range.start;
            while at < range.end {
                let start = piece.len();
                piece.resize(start + (range.end - at).min(PIECE - start), 0);
                memory.load(at, &mut piece[start..])?;
                at += piece.len() - start;
                if piece.len() == PIECE && !flush(&mut piece, total)? {
                    return Ok(());
                }
            }
        }
    }
}

fn finish(total: usize, result: Result<(), Errno>) -> Result<u32, Errno> {
    match result {
        Err(error) if total == 0 => Err(error),
        // At most MAX_TRANSFER.
        _ => u32::try_from(total).map_err(|_| Errno::Overflow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p1::memory::{read_u32, write, write_u32};

    /// A memory whose bytes nobody gets.
    struct Copied(Vec<u8>);

    impl Memory for Copied {
        fn byte_len(&self) -> u64 {
            self.0.byte_len()
        }

        fn load(&self, at: usize, into: &mut [u8]) -> Result<(), Errno> {
            self.0.load(at, into)
        }

        fn store(&mut self, at: usize, from: &[u8]) -> Result<(), Errno> {
            self.0.store(at, from)
        }

        fn own(&mut self) -> Option<&mut [u8]> {
            None
        }
    }

    const LEN: usize = 1 << 18;

    /// The same memory both ways, with a list of buffers at 0.
    fn both(buffers: &[(u32, u32)]) -> [Box<dyn Memory>; 2] {
        let mut bytes: Vec<u8> = (0..LEN).map(|at| (at / 7) as u8).collect();
        for (at, (addr, len)) in (0..).step_by(8).zip(buffers) {
            write_u32(&mut bytes, at, *addr).unwrap();
            write_u32(&mut bytes, at + 4, *len).unwrap();
        }
        [Box::new(bytes.clone()), Box::new(Copied(bytes))]
    }

    fn content(memory: &dyn Memory) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        memory.load(0, &mut bytes).unwrap();
        bytes
    }

    /// What two memories have after a transfer of at most `limit` bytes, a call giving so many at most.
    fn read_both(buffers: &[(u32, u32)], once: bool, limit: usize) -> [Result<u32, Errno>; 2] {
        let mut seen = Vec::new();
        let results = both(buffers).map(|mut memory| {
            let result = scatter(
                &mut *memory,
                0,
                buffers.len() as u32,
                once,
                |slices, done| {
                    let mut given = done;
                    for slice in slices {
                        for byte in slice.iter_mut() {
                            if given == limit {
                                return Ok(given - done);
                            }
                            *byte = (given % 251) as u8 ^ 0xff;
                            given += 1;
                        }
                    }
                    Ok(given - done)
                },
            );
            seen.push(content(&*memory));
            result
        });
        if !once {
            assert!(seen[0] == seen[1]);
        }
        results
    }

    fn write_both(buffers: &[(u32, u32)], small: bool, limit: usize) -> [Result<u32, Errno>; 2] {
        let mut seen = Vec::new();
        let results = both(buffers).map(|mut memory| {
            let mut out = Vec::new();
            let result = gather(
                &mut *memory,
                0,
                buffers.len() as u32,
                small,
                |slices, done| {
                    assert_eq!(done, out.len());
                    for slice in slices {
                        let len = slice.len().min(limit - out.len());
                        out.extend_from_slice(&slice[..len]);
                    }
                    Ok(out.len() - done)
                },
            );
            seen.push(out);
            result
        });
        assert!(seen[0] == seen[1]);
        results
    }

    #[test]
    fn both_ways_move_the_same_bytes() {
        let few = [(1000, 5), (2000, 0), (3000, 7)];
        let long = [(100, 3), (1 << 10, 150_000), (200_000, 60_000)];
        let many: Vec<_> = (0..40).map(|n| (4096 + n * 16, 9)).collect();
        for buffers in [&few[..], &long, &many] {
            let all: u32 = buffers.iter().map(|(_, len)| len).sum();
            for limit in [0, 1, 6, 100, 70_000, 150_003, 200_000, 1 << 20] {
                let expected = Ok(all.min(limit as u32));
                assert_eq!(read_both(buffers, false, limit), [expected; 2], "{limit}");
                assert_eq!(write_both(buffers, false, limit), [expected; 2], "{limit}");
            }
        }
    }

    #[test]
    fn one_call_is_one_call() {
        let buffers = [(1000, 5), (3000, 7)];
        // Of a memory that is copied, the first buffer is enough for this call.
        assert_eq!(read_both(&buffers, true, 100), [Ok(12), Ok(5)]);
        assert_eq!(read_both(&buffers, true, 3), [Ok(3); 2]);
        let long = [(1 << 10, 150_000)];
        let small = blocking::NONBLOCKING_WRITE as u32;
        assert_eq!(write_both(&long, true, 1 << 20), [Ok(small); 2]);
    }

    #[test]
    fn a_buffer_that_lies_ends_it_and_what_came_before_counts() {
        for lie in [(LEN as u32, 1), (0, u32::MAX), (u32::MAX, 2)] {
            assert_eq!(read_both(&[lie], false, 9), [Err(Errno::Fault); 2]);
            assert_eq!(write_both(&[lie], false, 9), [Err(Errno::Fault); 2]);
            // Beyond one batch, so that something has been moved.
            let mut buffers: Vec<_> = (0..BATCH as u32).map(|n| (4096 + n * 16, 2)).collect();
            buffers.push(lie);
            assert_eq!(read_both(&buffers, false, 99), [Ok(16); 2]);
            assert_eq!(write_both(&buffers, false, 99), [Ok(16); 2]);
        }
        let mut memory = Copied(vec![0; 64]);
        write(&mut memory, 60, &[1, 2, 3, 4]).unwrap();
        assert_eq!(read_u32(&memory, 60), Ok(0x0403_0201));
        assert_eq!(read_u32(&memory, 61), Err(Errno::Fault));
    }
}
