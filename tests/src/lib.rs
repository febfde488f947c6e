//! What several behaviour tests share: a sandbox to run guests in, numbers that look random and are the
//! same each time, the runner for scripts of the official suite.
#![forbid(unsafe_code)]

pub mod random;
pub mod sandbox;
pub mod script;
pub mod values;
