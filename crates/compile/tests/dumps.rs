//! IR and machine code as text.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use selvedge_compile::{Dump, Error, dump};
use support::{settings, wasm};

const MODULE: &str = r#"
    (module
        (type $t (func (param i32) (result i32)))
        (import "env" "f" (func $f))
        (table 4 4 funcref)
        (func $callee (type $t) local.get 0)
        (func $caller (param i32 i32) (result i32)
            (call_indirect (type $t) (local.get 0) (local.get 1)))
        (elem (i32.const 0) func $callee))
"#;

fn show(what: Dump, filter: Option<&str>) -> String {
    dump(&wasm(MODULE), &settings(), what, filter).unwrap()
}

#[test]
fn one_function_is_shown_by_index_or_by_name() {
    let by_name = show(Dump::Clif, Some("caller"));
    assert!(
        by_name.starts_with(";; function 2: caller\nfunction u0:1("),
        "{by_name}"
    );
    assert_eq!(by_name.matches(";; function").count(), 1);
    assert_eq!(show(Dump::Clif, Some("2")), by_name);
    assert!(
        show(Dump::Asm, Some("host_to_guest_0")).starts_with(";; trampoline: host_to_guest_0\n")
    );
}

#[test]
fn all_functions_are_shown_in_order_and_then_the_trampolines() {
    let all = show(Dump::Asm, None);
    let titles: Vec<&str> = all.lines().filter(|line| line.starts_with(";; ")).collect();
    assert_eq!(
        titles[..2],
        [";; function 1: callee", ";; function 2: caller"]
    );
    // Signatures: (i32) -> i32, () -> (), (i32, i32) -> i32.
    assert_eq!(titles.len(), 2 + 3 * 3);
    assert_eq!(titles[2], ";; trampoline: host_to_guest_0");
}

#[test]
fn what_has_no_code_cannot_be_shown() {
    for name in ["f", "0", "3", "nothing", ""] {
        let error = dump(&wasm(MODULE), &settings(), Dump::Asm, Some(name)).unwrap_err();
        assert!(
            matches!(&error, Error::NoSuchFunction { name: found } if found == name),
            "{error}"
        );
    }
}

/// The instructions of a function up to its first indirect call.
fn before_the_call(asm: &str) -> &str {
    asm.split_once("call    *")
        .map(|(before, _)| before)
        .unwrap()
}

#[test]
fn an_indirect_call_loads_once() {
    let asm = show(Dump::Asm, Some("caller"));
    let fast_path = before_the_call(&asm);
    // A load is a move whose first operand is in memory and no place of the frame.
    let loads = fast_path.lines().filter(|line| {
        let operands = line
            .trim()
            .strip_prefix("mov")
            .and_then(|l| l.split_once(char::is_whitespace));
        operands.is_some_and(|(_, operands)| {
            let source = operands.trim().split("), ").next().unwrap_or_default();
            source.contains('(') && !source.contains("rsp") && !source.starts_with('%')
        })
    });
    assert_eq!(loads.count(), 1, "{asm}");
}
