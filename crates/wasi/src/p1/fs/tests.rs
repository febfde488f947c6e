//! Names below a directory, on a real file system: what works, what is refused, and that nothing
//! leads out.

use super::*;
use crate::builder::DirPerms;
use crate::p1::harness::{Alone, CREAT, DIRECTORY, EXCL, FOLLOW, Guest, READ, TRUNC, WRITE};
use std::os::unix::fs::symlink;

const FILE: u8 = 4;
const DIR: u8 = 3;
const LINK: u8 = 7;

fn mkdir(guest: &mut Guest, path: &str) -> Result<(), Errno> {
    guest.on_path(path_create_directory, path)
}

fn rmdir(guest: &mut Guest, path: &str) -> Result<(), Errno> {
    guest.on_path(path_remove_directory, path)
}

fn unlink(guest: &mut Guest, path: &str) -> Result<(), Errno> {
    guest.on_path(path_unlink_file, path)
}

#[test]
fn files_are_created_only_when_asked_for() {
    let mut guest = Guest::new();
    assert_eq!(guest.open("f", 0, READ), Err(Errno::Noent));
    assert_eq!(
        guest.open("f", EXCL, READ),
        Err(Errno::Noent),
        "means nothing alone"
    );
    let fd = guest.open("f", CREAT | EXCL, READ | WRITE).unwrap();
    guest.write(fd, "text").unwrap();
    assert_eq!(guest.open("f", CREAT | EXCL, READ), Err(Errno::Exist));
    let fd = guest.open("f", CREAT, READ).unwrap();
    assert_eq!(
        guest.read(fd, 9),
        Ok("text".to_owned()),
        "an existing one is kept"
    );
    let fd = guest.open("f", TRUNC, READ).unwrap();
    assert_eq!(guest.read(fd, 9), Ok(String::new()));
    assert_eq!(guest.host_read("f"), "");
    assert_eq!(guest.open("none/f", CREAT, WRITE), Err(Errno::Noent));
    assert_eq!(guest.open("f/g", CREAT, WRITE), Err(Errno::Notdir));
}

#[test]
fn truncating_and_appending_go_together() {
    let mut guest = Guest::new();
    guest.host_write("f", "old");
    let append = u32::from(FdFlags::APPEND.0);
    let fd = guest
        .open_with(3, 0, "f", CREAT | TRUNC, WRITE, append)
        .unwrap();
    guest.write(fd, "a").unwrap();
    guest.host_write("f", "longer");
    guest.write(fd, "b").unwrap();
    assert_eq!(guest.host_read("f"), "longerb");
}

#[test]
fn opening_to_create_does_not_need_to_write_what_is_there() {
    use std::os::unix::fs::PermissionsExt;
    let mut guest = Guest::new();
    guest.host_write("f", "text");
    std::fs::set_permissions(guest.host("f"), PermissionsExt::from_mode(0o444)).unwrap();
    // For root nothing is unwritable; for others this is the way round it. Both must succeed.
    let fd = guest.open("f", CREAT, READ).unwrap();
    assert_eq!(guest.read(fd, 9), Ok("text".to_owned()));
}

#[test]
fn directories_are_opened_as_such() {
    let mut guest = Guest::new();
    mkdir(&mut guest, "d").unwrap();
    guest.host_write("f", "x");
    let dir = guest.open("d", DIRECTORY, READ).unwrap();
    assert_eq!(guest.fdstat(dir).unwrap().0, DIR);
    guest.open("d", DIRECTORY, READ | WRITE).unwrap();
    let plain = guest.open("d", 0, READ).unwrap();
    assert_eq!(guest.fdstat(plain).unwrap().0, DIR);
    assert_eq!(guest.open("d", 0, READ | WRITE), Err(Errno::Isdir));
    assert_eq!(guest.open("d", CREAT, READ), Err(Errno::Isdir));
    assert_eq!(guest.open("f", DIRECTORY, READ), Err(Errno::Notdir));
    assert_eq!(guest.open("f/", 0, READ), Err(Errno::Notdir));
    guest.open("d/", 0, READ).unwrap();
    for combination in [CREAT, EXCL | CREAT, TRUNC] {
        assert_eq!(
            guest.open("d", DIRECTORY | combination, READ),
            Err(Errno::Inval)
        );
    }
    let inner = guest.open_with(dir, 0, "g", CREAT, WRITE, 0).unwrap();
    guest.write(inner, "below").unwrap();
    assert_eq!(guest.host_read("d/g"), "below");
    assert_eq!(
        guest.open_with(inner, 0, "x", 0, READ, 0),
        Err(Errno::Notdir)
    );
    assert_eq!(guest.open_with(0, 0, "x", 0, READ, 0), Err(Errno::Notdir));
    assert_eq!(guest.open_with(77, 0, "x", 0, READ, 0), Err(Errno::Badf));
}

#[test]
fn nothing_leads_out() {
    let mut guest = Guest::new();
    mkdir(&mut guest, "d").unwrap();
    let outside = guest.host("../secret");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    symlink("../secret", guest.host("relative")).unwrap();
    symlink(outside.canonicalize().unwrap(), guest.host("absolute")).unwrap();
    symlink("..", guest.host("up")).unwrap();
    symlink("/", guest.host("root")).unwrap();
    symlink("../d/../../secret", guest.host("winding")).unwrap();
    let ways = [
        "../secret",
        "d/../../secret",
        "./../secret",
        "relative",
        "absolute",
        "up/secret",
        "root/etc/passwd",
        "winding",
    ];
    for way in ways {
        assert_eq!(guest.open(way, 0, READ), Err(Errno::Perm), "open {way}");
        assert_eq!(
            guest.open(way, CREAT, WRITE),
            Err(Errno::Perm),
            "create {way}"
        );
        assert_eq!(guest.stat(FOLLOW, way), Err(Errno::Perm), "stat {way}");
        assert_eq!(
            guest.link(FOLLOW, way, "stolen"),
            Err(Errno::Perm),
            "link {way}"
        );
    }
    for way in ["..", "d/../..", "up", "root"] {
        assert_eq!(
            guest.open(way, DIRECTORY, READ),
            Err(Errno::Perm),
            "open {way}"
        );
    }
    for way in ["../new", "up/new", "root/tmp/new", "d/../../new"] {
        assert_eq!(mkdir(&mut guest, way), Err(Errno::Perm), "mkdir {way}");
        assert_eq!(
            guest.open(way, CREAT, WRITE),
            Err(Errno::Perm),
            "create {way}"
        );
        assert_eq!(guest.symlink("d", way), Err(Errno::Perm), "symlink {way}");
        assert_eq!(guest.rename("d", way), Err(Errno::Perm), "rename to {way}");
    }
    for way in ["../secret", "up/secret", "d/../../secret"] {
        assert_eq!(unlink(&mut guest, way), Err(Errno::Perm), "unlink {way}");
        assert_eq!(
            guest.rename(way, "stolen"),
            Err(Errno::Perm),
            "rename {way}"
        );
        assert_eq!(guest.link(0, way, "stolen"), Err(Errno::Perm), "link {way}");
        assert_eq!(guest.readlink(way, 10), Err(Errno::Perm), "readlink {way}");
    }
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    assert!(!guest.host("stolen").exists());
    assert!(!guest.host("../new").exists());
    // `..` that stays inside is no escape.
    guest.host_write("f", "x");
    guest.open("d/../f", 0, READ).unwrap();
    // Nor is a link that is looked at and not followed.
    assert_eq!(guest.stat(0, "absolute").unwrap().0, LINK);
    assert_eq!(
        guest.readlink("absolute", 100),
        Err(Errno::Perm),
        "it tells of the host"
    );
}

#[test]
fn links_are_followed_when_asked_for() {
    let mut guest = Guest::new();
    guest.host_write("f", "four");
    guest.symlink("f", "link").unwrap();
    guest.symlink("loop", "loop").unwrap();
    guest.symlink("none", "dangling").unwrap();
    assert_eq!(guest.stat(FOLLOW, "link"), Ok((FILE, 4)));
    assert_eq!(guest.stat(0, "link").unwrap().0, LINK);
    guest.open_with(3, FOLLOW, "link", 0, READ, 0).unwrap();
    assert_eq!(guest.open_with(3, 0, "link", 0, READ, 0), Err(Errno::Loop));
    assert_eq!(
        guest.open_with(3, FOLLOW, "loop", 0, READ, 0),
        Err(Errno::Loop)
    );
    assert_eq!(guest.open("dangling", 0, READ), Err(Errno::Noent));
    assert_eq!(
        guest.open("dangling", CREAT | EXCL, WRITE),
        Err(Errno::Exist)
    );
    guest.open("dangling", CREAT, WRITE).unwrap();
    assert!(guest.host("none").exists(), "made where the link points");
    assert_eq!(guest.readlink("link", 100), Ok("f".to_owned()));
    assert_eq!(
        guest.readlink("dangling", 2),
        Ok("no".to_owned()),
        "cut, as readlink does"
    );
    assert_eq!(guest.readlink("f", 100), Err(Errno::Inval));
    assert_eq!(guest.readlink("missing", 100), Err(Errno::Noent));
    assert_eq!(guest.symlink("/etc", "abs"), Err(Errno::Perm));
    assert_eq!(guest.symlink("x", "link"), Err(Errno::Exist));
    assert_eq!(guest.symlink("", "y"), Err(Errno::Noent));
}

#[test]
fn hard_links_name_the_same_file() {
    let mut guest = Guest::new();
    guest.host_write("f", "x");
    guest.symlink("f", "link").unwrap();
    guest.link(0, "f", "g").unwrap();
    guest.host_write("g", "changed");
    assert_eq!(guest.host_read("f"), "changed");
    guest.link(0, "link", "link2").unwrap();
    assert_eq!(guest.stat(0, "link2").unwrap().0, LINK, "the link itself");
    guest.link(FOLLOW, "link", "h").unwrap();
    assert_eq!(guest.stat(0, "h").unwrap().0, FILE, "what it points at");
    assert_eq!(guest.link(0, "f", "g"), Err(Errno::Exist));
    assert_eq!(guest.link(0, "none", "i"), Err(Errno::Noent));
    mkdir(&mut guest, "d").unwrap();
    assert_eq!(guest.link(0, "d", "i"), Err(Errno::Perm));
    assert_eq!(guest.link(2, "f", "i"), Err(Errno::Inval));
}

#[test]
fn directories_come_and_go() {
    let mut guest = Guest::new();
    mkdir(&mut guest, "d").unwrap();
    mkdir(&mut guest, "d/e/").unwrap();
    assert_eq!(mkdir(&mut guest, "d"), Err(Errno::Exist));
    assert_eq!(mkdir(&mut guest, "x/y"), Err(Errno::Noent));
    assert_eq!(rmdir(&mut guest, "d"), Err(Errno::Notempty));
    assert_eq!(unlink(&mut guest, "d/e"), Err(Errno::Isdir));
    assert_eq!(unlink(&mut guest, "d/e/"), Err(Errno::Isdir));
    guest.host_write("f", "x");
    assert_eq!(rmdir(&mut guest, "f"), Err(Errno::Notdir));
    assert_eq!(unlink(&mut guest, "f/"), Err(Errno::Notdir));
    rmdir(&mut guest, "d/e/").unwrap();
    rmdir(&mut guest, "d").unwrap();
    unlink(&mut guest, "f").unwrap();
    assert_eq!(unlink(&mut guest, "f"), Err(Errno::Noent));
    assert_eq!(rmdir(&mut guest, "d"), Err(Errno::Noent));
    guest.symlink("nowhere", "link").unwrap();
    unlink(&mut guest, "link").unwrap();
}

#[test]
fn renaming_replaces_files_and_respects_directories() {
    let mut guest = Guest::new();
    guest.host_write("a", "from a");
    guest.host_write("b", "from b");
    mkdir(&mut guest, "d").unwrap();
    mkdir(&mut guest, "e").unwrap();
    guest.rename("a", "b").unwrap();
    assert_eq!(guest.host_read("b"), "from a");
    assert_eq!(guest.rename("a", "c"), Err(Errno::Noent));
    assert_eq!(guest.rename("b", "d"), Err(Errno::Isdir));
    assert_eq!(guest.rename("d", "b"), Err(Errno::Notdir));
    guest.rename("d", "e").unwrap();
    guest.rename("b", "e/b").unwrap();
    assert_eq!(guest.rename("e", "e/inside"), Err(Errno::Inval));
    mkdir(&mut guest, "d").unwrap();
    assert_eq!(guest.rename("d", "e"), Err(Errno::Notempty));
    guest.rename("d/", "g/").unwrap();
    assert_eq!(guest.stat(0, "g").unwrap().0, DIR);
    guest.host_write("f", "x");
    assert_eq!(guest.rename("f/", "h"), Err(Errno::Notdir));
}

#[test]
fn a_trailing_slash_means_a_directory() {
    let mut guest = Guest::new();
    guest.host_write("f", "x");
    mkdir(&mut guest, "d").unwrap();
    guest.symlink("f", "to_f").unwrap();
    guest.symlink("d", "to_d").unwrap();
    for lookup in [0, FOLLOW] {
        assert_eq!(guest.stat(lookup, "f/"), Err(Errno::Notdir));
        assert_eq!(guest.stat(lookup, "to_f/"), Err(Errno::Notdir));
        assert_eq!(guest.stat(lookup, "d/").unwrap().0, DIR);
        assert_eq!(
            guest.stat(lookup, "to_d/").unwrap().0,
            DIR,
            "the slash follows the link"
        );
        assert_eq!(guest.stat(lookup, "to_d//").unwrap().0, DIR);
    }
    assert_eq!(guest.open("f/", 0, READ), Err(Errno::Notdir));
    assert_eq!(guest.open("new/", CREAT, WRITE), Err(Errno::Isdir));
    assert_eq!(guest.link(0, "f/", "g"), Err(Errno::Notdir));
    assert_eq!(guest.link(0, "f", "g/"), Err(Errno::Noent));
    assert_eq!(guest.symlink("f", "g/"), Err(Errno::Noent));
    assert_eq!(guest.readlink("to_f/", 9), Err(Errno::Notdir));
    assert_eq!(guest.readlink("to_d/", 9), Err(Errno::Inval));
    assert_eq!(rmdir(&mut guest, "to_d/"), Err(Errno::Notdir));
    assert_eq!(unlink(&mut guest, "to_f/"), Err(Errno::Notdir));
    assert_eq!(guest.rename("f", "g/"), Err(Errno::Notdir));
    rmdir(&mut guest, "d//").unwrap();
    assert!(guest.host("f").exists() && !guest.host("g").exists());
}

#[test]
fn names_move_between_directories() {
    let mut guest = Guest::new();
    mkdir(&mut guest, "d").unwrap();
    guest.host_write("f", "x");
    let dir = guest.open("d", DIRECTORY, READ).unwrap();
    memory::write(&mut guest.bytes, 0, b"fg").unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    path_rename(ctx, bytes, 3, 0, 1, dir, 1, 1).unwrap();
    assert!(guest.host("d/g").exists());
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    path_link(ctx, bytes, dir, 0, 1, 1, 3, 0, 1).unwrap();
    assert_eq!(guest.host_read("f"), "x");
}

#[test]
fn attributes_tell_sizes_kinds_and_numbers() {
    let mut guest = Guest::new();
    guest.host_write("f", "12345");
    assert_eq!(guest.stat(0, "f"), Ok((FILE, 5)));
    assert_eq!(guest.stat(0, ".").unwrap().0, DIR);
    assert_eq!(guest.stat(0, "f/"), Err(Errno::Notdir));
    assert_eq!(guest.stat(0, "none"), Err(Errno::Noent));
    assert_eq!(guest.stat(2, "f"), Err(Errno::Inval));
    // By name and by descriptor they are the same, byte by byte, but for the time of access.
    let fd = guest.open("f", 0, READ).unwrap();
    memory::write(&mut guest.bytes, 0, b"f").unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    path_filestat_get(ctx, bytes, 3, 0, 0, 1, 64).unwrap();
    fd::fd_filestat_get(ctx, bytes, fd, 128).unwrap();
    assert_eq!(bytes[64..104], bytes[128..168]);
    assert_eq!(bytes[112..128], bytes[176..192]);
    assert_eq!(
        path_filestat_get(ctx, bytes, 3, 0, 0, 1, 0xffff),
        Err(Errno::Fault)
    );
}

#[test]
fn times_are_set_by_name() {
    let mut guest = Guest::new();
    guest.host_write("f", "x");
    guest.symlink("f", "l").unwrap();
    memory::write(&mut guest.bytes, 0, b"fl").unwrap();
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    let (atim, mtim) = (3_000_000_001, 4_000_000_002);
    path_filestat_set_times(ctx, bytes, 3, FOLLOW, 1, 1, atim, mtim, 0b0101).unwrap();
    path_filestat_get(ctx, bytes, 3, 0, 0, 1, 64).unwrap();
    assert_eq!(memory::read_u64(bytes, 64 + 40), Ok(atim));
    assert_eq!(memory::read_u64(bytes, 64 + 48), Ok(mtim));
    path_filestat_set_times(ctx, bytes, 3, 0, 1, 1, 7, 8, 0b0101).unwrap();
    path_filestat_get(ctx, bytes, 3, 0, 0, 1, 64).unwrap();
    assert_eq!(
        memory::read_u64(bytes, 64 + 48),
        Ok(mtim),
        "the link's own time is another"
    );
    path_filestat_get(ctx, bytes, 3, 0, 1, 1, 64).unwrap();
    assert_eq!(memory::read_u64(bytes, 64 + 48), Ok(8));
    for bad in [0b0011, 0b1100, 0b1_0000] {
        let set = path_filestat_set_times(ctx, bytes, 3, 0, 0, 1, 1, 1, bad);
        assert_eq!(set, Err(Errno::Inval));
    }
}

#[test]
fn below_a_read_only_directory_nothing_changes() {
    let mut guest = Guest::with_perms(DirPerms::Read);
    guest.host_write("f", "text");
    std::fs::create_dir(guest.host("d")).unwrap();
    symlink("f", guest.host("l")).unwrap();
    let fd = guest.open("f", 0, READ).unwrap();
    assert_eq!(guest.read(fd, 9), Ok("text".to_owned()));
    assert_eq!(guest.readlink("l", 9), Ok("f".to_owned()));
    assert_eq!(guest.stat(FOLLOW, "l"), Ok((FILE, 4)));
    let fd = guest.open("f", CREAT, READ).unwrap();
    assert_eq!(
        guest.read(fd, 9),
        Ok("text".to_owned()),
        "it is there already"
    );
    assert_eq!(guest.open("f", 0, READ | WRITE), Err(Errno::Rofs));
    assert_eq!(guest.open("f", TRUNC, READ), Err(Errno::Rofs));
    assert_eq!(guest.open("new", CREAT, READ), Err(Errno::Rofs));
    assert_eq!(guest.open("new", CREAT | EXCL, READ), Err(Errno::Rofs));
    assert_eq!(mkdir(&mut guest, "new"), Err(Errno::Rofs));
    assert_eq!(rmdir(&mut guest, "d"), Err(Errno::Rofs));
    assert_eq!(unlink(&mut guest, "f"), Err(Errno::Rofs));
    assert_eq!(guest.rename("f", "g"), Err(Errno::Rofs));
    assert_eq!(guest.link(0, "f", "g"), Err(Errno::Rofs));
    assert_eq!(guest.symlink("f", "g"), Err(Errno::Rofs));
    let dir = guest.open("d", DIRECTORY, READ).unwrap();
    let below = guest.open_with(dir, 0, "new", CREAT, WRITE, 0);
    assert_eq!(
        below,
        Err(Errno::Rofs),
        "directories below are no different"
    );
    assert_eq!(guest.host_read("f"), "text");
    // The same directory, given to be changed, can be.
    guest.ctx = guest.reopened(DirPerms::Mutate);
    guest.open("f", TRUNC, WRITE).unwrap();
    assert_eq!(guest.host_read("f"), "");
}

#[test]
fn bad_words_and_places_are_refused_before_anything_is_opened() {
    let mut guest = Guest::new();
    assert_eq!(
        guest.open_with(3, 2, "f", CREAT, WRITE, 0),
        Err(Errno::Inval)
    );
    assert_eq!(
        guest.open_with(3, 0, "f", 1 << 4, WRITE, 0),
        Err(Errno::Inval)
    );
    assert_eq!(
        guest.open_with(3, 0, "f", CREAT, WRITE, 1 << 5),
        Err(Errno::Inval)
    );
    for bad in ["", "/f", "f\0"] {
        assert!(guest.open(bad, CREAT, WRITE).is_err());
    }
    memory::write(&mut guest.bytes, 0, b"f").unwrap();
    let end = guest.bytes.len() as u32;
    let (ctx, bytes) = (&mut guest.ctx, &mut guest.bytes);
    let no_place = path_open(&Alone, ctx, bytes, 3, 0, 0, 1, CREAT, WRITE, 0, 0, end - 3);
    assert_eq!(no_place, Err(Errno::Fault));
    assert!(!guest.host("f").exists());
    assert_eq!(ctx_free(&guest), 4, "and no descriptor is lost");
}

fn ctx_free(guest: &Guest) -> u32 {
    guest.ctx.fds.free().unwrap()
}

#[test]
fn a_full_table_of_descriptors_creates_nothing() {
    let mut guest = Guest::new();
    let mut builder = WasiCtx::builder();
    builder
        .preopened_dir(guest.host("."), "/")
        .unwrap()
        .max_descriptors(5);
    guest.ctx = builder.build().unwrap();
    let last = guest.open("a", CREAT, WRITE).unwrap();
    assert_eq!(guest.open("b", CREAT, WRITE), Err(Errno::Mfile));
    assert!(!guest.host("b").exists());
    guest.close(last).unwrap();
    guest.open("b", CREAT, WRITE).unwrap();
}
