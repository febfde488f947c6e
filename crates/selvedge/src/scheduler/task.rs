//! One guest of a scheduler: what it is to do, how far it is, and how it ended.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use selvedge_runtime::{
    Error, Instance, InstanceHandle, KillSwitch, RunResult, TerminationDetails, UntypedRetVal, Val,
    YieldedVal,
};

use super::Shared;

/// How a guest begins, or goes on, for its first slice.
type First = Box<dyn FnOnce(&mut Instance, Duration) -> Result<RunResult, Error> + Send>;

/// A guest and what it is to do, for [`Scheduler::spawn`](crate::Scheduler::spawn).
pub struct Task {
    instance: InstanceHandle,
    first: First,
    deadline: Option<Instant>,
}

impl Task {
    /// Runs an exported function, as [`Instance::run`]. What does not fit the module is told as
    /// [`Ending::Failed`].
    pub fn run(instance: InstanceHandle, entrypoint: &str, args: &[Val]) -> Self {
        let entrypoint = entrypoint.to_owned();
        let args = args.to_vec();
        Self::new(instance, move |instance, slice| {
            instance.run_async_for(slice, &entrypoint, &args)
        })
    }

    /// Lets a suspended guest go on, as [`Instance::resume`]: one that was preempted, that a host function
    /// suspended and that expects no value, or that waits for a future which its instance keeps
    /// ([`Instance::is_awaiting`]), as after its deadline.
    pub fn resume(instance: InstanceHandle) -> Self {
        Self::new(instance, |instance, slice| instance.resume_async_for(slice))
    }

    fn new(
        instance: InstanceHandle,
        first: impl FnOnce(&mut Instance, Duration) -> Result<RunResult, Error> + Send + 'static,
    ) -> Self {
        Self {
            instance,
            first: Box::new(first),
            deadline: None,
        }
    }

    /// Ends the guest with [`Ending::DeadlineExceeded`] if it has not ended by then. Without, it may run for ever.
    ///
    /// A guest that runs is suspended at its deadline, a few microseconds late; one that waits for a future ends then,
    /// or when the next thread comes from its guest; one that waits in the queue when its turn comes; one that is in a host
    /// function when that returns. One whose turn comes first after its deadline has not begun.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The two ends of what is to be done.
    pub(super) fn accept(self, shared: &Arc<Shared>) -> (Job, Ticket) {
        let control = Arc::new(Control {
            switch: self.instance.kill_switch(),
            stop: OnceLock::new(),
            shared: shared.clone(),
            woken: AtomicBool::new(false),
        });
        let answer = Arc::new(Answer {
            outcome: Mutex::new(None),
            ended: Condvar::new(),
        });
        let job = Job {
            awaits: self.instance.is_awaiting(),
            instance: self.instance,
            first: Some(self.first),
            deadline: self.deadline,
            cpu_time: Duration::ZERO,
            slices: 0,
            control: control.clone(),
            answer: answer.clone(),
        };
        (job, Ticket { control, answer })
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("instance", &self.instance)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// How a guest of a scheduler ended, or why it goes no further there.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The function returned these values.
    Returned(UntypedRetVal),
    /// A host function suspended the guest and handed out a value or nothing. Whoever has the answer resumes the
    /// instance, or puts it into a scheduler again by [`Task::resume`]. A guest that waits for a future is not given back
    /// for it.
    Yielded(YieldedVal),
    /// The guest has no fuel left and is to be suspended then ([`Instance::set_suspend_on_out_of_fuel`]). It goes on by
    /// [`Task::resume`] once it has been given more.
    OutOfFuel,
    /// The guest has reached its epoch deadline and is to be suspended then ([`Instance::epoch_deadline_suspend`]). It
    /// goes on by [`Task::resume`] once it has another one.
    EpochReached,
    /// What [`Instance::run`] or [`Instance::resume`] gives: a trap, an error of a host function, a call that does not
    /// fit the module. [`Error::YieldRefused`] for a guest that was suspended in the middle of a host function
    /// ([`Linker::suspending_func`](crate::Linker::suspending_func)), whose frames can't leave the thread: host
    /// functions for guests of schedulers say by what they return that they suspend ([`Yield`](crate::Yield)).
    Failed(Error),
    /// A host function panicked with this payload, or its future did. Where panics are values ([`Instance::set_catch_panics`]) it is
    /// [`Ending::Failed`].
    Panicked(Box<dyn Any + Send>),
    /// The guest had not ended at its deadline. If it had begun it is suspended where it stood then, and can be looked
    /// at ([`Instance::backtrace`]), resumed or reset. The future that it waits for, if it does, is kept by its instance.
    DeadlineExceeded,
    /// [`Ticket::cancel`] or a [`Canceller`] ended the guest. A future that it waited for is dropped. The instance must be
    /// reset before it runs again.
    Cancelled,
    /// The scheduler was dropped. A future that the guest waited for is dropped. The instance must be reset before it runs
    /// again.
    ShutDown,
}

/// What a scheduler gives back of a guest.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The instance, as the guest left it. `None` only if it was suspended in the middle of a host function, which
    /// was unwound on its thread, see [`Ending::Failed`].
    pub instance: Option<InstanceHandle>,
    /// Time that a processor spent on the guest, the host functions it called on its thread and polling their futures, and
    /// on entering and leaving it; waiting is not in it. It is the sum over its slices, read from the thread's own clock
    /// (`CLOCK_THREAD_CPUTIME_ID`).
    pub cpu_time: Duration,
    /// Turns in which it ran, by itself or to the end of its slice; 0 if it has not begun. Polls of a future that was not
    /// ready are none.
    pub slices: u64,
}

/// Why somebody ends a guest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Cancelled,
    ShutDown,
}

impl From<Stop> for Ending {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Cancelled => Self::Cancelled,
            Stop::ShutDown => Self::ShutDown,
        }
    }
}

/// What ends a job from outside. It outlives the job without holding anything of it.
pub(super) struct Control {
    switch: KillSwitch,
    /// The first reason to end the guest; nothing of the kind if it had ended before there was one.
    stop: OnceLock<Option<Stop>>,
    shared: Arc<Shared>,
    /// Whether the guest was woken since its last turn began. Read and written under the lock of the queue.
    woken: AtomicBool,
}

/// A control is the waker of its guest. Futures may keep it as long as they like: the guest has the control, and not the
/// other way round.
impl Wake for Control {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.shared.wake(self);
    }
}

impl Control {
    /// Whether the guest was woken since its last turn began.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Relaxed)
    }

    /// Notes that the guest is woken, or that its turn begins.
    pub(super) fn set_woken(&self, woken: bool) {
        self.woken.store(woken, Ordering::Relaxed);
    }

    /// Whether somebody ends the guest, or it has ended.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.get().is_some()
    }

    /// Ends the guest: now if it runs, with the next turn if it waits, otherwise when its turn comes.
    pub(super) fn stop(&self, stop: Stop) {
        if self.stop.set(Some(stop)).is_ok() {
            // That it has ended by itself is nothing to worry about. If it waits for a future, this wakes it.
            let _ = self.switch.terminate();
        }
    }

    /// Why somebody ends the guest, if anybody does.
    fn stopped(&self) -> Option<Stop> {
        self.stop.get().copied().flatten()
    }
}

/// Where a job leaves its outcome. The job and its ticket have it, and whoever is last drops what lies in it.
struct Answer {
    outcome: Mutex<Option<Outcome>>,
    /// There is an outcome.
    ended: Condvar,
}

impl Answer {
    fn outcome(&self) -> MutexGuard<'_, Option<Outcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a guest in a turn.
pub(super) enum Turn {
    /// It has ended, and was given back.
    Ended,
    /// It is to have its next turn after the others.
    Preempted(Job),
    /// It is to have its next turn when it is woken.
    Waits(Job),
}

/// A guest that a scheduler has, wherever it is in the queue.
pub(super) struct Job {
    instance: InstanceHandle,
    /// Until its first slice.
    first: Option<First>,
    /// Whether it waits for a future, which its instance keeps.
    awaits: bool,
    deadline: Option<Instant>,
    cpu_time: Duration,
    slices: u64,
    control: Arc<Control>,
    answer: Arc<Answer>,
}

impl Job {
    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Lets the guest run for a slice, if it does not wait.
    pub(super) fn run(mut self, slice: Duration) -> Turn {
        let left = match self.allowed(slice) {
            Ok(left) => left,
            Err(ending) => return self.end(ending),
        };
        let began = thread_cpu_time();
        // The instance is terminated if a panic goes through it, and nothing else is touched.
        let result = catch_unwind(AssertUnwindSafe(|| self.advance(left)));
        self.cpu_time += thread_cpu_time().saturating_sub(began);
        let ending = match result {
            Ok(Ok(RunResult::Preempted)) => match self.allowed(slice) {
                Ok(_) => return Turn::Preempted(self),
                Err(ending) => ending,
            },
            Ok(Ok(RunResult::Yielded(_))) if self.awaits => match self.allowed(slice) {
                Ok(_) => return Turn::Waits(self),
                Err(ending) => ending,
            },
            Ok(Ok(RunResult::Returned(values))) => Ending::Returned(values),
            Ok(Ok(RunResult::Yielded(_))) if self.instance.is_bound_to_thread() => {
                return self.end_here();
            }
            Ok(Ok(RunResult::Yielded(val))) => Ending::Yielded(val),
            Ok(Ok(RunResult::OutOfFuel)) => Ending::OutOfFuel,
            Ok(Ok(RunResult::EpochReached)) => Ending::EpochReached,
            Ok(Ok(_)) => Ending::Failed(Error::InstanceNotReturned),
            Ok(Err(error)) => self.failed(error),
            Err(payload) => Ending::Panicked(payload),
        };
        self.end(ending)
    }

    /// Lets the guest run until its slice is over, it ends, or it waits: `awaits` says then that it does. One that
    /// waits for something that is ready goes on for what is left of its slice.
    fn advance(&mut self, slice: Duration) -> Result<RunResult, Error> {
        let began = Instant::now();
        let mut result = Ok(RunResult::Yielded(YieldedVal::default()));
        let mut has_run = false;
        let mut left = slice;
        loop {
            if self.awaits {
                // Its waker's: cloned only by a future that keeps it.
                let waker = Waker::from(self.control.clone());
                let mut cx = Context::from_waker(&waker);
                if self.instance.poll_awaited(&mut cx).is_pending() {
                    return result;
                }
                self.awaits = false;
            }
            if !mem::replace(&mut has_run, true) {
                self.slices += 1;
            }
            result = match self.first.take() {
                Some(first) => first(&mut self.instance, left),
                None => self.instance.resume_async_for(left),
            };
            if !matches!(result, Ok(RunResult::Yielded(_))) || !self.instance.is_awaiting() {
                return result;
            }
            self.awaits = true;
            left = slice.saturating_sub(began.elapsed());
            if left.is_zero() {
                // Whether it is ready is seen in its next turn.
                return Ok(RunResult::Preempted);
            }
        }
    }

    /// How long the guest may run now, at most a slice; or why it may not.
    fn allowed(&self, slice: Duration) -> Result<Duration, Ending> {
        if let Some(stop) = self.control.stopped() {
            return Err(stop.into());
        }
        let Some(deadline) = self.deadline else {
            return Ok(slice);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Ending::DeadlineExceeded);
        }
        Ok(slice.min(left))
    }

    /// Which ending an error is: one that we caused has a reason.
    fn failed(&self, error: Error) -> Ending {
        match (error, self.control.stopped()) {
            (Error::RuntimeTerminated(TerminationDetails::Remote), Some(stop)) => stop.into(),
            (error, _) => Ending::Failed(error),
        }
    }

    /// Gives the guest back to whoever asks. There is no job any more.
    pub(super) fn end(mut self, ending: Ending) -> Turn {
        // From here on nobody uses the kill switch, unless somebody is just about to: a suspended guest has no
        // future then.
        let _ = self.control.stop.set(None);
        let ending = match (ending, self.control.stopped()) {
            (
                Ending::Yielded(_)
                | Ending::OutOfFuel
                | Ending::EpochReached
                | Ending::DeadlineExceeded,
                Some(stop),
            ) => stop.into(),
            (ending, _) => ending,
        };
        if self.awaits && matches!(ending, Ending::Cancelled | Ending::ShutDown) {
            let future = self.instance.take_yielded();
            without_panic(move || drop(future));
        }
        let outcome = Outcome {
            ending,
            instance: Some(self.instance),
            cpu_time: self.cpu_time,
            slices: self.slices,
        };
        give_back(self.answer, outcome);
        Turn::Ended
    }

    /// Drops the instance on this thread, on which alone its host function can be unwound.
    fn end_here(self) -> Turn {
        let refused = Error::YieldRefused(
            "a scheduler moves guests between threads, and the frames of this host function can't move",
        );
        let outcome = Outcome {
            ending: Ending::Failed(refused),
            instance: None,
            cpu_time: self.cpu_time,
            slices: self.slices,
        };
        let instance = self.instance;
        without_panic(move || drop(instance));
        give_back(self.answer, outcome);
        Turn::Ended
    }
}

/// Hands out an outcome, or drops it if nobody has a ticket any more.
fn give_back(answer: Arc<Answer>, outcome: Outcome) {
    *answer.outcome() = Some(outcome);
    answer.ended.notify_all();
    without_panic(move || drop(answer));
}

/// Drops something of the embedder's, contexts of an instance for example: if that panics, the thread goes on.
fn without_panic(drop: impl FnOnce()) {
    // The hook has told of the panic.
    let _ = catch_unwind(AssertUnwindSafe(drop));
}

/// What asks for the outcome of a guest. If it is dropped, the guest runs to its end, and its instance is dropped then.
pub struct Ticket {
    control: Arc<Control>,
    answer: Arc<Answer>,
}

impl Ticket {
    /// Waits until the guest ends. Without a deadline, that may be never; with one, see [`Task::with_deadline`].
    pub fn wait(self) -> Outcome {
        let mut outcome = self.answer.outcome();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            let waited = self.answer.ended.wait(outcome);
            outcome = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the guest has ended, so that [`Ticket::wait`] returns at once.
    pub fn is_finished(&self) -> bool {
        self.answer.outcome().is_some()
    }

    /// Ends the guest, as a [`KillSwitch`] does: at once if it runs guest code or waits in the
    /// runtime or in WASI, ahead of all turns if it waits for a future, otherwise when its host function returns or its
    /// turn comes. Does not wait for it. If the guest ends otherwise first, that is its [`Ending`]. Once it has ended, this does nothing.
    pub fn cancel(&self) {
        self.control.stop(Stop::Cancelled);
    }

    /// What can cancel the guest while another thread waits for it.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            control: self.control.clone(),
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// Cancels a guest of a scheduler, from any thread and at any time; see [`Ticket::cancel`]. It can be kept for ever,
/// and holds a few hundred bytes.
#[derive(Clone)]
pub struct Canceller {
    control: Arc<Control>,
}

impl Canceller {
    /// Ends the guest, as [`Ticket::cancel`].
    pub fn cancel(&self) {
        self.control.stop(Stop::Cancelled);
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

/// Processor time of this thread.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is negative.
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
