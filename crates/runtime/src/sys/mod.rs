//! Room R2: the operating system, in our words.
//!
//! Everything that would change in a port to another system is here and nowhere else: address
//! space, files that live in memory, signals and the stacks they are taken on. What is not here:
//! policy. No file below knows what an instance, a module or a trap is; signals come out as plain
//! data and go back as a decision of the caller.
//!
//! ```text
//! local     cells of a thread
//! of_process  values of which a forked child has its own
//! page      lengths in whole pages
//! mmap      ranges of address space that are owned and cut up
//! keys      protection keys of the process, and pages that have one
//! memfd     files in memory, sealed so that nobody can shrink them under a mapping
//! pagemap   which pages of a range were written
//! signal    the process-wide handler: install, chain, remove
//! sigstack  the stack of each thread that signals are taken on
//! interrupt the signal that one thread sends another, barriers, timers
//! ```

#[cfg(test)]
pub(crate) mod fork;
pub(crate) mod interrupt;
pub(crate) mod keys;
pub(crate) mod local;
pub(crate) mod memfd;
pub(crate) mod mmap;
pub(crate) mod of_process;
pub(crate) mod page;
pub(crate) mod pagemap;
pub(crate) mod signal;
pub(crate) mod sigstack;
pub(crate) mod thread;
