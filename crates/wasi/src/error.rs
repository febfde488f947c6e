//! What an embedder is told when a WASI context cannot be made or linked, and how a guest's own
//! exit reaches it. Not here: what the guest is told (`errno.rs`).

use std::io;
use std::path::PathBuf;

/// Why a context could not be built or the functions could not be linked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arguments reach a guest as C strings, so none may hold a NUL byte.
    #[error("argument {idx} of the guest holds a NUL byte; remove it")]
    NulInArgument {
        /// Which argument, the program name being 0.
        idx: usize,
    },
    /// Environment variables reach a guest as `KEY=VALUE` C strings.
    #[error("environment variable {key:?} is empty, or holds `=` or a NUL byte; rename it")]
    BadEnvironmentKey {
        /// The name as it was given, with invalid UTF-8 replaced.
        key: String,
    },
    /// As for arguments.
    #[error("the value of environment variable {key:?} holds a NUL byte; remove it")]
    NulInEnvironment {
        /// The variable's name.
        key: String,
    },
    /// The sizes are handed to the guest as 32-bit numbers.
    #[error("{what} of the guest come to {len} bytes, which is more than {max}; pass fewer")]
    TooLong {
        /// `arguments` or `environment variables`.
        what: &'static str,
        /// Bytes they need in the guest.
        len: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// The host directory does not exist, is not a directory, or may not be opened.
    #[error("cannot open host directory {} for the guest: {source}", path.display())]
    OpenPreopen {
        /// The directory on the host.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The name under which a guest sees a directory must be a path it can express.
    #[error("guest path {path:?} of a directory is empty or holds a NUL byte; give another")]
    BadGuestPath {
        /// The name as it was given.
        path: String,
    },
    /// More directories than the table of descriptors has room for.
    #[error("{count} directories do not fit in {max} descriptors; raise `max_descriptors`")]
    TooManyPreopens {
        /// Directories asked for.
        count: usize,
        /// Descriptors the guest may have.
        max: usize,
    },
    /// The linker has definitions of its own under the names of preview 1.
    #[error("cannot link WASI: {source}")]
    Link {
        /// What the linker said.
        source: Box<selvedge_runtime::Error>,
    },
}

impl From<selvedge_runtime::Error> for Error {
    fn from(source: selvedge_runtime::Error) -> Error {
        Error::Link {
            source: Box::new(source),
        }
    }
}

/// The guest called `proc_exit`. Found in the details of the termination that ends the run: the
/// embedder gets it by downcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, 0 for success.
    pub code: i32,
}
