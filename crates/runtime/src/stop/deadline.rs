//! The epoch deadline of an instance, and what becomes of its guest then: it traps, is suspended, or a closure of the
//! embedder's says.
//!
//! ```text
//!  set_epoch_deadline --> stop/epochs.rs: the line --increment--> EPOCH, EXPIRED in the words of the guest
//!       ^                                                             | as for kills and preemption
//!       '-- Continue, Suspend <-- the closure <-- suspended <---------'-> trap
//! ```
//!
//! The guest is stopped like one that is preempted, so its code has nothing for it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use selvedge_artifact::traps::TrapCode;

use super::epochs::{Guest, NEVER, Wish};
use super::parking::WaitHook;
use super::words::Words;
use crate::error::Error;
use crate::host::vmctx::Vmctx;
use crate::instance::Instance;
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::value::Val;
use crate::vm::limits::LimitsCell;

/// What a closure wants of a guest that has reached its epoch deadline, see [`Instance::epoch_deadline_callback`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochDecision {
    /// It goes on at once, with a deadline so many epochs from now.
    Continue(u64),
    /// It stays suspended, and has a deadline so many epochs after it goes on: whoever runs it gets
    /// [`RunResult::Preempted`](crate::RunResult::Preempted), as at the end of a slice of time; futures and schedulers
    /// leave the thread to others, and let it go on when it is its turn.
    Suspend(u64),
    /// It traps with [`TrapCode::EpochDeadline`].
    Trap,
}

/// A closure of the embedder's, for guests that have reached their deadline.
type Callback = Box<dyn FnMut(&Instance) -> EpochDecision + Send>;

/// What becomes of the guest of a store at its epoch deadline.
pub(crate) struct Deadline {
    wish: Cell<Wish>,
    /// Not there while it runs.
    callback: Cell<Option<Callback>>,
    /// Whether that is why the guest is suspended.
    reached: Cell<bool>,
    /// How many epochs a suspended guest has from when it goes on, if it is so.
    on_resume: Cell<Option<u64>>,
}

impl Default for Deadline {
    fn default() -> Self {
        Self {
            wish: Cell::new(Wish::Trap),
            callback: Cell::new(None),
            reached: Cell::new(false),
            on_resume: Cell::new(None),
        }
    }
}

/// What the engine has of a guest with a deadline.
#[derive(Clone)]
pub(crate) struct Armed {
    limits: Arc<LimitsCell>,
    wait_hook: Arc<WaitHook>,
}

impl Guest for Armed {
    fn words(&self) -> Words<'_> {
        self.limits.words()
    }

    fn wake(&self) {
        // It may have another deadline by now, and wait for something else.
        let words = self.words();
        self.wait_hook
            .interrupt_if(|run| run == words.run() && words.is_to_end());
    }
}

impl Store {
    /// What becomes of the guest at its deadline, if anything was said about that.
    fn known_deadline(&self) -> Option<&Deadline> {
        self.known_extras().map(|extras| &extras.deadline)
    }

    /// Notes whether the guest is suspended for its deadline.
    pub(crate) fn set_deadline_reached(&self, reached: bool) {
        if reached {
            self.extras().deadline.reached.set(true);
        } else if let Some(deadline) = self.known_deadline() {
            deadline.reached.set(false);
        }
    }

    /// A guest that goes on has the deadline that it has.
    fn forget_on_resume(&self) {
        if let Some(deadline) = self.known_deadline() {
            deadline.on_resume.set(None);
        }
    }

    /// Sets the epoch at which the guest is to stop, and says so to the engine.
    fn arm(&self, deadline: u64) {
        let former = self.limits.epoch_deadline();
        self.limits.set_epoch_deadline(deadline);
        let number = Arc::as_ptr(&self.limits).addr();
        let wish = self
            .known_deadline()
            .map_or(Wish::Trap, |deadline| deadline.wish.get());
        let words = self.limits.words();
        let armed = || Armed {
            limits: self.limits.clone(),
            wait_hook: self.wait_hook().clone(),
        };
        let epochs = self.engine.epochs();
        epochs.set((former, number), deadline, wish, words, armed);
    }

    /// Takes the deadline back, if there is one.
    pub(crate) fn disarm(&self) {
        self.forget_on_resume();
        if self.limits.epoch_deadline() != NEVER {
            self.arm(NEVER);
        }
    }

    fn set_epoch_deadline(&self, ticks: u64) -> Result<(), Error> {
        self.make_preemptible()?;
        self.forget_on_resume();
        self.arm(self.engine.epochs().now().saturating_add(ticks));
        Ok(())
    }

    /// A suspended guest is about to go on.
    pub(crate) fn arm_on_resume(&self) -> Result<(), Error> {
        match self
            .known_deadline()
            .and_then(|deadline| deadline.on_resume.get())
        {
            Some(ticks) => self.set_epoch_deadline(ticks),
            None => Ok(()),
        }
    }

    fn epoch_deadline(&self) -> Option<u64> {
        Some(self.limits.epoch_deadline()).filter(|&at| at != NEVER)
    }

    fn set_wish(&self, wish: Wish, callback: Option<Callback>) {
        let own = &self.extras().deadline;
        own.wish.set(wish);
        own.callback.set(callback);
        if let Some(deadline) = self.epoch_deadline() {
            self.arm(deadline);
        }
    }
}

impl Instance {
    /// Sets the epoch of the engine at which the guest is to stop: so many after the one that is
    /// ([`Engine::epoch`](crate::Engine::epoch)). With 0 it is reached at once. Of a sum beyond `u64::MAX` the rest is
    /// lost, and that epoch never comes. An instance begins without a deadline, and runs as long as it likes.
    ///
    /// When [`Engine::increment_epoch`](crate::Engine::increment_epoch) reaches it the guest is interrupted, at whatever
    /// instruction it is, and traps, if nothing else was said ([`Instance::epoch_deadline_trap`],
    /// [`Instance::epoch_deadline_suspend`], [`Instance::epoch_deadline_callback`]). A host function is not interrupted:
    /// the deadline counts when it returns. If the guest does not run then, it counts when it runs or is resumed. It stays
    /// reached until another one is set; a [reset](Instance::reset) leaves it as it is.
    ///
    /// The deadline is that of the instance, for the code of all modules that are linked into it. Of guests that host
    /// functions of several instances call in turn, each has its own, and one that waits for a host function is stopped
    /// when that returns.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where guests can't be suspended, see [`Engine::preemption`](crate::Engine::preemption).
    pub fn set_epoch_deadline(&mut self, ticks_beyond_current: u64) -> Result<(), Error> {
        self.store.set_epoch_deadline(ticks_beyond_current)
    }

    /// Takes the epoch deadline back: the guest may run as long as it likes.
    pub fn clear_epoch_deadline(&mut self) {
        self.store.disarm();
    }

    /// The epoch at which the guest is to stop; `None` if there is none.
    pub fn epoch_deadline(&self) -> Option<u64> {
        self.store.epoch_deadline()
    }

    /// Has the guest trap with [`TrapCode::EpochDeadline`] when it reaches its epoch deadline, which is what an instance
    /// begins with. A guest that waits for a notification or in WASI is woken for it.
    ///
    /// Guest code is interrupted between any two instructions of the processor, so a bulk operation may be half done. As
    /// after every trap the instance can be run again, once it has a new deadline.
    pub fn epoch_deadline_trap(&mut self) {
        self.store.set_wish(Wish::Trap, None);
    }

    /// Has the guest suspended when it reaches its epoch deadline: whoever runs it gets
    /// [`RunResult::EpochReached`](crate::RunResult::EpochReached), and [`Instance::resume`] lets it go on once it has
    /// another deadline. Resumed without one, it goes no further and is suspended again. It may be looked at, resumed,
    /// reset and dropped, and nothing else, as one that is preempted.
    ///
    /// A guest that waits in a host function is suspended when that returns. One that a host function called is not
    /// suspended: the host function's frames can't wait. It is once the host function has returned.
    pub fn epoch_deadline_suspend(&mut self) {
        self.store.set_wish(Wish::Suspend, None);
    }

    /// Has a closure say what becomes of the guest when it reaches its epoch deadline. It is called on the thread that
    /// runs the guest, which is suspended meanwhile as by [`Instance::epoch_deadline_suspend`], and looks at it as at
    /// one that is preempted: its memories, globals, fuel and backtrace.
    ///
    /// If it panics, the panic goes on in whoever runs the guest, which stays suspended.
    pub fn epoch_deadline_callback(
        &mut self,
        callback: impl FnMut(&Self) -> EpochDecision + Send + 'static,
    ) {
        self.store.set_wish(Wish::Suspend, Some(Box::new(callback)));
    }

    /// Whether the guest is suspended because its epoch deadline is reached.
    pub fn is_epoch_reached(&self) -> bool {
        self.is_preempted()
            && !self.is_out_of_fuel()
            && self
                .store
                .known_deadline()
                .is_some_and(|deadline| deadline.reached.get())
    }

    /// What a call comes to, after all that a closure says at epoch deadlines.
    #[inline]
    pub(crate) fn past_epochs(&self, result: Result<Vec<Val>, Error>) -> Result<Vec<Val>, Error> {
        match result {
            Err(Error::InstancePreempted) => self.ask_at_epochs(),
            result => result,
        }
    }

    /// Asks the closure, if there is one, as long as it lets the guest go on.
    #[cold]
    fn ask_at_epochs(&self) -> Result<Vec<Val>, Error> {
        /// Puts the closure back, also if it panics.
        struct Asked<'a>(&'a Deadline, Option<Callback>);
        impl Drop for Asked<'_> {
            fn drop(&mut self) {
                self.0.callback.set(self.1.take());
            }
        }
        loop {
            if !self.is_epoch_reached() {
                return Err(Error::InstancePreempted);
            }
            let deadline = &self.store.extras().deadline;
            let mut asked = Asked(deadline, deadline.callback.take());
            let Some(callback) = &mut asked.1 else {
                return Err(Error::InstancePreempted);
            };
            let decision = callback(self);
            drop(asked);
            match decision {
                EpochDecision::Continue(ticks) => self.store.set_epoch_deadline(ticks)?,
                EpochDecision::Suspend(ticks) => {
                    self.store.disarm();
                    deadline.on_resume.set(Some(ticks));
                    deadline.reached.set(false);
                    return Err(Error::InstancePreempted);
                }
                EpochDecision::Trap => {
                    return Err(crate::vm::resume::trap(
                        &self.store,
                        TrapCode::EpochDeadline,
                    ));
                }
            }
            match crate::vm::resume::resume(&self.store, None) {
                Err(Error::InstancePreempted) if self.store.state.get() == State::Preempted => {}
                result => return result,
            }
        }
    }
}

impl Vmctx<'_> {
    /// Sets the epoch at which the guest is to stop, as [`Instance::set_epoch_deadline`]. With 0 that is when the host
    /// function returns.
    ///
    /// # Errors
    ///
    /// As [`Instance::set_epoch_deadline`].
    pub fn set_epoch_deadline(&self, ticks_beyond_current: u64) -> Result<(), Error> {
        self.store().set_epoch_deadline(ticks_beyond_current)
    }

    /// The epoch at which the guest is to stop; `None` if there is none.
    pub fn epoch_deadline(&self) -> Option<u64> {
        self.store().epoch_deadline()
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline")
            .field("wish", &self.wish)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armed").finish_non_exhaustive()
    }
}
