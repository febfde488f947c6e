//! Tests of one stack: its layout, its guards, its memory.
#![allow(unsafe_code, reason = "room R3, SAFETY.md")]

use super::*;
use crate::sys::fork::{self, Outcome};
use crate::sys::page::page_len;

pub(super) fn write(addr: usize, value: u8) {
    // SAFETY: on a stack of the test's own, or meant to fault in a child.
    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(addr).write_volatile(value) };
}

pub(super) fn read(addr: usize) -> u8 {
    // SAFETY: on a stack of the test's own.
    unsafe { std::ptr::with_exposed_provenance::<u8>(addr).read_volatile() }
}

fn writing_faults(addr: usize) -> bool {
    let outcome = fork::run(|| {
        fork::set_default(libc::SIGSEGV);
        write(addr, 1);
        0
    });
    outcome == Outcome::Killed(libc::SIGSEGV)
}

#[test]
fn usable_bytes_lie_between_limit_and_top_and_guards_around_them() {
    let stack = Stack::new(1 << 20, 64 << 10).unwrap();
    assert_eq!(stack.usable_len(), 1 << 20);
    assert_eq!(stack.top() - stack.limit(), 1 << 20);
    assert_eq!(
        stack.bounds().guard,
        stack.limit() - (64 << 10) - RESERVE_LEN..stack.limit()
    );
    assert_eq!(stack.top() % page_len(), 0);
    let mapped_end = stack.memory.addr() + stack.memory.len();
    assert_eq!(
        mapped_end,
        stack.top() + (64 << 10),
        "the high guard is ours"
    );
    for addr in [stack.limit(), stack.top() - 1] {
        write(addr, 3);
        assert_eq!(read(addr), 3);
    }
    let guards = [
        stack.bounds().guard.start,
        stack.limit() - 1,
        stack.top(),
        stack.top() + (64 << 10) - 1,
    ];
    for addr in guards {
        assert!(writing_faults(addr), "{addr:#x}");
    }
}

#[test]
fn the_reserve_is_lent_piece_by_piece_and_taken_back_whole() {
    let stack = Stack::new(1 << 16, 1 << 16).unwrap();
    let bounds = stack.bounds();
    assert_eq!(
        bounds.next_loan(None),
        Some(stack.limit() - LOAN_LEN..stack.limit())
    );
    let mut lent = 0;
    for piece in 1..=RESERVE_LEN / LOAN_LEN {
        let end = stack.limit() - lent;
        assert!(writing_faults(end - 1));
        // Where a handler needs more than a piece it gets as many as reach down to the address.
        let deep = bounds.next_loan(Some(end - LOAN_LEN - 1));
        let fits = piece * LOAN_LEN < RESERVE_LEN;
        assert_eq!(deep, fits.then(|| end - 2 * LOAN_LEN..end));
        for addr in [None, Some(end), Some(end - 1), Some(end - LOAN_LEN + 1)] {
            let loan = bounds.next_loan(addr);
            assert_eq!(loan, Some(end - LOAN_LEN..end), "{addr:?}");
        }
        let loan = end - LOAN_LEN..end;
        // SAFETY: the stack is this test's, and nothing runs on it.
        assert!(unsafe { crate::sys::mmap::open_in_handler(&loan) });
        bounds.set_lent(&loan);
        assert!(bounds.is_lent());
        write(loan.start, 1);
        lent = piece * LOAN_LEN;
    }
    assert_eq!(bounds.next_loan(None), None);
    assert_eq!(bounds.next_loan(Some(bounds.reserve.start - 1)), None);
    stack.close_reserve().unwrap();
    assert!(!bounds.is_lent());
    assert!(writing_faults(bounds.reserve.start) && writing_faults(stack.limit() - 1));
}

#[test]
fn lengths_are_rounded_up_to_pages() {
    let stack = Stack::new(page_len() + 1, 1).unwrap();
    assert_eq!(stack.usable_len(), 2 * page_len());
    assert_eq!(stack.bounds().guard.len(), page_len() + RESERVE_LEN);
    let stack = Stack::new(0, 0).unwrap();
    assert_eq!(
        (stack.usable_len(), stack.bounds().guard.len()),
        (page_len(), page_len() + RESERVE_LEN)
    );
}

#[test]
fn absurd_lengths_are_errors() {
    for (usable_len, guard_len) in [
        (usize::MAX, 1),
        (1, usize::MAX),
        (1 << 63, 1 << 63),
        (1 << 60, 1 << 16),
    ] {
        assert!(
            Stack::new(usable_len, guard_len).is_err(),
            "{usable_len:#x} {guard_len:#x}"
        );
    }
}

#[test]
fn a_stack_can_go_to_another_thread() {
    let stack = Stack::new(1 << 16, 1 << 16).unwrap();
    std::thread::spawn(move || write(stack.limit(), 1))
        .join()
        .unwrap();
}

#[test]
fn a_trimmed_stack_keeps_only_its_highest_pages() {
    let mut stack = Stack::new(1 << 20, 1 << 16).unwrap();
    let kept = stack.top() - KEPT_LEN;
    for addr in [stack.limit(), kept - 1, kept, stack.top() - 1] {
        write(addr, 6);
    }
    stack.trim().unwrap();
    let contents = [stack.limit(), kept - 1, kept, stack.top() - 1].map(read);
    assert_eq!(contents, [0, 0, 6, 6]);
    write(stack.limit(), 1);

    let mut short = Stack::new(1 << 16, 1 << 16).unwrap();
    write(short.limit(), 6);
    short.tend().unwrap();
    short.trim().unwrap();
    assert_eq!(read(short.limit()), 6);
}
