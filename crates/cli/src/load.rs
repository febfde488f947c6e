//! Room R7: artifacts that the user named become code of this process.
//!
//! The one `unsafe` thing that the command line does. An artifact is native code: its checksums find
//! accidents and not attackers, so whoever loads one vouches for it. Here that is the user, who
//! named the file to be run, as they would name any other executable; nothing else reaches this
//! room, and no artifact is looked for where the user did not say.
#![allow(unsafe_code, reason = "room R7, SAFETY.md")]

use std::path::Path;

use selvedge::{Engine, Module, RuntimeError};

/// Loads the artifact in a file that the user named; the file is mapped.
pub(crate) fn file(engine: &Engine, path: &Path) -> Result<Module, RuntimeError> {
    // SAFETY: I-9: the user vouches for the artifact by asking to run it. `selvedge compile` replaces
    // artifacts by renaming and never writes into one, so the mapped file stays as it was.
    unsafe { Module::load_file(engine, path) }
}

/// Loads an artifact that the user piped in.
pub(crate) fn bytes(engine: &Engine, artifact: &[u8]) -> Result<Module, RuntimeError> {
    // SAFETY: I-9: the user vouches for the artifact by asking to run it.
    unsafe { Module::from_artifact(engine, artifact) }
}
