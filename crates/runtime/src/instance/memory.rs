//! A memory defined by a module of an instance: where it lies, how it grows.
//!
//! Memory 0 lies in the slot, with `vmctx` as its base, unless its addresses are 64 bits wide or its
//! pages of unusual length. All others have a reservation of their own, which is made when the module
//! is instantiated and given back when the instance is dropped: the slow path. A shared memory is an
//! object of its own, which others may keep longer.

use std::cell::RefCell;
use std::ops::Range;

use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::module::ModuleInfo;
use selvedge_artifact::tunables::Tunables;
use selvedge_artifact::types::MemoryType;
use selvedge_artifact::vmfields::vm_memory_definition;

use crate::error::Error;
use crate::host::shared_memory::SharedMemory;
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
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// In the slot, from `vmctx` on.
    Slot(GuestMemory, Definition),
    /// Elsewhere.
    Far(FarMemory, Definition),
    /// Elsewhere, for several instances.
    Shared(SharedMemory),
}

/// Offset of a memory's `VMMemoryDefinition` in the context.
type Definition = i32;

impl OwnMemory {
    /// Makes all memories that a module defines and publishes them. The slot has mapped memory 0.
    pub(crate) fn all(
        module: &Module,
        tunables: &Tunables,
        limits: &Limits,
        slot: &Slot,
        context: &Context,
    ) -> Result<Box<[Self]>, Error> {
        let info = module.info();
        let defined = info.imported.memories as usize..info.memories.len();
        defined
            .map(|i| {
                let index = MemoryIdx::new(i as u32);
                let ty = info.memories[i];
                let len = ty.min_len() as usize;
                let definition = module
                    .offsets()
                    .memory(index)
                    .expect("defined memories have a definition");
                let place = if ty.shared {
                    let shared = SharedMemory::with_limits(module.engine(), &ty, limits)?;
                    publish(context, definition, shared.addr(), shared.definition_addr());
                    Place::Shared(shared)
                } else if lies_in_slot(info, index) {
                    Place::Slot(views::memory(slot, slot.initial_len()), definition)
                } else {
                    let reserved = far_len(&ty, tunables, limits);
                    let mapped = FarMemory::reserve(reserved, len);
                    let mapped = mapped.map_err(Error::system("map a memory of the instance"))?;
                    Place::Far(mapped, definition)
                };
                let memory = Self { ty, place };
                memory.publish(context);
                Ok(memory)
            })
            .collect()
    }

    /// A memory that the host gives to a module.
    pub(crate) fn imported(shared: SharedMemory) -> Self {
        Self {
            ty: *shared.declared(),
            place: Place::Shared(shared),
        }
    }

    /// Writes the length where generated code reads it. A shared memory does so by itself.
    fn publish(&self, context: &Context) {
        let (view, definition) = match &self.place {
            Place::Slot(view, definition) => (view, *definition),
            Place::Far(memory, definition) => (memory.view(), *definition),
            Place::Shared(_) => return,
        };
        publish(context, definition, view.addr(), view.len());
    }

    /// Its bytes as the host may borrow them; those of a shared memory it may not.
    pub(crate) fn view(&self) -> Option<&GuestMemory> {
        match &self.place {
            Place::Slot(view, _) => Some(view),
            Place::Far(memory, _) => Some(memory.view()),
            Place::Shared(_) => None,
        }
    }

    /// The memory as all who share it have it.
    pub(crate) fn shared(&self) -> Option<&SharedMemory> {
        match &self.place {
            Place::Shared(shared) => Some(shared),
            _ => None,
        }
    }

    /// Whether it has a reservation of its own.
    pub(crate) fn is_far(&self) -> bool {
        matches!(self.place, Place::Far(..))
    }

    /// Whether the host holds a slice of it.
    pub(crate) fn is_borrowed(&self) -> bool {
        self.view().is_some_and(GuestMemory::is_borrowed)
    }

    /// Accessible bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.place {
            Place::Slot(view, _) => view.len() as u64,
            Place::Far(memory, _) => memory.view().len() as u64,
            Place::Shared(shared) => shared.len(),
        }
    }

    /// Count of pages.
    pub(crate) fn pages(&self) -> u64 {
        self.len() / self.ty.page_len()
    }

    /// Addresses that an access to the memory may hit, guard included.
    pub(crate) fn range(&self, tunables: &Tunables) -> Range<usize> {
        match &self.place {
            Place::Slot(view, _) => view.addr()..view.addr() + guarded_len(tunables),
            Place::Far(memory, _) => memory.range(),
            Place::Shared(shared) => shared.range(),
        }
    }

    /// Makes the memory what it was in the beginning: its image, if it has one in the slot, or zero bytes, as
    /// many as at first. No slice of it is out. A shared memory stays as it is: others may be using it.
    pub(crate) fn reset(&self, context: &Context, slot: &RefCell<Slot>) -> Result<(), Error> {
        let len = self.ty.min_len() as usize;
        match &self.place {
            Place::Slot(view, _) => views::reset(view, &mut slot.borrow_mut()),
            Place::Far(memory, _) => memory.reset(len),
            Place::Shared(_) => return Ok(()),
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
        if self.is_borrowed() {
            return Err(Error::MemoryBorrowed);
        }
        match &self.place {
            Place::Slot(view, _) => views::grow(view, &mut slot.borrow_mut(), new_len),
            Place::Far(memory, _) => memory.grow(new_len),
            // Its growth is its own: other instances grow it, too.
            Place::Shared(_) => Err(std::io::ErrorKind::Unsupported.into()),
        }
        .map_err(Error::system("make a memory of the instance longer"))?;
        self.publish(context);
        Ok(())
    }
}

/// Writes a definition into a context: of a shared memory, the address of its own in place of a length.
fn publish(context: &Context, definition: Definition, addr: usize, len: usize) {
    let fields = vm_memory_definition::OFFSETS;
    context.write(definition + fields.base as i32, addr as u64);
    context.write(definition + fields.len as i32, len as u64);
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

/// Bytes to reserve for a memory outside the slot. Where all accesses are checked, there need be no guard.
pub(crate) fn far_len(ty: &MemoryType, tunables: &Tunables, limits: &Limits) -> usize {
    let (limit, _) = limits.memory_limit(ty);
    // A reservation is not empty.
    let len = round_up_to_page(ty.max_len().min(limit).max(1) as usize);
    match ty.is_guarded() {
        true => len.max(guarded_len(tunables)),
        false => len,
    }
}
