//! What went wrong in a guest: the decision in the signal handler, and what the embedder is told.

pub(crate) mod classify;
pub(crate) mod core_dump;
pub(crate) mod details;
pub(crate) mod fatal;
pub(crate) mod lines;
