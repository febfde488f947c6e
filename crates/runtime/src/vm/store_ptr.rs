//! The owner of a store, and the pointer back to it that its records hold.
//!
//! The context of every instance names its record, and a record names its store, so both need fixed
//! addresses. The owner derives every reference from one pointer; a mutable one is given out only
//! while the owner itself is borrowed mutably, that is while no guest of the store runs.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::instance::husk;
use crate::instance::store::Store;

/// Owns a store.
pub(crate) struct StoreBox(NonNull<Store>);

// SAFETY: a store is used by one thread at a time, the one that has the owner. What it holds of others
// is `Send` (embedder contexts are required to be); its `Rc`s and pointers never leave it.
unsafe impl Send for StoreBox {}

impl StoreBox {
    /// Puts a store at its place.
    pub(crate) fn new(store: Store) -> Self {
        Self(NonNull::from(Box::leak(Box::new(store))))
    }

    /// The pointer for the store's records.
    pub(crate) fn ptr(&self) -> StorePtr {
        StorePtr(self.0)
    }
}

impl Deref for StoreBox {
    type Target = Store;
    fn deref(&self) -> &Store {
        // SAFETY: the owner lives; mutable references need `&mut self`.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for StoreBox {
    fn deref_mut(&mut self) -> &mut Store {
        // SAFETY: the owner is borrowed mutably, so no guest runs and no record is in use.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for StoreBox {
    fn drop(&mut self) {
        // SAFETY: made by `new`, dropped once. Records are dropped with the store.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl fmt::Debug for StoreBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreBox").finish_non_exhaustive()
    }
}

/// Owns the store of an instance: when that is dropped, the store is kept for the next one, if it can be.
#[derive(Debug)]
pub(crate) struct LiveStore(ManuallyDrop<StoreBox>);

impl LiveStore {
    pub(crate) fn new(store: StoreBox) -> Self {
        Self(ManuallyDrop::new(store))
    }

    /// The pointer for the store's records.
    pub(crate) fn ptr(&self) -> StorePtr {
        self.0.ptr()
    }
}

impl Deref for LiveStore {
    type Target = Store;
    #[inline(always)]
    fn deref(&self) -> &Store {
        &self.0
    }
}

impl DerefMut for LiveStore {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Store {
        &mut self.0
    }
}

impl Drop for LiveStore {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, and nothing uses the store through it afterwards.
        husk::release(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}

/// Points from a record to its store.
#[derive(Clone, Copy)]
pub(crate) struct StorePtr(NonNull<Store>);

impl StorePtr {
    /// The store.
    pub(crate) fn get(&self) -> &Store {
        // SAFETY: a record is owned by its store, so the store lives as long as the record is used.
        unsafe { self.0.as_ref() }
    }
}
