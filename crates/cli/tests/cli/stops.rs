//! `--timeout` and Ctrl-C: guests that would go on for ever are ended, and it is said where they stood.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Folder, Run, command, hello_wat, selvedge};

/// Says that it has begun, then does what stands at its end.
fn guest(then: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read"
                (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff"
                (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\02\00\00\00\18\00\00\00\08\00\00\00!\n")
            (func $begin
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 300))))
            {then})"#
    )
}

const LOOPS: &str = r#"
    (func $spins (loop $l (br $l)))
    (func (export "_start") (call $begin) (call $spins))"#;
/// In its start section.
const STARTS: &str = r#"
    (func $spins (call $begin) (loop $l (br $l)))
    (start $spins)"#;
const SLEEPS: &str = r#"
    (func (export "_start")
        (call $begin)
        (i32.store (i32.const 116) (i32.const 1))
        (i64.store (i32.const 124) (i64.const -1))
        (drop (call $poll (i32.const 100) (i32.const 200) (i32.const 1) (i32.const 300))))"#;
const READS: &str = r#"
    (func (export "_start")
        (call $begin)
        (drop (call $read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 300))))"#;

/// Starts it and waits until the guest has begun; its standard input stays open and empty.
fn begun(args: &[&OsStr]) -> Child {
    begun_with(args, Stdio::piped())
}

fn begun_with(args: &[&OsStr], stderr: Stdio) -> Child {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut begun = [0; 2];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"!\n");
    child
}

/// Sends one SIGINT to a guest that has begun, and if it waits, when it does.
fn interrupted(file: &Path, waits: bool) -> Run {
    let mut child = begun(&["run".as_ref(), file.as_os_str()]);
    let input = child.stdin.take();
    if waits {
        asleep(&child);
    }
    kill_process(pid(&child), Signal::INT).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    drop(input);
    run
}

/// Waits until all threads of a process do.
fn asleep(child: &Child) {
    let sleeps = |task: io::Result<DirEntry>| {
        // One that has just ended tells nothing.
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('S'))
    };
    let tasks = format!("/proc/{}/task", child.id());
    while !fs::read_dir(&tasks).unwrap().all(sleeps) {
        std::thread::yield_now();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).unwrap()
}

#[test]
fn a_guest_is_ended_when_its_time_is_over() {
    let folder = Folder::new();
    for text in [LOOPS, STARTS, SLEEPS] {
        let file = folder.file("endless.wat", guest(text));
        let run = selvedge(["run", "--timeout", "50ms", file.to_str().unwrap()]);
        assert_eq!(run.code, Some(124), "{run:?}");
        // Where it stood then is not certain.
        let says = "error: the guest was ended: its time, 50ms, is over";
        assert!(run.stderr.starts_with(says), "{run:?}");
    }
}

#[test]
fn a_guest_that_ends_in_time_is_left_alone() {
    let hello = hello_wat();
    selvedge(["run", "--timeout", "1h", hello.to_str().unwrap()]).prints("hello from a sandbox\n");
}

#[test]
fn what_is_no_length_of_time_is_answered_with_an_example() {
    for wrong in ["", "5", "0s", "1.5s", "-1s", "soon"] {
        let run = selvedge(["run", &format!("--timeout={wrong}"), "x.wat"]);
        assert_eq!(run.code, Some(2), "{wrong}: {run:?}");
    }
    let run = selvedge(["run", "--timeout", "5", "x.wat"]);
    assert!(run.stderr.contains("500ms"), "{run:?}");
}

#[test]
fn ctrl_c_ends_a_loop_and_says_where_it_stood() {
    let folder = Folder::new();
    // The first may still be in the call that says that it has begun.
    for (text, function) in [(LOOPS, "_start"), (STARTS, "spins")] {
        let run = interrupted(&folder.file("loops.wat", guest(text)), false);
        assert_eq!(run.code, Some(130), "{run:?}");
        assert!(
            run.stderr
                .starts_with("error: the guest was ended by Ctrl-C\nwasm backtrace:\n"),
            "{run:?}"
        );
        assert!(run.stderr.contains(function), "{run:?}");
    }
}

#[test]
fn ctrl_c_ends_a_guest_that_waits() {
    let folder = Folder::new();
    for text in [SLEEPS, READS] {
        let run = interrupted(&folder.file("waits.wat", guest(text)), true);
        assert_eq!(run.code, Some(130), "{run:?}");
        assert!(
            run.stderr
                .starts_with("error: the guest was ended by Ctrl-C; it was not in its own code"),
            "{run:?}"
        );
    }
}

/// Waits in opening a pipe with a name for whoever opens its other end.
const OPENS: &str = r#"
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;
const OPENS_PIPE: &str = r#"
    (data (i32.const 400) "pipe")
    (func (export "_start")
        (call $begin)
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 400) (i32.const 4) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 300))))"#;

#[test]
fn ctrl_c_ends_a_guest_that_waits_for_the_other_end_of_a_pipe() {
    let folder = Folder::new();
    let text = guest(OPENS_PIPE).replacen("(module", &format!("(module {OPENS}"), 1);
    let file = folder.file("opens.wat", text);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let dir = format!("{}::/", folder.path("").display());
    let child = begun(&[
        "run".as_ref(),
        "--dir".as_ref(),
        dir.as_ref(),
        file.as_os_str(),
    ]);
    kill_process(pid(&child), Signal::INT).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{run:?}");
    assert!(
        run.stderr
            .starts_with("error: the guest was ended by Ctrl-C"),
        "{run:?}"
    );
}

/// A pipe that takes nothing more: its writing end, and the other one, which nobody reads.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let (reader, writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_second_ctrl_c_ends_what_the_first_does_not() {
    let folder = Folder::new();
    let file = folder.file("loops.wat", guest(LOOPS));
    // After the first it wants to say where the guest stood, and nobody listens.
    let (_reader, writer) = full_pipe();
    let mut child = begun_with(&["run".as_ref(), file.as_os_str()], writer.into());
    // Those that come while one is pending are not counted, so two may be too few.
    while child.try_wait().unwrap().is_none() {
        kill_process(pid(&child), Signal::INT).unwrap();
        std::thread::yield_now();
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
