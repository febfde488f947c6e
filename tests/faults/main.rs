//! What a guest's faults are promised to be: errors with the right code and place, without harm to the
//! host, however often. And the other way round: the host's own faults stay the host's.
//!
//! `unsafe` stands only in `crash.rs`, `float_modes.rs`, `handlers.rs`, `instance_handlers.rs` and `signals.rs`, which must do what safe code can't.
#![deny(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backtraces;
mod checklist;
mod codes;
mod core_dumps;
mod crash;
mod details;
mod float_modes;
mod handlers;
mod instance_handlers;
mod nested;
mod repeated;
mod signals;
mod soak;
mod stacks;
mod sweep;
mod table;
mod without_unwinding;
