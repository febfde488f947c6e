//! `selvedge validate`: valid modules pass in silence, every other file is named with its reason.

use crate::command::{Folder, guest, selvedge};

#[test]
fn valid_modules_pass_in_silence() {
    let (a, b) = (guest("imports.wat"), guest("exit.wat"));
    selvedge(["validate", a.to_str().unwrap(), b.to_str().unwrap()]).prints("");
}

#[test]
fn every_file_that_is_refused_is_named_with_its_reason() {
    let folder = Folder::new();
    let file = |name: &str, text: &str| {
        let path = folder.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wrong = file("wrong.wat", "(module (func (result i32)))");
    let good = file("good.wat", "(module)");
    let newer = file("newer.wat", "(module (type (struct)))");
    let missing = folder.path("missing.wasm");
    let run = selvedge(["validate", &wrong, &good, &newer, missing.to_str().unwrap()]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    let errors: Vec<&str> = run
        .stderr
        .lines()
        .filter(|l| l.starts_with("error: "))
        .collect();
    assert_eq!(errors.len(), 3, "{run:?}");
    for (error, parts) in errors.iter().zip([
        ["wrong.wat", "type mismatch", "offset"],
        ["newer.wat", "gc", "offset"],
        ["missing.wasm", "cannot read", "No such file"],
    ]) {
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
}

#[test]
fn an_artifact_has_nothing_to_validate() {
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
    let run = selvedge(["validate", out.to_str().unwrap()]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("is an artifact"), "{run:?}");
}
