//! Many guests on a few threads: each runs for a slice of time, and then the next has its turn.
//!
//! ```text
//!  spawn --> queue --> a worker: run_for, resume_for --> returned, failed, deadline, ... --> Ticket::wait
//!              ^                  |
//!              '--- preempted <---'
//! ```
//!
//! What a task is, and what becomes of it, is in `scheduler/task.rs`.

mod task;

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use selvedge_runtime::{Engine, Error};

pub use task::{Canceller, Ending, Outcome, Task, Ticket};
use task::{Control, Job, Stop};

/// Runs any number of guests on a few threads of its own, in turn, so that none keeps the others from running.
///
/// Guests wait in one queue. A thread takes the first, lets it run for a slice of time, and puts it at the end of the
/// queue if it has not ended by then: between two slices of a guest every other one that waits has one. Guests need
/// no code for that, and an endless loop is no danger to the others; give it a deadline ([`Task::with_deadline`]) or
/// [cancel](Ticket::cancel) it.
///
/// A slice is a time of the clock, as for [`Instance::run_for`](crate::Instance::run_for); host functions are not
/// interrupted, and one that waits holds its thread. Threads without a guest sleep, and no lock is held while a guest
/// runs. A panic of a host function ends its guest and nothing else.
///
/// Dropping the scheduler ends its guests, queued and running, with [`Ending::ShutDown`], and waits for its threads,
/// and so for host functions that are being called.
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
    /// Whose job each thread has.
    running: Vec<Option<Arc<Control>>>,
    closed: bool,
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
                    running: Vec::new(),
                    closed: false,
                }),
                work: Condvar::new(),
                slice,
            }),
            workers: Vec::new(),
        };
        for worker in 0..threads {
            scheduler.shared.lock().running.push(None);
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
        let (job, ticket) = task.accept();
        self.shared.lock().queue.push_back(job);
        self.shared.work.notify_one();
        ticket
    }

    /// Guests that wait for their turn, without those that run now. It may have changed when the caller looks.
    pub fn queued(&self) -> usize {
        self.shared.lock().queue.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock, and nothing of the embedder's is dropped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self, worker: usize) {
        let mut unfinished = None;
        while let Some(job) = self.next(worker, unfinished.take()) {
            unfinished = job.run(self.slice);
        }
    }

    /// Puts back what a thread could not finish and waits for what it is to do next; nothing when it is over.
    ///
    /// Both are done under one lock, so that the queue is never longer afterwards than it was before, and nobody
    /// needs to be woken for it.
    fn next(&self, worker: usize, unfinished: Option<Job>) -> Option<Job> {
        let mut state = self.lock();
        state.running[worker] = None;
        if state.closed {
            drop(state);
            if let Some(job) = unfinished {
                job.end(Ending::ShutDown);
            }
            return None;
        }
        state.queue.extend(unfinished);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                state.running[worker] = Some(job.control());
                return Some(job);
            }
            let waited = self.work.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let queue = mem::take(&mut state.queue);
        let running: Vec<_> = state.running.iter().flatten().cloned().collect();
        drop(state);
        self.shared.work.notify_all();
        for control in running {
            control.stop(Stop::ShutDown);
        }
        for job in queue {
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
            .finish()
    }
}
