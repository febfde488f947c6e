//! Waiting: clocks in their order, descriptors that are ready or not, and subscriptions that can't
//! be waited for.

use super::*;
use crate::p1::fd;
use crate::p1::harness::{Alone, CREAT, Guest, READ, Thread, WRITE};
use crate::stdio::{Output, ReadPipe};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

const SUBS: u32 = 0x1000;
const EVENTS: u32 = 0x2000;
const COUNT: u32 = 0x10;
const HOUR: u64 = 3_600_000_000_000;

/// What a test waits for.
#[derive(Clone, Copy)]
enum Sub {
    After(u64),
    At(u32, u64),
    Read(u32),
    Write(u32),
}

fn put(guest: &mut Guest, subs: &[Sub]) {
    for (idx, sub) in subs.iter().enumerate() {
        let at = SUBS + idx as u32 * SUBSCRIPTION_LEN;
        let bytes = &mut guest.bytes;
        memory::write(bytes, at, &[0; 48]).unwrap();
        memory::write_u64(bytes, at, 100 + idx as u64).unwrap();
        let (tag, first, timeout, flags) = match *sub {
            Sub::After(timeout) => (0, 1, timeout, 0),
            Sub::At(id, timeout) => (0, id, timeout, 1),
            Sub::Read(fd) => (1, fd, 0, 0),
            Sub::Write(fd) => (2, fd, 0, 0),
        };
        memory::write(bytes, at + 8, &[tag]).unwrap();
        memory::write_u32(bytes, at + 16, first).unwrap();
        memory::write_u64(bytes, at + 24, timeout).unwrap();
        memory::write(bytes, at + 40, &[flags]).unwrap();
    }
}

/// An event: which subscription, error number, type, bytes, hangup.
type Got = (u64, u16, u8, u64, u16);

fn poll(guest: &mut Guest, subs: &[Sub]) -> Vec<Got> {
    put(guest, subs);
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    poll_oneoff(&Alone, ctx, bytes, SUBS, EVENTS, subs.len() as u32, COUNT).unwrap();
    let count = memory::read_u32(bytes, COUNT).unwrap();
    (0..count)
        .map(|idx| {
            let at = EVENTS + idx * EVENT_LEN;
            (
                memory::read_u64(bytes, at).unwrap() - 100,
                memory::read_u16(bytes, at + 8).unwrap(),
                memory::read_u8(bytes, at + 10).unwrap(),
                memory::read_u64(bytes, at + 16).unwrap(),
                memory::read_u16(bytes, at + 24).unwrap(),
            )
        })
        .collect()
}

fn clock_event(idx: u64) -> Got {
    (idx, 0, 0, 0, 0)
}

fn with_stdin(reader: std::io::PipeReader) -> Guest {
    let mut guest = Guest::new();
    let reader = File::from(OwnedFd::from(reader));
    guest.ctx = WasiCtx::builder().stdin(reader).build().unwrap();
    guest
}

#[test]
fn the_earliest_clock_wakes_and_later_ones_are_not_reported() {
    let mut guest = Guest::new();
    let before = clock::monotonic();
    let got = poll(
        &mut guest,
        &[
            Sub::After(HOUR),
            Sub::After(2_000_000),
            Sub::After(2 * HOUR),
        ],
    );
    assert_eq!(got, [clock_event(1)]);
    assert!(clock::monotonic() >= before + 2_000_000, "it did wait");
}

#[test]
fn clocks_that_have_passed_are_all_reported_in_the_order_given() {
    let mut guest = Guest::new();
    let now = clock::monotonic();
    let subs = [
        Sub::At(1, now),
        Sub::After(HOUR),
        Sub::At(0, 1),
        Sub::After(0),
        Sub::At(1, now + HOUR),
        Sub::At(1, 0),
    ];
    let got = poll(&mut guest, &subs);
    assert_eq!(
        got,
        [
            clock_event(0),
            clock_event(2),
            clock_event(3),
            clock_event(5)
        ]
    );
}

#[test]
fn points_in_time_are_waited_for_on_both_clocks() {
    let mut guest = Guest::new();
    for (id, host) in [(0, ClockId::Realtime), (1, ClockId::Monotonic)] {
        let at = clock::now(host) + 2_000_000;
        assert_eq!(poll(&mut guest, &[Sub::At(id, at)]), [clock_event(0)]);
        assert!(clock::now(host) >= at, "clock {id}");
    }
}

#[test]
fn clocks_that_cannot_be_waited_for_are_errors_in_their_events() {
    let mut guest = Guest::new();
    let got = poll(
        &mut guest,
        &[Sub::At(9, 1), Sub::At(2, 1), Sub::After(HOUR)],
    );
    let (inval, notsup) = (Errno::Inval.number(), Errno::Notsup.number());
    assert_eq!(got, [(0, inval, 0, 0, 0), (1, notsup, 0, 0, 0)]);
}

#[test]
fn files_are_always_ready_and_tell_what_is_left() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let fd = guest.open("f", CREAT, READ | WRITE).unwrap();
    guest.seek(fd, 4, 0).unwrap();
    let got = poll(
        &mut guest,
        &[
            Sub::After(HOUR),
            Sub::Read(fd),
            Sub::Write(fd),
            Sub::Read(3),
        ],
    );
    assert_eq!(got[0], (1, 0, 1, 6, 0));
    assert_eq!((got[1].0, got[1].1, got[1].2), (2, 0, 2));
    assert_eq!(got[2], (3, 0, 1, 0, 0));
    assert_eq!(got.len(), 3);
}

#[test]
fn a_pipe_is_ready_when_something_has_come() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut guest = with_stdin(reader);
    assert_eq!(
        poll(&mut guest, &[Sub::Read(0), Sub::After(1_000)]),
        [clock_event(1)]
    );
    writer.write_all(b"abc").unwrap();
    assert_eq!(
        poll(&mut guest, &[Sub::Read(0), Sub::After(HOUR)]),
        [(0, 0, 1, 3, 0)]
    );
    guest.read(0, 10).unwrap();
    drop(writer);
    assert_eq!(
        poll(&mut guest, &[Sub::Read(0)]),
        [(0, 0, 1, 0, 1)],
        "hung up"
    );
}

#[test]
fn a_wait_ends_when_another_thread_writes() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut guest = with_stdin(reader);
    let waiting = Thread::this();
    let writing = std::thread::spawn(move || {
        waiting.until_it_sleeps();
        writer.write_all(b"x").unwrap();
        writer
    });
    assert_eq!(
        poll(&mut guest, &[Sub::After(HOUR), Sub::Read(0)]),
        [(1, 0, 1, 1, 0)]
    );
    writing.join().unwrap();
}

#[test]
fn a_full_pipe_is_not_ready_to_be_written() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::new();
    let stdout = File::from(OwnedFd::from(writer));
    guest.ctx = WasiCtx::builder().stdout(stdout).build().unwrap();
    let got = poll(&mut guest, &[Sub::Write(1), Sub::After(HOUR)]);
    assert_eq!((got.len(), got[0].0, got[0].1), (1, 0, 0));
    let nonblock = u32::from(crate::p1::layout::FdFlags::NONBLOCK.0);
    fd::fd_fdstat_set_flags(&mut guest.ctx, &mut guest.bytes, 1, nonblock).unwrap();
    while guest.writev(1, &[(0, 0x10000)]).is_ok() {}
    assert_eq!(
        poll(&mut guest, &[Sub::Write(1), Sub::After(1_000)]),
        [clock_event(1)]
    );
    drop(reader);
    let got = poll(&mut guest, &[Sub::Write(1), Sub::After(HOUR)]);
    assert_eq!(
        (got[0].0, got[0].4),
        (0, 1),
        "hung up, which a write then says"
    );
}

#[test]
fn streams_in_memory_are_always_ready() {
    let mut guest = Guest::new();
    guest.ctx = WasiCtx::builder()
        .stdin(ReadPipe::new("abc"))
        .stdout(Output::Null)
        .build()
        .unwrap();
    let got = poll(
        &mut guest,
        &[Sub::Read(0), Sub::Write(1), Sub::Write(2), Sub::After(HOUR)],
    );
    assert_eq!(got.len(), 3);
    assert_eq!(got[0], (0, 0, 1, 3, 0));
}

#[test]
fn descriptors_that_cannot_be_waited_for_are_errors_in_their_events() {
    let mut guest = Guest::new();
    let reads = guest.open("f", CREAT, READ).unwrap();
    let subs = [
        Sub::Read(99),
        Sub::Read(1),
        Sub::Write(0),
        Sub::Write(reads),
        Sub::After(HOUR),
    ];
    let badf = Errno::Badf.number();
    let want = [
        (0, badf, 1, 0, 0),
        (1, badf, 1, 0, 0),
        (2, badf, 2, 0, 0),
        (3, badf, 2, 0, 0),
    ];
    assert_eq!(poll(&mut guest, &subs), want);
}

#[test]
fn lists_that_are_empty_too_long_or_out_of_memory_are_refused() {
    let mut guest = Guest::new();
    put(&mut guest, &[Sub::After(0)]);
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    let end = bytes.len() as u32;
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, EVENTS, 0, COUNT),
        Err(Errno::Inval)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, EVENTS, u32::MAX, COUNT),
        Err(Errno::Inval)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, EVENTS, 0x1000, COUNT),
        Err(Errno::Fault)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, end - 47, EVENTS, 1, COUNT),
        Err(Errno::Fault)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, end - 31, 1, COUNT),
        Err(Errno::Fault)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, EVENTS, 1, end - 3),
        Err(Errno::Fault)
    );
    assert_eq!(
        poll_oneoff(&Alone, ctx, bytes, SUBS, end - 32, 1, COUNT),
        Ok(())
    );
    // Where the events overwrite the subscriptions, these have been read before.
    put(
        &mut guest,
        &[Sub::After(HOUR), Sub::After(0), Sub::At(1, 0)],
    );
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    poll_oneoff(&Alone, ctx, bytes, SUBS, SUBS, 3, COUNT).unwrap();
    assert_eq!(memory::read_u32(bytes, COUNT), Ok(2));
    assert_eq!(memory::read_u64(bytes, SUBS + EVENT_LEN), Ok(102));
}
