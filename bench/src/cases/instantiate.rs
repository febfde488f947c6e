//! A new instance of a small module from a pool, one call of it, and its end.

use anyhow::Result;

use super::{BOTH_MODES, Case, Work, binary};

const NO_MEMORY: &str = r#"
(module
  (func (export "run") (result i32) (i32.const 1)))
"#;

/// One page with some data, which the call reads. Nothing has to be put back afterwards.
const READ: &str = r#"
(module
  (memory 1)
  (data (i32.const 1000) "some words that every instance starts with")
  (func (export "run") (result i32) (i32.load (i32.const 1000))))
"#;

/// The call writes: the next user of the slot must not see it.
const WRITTEN: &str = r#"
(module
  (memory 1)
  (data (i32.const 1000) "some words that every instance starts with")
  (func (export "run") (result i32)
    (i32.store (i32.const 1000) (i32.add (i32.load (i32.const 1000)) (i32.const 1)))
    (i32.load (i32.const 1000))))
"#;

/// A table and globals too, as compilers' output has them; the call goes through the table.
const TABLE: &str = r#"
(module
  (type $f (func (result i32)))
  (memory 2)
  (table 64 funcref)
  (elem (i32.const 1) $a $b $a $b)
  (global $stack_pointer (mut i32) (i32.const 65536))
  (data (i32.const 1000) "some words that every instance starts with")
  (func $a (type $f) (i32.const 1))
  (func $b (type $f)
    (global.set $stack_pointer (i32.sub (global.get $stack_pointer) (i32.const 16)))
    (i32.store (global.get $stack_pointer) (i32.const 7))
    (i32.load (global.get $stack_pointer)))
  (func (export "run") (result i32) (call_indirect (type $f) (i32.const 2))))
"#;

pub(super) fn cases() -> Result<Vec<Case>> {
    let modules = [
        ("no-memory", NO_MEMORY, "no memory"),
        ("read", READ, "one page and data, which the call reads"),
        (
            "written",
            WRITTEN,
            "one page and data, to which the call writes",
        ),
        (
            "table",
            TABLE,
            "two pages, a table and globals; the call uses them all",
        ),
    ];
    let mut cases = Vec::new();
    for (name, wat, what) in modules {
        for mode in BOTH_MODES {
            let wasm = binary(wat)?;
            cases.push(Case {
                group: "instantiate",
                name: name.into(),
                what: format!("new instance, typed call, drop: {what}"),
                mode,
                work: Work::Repeated,
                make: Box::new(move |peer| peer.instantiate(&wasm)),
            });
        }
    }
    Ok(cases)
}
