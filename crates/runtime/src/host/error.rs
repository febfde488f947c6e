//! Why a host function does not return to its guest.

use std::any::Any;
use std::fmt;

use selvedge_artifact::traps::TrapCode;
use thiserror::Error;

use crate::host::tag::Exception;

/// A host function did not return normally. The guest is left for good; its caller on the host's side
/// gets the matching [`Error`](crate::Error).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// The guest is to trap as if an instruction of its own had.
    #[error("{0}")]
    Trap(TrapCode),
    /// The guest is to end, not as a failure.
    #[error("the guest was terminated: {0}")]
    Terminate(TerminationDetails),
    /// The host function throws an exception, which the guest may catch.
    #[error("{0}")]
    Exception(Box<Exception>),
    /// The host function failed.
    #[error("{0}")]
    Error(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HostError {
    /// Fails with an error of the host function's own, or with a message.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Error(error.into())
    }

    /// Ends the guest and hands a value to whoever ran it.
    pub fn terminate<T: Any + Send + Sync>(value: T) -> Self {
        Self::Terminate(TerminationDetails::provide(value))
    }
}

impl From<TrapCode> for HostError {
    fn from(code: TrapCode) -> Self {
        Self::Trap(code)
    }
}

impl From<Exception> for HostError {
    fn from(exception: Exception) -> Self {
        Self::Exception(Box::new(exception))
    }
}

impl From<crate::Error> for HostError {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::RuntimeTerminated(details) => Self::Terminate(details),
            crate::Error::UncaughtException(uncaught) => uncaught.exception.into(),
            other => Self::Error(Box::new(other)),
        }
    }
}

/// Why a guest was terminated.
#[non_exhaustive]
pub enum TerminationDetails {
    /// A host function asked for an embedder context that the instance does not have.
    CtxNotFound,
    /// A host function borrowed memory or a context that was already borrowed in a conflicting way.
    BorrowError(&'static str),
    /// A host function gave a value.
    Provided(Box<dyn Any + Send + Sync>),
}

impl TerminationDetails {
    /// Wraps a value.
    pub fn provide<T: Any + Send + Sync>(value: T) -> Self {
        Self::Provided(Box::new(value))
    }

    /// The value that was given, if one was.
    pub fn provided_details(&self) -> Option<&(dyn Any + Send + Sync)> {
        match self {
            Self::Provided(value) => Some(&**value),
            _ => None,
        }
    }
}

impl fmt::Debug for TerminationDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CtxNotFound => f.write_str("CtxNotFound"),
            Self::BorrowError(what) => f.debug_tuple("BorrowError").field(what).finish(),
            Self::Provided(_) => f.write_str("Provided(..)"),
        }
    }
}

impl fmt::Display for TerminationDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CtxNotFound => {
                f.write_str("a host function needs an embedder context that the instance lacks")
            }
            Self::BorrowError(what) => write!(f, "a host function borrowed {what} twice"),
            Self::Provided(_) => f.write_str("by a host function, with a value"),
        }
    }
}
