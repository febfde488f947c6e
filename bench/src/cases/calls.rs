//! Calls over the border, both ways.

use anyhow::Result;

use super::{Case, Work, binary};
use crate::peers::{Mode, Suspends};

/// From the host into the guest: the least that a call can do.
const ADD: &str = r#"
(module
  (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))
"#;

/// From the guest to the host, each call depending on the one before it.
const CALL_HOST: &str = r#"
(module
  (import "host" "next" (func $next (param i32) (result i32)))
  (func (export "run") (param $n i32) (result i32)
    (local $x i32)
    (loop $again
      (local.set $x (call $next (local.get $x)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $x)))
"#;

pub(super) fn cases() -> Result<Vec<Case>> {
    let add = binary(ADD)?;
    let call_host = binary(CALL_HOST)?;
    let [middle, returning] = [call_host.clone(), call_host.clone()];
    Ok(vec![
        Case {
            group: "call",
            name: "in".into(),
            what: "typed call of a guest function (i32, i32) -> i32".into(),
            mode: Mode::Default,
            work: Work::Repeated,
            make: Box::new(move |peer| peer.call_in(&add)),
        },
        Case {
            group: "call",
            name: "out".into(),
            what: "call of a host function (i32) -> i32 from a loop in the guest".into(),
            mode: Mode::Default,
            work: Work::Repeated,
            make: Box::new(move |peer| peer.call_out(&call_host)),
        },
        Case {
            group: "suspend",
            name: "middle".into(),
            what: "suspended in the middle of a host function, and resumed".into(),
            mode: Mode::Default,
            work: Work::Repeated,
            make: Box::new(move |peer| peer.suspend(&middle, Suspends::InTheMiddle)),
        },
        Case {
            group: "suspend",
            name: "return".into(),
            what: "suspended by what a host function returns, and resumed".into(),
            mode: Mode::Default,
            work: Work::Repeated,
            make: Box::new(move |peer| peer.suspend(&returning, Suspends::ByReturning)),
        },
    ])
}
