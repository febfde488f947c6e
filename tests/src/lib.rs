//! What several behaviour tests share: a sandbox to run guests in, and numbers that look random and are
//! the same each time.
#![forbid(unsafe_code)]

pub mod names;
pub mod random;
pub mod sandbox;
