//! The initial contents of memory 0 as runs of pages.
//!
//! The compiler merges active data segments with constant offsets into runs; the runtime maps or
//! copies them. Between runs memory is zero.

use serde::{Deserialize, Serialize};

use crate::contract::types::WASM_PAGE_LEN;

/// Bytes that runs are aligned to, in memory and in the section.
pub const IMAGE_PAGE_LEN: u64 = 4096;

/// A run of bytes at one place of the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageRun {
    /// Offset in the memory; a multiple of [`IMAGE_PAGE_LEN`].
    pub memory_offset: u64,
    /// Offset in the image section; a multiple of [`IMAGE_PAGE_LEN`].
    pub section_offset: u64,
    /// Bytes; a multiple of [`IMAGE_PAGE_LEN`].
    pub len: u64,
}

/// The initial contents of memory 0.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MemoryImage {
    /// Runs with rising, disjoint memory offsets.
    pub runs: Vec<ImageRun>,
}

impl MemoryImage {
    /// Bytes from the memory's start to the end of the last run.
    pub fn end(&self) -> u64 {
        self.runs
            .last()
            .map_or(0, |run| run.memory_offset + run.len)
    }

    /// Checks alignment and order, and that the runs lie in a memory of `pages` Wasm pages and in a
    /// section of `section_len` bytes.
    pub(crate) fn check(&self, pages: u64, section_len: u64) -> bool {
        let Some(memory_len) = pages.checked_mul(WASM_PAGE_LEN) else {
            return false;
        };
        let mut end = 0;
        self.runs.iter().all(|run| {
            let aligned = [run.memory_offset, run.section_offset, run.len]
                .iter()
                .all(|n| n % IMAGE_PAGE_LEN == 0);
            let in_order = run.memory_offset >= end;
            let memory_end = run.memory_offset.checked_add(run.len);
            let section_end = run.section_offset.checked_add(run.len);
            end = memory_end.unwrap_or(u64::MAX);
            aligned
                && in_order
                && memory_end.is_some_and(|e| e <= memory_len)
                && section_end.is_some_and(|e| e <= section_len)
        })
    }
}

/// Gathers active data segments and cuts them into page runs.
#[derive(Debug, Default)]
pub struct ImageBuilder<'a> {
    /// In the order of the module: later ones overwrite earlier ones.
    segments: Vec<(u64, &'a [u8])>,
}

impl<'a> ImageBuilder<'a> {
    /// Adds a segment at an offset of the memory.
    pub fn add(&mut self, offset: u64, bytes: &'a [u8]) {
        if !bytes.is_empty() {
            self.segments.push((offset, bytes));
        }
    }

    /// Cuts the segments into runs and gives the section's bytes. The section is never larger than
    /// the segments' bytes plus two partial pages a segment.
    pub fn build(self) -> (MemoryImage, Vec<u8>) {
        let mut ranges: Vec<(u64, u64)> = self
            .segments
            .iter()
            .map(|(offset, bytes)| {
                let start = offset / IMAGE_PAGE_LEN * IMAGE_PAGE_LEN;
                let end = (offset + bytes.len() as u64).next_multiple_of(IMAGE_PAGE_LEN);
                (start, end)
            })
            .collect();
        ranges.sort_unstable();
        let mut image = MemoryImage::default();
        for (start, end) in ranges {
            match image.runs.last_mut() {
                Some(run) if start <= run.memory_offset + run.len => {
                    run.len = run.len.max(end - run.memory_offset);
                }
                _ => image.runs.push(ImageRun {
                    memory_offset: start,
                    section_offset: 0,
                    len: end - start,
                }),
            }
        }
        let mut section_len = 0;
        for run in &mut image.runs {
            run.section_offset = section_len;
            section_len += run.len;
        }
        let mut section = vec![0; section_len as usize];
        for (offset, bytes) in self.segments {
            let after = image
                .runs
                .partition_point(|run| run.memory_offset <= offset);
            let run = image.runs[after - 1];
            let at = (run.section_offset + offset - run.memory_offset) as usize;
            section[at..at + bytes.len()].copy_from_slice(bytes);
        }
        (image, section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_on_neighbouring_pages_share_a_run_and_later_ones_win() {
        let mut builder = ImageBuilder::default();
        builder.add(10, b"abc");
        builder.add(4095, b"xy");
        builder.add(11, b"Z");
        builder.add(100_000, b"far");
        let (image, section) = builder.build();
        assert_eq!(image.runs.len(), 2);
        assert_eq!(image.runs[0].len, 8192);
        assert_eq!(&section[10..13], b"aZc");
        assert_eq!(&section[4095..4097], b"xy");
        let far = image.runs[1];
        let at = (far.section_offset + 100_000 - far.memory_offset) as usize;
        assert_eq!(&section[at..at + 3], b"far");
        assert!(image.check(2, section.len() as u64));
        assert!(!image.check(1, section.len() as u64));
        assert!(!image.check(2, section.len() as u64 - 1));
    }
}
