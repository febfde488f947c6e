//! The future that a suspended guest waits for, while the instance keeps it: polling it, and going on when it is ready.
//!
//! ```text
//!  run_async_for, resume_async_for --> guest --> Awaiting(future) --> Store::yielded: Pending
//!                   ^                                                     | poll_awaited
//!                   '---- resumed with its output, or ended <--- Ready, ToEnd
//! ```
//!
//! `RunAsync` (`host/future.rs`) is this in a loop, for executors that keep a future which borrows the instance. Who
//! keeps instances elsewhere between their turns, as the scheduler does, takes the steps one by one.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::Error;
use crate::host::suspend::YieldedVal;
use crate::instance::Instance;
use crate::instance::state::State;
use crate::value::{RunResult, Val};

/// The output of a host function's future, whose type its continuation knows.
pub(crate) type Output = Box<dyn Any + Send>;

/// What a guest hands out that waits for a future.
pub(crate) enum Awaited {
    /// The future.
    Pending(Pin<Box<dyn Future<Output = Output> + Send>>),
    /// Its output.
    Ready(Output),
    /// Nothing: somebody wants the end of the guest.
    ToEnd,
}

impl Instance {
    /// Lets the guest run on behalf of somebody who polls what it waits for. The instance keeps that.
    pub(crate) fn awaited(
        &mut self,
        slice: Option<Duration>,
        run: impl FnOnce(&mut Self) -> Result<RunResult, Error>,
    ) -> Result<RunResult, Error> {
        /// Takes it back also if the run unwinds.
        struct Told<'a>(&'a mut Instance);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                self.0.store.is_awaited.set(false);
            }
        }
        let run = |instance: &mut Self| {
            let told = Told(instance);
            told.0.store.is_awaited.set(true);
            run(told.0)
        };
        let result = match slice {
            Some(slice) => self.for_slice(slice, run),
            None => run(self),
        };
        match result {
            Ok(RunResult::Yielded(val)) if val.is::<Awaited>() => {
                self.store.yielded.set(Some(val));
                Ok(RunResult::Yielded(YieldedVal::default()))
            }
            result => result,
        }
    }

    /// Keeps the future that the suspended guest waits for, if it is in there.
    pub(crate) fn keep_awaited(&mut self, yielded: YieldedVal) {
        if yielded.is::<Awaited>() && self.is_yielded() {
            self.store.yielded.set(Some(yielded));
        }
    }

    /// Takes what the suspended guest waits for.
    fn take_awaited(&self) -> Option<Box<Awaited>> {
        match self.store.yielded.take()?.downcast() {
            Ok(awaited) => Some(awaited),
            Err(other) => {
                self.store.yielded.set(Some(other));
                None
            }
        }
    }

    /// Lets a suspended guest go on with the output of what it waits for, if it waits for something.
    pub(crate) fn resume_awaited(&mut self, slice: Option<Duration>) -> Result<RunResult, Error> {
        if self.store.state.get() != State::Yielded {
            return self.awaited(slice, Self::resume);
        }
        match self.take_awaited().map(|awaited| *awaited) {
            None => self.awaited(slice, Self::resume),
            Some(Awaited::Ready(output)) => {
                self.awaited(slice, |instance| instance.resume_with(Some(output)))
            }
            Some(Awaited::ToEnd) => self.end_suspended(),
            Some(pending) => {
                self.store.yielded.set(Some(YieldedVal::new(pending)));
                Ok(RunResult::Yielded(YieldedVal::default()))
            }
        }
    }

    /// Runs an exported function for a slice of time, as [`Instance::run_for`], on behalf of a caller who polls what
    /// the guest waits for: one step of what [`Instance::run_async`] does. For executors that can't keep a future which
    /// borrows the instance.
    ///
    /// If the guest waits for a host function's future ([`Awaiting`](crate::Awaiting)), or for an
    /// [`AsyncLimiter`](crate::AsyncLimiter), this gives [`RunResult::Yielded`] without a value and
    /// [`Instance::is_awaiting`] says so. Then comes [`Instance::poll_awaited`], until it is ready, and
    /// [`Instance::resume_async_for`].
    ///
    /// ```
    /// # use std::task::{Context, Waker};
    /// # use std::time::Duration;
    /// # use selvedge_runtime::{Error, Instance, RunResult};
    /// # fn turn(instance: &mut Instance, waker: &Waker) -> Result<RunResult, Error> {
    /// let slice = Duration::from_millis(1);
    /// let mut result = instance.run_async_for(slice, "f", &[])?;
    /// while instance.is_awaiting() {
    ///     if instance.poll_awaited(&mut Context::from_waker(waker)).is_pending() {
    ///         // Others have their turn, until the waker is called.
    ///         break;
    ///     }
    ///     result = instance.resume_async_for(slice)?;
    /// }
    /// # Ok(result)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Instance::run_for`].
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn run_async_for(
        &mut self,
        slice: Duration,
        entrypoint: &str,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        self.awaited(Some(slice), |instance| instance.run(entrypoint, args))
    }

    /// Lets a suspended guest go on for a slice of time, as [`Instance::run_async_for`]: with the output of the future
    /// that it waits for, or with its end if [`Instance::poll_awaited`] has found that somebody wants that. While the
    /// future is not ready, this does nothing and gives [`RunResult::Yielded`] again.
    ///
    /// # Errors
    ///
    /// As [`Instance::resume_for`].
    ///
    /// # Panics
    ///
    /// As [`Instance::run`]; if the future has panicked, that goes on here.
    pub fn resume_async_for(&mut self, slice: Duration) -> Result<RunResult, Error> {
        self.resume_awaited(Some(slice))
    }

    /// Whether the suspended guest waits for a future that the instance keeps: after [`Instance::run_async_for`] or
    /// [`Instance::resume_async_for`], until it goes on or [`Instance::take_yielded`] takes the future away.
    pub fn is_awaiting(&self) -> bool {
        let Some(val) = self.store.yielded.take() else {
            return false;
        };
        let is_awaiting = val.is::<Awaited>() && self.is_yielded();
        self.store.yielded.set(Some(val));
        is_awaiting
    }

    /// Polls the future that the suspended guest waits for. When it is ready the guest can go on; so it can if it waits
    /// for none. Until then the task is woken by the future, and also when somebody ends the guest with a
    /// [`KillSwitch`](crate::KillSwitch) or it is to trap at its epoch deadline: the next poll drops the future and is
    /// ready, and [`Instance::resume_async_for`] ends the guest.
    ///
    /// If the instance is reset or dropped instead, the future is dropped.
    ///
    /// # Panics
    ///
    /// If the future panics when it is dropped; the instance is terminated then. One that panics in its poll is ready:
    /// its panic is that of the host function.
    pub fn poll_awaited(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// Gives the guest up whose future panics.
        struct Torn<'a>(&'a mut Instance, bool);
        impl Drop for Torn<'_> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.give_up();
                }
            }
        }
        if self.store.state.get() != State::Yielded {
            return Poll::Ready(());
        }
        let Some(mut awaited) = self.take_awaited() else {
            return Poll::Ready(());
        };
        let mut torn = Torn(self, true);
        let polled = torn.0.poll_kept(&mut awaited, cx);
        torn.0.store.yielded.set(Some(YieldedVal::of(awaited)));
        torn.1 = false;
        polled
    }

    fn poll_kept(&self, awaited: &mut Awaited, cx: &mut Context<'_>) -> Poll<()> {
        let Awaited::Pending(future) = awaited else {
            return Poll::Ready(());
        };
        let words = self.store.limits.words();
        if !words.is_to_end() {
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => {
                    *awaited = Awaited::Ready(output);
                    self.store.forget_task();
                    return Poll::Ready(());
                }
                Poll::Pending if !self.store.wakes(cx.waker()) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        *awaited = Awaited::ToEnd;
        self.store.forget_task();
        Poll::Ready(())
    }
}
