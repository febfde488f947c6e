//! WASI preview 1, a file per family of functions. Each function takes the context, the guest's
//! memory, and its arguments, and knows nothing of instances: what joins it to the runtime
//! is the table in `link.rs`.

mod absent;
mod args;
pub(crate) mod clock;
mod fd;
mod fs;
mod io;
pub(crate) mod layout;
mod link;
pub(crate) mod memory;
mod named_pipe;
mod poll;
mod proc;
mod random;
pub(crate) mod readdir;
mod transfer;

pub use link::add_to_linker;

#[cfg(test)]
pub(crate) mod harness;
