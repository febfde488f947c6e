//! `--stats`: what a run took, however it ends.

use crate::command::{Folder, Run, selvedge};

/// Writes two lines, each by a call of the host, and grows its memory by a page. With `--invoke trap` it does the same
/// and traps.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (table 10 funcref)
    (data (i32.const 0) "\10\00\00\00\03\00\00\00")
    (data (i32.const 16) "hi\n")
    (func $twice
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (memory.grow (i32.const 1))))
    (func (export "_start") (call $twice))
    (func (export "trap") (call $twice) (unreachable))
    (func (export "exit") (call $twice) (call $exit (i32.const 7))))"#;

/// The figure of a line of the report.
fn figure<'a>(run: &'a Run, name: &str) -> &'a str {
    let mut lines = run.stderr.lines();
    lines
        .find(|line| line == &"selvedge: what the run took")
        .unwrap_or_else(|| panic!("there is no report: {run:?}"));
    let line = lines.find_map(|line| line.trim_start().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}: {run:?}"))
        .trim_start()
}

#[test]
fn a_report_comes_however_the_guest_ends() {
    let folder = Folder::new();
    let guest = folder.file("guest.wat", GUEST);
    let guest = guest.to_str().unwrap();
    let ends: [(&[&str], i32, &str, &str); 3] = [
        (&["run", "--stats", guest], 0, "14", "2"),
        (
            &["run", "--stats", "--invoke", "trap", guest],
            134,
            "14",
            "2",
        ),
        (&["run", "--stats", "--invoke", "exit", guest], 7, "16", "3"),
    ];
    for (args, code, instructions, calls) in ends {
        let run = selvedge(args.iter().copied());
        assert_eq!(run.code, Some(code), "{run:?}");
        assert_eq!(run.stdout, "hi\nhi\n");
        assert_eq!(
            figure(&run, "instructions"),
            format!("{instructions} units of fuel")
        );
        assert_eq!(
            figure(&run, "memory"),
            "131,152 bytes in memories and tables at most"
        );
        assert_eq!(figure(&run, "host calls"), calls);
        for time in ["loading", "running"] {
            assert!(figure(&run, time).ends_with('s'), "{run:?}");
        }
    }
    let quiet = selvedge(["run", guest]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn the_report_of_a_guest_that_is_stopped_has_its_fuel() {
    let folder = Folder::new();
    let endless = folder.file(
        "endless.wat",
        r#"(module (func (export "_start") (loop (br 0))))"#,
    );
    let endless = endless.to_str().unwrap();
    let run = selvedge(["run", "--stats", "--fuel", "1K", endless]);
    assert_eq!(run.code, Some(134), "{run:?}");
    assert_eq!(figure(&run, "instructions"), "1,000 units of fuel");
    let run = selvedge(["run", "--stats", "--timeout", "50ms", endless]);
    assert_eq!(run.code, Some(124), "{run:?}");
    assert_eq!(figure(&run, "host calls"), "0");
}

#[test]
fn an_artifact_counts_if_it_was_made_so() {
    let folder = Folder::new();
    let guest = folder.file("guest.wat", GUEST);
    let (guest, plain, counts) = (
        guest.to_str().unwrap(),
        folder.path("plain.sva"),
        folder.path("counts.sva"),
    );
    let (plain, counts) = (plain.to_str().unwrap(), counts.to_str().unwrap());
    selvedge(["compile", guest, "-o", plain]).prints("");
    selvedge(["compile", "--count-fuel", guest, "-o", counts]).prints("");
    let run = selvedge(["run", "--stats", plain]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(figure(&run, "instructions").starts_with("not counted"));
    assert_eq!(figure(&run, "host calls"), "2");
    let run = selvedge(["run", "--stats", "--fuel", "1M", counts]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(figure(&run, "instructions"), "14 units of fuel");
}
