//! A function that the host may call: who, of what type, through which trampoline.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use selvedge_artifact::ids::FuncIdx;
use selvedge_artifact::types::ValType;
use selvedge_artifact::vmfields::KIND_GUEST;

use super::activation::Outcome;
use super::context::{ArraySlot, VMFuncRef};
use super::enter::{Entry, Stopped, ended, over};
use super::host_entry;
use crate::error::Error;
use crate::host::error::{HostError, PanicPayload, TerminationDetails};
use crate::instance::record::Record;
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::sys::thread;

/// A function of a store, ready to be called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callee {
    store: u64,
    target: Target,
    slots: usize,
    /// Where its type stands: position of a member, and index there.
    named: (usize, FuncIdx),
}

#[derive(Clone, Copy, Debug)]
enum Target {
    /// Code of a member.
    Guest(Entry),
    /// A host function that a member imports and exports again; the member's position.
    Host(VMFuncRef, usize),
}

impl Callee {
    /// A function of a member.
    pub(crate) fn of(record: &Record, func: FuncIdx) -> Option<Self> {
        let module = record.module();
        if let Some(defined) = module.info().defined_func(func) {
            let trampoline = module.code_addr(module.trampolines(func).host_to_guest);
            // SAFETY: the function and the trampoline of its signature are of the member's own module.
            let entry =
                unsafe { Entry::new(record.vmctx(), trampoline, module.func_addr(defined)) };
            return Some(Self::new(record, func, Target::Guest(entry)));
        }
        Self::of_ref(record, record.import(func)?, func)
    }

    /// A function that a member imports.
    fn of_ref(record: &Record, func_ref: VMFuncRef, func: FuncIdx) -> Option<Self> {
        if func_ref.kind == KIND_GUEST {
            let owner = record.store().member_at(func_ref.ctx)?;
            return Self::of(owner, owner.module().func_at(func_ref.body)?);
        }
        let target = Target::Host(func_ref, record.position());
        Some(Self::new(record, func, target))
    }

    fn new(record: &Record, func: FuncIdx, target: Target) -> Self {
        let ty = record.module().info().func_type(func);
        Self {
            store: record.store().id(),
            target,
            slots: ty.array_slots(),
            named: (record.position(), func),
        }
    }

    /// Slots that it needs.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Calls the function. `store_args` puts the arguments into `count` slots, `load_results` takes the
    /// results out of them.
    ///
    /// # Errors
    ///
    /// Why the function did not return; [`Error::ForeignReference`] for another store.
    #[inline]
    pub(crate) fn call<R>(
        &self,
        store: &Store,
        count: usize,
        store_args: impl FnOnce(&mut [ArraySlot]),
        load_results: impl FnOnce(&[ArraySlot]) -> R,
    ) -> Result<R, Stopped> {
        if store.id() != self.store || count < self.slots {
            return Err(Error::ForeignReference.into());
        }
        match &self.target {
            Target::Guest(entry) => {
                // SAFETY: the entry is of a member of this store, and members never leave it; there are
                // slots for its signature, as just checked.
                let result = unsafe { entry.call(store, count, store_args, load_results) };
                match result {
                    Ok(results) => Ok(results),
                    Err(stopped) => Err(self.not_returned(store, stopped)),
                }
            }
            Target::Host(func_ref, position) => {
                let mut slots = vec![ArraySlot::default(); count];
                store_args(&mut slots);
                let caller = &store.members[*position];
                let depth = store.depth.get();
                if depth > 0 {
                    // It is called by a host function, and not by the guest: it can't suspend that.
                    store.depth.set(depth + 1);
                }
                let outermost = depth == 0 && !store.under_host.replace(true);
                let words = store.limits.words();
                if outermost {
                    words.begin(thread::os_id());
                }
                let mut result = if outermost && words.is_wanted() {
                    Err(ended(store))
                } else {
                    // SAFETY: the function is of the host and imported by a member (I-11); slots as above.
                    unsafe { host_entry::call_from_host(func_ref, caller, &mut slots) };
                    match store.take_outcome() {
                        None => Ok(load_results(&slots)),
                        Some(outcome) => Err(failed(store, outcome, outermost)),
                    }
                };
                store.depth.set(depth);
                if outermost {
                    over(store, &mut result);
                    store.under_host.set(false);
                    // Whatever became of guests that it called.
                    let state = result
                        .as_ref()
                        .map_or_else(Stopped::state, |_| State::Ready);
                    store.state.set(state);
                }
                result
            }
        }
    }

    /// Notes that it is this function that has been suspended, if it has.
    #[cold]
    fn not_returned(&self, store: &Store, stopped: Stopped) -> Stopped {
        if stopped.keeps_stack()
            && let Some(mut parked) = store.parked.take()
        {
            parked.set_called(self.named);
            store.parked.set(Some(parked));
        }
        stopped
    }
}

/// Types of the results of a function, which is named by its member's position and its index there.
pub(super) fn results_of(store: &Store, (position, func): (usize, FuncIdx)) -> &[ValType] {
    let module = store.members[position].module();
    &module.info().func_type(func).results
}

/// What becomes of a host function that the host itself called and that has not returned.
#[cold]
fn failed(store: &Store, outcome: Outcome, outermost: bool) -> Stopped {
    Stopped::from(match outcome {
        Outcome::Panic(payload) if outermost && store.catch_panics.get() => {
            let details = TerminationDetails::OtherPanic(PanicPayload::new(payload));
            Error::RuntimeTerminated(details)
        }
        Outcome::Panic(payload) => return Stopped::Panic(payload),
        Outcome::Trap(code, info) => store.fault(code, info, &[]),
        Outcome::Host(HostError::Trap(code)) => store.fault(code, None, &[]),
        Outcome::Host(HostError::Terminate(details)) => Error::RuntimeTerminated(details),
        Outcome::Host(HostError::Error(error)) => super::enter::host_error(error),
        Outcome::Host(HostError::Exception(exception)) => store.uncaught(*exception, &[]),
        Outcome::Exception(exn) => store.uncaught(store.exception_of(&exn), &[]),
    })
}
