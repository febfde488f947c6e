//! Real named pipes, whose other end is there, comes, goes, or never comes.

use super::*;
use crate::blocking::{Alarm, Guest as Waiter};
use crate::p1::harness::{CREAT, FOLLOW, Guest, READ, WRITE};
use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileTypeExt, OpenOptions};
use rustix::fs::{CWD, Mode, mknodat};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;

const NONBLOCK: u32 = 4;

/// A guest that somebody has ended.
struct Ended;

impl Waiter for Ended {
    fn wait(&self, wake: Arc<dyn Fn() + Send + Sync>, wait: &mut dyn FnMut()) {
        wake();
        wait();
    }
}

fn make_pipe(path: &Path) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn guest() -> Guest {
    let guest = Guest::new();
    make_pipe(&guest.host("pipe"));
    guest
}

#[test]
fn the_end_of_the_guest_ends_its_wait_for_the_other_end() {
    let tmp = tempfile::tempdir().unwrap();
    make_pipe(&tmp.path().join("pipe"));
    let dir = Dir::open_ambient_dir(tmp.path(), ambient_authority()).unwrap();
    let alarm = Alarm::default();
    let waits = Waits {
        guest: &Ended,
        alarm: &alarm,
    };
    for write in [false, true] {
        let is_pipe = || dir.metadata("pipe").unwrap().file_type().is_fifo();
        let opened = open(waits, false, is_pipe, || {
            let mut options = OpenOptions::new();
            options.read(!write).write(write).nonblock(true);
            Ok(dir.open_with("pipe", &options)?)
        });
        assert_eq!(opened.err(), Some(Errno::Intr), "{write}");
    }
}

#[test]
fn a_guest_that_does_not_want_to_wait_does_not() {
    let mut guest = guest();
    let reads = guest.open_with(3, FOLLOW, "pipe", 0, READ, NONBLOCK);
    let reads = reads.unwrap();
    let writes = guest.open_with(3, FOLLOW, "pipe", 0, WRITE, NONBLOCK);
    guest.close(writes.unwrap()).unwrap();
    guest.close(reads).unwrap();
    let writes = guest.open_with(3, FOLLOW, "pipe", 0, WRITE, NONBLOCK);
    assert_eq!(writes, Err(Errno::Nxio), "nobody reads");
}

#[test]
fn a_reader_waits_for_a_writer_that_says_nothing() {
    let mut guest = guest();
    let path = guest.host("pipe");
    // It waits for a reader itself, and writes only when it is told to.
    let (tell, told) = std::sync::mpsc::channel();
    let writing = thread::spawn(move || {
        let mut writer = fs::OpenOptions::new().write(true).open(path).unwrap();
        told.recv().unwrap();
        writer.write_all(b"abc").unwrap();
    });
    let fd = guest.open("pipe", 0, READ).unwrap();
    tell.send(()).unwrap();
    assert_eq!(guest.read(fd, 8).unwrap(), "abc");
    writing.join().unwrap();
    assert_eq!(guest.read(fd, 8).unwrap(), "", "the writer has gone");
}

#[test]
fn a_reader_finds_what_a_writer_left_that_came_and_went() {
    let mut guest = guest();
    let path = guest.host("pipe");
    let writing = thread::spawn(move || fs::write(path, "abc").unwrap());
    let fd = guest.open("pipe", 0, READ).unwrap();
    writing.join().unwrap();
    assert_eq!(guest.read(fd, 8).unwrap(), "abc");
    assert_eq!(guest.read(fd, 8).unwrap(), "");
}

#[test]
fn a_writer_waits_for_a_reader() {
    for oflags in [0, CREAT] {
        let mut guest = guest();
        let path = guest.host("pipe");
        let reading = thread::spawn(move || {
            let mut text = String::new();
            let mut reader = fs::File::open(path).unwrap();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let fd = guest.open("pipe", oflags, WRITE).unwrap();
        assert_eq!(guest.write(fd, "abc"), Ok(3));
        guest.close(fd).unwrap();
        assert_eq!(reading.join().unwrap(), "abc");
    }
}

#[test]
fn what_is_no_pipe_is_not_waited_for() {
    let mut guest = guest();
    guest.host_write("file", "abc");
    let fd = guest.open("file", 0, READ | WRITE).unwrap();
    assert_eq!(guest.read(fd, 8).unwrap(), "abc");
    assert_eq!(guest.open("absent", 0, READ), Err(Errno::Noent));
    // A socket can't be opened, and will not be.
    let _socket = std::os::unix::net::UnixListener::bind(guest.host("socket")).unwrap();
    assert_eq!(guest.open("socket", 0, READ), Err(Errno::Nxio));
    assert_eq!(guest.open("socket", 0, WRITE), Err(Errno::Nxio));
}
