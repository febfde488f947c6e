//! Finished proposals, where the official suite does not ask for all that is promised: a file each.
#![forbid(unsafe_code)]

mod custom_page_sizes;
mod exceptions;
mod function_references;
mod memory64;
mod multi_memory;
mod tail_calls;
mod threads;
