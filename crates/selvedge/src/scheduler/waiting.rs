//! The guests of a scheduler that wait for futures: found by who wakes them, and by their deadlines.
//!
//! All of it is under the lock of the queue, so there is no state machine between wakers and threads: a guest is in
//! the queue, with a thread, or here. Who wakes one that is with a thread leaves a note ([`Control`]), which the thread
//! finds when it would put the guest here.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::task::{Control, Job};

/// Guests that wait.
#[derive(Default)]
pub(super) struct Waiting {
    /// By the address of their controls, which they have for as long as they are here.
    jobs: HashMap<usize, Job>,
    /// Those that have a deadline.
    deadlines: BTreeSet<(Instant, usize)>,
}

fn number(control: &Control) -> usize {
    std::ptr::from_ref(control).addr()
}

impl Waiting {
    /// Puts a guest here.
    pub(super) fn insert(&mut self, job: Job) {
        let number = number(job.control());
        if let Some(deadline) = job.deadline() {
            self.deadlines.insert((deadline, number));
        }
        self.jobs.insert(number, job);
    }

    /// Takes the guest of a control, if it is here.
    pub(super) fn take(&mut self, control: &Control) -> Option<Job> {
        let job = self.jobs.remove(&number(control))?;
        if let Some(deadline) = job.deadline() {
            self.deadlines.remove(&(deadline, number(control)));
        }
        Some(job)
    }

    /// Takes a guest whose deadline is over.
    pub(super) fn take_late(&mut self) -> Option<Job> {
        let &(deadline, number) = self.deadlines.first()?;
        if deadline > Instant::now() {
            return None;
        }
        self.deadlines.pop_first();
        self.jobs.remove(&number)
    }

    /// The deadline that comes first.
    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// All of them.
    pub(super) fn into_jobs(self) -> impl Iterator<Item = Job> {
        self.jobs.into_values()
    }
}
