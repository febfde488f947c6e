//! Why a host function does not return to its guest.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

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
///
/// It is `Send` and `Sync` because all that it can hold is. Two are equal if they are the same variant and
/// what they hold can be compared: values of the host's never are, not even with themselves.
#[non_exhaustive]
pub enum TerminationDetails {
    /// A signal handler of the embedder's ended the guest.
    Signal,
    /// A host function asked for an embedder context that the instance does not have.
    CtxNotFound,
    /// A resumed host function was given a value of another type than it expects. Types are checked before a
    /// guest is resumed, so this should never be seen.
    YieldTypeMismatch,
    /// A host function called the named method while what that borrows was borrowed in a conflicting way.
    BorrowError(&'static str),
    /// A host function gave a value.
    Provided(Box<dyn Any + Send + Sync>),
    /// A kill switch ended the guest.
    Remote,
    /// A memory or table could not grow, and the embedder wants that to end the guest: see
    /// [`InstanceBuilder::terminate_on_growth_failure`](crate::InstanceBuilder::terminate_on_growth_failure).
    /// The text says what stood against it.
    GrowthFailed(String),
    /// A host function panicked, and the embedder wants to have panics as values: see
    /// [`Instance::set_catch_panics`](crate::Instance::set_catch_panics).
    OtherPanic(PanicPayload),
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

impl PartialEq for TerminationDetails {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::BorrowError(a), Self::BorrowError(b)) => a == b,
            (Self::GrowthFailed(a), Self::GrowthFailed(b)) => a == b,
            (Self::Signal, Self::Signal)
            | (Self::CtxNotFound, Self::CtxNotFound)
            | (Self::YieldTypeMismatch, Self::YieldTypeMismatch)
            | (Self::Remote, Self::Remote) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for TerminationDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("Signal"),
            Self::CtxNotFound => f.write_str("CtxNotFound"),
            Self::YieldTypeMismatch => f.write_str("YieldTypeMismatch"),
            Self::BorrowError(what) => f.debug_tuple("BorrowError").field(what).finish(),
            Self::Provided(_) => f.write_str("Provided(..)"),
            Self::Remote => f.write_str("Remote"),
            Self::GrowthFailed(why) => f.debug_tuple("GrowthFailed").field(why).finish(),
            Self::OtherPanic(payload) => f.debug_tuple("OtherPanic").field(payload).finish(),
        }
    }
}

impl fmt::Display for TerminationDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("by a signal handler"),
            Self::CtxNotFound => {
                f.write_str("a host function needs an embedder context that the instance lacks")
            }
            Self::YieldTypeMismatch => {
                f.write_str("a suspended host function was given a value of another type")
            }
            Self::BorrowError(what) => {
                write!(f, "a host function called {what} while that was borrowed")
            }
            Self::Provided(_) => f.write_str("by a host function, with a value"),
            Self::Remote => f.write_str("by a kill switch"),
            Self::GrowthFailed(why) => write!(f, "it could not have more memory: {why}"),
            Self::OtherPanic(payload) => write!(f, "a host function panicked: {payload}"),
        }
    }
}

/// What a panic carried. A lock makes it `Sync`, which a panic's payload need not be.
pub struct PanicPayload(Mutex<Box<dyn Any + Send>>);

impl PanicPayload {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self(Mutex::new(payload))
    }

    /// The payload, to be looked at or to go on with by [`std::panic::resume_unwind`].
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the payload.
    pub fn with<R>(&self, look: impl FnOnce(&(dyn Any + Send)) -> R) -> R {
        look(&**self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Display for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.with(|payload| {
            let text = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned());
            text.or_else(|| payload.downcast_ref::<String>().cloned())
        });
        f.write_str(message.as_deref().unwrap_or("with a value"))
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_of_what_can_be_compared() {
        use TerminationDetails as T;
        let all = || {
            [
                T::Signal,
                T::CtxNotFound,
                T::YieldTypeMismatch,
                T::BorrowError("heap"),
                T::BorrowError("globals"),
                T::Remote,
                T::provide(1),
                T::OtherPanic(PanicPayload::new(Box::new("p"))),
            ]
        };
        for (i, a) in all().iter().enumerate() {
            for (j, b) in all().iter().enumerate() {
                assert_eq!(a == b, i == j && i < 6, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn panics_show_their_message() {
        let shown = |payload: Box<dyn Any + Send>| {
            format!(
                "{:?}",
                TerminationDetails::OtherPanic(PanicPayload::new(payload))
            )
        };
        assert_eq!(shown(Box::new("bad")), "OtherPanic(\"bad\")");
        assert_eq!(
            shown(Box::new(String::from("worse"))),
            "OtherPanic(\"worse\")"
        );
        assert_eq!(shown(Box::new(7)), "OtherPanic(\"with a value\")");
        let payload = PanicPayload::new(Box::new(7));
        assert_eq!(payload.into_inner().downcast_ref(), Some(&7));
    }

    #[test]
    fn details_can_be_sent_and_shared() {
        const fn is_send_and_sync<T: Send + Sync>() {}
        const { is_send_and_sync::<TerminationDetails>() };
        let details = TerminationDetails::provide(5u8);
        let value = details
            .provided_details()
            .and_then(|any| any.downcast_ref());
        assert_eq!(value, Some(&5u8));
        assert!(TerminationDetails::Remote.provided_details().is_none());
    }
}
