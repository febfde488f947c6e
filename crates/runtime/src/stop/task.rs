//! Who polls the run of a guest that waits for a future, and how a kill wakes that task.
//!
//! ```text
//!   poll:  register my waker; is the end wanted? then end the guest, else Pending
//!   kill:  say that the end is wanted; take the waker; wake
//! ```
//!
//! Whoever wants the end says so before it takes the waker, and the task looks after it has left its waker there: so
//! one of them sees the other. A waker that is called once too often does no harm; one that is kept too long
//! would keep a task alive, so it is taken away when the wait is over.

use std::sync::PoisonError;
use std::task::Waker;

use super::parking::Interruptible;
use crate::instance::store::Store;
use crate::primitive::{Mutex, MutexGuard};

/// The task that waits with a guest, if one does.
#[derive(Debug, Default)]
pub(crate) struct Task(Mutex<Option<Waker>>);

impl Task {
    // Wakers are the executor's code: none is cloned, called or dropped under the lock.

    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes this task from now on, and no other.
    fn register(&self, waker: &Waker) {
        let waker = waker.clone();
        let former = self.lock().replace(waker);
        drop(former);
    }

    /// Wakes nobody any more.
    pub(crate) fn forget(&self) {
        let former = self.lock().take();
        drop(former);
    }

    /// Wakes the task. It is woken once, until it registers again.
    pub(super) fn wake(&self) {
        let waker = self.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Store {
    /// Has a task woken when somebody wants the end of the run, as [`Interruptible::wakes`].
    pub(crate) fn wakes(&self, waker: &Waker) -> bool {
        self.suspension.set_task_known(true);
        self.interruptible().wakes(waker)
    }

    /// Has no task woken any more: the guest does not wait, or not for that task.
    pub(crate) fn forget_task(&self) {
        if self.suspension.set_task_known(false)
            && let Some(hook) = self.known_wait_hook()
        {
            hook.task().forget();
        }
    }
}

impl Interruptible<'_> {
    /// Has a task woken when somebody wants the end of the run; whether somebody does already, and it may not be
    /// woken for that.
    fn wakes(&self, waker: &Waker) -> bool {
        self.hook.task().register(waker);
        self.words.is_to_end()
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models;
