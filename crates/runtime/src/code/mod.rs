//! Room R4: executable code.
//!
//! `mapping` makes the text of a module executable, `registry` finds the module that an instruction
//! belongs to, also from within a signal handler. What is not here: what the code means
//! (`module.rs`) and who calls it (`vm/enter.rs`).
//!
//! Whoever holds both for one module drops its [`registry::Registration`] before its
//! [`mapping::CodeMapping`], and neither as long as an instance of the module lives (I-4).

pub(crate) mod mapping;
pub(crate) mod registry;
