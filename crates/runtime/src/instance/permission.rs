//! Limiters whose answer is a future: the guest is suspended until it is there.
//!
//! ```text
//!  memory.grow --> libcall --> the limits --> AsyncLimiter::growing: a future
//!                                               | the guest is suspended; `RunAsync` polls (`host/future.rs`)
//!      old size, or -1 <-- grown, or not <------' the answer
//! ```
//!
//! Between the question and the growth others may have grown a shared memory. What was allowed is a size: if it takes
//! more by then, the limiter is asked again.

use std::future::Future;
use std::pin::Pin;

use crate::error::Error;
use crate::host::error::HostError;
use crate::host::future::awaiting;
use crate::host::suspend::{Flow, Yield};
use crate::host::vmctx::Vmctx;
use crate::instance::growth::{Asker, Growth, Limiter};
use crate::instance::record::Record;
use crate::vm::activation::Outcome;
use crate::vm::libcalls;

/// Whether a growth may happen, once that is known.
pub type Permission = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A [`Limiter`] that takes its time: it may ask others, or wait until there is room. See
/// [`InstanceBuilder::with_async_limiter`](crate::InstanceBuilder::with_async_limiter).
///
/// It is asked when the guest wants more, within the limits; the guest is suspended meanwhile, and its future is
/// dropped if the guest is ended. So the guest must be run with [`Instance::run_async`](crate::Instance::run_async),
/// [`resume_async`](crate::Instance::resume_async) or, if its start function grows something,
/// [`run_start_async`](crate::Instance::run_start_async), or by a scheduler. A growth in another run ends the guest with
/// [`Error::AsyncRequired`], and one in a call by a host function with [`Error::YieldRefused`]; neither is asked about.
/// The embedder's own growth is not asked about, and a host function can't grow a memory of such an instance.
///
/// ```
/// use selvedge_runtime::{AsyncLimiter, Growth, Permission};
///
/// # async fn is_within_quota(tenant: u32, bytes: u64) -> bool { tenant > 0 && bytes < 1 << 30 }
/// /// Asks somebody else who knows what a tenant may have.
/// struct OfTenant(u32);
///
/// impl AsyncLimiter for OfTenant {
///     fn growing(&mut self, growth: &Growth) -> Permission {
///         Box::pin(is_within_quota(self.0, growth.desired))
///     }
/// }
/// # let _ = OfTenant(1);
/// ```
pub trait AsyncLimiter: Send {
    /// Whether a growth that the limits allow may happen. The future may not borrow the limiter.
    fn growing(&mut self, growth: &Growth) -> Permission;

    /// A growth failed, as in [`Limiter::growth_failed`].
    fn growth_failed(&mut self, growth: &Growth, error: &Error) {
        let _ = (growth, error);
    }
}

/// What a limiter says.
pub(crate) enum Verdict {
    Allowed,
    Refused,
    Later(Permission),
}

/// A limiter of one kind or the other.
pub(crate) enum AnyLimiter {
    Sync(Box<dyn Limiter>),
    Async(Box<dyn AsyncLimiter>),
}

impl AnyLimiter {
    pub(crate) fn growing(&mut self, growth: &Growth) -> Verdict {
        match self {
            Self::Sync(limiter) => {
                if limiter.growing(growth) {
                    Verdict::Allowed
                } else {
                    Verdict::Refused
                }
            }
            Self::Async(limiter) => Verdict::Later(limiter.growing(growth)),
        }
    }

    pub(crate) fn growth_failed(&mut self, growth: &Growth, error: &Error) {
        match self {
            Self::Sync(limiter) => limiter.growth_failed(growth, error),
            Self::Async(limiter) => limiter.growth_failed(growth, error),
        }
    }
}

/// What a growth comes to.
pub(crate) enum Grown {
    /// It has happened; what there was before.
    From(u64),
    /// It may happen when the limiter says so.
    Asks(Growth, Permission),
}

/// Grows something for the guest. It is called again with the answer of a limiter that takes its time.
pub(crate) trait Grow: Fn(&Record, Asker) -> Result<Grown, Error> + Send + 'static {}
impl<F: Fn(&Record, Asker) -> Result<Grown, Error> + Send + 'static> Grow for F {}

impl Record {
    /// Grows something in a libcall: what the guest gets, or anything and a request to leave it.
    pub(crate) fn grow_for_guest(&self, grow: impl Grow) -> u64 {
        let store = self.store();
        match grow(self, Asker::Guest) {
            Ok(Grown::From(old)) => old,
            Ok(Grown::Asks(growth, permission)) => {
                libcalls::suspend(self, ask(growth, permission, grow));
                0
            }
            // The guest is not told: whoever runs it is.
            Err(error @ (Error::AsyncRequired(_) | Error::YieldRefused(_))) => {
                store.raise(Outcome::Host(error.into()));
                0
            }
            Err(error) => store.growth_result(Err(error)),
        }
    }
}

/// Suspends the guest until it is known whether it may have what it wants.
fn ask(growth: Growth, permission: Permission, grow: impl Grow) -> Yield<u64> {
    awaiting(permission, move |vmctx: &Vmctx<'_>, allowed| {
        let record = vmctx.record();
        let asker = if allowed {
            Asker::Allowed(growth)
        } else {
            Asker::Refused
        };
        Ok::<_, HostError>(match grow(record, asker) {
            Ok(Grown::From(old)) => Flow::Return(old),
            Ok(Grown::Asks(growth, permission)) => Flow::Yield(ask(growth, permission, grow)),
            Err(error) => Flow::Return(record.store().growth_result(Err(error))),
        })
    })
}
