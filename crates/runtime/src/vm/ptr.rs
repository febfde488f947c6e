//! Pointers that generated code may hold, as values that safe code can pass around.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::ptr::NonNull;

use super::context::VMFuncRef;

/// A pointer to a `VMFuncRef` that lives as long as the store it belongs to (I-11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FuncRefPtr(NonNull<VMFuncRef>);

impl FuncRefPtr {
    /// Makes the pointer from what generated code passed or holds; `None` for null.
    ///
    /// # Safety
    ///
    /// - A non-zero `raw` points to a `VMFuncRef` that its store keeps until it is dropped.
    pub(crate) unsafe fn from_raw(raw: u64) -> Option<Self> {
        NonNull::new(raw as usize as *mut VMFuncRef).map(Self)
    }

    /// Makes the pointer from the array of a program's imports, which a record keeps as long as its store lives.
    pub(crate) fn of_import(refs: &[VMFuncRef], index: usize) -> Option<Self> {
        refs.get(index).map(|place| Self(NonNull::from(place)))
    }

    /// Gives a `VMFuncRef` a place in an arena, which its record drops with the store.
    pub(crate) fn of_arena(arena: &mut FuncRefArena, func_ref: VMFuncRef) -> Self {
        let mut place = Box::new(func_ref);
        let ptr = Self(NonNull::from(&mut *place));
        arena.0.push(place);
        ptr
    }

    /// Makes the pointer from what generated code passed to a libcall, or from a value that was checked to
    /// be of the store at hand. Generated code is typed: what it passes as `funcref` is null or a
    /// `VMFuncRef` that its store keeps.
    pub(crate) fn known(raw: u64) -> Option<Self> {
        // SAFETY: as said; values of other stores are refused before they get here
        // (`References::func_to_raw`).
        unsafe { Self::from_raw(raw) }
    }

    /// What generated code holds.
    pub(crate) fn to_raw(self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    /// The `VMFuncRef` itself. The caller holds the store alive: it got the pointer from it.
    pub(crate) fn get(self) -> VMFuncRef {
        // SAFETY: by the constructors' contracts the place is alive as long as the store (I-11).
        unsafe { self.0.read() }
    }
}

/// Places of `VMFuncRef`s that generated code may hold: they never move.
#[derive(Debug, Default)]
#[allow(
    clippy::vec_box,
    reason = "generated code points to the boxes, which must not move"
)]
pub(crate) struct FuncRefArena(Vec<Box<VMFuncRef>>);
