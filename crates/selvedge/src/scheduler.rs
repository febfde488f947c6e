//! Many guests on a few threads: each runs for a slice of time, and then the next has its turn.
//!
//! ```text
//!  spawn --> queue --> a worker: a turn of the guest --> returned, failed, deadline, ... --> Ticket::wait
//!             ^ ^                 |         |
//!             | '-- preempted <---'         | its future is not ready
//!             '---- woken <--- waiting <----'
//! ```
//!
//! What a task is, and what becomes of it, is in `scheduler/task.rs`; those that wait are in `scheduler/waiting.rs`.

mod task;
mod waiting;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use selvedge_runtime::{Engine, Error};

pub use task::{Canceller, Ending, Outcome, Task, Ticket};
use task::{Control, Job, Stop, Turn};
use waiting::Waiting;

/// Runs any number of guests on a few threads of its own, in turn, so that none keeps the others from running.
///
/// Guests wait in one queue. A thread takes the first, lets it run for a slice of time, and puts it at the end of the
/// queue if it has not ended by then: between two slices of a guest every other one that waits has one. Guests need
/// no code for that, and an endless loop is no danger to the others; give it a deadline ([`Task::with_deadline`]) or
/// [cancel](Ticket::cancel) it.
///
/// A slice is a time of the clock, as for [`Instance::run_for`](crate::Instance::run_for); host functions are not
/// interrupted, and one that waits holds its thread. One that returns a future ([`Awaiting`](crate::Awaiting)) does not,
/// nor does an [`AsyncLimiter`](crate::AsyncLimiter): the scheduler polls what they give, and a guest whose future is not
/// ready leaves the queue until the future's waker is called, and has its turn then. Futures are polled on the scheduler's
/// threads, with no executor around them: what needs one, as tokio's timers do, is spawned there by the host function,
/// which returns a future that awaits its handle.
///
/// Threads without a guest sleep, and no lock is held while a guest runs or a future is polled. A panic of a host function
/// or of its future ends its guest and nothing else.
///
/// Dropping the scheduler ends its guests, queued, waiting and running, with [`Ending::ShutDown`], and waits for its
/// threads, and so for host functions that are being called.
///
/// ```
/// use std::time::{Duration, Instant};
/// use selvedge::{Ending, Engine, Limits, Linker, Region, Scheduler, Settings, Task};
///
/// let engine = Engine::new(&Settings::default())?;
/// let module = engine.compile(
///     br#"(module
///         (func (export "answer") (result i32) (i32.const 42))
///         (func (export "for_ever") (loop $l (br $l))))"#,
/// )?;
/// let program = Linker::new(&engine).program(&module)?;
/// let region = Region::new(&engine, 2, &Limits::default())?;
///
/// let scheduler = Scheduler::new(1, Duration::from_millis(1))?;
/// let soon = Instant::now() + Duration::from_millis(20);
/// let endless = Task::run(region.new_instance(&program)?, "for_ever", &[]).with_deadline(soon);
/// let endless = scheduler.spawn(endless);
/// let answer = scheduler.spawn(Task::run(region.new_instance(&program)?, "answer", &[]));
///
/// assert!(matches!(answer.wait().ending, Ending::Returned(values) if i32::from(&values) == 42));
/// assert!(matches!(endless.wait().ending, Ending::DeadlineExceeded));
/// # Ok::<(), selvedge::Error>(())
/// ```
pub struct Scheduler {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    state: Mutex<State>,
    /// There is a job, or it is over.
    work: Condvar,
    slice: Duration,
}

struct State {
    queue: VecDeque<Job>,
    waiting: Waiting,
    threads: Vec<Worker>,
    closed: bool,
}

/// What a thread does.
#[derive(Default)]
enum Worker {
    /// It looks for what is next, or it is over.
    #[default]
    Looks,
    /// It has the job of this guest.
    Has(Arc<Control>),
    /// It sleeps, until then if nobody wakes it.
    Sleeps(Option<Instant>),
}

impl Scheduler {
    /// A scheduler with so many threads, and slices of this length. The shortest slice is 100 microseconds; a
    /// millisecond costs next to nothing of the guests' speed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for no threads, [`Error::Unsupported`] where guests can't be suspended from outside
    /// (see [`Engine::preemption`](crate::Engine)), [`Error::System`] if a thread can't be started.
    pub fn new(threads: usize, slice: Duration) -> Result<Self, Error> {
        if threads == 0 {
            return Err(Error::InvalidArgument(
                "a scheduler needs at least one thread",
            ));
        }
        Engine::preemption()?;
        let mut scheduler = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    queue: VecDeque::new(),
                    waiting: Waiting::default(),
                    threads: Vec::new(),
                    closed: false,
                }),
                work: Condvar::new(),
                slice,
            }),
            workers: Vec::new(),
        };
        for worker in 0..threads {
            scheduler.shared.lock().threads.push(Worker::Looks);
            let shared = scheduler.shared.clone();
            let started = thread::Builder::new()
                .name(format!("selvedge-{worker}"))
                .spawn(move || shared.work(worker))
                .map_err(|source| Error::System {
                    what: "start a thread",
                    source,
                })?;
            scheduler.workers.push(started);
        }
        Ok(scheduler)
    }

    /// Puts a guest at the end of the queue. Does not wait; may be called by host functions, too.
    pub fn spawn(&self, task: Task) -> Ticket {
        let (job, ticket) = task.accept(&self.shared);
        self.shared.lock().queue.push_back(job);
        self.shared.work.notify_one();
        ticket
    }

    /// Guests that wait for their turn, without those that run now. It may have changed when the caller looks.
    pub fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Guests that wait for a future, and so for no turn. It may have changed when the caller looks.
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock, and nothing of the embedder's is called or dropped, so a waker
        // may be called anywhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self, worker: usize) {
        let mut turn = Turn::Ended;
        while let Some(job) = self.next(worker, turn) {
            turn = job.run(self.slice);
        }
    }

    /// Puts back what a thread could not finish and waits for what it is to do next; nothing when it is over.
    ///
    /// Both are done under one lock, so that the queue is never longer afterwards than it was before, and nobody
    /// needs to be woken for it.
    fn next(&self, worker: usize, turn: Turn) -> Option<Job> {
        // Dropped when the lock is not held any more.
        let _former;
        let mut state = self.lock();
        _former = mem::take(&mut state.threads[worker]);
        if state.closed {
            drop(state);
            if let Turn::Preempted(job) | Turn::Waits(job) = turn {
                job.end(Ending::ShutDown);
            }
            return None;
        }
        match turn {
            Turn::Ended => {}
            Turn::Waits(job) if !job.control().is_woken() => self.put_aside(&mut state, job),
            Turn::Preempted(job) | Turn::Waits(job) => state.queue.push_back(job),
        }
        loop {
            if state.closed {
                return None;
            }
            let late = state.waiting.take_late();
            if let Some(job) = late.or_else(|| state.queue.pop_front()) {
                // Its future is polled after this, so whoever has woken it before need not be heard.
                job.control().set_woken(false);
                state.threads[worker] = Worker::Has(job.control().clone());
                return Some(job);
            }
            let until = state.waiting.first_deadline();
            state.threads[worker] = Worker::Sleeps(until);
            state = match until {
                None => {
                    let waited = self.work.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
                Some(until) => {
                    let len = until.saturating_duration_since(Instant::now());
                    let waited = self.work.wait_timeout(state, len);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.threads[worker] = Worker::Looks;
        }
    }

    /// Has a guest wait until it is woken or its deadline comes.
    fn put_aside(&self, state: &mut State, job: Job) {
        let deadline = job.deadline();
        state.waiting.insert(job);
        let sleeps_longer = |thread: &Worker| match (thread, deadline) {
            (Worker::Sleeps(None), Some(_)) => true,
            (Worker::Sleeps(Some(until)), Some(deadline)) => *until > deadline,
            _ => false,
        };
        // This thread may find other guests to run: whichever sleeps then must not sleep too long. All of them are told,
        // since the one that is woken first may be given something else to do.
        if state.threads.iter().any(sleeps_longer) {
            self.work.notify_all();
        }
    }

    /// The guest of a control is to have a turn: something has happened to the future that it waits for, or somebody
    /// wants its end. May be called at any time, and does nothing for one that has ended.
    fn wake(&self, control: &Control) {
        let mut state = self.lock();
        control.set_woken(true);
        // It may be in the queue, or with a thread, which looks at what was just set.
        let Some(job) = state.waiting.take(control) else {
            return;
        };
        if control.is_stopped() {
            state.queue.push_front(job);
        } else {
            state.queue.push_back(job);
        }
        let one_sleeps = state
            .threads
            .iter()
            .any(|thread| matches!(thread, Worker::Sleeps(_)));
        drop(state);
        if one_sleeps {
            self.work.notify_one();
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let queue = mem::take(&mut state.queue);
        let waiting = mem::take(&mut state.waiting);
        let running = |thread: &Worker| match thread {
            Worker::Has(control) => Some(control.clone()),
            Worker::Looks | Worker::Sleeps(_) => None,
        };
        let running: Vec<_> = state.threads.iter().filter_map(running).collect();
        drop(state);
        self.shared.work.notify_all();
        for control in running {
            control.stop(Stop::ShutDown);
        }
        for job in queue.into_iter().chain(waiting.into_jobs()) {
            job.end(Ending::ShutDown);
        }
        for worker in self.workers.drain(..) {
            // A guest's host function may have had the last handle: its thread can't wait for itself.
            if worker.thread().id() != thread::current().id() {
                let ended = worker.join();
                debug_assert!(ended.is_ok(), "panics of host functions are caught");
            }
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler")
            .field("threads", &self.workers.len())
            .field("slice", &self.shared.slice)
            .field("queued", &self.queued())
            .field("waiting", &self.waiting())
            .finish()
    }
}
