//! Real programs of `guests/`, run through the API with their streams in memory. What they are to print
//! is computed here a second time, from the same input, so that no number is taken on trust.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod c;
mod cpp;
mod exceptions;
mod lines;
mod program;
mod rust;
mod simd;
mod threads;
mod together;
