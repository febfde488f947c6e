//! What a host function sees of the guest that calls it.

use std::any::Any;
use std::cell::{Ref, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

use selvedge_artifact::types::ValType;

use crate::error::Error;
use crate::fault::details::WasmBacktrace;
use crate::host::error::{HostError, TerminationDetails};
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::{Exception, Tag};
use crate::instance::MEMORY_0;
use crate::instance::growth::Asker;
use crate::instance::record::Record;
use crate::instance::store::Store;
use crate::value::{ExnRef, Func, References, Val, check_types};
use crate::vm::context::ArraySlot;
use crate::vm::fiber::Yielder;
use crate::vm::memory::{Borrow, BorrowMut};

/// The calling guest, for the time of one hostcall.
pub struct Vmctx<'a> {
    caller: &'a Record,
    /// What the host function is suspended with, if it runs on a fiber.
    yielder: Option<&'a Yielder>,
}

impl<'a> Vmctx<'a> {
    pub(crate) fn new(caller: &'a Record) -> Self {
        let yielder = None;
        Self { caller, yielder }
    }

    pub(crate) fn on_fiber(caller: &'a Record, yielder: &'a Yielder) -> Self {
        let yielder = Some(yielder);
        Self { caller, yielder }
    }

    pub(crate) fn record(&self) -> &'a Record {
        self.caller
    }

    pub(crate) fn yielder(&self) -> Option<&'a Yielder> {
        self.yielder
    }

    /// Where the guest stands that calls the host function, and those of the same instance that wait for host
    /// functions around it, innermost first. Nothing if the host calls the host function itself.
    pub fn backtrace(&self) -> WasmBacktrace {
        crate::vm::resume::backtrace_of_callers(self.store())
    }

    /// The bytes of the caller's memory 0.
    ///
    /// # Errors
    ///
    /// If the module has no memory, if it is shared, or if it is borrowed mutably already.
    pub fn heap(&self) -> Result<HeapRef<'_>, HostError> {
        let memory = self.caller.sliceable_memory(MEMORY_0)?;
        memory.borrow().map(HeapRef).ok_or_else(|| borrowed("heap"))
    }

    /// The bytes of the caller's memory 0, to be written.
    ///
    /// # Errors
    ///
    /// If the module has no memory, if it is shared, or if it is borrowed already.
    pub fn heap_mut(&self) -> Result<HeapRefMut<'_>, HostError> {
        let memory = self.caller.sliceable_memory(MEMORY_0)?;
        let borrow = memory.borrow_mut();
        borrow.map(HeapRefMut).ok_or_else(|| borrowed("heap_mut"))
    }

    /// The caller's memory 0, if it is shared.
    pub fn shared_memory(&self) -> Option<SharedMemory> {
        self.caller.shared_memory(MEMORY_0).cloned()
    }

    /// Grows the caller's memory 0 by a number of Wasm pages; the former count of pages.
    ///
    /// # Errors
    ///
    /// If the module has no memory, if it is borrowed, or if its maximum, a limit or the instance's limiter stands
    /// against it; [`Error::AsyncRequired`] if that is an [`AsyncLimiter`](crate::AsyncLimiter).
    pub fn grow_memory(&self, additional_pages: u32) -> Result<u32, HostError> {
        if self.caller.shared_memory(MEMORY_0).is_none() {
            self.caller.sliceable_memory(MEMORY_0)?;
        }
        let grown =
            self.caller
                .grow_memory_checked(MEMORY_0, additional_pages, Asker::HostFunction);
        grown.map_err(|error| match error {
            Error::MemoryBorrowed => borrowed("heap"),
            other => other.into(),
        })
    }

    /// Whether the instance has an embedder context of this type.
    pub fn contains_embed_ctx<T: Any>(&self) -> bool {
        self.caller.store().embed_cell::<T>().is_some()
    }

    /// An embedder context of this type.
    ///
    /// # Errors
    ///
    /// If the instance has none, or if it is borrowed mutably already.
    pub fn get_embed_ctx<T: Any>(&self) -> Result<Ref<'_, T>, HostError> {
        self.embed_ctx()
    }

    /// An embedder context of this type, to be changed.
    ///
    /// # Errors
    ///
    /// If the instance has none, or if it is borrowed already.
    pub fn get_embed_ctx_mut<T: Any>(&self) -> Result<RefMut<'_, T>, HostError> {
        self.embed_ctx_mut()
    }

    /// An embedder context of this type.
    ///
    /// # Errors
    ///
    /// If the instance has none, or if it is borrowed mutably already.
    pub fn embed_ctx<T: Any>(&self) -> Result<Ref<'_, T>, HostError> {
        let cell = self.caller.store().embed_cell::<T>().ok_or_else(no_ctx)?;
        let borrowed = cell.try_borrow();
        let borrowed = borrowed.map_err(|_| self::borrowed("get_embed_ctx"))?;
        Ref::filter_map(borrowed, |ctx| ctx.downcast_ref()).map_err(|_| no_ctx())
    }

    /// An embedder context of this type, to be changed.
    ///
    /// # Errors
    ///
    /// If the instance has none, or if it is borrowed already.
    pub fn embed_ctx_mut<T: Any>(&self) -> Result<RefMut<'_, T>, HostError> {
        let cell = self.caller.store().embed_cell::<T>().ok_or_else(no_ctx)?;
        let borrowed = cell.try_borrow_mut();
        let borrowed = borrowed.map_err(|_| self::borrowed("get_embed_ctx_mut"))?;
        RefMut::filter_map(borrowed, |ctx| ctx.downcast_mut()).map_err(|_| no_ctx())
    }

    /// Calls an exported function of the calling module, and through it the guest again.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`](crate::Instance::run). A fault in the inner call is an error here; the
    /// outer call can go on or pass it up.
    pub fn call_export(&self, name: &str, args: &[Val]) -> Result<Vec<Val>, Error> {
        self.caller.call_export(name, args)
    }

    /// A tag that the calling module exports.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`].
    pub fn tag(&self, name: &str) -> Result<Tag, Error> {
        self.caller.exported_tag(name).cloned()
    }

    /// The exception that the guest passed as a reference.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignReference`] if it is of another instance.
    pub fn exception(&self, exn: &ExnRef) -> Result<Exception, Error> {
        self.caller.store().exception(exn)
    }

    /// Calls a function that the guest passed as a reference.
    ///
    /// # Errors
    ///
    /// As [`Vmctx::call_export`]; [`Error::ForeignReference`] if it is of another instance.
    pub fn call_func(&self, func: Func, args: &[Val]) -> Result<Vec<Val>, Error> {
        self.caller.store().call_func(func, args)
    }

    /// The function at an index of a table of the calling module, by the table's number. It is called with
    /// [`Vmctx::call_func`].
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if there is no such table, element or function.
    pub fn get_func_from_idx(&self, table_idx: u32, func_idx: u32) -> Result<Func, Error> {
        self.caller.table_func(table_idx, func_idx)
    }

    /// Ends the guest and hands a value to whoever ran it: what a host function returns for that. Its
    /// destructors run as at any return.
    ///
    /// # Errors
    ///
    /// Always: [`HostError::Terminate`] with [`TerminationDetails::Provided`].
    pub fn terminate<R, T: Any + Send + Sync>(&self, value: T) -> Result<R, HostError> {
        Err(HostError::terminate(value))
    }

    /// The module that calls.
    pub(crate) fn caller(&self) -> &Record {
        self.caller
    }

    pub(crate) fn store(&self) -> &Store {
        self.caller.store()
    }

    pub(crate) fn vals_from_slots(&self, slots: &[ArraySlot], types: &[ValType]) -> Vec<Val> {
        let store = self.caller.store();
        slots
            .iter()
            .zip(types)
            .map(|(&slot, &ty)| store.val_from_slot(slot, ty))
            .collect()
    }

    pub(crate) fn vals_to_slots(
        &self,
        vals: &[Val],
        types: &[ValType],
        slots: &mut [ArraySlot],
    ) -> Result<(), HostError> {
        check_types(
            self.caller.store(),
            "the host function returns",
            vals,
            types,
        )?;
        for (slot, val) in slots.iter_mut().zip(vals) {
            *slot = self.caller.store().val_to_slot(val)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Vmctx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmctx")
            .field("module", &self.caller.module().name())
            .finish_non_exhaustive()
    }
}

#[cold]
fn borrowed(what: &'static str) -> HostError {
    HostError::Terminate(TerminationDetails::BorrowError(what))
}

#[cold]
fn no_ctx() -> HostError {
    HostError::Terminate(TerminationDetails::CtxNotFound)
}

/// The bytes of a guest's memory, borrowed: while it lives the guest neither runs nor grows.
#[derive(Debug)]
pub struct HeapRef<'a>(pub(crate) Borrow<'a>);

impl Deref for HeapRef<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The bytes of a guest's memory, borrowed to be written.
#[derive(Debug)]
pub struct HeapRefMut<'a>(pub(crate) BorrowMut<'a>);

impl Deref for HeapRefMut<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl DerefMut for HeapRefMut<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}
