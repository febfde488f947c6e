//! Regions under use: what making and dropping an instance costs, that nothing of one guest is left for the next,
//! and that many come and go without a trace.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocations;
mod clean;
mod crowd;
mod dense;
mod full;
mod metrics;
mod resident;
mod snapshots;
mod tenants;
