//! What is left of an instance that was dropped, made clean and kept in its slot: the next instance of its
//! program begins with it. Nothing is allocated or looked up for that, and no count that other threads
//! change is touched.
//!
//! ```text
//!   drop    abandon what waits -> restore memory, globals, tables -> renew the store -> the slot's list
//!   make    the slot's list -> options of the new instance -> data segments that are in no image
//! ```
//!
//! [`Instance::reset`](crate::Instance::reset) restores by the same code. What can't be restored so is
//! dropped instead, and its slot becomes a bare one: an instance that was suspended, one with a shared
//! memory of its own, one whose parts somebody still holds.

use std::rc::Rc;
use std::sync::Arc;

use crate::error::Error;
use crate::instance::record::Record;
use crate::instance::store::Store;
use crate::program::{Program, WeakProgram};
use crate::region::freelist::Free;
use crate::region::limits::Limits;
use crate::region::metrics::SlotCounts;
use crate::region::slot::{Lease, Slot};
use crate::vm::store_ptr::StoreBox;

/// A store with one member, as it was before its instance did anything.
#[derive(Debug)]
pub(crate) struct Husk {
    store: StoreBox,
}

impl Husk {
    fn name(&self) -> Option<&WeakProgram> {
        self.store.program.as_ref()
    }

    /// Whether an instance of the program can begin with it.
    pub(crate) fn is_of(&self, program: &Program) -> bool {
        self.name().is_some_and(|name| name.is(program))
    }

    /// Whether somebody can still ask for an instance of its program.
    pub(crate) fn is_wanted(&self) -> bool {
        self.name().is_some_and(WeakProgram::is_alive)
    }

    /// Whether an instance with such limits can begin with it. Memories outside the slot have address space
    /// by the limits that they were made with.
    pub(crate) fn fits(&self, limits: &Limits) -> bool {
        let main = self.store.members.first();
        self.store.region_limits == *limits || main.is_some_and(|main| !main.has_far_memory())
    }

    /// What was counted in its slot since it was taken.
    pub(crate) fn take_counts(&mut self) -> SlotCounts {
        let main = self.store.members.first();
        main.map_or_else(SlotCounts::default, |main| main.take_counts())
    }

    /// The store.
    pub(crate) fn into_store(self) -> StoreBox {
        self.store
    }

    /// Its slot, for another program.
    pub(crate) fn into_slot(mut self) -> Result<Slot, Error> {
        let main = self.store.members.pop().and_then(Rc::into_inner);
        let main = main.ok_or(Error::InvalidArgument("a husk has one member"))?;
        Ok(main.into_slot())
    }
}

/// Takes the store of an instance that is dropped: cleans it and gives it to its region, or drops it.
pub(crate) fn release(mut store: StoreBox) {
    let Some(lease) = clean(&mut store) else {
        return;
    };
    let husk = Husk { store };
    let kept = |free: &Free| match free {
        Free::Husk(husk) => husk.is_wanted() && lease.region().is_open(),
        Free::Slot(_) => true,
    };
    let refused = lease.region().free.give(Free::Husk(husk), kept);
    // Dropped here, when the list is not locked.
    drop(refused);
}

/// Makes a store what it was before its instance did anything; `None` if it can't be kept.
fn clean(store: &mut Store) -> Option<Arc<Lease>> {
    if store.program.is_none() || !store.is_whole() {
        return None;
    }
    // What is the embedder's and may run code of its own goes first.
    store.forget_embedder();
    store.forget_names();
    // The later ones name the earlier ones only.
    while store.members.len() > 1 {
        store.members.pop();
    }
    store.forget_references();
    let main = Rc::get_mut(store.members.first_mut()?)?;
    main.renew().ok()?;
    let lease = main.lease();
    store.renew();
    Some(lease)
}

impl Record {
    /// Restores all that the guest could change, and gives what each instance has its own of.
    fn renew(&mut self) -> Result<(), Error> {
        if !self.is_sealed() || self.memory_is_borrowed() {
            return Err(Error::InvalidArgument("the record can't be kept"));
        }
        self.restore()?;
        self.renew_tags()
    }
}
