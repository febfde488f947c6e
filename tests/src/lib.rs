//! What several behaviour tests share: a sandbox to run guests in, processes of their own for tests that measure
//! or end one, and numbers that look random and are the same each time.
#![forbid(unsafe_code)]

pub mod children;
pub mod held;
pub mod names;
pub mod random;
pub mod sandbox;
pub mod tenants;
pub mod threads;
