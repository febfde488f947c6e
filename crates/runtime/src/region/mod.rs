//! A region: a pool of slots with the same limits.

pub(crate) mod alloc;
pub(crate) mod freelist;
pub(crate) mod layout;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod options;
pub(crate) mod reset;
pub(crate) mod slot;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::engine::Engine;
use crate::error::Error;
use crate::instance::builder::InstanceBuilder;
use crate::instance::handle::InstanceHandle;
use crate::instance::husk::Husk;
use crate::program::{Program, WeakProgram};
use crate::sys::pagemap::{Pagemap, Pages};
use crate::sys::{memfd, mmap::Reservation};
use alloc::AllocStrategy;
use freelist::{Free, FreeList};
use layout::{Grid, Layout};
use limits::Limits;
use metrics::RegionMetrics;
use options::{RegionOptions, WhenFull};
use reset::Resets;
use slot::{Lease, Slot};

/// A pool of slots with the same limits. Clones name the same region; an instance keeps its region alive.
#[derive(Debug)]
pub struct Region {
    inner: Arc<RegionInner>,
}

/// What slots share.
#[derive(Debug)]
pub(crate) struct RegionInner {
    /// Address space of all slots.
    pub(crate) space: Reservation,
    /// Second mapping of all contexts, writable; dense slots have none.
    pub(crate) contexts: Option<Contexts>,
    /// Where slots lie.
    pub(crate) layout: Layout,
    /// How memories are made clean.
    pub(crate) resets: Resets,
    /// Slots that are free.
    pub(crate) free: FreeList,
    engine: Engine,
    limits: Limits,
    options: RegionOptions,
    capacity: u32,
    /// Protection keys that slots have in turn.
    stripes: u32,
    /// Instances that waited for a slot.
    waited: AtomicU64,
    /// Instances that were made outside.
    outside: AtomicU64,
    /// Handles of the embedder. Without one, nothing is kept for further instances, which would keep the
    /// region.
    handles: AtomicUsize,
}

/// What a new instance begins with.
#[derive(Debug)]
pub(crate) enum Taken {
    /// A slot that is ready for the program's memory.
    Slot(Slot),
    /// What an instance of the same program has left.
    Husk(Husk),
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
    /// As [`Region::new`]; [`Error::InvalidArgument`] for an alignment that is no power of two, and for dense slots with
    /// protection keys; [`Error::Unsupported`] if there are no protection keys.
    pub fn with_options(
        engine: &Engine,
        slots: u32,
        limits: &Limits,
        options: &RegionOptions,
    ) -> Result<Self, Error> {
        let limits = limits.checked(options.context_unit())?;
        let grid = Grid::of(options.checked_alignment()?, options.dense);
        let keys = options.keys()?;
        let (tunables, dense) = (engine.tunables(), options.dense);
        let layout = Layout::with_keys(slots, &limits, tunables, grid, dense, keys.len())?;
        let mut space = Reservation::reserve(layout.total_len()).map_err(Error::system(
            "reserve address space for the region; try fewer slots",
        ))?;
        let layout = layout.aligned(space.addr(), grid);
        let stripes = keys.len() as u32;
        if stripes > 0 {
            space.stripe(layout.stripes(keys));
        }
        let contexts = if options.dense {
            // One mapping for all: the kernel bounds how many there are.
            space
                .protect_read_write(0, space.len())
                .map_err(Error::system("map dense slots; try fewer"))?;
            space
                .refuse_huge_pages(0, space.len())
                .map_err(Error::system("have the pages of dense slots be small"))?;
            None
        } else {
            Some(Contexts::new(&layout)?)
        };
        Ok(Self::of(Arc::new(RegionInner {
            space,
            contexts,
            layout,
            resets: Resets::new(options),
            free: FreeList::new(slots),
            engine: engine.clone(),
            limits,
            options: *options,
            stripes,
            capacity: slots,
            waited: AtomicU64::new(0),
            outside: AtomicU64::new(0),
            handles: AtomicUsize::new(0),
        })))
    }

    /// A handle of the region.
    pub(crate) fn of(inner: Arc<RegionInner>) -> Self {
        inner.handles.fetch_add(1, Ordering::AcqRel);
        Self { inner }
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

    /// Protection keys that its slots have in turn: no more than it was asked for, and 0 without
    /// [`RegionOptions::protection_keys`].
    pub fn protection_keys(&self) -> u32 {
        self.inner.stripes
    }

    /// Slots that are free. Other threads may take and give back some meanwhile.
    pub fn free_slots(&self) -> u32 {
        self.inner.free.len() as u32
    }

    /// Slots that are in use.
    pub fn used_slots(&self) -> u32 {
        self.capacity().saturating_sub(self.free_slots())
    }

    /// What the region has done and holds. Other threads may change that meanwhile.
    ///
    /// To count resident bytes, the kernel looks at the pages of all slots: milliseconds for thousands.
    pub fn metrics(&self) -> RegionMetrics {
        let inner = &*self.inner;
        let (unused, counts) = inner.free.counts();
        let free = self.free_slots();
        RegionMetrics {
            capacity: inner.capacity,
            used: inner.capacity.saturating_sub(free),
            free,
            ever_used: inner.capacity.saturating_sub(unused as u32),
            taken: counts.taken,
            taken_ready: counts.taken_ready,
            waited: inner.waited.load(Ordering::Relaxed),
            outside: inner.outside.load(Ordering::Relaxed),
            resets: counts.resets,
            reset_time: counts.reset_time,
            resident_len: inner.resident_len(),
        }
    }

    /// The limits of its instances.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// What the length of a context is a multiple of.
    pub(crate) fn context_unit(&self) -> usize {
        self.inner.options.context_unit()
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Whether it is the region of a slot.
    pub(crate) fn is_of(&self, lease: &Lease) -> bool {
        std::ptr::eq(&*self.inner, lease.region())
    }

    /// How a husk of this region names a program.
    pub(crate) fn name_of(&self, program: &Program) -> WeakProgram {
        program.known_to(&self.inner)
    }

    /// Takes a slot and makes it ready for a program that the limits admit, if it is not.
    pub(crate) fn take(
        &self,
        program: &Program,
        strategy: &AllocStrategy,
        fits: impl FnOnce(&Husk) -> bool,
    ) -> Result<Taken, Error> {
        let free = match self.inner.free.take(strategy, program) {
            Some(free) => free,
            None => match self.take_when_full(program, strategy)? {
                Some(free) => free,
                None => return self.take_outside(program),
            },
        };
        let mut slot = match free {
            Free::Husk(husk) if husk.is_of(program) && fits(&husk) => {
                return Ok(Taken::Husk(husk));
            }
            Free::Husk(husk) => husk.into_slot()?,
            Free::Slot(state) => Slot::new(Lease::new(self.inner.clone()), state),
        };
        slot.prepare(program)?;
        Ok(Taken::Slot(slot))
    }

    /// Takes a slot for a module that no husk is kept for.
    pub(crate) fn take_slot(
        &self,
        program: &Program,
        strategy: &AllocStrategy,
    ) -> Result<Slot, Error> {
        if self.inner.stripes > 0 {
            // A guest has one key, and within its reach is one slot that has it.
            return match self.outside(program)? {
                Taken::Slot(slot) => Ok(slot),
                Taken::Husk(husk) => husk.into_slot(),
            };
        }
        match self.take(program, strategy, |_| false)? {
            Taken::Slot(slot) => Ok(slot),
            Taken::Husk(husk) => husk.into_slot(),
        }
    }

    /// What the region's options say of a region that is full: a slot after all, or that there is to be one
    /// outside.
    #[cold]
    fn take_when_full(
        &self,
        program: &Program,
        strategy: &AllocStrategy,
    ) -> Result<Option<Free>, Error> {
        let full = Error::RegionFull {
            capacity: self.inner.capacity,
        };
        match self.inner.options.when_full {
            WhenFull::Fail => Err(full),
            WhenFull::Wait(at_most) => {
                self.inner.waited.fetch_add(1, Ordering::Relaxed);
                let free = &self.inner.free;
                let found = free.wait(at_most, || free.take(strategy, program));
                found.map(Some).ok_or(full)
            }
            WhenFull::Outside => Ok(None),
        }
    }

    /// A slot in a region of its own, which ends with it.
    #[cold]
    fn take_outside(&self, program: &Program) -> Result<Taken, Error> {
        self.inner.outside.fetch_add(1, Ordering::Relaxed);
        self.outside(program)
    }

    /// A slot in a region of its own, with guards around it.
    fn outside(&self, program: &Program) -> Result<Taken, Error> {
        let options = RegionOptions {
            when_full: WhenFull::Fail,
            protection_keys: 0,
            ..self.inner.options
        };
        let outside = Self::with_options(&self.inner.engine, 1, &self.inner.limits, &options)?;
        outside.take(program, &AllocStrategy::Recent, |_| false)
    }

    /// Takes any slot, as it is.
    #[cfg(test)]
    pub(crate) fn take_any(&self) -> Slot {
        match self.inner.free.take_any() {
            Some(Free::Slot(state)) => Slot::new(Lease::new(self.inner.clone()), state),
            _ => panic!("tests leave a slot free, and no husk in it"),
        }
    }
}

/// The contexts of all slots in a file that is mapped as a whole for the host, writable; guests see the part of
/// theirs that they use (I-5).
#[derive(Debug)]
pub(crate) struct Contexts {
    pub(crate) map: Reservation,
    pub(crate) file: OwnedFd,
}

impl Contexts {
    fn new(layout: &Layout) -> Result<Self, Error> {
        let len = layout.contexts_len();
        let reserved = Reservation::reserve(len);
        let map = reserved.map_err(Error::system("reserve address space for contexts"))?;
        let file = memfd::create("selvedge-contexts", len as u64)
            .map_err(Error::system("make the file behind contexts"))?;
        map.map_file_shared(0, len, &file, 0, true)
            .map_err(Error::system("map contexts"))?;
        Ok(Self { map, file })
    }
}

impl RegionInner {
    /// Whether there is a handle by which instances can be made.
    pub(crate) fn is_open(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Bytes that memories and contexts have in memory, if the kernel tells.
    fn resident_len(&self) -> Option<u64> {
        let pagemap = Pagemap::get()?;
        let all = |space: &Reservation| space.addr()..space.addr() + space.len();
        let memories = pagemap.count(all(&self.space), Pages::Own).ok()?;
        // Guests see the same pages a second time.
        let contexts = match &self.contexts {
            Some(contexts) => pagemap.count(all(&contexts.map), Pages::Present).ok()?,
            None => 0,
        };
        Some(memories + contexts)
    }

    /// Drops what is kept for programs that are gone.
    pub(crate) fn forget_unwanted(&self) {
        drop(self.free.take_husks(|husk| !husk.is_wanted()));
    }
}

impl Clone for Region {
    fn clone(&self) -> Self {
        Self::of(self.inner.clone())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.inner.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Husks keep their region; whoever gives one from now on sees that there is no handle.
            drop(self.inner.free.take_husks(|_| true));
        }
    }
}
