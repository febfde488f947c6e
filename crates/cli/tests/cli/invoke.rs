//! `selvedge run --invoke`: arguments by the function's type, results a line each.

use crate::command::{Run, guest, selvedge};

fn invoke(export: &str, args: &[&str]) -> Run {
    let file = guest("add.wat");
    let flags = ["run", "--invoke", export, file.to_str().unwrap()];
    selvedge(flags.iter().chain(args))
}

#[test]
fn integers_go_in_and_out() {
    invoke("add", &["2", "3"]).prints("5\n");
    invoke("add", &["-2", "0x10"]).prints("14\n");
    invoke("add", &["4294967295", "1"]).prints("0\n");
    invoke("add", &["2147483647", "1"]).prints("-2147483648\n");
    invoke("add", &["-0x80000000", "0"]).prints("-2147483648\n");
    invoke("add64", &["9223372036854775807", "0xffffffffffffffff"]).prints("9223372036854775806\n");
}

#[test]
fn floats_go_in_and_out() {
    invoke("half", &["3"]).prints("1.5\n");
    invoke("half", &["-1e300"]).prints("-5e299\n");
    invoke("half", &["inf"]).prints("inf\n");
    invoke("half", &["nan"]).prints("NaN\n");
    invoke("half32", &["0.2"]).prints("0.1\n");
    invoke("half32", &["-0"]).prints("-0\n");
}

#[test]
fn any_count_of_results_is_printed() {
    invoke("nothing", &[]).prints("");
    invoke("swap", &["1", "2"]).prints("2\n1\n");
    invoke("null", &[]).prints("null\n");
}

#[test]
fn a_wrong_count_of_arguments_is_answered_with_the_type() {
    invoke("add", &["1"]).fails(1, &["add", "(i32, i32) -> (i32)", "2 arguments", "1"]);
    invoke("nothing", &["1"]).fails(1, &["nothing", "() -> ()"]);
}

#[test]
fn a_wrong_argument_is_named() {
    invoke("add", &["1", "two"]).fails(1, &["two", "argument 2", "i32"]);
    invoke("add", &["1", "4294967296"]).fails(1, &["4294967296", "i32"]);
    invoke("add", &["1", "-2147483649"]).fails(1, &["-2147483649", "i32"]);
    invoke("add", &["1.5", "2"]).fails(1, &["1.5", "argument 1", "i32"]);
    invoke("half", &["x"]).fails(1, &["x", "f64"]);
    invoke("take", &["1"]).fails(1, &["externref"]);
}

#[test]
fn a_wrong_export_is_answered_with_those_there_are() {
    invoke("ad", &[]).fails(1, &["`ad`", "add", "half32"]);
    invoke("not a function", &[]).fails(1, &["not a function", "global"]);
}

#[test]
fn a_reactor_is_initialised_first() {
    let file = guest("reactor.wat");
    selvedge(["run", "--invoke", "ready", file.to_str().unwrap()]).prints("7\n");
}
