//! `selvedge snapshot`: a program that begins where its initialization ended.

use crate::command::{Folder, Run, selvedge};

/// Counts in memory and in a global, and says on stdout what it counted to. It may hold a file open.
const GUEST: &str = r#"(module $guest
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 8) "file")
    (func (export "_initialize") (global.set $count (i32.add (global.get $count) (i32.const 1))))
    (func $more (export "more") (result i32)
        (global.set $count (i32.add (global.get $count) (i32.const 2)))
        (drop (memory.grow (i32.const 1)))
        (i32.store8 (i32.const 70000) (i32.const 66))
        (global.get $count))
    (func $opened (result i32)
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 100))
            (then unreachable))
        (i32.load (i32.const 100)))
    (func (export "opens") (drop (call $opened)))
    (func (export "opens and closes") (drop (call $close (call $opened))) (drop (call $more)))
    (func (export "closes") (drop (call $close (i32.const 1))))
    (func (export "exits") (call $exit (i32.const 3)))
    (func (export "traps") (unreachable))
    (func (export "runs on") (loop (br 0)))
    (func (export "count") (result i32) (global.get $count))
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 3))
        (i32.store8 (i32.const 16) (i32.add (i32.const 48) (global.get $count)))
        (i32.store8 (i32.const 17)
            (if (result i32) (i32.gt_u (memory.size) (i32.const 1))
                (then (i32.load8_u (i32.const 70000))) (else (i32.const 65))))
        (i32.store8 (i32.const 18) (i32.const 10))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

struct Files {
    folder: Folder,
    guest: String,
    out: String,
}

fn files() -> Files {
    let folder = Folder::new();
    let guest = folder.file("guest.wat", GUEST).to_str().unwrap().to_owned();
    let out = folder.path("guest.sva").to_str().unwrap().to_owned();
    Files { folder, guest, out }
}

impl Files {
    fn snapshot(&self, flags: &[&str]) -> Run {
        let mut args = vec!["snapshot"];
        args.extend(flags);
        args.extend([self.guest.as_str(), "-o", self.out.as_str()]);
        selvedge(args)
    }
}

#[test]
fn what_was_initialized_is_there_in_every_run() {
    let files = files();
    selvedge(["run", &files.guest]).prints("0A\n");
    // Without a name it is what makes a reactor ready, which does not run again.
    files.snapshot(&[]).prints("");
    selvedge(["run", &files.out]).prints("1A\n");
    selvedge(["run", "--invoke", "count", &files.out]).prints("1\n");
    // A function by name, results or not; memory that has grown.
    files.snapshot(&["--after", "more"]).prints("");
    for _ in 0..2 {
        selvedge([&files.out]).prints("2B\n");
    }
    // A snapshot of a snapshot, as the module's name says.
    let second = files.folder.path("second.sva");
    let second = second.to_str().unwrap();
    selvedge(["snapshot", "--after", "more", &files.out, "-o", second]).prints("");
    selvedge([second]).prints("4B\n");
    selvedge([&files.out]).prints("2B\n");
    let look = selvedge(["inspect", second]);
    assert!(
        look.stdout.contains("snapshot: begins with 196608 bytes"),
        "{look:?}"
    );
    assert!(look.stdout.contains("name: guest"), "{look:?}");
}

#[test]
fn start_functions_run_once() {
    let folder = Folder::new();
    let module = folder.file(
        "start.wat",
        r#"(module (global $n (mut i32) (i32.const 0))
            (func $start (global.set $n (i32.add (global.get $n) (i32.const 1)))) (start $start)
            (func (export "n") (result i32) (global.get $n)))"#,
    );
    let (module, out) = (module.to_str().unwrap(), folder.path("start.sva"));
    let out = out.to_str().unwrap();
    selvedge(["snapshot", module, "-o", out]).prints("");
    selvedge(["run", "--invoke", "n", out]).prints("1\n");
}

#[test]
fn files_that_are_open_stand_in_the_way_and_directories_are_asked_for_again() {
    let files = files();
    files.folder.file("file", "");
    let dir = files.folder.path("").to_str().unwrap().to_owned();
    let data = format!("{dir}::data");
    files
        .snapshot(&["--dir", &data, "--after", "opens"])
        .fails(1, &["files", "--after"]);
    files.snapshot(&["--after", "closes"]).fails(1, &["files"]);
    assert_eq!(std::fs::exists(&files.out).ok(), Some(false));
    files
        .snapshot(&["--dir", &data, "--after", "opens and closes"])
        .prints("");
    selvedge(["run", "--dir", &data, &files.out]).prints("2B\n");
    let other = format!("{dir}::other");
    for flags in [
        &[][..],
        &["--dir", &other],
        &["--dir", &data, "--dir", &other],
    ] {
        let mut args = vec!["run"];
        args.extend(flags);
        args.push(&files.out);
        selvedge(args).fails(1, &["\"data\"", "--dir HOST::data"]);
    }
}

#[test]
fn what_gives_no_snapshot_is_told_and_leaves_no_file() {
    let files = files();
    files
        .snapshot(&["--after", "nothing"])
        .fails(1, &["no function `nothing`", "more"]);
    files
        .snapshot(&["--after", "memory"])
        .fails(1, &["\"memory\"", "only functions"]);
    files
        .snapshot(&["--after", "exits"])
        .fails(1, &["exited with code 3"]);
    files
        .snapshot(&["--after", "traps"])
        .fails(134, &["unreachable", "traps"]);
    files
        .snapshot(&["--timeout", "50ms", "--after", "runs on"])
        .fails(124, &["50ms"]);
    files.snapshot(&["--no-wasi"]).fails(1, &["fd_write"]);
    selvedge(["snapshot", &files.guest]).fails(2, &["--output"]);
    selvedge(["snapshot", "none.wasm", "-o", &files.out]).fails(1, &["none.wasm"]);
    selvedge(["snapshot", &files.guest, "-o", &files.guest]).fails(1, &["would be lost"]);
    let nowhere = files.folder.path("none/out.sva");
    let nowhere = nowhere.to_str().unwrap();
    selvedge(["snapshot", &files.guest, "-o", nowhere]).fails(1, &["cannot write"]);
    assert_eq!(std::fs::exists(&files.out).ok(), Some(false));
    let plain = |text| {
        let module = files.folder.file("plain.wat", text);
        selvedge(["snapshot", module.to_str().unwrap(), "-o", &files.out])
    };
    plain("(module (func (export \"f\")))").fails(1, &["--after", "f: () -> ()"]);
    plain("(module)").fails(1, &["no functions at all"]);
    plain("(module (memory 1 2 shared) (func (export \"_initialize\")))")
        .fails(1, &["cannot take a snapshot", "memories"]);
    let takes = r#"(module (func (export "f") (param i32)))"#;
    let takes = files.folder.file("takes.wat", takes);
    selvedge([
        "snapshot",
        "--after",
        "f",
        takes.to_str().unwrap(),
        "-o",
        &files.out,
    ])
    .fails(1, &["it takes 1 arguments"]);
}

#[test]
fn snapshots_count_fuel_if_they_are_made_so() {
    let files = files();
    files.snapshot(&["--count-fuel"]).prints("");
    selvedge(["run", "--fuel", "1K", &files.out]).prints("1A\n");
    selvedge(["run", &files.out]).fails(1, &["--count-fuel"]);
}
