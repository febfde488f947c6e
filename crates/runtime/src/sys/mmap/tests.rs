//! Tests of address space: what parts can be made of a range, and what faults.

use super::*;
use crate::sys::fork::{self, Outcome};
use crate::sys::memfd;

fn write(range: &Reservation, offset: usize, value: u8) {
    assert!(offset < range.len());
    let place = range.base().wrapping_add(offset);
    // SAFETY: inside the range; that the page can be written is what the test is about.
    unsafe { place.write_volatile(value) };
}

fn read(range: &Reservation, offset: usize) -> u8 {
    assert!(offset < range.len());
    let place = range.base().wrapping_add(offset);
    // SAFETY: inside the range; that the page can be read is what the test is about.
    unsafe { place.read_volatile() }
}

/// How a child ends that does `body`, which may fault.
fn ends(body: impl FnOnce()) -> Outcome {
    fork::run(|| {
        fork::set_default(libc::SIGSEGV);
        fork::set_default(libc::SIGBUS);
        body();
        0
    })
}

const FAULTED: Outcome = Outcome::Killed(libc::SIGSEGV);

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn only_whole_pages_can_be_reserved() {
    let page = page_len();
    for len in [0, 1, page - 1, page + 1] {
        assert_eq!(
            kind(Reservation::reserve(len)),
            io::ErrorKind::InvalidInput,
            "{len}"
        );
    }
    let range = Reservation::reserve(3 * page).unwrap();
    assert_eq!(range.len(), 3 * page);
    assert_eq!(range.addr(), range.base().addr());
    assert_eq!(range.addr() % page, 0);
}

#[test]
fn a_reservation_beyond_the_address_space_is_an_error() {
    assert!(Reservation::reserve(usize::MAX - page_len() + 1).is_err());
}

#[test]
fn reserving_costs_no_memory() {
    // More than this machine has.
    let range = Reservation::reserve(1 << 42).unwrap();
    range.map_anonymous(0, 1 << 42).unwrap();
    write(&range, (1 << 42) - 1, 1);
    assert_eq!(read(&range, (1 << 42) - 1), 1);
}

#[test]
fn parts_must_be_inside_and_in_whole_pages() {
    let page = page_len();
    let range = Reservation::reserve(4 * page).unwrap();
    let fd = memfd::create("test", 4 * page as u64).unwrap();
    let bad = [
        (0, 5 * page),
        (4 * page, page),
        (5 * page, 0),
        (usize::MAX - page + 1, page),
        (page, usize::MAX - page + 1),
        (1, page),
        (0, 1),
        (page - 1, 1),
    ];
    for (offset, len) in bad {
        for result in [
            range.protect_none(offset, len),
            range.protect_read(offset, len),
            range.protect_read_write(offset, len),
            range.protect_read_exec(offset, len),
            range.map_anonymous(offset, len),
            range.map_none(offset, len),
            range.decommit(offset, len),
            range.map_file_private(offset, len, &fd, 0, true),
            range.map_file_shared(offset, len, &fd, 0, true),
            range.map_file_exec(offset, len, &fd, 0),
        ] {
            assert_eq!(
                kind(result),
                io::ErrorKind::InvalidInput,
                "{offset:#x} {len:#x}"
            );
        }
    }
    let result = range.map_file_private(0, page, &fd, 1, false);
    assert_eq!(kind(result), io::ErrorKind::InvalidInput);
}

#[test]
fn nothing_is_done_for_an_empty_part() {
    let page = page_len();
    let range = Reservation::reserve(page).unwrap();
    for offset in [0, page] {
        range.protect_read_write(offset, 0).unwrap();
        range.map_anonymous(offset, 0).unwrap();
        range.map_none(offset, 0).unwrap();
        range.decommit(offset, 0).unwrap();
    }
    assert_eq!(ends(|| write(&range, 0, 1)), FAULTED);
}

#[test]
fn rights_are_those_that_were_set_last() {
    let page = page_len();
    let range = Reservation::reserve(4 * page).unwrap();
    assert_eq!(ends(|| _ = read(&range, 0)), FAULTED);

    range.protect_read_write(page, 2 * page).unwrap();
    write(&range, page, 7);
    write(&range, 3 * page - 1, 8);
    assert_eq!(ends(|| _ = read(&range, page - 1)), FAULTED);
    assert_eq!(ends(|| _ = read(&range, 3 * page)), FAULTED);

    range.protect_read(page, page).unwrap();
    assert_eq!(read(&range, page), 7);
    assert_eq!(ends(|| write(&range, page, 1)), FAULTED);

    range.protect_none(page, page).unwrap();
    assert_eq!(ends(|| _ = read(&range, page)), FAULTED);
    range.protect_read(page, page).unwrap();
    assert_eq!(read(&range, page), 7, "contents outlive the loss of rights");
    assert_eq!(read(&range, 3 * page - 1), 8);
}

#[test]
fn fresh_and_decommitted_memory_is_zero() {
    let page = page_len();
    let range = Reservation::reserve(3 * page).unwrap();
    range.map_anonymous(0, 3 * page).unwrap();
    for index in 0..3 {
        write(&range, index * page, 9);
    }
    range.decommit(page, page).unwrap();
    assert_eq!([0, 1, 2].map(|index| read(&range, index * page)), [9, 0, 9]);
    range.map_anonymous(0, page).unwrap();
    assert_eq!([0, 1, 2].map(|index| read(&range, index * page)), [0, 0, 9]);
    range.map_none(2 * page, page).unwrap();
    assert_eq!(ends(|| _ = read(&range, 2 * page)), FAULTED);
    range.protect_read(2 * page, page).unwrap();
    assert_eq!(
        read(&range, 2 * page),
        0,
        "the old contents were given back"
    );
}

#[test]
fn private_views_never_write_the_file() {
    let page = page_len();
    let fd = memfd::create("test", 2 * page as u64).unwrap();
    memfd::write_at(&fd, page as u64, b"file").unwrap();
    let range = Reservation::reserve(2 * page).unwrap();
    range
        .map_file_private(0, page, &fd, page as u64, true)
        .unwrap();
    range
        .map_file_private(page, page, &fd, page as u64, false)
        .unwrap();
    write(&range, 0, b'F');
    assert_eq!((read(&range, 0), read(&range, page)), (b'F', b'f'));
    assert_eq!(ends(|| write(&range, page, 0)), FAULTED);
    range.decommit(0, page).unwrap();
    assert_eq!(
        read(&range, 0),
        b'f',
        "a private page goes back to the file"
    );
}

#[test]
fn shared_views_show_each_others_writes() {
    let page = page_len();
    let fd = memfd::create("test", page as u64).unwrap();
    let range = Reservation::reserve(2 * page).unwrap();
    range.map_file_shared(0, page, &fd, 0, true).unwrap();
    range.map_file_shared(page, page, &fd, 0, false).unwrap();
    write(&range, 5, 55);
    assert_eq!(read(&range, page + 5), 55);
    assert_eq!(ends(|| write(&range, page + 5, 1)), FAULTED);
    range.decommit(0, page).unwrap();
    assert_eq!(read(&range, 5), 55, "the file keeps what was written");
}

#[test]
fn a_view_behind_the_end_of_its_file_ends_in_sigbus() {
    let page = page_len();
    let fd = memfd::create("test", 10).unwrap();
    let range = Reservation::reserve(2 * page).unwrap();
    range.map_file_private(0, 2 * page, &fd, 0, false).unwrap();
    assert_eq!(read(&range, page - 1), 0);
    assert_eq!(
        ends(|| _ = read(&range, page)),
        Outcome::Killed(libc::SIGBUS)
    );
}

#[test]
fn a_dropped_reservation_is_unmapped() {
    let outcome = ends(|| {
        let range = Reservation::reserve(page_len()).unwrap();
        range.protect_read(0, page_len()).unwrap();
        let base = range.base();
        // SAFETY: mapped so far.
        unsafe { base.read_volatile() };
        drop(range);
        // SAFETY: none; the child is to die of this.
        unsafe { base.read_volatile() };
    });
    assert_eq!(outcome, FAULTED);
}

#[test]
fn a_whole_file_is_mapped_to_be_read() {
    let contents: Vec<u8> = (0..=255).cycle().take(page_len() + 77).collect();
    let fd = memfd::create("test", contents.len() as u64).unwrap();
    memfd::write_at(&fd, 0, &contents).unwrap();
    let map = FileMap::map(&fd.into()).unwrap();
    assert!(map.as_slice() == contents);
}

#[test]
fn an_empty_file_is_an_empty_slice() {
    let fd = memfd::create("test", 0).unwrap();
    assert!(FileMap::map(&fd.into()).unwrap().as_slice().is_empty());
}

#[test]
fn what_is_no_regular_file_is_not_mapped() {
    assert!(FileMap::map(&File::open("/").unwrap()).is_err());
}

#[test]
fn a_part_has_the_key_of_its_stripe_and_lies_in_one() {
    let page = page_len();
    let mut range = Reservation::reserve(16 * page).unwrap();
    assert_eq!(range.key(0, 16 * page).unwrap(), None);
    let keys: Vec<Key> = (1..=3).map(Key::numbered).collect();
    range.stripe(Stripes {
        first: page,
        stride: 3 * page,
        keys: keys.clone(),
    });
    for (stripe, key) in keys.iter().cycle().take(5).enumerate() {
        let start = page + stripe * 3 * page;
        assert_eq!(range.key(start, 3 * page).unwrap(), Some(*key));
        assert_eq!(range.key(start + 2 * page, page).unwrap(), Some(*key));
        // Whatever would make a part accessible that is not of one stripe is refused before the kernel is asked.
        let file = memfd::create("test", 4 * page as u64).unwrap();
        let results = [
            range.protect_read_write(start + page, 3 * page),
            range.map_anonymous(start + page, 3 * page),
            range.map_file_private(start + page, 3 * page, &file, 0, true),
            range.map_file_shared(start + page, 3 * page, &file, 0, false),
        ];
        assert!(
            results
                .into_iter()
                .all(|result| kind(result) == io::ErrorKind::InvalidInput)
        );
    }
    assert_eq!(
        kind(range.protect_read_write(0, page)),
        io::ErrorKind::InvalidInput
    );
}
