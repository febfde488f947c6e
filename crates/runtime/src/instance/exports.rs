//! Names to functions, memories, globals and tables.

use selvedge_artifact::ids::{FuncIdx, MemoryIdx, TableIdx};
use selvedge_artifact::module::ExternIdx;

use crate::error::Error;
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::{Exception, Tag};
use crate::host::vmctx::{HeapRef, HeapRefMut};
use crate::instance::record::Record;
use crate::instance::{Instance, Member};
use crate::value::{ExnRef, Func, References, Val};
use crate::vm::memory::GuestMemory;

impl Instance {
    /// The value of an exported global.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`].
    pub fn global(&self, name: &str) -> Result<Val, Error> {
        self.member_global(Member::MAIN, name)
    }

    /// The value of a global that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::global`].
    pub fn member_global(&self, member: Member, name: &str) -> Result<Val, Error> {
        let record = self.record(member)?;
        let item = record.export(name)?;
        let ExternIdx::Global(global) = item else {
            return Err(kind(record, name, "global", item));
        };
        let ty = record.module().info().globals[global.index()].ty;
        Ok(self.store.val_from_slot(record.global_raw(global), ty))
    }

    /// Stores a value in an exported mutable global.
    ///
    /// # Errors
    ///
    /// As [`Instance::global`]; [`Error::ValueType`] if the value is of another type;
    /// [`Error::InvalidArgument`] if the global is constant; [`Error::ForeignReference`].
    pub fn set_global(&mut self, name: &str, value: &Val) -> Result<(), Error> {
        self.set_member_global(Member::MAIN, name, value)
    }

    /// Stores a value in a mutable global that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::set_global`].
    pub fn set_member_global(
        &mut self,
        member: Member,
        name: &str,
        value: &Val,
    ) -> Result<(), Error> {
        self.store.state.get().check_change()?;
        let record = self.record(member)?;
        let item = record.export(name)?;
        let ExternIdx::Global(global) = item else {
            return Err(kind(record, name, "global", item));
        };
        let ty = record.module().info().globals[global.index()];
        record.set_global(global, ty, value)
    }

    /// An exported tag. It is this instance's own, unless the module imports it.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`].
    pub fn tag(&self, name: &str) -> Result<Tag, Error> {
        self.member_tag(Member::MAIN, name)
    }

    /// A tag that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::tag`].
    pub fn member_tag(&self, member: Member, name: &str) -> Result<Tag, Error> {
        self.record(member)?.exported_tag(name).cloned()
    }

    /// The exception behind a reference that the guest gave.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignReference`] if it is of another instance.
    pub fn exception(&self, exn: &ExnRef) -> Result<Exception, Error> {
        self.store.exception(exn)
    }

    /// The bytes of an exported memory.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`]; [`Error::MemoryBorrowed`] if it is borrowed mutably.
    pub fn memory(&self, name: &str) -> Result<HeapRef<'_>, Error> {
        self.member_memory(Member::MAIN, name)
    }

    /// The bytes of a memory that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::memory`].
    pub fn member_memory(&self, member: Member, name: &str) -> Result<HeapRef<'_>, Error> {
        let borrow = self.exported_memory(member, name)?.borrow();
        borrow.map(HeapRef).ok_or(Error::MemoryBorrowed)
    }

    /// The bytes of an exported memory, to be written.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`]; [`Error::MemoryBorrowed`] if it is borrowed.
    pub fn memory_mut(&mut self, name: &str) -> Result<HeapRefMut<'_>, Error> {
        self.member_memory_mut(Member::MAIN, name)
    }

    /// The bytes of a memory that a linked module exports, to be written.
    ///
    /// # Errors
    ///
    /// As [`Instance::memory_mut`].
    pub fn member_memory_mut(
        &mut self,
        member: Member,
        name: &str,
    ) -> Result<HeapRefMut<'_>, Error> {
        self.store.state.get().check_change()?;
        let borrow = self.exported_memory(member, name)?.borrow_mut();
        borrow.map(HeapRefMut).ok_or(Error::MemoryBorrowed)
    }

    fn exported_memory(&self, member: Member, name: &str) -> Result<&GuestMemory, Error> {
        let record = self.record(member)?;
        record.sliceable_memory(record.exported_memory(name)?)
    }

    /// An exported shared memory: another handle of it, which the instance need not outlive.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`]; [`Error::InvalidArgument`] if it is not shared.
    pub fn shared_memory(&self, name: &str) -> Result<SharedMemory, Error> {
        self.member_shared_memory(Member::MAIN, name)
    }

    /// A shared memory that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::shared_memory`].
    pub fn member_shared_memory(&self, member: Member, name: &str) -> Result<SharedMemory, Error> {
        let record = self.record(member)?;
        let memory = record.shared_memory(record.exported_memory(name)?);
        let own = Error::InvalidArgument("the memory is not shared");
        memory.cloned().ok_or(own)
    }

    /// The elements of an exported table.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`].
    pub fn table_len(&self, name: &str) -> Result<u64, Error> {
        self.member_table_len(Member::MAIN, name)
    }

    /// The elements of a table that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::table_len`].
    pub fn member_table_len(&self, member: Member, name: &str) -> Result<u64, Error> {
        let record = self.record(member)?;
        let table = record.exported_table(name)?;
        Ok(record.with_table(table, |_, table| table.len()))
    }

    /// An element of an exported table; `None` outside it.
    ///
    /// # Errors
    ///
    /// As [`Instance::table_len`].
    pub fn table_get(&self, name: &str, index: u64) -> Result<Option<Val>, Error> {
        self.member_table_get(Member::MAIN, name, index)
    }

    /// An element of a table that a linked module exports; `None` outside it.
    ///
    /// # Errors
    ///
    /// As [`Instance::table_len`].
    pub fn member_table_get(
        &self,
        member: Member,
        name: &str,
        index: u64,
    ) -> Result<Option<Val>, Error> {
        let record = self.record(member)?;
        let table = record.exported_table(name)?;
        Ok(record.with_table(table, |owner, table| {
            let raw = owner.entry_to_raw(table, table.get(owner.context(), index)?);
            let slot = crate::vm::context::ArraySlot::new(raw);
            Some(self.store.val_from_slot(slot, table.ty.elem))
        }))
    }

    /// Stores a reference in an exported table.
    ///
    /// # Errors
    ///
    /// As [`Instance::table_len`]; [`Error::ValueType`], [`Error::ForeignReference`], and
    /// [`Error::InvalidArgument`] outside the table.
    pub fn table_set(&mut self, name: &str, index: u64, value: &Val) -> Result<(), Error> {
        self.member_table_set(Member::MAIN, name, index, value)
    }

    /// Stores a reference in a table that a linked module exports.
    ///
    /// # Errors
    ///
    /// As [`Instance::table_set`].
    pub fn member_table_set(
        &mut self,
        member: Member,
        name: &str,
        index: u64,
        value: &Val,
    ) -> Result<(), Error> {
        self.store.state.get().check_change()?;
        let record = self.record(member)?;
        let table = record.exported_table(name)?;
        let expected = record.with_table(table, |_, table| table.ty.elem);
        self.store.check_value(value, expected)?;
        let raw = self.store.val_to_slot(value)?.lo;
        record
            .write_refs(table, index, &[raw])
            .map_err(|_| Error::InvalidArgument("the index lies outside the table"))
    }
}

impl Record {
    /// The exported item of a name.
    pub(crate) fn export(&self, name: &str) -> Result<ExternIdx, Error> {
        let info = self.module().info();
        info.export(name).ok_or_else(|| Error::UnknownExport {
            name: name.to_owned(),
            exports: info.exports.iter().map(|e| e.name.clone()).collect(),
        })
    }

    /// The exported function of a name.
    pub(crate) fn exported_func(&self, name: &str) -> Result<FuncIdx, Error> {
        match self.export(name)? {
            ExternIdx::Func(func) => Ok(func),
            item => Err(kind(self, name, "function", item)),
        }
    }

    /// The exported tag of a name.
    pub(crate) fn exported_tag(&self, name: &str) -> Result<&Tag, Error> {
        match self.export(name)? {
            ExternIdx::Tag(tag) => Ok(self.tag(tag)),
            item => Err(kind(self, name, "tag", item)),
        }
    }

    fn exported_memory(&self, name: &str) -> Result<MemoryIdx, Error> {
        match self.export(name)? {
            ExternIdx::Memory(memory) => Ok(memory),
            item => Err(kind(self, name, "memory", item)),
        }
    }

    fn exported_table(&self, name: &str) -> Result<TableIdx, Error> {
        match self.export(name)? {
            ExternIdx::Table(table) => Ok(table),
            item => Err(kind(self, name, "table", item)),
        }
    }

    /// The function at an index of a table, by the table's number.
    pub(crate) fn table_func(&self, table: u32, index: u32) -> Result<Func, Error> {
        let tables = &self.module().info().tables;
        let is_func = tables
            .get(table as usize)
            .is_some_and(|t| t.elem.is_func_ref());
        if !is_func {
            return Err(Error::InvalidArgument(
                "the module has no function table of this number",
            ));
        }
        self.with_table(TableIdx::new(table), |owner, table| {
            let outside = Error::InvalidArgument("the index lies outside the table");
            let entry = table.get(owner.context(), index.into()).ok_or(outside)?;
            let raw = owner.entry_to_raw(table, entry);
            let null = Error::InvalidArgument("the table has no function at this index");
            self.store().func_from_raw(raw).ok_or(null)
        })
    }
}

fn kind(record: &Record, name: &str, expected: &'static str, found: ExternIdx) -> Error {
    let found = record.module().info().extern_type(found).kind();
    Error::ExportKind {
        name: name.to_owned(),
        expected,
        found,
    }
}
