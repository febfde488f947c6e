//! `selvedge wast`: counts for each script, and a line for each directive that failed.

use crate::command::{Folder, selvedge};

/// Writes scripts to a folder and gives their paths.
fn scripts<const N: usize>(folder: &Folder, texts: [(&str, &[u8]); N]) -> [String; N] {
    texts.map(|(name, text)| {
        let path = folder.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    })
}

const GOOD: &[u8] = br#"(module (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))
(assert_return (invoke "add" (i32.const 1) (i32.const 2)) (i32.const 3))
(assert_invalid (module (func (result i32))) "type mismatch")
"#;

const BAD: &[u8] = br#"(module (func (export "one") (result i32) (i32.const 1))
    (func (export "trap") unreachable))
(assert_return (invoke "one") (i32.const 1))
  (assert_return (invoke "one") (i32.const 2))
(assert_trap (invoke "one") "unreachable")
(assert_trap (invoke "trap") "integer divide by zero")
"#;

#[test]
fn a_script_that_holds_is_counted() {
    let folder = Folder::new();
    let [good] = scripts(&folder, [("good.wast", GOOD)]);
    selvedge(["wast", &good]).prints(&format!("{good}: 3 passed, 0 failed\n"));
}

#[test]
fn every_directive_that_fails_has_a_line_with_its_place() {
    let folder = Folder::new();
    let [good, bad] = scripts(&folder, [("good.wast", GOOD), ("bad.wast", BAD)]);
    let run = selvedge(["wast", &bad, &good]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let counts =
        format!("{bad}: 2 passed, 3 failed\n{good}: 3 passed, 0 failed\n5 passed, 3 failed\n");
    assert_eq!(run.stdout, counts);
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{run:?}");
    for (line, (place, what)) in lines.iter().zip([
        ("4:4: ", "expected"),
        ("5:2: ", "expected trap \"unreachable\""),
        ("6:2: ", "got \"unreachable\""),
    ]) {
        assert!(line.starts_with(&format!("{bad}:{place}")), "{line}");
        assert!(line.contains(what), "{line}");
    }
}

#[test]
fn what_is_no_script_is_named_and_the_others_are_run() {
    let folder = Folder::new();
    let [broken, binary, good] = scripts(
        &folder,
        [
            ("broken.wast", b"(module)\n(assert_retrun)"),
            ("binary.wast", b"ok\xff"),
            ("good.wast", GOOD),
        ],
    );
    let missing = folder.path("missing.wast");
    let run = selvedge(["wast", &broken, &binary, missing.to_str().unwrap(), &good]);
    assert_eq!(run.code, Some(1), "{run:?}");
    for part in [
        "broken.wast:2:2",
        "byte 2 is not UTF-8",
        "missing.wast",
        "No such file",
    ] {
        assert!(run.stderr.contains(part), "{part:?} is not in {run:?}");
    }
    assert!(run.stdout.contains("good.wast: 3 passed"), "{run:?}");
    let folder = folder.path(".");
    let run = selvedge(["wast", folder.to_str().unwrap()]);
    assert!(run.stderr.contains("is a directory"), "{run:?}");
}

#[test]
fn proposals_are_turned_off_and_on_by_name() {
    let folder = Folder::new();
    let [tail, good] = scripts(
        &folder,
        [
            ("tail.wat", b"(module (func $f (return_call $f)))"),
            ("good.wast", GOOD),
        ],
    );
    selvedge(["validate", &tail]).prints("");
    let run = selvedge(["validate", "--disable", "tail-call", &tail]);
    assert_eq!(run.code, Some(1), "{run:?}");
    for part in [
        "proposal tail-call",
        "turned off",
        "offset 0x",
        "`--enable tail-call`",
    ] {
        assert!(run.stderr.contains(part), "{part:?} is not in {run:?}");
    }
    selvedge([
        "validate",
        "--disable",
        "tail-call",
        "--enable",
        "tail-call",
        &tail,
    ]);
    let run = selvedge(["wast", "--enable", "gc", &good]);
    assert!(run.stderr.contains("gc can't be turned on"), "{run:?}");
    let run = selvedge([
        "wast",
        "--disable",
        "simd",
        "--enable",
        "relaxed-simd",
        &good,
    ]);
    assert!(run.stderr.contains("simd is turned off"), "{run:?}");
    let run = selvedge(["validate", "--disable", "tail-cal", &tail]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("tail-call"), "{run:?}");
}
