//! X-pool: whatever a guest did to its memory and however it is made clean, the next one finds what belongs
//! there.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::sync::Arc;

use super::*;
use crate::engine::Engine;
use crate::program::Image;
use crate::region::Region;
use crate::region::limits::Limits;
use crate::region::options::RegionOptions;
use crate::region::reset::{Kind, Resets};
use crate::sys::fork;
use crate::sys::pagemap::{Pagemap, Pages};
use selvedge_artifact::tunables::Tunables;

const PAGE: usize = 4096;

/// An image with a hole.
fn image(pages: usize) -> Arc<Image> {
    let bytes: Vec<u8> = (0..PAGE * pages).map(|i| (i / 7 % 251) as u8 + 1).collect();
    let hole = PAGE * (pages / 2)..PAGE * (pages / 2 + 1);
    let parts = [
        (0, &bytes[..hole.start]),
        (hole.end as u64, &bytes[hole.end..]),
    ];
    Arc::new(Image::new(bytes.len() as u64, parts.into_iter()).unwrap())
}

fn options(keep_resident_len: usize, find_written_pages: bool) -> RegionOptions {
    RegionOptions {
        keep_resident_len,
        find_written_pages,
        ..RegionOptions::default()
    }
}

fn region(options: &RegionOptions) -> Region {
    // Other tests of this process look at signal dispositions, so no handler is installed.
    let tunables = Tunables {
        explicit_bounds: options.dense,
        ..Tunables::default()
    };
    let engine = Engine::without_handler(tunables);
    Region::with_options(&engine, 1, &Limits::default(), options).unwrap()
}

fn slot(region: &Region, len: usize, image: Option<&Arc<Image>>) -> Slot {
    let mut slot = region.take_any();
    slot.map_pages(len, image).unwrap();
    slot
}

/// The same where a dense slot's memory begins behind so many bytes of context.
fn slot_behind(
    region: &Region,
    context_len: usize,
    len: usize,
    image: Option<&Arc<Image>>,
) -> Slot {
    let mut slot = region.take_any();
    slot.set_context_len(context_len).unwrap();
    slot.map_pages(len, image).unwrap();
    slot
}

/// All bytes of the slot's memory.
fn bytes(slot: &mut Slot) -> &mut [u8] {
    let (base, len) = (slot.vmctx(), slot.accessible_len());
    // SAFETY: accessible, and the slot is borrowed as long as the slice.
    unsafe { std::slice::from_raw_parts_mut(base, len) }
}

/// Writes to the pages of a list, and reads some of the others.
fn soil(slot: &mut Slot, pages: impl Iterator<Item = usize>) {
    let bytes = bytes(slot);
    let read = bytes
        .iter()
        .step_by(3 * PAGE)
        .fold(0u8, |sum, byte| sum ^ byte);
    for page in pages {
        let at = page * PAGE + page * 31 % PAGE;
        bytes[at] = bytes[at].wrapping_add(1 + read % 2);
    }
}

#[track_caller]
fn assert_clean(slot: &mut Slot, len: usize, image: Option<&Arc<Image>>) {
    let bytes = bytes(slot);
    assert_eq!(bytes.len(), len);
    let image = image.map_or(&[][..], |image| image.bytes());
    let end = image.len().min(len);
    assert!(bytes[..end] == image[..end], "the image is damaged");
    assert!(arch::is_zero(&bytes[end..]), "something is left");
}

#[test]
fn x_pool_every_way_of_cleaning_leaves_what_belongs_there() {
    let images = [None, Some(image(1)), Some(image(16)), Some(image(300))];
    for options in [
        options(2 << 20, true),
        options(2 << 20, false),
        options(0, true),
        options(5 * PAGE, true),
        options(PAGE - 1, true),
    ]
    .into_iter()
    .flat_map(|options| [false, true].map(|dense| RegionOptions { dense, ..options }))
    {
        let region = region(&options);
        for (image, context_len) in images.iter().zip([64, 700, 4096, 9000]) {
            let image = image.as_ref();
            for pages in [16, 48, 1024] {
                let len = pages * PAGE;
                if image.is_some_and(|image| image.bytes().len() > len) {
                    continue;
                }
                let mut slot = slot_behind(&region, context_len, len, image);
                for round in 0..3 {
                    assert_clean(&mut slot, len, image);
                    // More runs than one scan tells, everything, the ends, nothing.
                    soil(&mut slot, (round % 2..pages).step_by(2));
                    slot.clean().unwrap();
                    assert_clean(&mut slot, len, image);
                    bytes(&mut slot).fill(0xaa);
                    slot.clean().unwrap();
                    assert_clean(&mut slot, len, image);
                    soil(&mut slot, [0, pages - 1].into_iter());
                    slot.clean().unwrap();
                    assert_clean(&mut slot, len, image);
                    slot.clean().unwrap();
                    assert_clean(&mut slot, len, image);
                    slot.grow_memory(len + (1 << 20)).unwrap();
                    bytes(&mut slot).fill(0x55);
                    slot.clean().unwrap();
                }
                slot.grow_memory(len + (1 << 20)).unwrap();
                assert_clean(&mut slot, len + (1 << 20), image);
            }
        }
    }
}

#[test]
fn x_pool_runs_of_pages_that_are_remembered_are_cleaned_with_others() {
    let image = image(40);
    let (pages, mut seed) = (200, 1_u64);
    let mut below = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % end
    };
    for keep in [2 << 20, 30 * PAGE] {
        let region = region(&options(keep, true));
        let mut slot = slot(&region, pages * PAGE, Some(&image));
        for round in 0..600 {
            for _ in 0..below(4) {
                let from = below(pages);
                let to = from + 1 + below(pages - from).min(below(50));
                soil(&mut slot, from..to);
            }
            match round % 97 {
                50 => slot.give_back(below(pages) * PAGE).unwrap(),
                70 => {
                    slot.grow_memory((pages + 8) * PAGE).unwrap();
                    soil(&mut slot, pages - 2..pages + 8);
                }
                _ => {}
            }
            slot.clean().unwrap();
            assert_clean(&mut slot, pages * PAGE, Some(&image));
        }
    }
}

#[test]
fn x_pool_a_slot_takes_images_in_turn_and_none() {
    let region = region(&RegionOptions::default());
    let (a, b) = (image(3), image(40));
    for (len, image) in [
        (48, Some(&a)),
        (48, None),
        (64, Some(&b)),
        (16, Some(&a)),
        (0, None),
        (48, Some(&b)),
        (2048, None),
    ] {
        let mut slot = slot(&region, len * PAGE, image);
        assert_clean(&mut slot, len * PAGE, image);
        bytes(&mut slot).fill(0xee);
        slot.clean().unwrap();
        assert_clean(&mut slot, len * PAGE, image);
        bytes(&mut slot).fill(0xee);
    }
}

#[test]
fn x_pool_the_way_is_chosen_by_length_and_by_what_may_stay() {
    let Some(pagemap) = Pagemap::get() else {
        return;
    };
    let region = region(&RegionOptions::default());
    let image = image(2);
    let mut slot = slot(&region, 64 * PAGE, Some(&image));
    let mut kind = |keep: usize, pagemap, count| {
        soil(&mut slot, 0..20);
        let resets = Resets::new(&options(keep, true)).with_pagemap(pagemap);
        let kind = resets.reset(&mut slot, count).unwrap();
        assert_clean(&mut slot, 64 * PAGE, Some(&image));
        kind
    };
    assert_eq!(kind(1 << 20, Some(pagemap), 0), Kind::Written);
    assert_eq!(kind(20 * PAGE, Some(pagemap), 0), Kind::Written);
    assert_eq!(kind(20 * PAGE - 1, Some(pagemap), 0), Kind::Partly);
    assert_eq!(kind(1, Some(pagemap), 0), Kind::Partly);
    assert_eq!(kind(0, Some(pagemap), 0), Kind::GivenBack);
    assert_eq!(kind(1 << 20, None, 0), Kind::GivenBack);
    assert_eq!(kind(1 << 20, Some(pagemap), 511), Kind::Written);
    assert_eq!(kind(1 << 20, Some(pagemap), u32::MAX), Kind::Written);
    // Nothing is known after a scan that fails.
    let broken = Box::leak(Box::new(Pagemap::broken()));
    assert_eq!(kind(1 << 20, Some(broken), 0), Kind::GivenBack);
    let resets = Resets::new(&RegionOptions::default());
    slot.map_pages(16 * PAGE, None).unwrap();
    soil(&mut slot, 0..3);
    assert_eq!(resets.reset(&mut slot, 0).unwrap(), Kind::Compared);
    assert_clean(&mut slot, 16 * PAGE, None);
    for count in [2, 511] {
        soil(&mut slot, 0..3);
        assert_eq!(resets.reset(&mut slot, count).unwrap(), Kind::Compared);
        assert_clean(&mut slot, 16 * PAGE, None);
    }
    slot.map_pages(0, None).unwrap();
    assert_eq!(resets.reset(&mut slot, 0).unwrap(), Kind::Empty);
}

#[test]
fn x_pool_pages_that_are_looked_at_in_vain_are_given_back() {
    let Some(pagemap) = Pagemap::get() else {
        return;
    };
    let own = |slot: &Slot| {
        let start = slot.vmctx().addr();
        let all = start..start + slot.accessible_len();
        pagemap.count(all, Pages::Own).unwrap() as usize / PAGE
    };
    let image = image(300);
    for keep in [2 << 20, 100 * PAGE] {
        let region = region(&options(keep, true));
        let mut slot = slot(&region, 1024 * PAGE, Some(&image));
        let kept = keep / PAGE;
        // One guest writes to many pages, later ones to some of them and to others.
        soil(&mut slot, 0..kept.min(400));
        slot.clean().unwrap();
        assert_eq!(own(&slot), kept.min(400));
        let mut fewest = usize::MAX;
        for round in 0..100 {
            soil(&mut slot, 3..5);
            soil(&mut slot, 400..401 + round % 2);
            slot.clean().unwrap();
            assert_clean(&mut slot, 1024 * PAGE, Some(&image));
            fewest = fewest.min(own(&slot));
        }
        assert!(fewest < 5, "{fewest} pages of {kept} stay");
        // Guests that write to the same pages find them, once those of others are gone.
        let mut given_back = 0;
        for _ in 0..1000 {
            soil(&mut slot, 10..40);
            slot.clean().unwrap();
            given_back += usize::from(own(&slot) < 30);
        }
        assert!(given_back <= 1, "{given_back} times");
    }
}

#[test]
fn x_pool_pages_that_were_swapped_out_are_cleaned() {
    let region = region(&RegionOptions::default());
    let image = image(40);
    let mut slot = slot(&region, 2048 * PAGE, Some(&image));
    soil(&mut slot, 10..90);
    let at = slot.vmctx();
    // SAFETY: pages of the slot, whose contents the call only moves. Without swap it does nothing.
    let done = unsafe { libc::madvise(at.cast(), 2048 * PAGE, libc::MADV_PAGEOUT) };
    assert_eq!(done, 0);
    slot.clean().unwrap();
    assert_clean(&mut slot, 2048 * PAGE, Some(&image));
}

#[test]
fn x_pool_huge_pages_are_cleaned() {
    let region = region(&RegionOptions::default());
    let image = image(5);
    let len = 8 << 20;
    let mut slot = slot(&region, len, Some(&image));
    // SAFETY: pages of the slot; the advice changes how they are kept, not what they hold.
    let done = unsafe { libc::madvise(slot.vmctx().cast(), len, libc::MADV_HUGEPAGE) };
    assert_eq!(done, 0);
    for _ in 0..3 {
        soil(&mut slot, (0..2048).step_by(300));
        slot.clean().unwrap();
        assert_clean(&mut slot, len, Some(&image));
    }
}

#[test]
fn x_pool_a_forked_child_cleans_its_own_pages() {
    let region = region(&RegionOptions::default());
    let image = image(40);
    let mut slot = slot(&region, 64 * PAGE, Some(&image));
    soil(&mut slot, 0..3);
    let outcome = fork::run(|| {
        soil(&mut slot, 30..64);
        slot.clean().unwrap();
        assert_clean(&mut slot, 64 * PAGE, Some(&image));
        0
    });
    assert_eq!(outcome, fork::Outcome::Exited(0));
    slot.clean().unwrap();
    assert_clean(&mut slot, 64 * PAGE, Some(&image));
}

#[test]
fn x_pool_a_slot_that_the_system_does_not_clean_is_mapped_anew() {
    for (call, errno) in [
        (libc::SYS_madvise, libc::ENOMEM),
        (libc::SYS_ioctl, libc::ENOTTY),
        (libc::SYS_mprotect, libc::ENOMEM),
    ] {
        let outcome = fork::run(|| {
            let region = region(&options(3 * PAGE, true));
            let image = image(40);
            let mut first = slot(&region, 64 * PAGE, Some(&image));
            first.grow_memory(80 * PAGE).unwrap();
            bytes(&mut first).fill(0x77);
            fork::refuse(call, errno);
            let cleaned = first.clean();
            assert_eq!(cleaned.is_ok(), call == libc::SYS_ioctl, "{cleaned:?}");
            drop(first);
            let mut next = region.take_any();
            let mapped = next.map_pages(40 * PAGE, Some(&image));
            if call != libc::SYS_mprotect {
                mapped.unwrap();
                assert_clean(&mut next, 40 * PAGE, Some(&image));
            }
            0
        });
        assert_eq!(outcome, fork::Outcome::Exited(0), "{call}");
    }
}
