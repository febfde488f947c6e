//! Why a script is not run at all.

use std::path::Path;

use thiserror::Error;

/// A script could not be run. What fails in a script that runs is a [`Failure`](crate::Failure).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no script; the message shows the place.
    #[error("{0}")]
    Text(Box<wast::Error>),
    /// The engine, or the modules that every script expects, could not be made.
    #[error("what every script needs cannot be made: {0}")]
    Host(Box<selvedge::Error>),
}

impl Error {
    /// Says in which file a mistake in the text is. Other errors stay as they are.
    #[must_use]
    pub fn in_file(mut self, path: impl AsRef<Path>) -> Self {
        if let Self::Text(error) = &mut self {
            error.set_path(path.as_ref());
        }
        self
    }

    pub(crate) fn text(mut error: wast::Error, source: &str) -> Self {
        error.set_text(source);
        Self::Text(Box::new(error))
    }
}

impl From<selvedge::Error> for Error {
    fn from(error: selvedge::Error) -> Self {
        Self::Host(Box::new(error))
    }
}

impl From<selvedge::RuntimeError> for Error {
    fn from(error: selvedge::RuntimeError) -> Self {
        selvedge::Error::from(error).into()
    }
}
