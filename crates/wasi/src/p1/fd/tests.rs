//! What descriptors are, where they stand, and what becomes of them.

use super::*;
use crate::builder::DirPerms;
use crate::p1::harness::{CREAT, DIRECTORY, Guest, READ, WRITE};
use crate::p1::layout::Rights;
use crate::stdio::Input;

const SEEK_TELL: u64 = Rights::FD_SEEK.union(Rights::FD_TELL).0;

#[test]
fn preopened_directories_are_found_the_way_libc_looks_for_them() {
    let mut guest = Guest::new();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    bytes[..8].fill(0xff);
    fd_prestat_get(ctx, bytes, 3, 0).unwrap();
    assert_eq!(bytes[0], 0, "the tag of a directory");
    assert_eq!(memory::read_u32(bytes, 4), Ok(4));
    fd_prestat_dir_name(ctx, bytes, 3, 16, 4).unwrap();
    assert_eq!(&bytes[16..20], b"/box");
    assert_eq!(
        fd_prestat_get(ctx, bytes, 4, 0),
        Err(Errno::Badf),
        "the end of the list"
    );
    assert_eq!(fd_prestat_get(ctx, bytes, 0, 0), Err(Errno::Badf));
    assert_eq!(
        fd_prestat_dir_name(ctx, bytes, 3, 16, 3),
        Err(Errno::Nametoolong)
    );
    assert_eq!(
        fd_prestat_dir_name(ctx, bytes, 3, 0xffff, 4),
        Err(Errno::Fault)
    );
    let sub = {
        std::fs::create_dir(guest.host("sub")).unwrap();
        guest.open("sub", DIRECTORY, READ).unwrap()
    };
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    assert_eq!(
        fd_prestat_get(ctx, bytes, sub, 0),
        Err(Errno::Badf),
        "opened, not preopened"
    );
}

#[test]
fn descriptors_say_what_they_are() {
    let mut guest = Guest::new();
    let file = guest.open("f", CREAT, READ).unwrap();
    let (filetype, flags, base, inheriting) = guest.fdstat(file).unwrap();
    assert_eq!((filetype, flags, inheriting), (4, 0, 0));
    assert_eq!(base & SEEK_TELL, SEEK_TELL);
    assert_eq!(base & (READ | WRITE), READ);
    let (filetype, _, base, inheriting) = guest.fdstat(3).unwrap();
    assert_eq!(filetype, 3);
    assert_ne!(base & Rights::PATH_OPEN.0, 0);
    assert_eq!(inheriting & (READ | WRITE), READ | WRITE);
    let (filetype, _, base, _) = guest.fdstat(0).unwrap();
    assert_eq!(filetype, 0);
    assert_eq!(
        base & SEEK_TELL,
        0,
        "or libc would take a device for one that can be sought"
    );
    assert_eq!(guest.fdstat(9), Err(Errno::Badf));
}

#[test]
fn a_stream_is_of_the_kind_that_it_is_on_the_host() {
    let mut guest = Guest::new();
    guest.host_write("in", "12345");
    let stdin = std::fs::File::open(guest.host("in")).unwrap();
    let stdout = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let stderr = std::fs::File::from(std::os::fd::OwnedFd::from(writer));
    guest.ctx = WasiCtx::builder()
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .build()
        .unwrap();
    assert_eq!(guest.fdstat(0).unwrap().0, 4);
    assert_eq!(guest.fdstat(1).unwrap().0, 2);
    assert_eq!(guest.fdstat(2).unwrap().0, 0);
    fd_filestat_get(&mut guest.ctx, &mut guest.bytes, 0, 0).unwrap();
    assert_eq!(memory::read_u64(&guest.bytes, 32), Ok(5));
    assert_eq!(guest.seek(0, 0, 1), Err(Errno::Spipe), "even so");
}

#[test]
fn seeking_moves_within_files_only() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let fd = guest.open("f", 0, READ).unwrap();
    assert_eq!(guest.seek(fd, 3, 0), Ok(3));
    assert_eq!(guest.seek(fd, 2, 1), Ok(5));
    assert_eq!(guest.seek(fd, -1, 2), Ok(9));
    assert_eq!(guest.tell(fd), Ok(9));
    assert_eq!(guest.seek(fd, 100, 0), Ok(100), "past the end is allowed");
    assert_eq!(guest.seek(fd, -1, 0), Err(Errno::Inval));
    assert_eq!(guest.seek(fd, -101, 1), Err(Errno::Inval));
    assert_eq!(guest.seek(fd, 0, 3), Err(Errno::Inval));
    assert_eq!(guest.tell(fd), Ok(100));
    for fd in [0, 1] {
        assert_eq!(guest.seek(fd, 0, 0), Err(Errno::Spipe));
        assert_eq!(guest.tell(fd), Err(Errno::Spipe));
    }
    assert_eq!(guest.seek(3, 0, 0), Err(Errno::Badf));
    assert_eq!(guest.tell(3), Err(Errno::Badf));
}

#[test]
fn a_seek_whose_answer_has_no_place_does_not_move() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let fd = guest.open("f", 0, READ).unwrap();
    let end = guest.bytes.len() as u32;
    let moved = fd_seek(&mut guest.ctx, &mut guest.bytes, fd, 5, 0, end - 7);
    assert_eq!(moved, Err(Errno::Fault));
    assert_eq!(guest.tell(fd), Ok(0));
}

#[test]
fn closing_and_renumbering() {
    let mut guest = Guest::new();
    guest.host_write("a", "from a");
    guest.host_write("b", "from b");
    let a = guest.open("a", 0, READ).unwrap();
    let b = guest.open("b", 0, READ).unwrap();
    assert_eq!((a, b), (4, 5));
    fd_renumber(&mut guest.ctx, &mut guest.bytes, b, a).unwrap();
    assert_eq!(guest.read(a, 10), Ok("from b".to_owned()));
    assert_eq!(guest.read(b, 10), Err(Errno::Badf));
    assert_eq!(guest.open("a", 0, READ), Ok(b), "the number is free again");
    // A standard stream can be replaced by a file, as shells do.
    fd_renumber(&mut guest.ctx, &mut guest.bytes, b, 0).unwrap();
    assert_eq!(guest.read(0, 10), Ok("from a".to_owned()));
    guest.close(a).unwrap();
    assert_eq!(guest.close(a), Err(Errno::Badf));
    guest.close(3).unwrap();
    assert_eq!(
        guest.open("a", 0, READ),
        Err(Errno::Badf),
        "the directory is closed"
    );
}

#[test]
fn sizes_are_set_only_where_one_may_write() {
    let mut guest = Guest::new();
    guest.host_write("f", "0123456789");
    let writes = guest.open("f", 0, WRITE).unwrap();
    let reads = guest.open("f", 0, READ).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    fd_filestat_set_size(ctx, bytes, writes, 4).unwrap();
    assert_eq!(
        fd_filestat_set_size(ctx, bytes, reads, 0),
        Err(Errno::Inval)
    );
    assert_eq!(fd_filestat_set_size(ctx, bytes, 3, 0), Err(Errno::Inval));
    assert!(fd_filestat_set_size(ctx, bytes, writes, u64::MAX).is_err());
    assert_eq!(guest.host_read("f"), "0123");
    fd_filestat_set_size(&mut guest.ctx, &mut guest.bytes, writes, 6).unwrap();
    assert_eq!(guest.host_read("f"), "0123\0\0");
}

#[test]
fn space_is_allocated_only_where_one_may_write() {
    let mut guest = Guest::new();
    let writes = guest.open("f", CREAT, WRITE).unwrap();
    let reads = guest.open("f", 0, READ).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    assert_eq!(fd_allocate(ctx, bytes, reads, 0, 10), Err(Errno::Badf));
    assert_eq!(fd_allocate(ctx, bytes, writes, 0, 0), Err(Errno::Inval));
    assert!(fd_allocate(ctx, bytes, writes, u64::MAX, 1).is_err());
    assert_eq!(fd_allocate(ctx, bytes, 1, 0, 1), Err(Errno::Spipe));
    match fd_allocate(ctx, bytes, writes, 10, 20) {
        Ok(()) => assert_eq!(guest.host_read("f").len(), 30),
        Err(error) => assert_eq!(error, Errno::Notsup, "some file systems can't"),
    }
}

#[test]
fn advice_is_checked_and_taken() {
    let mut guest = Guest::new();
    let file = guest.open("f", CREAT, READ).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    for advice in 0..6 {
        assert_eq!(
            fd_advise(ctx, bytes, file, 0, 0, advice),
            Ok(()),
            "advice {advice}"
        );
    }
    assert_eq!(fd_advise(ctx, bytes, file, 0, 0, 6), Err(Errno::Inval));
    assert_eq!(
        fd_advise(ctx, bytes, file, u64::MAX, 2, 0),
        Err(Errno::Inval)
    );
    assert_eq!(fd_advise(ctx, bytes, 0, 0, 0, 0), Err(Errno::Spipe));
    assert_eq!(fd_advise(ctx, bytes, 3, 0, 0, 0), Err(Errno::Badf));
}

#[test]
fn flags_that_cannot_change_are_not_promised() {
    let mut guest = Guest::new();
    let dsync = u32::from(FdFlags::DSYNC.0);
    let fd = guest
        .open_with(3, 0, "f", CREAT, READ | WRITE, dsync)
        .unwrap();
    assert_eq!(guest.fdstat(fd).unwrap().1, FdFlags::DSYNC.0);
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    assert_eq!(fd_fdstat_set_flags(ctx, bytes, fd, 0), Err(Errno::Notsup));
    assert_eq!(fd_fdstat_set_flags(ctx, bytes, fd, dsync | 1), Ok(()));
    assert_eq!(
        fd_fdstat_set_flags(ctx, bytes, fd, 1 << 5),
        Err(Errno::Inval)
    );
    assert_eq!(
        fd_fdstat_set_flags(ctx, bytes, 3, 1 << 2),
        Ok(()),
        "directories just keep it"
    );
    assert_eq!(guest.fdstat(3).unwrap().1, FdFlags::NONBLOCK.0);
}

#[test]
fn rights_can_only_shrink() {
    let mut guest = Guest::new();
    let (_, _, base, inheriting) = guest.fdstat(3).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    let more = base | Rights::SOCK_ACCEPT.0;
    assert_eq!(
        fd_fdstat_set_rights(ctx, bytes, 3, more, inheriting),
        Err(Errno::Notcapable)
    );
    assert_eq!(
        fd_fdstat_set_rights(ctx, bytes, 3, u64::MAX, 0),
        Err(Errno::Inval)
    );
    let no_create = base & !Rights::PATH_CREATE_FILE.0;
    fd_fdstat_set_rights(ctx, bytes, 3, no_create, inheriting & !WRITE).unwrap();
    assert_eq!(
        fd_fdstat_set_rights(ctx, bytes, 3, base, inheriting),
        Err(Errno::Notcapable)
    );
    assert_eq!(guest.open("new", CREAT, READ), Err(Errno::Notcapable));
    guest.host_write("old", "x");
    let fd = guest.open("old", 0, READ | WRITE).unwrap();
    assert_eq!(
        guest.write(fd, "y"),
        Err(Errno::Badf),
        "writing is not inherited"
    );
    assert_eq!(guest.read(fd, 1), Ok("x".to_owned()));
}

#[test]
fn times_are_set_kept_or_now_and_never_two_at_once() {
    let mut guest = Guest::new();
    let fd = guest.open("f", CREAT, READ | WRITE).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    let (at, mt) = (1_000_000_007, 86_400_000_000_123);
    fd_filestat_set_times(ctx, bytes, fd, at, mt, 0b0101).unwrap();
    fd_filestat_get(ctx, bytes, fd, 0).unwrap();
    assert_eq!(memory::read_u64(bytes, 40), Ok(at));
    assert_eq!(memory::read_u64(bytes, 48), Ok(mt));
    fd_filestat_set_times(ctx, bytes, fd, 5, 6, 0b1000).unwrap();
    fd_filestat_get(ctx, bytes, fd, 0).unwrap();
    assert_eq!(memory::read_u64(bytes, 40), Ok(at), "kept");
    assert!(memory::read_u64(bytes, 48).unwrap() > mt, "now");
    for bad in [0b0011, 0b1100, 1 << 4] {
        assert_eq!(
            fd_filestat_set_times(ctx, bytes, fd, 1, 1, bad),
            Err(Errno::Inval)
        );
    }
    assert_eq!(
        fd_filestat_set_times(ctx, bytes, 0, 1, 1, 1),
        Err(Errno::Inval)
    );
    assert_eq!(
        fd_filestat_set_times(ctx, bytes, 3, 1, 1, 1),
        Ok(()),
        "directories too"
    );
}

#[test]
fn times_below_a_read_only_directory_stay() {
    let mut guest = Guest::with_perms(DirPerms::Read);
    guest.host_write("f", "x");
    let fd = guest.open("f", 0, READ).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    assert_eq!(
        fd_filestat_set_times(ctx, bytes, fd, 1, 1, 1),
        Err(Errno::Rofs)
    );
    assert_eq!(
        fd_filestat_set_times(ctx, bytes, 3, 1, 1, 1),
        Err(Errno::Rofs)
    );
}

#[test]
fn syncing_reaches_files_and_directories() {
    let mut guest = Guest::new();
    let fd = guest.open("f", CREAT, READ | WRITE).unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    for fd in [fd, 3] {
        assert_eq!(fd_sync(ctx, bytes, fd), Ok(()));
        assert_eq!(fd_datasync(ctx, bytes, fd), Ok(()));
    }
    assert_eq!(fd_sync(ctx, bytes, 0), Err(Errno::Inval));
    assert_eq!(fd_datasync(ctx, bytes, 9), Err(Errno::Badf));
}

#[test]
fn closing_an_inherited_stream_leaves_the_host_its_own() {
    let mut guest = Guest::new();
    guest.ctx = WasiCtx::builder().stdin(Input::Inherit).build().unwrap();
    guest.close(0).unwrap();
    assert!(rustix::fs::fstat(rustix::stdio::stdin()).is_ok());
}
