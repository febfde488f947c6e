//! Suspending a guest from outside, where it stands, and slices of time.
//!
//! ```text
//!  PreemptSwitch::preempt, or the thread's timer --> signal --> vm/on_interrupt.rs: registers to Store::room
//!  Instance::run_for <--- Preempted <--- leave <--------------'
//!  Instance::resume ---> arch::capture::go_on ---> guest, at the same instruction
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::kill::{barrier, send};
use crate::error::Error;
use crate::fault::details::WasmBacktrace;
use crate::instance::Instance;
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::sys::interrupt;
use crate::value::{RunResult, Val};
use crate::vm::limits::LimitsCell;
use crate::vm::slice;

/// Suspends the guest of an instance from any thread, wherever it stands.
///
/// Whoever runs the guest gets [`RunResult::Preempted`], and [`Instance::resume`] lets it go on at the same
/// instruction, on any thread. A guest that waits for a host function is suspended when that returns. While a
/// guest runs that a host function called, it is not suspended: the host function's frames can't wait. It is
/// once the host function has returned.
#[derive(Clone)]
pub struct PreemptSwitch {
    limits: Arc<LimitsCell>,
}

impl PreemptSwitch {
    /// Has the guest suspended; whether it was running. Does not wait for it. Of several calls before it is, one
    /// counts, and if the guest ends or suspends itself first, it is not suspended once more for it.
    pub fn preempt(&self) -> bool {
        self.limits.words().preempt(barrier, send)
    }
}

impl fmt::Debug for PreemptSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreemptSwitch").finish_non_exhaustive()
    }
}

/// The shortest slice; what is shorter might be over before the guest is entered.
const SHORTEST: Duration = Duration::from_micros(100);

impl Store {
    /// Makes room for a guest that is suspended from outside, if it can be.
    pub(super) fn make_preemptible(&self) -> Result<(), Error> {
        crate::engine::preemption()?;
        self.room.ensure();
        Ok(())
    }
}

impl Instance {
    /// A switch that suspends the guest from any thread.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where guests can't be suspended, see [`Engine::preemption`](crate::Engine::preemption).
    pub fn preempt_switch(&mut self) -> Result<PreemptSwitch, Error> {
        self.store.make_preemptible()?;
        Ok(PreemptSwitch {
            limits: self.store.limits.clone(),
        })
    }

    /// Runs an exported function for a slice of time: if it has not ended then, the guest is suspended where it
    /// stands, and [`Instance::resume`] or [`Instance::resume_for`] lets it go on.
    ///
    /// Time is that of the clock, and includes host functions, which are not interrupted. A slice is cut a few
    /// microseconds late, and never early; the shortest is 100 microseconds.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`]; [`Error::Unsupported`] where guests can't be suspended; [`Error::System`] if there is
    /// no timer to be had.
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn run_for(
        &mut self,
        slice: Duration,
        entrypoint: &str,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        self.for_slice(slice, |instance| instance.run(entrypoint, args))
    }

    /// Lets a suspended guest go on for a slice of time, as [`Instance::run_for`].
    ///
    /// # Errors
    ///
    /// As [`Instance::resume`] and [`Instance::run_for`].
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn resume_for(&mut self, slice: Duration) -> Result<RunResult, Error> {
        self.for_slice(slice, Self::resume)
    }

    /// Does something for which the guest has a slice of time.
    pub(crate) fn for_slice<R>(
        &mut self,
        len: Duration,
        run: impl FnOnce(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.store.make_preemptible()?;
        let end = interrupt::now().saturating_add(interrupt::nanos(len.max(SHORTEST)));
        let limits = self.store.limits.clone();
        slice::scope(&limits, end, || run(self)).map_err(Error::system("set a timer"))?
    }

    /// Whether the guest was suspended from outside. Then it may be looked at, resumed, reset and dropped, and
    /// nothing else.
    pub fn is_preempted(&self) -> bool {
        self.store.state.get() == State::Preempted
    }

    /// Where a suspended guest stands; nothing if it is not suspended.
    pub fn backtrace(&self) -> WasmBacktrace {
        crate::vm::resume::backtrace(&self.store)
    }
}
