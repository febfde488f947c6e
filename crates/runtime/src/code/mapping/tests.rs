//! Tests of executable text.

use super::*;
use crate::sys::fork::{self, Outcome};
use crate::sys::memfd;
use crate::sys::page::page_len;
use std::os::fd::OwnedFd;

/// `mov eax, 42; ret`
const FORTY_TWO: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];

fn call(code: &CodeMapping, offset: usize) -> i32 {
    let start = code.base().wrapping_add(offset);
    // SAFETY: the code of these tests is a function without arguments that returns an integer, or
    // faults.
    let function =
        unsafe { std::mem::transmute::<*const u8, unsafe extern "C" fn() -> i32>(start) };
    // SAFETY: as above.
    unsafe { function() }
}

fn read(code: &CodeMapping, offset: usize) -> u8 {
    // SAFETY: all pages of a mapping can be read.
    unsafe { code.base().wrapping_add(offset).read_volatile() }
}

fn file(offset: usize, text: &[u8]) -> OwnedFd {
    let fd = memfd::create("text", (offset + text.len()) as u64).unwrap();
    memfd::write_at(&fd, offset as u64, text).unwrap();
    fd
}

#[test]
fn text_from_bytes_runs_and_is_followed_by_int3() {
    let code = CodeMapping::from_bytes(&FORTY_TWO).unwrap();
    assert_eq!(call(&code, 0), 42);
    assert_eq!(code.len(), 6);
    assert_eq!(code.range(), code.base().addr()..code.base().addr() + 6);
    assert!((6..page_len()).all(|offset| read(&code, offset) == 0xcc));
    let outcome = fork::run(|| {
        fork::set_default(libc::SIGTRAP);
        call(&code, 6)
    });
    assert_eq!(outcome, Outcome::Killed(libc::SIGTRAP));
}

#[test]
fn text_may_fill_its_pages_to_the_last_byte() {
    let mut text = vec![0x90; 2 * page_len()];
    let last = text.len() - FORTY_TWO.len();
    text[last..].copy_from_slice(&FORTY_TWO);
    let code = CodeMapping::from_bytes(&text).unwrap();
    assert_eq!(call(&code, 0), 42);
    assert_eq!(code.range().len(), text.len());
}

#[test]
fn text_from_a_file_runs() {
    let page = page_len();
    let fd = file(page, &FORTY_TWO);
    let code = CodeMapping::from_file(&fd, page as u64, FORTY_TWO.len()).unwrap();
    assert_eq!(call(&code, 0), 42);
    assert_eq!(code.range().len(), 6);
}

#[test]
fn text_cannot_be_written() {
    let fd = file(0, &FORTY_TWO);
    for code in [
        CodeMapping::from_bytes(&FORTY_TWO).unwrap(),
        CodeMapping::from_file(&fd, 0, FORTY_TWO.len()).unwrap(),
    ] {
        let outcome = fork::run(|| {
            fork::set_default(libc::SIGSEGV);
            // SAFETY: none; the child is to die of this.
            unsafe { code.base().cast_mut().write_volatile(0x90) };
            0
        });
        assert_eq!(outcome, Outcome::Killed(libc::SIGSEGV));
    }
}

#[test]
fn text_that_leaves_its_file_is_refused() {
    let page = page_len();
    let fd = file(page, &FORTY_TWO);
    for (offset, len) in [(page, 7), (2 * page, 1), (0, page + 7), (page, usize::MAX)] {
        let error = CodeMapping::from_file(&fd, offset as u64, len).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{offset} {len}");
    }
    assert!(CodeMapping::from_file(&fd, u64::MAX, 1).is_err());
    let error = CodeMapping::from_file(&fd, 1, 1).unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::InvalidInput,
        "not on a page boundary"
    );
}

#[test]
fn empty_text_has_an_address_and_contains_nothing() {
    let fd = file(0, &FORTY_TWO);
    for code in [
        CodeMapping::from_bytes(&[]).unwrap(),
        CodeMapping::from_file(&fd, 0, 0).unwrap(),
    ] {
        assert_eq!(code.len(), 0);
        assert!(code.range().is_empty() && code.range().start != 0);
        assert_eq!(read(&code, 0), 0xcc);
    }
}

#[test]
fn dropped_text_is_unmapped() {
    let outcome = fork::run(|| {
        fork::set_default(libc::SIGSEGV);
        let code = CodeMapping::from_bytes(&FORTY_TWO).unwrap();
        let base = code.base();
        drop(code);
        // SAFETY: none; the child is to die of this.
        i32::from(unsafe { base.read_volatile() })
    });
    assert_eq!(outcome, Outcome::Killed(libc::SIGSEGV));
}
