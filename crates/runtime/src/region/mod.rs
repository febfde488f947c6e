//! A region: a pool of slots with the same limits.

pub(crate) mod alloc;
pub(crate) mod layout;
pub(crate) mod limits;
pub(crate) mod options;
pub(crate) mod reset;
pub(crate) mod slot;

use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Engine;
use crate::error::Error;
use crate::instance::builder::InstanceBuilder;
use crate::instance::handle::InstanceHandle;
use crate::program::Program;
use crate::sys::{memfd, mmap::Reservation};
use alloc::AllocStrategy;
use layout::Layout;
use limits::Limits;
use options::RegionOptions;
use reset::Resets;
use slot::{Slot, SlotState};

/// A pool of slots with the same limits. Clones name the same region; an instance keeps its region alive.
#[derive(Clone, Debug)]
pub struct Region {
    inner: Arc<RegionInner>,
}

/// What slots share.
#[derive(Debug)]
pub(crate) struct RegionInner {
    /// Address space of all slots.
    pub(crate) space: Reservation,
    /// Second mapping of all contexts, writable.
    pub(crate) contexts: Reservation,
    /// Where slots lie.
    pub(crate) layout: Layout,
    /// How memories are made clean.
    pub(crate) resets: Resets,
    engine: Engine,
    limits: Limits,
    capacity: u32,
    free: Mutex<Vec<SlotState>>,
}

impl Region {
    /// Reserves address space for a number of instances. Memory is used only once guests use it.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidLimits`], or [`Error::System`] if the address space is not to be had.
    pub fn new(engine: &Engine, slots: u32, limits: &Limits) -> Result<Self, Error> {
        Self::with_options(engine, slots, limits, &RegionOptions::default())
    }

    /// Reserves address space for a number of instances, and says how their slots are gone about.
    ///
    /// # Errors
    ///
    /// As [`Region::new`]; [`Error::InvalidArgument`] for an alignment that is no power of two.
    pub fn with_options(
        engine: &Engine,
        slots: u32,
        limits: &Limits,
        options: &RegionOptions,
    ) -> Result<Self, Error> {
        let limits = limits.checked()?;
        let alignment = options.checked_alignment()?;
        let layout = Layout::new(slots, &limits, engine.tunables(), alignment)?;
        let space = Reservation::reserve(layout.total_len()).map_err(Error::system(
            "reserve address space for the region; try fewer slots",
        ))?;
        let layout = layout.aligned(space.addr(), alignment);
        let len = layout.contexts_len();
        let contexts = Reservation::reserve(len)
            .map_err(Error::system("reserve address space for contexts"))?;
        // One file, mapped twice: read-only where the guest looks, writable for the host (I-5).
        let file = memfd::create("selvedge-contexts", len as u64)
            .map_err(Error::system("make the file behind contexts"))?;
        let mapped = Error::system("map contexts");
        contexts
            .map_file_shared(0, len, &file, 0, true)
            .map_err(mapped)?;
        for slot in 0..slots {
            let offset = layout.context(slot);
            let alias = layout.alias(slot) as u64;
            space
                .map_file_shared(offset, layout.context_len(), &file, alias, false)
                .map_err(Error::system("map contexts; try fewer slots"))?;
        }
        // The lowest slot is handed out first.
        let free = (0..slots).rev().map(SlotState::new).collect();
        Ok(Self {
            inner: Arc::new(RegionInner {
                space,
                contexts,
                layout,
                resets: Resets::new(options),
                engine: engine.clone(),
                limits,
                capacity: slots,
                free: Mutex::new(free),
            }),
        })
    }

    /// Makes an instance of a program. A start function, if the module has one, has not run yet: see
    /// [`Instance::run_start`](crate::Instance::run_start).
    ///
    /// # Errors
    ///
    /// [`Error::RegionFull`], [`Error::LimitsExceeded`], [`Error::OtherEngine`],
    /// [`Error::DataSegmentOutOfBounds`], [`Error::ElemSegmentOutOfBounds`] or [`Error::System`].
    pub fn new_instance(&self, program: &Program) -> Result<InstanceHandle, Error> {
        self.instance_builder(program).build()
    }

    /// Makes an instance with options.
    pub fn instance_builder<'a>(&'a self, program: &'a Program) -> InstanceBuilder<'a> {
        InstanceBuilder::new(self, program)
    }

    /// Slots in all.
    pub fn capacity(&self) -> u32 {
        self.inner.capacity
    }

    /// Slots that are free.
    pub fn free_slots(&self) -> u32 {
        self.inner.with_free(|free| free.len()) as u32
    }

    /// Slots that are in use.
    pub fn used_slots(&self) -> u32 {
        self.capacity() - self.free_slots()
    }

    /// The limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Takes a slot and makes it ready for a program that the limits admit.
    pub(crate) fn take_slot(
        &self,
        program: &Program,
        strategy: &AllocStrategy,
    ) -> Result<Slot, Error> {
        let mut slot = self.take(|free| strategy.choose(free, program))?;
        slot.prepare(program)?;
        Ok(slot)
    }

    /// Takes the slot at a position of the list of free ones.
    fn take(&self, choose: impl FnOnce(&[SlotState]) -> Option<usize>) -> Result<Slot, Error> {
        let state = self.inner.with_free(|free| {
            let at = choose(free)?;
            Some(free.remove(at))
        });
        let state = state.ok_or(Error::RegionFull {
            capacity: self.inner.capacity,
        })?;
        Ok(Slot::new(self.inner.clone(), state))
    }

    /// Takes any slot, as it is.
    #[cfg(test)]
    pub(crate) fn take_any(&self) -> Slot {
        let slot = self.take(|free| free.len().checked_sub(1));
        slot.expect("tests leave a slot free")
    }
}

impl RegionInner {
    fn with_free<R>(&self, f: impl FnOnce(&mut Vec<SlotState>) -> R) -> R {
        // The list is whole after every statement above, so a poisoned lock is no reason to stop.
        f(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a slot back.
    pub(crate) fn give_back(&self, state: SlotState) {
        self.with_free(|free| free.push(state));
    }
}
