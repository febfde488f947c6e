//! Programs that only compute: the speed of the generated code.
//!
//! The guests are `bench/guests/*.wat`, and `*.c` with the `.wasm` that `guests/build.sh` makes of
//! them. Each exports `run (i32) -> i64`, whose result is compared between the engines. The
//! arguments are chosen for 20 to 50 ms.

use std::borrow::Cow;

use anyhow::Result;

use super::{Case, Work, binary};
use crate::peers::Mode;

/// A guest: text that is parsed here, or a binary built before.
enum Source {
    Text(&'static str),
    Binary(&'static [u8]),
}

macro_rules! text {
    ($name:literal) => {
        Source::Text(include_str!(concat!("../../guests/", $name, ".wat")))
    };
}
macro_rules! built {
    ($name:literal) => {
        Source::Binary(include_bytes!(concat!("../../guests/", $name, ".wasm")))
    };
}

/// Name, guest, argument, what it is about.
const GUESTS: [(&str, Source, i32, &str); 13] = [
    ("fib", text!("fib"), 34, "recursion"),
    (
        "collatz",
        text!("collatz"),
        240_000,
        "tight loop, integers in registers",
    ),
    (
        "sieve",
        text!("sieve"),
        15,
        "tight loop over bytes of memory",
    ),
    (
        "chase",
        text!("chase"),
        5_000_000,
        "dependent loads from 256 KiB",
    ),
    (
        "copy",
        text!("copy"),
        7_000,
        "memory bandwidth, by loop and memory.copy",
    ),
    (
        "matrix",
        text!("matrix"),
        80,
        "f64 loads, products and sums",
    ),
    (
        "dispatch",
        text!("dispatch"),
        9_000_000,
        "indirect calls of eight methods",
    ),
    ("blur", text!("blur"), 2_500, "vectors of bytes and floats"),
    ("mandelbrot", text!("mandelbrot"), 700, "f64 in registers"),
    (
        "nbody",
        built!("nbody"),
        550_000,
        "f64 with square roots, from C",
    ),
    (
        "sha256",
        built!("sha256"),
        7_000,
        "32-bit arithmetic and rotations, from C",
    ),
    (
        "json",
        built!("json"),
        300,
        "writing and parsing text, from C",
    ),
    (
        "interp",
        built!("interp"),
        1_700_000,
        "a bytecode interpreter, br_table, from C",
    ),
];

pub(super) fn cases() -> Result<Vec<Case>> {
    let case = |guest: Guest| Case {
        group: "cpu",
        name: guest.name.into(),
        what: format!("{}; run({})", guest.what, guest.n),
        mode: Mode::Default,
        work: Work::Once { rounds_divisor: 1 },
        make: Box::new(move |peer| peer.compute(&guest.wasm, guest.n)),
    };
    Ok(guests()?.into_iter().map(case).collect())
}

/// A program that only computes.
pub(crate) struct Guest {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) what: &'static str,
    /// Its binary.
    pub(crate) wasm: Cow<'static, [u8]>,
    /// The argument of `run`.
    pub(crate) n: i32,
}

/// All of them.
pub(crate) fn guests() -> Result<Vec<Guest>> {
    let guest = |(name, source, n, what)| {
        let wasm = match source {
            Source::Text(text) => Cow::Owned(binary(text)?),
            Source::Binary(bytes) => Cow::Borrowed(bytes),
        };
        Ok(Guest {
            name,
            what,
            wasm,
            n,
        })
    };
    GUESTS.into_iter().map(guest).collect()
}
