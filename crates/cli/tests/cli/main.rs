//! The program `selvedge` as a user meets it: the built binary, its output and its exit codes.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it meets the unexpected"
)]

mod artifacts;
mod command;
mod fuel;
mod inputs;
mod inspect;
mod invoke;
mod run;
mod snapshot;
mod stats;
mod stops;
mod usage;
mod validate;
mod wast;
