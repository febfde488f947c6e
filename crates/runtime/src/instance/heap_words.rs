//! Memory 0 as numbers of 32 bits, and whether an address of the process lies in it.

use std::ops::{Deref, DerefMut};

use crate::error::Error;
use crate::host::vmctx::Vmctx;
use crate::instance::record::Record;
use crate::instance::{Instance, MEMORY_0};
use crate::vm::memory::{Borrow, BorrowMut};

/// A guest's memory as 32-bit numbers of this machine's byte order, borrowed like a
/// [`HeapRef`](crate::HeapRef). Bytes behind the last whole number, which only a memory with pages of one
/// byte can have, are not in it.
#[derive(Debug)]
pub struct HeapU32Ref<'a>(Borrow<'a>);

impl Deref for HeapU32Ref<'_> {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        self.0.words()
    }
}

/// A guest's memory as 32-bit numbers, borrowed to be written. See [`HeapU32Ref`].
#[derive(Debug)]
pub struct HeapU32RefMut<'a>(BorrowMut<'a>);

impl Deref for HeapU32RefMut<'_> {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        self.0.words()
    }
}

impl DerefMut for HeapU32RefMut<'_> {
    fn deref_mut(&mut self) -> &mut [u32] {
        self.0.words_mut()
    }
}

impl Instance {
    /// Memory 0 as 32-bit numbers.
    ///
    /// # Errors
    ///
    /// As [`Instance::heap`].
    pub fn heap_u32(&self) -> Result<HeapU32Ref<'_>, Error> {
        let borrow = self.memory0()?.borrow();
        borrow.map(HeapU32Ref).ok_or(Error::MemoryBorrowed)
    }

    /// Memory 0 as 32-bit numbers, to be written.
    ///
    /// # Errors
    ///
    /// As [`Instance::heap_mut`].
    pub fn heap_u32_mut(&mut self) -> Result<HeapU32RefMut<'_>, Error> {
        self.store.state.get().check_change()?;
        let borrow = self.memory0()?.borrow_mut();
        borrow.map(HeapU32RefMut).ok_or(Error::MemoryBorrowed)
    }

    /// Whether `len` bytes from an address of this process on lie in memory 0 as it is now. The address must
    /// lie in it even if `len` is 0, so the one behind the last byte does not. Nothing is read, and no
    /// address is wrong to ask for.
    pub fn check_heap<T>(&self, ptr: *const T, len: usize) -> bool {
        self.store.members[0].memory0_covers(ptr.addr(), len)
    }
}

impl Vmctx<'_> {
    /// As [`Instance::check_heap`], for memory 0 of the calling module.
    pub fn check_heap<T>(&self, ptr: *const T, len: usize) -> bool {
        self.caller().memory0_covers(ptr.addr(), len)
    }
}

impl Record {
    /// Whether a range of addresses of the process lies in memory 0 and begins inside.
    fn memory0_covers(&self, addr: usize, len: usize) -> bool {
        let Some((owner, memory)) = self.find_memory(MEMORY_0) else {
            return false;
        };
        let base = memory.range(owner.store().engine.tunables()).start;
        let covers = |at: usize| {
            let end = at.checked_add(len)?;
            Some((at as u64) < memory.len() && end as u64 <= memory.len())
        };
        addr.checked_sub(base).and_then(covers).unwrap_or(false)
    }
}
