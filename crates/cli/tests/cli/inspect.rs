//! `selvedge inspect`: what is in a module, and the code that is made of it.

use crate::command::{Folder, guest, selvedge};

fn inspect(args: &[&str]) -> String {
    let run = selvedge(["inspect"].iter().chain(args));
    assert_eq!(
        (run.code, run.stderr.as_str()),
        (Some(0), ""),
        "{args:?}: {run:?}"
    );
    run.stdout
}

fn shows(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_module_is_summed_up() {
    let text = inspect(&[guest("imports.wat").to_str().unwrap()]);
    shows(
        &text,
        &[
            "wasi_snapshot_preview1",
            "args_sizes_get",
            "now_and_then",
            "(i32) -> (i64)",
            "_start",
            "memory of 1 to any pages",
        ],
    );
}

#[test]
fn an_artifact_is_summed_up_too() {
    let folder = Folder::new();
    let out = folder.path("a.sva");
    let source = guest("imports.wat");
    selvedge([
        "compile",
        source.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ])
    .prints("");
    let text = inspect(&[out.to_str().unwrap()]);
    shows(
        &text,
        &[
            "artifact",
            "x86_64-linux",
            "now_and_then",
            "(i32) -> (i64)",
            "_start",
            "text",
        ],
    );
}

#[test]
fn code_is_shown_of_all_functions_or_of_one() {
    let trap = guest("trap.wat");
    let trap = trap.to_str().unwrap();
    let all = inspect(&["--asm", trap]);
    let one = inspect(&["--asm", "--func", "divide", trap]);
    shows(&all, &["idiv"]);
    shows(&one, &["idiv"]);
    assert!(one.len() < all.len());
    assert_eq!(one, inspect(&["--asm", "--func", "0", trap]));
    shows(&inspect(&["--clif", "--func", "divide", trap]), &["sdiv"]);
}

#[test]
fn a_function_that_is_not_there_is_named() {
    let trap = guest("trap.wat");
    let trap = trap.to_str().unwrap();
    selvedge(["inspect", "--asm", "--func", "nothing", trap]).fails(1, &["nothing"]);
    selvedge(["inspect", "--asm", "--func", "99", trap]).fails(1, &["99"]);
    selvedge(["inspect", "--func", "divide", trap]).fails(2, &["--asm"]);
}

#[test]
fn code_is_shown_of_modules_only() {
    let folder = Folder::new();
    let out = folder.path("a.sva");
    let source = guest("trap.wat");
    selvedge([
        "compile",
        source.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ])
    .prints("");
    selvedge(["inspect", "--asm", out.to_str().unwrap()]).fails(1, &["a.sva", "objdump"]);
}
