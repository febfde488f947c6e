//! Room R5: what generated code and the runtime share, and the passage between them.
//!
//! Structures in here are read or written by machine code that Rust knows nothing of. The rest of
//! the crate sees them through types whose constructors establish the invariants of SAFETY.md.

pub(crate) mod activation;
pub(crate) mod backtrace;
pub(crate) mod callee;
pub(crate) mod context;
pub(crate) mod custom_handler;
pub(crate) mod enter;
pub(crate) mod far_memory;
pub(crate) mod fiber;
pub(crate) mod host_entry;
pub(crate) mod libcalls;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod on_interrupt;
pub(crate) mod on_signal;
pub(crate) mod pages;
pub(crate) mod probe;
pub(crate) mod ptr;
pub(crate) mod resume;
pub(crate) mod room;
pub(crate) mod shared_bytes;
pub(crate) mod signal_handler;
pub(crate) mod slice;
pub(crate) mod store_ptr;
pub(crate) mod unwind;
pub(crate) mod views;

pub(crate) use enter::host_error;
