//! The C++ guest that works with exceptions. What it is to print is what its source prints where it is
//! compiled for the machine itself.

use selvedge::wasi::{ReadPipe, WasiCtx};
use selvedge::{OptLevel, RuntimeError};

use crate::program::{Guest, folder};

const PRINTED: &str = "\
refused (2): no account cyd
refused (1): there is an account ada
refused (3): ada lacks 30
amount -5
wrong: what is sell
wrong: vector
refused (1): line 2 of the batch
  no account eve
  short by 431
refused (3): bob lacks 431
wrong: deep
kept: deep
ada 71
bob 129
cyd 100
undone 8, open 0
";

#[test]
fn ledger_catches_what_it_throws() {
    let lines = std::fs::read_to_string(folder().join("data/ledger.txt")).unwrap();
    for guest in Guest::at_all_levels("exceptions/ledger.wasm") {
        let ended = guest.run(&[], &lines, |_| {});
        assert!(matches!(ended.code, Ok(3)), "{ended:?}");
        assert_eq!(ended.stdout, PRINTED);
        assert_eq!(ended.stderr, "");
    }
}

#[test]
fn ledger_throws_from_the_bottom_of_many_frames() {
    let guest = Guest::new("exceptions/ledger.wasm", OptLevel::Speed);
    let ended = guest.run(&[], &"deep 2000\n".repeat(50), |_| {});
    let expected = "wrong: deep\n".repeat(50) + "kept: deep\nundone 0, open 0\n";
    assert_eq!(ended.output(), expected);
}

#[test]
fn an_exception_that_nothing_catches_leaves_ledger_with_its_payload() {
    let guest = Guest::new("exceptions/ledger.wasm", OptLevel::Speed);
    let ctx = WasiCtx::builder().stdin(ReadPipe::new("die\n")).build();
    let instance = guest.region.instance_builder(&guest.program);
    let mut instance = instance.with_embed_ctx(ctx.unwrap()).build().unwrap();
    let error = instance.run("_start", &[]).unwrap_err();
    assert!(
        matches!(error, RuntimeError::UncaughtException(_)),
        "{error}"
    );
    // A C++ exception carries the address of its object.
    assert!(error.to_string().contains("[I32("), "{error}");
}
