//! Tests of the scan, each on a kernel that has it; without it there is nothing to be scanned.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]
#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one run is a list of runs"
)]

use super::*;
use crate::sys::fork;

/// The runs of a range, as numbers of pages from its start.
fn scan_all(map: &Pagemap, space: &Reservation) -> Vec<Range<usize>> {
    let (page, start) = (page_len(), space.addr());
    let mut found = Vec::new();
    let mut runs = Runs::new();
    let (mut at, end) = (start, start + space.len());
    while at < end {
        let next = map.scan(at..end, &mut runs).unwrap();
        assert!(next > at);
        for addrs in runs.told() {
            found.push((addrs.start - start) / page..(addrs.end - start) / page);
        }
        at = next;
    }
    found
}

fn write(space: &Reservation, page: usize) {
    let at = space.base().wrapping_add(page * page_len());
    // SAFETY: the tests map the page writable before.
    unsafe { at.write_volatile(7) };
}

fn fresh(pages: usize) -> Reservation {
    let space = Reservation::reserve(pages * page_len()).unwrap();
    space.protect_read_write(0, pages * page_len()).unwrap();
    space
}

#[test]
fn more_runs_than_one_call_tells_are_told_by_several() {
    let Some(map) = Pagemap::get() else { return };
    let space = fresh(4 * MAX_RUNS);
    for page in (0..4 * MAX_RUNS).step_by(2) {
        write(&space, page);
    }
    let expected: Vec<_> = (0..4 * MAX_RUNS).step_by(2).map(|p| p..p + 1).collect();
    assert_eq!(scan_all(map, &space), expected);
    space.decommit(0, space.len()).unwrap();
    assert_eq!(scan_all(map, &space), Vec::<Range<usize>>::new());
}

#[test]
fn a_range_without_mappings_or_rights_is_told_as_it_is() {
    let Some(map) = Pagemap::get() else { return };
    let space = fresh(8);
    write(&space, 3);
    space.protect_none(3 * page_len(), page_len()).unwrap();
    assert_eq!(scan_all(map, &space), [3..4]);
}

#[test]
fn a_child_sees_its_own_pages_and_not_its_parents() {
    let Some(map) = Pagemap::get() else { return };
    let space = fresh(8);
    write(&space, 1);
    let outcome = fork::run(|| {
        write(&space, 5);
        space.decommit(page_len(), page_len()).unwrap();
        i32::from(scan_all(map, &space) != [5..6])
    });
    assert_eq!(outcome, fork::Outcome::Exited(0));
    assert_eq!(scan_all(map, &space), [1..2]);
}

#[test]
fn a_page_that_was_swapped_out_is_told() {
    let Some(map) = Pagemap::get() else { return };
    let space = fresh(8);
    for page in [2, 3] {
        write(&space, page);
    }
    let at = space.base().wrapping_add(2 * page_len());
    // SAFETY: a page of our own; the call moves what it holds, and changes nothing of it. Without swap
    // it does nothing, and the page is told all the same.
    unsafe { libc::madvise(at.cast(), page_len(), libc::MADV_PAGEOUT) };
    assert_eq!(scan_all(map, &space), [2..4]);
}

#[test]
fn a_call_that_fails_is_an_error() {
    let space = fresh(1);
    let nothing = Pagemap::broken();
    let range = space.addr()..space.addr() + space.len();
    let mut runs = Runs::new();
    assert!(nothing.scan(range, &mut runs).is_err());
    assert!(nothing.try_out().is_err());
}
