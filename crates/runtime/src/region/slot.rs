//! One slot: the address space of an instance, made ready for a program and made clean after it.
//!
//! A slot that last ran the same module with the same image keeps its mappings, and many of the pages that
//! its guests wrote to (see `region/reset.rs`).

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::program::{Image, Program};
use crate::region::freelist::Free;
use crate::region::layout::round_up_to_page;
use crate::region::metrics::SlotCounts;
use crate::region::reset::Kind;
use crate::region::{Region, RegionInner};
use crate::sys::keys::Key;
use crate::vm::pages::{self, InitialPages};

/// A slot while it is not in use.
#[derive(Debug)]
pub(crate) struct SlotState {
    index: u32,
    /// Module whose image and rights the slot has; 0 if none.
    pub(crate) last_module: u64,
    /// Bytes of memory 0 that can be accessed now.
    accessible_len: usize,
    /// Bytes of memory 0 that can be accessed when an instance begins.
    initial_len: usize,
    /// Bytes of memory 0 that a file backs.
    image_len: usize,
    /// The file that is mapped.
    image: Option<Arc<Image>>,
    /// How often memory 0 was made clean since it was mapped, wrapping.
    resets: u32,
    /// Pages of memory 0 that hold something of their own.
    own: Own,
    /// What was done since the slot was taken.
    pub(crate) counts: SlotCounts,
    /// Bytes of context that are mapped for the guest, or that the program needs where nothing is mapped for it.
    context_len: usize,
}

/// What is known of the pages of memory 0 that hold something of their own, and do until they are given back.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Offsets of a run of them; empty if none is known.
    pub(crate) run: Range<usize>,
    /// How many were looked at since they were last given back, although the guest had not changed them.
    pub(crate) vain: usize,
}

impl SlotState {
    /// A slot that nothing has used.
    pub(crate) fn new(index: u32) -> Self {
        Self {
            index,
            last_module: 0,
            accessible_len: 0,
            initial_len: 0,
            image_len: 0,
            image: None,
            resets: 0,
            own: Own::default(),
            counts: SlotCounts::default(),
            context_len: 0,
        }
    }

    /// Its number.
    #[cfg(test)]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// Whether the slot last ran the same module with the same image, and has both in place.
    pub(crate) fn is_ready_for(&self, program: &Program) -> bool {
        let image = self.image.as_ref().map(Arc::as_ptr);
        self.last_module == program.module().id()
            && image == program.image().map(Arc::as_ptr)
            && self.initial_len == program.memory_len()
    }
}

/// What keeps a region alive for one slot in use. Each has its own, so that threads don't meet at the region's
/// count, and each a cache line of its own, so that they don't meet at that of a neighbour on the heap, which halved
/// the speed of two threads.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Lease(Arc<RegionInner>);

impl Lease {
    pub(crate) fn new(region: Arc<RegionInner>) -> Arc<Self> {
        Arc::new(Self(region))
    }

    /// The region.
    pub(crate) fn region(&self) -> &RegionInner {
        &self.0
    }

    /// The region as the embedder has it.
    pub(crate) fn region_handle(&self) -> Region {
        Region::of(self.0.clone())
    }
}

/// A slot in use. Dropping it makes it clean and gives it back.
#[derive(Debug)]
pub(crate) struct Slot {
    lease: Arc<Lease>,
    /// Taken out only when the slot is given back.
    state: SlotState,
    /// The slot is in an unknown state and must be mapped anew.
    broken: bool,
}

impl Slot {
    /// Takes charge of a slot.
    pub(crate) fn new(lease: Arc<Lease>, state: SlotState) -> Self {
        Self {
            lease,
            state,
            broken: false,
        }
    }

    fn region(&self) -> &RegionInner {
        self.lease.region()
    }

    /// What keeps its region alive.
    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// The base of memory 0, which is the guest's `vmctx`.
    pub(crate) fn vmctx(&self) -> *mut u8 {
        self.region()
            .space
            .base()
            .wrapping_add(self.memory_offset())
    }

    /// Offset of memory 0 in the region's address space.
    fn memory_offset(&self) -> usize {
        let layout = &self.region().layout;
        layout.vmctx(self.state.index, self.state.context_len)
    }

    /// The protection key of all that its guest can reach of it, in a region that has keys.
    pub(crate) fn key(&self) -> Option<Key> {
        let RegionInner { space, layout, .. } = self.region();
        let key = space.key(layout.context(self.state.index), layout.context_len());
        key.ok().flatten()
    }

    /// The end of the context in the host's writable mapping: what `vmctx` is to the guest.
    pub(crate) fn context_top(&self) -> *mut u8 {
        let region = self.region();
        let Some(contexts) = &region.contexts else {
            return self.vmctx();
        };
        let offset = region.layout.alias(self.state.index) + region.layout.context_len();
        contexts.map.base().wrapping_add(offset)
    }

    /// Whether the slot is dense: all of it can be read and written, and stays mapped.
    fn is_dense(&self) -> bool {
        self.region().contexts.is_none()
    }

    /// Bytes of context below the top.
    pub(crate) fn context_len(&self) -> usize {
        let layout = &self.region().layout;
        if layout.is_packed() {
            self.state.context_len
        } else {
            layout.context_len()
        }
    }

    /// Makes the slot ready for a program that the limits admit: rights of the context, image of memory 0. The context's contents are
    /// left to the instance, and are zero or what the same module's last instance left.
    pub(crate) fn prepare(&mut self, program: &Program) -> Result<(), Error> {
        let module = program.module();
        if self.state.is_ready_for(program) {
            return Ok(());
        }
        // Until all is mapped the slot matches no module.
        self.state.last_module = 0;
        self.broken = true;
        self.map_context(program)
            .and_then(|()| self.map_memory(program))
            .map_err(Error::system(
                "map the instance's context and memory; if there are too many mappings, raise vm.max_map_count: \
                 an instance takes up to five",
            ))?;
        self.state.last_module = module.id();
        self.broken = false;
        Ok(())
    }

    /// Maps the part of the context that the module uses: its globals writable, the rest read-only. Nothing else
    /// is mapped, so that what lies below stays one mapping with the guard.
    fn map_context(&mut self, program: &Program) -> io::Result<()> {
        let lease = self.lease.clone();
        let RegionInner {
            space,
            contexts,
            layout,
            ..
        } = lease.region();
        let offsets = program.module().offsets();
        let read_only = offsets.read_only_len() as usize;
        let writable = offsets.writable_len() as usize;
        let used = read_only + writable;
        let Some(contexts) = contexts else {
            // A dense slot is one with its context. Where another program's was may be memory now, and the other way.
            self.forget_dense()?;
            self.state.context_len = used;
            return Ok(());
        };
        let top = layout.vmctx(self.state.index, used);
        if self.state.context_len > used {
            let len = self.state.context_len;
            space.map_none(top - len, len - used)?;
        }
        self.state.context_len = used;
        let in_file =
            |below: usize| (layout.alias(self.state.index) + layout.context_len() - below) as u64;
        let file = &contexts.file;
        space.map_file_shared(top - used, writable, file, in_file(used), true)?;
        space.map_file_shared(top - read_only, read_only, file, in_file(read_only), false)
    }

    /// Makes all of a dense slot zero that was used, context and memory: nothing of it is kept.
    fn forget_dense(&mut self) -> io::Result<()> {
        let region = self.lease.region();
        let start = region.layout.context(self.state.index);
        if region.layout.shares_pages() {
            pages::clear_context(self);
        } else {
            let used = self.memory_offset() + self.state.accessible_len - start;
            region.space.decommit(start, round_up_to_page(used))?;
        }
        let state = &mut self.state;
        (state.accessible_len, state.initial_len) = (0, 0);
        (state.image, state.resets, state.own) = (None, 0, Own::default());
        Ok(())
    }

    /// Maps memory 0 for a program.
    fn map_memory(&mut self, program: &Program) -> io::Result<()> {
        self.map_pages(program.memory_len(), program.image())
    }

    /// Maps memory 0: the image from its file, zero pages behind it, nothing beyond the initial length.
    pub(crate) fn map_pages(&mut self, len: usize, image: Option<&Arc<Image>>) -> io::Result<()> {
        if self.is_dense() {
            return self.fill_pages(len, image);
        }
        let base = self.memory_offset();
        let space = &self.lease.region().space;
        let state = &mut self.state;
        let mapped = state.accessible_len.max(state.image_len);
        if mapped > 0 {
            space.map_none(base, round_up_to_page(mapped))?;
        }
        (state.accessible_len, state.initial_len, state.image_len) = (0, 0, 0);
        (state.image, state.resets, state.own) = (None, 0, Own::default());
        let mut image_len = 0;
        if let Some(image) = image {
            image_len = image.bytes().len();
            space.map_file_private(base, image_len, &image.file, 0, true)?;
            state.image_len = image_len;
            state.image = Some(image.clone());
        }
        if len > image_len {
            space.protect_read_write(base + image_len, len - image_len)?;
        }
        (state.accessible_len, state.initial_len) = (len, len);
        Ok(())
    }

    /// In a dense slot: zeroes, and the image as a copy.
    fn fill_pages(&mut self, len: usize, image: Option<&Arc<Image>>) -> io::Result<()> {
        // What was there goes, whether it was made clean or not.
        self.state.image = None;
        self.give_back(0)?;
        self.state.resets = 0;
        (self.state.accessible_len, self.state.initial_len) = (len, len);
        self.state.image = image.cloned();
        self.copy_image(0);
        Ok(())
    }

    /// In a dense slot: writes the image to pages that read as zero, from an offset on.
    fn copy_image(&mut self, from: usize) {
        let to = self.image_bytes().len().min(self.state.initial_len);
        if self.is_dense() && from < to {
            InitialPages::of(self).restore(from..to);
        }
    }

    /// Makes a dense slot one of a program that needs so much context; another is left as it is.
    #[cfg(test)]
    pub(crate) fn set_context_len(&mut self, len: usize) -> io::Result<()> {
        if self.is_dense() {
            self.forget_dense()?;
            self.state.context_len = len;
        }
        Ok(())
    }

    /// Makes more of memory 0 accessible.
    pub(crate) fn grow_memory(&mut self, len: usize) -> io::Result<()> {
        let old = self.state.accessible_len;
        if len > old {
            let base = self.memory_offset();
            if !self.is_dense() {
                let space = &self.region().space;
                space.protect_read_write(base + old, len - old)?;
            }
            self.state.accessible_len = len;
        }
        Ok(())
    }

    /// Bytes of memory 0 when an instance begins: whole pages, all accessible.
    pub(crate) fn initial_len(&self) -> usize {
        self.state.initial_len
    }

    /// Bytes of memory 0 that can be accessed now.
    pub(crate) fn accessible_len(&self) -> usize {
        self.state.accessible_len
    }

    /// What memory 0 begins with; zeroes come behind it.
    pub(crate) fn image_bytes(&self) -> &[u8] {
        self.state.image.as_ref().map_or(&[], |image| image.bytes())
    }

    /// Gives the pages of memory 0 back to the system, from an offset on: they read as the image, or as zero.
    pub(crate) fn give_back(&mut self, from: usize) -> io::Result<()> {
        let start = self.memory_offset() + from;
        let end = round_up_to_page(start - from + self.state.accessible_len);
        if from == 0 {
            self.state.own = Own::default();
        }
        let run = &mut self.state.own.run;
        *run = run.start.min(from)..run.end.min(from);
        // A page that the memory shares with its context stays. What follows the end is nobody's.
        let pages = round_up_to_page(start).min(end)..end;
        self.region().space.decommit(pages.start, pages.len())?;
        if pages.start > start {
            let shared = from..(from + pages.start - start).min(self.state.accessible_len);
            pages::clear(self, shared);
        }
        self.copy_image(from);
        Ok(())
    }

    /// Takes what is known of pages that hold something of their own.
    pub(crate) fn take_own(&mut self) -> Own {
        std::mem::take(&mut self.state.own)
    }

    /// Says which pages hold something of their own, and need not be looked for.
    pub(crate) fn set_own(&mut self, own: Own) {
        self.state.own = own;
    }

    /// Ranges of offsets of memory 0 outside which it holds what it began with, or zeroes.
    pub(crate) fn written_ranges(&self) -> Vec<Range<usize>> {
        let start = self.vmctx().expose_provenance();
        let len = self.state.accessible_len;
        self.region().resets.written(start, len)
    }

    /// What was counted since that was last asked.
    pub(crate) fn take_counts(&mut self) -> SlotCounts {
        std::mem::take(&mut self.state.counts)
    }

    /// Makes memory 0 what it was in the beginning, in length and contents. Nobody uses it.
    pub(crate) fn clean(&mut self) -> io::Result<()> {
        let start = self.region().resets.is_measured().then(Instant::now);
        let result = self.clean_memory();
        let kind = result.as_ref().ok().copied();
        if !self.state.counts.count(kind) {
            // An instance that was reset so often, and never dropped.
            let counts = self.take_counts();
            self.region().free.add_counts(counts);
            self.state.counts.count(kind);
        }
        if let Some(start) = start {
            self.state.counts.add_time(start.elapsed());
        }
        result.map(drop)
    }

    fn clean_memory(&mut self) -> io::Result<Kind> {
        let base = self.memory_offset();
        let (accessible, initial) = (self.state.accessible_len, self.state.initial_len);
        if accessible > initial {
            self.give_back(initial)?;
            if !self.is_dense() {
                let space = &self.lease.region().space;
                space.protect_none(base + initial, accessible - initial)?;
            }
            self.state.accessible_len = initial;
        }
        let count = self.state.resets;
        self.state.resets = count.wrapping_add(1);
        let resets = self.region().resets;
        resets.reset(self, count)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let failed = self.broken || self.clean().is_err();
        let index = self.state.index;
        let mut state = std::mem::replace(&mut self.state, SlotState::new(index));
        if failed {
            // The next user maps everything anew; what lies behind is forgotten by `map_none`.
            state.last_module = 0;
            state.accessible_len = state
                .accessible_len
                .max(state.image_len)
                .max(state.initial_len);
        }
        self.region().free.give(Free::Slot(state), |_| true);
    }
}
