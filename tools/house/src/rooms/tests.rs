//! Tests of the rules of the rooms.

use super::*;
use crate::rules::Listed;

const SAFETY: &str = "# Safety\n\n## R1 arch\n\nWords.\n\n- **I-1**: holds.\n- I-12: too.\n";
const ROOM: &str = "crates/runtime/src/arch/mod.rs";

fn rules() -> RoomsRules {
    RoomsRules {
        safety: "SAFETY.md".into(),
        rooms: [(
            "R1".to_owned(),
            vec!["crates/runtime/src/arch/**".to_owned()],
        )]
        .into(),
        outside: vec!["guests/**".into()],
        listed: vec![],
        declaring: vec![],
        roots: vec!["crates/*/src/lib.rs".into()],
    }
}

/// Messages of the findings in one source at `path`, beside a safety document.
fn found(path: &str, text: &str) -> Vec<String> {
    let tree = Tree::of(&[(path, text), ("SAFETY.md", SAFETY)]);
    check(&tree, &rules())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn finds(path: &str, text: &str, words: &str) {
    let found = found(path, text);
    assert!(
        found.len() == 1 && found[0].contains(words),
        "{found:?} should be one with {words:?}"
    );
}

#[track_caller]
fn passes(path: &str, text: &str) {
    assert_eq!(found(path, text), [""; 0]);
}

#[test]
fn unsafe_outside_a_room_is_found_with_its_line() {
    let found = found(
        "crates/wasi/src/fd.rs",
        "//! x\n// SAFETY: no\nfn f() { unsafe { g() } }\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("crates/wasi/src/fd.rs:3: rooms: unsafe outside"),
        "{found:?}"
    );
    finds(
        "crates/wasi/tests/t.rs",
        "unsafe fn f() {}",
        "outside a room",
    );
    finds(
        "tests/stop.rs",
        "macro_rules! m { () => { unsafe { f() } } }",
        "outside a room",
    );
}

#[test]
fn what_only_looks_like_unsafe_is_not_found() {
    passes(
        "crates/wasi/src/fd.rs",
        "#![deny(unsafe_code)]\n// unsafe\n/* unsafe */\nfn f() { g(\"unsafe\", r#\"unsafe\"#, 'u') }\n",
    );
    passes("guests/rust/main.rs", "fn main() { unsafe { f() } }");
}

#[test]
fn a_listed_file_may_use_unsafe_but_explains_it() {
    let mut rules = rules();
    rules.listed = vec![Listed {
        path: "tests/raw.rs".into(),
        why: "maps pages".into(),
    }];
    let tree = |text| Tree::of(&[("tests/raw.rs", text), ("SAFETY.md", SAFETY)]);
    assert_eq!(
        check(&tree("// SAFETY: mapped above.\nunsafe { f() }"), &rules),
        []
    );
    assert_eq!(check(&tree("unsafe { f() }"), &rules).len(), 1);
    rules.listed[0].why.clear();
    let silent = check(&tree("// no unsafe here"), &rules);
    assert!(
        silent.len() == 1 && silent[0].message.contains("gives no reason"),
        "{silent:?}"
    );
    let gone = check(&Tree::of(&[("SAFETY.md", SAFETY)]), &rules);
    assert!(
        gone.len() == 1 && gone[0].message.contains("names no file"),
        "{gone:?}"
    );
}

#[test]
fn a_declaring_file_may_have_unsafe_functions_and_no_blocks() {
    let mut rules = rules();
    let path = "crates/wasi/src/module.rs";
    rules.declaring = vec![Listed {
        path: path.into(),
        why: "runs native code".into(),
    }];
    let with = |text| {
        check(&Tree::of(&[(path, text), ("SAFETY.md", SAFETY)]), &rules)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(with("pub unsafe fn load() {}"), [""; 0]);
    let block = with("// SAFETY: no.\nfn f() { unsafe { g() } }");
    assert!(
        block.len() == 1 && block[0].contains("is no unsafe fn"),
        "{block:?}"
    );
    let root = Tree::of(&[
        ("crates/wasi/src/lib.rs", "//! x"),
        (path, ""),
        ("SAFETY.md", SAFETY),
    ]);
    assert_eq!(check(&root, &rules), []);
}

#[test]
fn a_comment_directly_above_explains() {
    passes(
        ROOM,
        "fn f() {\n    // SAFETY: I-1, the slot is ours.\n    unsafe { g() }\n}",
    );
    passes(ROOM, "// SAFETY: two\n// lines.\nlet x = unsafe { g() };");
    passes(
        ROOM,
        "let a = 1;\n// SAFETY: ours.\nlet x = f(\n    a,\n    unsafe { g() },\n);",
    );
    passes(
        ROOM,
        "let x = f(\n    a,\n    // SAFETY: ours.\n    unsafe { g() },\n);",
    );
    passes(ROOM, "/* SAFETY: ours. */ unsafe { g() }");
    passes(
        ROOM,
        "// SAFETY: ours.\n#[cfg(test)]\n#[inline]\nunsafe impl Send for X {}",
    );
    passes(
        ROOM,
        "match x {\n    A => 1,\n    // SAFETY: ours.\n    B => unsafe { g() },\n}",
    );
    passes(
        ROOM,
        "f(h(), { 1 });\n// SAFETY: ours.\nlet x = [0; 3].map(|_| unsafe { g() });",
    );
    passes(
        ROOM,
        "// SAFETY: ours.\nlet x: Map<A, B> = f::<C, D>(|a, b| unsafe { g(a, b) });",
    );
    passes(
        ROOM,
        "S {\n    a: 1, // one\n    // SAFETY: ours.\n    b: unsafe { g() },\n}",
    );
    passes(ROOM, "// SAFETY:\n// the pointer is ours.\nunsafe { g() }");
}

#[test]
fn a_block_without_its_own_comment_is_found() {
    finds(ROOM, "fn f() { unsafe { g() } }", "no SAFETY comment");
    finds(ROOM, "unsafe impl Send for X {}", "no SAFETY comment");
    finds(
        ROOM,
        "// SAFETY: far.\n\nunsafe { g() }",
        "no SAFETY comment",
    );
    finds(
        ROOM,
        "// SAFETY: of the first.\nunsafe { f() };\nunsafe { g() };",
        "no SAFETY comment",
    );
    finds(
        ROOM,
        "f(); // SAFETY: of f.\nunsafe { g() };",
        "no SAFETY comment",
    );
    finds(
        ROOM,
        "match x {\n    // SAFETY: of A.\n    A => unsafe { f() },\n    B => unsafe { g() },\n}",
        "no SAFETY comment",
    );
    finds(
        ROOM,
        "// Some other words.\nunsafe { g() }",
        "no SAFETY comment",
    );
}

#[test]
fn declarations_need_no_comment_of_this_kind() {
    passes(
        ROOM,
        "/// # Safety\nunsafe fn f() {}\nunsafe extern \"C\" { fn g(); }",
    );
    passes(
        ROOM,
        "type F = unsafe extern \"C\" fn();\n#[unsafe(no_mangle)]\nfn h() {}",
    );
}

#[test]
fn a_debt_or_nothing_is_not_a_reason() {
    finds(ROOM, "// SAFETY: TODO\nunsafe { g() }", "todo is a debt");
    finds(
        ROOM,
        "// SAFETY: todo, later\nunsafe { g() }",
        "todo is a debt",
    );
    finds(ROOM, "// SAFETY:\nunsafe { g() }", "an empty SAFETY");
}

#[test]
fn citing_an_unknown_invariant_is_found() {
    passes(ROOM, "// SAFETY: I-12 holds.\nunsafe { g() }");
    finds(
        ROOM,
        "// SAFETY: I-2 holds.\nunsafe { g() }",
        "I-2 is not in SAFETY.md",
    );
    finds(
        "crates/wasi/src/fd.rs",
        "/* one\n I-13 */",
        "fd.rs:2: rooms: I-13 is not",
    );
    passes(
        "crates/wasi/src/fd.rs",
        "// SCSI-2, ABI-3 and MINI-I-4 are other things; \"I-\" is nothing",
    );
}

#[test]
fn a_crate_root_without_a_room_forbids_unsafe() {
    let root = "crates/wasi/src/lib.rs";
    passes(root, "//! x\n#![forbid(unsafe_code)]\n");
    passes(root, "#![forbid(missing_docs, unsafe_code)]");
    finds(
        root,
        "//! x\n// #![forbid(unsafe_code)]\n",
        "begin it with #![forbid",
    );
    finds(root, "#![deny(unsafe_code)]", "begin it with #![forbid");
    passes("crates/runtime/src/lib.rs", "//! has a room\n");
    passes("crates/wasi/src/fd.rs", "//! no root\n");
}

#[test]
fn the_safety_document_is_complete() {
    let with = |text| check(&Tree::of(&[("SAFETY.md", text)]), &rules());
    assert!(with("## R1 arch\n").is_empty());
    assert!(
        with("## R10 other\n")[0]
            .message
            .contains("room R1 has no heading")
    );
    assert!(with("## R1\n\n### I-1: a\n\nAs with\nI-1 above.\n").is_empty());
    let twice = with("## R1\n- I-1: a\n- I-1: b\n");
    assert!(
        twice.len() == 1 && twice[0].message.contains("line 2 too"),
        "{twice:?}"
    );
    assert!(
        check(&Tree::of(&[]), &rules())[0]
            .message
            .contains("missing")
    );
}
