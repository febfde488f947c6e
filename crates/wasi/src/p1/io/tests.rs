//! Bytes in and out: real files, real pipes, pipes in memory, and buffers that lie.

use super::*;
use crate::p1::fd;
use crate::p1::harness::{Alone, CREAT, Guest, READ, WRITE};
use crate::stdio::{ReadPipe, WritePipe};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// A place for guest data well above what the harness uses.
const AT: u32 = 0x9000;

fn with_streams(stdin: impl Into<Input>, stdout: impl Into<Output>) -> Guest {
    let mut guest = Guest::new();
    guest.ctx = WasiCtx::builder()
        .stdin(stdin)
        .stdout(stdout)
        .build()
        .unwrap();
    guest
}

fn host_pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (
        File::from(OwnedFd::from(reader)),
        File::from(OwnedFd::from(writer)),
    )
}

#[test]
fn what_is_written_is_read_back() {
    let mut guest = Guest::new();
    let fd = guest.open("f", CREAT, READ | WRITE).unwrap();
    assert_eq!(guest.write(fd, "hello world"), Ok(11));
    assert_eq!(guest.host_read("f"), "hello world");
    assert_eq!(guest.read(fd, 5), Ok(String::new()), "at the end");
    guest.seek(fd, 6, 0).unwrap();
    assert_eq!(guest.read(fd, 100), Ok("world".to_owned()));
}

#[test]
fn positioned_reads_and_writes_leave_the_offset_alone() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let fd = guest.open("f", 0, READ | WRITE).unwrap();
    guest.seek(fd, 4, 0).unwrap();
    assert_eq!(guest.pread(fd, 3, 7), Ok("789".to_owned()));
    assert_eq!(
        guest.pread(fd, 3, 9),
        Ok("9".to_owned()),
        "short at the end"
    );
    assert_eq!(guest.pread(fd, 3, 1000), Ok(String::new()));
    assert_eq!(guest.pwrite(fd, "ab", 1), Ok(2));
    assert_eq!(guest.tell(fd), Ok(4));
    assert_eq!(guest.host_read("f"), "0ab3456789");
    assert_eq!(guest.pread(fd, 1, u64::MAX), Err(Errno::Inval));
}

#[test]
fn several_buffers_are_filled_in_their_order() {
    let mut guest = Guest::new();
    guest.host_write("f", "abcdefghij");
    let fd = guest.open("f", 0, READ).unwrap();
    // Not in the order of their addresses, with an empty one that points nowhere.
    let iovs = [(AT + 8, 2), (u32::MAX, 0), (AT, 3), (AT + 16, 100)];
    assert_eq!(guest.readv(fd, &iovs), Ok(10));
    let at = AT as usize;
    assert_eq!(&guest.bytes[at + 8..at + 10], b"ab");
    assert_eq!(&guest.bytes[at..at + 3], b"cde");
    assert_eq!(&guest.bytes[at + 16..at + 21], b"fghij");

    let out = guest.open("g", CREAT, WRITE).unwrap();
    assert_eq!(guest.writev(out, &iovs[..3]), Ok(5));
    assert_eq!(guest.host_read("g"), "abcde");
}

#[test]
fn more_buffers_than_a_batch_holds_are_all_served() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789abcdefghijklm");
    let fd = guest.open("f", 0, READ).unwrap();
    let iovs: Vec<_> = (0..20).map(|n| (AT + 2 * n, 1)).collect();
    assert_eq!(guest.readv(fd, &iovs), Ok(20));
    let got: Vec<u8> = iovs
        .iter()
        .map(|(at, _)| guest.bytes[*at as usize])
        .collect();
    assert_eq!(got, b"0123456789abcdefghij");
    let out = guest.open("g", CREAT, WRITE).unwrap();
    assert_eq!(guest.writev(out, &iovs), Ok(20));
    assert_eq!(guest.host_read("g"), "0123456789abcdefghij");
}

#[test]
fn overlapping_buffers_get_what_the_first_of_them_holds() {
    let mut guest = Guest::new();
    guest.host_write("f", "abcdef");
    let fd = guest.open("f", 0, READ).unwrap();
    assert_eq!(guest.readv(fd, &[(AT, 4), (AT + 2, 4)]), Ok(4));
    assert_eq!(&guest.bytes[AT as usize..AT as usize + 4], b"abcd");
    // Writing from overlapping buffers is harmless.
    let out = guest.open("g", CREAT, WRITE).unwrap();
    assert_eq!(guest.writev(out, &[(AT, 4), (AT + 2, 2), (AT, 1)]), Ok(7));
    assert_eq!(guest.host_read("g"), "abcdcda");
}

#[test]
fn lying_buffers_are_faults_and_move_nothing() {
    let mut guest = Guest::new();
    guest.host_write("f", "abcdef");
    let fd = guest.open("f", 0, READ | WRITE).unwrap();
    let end = guest.bytes.len() as u32;
    for bad in [
        (end - 2, 3),
        (u32::MAX, 2),
        (4, u32::MAX),
        (end, 1),
        (end + 1, 1),
    ] {
        assert_eq!(guest.readv(fd, &[bad]), Err(Errno::Fault), "{bad:?}");
        assert_eq!(guest.writev(fd, &[bad]), Err(Errno::Fault), "{bad:?}");
    }
    assert_eq!(guest.tell(fd), Ok(0));
    assert_eq!(
        guest.readv(fd, &[(end - 2, 2)]),
        Ok(2),
        "up to the last byte is good"
    );
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    assert_eq!(
        fd_read(&Alone, ctx, bytes, fd, end - 7, 1, 0),
        Err(Errno::Fault)
    );
    assert_eq!(
        fd_read(&Alone, ctx, bytes, fd, 0, u32::MAX, 0),
        Err(Errno::Fault)
    );
    assert_eq!(
        fd_write(&Alone, ctx, bytes, fd, u32::MAX - 3, 1, 0),
        Err(Errno::Fault)
    );
    assert_eq!(
        fd_read(&Alone, ctx, bytes, fd, 0, 0, end - 3),
        Err(Errno::Fault)
    );
    assert_eq!(guest.tell(fd), Ok(2), "nothing moved since");
}

#[test]
fn a_bad_buffer_after_a_good_batch_does_not_lose_the_bytes() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let fd = guest.open("f", 0, READ).unwrap();
    let mut iovs: Vec<_> = (0..8).map(|n| (AT + n, 1)).collect();
    iovs.push((u32::MAX, 9));
    assert_eq!(guest.readv(fd, &iovs), Ok(8));
    assert_eq!(guest.tell(fd), Ok(8));
}

#[test]
fn append_mode_writes_at_the_end_wherever_the_offset_is() {
    let mut guest = Guest::new();
    guest.host_write("f", "abc");
    let append = u32::from(FdFlags::APPEND.0);
    let fd = guest.open_with(3, 0, "f", 0, READ | WRITE, append).unwrap();
    guest.write(fd, "d").unwrap();
    guest.seek(fd, 0, 0).unwrap();
    guest.write(fd, "e").unwrap();
    assert_eq!(guest.host_read("f"), "abcde");
    // Taken away and given back by flags.
    fd::fd_fdstat_set_flags(&mut guest.ctx, &mut guest.bytes, fd, 0).unwrap();
    guest.seek(fd, 0, 0).unwrap();
    guest.write(fd, "X").unwrap();
    assert_eq!(guest.host_read("f"), "Xbcde");
    fd::fd_fdstat_set_flags(&mut guest.ctx, &mut guest.bytes, fd, append).unwrap();
    guest.write(fd, "f").unwrap();
    assert_eq!(guest.host_read("f"), "Xbcdef");
}

#[test]
fn a_descriptor_is_used_only_as_it_was_opened() {
    let mut guest = Guest::new();
    guest.host_write("f", "abc");
    let reads = guest.open("f", 0, READ).unwrap();
    let writes = guest.open("f", 0, WRITE).unwrap();
    let neither = guest.open("f", 0, 0).unwrap();
    assert_eq!(guest.write(reads, "x"), Err(Errno::Badf));
    assert_eq!(guest.pwrite(reads, "x", 0), Err(Errno::Badf));
    assert_eq!(guest.read(writes, 1), Err(Errno::Badf));
    assert_eq!(guest.pread(writes, 1, 0), Err(Errno::Badf));
    assert_eq!(guest.read(neither, 1), Err(Errno::Badf));
    assert_eq!(guest.write(neither, "x"), Err(Errno::Badf));
    assert_eq!(guest.read(3, 1), Err(Errno::Isdir));
    assert_eq!(guest.pread(3, 1, 0), Err(Errno::Isdir));
    assert_eq!(guest.write(3, "x"), Err(Errno::Badf));
    assert_eq!(guest.read(1, 1), Err(Errno::Badf));
    assert_eq!(guest.write(0, "x"), Err(Errno::Badf));
    assert_eq!(guest.pread(0, 1, 0), Err(Errno::Spipe));
    assert_eq!(guest.pwrite(1, "x", 0), Err(Errno::Spipe));
    assert_eq!(guest.read(99, 1), Err(Errno::Badf));
}

#[test]
fn memory_pipes_serve_as_standard_streams() {
    let stdout = WritePipe::bounded(6);
    let mut guest = with_streams(ReadPipe::new("in"), stdout.clone());
    assert_eq!(guest.readv(0, &[(AT, 1), (AT + 8, 5)]), Ok(2));
    assert_eq!(
        (guest.bytes[AT as usize], guest.bytes[AT as usize + 8]),
        (b'i', b'n')
    );
    assert_eq!(guest.read(0, 5), Ok(String::new()));
    assert_eq!(guest.write(1, "four"), Ok(4));
    assert_eq!(
        guest.write(1, "more"),
        Ok(2),
        "as much as there is room for"
    );
    assert_eq!(guest.write(1, "more"), Err(Errno::Nospc));
    assert_eq!(stdout.contents(), b"fourmo");
    assert_eq!(guest.write(2, "into nothing"), Ok(12));
}

#[test]
fn a_pipe_of_the_host_is_read_as_far_as_it_has_come() {
    let (reader, mut writer) = host_pipe();
    let mut guest = with_streams(reader, Output::Null);
    writer.write_all(b"abc").unwrap();
    // More buffers than one call serves: a second call would wait for ever.
    let mut iovs: Vec<_> = (0..8).map(|n| (AT + n, u32::from(n < 3))).collect();
    iovs.push((AT + 100, 50));
    assert_eq!(guest.readv(0, &iovs), Ok(3));
    drop(writer);
    assert_eq!(guest.read(0, 10), Ok(String::new()));
}

#[test]
fn nonblocking_streams_say_again_and_the_host_flags_stay() {
    let (reader, mut writer) = host_pipe();
    let (mut out_reader, out_writer) = host_pipe();
    let host_side = reader.try_clone().unwrap();
    let mut guest = with_streams(reader, out_writer);
    let nonblock = u32::from(FdFlags::NONBLOCK.0);
    for fd in [0, 1] {
        fd::fd_fdstat_set_flags(&mut guest.ctx, &mut guest.bytes, fd, nonblock).unwrap();
    }
    let host_flags = rustix::fs::fcntl_getfl(&host_side).unwrap();
    assert!(!host_flags.contains(rustix::fs::OFlags::NONBLOCK));
    assert_eq!(guest.read(0, 4), Err(Errno::Again));
    writer.write_all(b"abcdef").unwrap();
    assert_eq!(guest.read(0, 4), Ok("abcd".to_owned()));

    // A full pipe: writes shrink to nothing instead of waiting.
    let mut total = 0;
    let end = loop {
        match guest.writev(1, &[(0, 0x10000)]) {
            Ok(len) => total += len as usize,
            Err(error) => break error,
        }
    };
    assert_eq!(end, Errno::Again);
    assert!(total > 0);
    guest.close(1).unwrap();
    let mut got = Vec::new();
    out_reader.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), total);
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_no_signal() {
    let (reader, writer) = host_pipe();
    let mut guest = with_streams(Input::Null, writer);
    drop(reader);
    assert_eq!(guest.write(1, "x"), Err(Errno::Pipe));
}

#[test]
fn a_right_that_was_taken_away_is_missed() {
    let mut guest = Guest::new();
    let fd = guest.open("f", CREAT, READ | WRITE).unwrap();
    let (_, _, base, inheriting) = guest.fdstat(fd).unwrap();
    let less = base & !WRITE;
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    fd::fd_fdstat_set_rights(ctx, bytes, fd, less, inheriting).unwrap();
    assert_eq!(guest.write(fd, "x"), Err(Errno::Notcapable));
    assert_eq!(guest.read(fd, 1), Ok(String::new()));
}
