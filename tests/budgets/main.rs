//! Budgets: fuel is counted to the unit, and a guest that has none left stops.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounded;
mod counted;
mod epochs;
mod fuel;
mod instrument;
mod shapes;
