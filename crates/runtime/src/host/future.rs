//! Guests that wait for futures: host functions that return one, and runs that are one.
//!
//! ```text
//!  RunAsync::poll --> run_for, resume_for --> guest --> host function returns Awaiting(future)
//!       ^                                                 | the guest is suspended; no frame of the host waits
//!       '--- poll the future (`awaited.rs`); ready: resume with its output <--'
//!  slice over: wake myself, Pending --> others get the thread
//!  killed while it waits: woken (`stop/task.rs`); the future is dropped, the guest ends
//! ```
//!
//! Nothing here knows an executor. The guest needs no code for it: its slices are cut from outside, see
//! `stop/preempt.rs`. What is not here: how a guest is suspended (`host/suspend.rs`).

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use selvedge_artifact::types::FuncType;

use crate::error::Error;
use crate::host::awaited::{Awaited, Output};
use crate::host::error::HostError;
use crate::host::func::{HostReturn, WasmResults};
use crate::host::suspend::{Flow, Yield, YieldedVal};
use crate::host::vmctx::Vmctx;
use crate::instance::Instance;
use crate::value::{RunResult, UntypedRetVal, Val};
use crate::vm::callee::Callee;

/// The output on its way back to who waits for it in the guest, or the panic of the future.
struct Done<T>(std::thread::Result<T>);

/// A future whose panics are values.
struct Caught<F>(Pin<Box<F>>);

impl<F: Future> Future for Caught<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // It is not polled again after a panic.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx))) {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

/// Suspends the guest until a future is ready; `next` says then, in the guest's run, how it goes on. A panic of the
/// future is one of `next`.
pub(crate) fn awaiting<A: Send + 'static, T: WasmResults>(
    future: impl Future<Output = A> + Send + 'static,
    next: impl FnOnce(&Vmctx<'_>, A) -> Result<Flow<T>, HostError> + Send + 'static,
) -> Yield<T> {
    let caught = Caught(Box::pin(future));
    let pending = Awaited::Pending(Box::pin(async move {
        let done: Output = Box::new(Done(caught.await));
        done
    }));
    let suspended = Yield::expecting(|vmctx, Done(output): Done<A>| match output {
        Ok(output) => next(vmctx, output),
        Err(payload) => resume_unwind(payload),
    });
    suspended.with_val(pending)
}

/// The return value of a host function that is not done yet: a future of its results.
///
/// The guest is suspended until it is ready, and with it [`Instance::run_async`]; no thread waits. What the host
/// function needs of the guest it reads before, and the future may not borrow it. If the guest is ended meanwhile, by
/// a [`KillSwitch`](crate::KillSwitch), at an epoch deadline or because the run is dropped, the future is dropped. A
/// panic of the future is one of the host function.
///
/// ```
/// # use selvedge_runtime::{Awaiting, HostError, Vmctx};
/// # async fn look_up(key: i32) -> Result<i64, HostError> { Ok(key.into()) }
/// let get = |_: &Vmctx<'_>, key: i32| Awaiting::new(look_up(key));
/// # let _ = get;
/// ```
pub struct Awaiting<T>(Yield<T>);

impl<T: WasmResults + Send + 'static> Awaiting<T> {
    /// Waits for a future, whose output is the host function's results or why there are none.
    pub fn new<E: Into<HostError>>(
        future: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Self {
        let results = async move { future.await.map_err(Into::into) };
        Self(awaiting(results, |_, results| results.map(Flow::Return)))
    }
}

impl<T: WasmResults> HostReturn for Awaiting<T> {
    type Results = T;
    fn into_flow(self) -> Result<Flow<T>, HostError> {
        Ok(Flow::Yield(self.0))
    }
}

impl<T> fmt::Debug for Awaiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Awaiting(..)")
    }
}

/// A call of a function that is known, for a future.
pub(crate) struct TypedCall {
    pub(crate) callee: Callee,
    pub(crate) ty: FuncType,
    pub(crate) args: Vec<Val>,
}

/// What a run does next.
enum Step {
    Run(String, Vec<Val>),
    Call(Box<TypedCall>),
    Start,
    GoOn,
    /// Something panics, or has.
    Torn,
    Over,
}

/// A run of a guest, as a future: see [`Instance::run_async`].
///
/// It is `Send`, and may be polled on another thread each time. If it is dropped before it is done, the guest is
/// ended: the instance must be [reset](Instance::reset) then. A [`KillSwitch`](crate::KillSwitch) ends it wherever it
/// is: in the guest, or while that waits, for which the task is woken.
#[must_use = "a guest runs when its future is polled"]
pub struct RunAsync<'a> {
    instance: &'a mut Instance,
    step: Step,
    slice: Option<Duration>,
    fuel: Option<u64>,
    epochs: Option<u64>,
    /// If start functions are run: the members whose turn has not come.
    starts: Option<Range<usize>>,
}

/// How long a guest runs at a time, if nothing else is said.
const SLICE: Duration = Duration::from_millis(1);

impl RunAsync<'_> {
    /// The instance that it runs.
    pub(crate) fn instance(&self) -> &Instance {
        self.instance
    }
}

impl RunAsync<'_> {
    /// Sets how long the guest may run at a time before others get the thread: 1 ms if nothing is said, and 100
    /// microseconds at least.
    pub fn with_slice(mut self, slice: Duration) -> Self {
        self.slice = Some(slice);
        self
    }

    /// Gives the guest so many units of fuel at a time: when they are used up others get the thread, and then it
    /// goes on with as many. Unlike slices of time, that is the same in every run.
    ///
    /// # Errors
    ///
    /// As [`Instance::set_suspend_on_out_of_fuel`].
    pub fn with_fuel_slices(mut self, units: u64) -> Result<Self, Error> {
        self.instance.set_suspend_on_out_of_fuel(true)?;
        self.instance.set_fuel(units)?;
        self.fuel = Some(units);
        Ok(self)
    }

    /// Gives the guest so many epochs at a time, from when it gets the thread: when its deadline is reached others get
    /// it, and then the guest goes on with as many. From then on the instance is one that is suspended at its deadline, see
    /// [`Instance::epoch_deadline_suspend`].
    ///
    /// # Errors
    ///
    /// As [`Instance::set_epoch_deadline`]; [`Error::InvalidArgument`] if it is 0: the guest would never get on.
    pub fn with_epoch_slices(mut self, ticks: u64) -> Result<Self, Error> {
        if ticks == 0 {
            return Err(Error::InvalidArgument(
                "a slice of no epochs is over before the guest gets on; give it one at least",
            ));
        }
        self.instance.set_epoch_deadline(ticks)?;
        self.instance.epoch_deadline_suspend();
        self.epochs = Some(ticks);
        Ok(self)
    }

    /// Lets the guest run until it waits or ends, however long that takes. For machines that can't suspend guests
    /// from outside.
    pub fn without_slices(mut self) -> Self {
        self.slice = None;
        self
    }
}

impl RunAsync<'_> {
    /// Runs the start function that comes next; in the end nothing is returned.
    fn start(&mut self) -> Result<RunResult, Error> {
        let mut starts = match self.starts.take() {
            Some(starts) => starts,
            None => self.instance.starts()?,
        };
        let result = self.instance.awaited(self.slice, |instance| {
            let next = instance.run_next_start(&mut starts);
            next.unwrap_or_else(|| Ok(RunResult::Returned(UntypedRetVal::new(Vec::new()))))
        });
        self.starts = Some(starts);
        result
    }

    /// What the run gives. A start function that is suspended is no result.
    fn ended(&self, result: Result<RunResult, Error>) -> Result<RunResult, Error> {
        if self.starts.is_none() {
            return result;
        }
        self.instance.check_started(result?)?;
        self.instance.store.members_started.set(true);
        Ok(RunResult::Returned(UntypedRetVal::new(Vec::new())))
    }
}

impl Future for RunAsync<'_> {
    type Output = Result<RunResult, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(ticks) = self.epochs {
            self.instance.set_epoch_deadline(ticks)?;
        }
        let slice = self.slice;
        let began = Instant::now();
        loop {
            let result = match std::mem::replace(&mut self.step, Step::Torn) {
                Step::Run(entrypoint, args) => self
                    .instance
                    .awaited(slice, |instance| instance.run(&entrypoint, &args)),
                Step::Call(call) => self.instance.awaited(slice, |instance| {
                    let TypedCall { callee, ty, args } = *call;
                    instance.run_callee(&callee, &ty, &args)
                }),
                Step::Start => self.start(),
                Step::GoOn => {
                    if self.instance.poll_awaited(cx).is_pending() {
                        self.step = Step::GoOn;
                        return Poll::Pending;
                    }
                    self.instance.resume_awaited(slice)
                }
                over @ (Step::Torn | Step::Over) => {
                    self.step = over;
                    return Poll::Ready(Err(Error::InvalidArgument("the run is over")));
                }
            };
            self.step = match result {
                Ok(RunResult::OutOfFuel) if self.fuel.is_some() => {
                    let units = self.fuel.unwrap_or_default();
                    self.instance.set_fuel(units)?;
                    Step::GoOn
                }
                Ok(RunResult::EpochReached) if self.epochs.is_some() => Step::GoOn,
                Ok(RunResult::Preempted) => Step::GoOn,
                Ok(RunResult::Yielded(_)) if self.instance.is_awaiting() => {
                    // What it waits for may always be ready: that is no reason to keep the thread.
                    if slice.is_none_or(|slice| began.elapsed() < slice) {
                        self.step = Step::GoOn;
                        continue;
                    }
                    Step::GoOn
                }
                Ok(RunResult::Returned(_))
                    if self.starts.as_ref().is_some_and(|rest| !rest.is_empty()) =>
                {
                    self.step = Step::Start;
                    continue;
                }
                result => {
                    self.step = Step::Over;
                    return Poll::Ready(self.ended(result));
                }
            };
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
    }
}

impl Drop for RunAsync<'_> {
    fn drop(&mut self) {
        // In the beginning nothing has run, and in the end the caller has what came of it.
        if matches!(self.step, Step::GoOn | Step::Torn) {
            self.instance.give_up();
        }
    }
}

impl fmt::Debug for RunAsync<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunAsync")
            .field("slice", &self.slice)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Runs an exported function as a future: where the guest waits for a host function that returns a future
    /// ([`Awaiting`]), so does this one, and after each slice of time others get the thread, though the guest may
    /// never call anything. Works under every executor.
    ///
    /// Its output is that of [`Instance::run`]. A guest that a host function suspends otherwise gives
    /// [`RunResult::Yielded`]; [`Instance::resume_async`] lets it go on.
    ///
    /// # Errors
    ///
    /// The future's: as [`Instance::run_for`]. [`Error::InvalidArgument`] if it is polled when it is done.
    ///
    /// # Panics
    ///
    /// When it is polled: as [`Instance::run`].
    pub fn run_async<'a>(&'a mut self, entrypoint: &str, args: &[Val]) -> RunAsync<'a> {
        let step = Step::Run(entrypoint.to_owned(), args.to_vec());
        self.in_slices(step)
    }

    /// Lets a suspended guest go on as a future. `yielded` is what it has handed out, or nothing: if a host function
    /// waits for a future, as after [`Instance::run`], that future is in there. One that the instance keeps
    /// ([`Instance::is_awaiting`]) is waited for if no other is given.
    ///
    /// # Errors
    ///
    /// As [`Instance::run_async`]; [`Error::InvalidArgument`] if the instance is not suspended.
    ///
    /// # Panics
    ///
    /// As [`Instance::run_async`].
    pub fn resume_async(&mut self, yielded: YieldedVal) -> RunAsync<'_> {
        self.keep_awaited(yielded);
        self.in_slices(Step::GoOn)
    }

    /// Calls a function as a future.
    pub(crate) fn call_as_future(&mut self, call: TypedCall) -> RunAsync<'_> {
        self.in_slices(Step::Call(Box::new(call)))
    }

    /// Runs start functions as a future.
    pub(crate) fn start_as_future(&mut self) -> RunAsync<'_> {
        self.in_slices(Step::Start)
    }

    fn in_slices(&mut self, step: Step) -> RunAsync<'_> {
        RunAsync {
            instance: self,
            step,
            slice: Some(SLICE),
            fuel: None,
            epochs: None,
            starts: None,
        }
    }
}
