//! Growth of memories and tables: who is asked, and what a failure is.
//!
//! Every growth passes here: by the guest, by a host function, by the embedder. The order is: the module's own
//! maximum, the limits of the instance, the budget over all its memories and tables, its limiter, the system. Limiters
//! that take their time are in `permission`.

use selvedge_artifact::ids::{MemoryIdx, TableIdx};

use crate::error::{Error, OWN_MAXIMUM};
use crate::host::error::{HostError, TerminationDetails};
use crate::instance::memory::OwnMemory;
use crate::instance::permission::{AnyLimiter, Grown, Permission, Verdict};
use crate::instance::record::Record;
use crate::instance::store::Store;
use crate::region::limits::table_len;
use crate::vm::activation::Outcome;
use crate::vm::enter::host_error;

/// Decides for one instance whether its memories and tables may grow, within its limits; see
/// [`InstanceBuilder::with_limiter`](crate::InstanceBuilder::with_limiter).
///
/// It is asked when the guest or a host function wants more, not when the embedder does, and not for growth by
/// nothing. A panic in it is taken like one of a host function. It has no way into the guest that asks.
pub trait Limiter: Send {
    /// Whether a growth that the limits allow may happen.
    fn growing(&mut self, growth: &Growth) -> bool;

    /// A growth failed: it was refused, a limit stands against it, or the system has no memory.
    fn growth_failed(&mut self, growth: &Growth, error: &Error) {
        let _ = (growth, error);
    }
}

/// A growth that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Growth {
    /// What is to grow.
    pub what: Growing,
    /// Bytes of the memory, or elements of the table, that there are.
    pub current: u64,
    /// How many there are to be; `u64::MAX` if that is more than can be counted.
    pub desired: u64,
    /// How many the module allows, if it says.
    pub maximum: Option<u64>,
}

/// What can grow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Growing {
    /// A memory; counted in bytes.
    Memory,
    /// A table; counted in elements.
    Table,
}

/// On whose behalf something grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// The guest: the limiter is asked.
    Guest,
    /// A host function that the guest called: the limiter is asked if it answers at once.
    HostFunction,
    /// The guest, whose limiter has said yes to this by now.
    Allowed(Growth),
    /// The guest, whose limiter has said no by now.
    Refused,
    /// The embedder, who has set the limiter.
    Embedder,
}

impl Store {
    /// Bytes that all memories and tables have.
    pub(crate) fn memory_total(&self) -> u64 {
        let records = self.members.iter();
        let lens = records.flat_map(|record| {
            let memories = record.own_memories().iter();
            let tables = record.own_tables().iter();
            let memories = memories.map(OwnMemory::len);
            memories.chain(tables.map(|table| table_len(table.len())))
        });
        lens.fold(0, u64::saturating_add)
    }

    /// Asks everybody who has a say about a growth beyond the limit of one memory or table. The limiter's answer, if
    /// there is none yet.
    fn check_growth(&self, growth: &Growth, asker: Asker) -> Result<Option<Permission>, Error> {
        let more = growth.desired - growth.current;
        let (more, name) = match growth.what {
            Growing::Memory => (more, "a memory"),
            Growing::Table => (table_len(more), "a table"),
        };
        let total = self.memory_total().saturating_add(more);
        self.region_limits.check_total(total)?;
        let refused = Error::GrowthRefused(name);
        match asker {
            Asker::Embedder => return Ok(None),
            Asker::Allowed(allowed) if growth.desired <= allowed.desired => return Ok(None),
            Asker::Refused => return Err(refused),
            Asker::Guest | Asker::HostFunction | Asker::Allowed(_) => {}
        }
        let Some(extras) = self.known_extras() else {
            return Ok(None);
        };
        // A limiter that is busy is asked from within itself.
        let Ok(mut limiter) = extras.limiter.try_borrow_mut() else {
            return Err(refused);
        };
        let Some(limiter) = &mut *limiter else {
            return Ok(None);
        };
        if matches!(limiter, AnyLimiter::Async(_)) {
            self.check_awaited(name, asker)?;
        }
        match limiter.growing(growth) {
            Verdict::Allowed => Ok(None),
            Verdict::Refused => Err(refused),
            Verdict::Later(permission) => Ok(Some(permission)),
        }
    }

    /// Checks that the guest can wait for its limiter.
    fn check_awaited(&self, name: &'static str, asker: Asker) -> Result<(), Error> {
        if asker == Asker::HostFunction || !self.is_awaited.get() {
            return Err(Error::AsyncRequired(name));
        }
        self.check_suspendable().map_err(|error| match error {
            HostError::Error(error) => host_error(error),
            _ => Error::AsyncRequired(name),
        })
    }

    /// Tells the limiter of a failure.
    fn tell_failure(&self, growth: &Growth, asker: Asker, error: &Error) {
        if asker != Asker::Embedder
            && let Some(extras) = self.known_extras()
            && let Ok(mut limiter) = extras.limiter.try_borrow_mut()
            && let Some(limiter) = &mut *limiter
        {
            limiter.growth_failed(growth, error);
        }
    }

    /// What a growth by the guest gives it: the former size, or -1, or its end if the embedder wants that.
    pub(crate) fn growth_result(&self, result: Result<u64, Error>) -> u64 {
        const FAILED: u64 = u64::MAX;
        result.unwrap_or_else(|error| {
            if self.ends_on_growth_failure.get() {
                let details = TerminationDetails::GrowthFailed(error.to_string());
                self.raise(Outcome::Host(HostError::Terminate(details)));
            }
            FAILED
        })
    }
}

impl Growth {
    /// Checks the maximum and the limit of the one memory or table.
    fn check_one(
        &self,
        max: u64,
        limit: u64,
        what: &'static str,
        knob: &'static str,
    ) -> Result<(), Error> {
        let (given, knob) = if self.desired > max {
            (max, OWN_MAXIMUM)
        } else {
            (limit, knob)
        };
        if self.desired <= given {
            return Ok(());
        }
        Err(Error::LimitsExceeded {
            what,
            needed: self.desired,
            given,
            knob,
        })
    }
}

impl Record {
    /// Grows a memory by pages; the former count.
    pub(crate) fn grow_memory(
        &self,
        memory: MemoryIdx,
        delta: u64,
        asker: Asker,
    ) -> Result<Grown, Error> {
        let no_memory = Error::InvalidArgument("the module has no such memory");
        let (owner, memory) = self.find_memory(memory).ok_or(no_memory)?;
        let (old, ty) = (memory.pages(), memory.ty());
        if delta == 0 {
            return Ok(Grown::From(old));
        }
        let store = self.store();
        let growth = Growth {
            what: Growing::Memory,
            current: memory.len(),
            desired: old.saturating_add(delta).saturating_mul(ty.page_len()),
            maximum: ty.max.map(|max| max.saturating_mul(ty.page_len())),
        };
        let grow = || {
            let (limit, knob) = store.region_limits.memory_limit(ty);
            growth.check_one(ty.max_len(), limit, "bytes of memory", knob)?;
            if let Some(permission) = store.check_growth(&growth, asker)? {
                return Ok(Grown::Asks(growth, permission));
            }
            let grown = match memory.shared() {
                // Others may have grown it meanwhile.
                Some(shared) => shared.grow(delta),
                None => owner.grow_own_memory(memory, growth.desired).map(|()| old),
            };
            grown.map(Grown::From)
        };
        let result = grow();
        if let Err(error) = &result {
            store.tell_failure(&growth, asker, error);
        }
        result
    }

    /// Grows a table by elements for the guest; the former count.
    pub(crate) fn grow_table(
        &self,
        table: TableIdx,
        delta: u64,
        init: u64,
        asker: Asker,
    ) -> Result<Grown, Error> {
        self.with_table(table, |owner, table| {
            let old = table.len();
            if delta == 0 {
                return Ok(Grown::From(old));
            }
            let store = self.store();
            let growth = Growth {
                what: Growing::Table,
                current: old,
                desired: old.saturating_add(delta),
                maximum: table.ty.max,
            };
            let grow = || {
                let limit = store.region_limits.table_elements;
                let max = table.max_elements();
                growth.check_one(max, limit, "table elements", "table_elements")?;
                if let Some(permission) = store.check_growth(&growth, asker)? {
                    return Ok(Grown::Asks(growth, permission));
                }
                let entry = owner.raw_to_entry(table, init);
                table.grow(owner.context(), owner.vmctx(), delta, entry)?;
                Ok(Grown::From(old))
            };
            let result = grow();
            if let Err(error) = &result {
                store.tell_failure(&growth, asker, error);
            }
            result
        })
    }
}
