//! Regions whose slots have protection keys: what a guest can reach, on every way in and out, and which key every
//! mapping has. `tests/keys/emulated.sh` runs all of it on an emulated processor that has keys.
//!
//! `unsafe` stands only in `register.rs`, which looks at the register of keys and forks.
#![deny(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod guests;
mod neighbours;
mod pages;
mod refused;
mod register;
mod ways;
