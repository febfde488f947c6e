//! A memory defined by a module of an instance: where it lies, how it grows.
//!
//! Memory 0 lies in the slot, with `vmctx` as its base, unless its addresses are 64 bits wide or its
//! pages of unusual length. All others have a reservation of their own, which is made when the module
//! is instantiated and given back when the instance is dropped: the slow path.

use std::cell::RefCell;
use std::ops::Range;

use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::module::ModuleInfo;
use selvedge_artifact::tunables::Tunables;
use selvedge_artifact::types::MemoryType;
use selvedge_artifact::vmfields::vm_memory_definition;

use crate::error::Error;
use crate::module::Module;
use crate::region::layout::round_up_to_page;
use crate::region::limits::Limits;
use crate::region::slot::Slot;
use crate::vm::context::Context;
use crate::vm::far_memory::FarMemory;
use crate::vm::memory::GuestMemory;
use crate::vm::views;

/// A memory of a record.
#[derive(Debug)]
pub(crate) struct OwnMemory {
    ty: MemoryType,
    /// Offset of its `VMMemoryDefinition` in the context.
    definition: i32,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In the slot, from `vmctx` on.
    Slot(GuestMemory),
    /// Elsewhere.
    Far(FarMemory),
}

impl OwnMemory {
    /// Makes all memories that a module defines and publishes them. The slot has mapped memory 0.
    pub(crate) fn all(
        module: &Module,
        tunables: &Tunables,
        limits: &Limits,
        slot: &Slot,
        context: &Context,
    ) -> Result<Vec<Self>, Error> {
        let info = module.info();
        let defined = info.imported.memories as usize..info.memories.len();
        defined
            .map(|i| {
                let index = MemoryIdx::new(i as u32);
                let ty = info.memories[i];
                let len = ty.min_len() as usize;
                let memory = Self {
                    ty,
                    definition: module
                        .offsets()
                        .memory(index)
                        .expect("defined memories have a definition"),
                    place: if lies_in_slot(info, index) {
                        Place::Slot(views::memory(slot, len))
                    } else {
                        let reserved = far_len(&ty, tunables, limits);
                        let mapped = FarMemory::reserve(reserved, len);
                        Place::Far(mapped.map_err(Error::system("map a memory of the instance"))?)
                    },
                };
                memory.publish(context);
                Ok(memory)
            })
            .collect()
    }

    /// Writes the memory's definition where generated code reads it.
    fn publish(&self, context: &Context) {
        let fields = vm_memory_definition::OFFSETS;
        let view = self.view();
        context.write(self.definition + fields.base as i32, view.addr() as u64);
        context.write(self.definition + fields.len as i32, view.len() as u64);
    }

    /// Its bytes as the host may touch them.
    pub(crate) fn view(&self) -> &GuestMemory {
        match &self.place {
            Place::Slot(view) => view,
            Place::Far(memory) => memory.view(),
        }
    }

    /// Count of pages.
    pub(crate) fn pages(&self) -> u64 {
        self.view().len() as u64 / self.ty.page_len()
    }

    /// Addresses that an access to the memory may hit, guard included.
    pub(crate) fn range(&self, tunables: &Tunables) -> Range<usize> {
        match &self.place {
            Place::Slot(view) => view.addr()..view.addr() + guarded_len(tunables),
            Place::Far(memory) => memory.range(),
        }
    }

    /// Makes the memory what it was in the beginning: its image, if it has one in the slot, or zero bytes, as
    /// many as at first. No slice of it is out.
    pub(crate) fn reset(&self, context: &Context, slot: &RefCell<Slot>) -> Result<(), Error> {
        let len = self.ty.min_len() as usize;
        match &self.place {
            Place::Slot(view) => views::reset(view, &mut slot.borrow_mut(), len),
            Place::Far(memory) => memory.reset(len),
        }
        .map_err(Error::system("make a memory of the instance what it was"))?;
        self.publish(context);
        Ok(())
    }

    /// Its type.
    pub(crate) fn ty(&self) -> &MemoryType {
        &self.ty
    }

    /// Makes the memory longer. The length was checked against its maximum and all limits.
    pub(crate) fn grow(
        &self,
        context: &Context,
        slot: &RefCell<Slot>,
        new_len: usize,
    ) -> Result<(), Error> {
        if self.view().is_borrowed() {
            return Err(Error::MemoryBorrowed);
        }
        match &self.place {
            Place::Slot(view) => views::grow(view, &mut slot.borrow_mut(), new_len),
            Place::Far(memory) => memory.grow(new_len),
        }
        .map_err(Error::system("make a memory of the instance longer"))?;
        self.publish(context);
        Ok(())
    }
}

/// Whether a memory is the one that lies in the slot.
fn lies_in_slot(info: &ModuleInfo, memory: MemoryIdx) -> bool {
    memory.index() == 0 && info.owns_memory0()
}

/// Bytes from a memory's base to the end of its guard. Address spaces are 64 bits wide, and the engine
/// was made with tunables whose sum fits.
fn guarded_len(tunables: &Tunables) -> usize {
    (tunables.memory_reservation_len + tunables.memory_guard_len) as usize
}

/// Bytes to reserve for a memory outside the slot. Where all accesses are checked, there is no guard.
fn far_len(ty: &MemoryType, tunables: &Tunables, limits: &Limits) -> usize {
    if ty.is_guarded() {
        return guarded_len(tunables);
    }
    let (limit, _) = limits.memory_limit(ty);
    // A reservation is not empty.
    round_up_to_page(ty.max_len().min(limit).max(1) as usize)
}
