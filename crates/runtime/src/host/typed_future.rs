//! Typed calls that are futures: what [`RunAsync`] gives, as Rust values.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::error::Error;
use crate::host::func::WasmResults;
use crate::host::future::RunAsync;
use crate::value::RunResult;

/// A typed call as a future, see [`TypedFunc::call_async`](crate::TypedFunc::call_async) and
/// [`Instance::run_start_async`](crate::Instance::run_start_async). It is `Send`, and what
/// becomes of the guest when it is dropped or killed is as for [`RunAsync`].
#[must_use = "a guest runs when its future is polled"]
pub struct CallAsync<'a, R> {
    run: RunAsync<'a>,
    _results: PhantomData<fn() -> R>,
}

impl<'a, R> CallAsync<'a, R> {
    pub(crate) fn new(run: RunAsync<'a>) -> Self {
        let _results = PhantomData;
        Self { run, _results }
    }

    /// As [`RunAsync::with_slice`].
    pub fn with_slice(self, slice: Duration) -> Self {
        Self::new(self.run.with_slice(slice))
    }

    /// As [`RunAsync::without_slices`].
    pub fn without_slices(self) -> Self {
        Self::new(self.run.without_slices())
    }

    /// As [`RunAsync::with_fuel_slices`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_fuel_slices(self, units: u64) -> Result<Self, Error> {
        self.run.with_fuel_slices(units).map(Self::new)
    }

    /// As [`RunAsync::with_epoch_slices`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn with_epoch_slices(self, ticks: u64) -> Result<Self, Error> {
        self.run.with_epoch_slices(ticks).map(Self::new)
    }
}

impl<R: WasmResults> Future for CallAsync<'_, R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.run).poll(cx))?;
        Poll::Ready(match result {
            RunResult::Returned(values) => Ok(R::load(&|i| values.bits_of(i))),
            RunResult::Yielded(val) => {
                // For `Instance::take_yielded`, as after a call that is no future.
                self.run.instance().store.yielded.set(Some(val));
                Err(Error::InstanceYielded)
            }
            RunResult::Preempted | RunResult::OutOfFuel | RunResult::EpochReached => {
                Err(Error::InstancePreempted)
            }
        })
    }
}

impl<R> fmt::Debug for CallAsync<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallAsync").field(&self.run).finish()
    }
}
