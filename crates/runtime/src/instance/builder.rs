//! Options of one instance.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;

use crate::error::Error;
use crate::instance::Instance;
use crate::instance::growth::Limiter;
use crate::instance::handle::InstanceHandle;
use crate::instance::imports::{ImportedMemory, Others, Resolved};
use crate::instance::memory::OwnMemory;
use crate::instance::permission::{AnyLimiter, AsyncLimiter};
use crate::instance::record::Record;
use crate::instance::state::State;
use crate::instance::store::{EmbedCtxs, Store};
use crate::program::Program;
use crate::region::alloc::AllocStrategy;
use crate::region::limits::Limits;
use crate::region::slot::Slot;
use crate::region::{Region, Taken};
use crate::vm::store_ptr::{LiveStore, StoreBox};

/// Makes an instance with options; see [`Region::instance_builder`].
pub struct InstanceBuilder<'a> {
    region: &'a Region,
    program: &'a Program,
    embed: EmbedCtxs,
    limits: Option<Limits>,
    limiter: Option<AnyLimiter>,
    ends_on_growth_failure: bool,
    starts_itself: bool,
    fuel: Option<u64>,
    ticks: Option<u64>,
    alloc: AllocStrategy,
}

impl<'a> InstanceBuilder<'a> {
    pub(crate) fn new(region: &'a Region, program: &'a Program) -> Self {
        Self {
            region,
            program,
            embed: EmbedCtxs::default(),
            limits: None,
            limiter: None,
            ends_on_growth_failure: false,
            starts_itself: false,
            fuel: None,
            ticks: None,
            alloc: AllocStrategy::default(),
        }
    }

    /// Keeps a value with the instance for host functions to find. A second one of the same type
    /// replaces the first.
    #[must_use]
    pub fn with_embed_ctx<T: Any + Send>(mut self, ctx: T) -> Self {
        self.embed.insert(ctx);
        self
    }

    /// Gives the instance limits of its own, none above its region's. Without, it has its region's.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Has a limiter asked whenever the guest wants a memory or table to grow within the limits.
    #[must_use]
    pub fn with_limiter(mut self, limiter: impl Limiter + 'static) -> Self {
        self.limiter = Some(AnyLimiter::Sync(Box::new(limiter)));
        self
    }

    /// Has a limiter asked that takes its time, in place of one that answers at once: the guest waits for it, and
    /// must be run as a future.
    #[must_use]
    pub fn with_async_limiter(mut self, limiter: impl AsyncLimiter + 'static) -> Self {
        self.limiter = Some(AnyLimiter::Async(Box::new(limiter)));
        self
    }

    /// Ends the guest when a memory or table can't grow
    /// ([`TerminationDetails::GrowthFailed`](crate::TerminationDetails::GrowthFailed)), instead of having
    /// `memory.grow` and `table.grow` return -1.
    #[must_use]
    pub fn terminate_on_growth_failure(mut self) -> Self {
        self.ends_on_growth_failure = true;
        self
    }

    /// Runs start functions when the instance is made and whenever it is reset. Without, the embedder calls
    /// [`Instance::run_start`], or [`Instance::run_start_async`] for those that wait for futures, which can't run by
    /// themselves.
    #[must_use]
    pub fn run_start_by_itself(mut self) -> Self {
        self.starts_itself = true;
        self
    }

    /// Gives the instance fuel, as [`Instance::set_fuel`] does, before a start function can run.
    #[must_use]
    pub fn with_fuel(mut self, units: u64) -> Self {
        self.fuel = Some(units);
        self
    }

    /// Gives the instance an epoch deadline, as [`Instance::set_epoch_deadline`] does, before a start function can run.
    #[must_use]
    pub fn with_epoch_deadline(mut self, ticks_beyond_current: u64) -> Self {
        self.ticks = Some(ticks_beyond_current);
        self
    }

    /// Says which free slot the instance gets.
    #[must_use]
    pub fn with_alloc_strategy(mut self, strategy: AllocStrategy) -> Self {
        self.alloc = strategy;
        self
    }

    /// Makes the instance.
    ///
    /// # Errors
    ///
    /// See [`Region::new_instance`]; [`Error::InvalidLimits`] for limits above the region's,
    /// [`Error::FuelNotCounted`], what [`Instance::set_epoch_deadline`] gives, and what [`Instance::run_start`] gives
    /// if it runs by itself. No slot is taken then.
    ///
    /// # Panics
    ///
    /// If a start function that runs by itself calls a host function that panics.
    pub fn build(self) -> Result<InstanceHandle, Error> {
        let Self {
            region,
            program,
            embed,
            limits,
            limiter,
            ends_on_growth_failure,
            starts_itself,
            fuel,
            ticks,
            alloc,
        } = self;
        let module = program.module();
        if !module.engine().same(region.engine()) {
            return Err(Error::OtherEngine("program"));
        }
        let limits = match limits {
            Some(limits) => limits.within(region.limits(), region.context_unit())?,
            None => *region.limits(),
        };
        limits.admit(module, 0)?;
        if let Some(state) = program.state() {
            let tables = state.tables.iter().map(Vec::len);
            limits.admit_state(state.memory_len, tables)?;
        }
        let mut store = match region.take(program, &alloc, |husk| husk.fits(&limits))? {
            Taken::Husk(husk) => {
                let mut store = LiveStore::new(husk.into_store());
                store.region_limits = limits;
                let main = store.members.first();
                main.map_or(Ok(()), |main| main.initialize())?;
                store
            }
            Taken::Slot(slot) => new_store(region, program, limits, slot)?,
        };
        if !embed.is_empty() {
            store.embed = embed;
        }
        if limiter.is_some() {
            store.extras_mut().limiter = RefCell::new(limiter);
        }
        store.ends_on_growth_failure.set(ends_on_growth_failure);
        store.starts_itself.set(starts_itself);
        if !matches!(alloc, AllocStrategy::Recent) {
            store.extras_mut().alloc = alloc;
        }
        let start = store.members.first().and_then(|main| main.start());
        store.state.set(State::initial(start.is_some()));
        let mut instance = Instance::new(store, region);
        if let Some(units) = fuel {
            instance.set_fuel(units)?;
        }
        if let Some(ticks) = ticks {
            instance.set_epoch_deadline(ticks)?;
        }
        if starts_itself {
            instance.run_start()?;
        }
        Ok(InstanceHandle::new(instance))
    }
}

/// A store with an instance of the program in a slot that is ready for it.
#[cold]
fn new_store(
    region: &Region,
    program: &Program,
    limits: Limits,
    slot: Slot,
) -> Result<LiveStore, Error> {
    let mut store = StoreBox::new(Store::with_key(region.engine(), limits, slot.key()));
    let memory = |shared| ImportedMemory::Host(OwnMemory::imported(shared));
    let imports = program.imports();
    let others = Others {
        memories: imports.memories.iter().cloned().map(memory).collect(),
        tags: imports.tags.clone(),
        ..Others::default()
    };
    let imports = Resolved::new(imports.clone(), others);
    let inside = region.is_of(slot.lease());
    let record = Record::new(store.ptr(), 0, program.module(), imports, slot)?;
    store.add_member(record.clone());
    match program.state() {
        None => record.initialize()?,
        Some(state) => record.thaw(state)?,
    }
    record.seal(program.state().is_some());
    store.seal_references();
    // What is outside the region ends with its instance.
    if record.is_sealed() && inside {
        store.program = Some(region.name_of(program));
    }
    Ok(LiveStore::new(store))
}

impl fmt::Debug for InstanceBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceBuilder")
            .field("program", self.program)
            .finish_non_exhaustive()
    }
}
