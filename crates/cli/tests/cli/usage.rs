//! The command line itself: help, and answers to what is not understood.

use crate::command::{guest, selvedge, selvedge_with_closed_stdout};

#[test]
fn help_goes_to_stdout_and_is_success() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["run", "--help"],
        &["help", "compile"],
    ] {
        let run = selvedge(args);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stdout.contains("Usage: selvedge"), "{run:?}");
        assert_eq!(run.stderr, "", "{run:?}");
    }
    let version = selvedge(["--version"]);
    version.prints(&format!("selvedge {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn nothing_at_all_is_answered_with_the_help() {
    let run = selvedge::<&str>([]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("Usage: selvedge"), "{run:?}");
}

#[test]
fn every_flag_has_help() {
    for command in ["run", "compile", "inspect"] {
        let help = selvedge([command, "-h"]).stdout;
        let mut lines = help
            .lines()
            .skip_while(|line| *line != "Options:")
            .skip(1)
            .peekable();
        while let Some(line) = lines.next() {
            if line.trim_start().starts_with('-') {
                let described = line.trim().split("  ").count() > 1
                    || lines
                        .peek()
                        .is_some_and(|next| !next.trim_start().starts_with('-'));
                assert!(described, "{command}: {line}");
            }
        }
    }
}

#[test]
fn a_wrong_flag_is_answered_with_the_right_one() {
    selvedge(["run", "--dirs", ".", "a.wasm"]).fails(2, &["--dirs", "similar", "'--dir'"]);
    selvedge(["--invok", "f", "a.wasm"]).fails(2, &["'--invoke'"]);
    selvedge(["compile", "--outptu", "x", "a.wasm"]).fails(2, &["'--output'"]);
}

#[test]
fn a_wrong_command_is_answered_with_the_right_one() {
    selvedge(["complie", "a.wasm"]).fails(2, &["complie", "'compile'"]);
}

#[test]
fn a_missing_file_argument_is_named() {
    for command in ["run", "compile", "inspect"] {
        selvedge([command]).fails(2, &["FILE"]);
    }
}

#[test]
fn wrong_values_of_flags_say_what_is_right() {
    selvedge(["run", "-O9", "a.wasm"]).fails(2, &["9", "none, speed, size"]);
    selvedge(["run", "--max-memory", "big", "a.wasm"]).fails(2, &["big", "16M"]);
    selvedge(["run", "--env", "NOT_SET_HERE", "a.wasm"])
        .fails(2, &["NOT_SET_HERE", "--env NOT_SET_HERE=VALUE"]);
    selvedge(["run", "--dir", "::x", "a.wasm"]).fails(2, &["HOST::GUEST"]);
    selvedge(["run", "--no-wasi", "--dir", ".", "a.wasm"]).fails(2, &["--no-wasi"]);
    selvedge(["inspect", "--asm", "--clif", "a.wasm"]).fails(2, &["--clif"]);
}

#[test]
fn a_closed_pipe_is_success() {
    let add = guest("add.wat");
    let add = add.to_str().unwrap();
    for args in [
        &["--help"][..],
        &["inspect", add],
        &["inspect", "--asm", add],
        &["run", "--invoke", "add", add, "1", "2"],
    ] {
        let run = selvedge_with_closed_stdout(args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
}
