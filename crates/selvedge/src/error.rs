//! One error for all that can go wrong between a file and a guest's result: `?` takes the errors of
//! every part of Selvedge into it.

use std::path::Path;

use thiserror::Error;

/// Something went wrong in one of the parts of Selvedge.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are neither a module, as binary or text, nor an artifact.
    #[error(
        "{found} is not a WebAssembly module; \
         accepted are the binary format (begins with `\\0asm`) and the text format (begins with `(`)"
    )]
    NotWasm {
        /// What was found in its place.
        found: String,
    },
    /// The bytes are a WebAssembly component.
    #[error(
        "this is a WebAssembly component, which Selvedge does not run yet; build a module, for `wasm32-wasip1` for example"
    )]
    Component,
    /// A module was expected and the bytes are an artifact.
    #[error(
        "this is an artifact, which is compiled already; load it with `Module::load_file` or `selvedge run`"
    )]
    AlreadyCompiled,
    /// The text of a module has a mistake.
    #[error("{0}")]
    Text(#[from] wat::Error),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    ReadFile {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The module was refused by the compiler.
    #[error(transparent)]
    Compile(#[from] selvedge_compile::Error),
    /// The artifact was refused.
    #[error(transparent)]
    Artifact(#[from] selvedge_artifact::Error),
    /// The runtime refused or the guest failed.
    #[error(transparent)]
    Runtime(#[from] selvedge_runtime::Error),
    /// The guest's WASI context could not be made.
    #[error(transparent)]
    Wasi(#[from] selvedge_wasi::Error),
}

impl Error {
    /// Says in which file a mistake in the text format is. Other errors stay as they are.
    #[must_use]
    pub fn in_file(mut self, path: impl AsRef<Path>) -> Self {
        if let Self::Text(error) = &mut self {
            error.set_path(path);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_no_larger_than_what_it_carries() {
        let parts = [
            size_of::<selvedge_compile::Error>(),
            size_of::<selvedge_artifact::Error>(),
            size_of::<selvedge_runtime::Error>(),
            size_of::<selvedge_wasi::Error>(),
        ];
        let largest = parts.into_iter().max().unwrap();
        assert!(size_of::<Error>() <= largest + 16, "{}", size_of::<Error>());
    }

    #[test]
    fn mistakes_in_a_text_are_shown_with_the_file() {
        let error = crate::source::to_binary(b"(module (func i32.ad))").unwrap_err();
        let message = error.in_file("guest.wat").to_string();
        assert!(message.contains("guest.wat:1:15"), "{message}");
    }
}
