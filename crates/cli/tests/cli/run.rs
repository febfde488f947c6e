//! `selvedge run`: WASI programs, what they are given, and how they end.

use std::path::PathBuf;

use crate::command::{
    Folder, command, guest, hello_wat, selvedge, selvedge_with_closed_stdout, selvedge_with_stdin,
};

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

/// A path of `tests/guests` as text.
fn path(name: &str) -> String {
    text(guest(name))
}

#[test]
fn a_program_says_hello() {
    let hello = text(hello_wat());
    selvedge(["run", &hello]).prints("hello from a sandbox\n");
    selvedge([&hello]).prints("hello from a sandbox\n");
    for level in ["-Onone", "-O0", "-Ospeed", "-Osize"] {
        selvedge(["run", level, &hello]).prints("hello from a sandbox\n");
    }
}

#[test]
fn the_exit_code_is_passed_on() {
    let run = selvedge([path("exit.wat")]);
    assert_eq!(run.code, Some(42), "{run:?}");
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
}

#[test]
fn exit_codes_that_no_process_has_are_not_success() {
    let folder = Folder::new();
    let text = std::fs::read_to_string(guest("exit.wat")).unwrap();
    for (given, passed_on) in [("0", 0), ("255", 255), ("256", 255), ("-1", 255)] {
        let text = text.replace("i32.const 42", &format!("i32.const {given}"));
        let run = selvedge([folder.file("exit.wat", text)]);
        assert_eq!(run.code, Some(passed_on), "{given}: {run:?}");
    }
}

#[test]
fn arguments_reach_the_guest_untouched() {
    let args = path("args.wat");
    selvedge(["run", &args]).prints("args.wat\n");
    selvedge(["run", &args, "one", "--two", "-3", "--", ""])
        .prints("args.wat\none\n--two\n-3\n--\n\n");
    selvedge(["run", &args, "--", "--dir"]).prints("args.wat\n--dir\n");
    selvedge([&args, "--help"]).prints("args.wat\n--help\n");
    selvedge(["--argv0", "other", &args, "a"]).prints("other\na\n");
}

#[test]
fn the_environment_is_empty_but_for_what_is_given() {
    let env = path("env.wat");
    let run = |args: &[&str]| {
        let output = command(args)
            .env("PASSED", "on = yes")
            .env("KEPT", "here")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["run", &env]), "");
    assert_eq!(
        run(&["run", "--env", "A=1", "--env", "B=", &env]),
        "A=1\nB=\n"
    );
    assert_eq!(run(&["run", "--env", "PASSED", &env]), "PASSED=on = yes\n");
    assert_eq!(run(&["run", "--env", "A=1", "--env", "A=2", &env]), "A=2\n");
    selvedge(["run", "--env", "=1", &env]).fails(1, &["environment variable"]);
}

#[test]
fn a_directory_is_given_under_its_name_or_another() {
    let folder = Folder::new();
    folder.file("note.txt", "a note\n");
    let host = folder
        .path("")
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let dir = path("dir.wat");
    selvedge(["run", "--dir", &host, &dir]).prints(&format!("{host}\na note\n"));
    let mapped = format!("{host}::/inside");
    selvedge(["run", "--dir", &mapped, &dir]).prints("/inside\na note\n");
    let here = command(["run", "--dir", ".", &dir])
        .current_dir(&host)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(here.stdout).unwrap(), ".\na note\n");
}

#[test]
fn without_a_directory_there_is_none() {
    // 8 is EBADF: descriptor 3 does not exist.
    let run = selvedge([path("dir.wat")]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(8), ""), "{run:?}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let folder = Folder::new();
    let missing = folder.path("missing");
    let dir = path("dir.wat");
    selvedge(["run", "--dir", missing.to_str().unwrap(), &dir]).fails(1, &["missing", "directory"]);
    let file = folder.file("file", "");
    selvedge(["run", "--dir", file.to_str().unwrap(), &dir]).fails(1, &["file", "directory"]);
}

#[test]
fn standard_streams_are_the_hosts() {
    let input: Vec<u8> = (0..200_000u32).map(|i| b'a' + (i % 26) as u8).collect();
    let run = selvedge_with_stdin(["run", &path("cat.wat")], &input);
    run.prints(std::str::from_utf8(&input).unwrap());
    selvedge_with_stdin(["run", &path("cat.wat")], b"").prints("");
}

#[test]
fn a_guest_learns_that_its_output_is_closed() {
    let run = selvedge_with_closed_stdout([text(hello_wat())]);
    // The program answers a failed write with `unreachable`.
    assert_eq!(run.code, Some(134), "{run:?}");
    assert!(run.stderr.contains("unreachable"), "{run:?}");
}

#[test]
fn a_trap_prints_its_message_and_the_way_to_it() {
    let run = selvedge([path("trap.wat")]);
    run.fails(134, &["guest trapped", "integer divide by zero"]);
    let order = ["divide", "guest::middle", "outer"].map(|name| run.stderr.find(name));
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{run:?}"
    );
    assert!(
        !run.stderr.contains("_ZN5guest"),
        "names are demangled: {run:?}"
    );
    assert!(run.stderr.contains("0x"), "frames have offsets: {run:?}");
}

#[test]
fn an_exception_that_nothing_catches_ends_like_a_trap() {
    let folder = Folder::new();
    let text = r#"(module (tag $t (export "oops") (param i32))
        (func (export "_start") (throw $t (i32.const 5))))"#;
    selvedge([folder.file("throw.wat", text)])
        .fails(134, &["uncaught exception", "oops", "I32(5)"]);
}

#[test]
fn endless_recursion_is_a_trap() {
    let recurse = path("recurse.wat");
    selvedge([&recurse]).fails(134, &["call stack exhausted"]);
    selvedge(["--stack-size", "64M", &recurse]).fails(134, &["call stack exhausted"]);
    let lines = selvedge([&recurse]).stderr.lines().count();
    assert!(
        lines < 200,
        "a backtrace of endless recursion is cut: {lines} lines"
    );
}

#[test]
fn other_traps_have_their_own_messages() {
    let folder = Folder::new();
    for (body, says) in [
        ("unreachable", "unreachable"),
        (
            "(drop (i32.load (i32.const -4)))",
            "out of bounds memory access",
        ),
        (
            "(drop (i32.trunc_f32_s (f32.const nan)))",
            "invalid conversion to integer",
        ),
        ("(call_indirect (i32.const 9))", "undefined element"),
        ("(call_indirect (i32.const 0))", "uninitialized element"),
    ] {
        let text =
            format!("(module (memory 1) (table 1 funcref) (func (export \"_start\") {body}))");
        selvedge([folder.file("guest.wat", text)]).fails(134, &["guest trapped", says]);
    }
}

#[test]
fn a_start_section_runs_first() {
    selvedge(["run", "--invoke", "started", &path("start.wat")]).prints("1\n");
}

#[test]
fn a_trap_in_the_start_section_is_a_trap() {
    let folder = Folder::new();
    let file = folder.file(
        "guest.wat",
        "(module (func $begin unreachable) (start $begin))",
    );
    selvedge([file]).fails(134, &["unreachable", "begin"]);
}

#[test]
fn an_unknown_import_is_named_with_its_type_and_the_way_out() {
    selvedge([path("imports.wat")]).fails(
        1,
        &[
            "env",
            "now_and_then",
            "(i32) -> (i64)",
            "--unknown-imports-trap",
        ],
    );
}

#[test]
fn an_unknown_import_can_be_left_to_trap() {
    let imports = path("imports.wat");
    selvedge(["run", "--unknown-imports-trap", &imports]).prints("");
    selvedge(["run", "--unknown-imports-trap", &imports, "call it"])
        .fails(134, &["env", "now_and_then"]);
}

#[test]
fn an_import_of_another_kind_cannot_be_left_to_trap() {
    let folder = Folder::new();
    let text = "(module (import \"env\" \"memory\" (memory 1)) (func (export \"_start\")))";
    let file = folder.file("guest.wat", text);
    let args = [
        "run".as_ref(),
        "--unknown-imports-trap".as_ref(),
        file.as_os_str(),
    ];
    selvedge(args).fails(1, &["env", "memory"]);
}

#[test]
fn wasi_can_be_left_out() {
    let hello = text(hello_wat());
    selvedge(["run", "--no-wasi", &hello]).fails(1, &["wasi_snapshot_preview1", "--no-wasi"]);
    selvedge([
        "run",
        "--no-wasi",
        "--invoke",
        "add",
        &path("add.wat"),
        "1",
        "2",
    ])
    .prints("3\n");
}

#[test]
fn a_module_without_start_is_answered_with_what_can_be_called() {
    selvedge([path("add.wat")]).fails(1, &["_start", "--invoke", "add64", "(i64, i64) -> (i64)"]);
    let folder = Folder::new();
    selvedge([folder.file("empty.wat", "(module)")]).fails(1, &["_start", "no functions"]);
}

#[test]
fn memory_stops_growing_at_its_bound() {
    let grow = path("grow.wat");
    selvedge(["run", "--invoke", "grow", &grow, "15"]).prints("1\n");
    let bounded = |pages| {
        selvedge([
            "run",
            "--max-memory",
            "1M",
            "--invoke",
            "grow",
            &grow,
            pages,
        ])
    };
    bounded("15").prints("1\n");
    bounded("16").prints("-1\n");
    selvedge(["run", "--max-memory", "1K", "--invoke", "grow", &grow, "0"])
        .fails(1, &["--max-memory"]);
}

#[test]
fn all_memories_and_tables_have_one_bound() {
    let folder = Folder::new();
    let module = folder.file(
        "several.wat",
        r#"(module (memory 1) (memory i64 1) (table 8192 funcref)
            (func (export "wide") (param i64) (result i64) (memory.grow 1 (local.get 0)))
            (func (export "narrow") (param i32) (result i32) (memory.grow 0 (local.get 0)))
            (func (export "table") (param i32) (result i32)
                (table.grow 0 (ref.null func) (local.get 0))))"#,
    );
    let module = module.to_str().unwrap();
    // Three times 64 KiB are there.
    let run =
        |size, name, more| selvedge(["run", "--max-memory", size, "--invoke", name, module, more]);
    for (name, more) in [("wide", "1"), ("narrow", "1"), ("table", "8192")] {
        let before = if name == "table" { "8192\n" } else { "1\n" };
        run("256K", name, more).prints(before);
        run("255K", name, more).prints("-1\n");
    }
    run("191K", "wide", "0").fails(1, &["--max-memory", "196608"]);
}

#[test]
fn limits_that_cannot_be_are_named_by_their_flags() {
    let grow = path("grow.wat");
    selvedge(["run", "--stack-size", "1K", &grow, "0"]).fails(1, &["--invoke"]);
    let run = |flag, size| selvedge(["run", flag, size, "--invoke", "grow", &grow, "0"]);
    run("--stack-size", "1K").fails(1, &["--stack-size is 1024"]);
    run("--stack-size", "99999999G").fails(1, &["--stack-size"]);
    run("--max-memory", "99999999G").fails(1, &["--max-memory is"]);
    run("--max-memory", "5G").prints("1\n");
}

#[test]
fn a_trap_leaves_a_core_dump_if_one_is_asked_for() {
    let folder = Folder::new();
    let trap = folder.file(
        "trap.wat",
        "(module $trap (memory 1) (data (i32.const 9) \"left behind\") (func (export \"_start\") unreachable))",
    );
    let dump = folder.path("trap.core");
    let flag = format!("--coredump={}", dump.display());
    let run = selvedge([flag.as_ref(), trap.as_os_str()]);
    run.fails(134, &["guest trapped: unreachable"]);
    let bytes = std::fs::read(&dump).unwrap();
    assert!(bytes.starts_with(b"\0asm\x01\0\0\0"));
    for found in ["left behind", "corestack", "coreinstances", "trap"] {
        let found = found.as_bytes();
        assert!(bytes.windows(found.len()).any(|w| w == found));
    }
    // No trap, no dump; a dump that can't be written does not hide the trap.
    std::fs::remove_file(&dump).unwrap();
    selvedge([flag.as_ref(), hello_wat().as_os_str()]).prints("hello from a sandbox\n");
    assert!(!dump.exists());
    let nowhere = format!("--coredump={}/no/such", dump.display());
    let run = selvedge([nowhere.as_ref(), trap.as_os_str()]);
    run.fails(
        134,
        &["guest trapped: unreachable", "cannot write the core dump"],
    );
}
