//! A function that the host may call: who, of what type, through which trampoline.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use selvedge_artifact::ids::FuncIdx;
use selvedge_artifact::types::FuncType;
use selvedge_artifact::vmfields::KIND_GUEST;

use super::activation::Outcome;
use super::context::{ArraySlot, VMFuncRef};
use super::enter::Entry;
use super::host_entry;
use crate::error::Error;
use crate::host::error::HostError;
use crate::instance::record::Record;
use crate::instance::store::Store;
use crate::traphandlers::resume_panic;

/// A function of a store, ready to be called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callee {
    store: u64,
    target: Target,
    slots: usize,
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
            return Some(Self::new(
                record,
                module.info().func_type(func),
                Target::Guest(entry),
            ));
        }
        Self::of_ref(record, record.import(func)?, module.info().func_type(func))
    }

    /// A function that a member holds a reference to.
    fn of_ref(record: &Record, func_ref: VMFuncRef, ty: &FuncType) -> Option<Self> {
        if func_ref.kind == KIND_GUEST {
            let owner = record.store().member_at(func_ref.ctx)?;
            return Self::of(owner, owner.module().func_at(func_ref.body)?);
        }
        Some(Self::new(
            record,
            ty,
            Target::Host(func_ref, record.position()),
        ))
    }

    fn new(record: &Record, ty: &FuncType, target: Target) -> Self {
        Self {
            store: record.store().id(),
            target,
            slots: ty.abi().array_slots(),
        }
    }

    /// Calls the function; `slots` hold the arguments, and after success the results.
    ///
    /// # Errors
    ///
    /// Why the function did not return; [`Error::ForeignReference`] for another store.
    #[inline]
    pub(crate) fn call(&self, store: &Store, slots: &mut [ArraySlot]) -> Result<(), Error> {
        if store.id() != self.store || slots.len() < self.slots {
            return Err(Error::ForeignReference);
        }
        match &self.target {
            // SAFETY: the entry is of a member of this store, and members never leave it; there are slots
            // for its signature, as just checked.
            Target::Guest(entry) => unsafe { entry.call(store, slots) },
            Target::Host(func_ref, position) => {
                let caller = &store.members[*position];
                // SAFETY: the function is of the host and imported by a member (I-11); slots as above.
                unsafe { host_entry::call_from_host(func_ref, caller, slots) };
                store
                    .take_outcome()
                    .map_or(Ok(()), |outcome| Err(failed(store, outcome)))
            }
        }
    }
}

/// The error of a host function that the host itself called.
#[cold]
fn failed(store: &Store, outcome: Outcome) -> Error {
    match outcome {
        Outcome::Panic(payload) => resume_panic(payload),
        Outcome::Trap(code, info) => store.fault(code, info, &[]),
        Outcome::Host(HostError::Trap(code)) => store.fault(code, None, &[]),
        Outcome::Host(HostError::Terminate(details)) => Error::RuntimeTerminated(details),
        Outcome::Host(HostError::Error(error)) => super::enter::host_error(error),
        Outcome::Host(HostError::Exception(exception)) => store.uncaught(*exception, &[]),
        Outcome::Exception(exn) => store.uncaught(store.exception_of(&exn), &[]),
    }
}
