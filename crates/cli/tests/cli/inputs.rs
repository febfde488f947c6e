//! Files that are not what they should be: one clear error each, and an exit code.

use crate::command::{Folder, guest, selvedge, selvedge_with_stdin};

/// A module with a function, as a binary.
fn module() -> Vec<u8> {
    wat::parse_file(guest("add.wat")).unwrap()
}

#[test]
fn a_missing_file_is_named() {
    for command in ["run", "compile", "inspect"] {
        selvedge([command, "no-such.wasm"]).fails(1, &["no-such.wasm", "No such file"]);
    }
    selvedge(["no-such.wasm"]).fails(1, &["no-such.wasm", "No such file"]);
}

#[test]
fn a_directory_is_not_a_module() {
    let folder = Folder::new();
    for command in ["run", "compile", "inspect"] {
        let dir = folder.path("");
        selvedge([command.as_ref(), dir.as_os_str()]).fails(1, &["is a directory"]);
    }
}

#[test]
fn what_is_no_module_is_described() {
    let folder = Folder::new();
    for (contents, says) in [
        (&b""[..], "0 bytes"),
        (b"  \n\t\n", "empty space"),
        (b"#include <stdio.h>\n", "#include <stdio.h>"),
        (b"\x89PNG\r\n\x1a\n", "89 50 4e 47"),
        (b"\xff\xfe", "ff fe"),
    ] {
        let file = folder.file("guest.wasm", contents);
        for command in ["run", "compile", "inspect"] {
            selvedge([command.as_ref(), file.as_os_str()])
                .fails(1, &["guest.wasm", says, "WebAssembly"]);
        }
    }
}

#[test]
fn the_ending_of_the_name_does_not_matter() {
    let folder = Folder::new();
    let text_as_wasm = folder.file("text.wasm", "(module (func (export \"_start\")))");
    selvedge([text_as_wasm]).prints("");
    let binary_as_text = folder.file(
        "binary.wat",
        wat::parse_str("(module (func (export \"_start\")))").unwrap(),
    );
    selvedge([binary_as_text]).prints("");
}

#[test]
fn a_mistake_in_a_text_is_shown_where_it_is() {
    let folder = Folder::new();
    let file = folder.file(
        "guest.wat",
        "(module\n  (func (export \"_start\")\n    i32.ad))\n",
    );
    selvedge([file]).fails(1, &["guest.wat:3:5", "i32.ad"]);
    let file = folder.file("open.wat", "(module (func");
    selvedge([file]).fails(1, &["open.wat:1"]);
}

#[test]
fn a_truncated_module_is_refused_wherever_it_ends() {
    let folder = Folder::new();
    let module = module();
    for len in 4..module.len() {
        // The header alone is the empty module, which is valid and has nothing to run.
        let file = folder.file("guest.wasm", &module[..len]);
        let run = selvedge([file]);
        assert_eq!(run.code, Some(1), "{len}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{len}: {run:?}");
    }
}

#[test]
fn a_length_that_nothing_backs_is_refused() {
    let folder = Folder::new();
    // A type section that claims 4 GiB, then one of few bytes that claims four billion types.
    for tail in [
        &b"\x01\xff\xff\xff\xff\x0f"[..],
        b"\x01\x06\xff\xff\xff\xff\x0f\x60",
    ] {
        let file = folder.file("guest.wasm", [b"\0asm\x01\0\0\0", tail].concat());
        selvedge([file]).fails(1, &["guest.wasm", "offset"]);
    }
}

#[test]
fn deep_nesting_is_no_danger() {
    let folder = Folder::new();
    let deep = format!(
        "(module (func {}{}))",
        "(block ".repeat(100_000),
        ")".repeat(100_000)
    );
    selvedge([folder.file("deep.wat", deep)]).fails(1, &["deep.wat"]);
    // The binary format has no such limit: a body of blocks alone is valid.
    let blocks = format!("{}{}", "block ".repeat(20_000), "end ".repeat(20_000));
    let text = format!("(module (func (export \"_start\") {blocks}))");
    selvedge([folder.file("deep.wasm", wat::parse_str(text).unwrap())]).prints("");
}

#[test]
fn a_component_is_called_one() {
    let folder = Folder::new();
    let file = folder.file("guest.wasm", b"\0asm\x0d\0\x01\0");
    selvedge([file]).fails(1, &["component"]);
}

#[test]
fn a_feature_that_is_not_built_is_named_with_its_offset() {
    let folder = Folder::new();
    let file = folder.file(
        "guest.wat",
        "(module (func (export \"_start\") (drop (ref.i31 (i32.const 1)))))",
    );
    selvedge([file]).fails(1, &["gc", "0x"]);
}

#[test]
fn an_invalid_module_is_refused_with_its_offset() {
    let folder = Folder::new();
    let file = folder.file("guest.wat", "(module (func (result i32) (i64.const 1)))");
    selvedge([file]).fails(1, &["guest.wat", "type mismatch", "0x"]);
}

#[test]
fn a_module_can_come_from_stdin() {
    let run = selvedge_with_stdin(["run", "--invoke", "add", "-", "2", "3"], &module());
    run.prints("5\n");
    selvedge_with_stdin(["run", "-"], b"").fails(1, &["nothing"]);
}
