//! From a trap in the guest to an `Err` in the host, and the host goes on with the same instance.

use anyhow::Result;

use super::{BOTH_MODES, Case, Work, binary};

const UNREACHABLE: &str = r#"
(module (func (export "run") (result i32) unreachable))
"#;

/// Past the end of the memory, into what lies behind it.
const OUT_OF_BOUNDS: &str = r#"
(module
  (memory 1)
  (func (export "run") (result i32) (i32.load (i32.const 0x20000))))
"#;

/// Under fifty frames, as in a real program: what a backtrace costs.
const DEEP: &str = r#"
(module
  (func $down (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
      (else unreachable)))
  (func (export "run") (result i32) (call $down (i32.const 50))))
"#;

pub(super) fn cases() -> Result<Vec<Case>> {
    let modules = [
        ("unreachable", UNREACHABLE, "an unreachable instruction"),
        (
            "out-of-bounds",
            OUT_OF_BOUNDS,
            "a load past the end of the memory",
        ),
        (
            "deep",
            DEEP,
            "an unreachable instruction under fifty frames",
        ),
    ];
    let mut cases = Vec::new();
    for (name, wat, what) in modules {
        for mode in BOTH_MODES {
            let wasm = binary(wat)?;
            cases.push(Case {
                group: "trap",
                name: name.into(),
                what: format!("call that ends in Err: {what}"),
                mode,
                work: Work::Repeated,
                make: Box::new(move |peer| peer.trap(&wasm)),
            });
        }
    }
    Ok(cases)
}
