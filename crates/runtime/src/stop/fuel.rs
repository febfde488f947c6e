//! Budgets of fuel: what a guest was given, what it has left, what it has consumed.
//!
//! The count that generated code keeps is negative while fuel is left and is counted up
//! (`VMRuntimeLimits::fuel_consumed`). What was given at last stands here, so that
//!
//! ```text
//!   left     = -count, or 0 once the count has passed it
//!   consumed = consumed before the last giving + given + count
//! ```
//!
//! What a unit is, and where the count is looked at, is the compiler's affair (`func/meter.rs` there).

use std::cell::Cell;

use selvedge_artifact::traps::TrapCode;

use crate::error::Error;
use crate::host::error::HostError;
use crate::host::vmctx::Vmctx;
use crate::instance::Instance;
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::value::{RunResult, Val};
use crate::vm::activation::Ending;

/// The most that can be given at once; at a unit a nanosecond it lasts 292 years.
const MOST: i64 = i64::MAX;

/// What a store's guest was given.
#[derive(Debug)]
pub(crate) struct Account {
    given: Cell<i64>,
    consumed_before: Cell<u64>,
}

impl Account {
    /// The account of a guest that nobody limits, and the count to begin with.
    pub(crate) fn unlimited() -> (Self, i64) {
        let account = Self {
            given: Cell::new(MOST),
            consumed_before: Cell::new(0),
        };
        (account, -MOST)
    }
}

impl Store {
    /// Whether the guests of this store count fuel.
    pub(crate) fn counts_fuel(&self) -> bool {
        self.engine.tunables().counts_fuel()
    }

    /// Units that the pinned register left out where the guest trapped.
    pub(crate) fn uncounted_fuel(&self, ending: Ending, pc: usize) -> i64 {
        let code = match ending {
            Ending::Trap(code) => Some(code),
            Ending::Terminate(code) => code,
            Ending::Fatal(_) => None,
        };
        if code == Some(TrapCode::OutOfFuel) {
            // The count is looked at right behind an addition.
            return 0;
        }
        let mut modules = self.members.iter().map(|member| member.module());
        modules
            .find_map(|module| module.fuel_value(pc))
            .map_or(0, i64::from)
    }

    /// Where a guest goes on that found no fuel at a check.
    pub(crate) fn behind_check(&self, pc: usize) -> Option<usize> {
        let mut modules = self.members.iter().map(|member| member.module());
        modules.find_map(|module| Some(module.text_addr(module.fuel_value(pc)?)))
    }

    fn fuel_left(&self) -> u64 {
        self.limits.fuel().min(0).unsigned_abs()
    }

    fn fuel_consumed(&self) -> u64 {
        // The count never passes zero by more than a range can cost, far from overflow.
        let since = self.fuel.given.get().wrapping_add(self.limits.fuel());
        self.fuel
            .consumed_before
            .get()
            .wrapping_add(since.cast_unsigned())
    }

    fn give_fuel(&self, units: u64) {
        let given = i64::try_from(units).unwrap_or(MOST);
        self.fuel.consumed_before.set(self.fuel_consumed());
        self.fuel.given.set(given);
        self.limits.set_fuel(-given);
    }

    fn set_fuel_consumed(&self, units: u64) {
        let since = self
            .fuel_consumed()
            .wrapping_sub(self.fuel.consumed_before.get());
        self.fuel.consumed_before.set(units.wrapping_sub(since));
    }
}

impl Instance {
    /// Units of fuel that the guest has left; `None` if its code does not count them. A guest that was
    /// given none by [`Instance::set_fuel`] has more than it can ever use.
    ///
    /// The number is exact whenever the guest does not run: after it returned, trapped, while it waits for
    /// a host function, and when it is suspended for want of fuel. Of a guest that was stopped between any two
    /// instructions, the straight code that it stood in may not be counted: that is a guest that was preempted, of
    /// which all is counted when it goes on and ends, and one that a kill switch or an epoch deadline has ended.
    pub fn fuel(&self) -> Option<u64> {
        self.store.counts_fuel().then(|| self.store.fuel_left())
    }

    /// Sets how many units of fuel the guest has left. When they are used up, it traps with
    /// [`TrapCode::OutOfFuel`] at its next call or branch back. Of more than `i64::MAX` units the rest is lost.
    ///
    /// # Errors
    ///
    /// [`Error::FuelNotCounted`].
    pub fn set_fuel(&mut self, units: u64) -> Result<(), Error> {
        if !self.store.counts_fuel() {
            return Err(Error::FuelNotCounted);
        }
        self.store.give_fuel(units);
        Ok(())
    }

    /// Gives the guest more fuel beside what it has left; what it has then.
    ///
    /// # Errors
    ///
    /// As [`Instance::set_fuel`].
    pub fn add_fuel(&mut self, units: u64) -> Result<u64, Error> {
        self.set_fuel(self.store.fuel_left().saturating_add(units))?;
        Ok(self.store.fuel_left())
    }

    /// Says what becomes of a guest that has no fuel left at its next call or branch back: if `suspend`, it is
    /// suspended ([`RunResult::OutOfFuel`]), and goes on with [`Instance::resume`] once it has been given more; what an
    /// instance begins with is that it traps. Where a host function waits for the guest, it traps in either case.
    ///
    /// # Errors
    ///
    /// [`Error::FuelNotCounted`]; [`Error::Unsupported`] where guests can't be suspended, see
    /// [`Engine::preemption`](crate::Engine::preemption).
    pub fn set_suspend_on_out_of_fuel(&mut self, suspend: bool) -> Result<(), Error> {
        if !self.store.counts_fuel() {
            return Err(Error::FuelNotCounted);
        }
        if suspend {
            self.store.make_preemptible()?;
        }
        self.store.waits_for_fuel.set(suspend);
        Ok(())
    }

    /// Runs an exported function with so many units of fuel, no more and no less: if they are used up, the guest is
    /// suspended ([`RunResult::OutOfFuel`]), and goes on with [`Instance::resume_bounded`], or with
    /// [`Instance::resume`] after it was given more. From then on the instance is one that is suspended when it has
    /// no fuel left.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`] and [`Instance::set_suspend_on_out_of_fuel`].
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn run_bounded(
        &mut self,
        units: u64,
        entrypoint: &str,
        args: &[Val],
    ) -> Result<RunResult, Error> {
        self.set_suspend_on_out_of_fuel(true)?;
        self.set_fuel(units)?;
        self.run(entrypoint, args)
    }

    /// Lets a suspended guest go on with so many units of fuel, as [`Instance::run_bounded`].
    ///
    /// # Errors
    ///
    /// As [`Instance::resume`] and [`Instance::set_suspend_on_out_of_fuel`].
    ///
    /// # Panics
    ///
    /// As [`Instance::run`].
    pub fn resume_bounded(&mut self, units: u64) -> Result<RunResult, Error> {
        self.set_suspend_on_out_of_fuel(true)?;
        self.set_fuel(units)?;
        self.resume()
    }

    /// Whether the guest is suspended because it has no fuel left.
    pub fn is_out_of_fuel(&self) -> bool {
        self.store.state.get() == State::Preempted && self.store.is_out_of_fuel.get()
    }

    /// Units of fuel that the guest has consumed since it was made, or since
    /// [`Instance::set_instruction_count`]; `None` if its code does not count them. As long as every
    /// instruction costs one unit, that is the number of instructions.
    pub fn get_instruction_count(&self) -> Option<u64> {
        self.store.counts_fuel().then(|| self.store.fuel_consumed())
    }

    /// Sets the number that [`Instance::get_instruction_count`] gives and counts on from. What is left of the
    /// fuel stays as it is.
    ///
    /// # Errors
    ///
    /// [`Error::FuelNotCounted`].
    pub fn set_instruction_count(&mut self, units: u64) -> Result<(), Error> {
        if !self.store.counts_fuel() {
            return Err(Error::FuelNotCounted);
        }
        self.store.set_fuel_consumed(units);
        Ok(())
    }
}

impl Vmctx<'_> {
    /// Units of fuel that the guest has left; `None` if its code does not count them.
    pub fn fuel(&self) -> Option<u64> {
        let store = self.store();
        store.counts_fuel().then(|| store.fuel_left())
    }

    /// Charges the guest for what a host function does for it; what it has left then. A guest whose code does
    /// not count fuel is charged nothing and has `u64::MAX` left.
    ///
    /// # Errors
    ///
    /// A trap with [`TrapCode::OutOfFuel`] if it has less left; that is gone then.
    pub fn consume_fuel(&self, units: u64) -> Result<u64, HostError> {
        let store = self.store();
        if !store.counts_fuel() {
            return Ok(u64::MAX);
        }
        let left = store.fuel_left();
        // Not more than is left: what was not done is not counted as consumed.
        let taken = units.min(left);
        store
            .limits
            .set_fuel(store.limits.fuel() + taken.cast_signed());
        match left.checked_sub(units) {
            Some(left) => Ok(left),
            None => Err(HostError::Trap(TrapCode::OutOfFuel)),
        }
    }

    /// Gives the guest more fuel beside what it has left; what it has then. A guest whose code does not count
    /// fuel gets nothing and has `u64::MAX` left.
    pub fn add_fuel(&self, units: u64) -> u64 {
        let store = self.store();
        if !store.counts_fuel() {
            return u64::MAX;
        }
        store.give_fuel(store.fuel_left().saturating_add(units));
        store.fuel_left()
    }
}
