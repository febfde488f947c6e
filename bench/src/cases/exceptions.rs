//! Exceptions: thrown and caught in a loop, and the same loop when none is thrown.

use anyhow::Result;

use super::{Case, Work, binary};
use crate::peers::Mode;

/// A loop that throws a number through some frames, catches it and adds it up.
fn thrown_through(frames: u32) -> String {
    let call = format!("(call $down (i32.const {frames}) (local.get $n))");
    looped(&call)
}

/// Nothing is thrown, though it could be.
fn not_thrown() -> String {
    looped("(drop (call $leaf (local.get $n)))")
}

fn looped(tried: &str) -> String {
    format!(
        r#"
(module
  (tag $e (param i32))
  (func $down (param $frames i32) (param $x i32)
    (if (i32.eqz (local.get $frames)) (then (throw $e (local.get $x))))
    (call $down (i32.sub (local.get $frames) (i32.const 1)) (local.get $x))
    ;; Not in tail position.
    (drop (call $leaf (local.get $x))))
  (func $leaf (param $x i32) (result i32)
    (if (i32.eq (local.get $x) (i32.const -1)) (then (throw $e (local.get $x))))
    (local.get $x))
  (func (export "run") (param $n i32) (result i32)
    (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum)
        (block $caught (result i32)
          (try_table (catch $e $caught) {tried})
          (i32.const 1))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $sum)))
"#
    )
}

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, what, text) in [
        (
            "none",
            "call in a try_table that does not throw",
            not_thrown(),
        ),
        (
            "here",
            "throw and catch in one function",
            looped("(throw $e (local.get $n))"),
        ),
        (
            "1-frame",
            "throw in a function that is called, and catch",
            thrown_through(0),
        ),
        (
            "10-frames",
            "throw under ten frames, and catch",
            thrown_through(9),
        ),
    ] {
        let wasm = binary(&text)?;
        cases.push(Case {
            group: "exception",
            name: name.into(),
            what: what.into(),
            mode: Mode::Default,
            work: Work::Repeated,
            make: Box::new(move |peer| peer.rounds(&wasm)),
        });
    }
    Ok(cases)
}
