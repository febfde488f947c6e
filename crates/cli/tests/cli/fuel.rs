//! `--fuel`: a guest that would go on for ever is stopped, one that has enough is not.

use crate::command::{Folder, selvedge};

fn text(path: std::path::PathBuf) -> String {
    path.into_os_string().into_string().unwrap()
}

const LOOP: &str = "(module (func (export \"_start\") (loop (br 0))))";
const SUM: &str = "(module (func (export \"sum\") (param i32) (result i32) (local i32)
    (loop $l
        (local.set 1 (i32.add (local.get 1) (local.get 0)))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1)))";

#[test]
fn a_guest_stops_when_its_fuel_is_used_up() {
    let folder = Folder::new();
    let endless = text(folder.file("endless.wat", LOOP));
    let run = selvedge(["run", "--fuel", "1M", &endless]);
    assert_eq!(run.code, Some(134), "{run:?}");
    assert!(run.stderr.contains("all fuel consumed"), "{run:?}");
}

#[test]
fn the_count_is_exact() {
    let folder = Folder::new();
    let sum = text(folder.file("sum.wat", SUM));
    // Nine instructions a turn, and one behind the loop, where nothing looks at the count any more.
    for (fuel, code) in [("91", Some(0)), ("90", Some(134)), ("1K", Some(0))] {
        let run = selvedge(["run", "--fuel", fuel, "--invoke", "sum", &sum, "10"]);
        assert_eq!(run.code, code, "{fuel}: {run:?}");
    }
}

#[test]
fn artifacts_count_if_they_were_compiled_so() {
    let folder = Folder::new();
    let endless = text(folder.file("endless.wat", LOOP));
    let out = folder.path("endless.sva");
    let out = out.to_str().unwrap();
    selvedge(["compile", "--count-fuel", &endless, "-o", out]).prints("");
    let run = selvedge(["run", "--fuel", "5K", out]);
    assert!(run.stderr.contains("all fuel consumed"), "{run:?}");
    let run = selvedge(["run", out]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("`--count-fuel`"), "{run:?}");
    assert_eq!(selvedge(["inspect", "--count-fuel", out]).code, Some(0));
}

#[test]
fn what_is_no_count_is_refused() {
    for wrong in [
        "",
        "K",
        "-1",
        "1.5M",
        "1T",
        "99999999999999999999",
        "99999999999999999G",
    ] {
        let run = selvedge(["run", "--fuel", wrong, "x.wat"]);
        assert_eq!(run.code, Some(2), "{wrong}: {run:?}");
    }
}
