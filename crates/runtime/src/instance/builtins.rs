//! What libcalls do: growth, bulk operations and everything about tables.
//!
//! Arguments come from generated code, typed but not bounded: every index into a memory or table is
//! checked here. Indices of memories, tables, segments and functions come from validated code.

use selvedge_artifact::ids::{DataIdx, ElemIdx, FuncIdx, MemoryIdx, TableIdx, TypeIdx};
use selvedge_artifact::traps::TrapCode;

use crate::instance::record::Record;
use crate::vm::ptr::FuncRefPtr;

/// A libcall traps.
#[derive(Debug)]
pub(crate) struct LibTrap {
    pub(crate) code: TrapCode,
    pub(crate) detail: Option<String>,
}

impl From<TrapCode> for LibTrap {
    fn from(code: TrapCode) -> Self {
        Self { code, detail: None }
    }
}

/// What growth returns when it fails.
const GROW_FAILED: u64 = u64::MAX;

/// Two indices in one word, the first in the upper half.
fn unpack(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

/// A range of bytes, if it lies inside `len`.
fn range(at: u64, count: u64, len: usize) -> Result<std::ops::Range<usize>, TrapCode> {
    match at.checked_add(count) {
        Some(end) if end <= len as u64 => Ok(at as usize..end as usize),
        _ => Err(TrapCode::HeapOutOfBounds),
    }
}

impl Record {
    pub(crate) fn memory_grow(&self, memory: u32, delta: u64) -> Result<u64, LibTrap> {
        Ok(self
            .grow_memory(MemoryIdx::new(memory), delta)
            .unwrap_or(GROW_FAILED))
    }

    pub(crate) fn memory_copy(
        &self,
        memories: u64,
        dst: u64,
        src: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        let (to, from) = unpack(memories);
        let (to, from) = (MemoryIdx::new(to), MemoryIdx::new(from));
        let source = self.memory(from).ok_or(TrapCode::HeapOutOfBounds)?;
        // Two imports may be the same memory.
        if self.memory(to).is_some_and(|to| std::ptr::eq(to, source)) {
            return self.with_memory(to, |bytes| {
                let src = range(src, len, bytes.len())?;
                let dst = range(dst, len, bytes.len())?;
                bytes.copy_within(src, dst.start);
                Ok(())
            });
        }
        let source = source.borrow().ok_or(TrapCode::HeapOutOfBounds)?;
        self.with_memory(to, |bytes| {
            let src = range(src, len, source.bytes().len())?;
            let dst = range(dst, len, bytes.len())?;
            bytes[dst].copy_from_slice(&source.bytes()[src]);
            Ok(())
        })
    }

    pub(crate) fn memory_fill(
        &self,
        memory: u32,
        dst: u64,
        value: u32,
        len: u64,
    ) -> Result<(), LibTrap> {
        self.with_memory(MemoryIdx::new(memory), |bytes| {
            let dst = range(dst, len, bytes.len())?;
            bytes[dst].fill(value as u8);
            Ok(())
        })
    }

    pub(crate) fn memory_init(
        &self,
        memory_data: u64,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), LibTrap> {
        let (memory, data) = unpack(memory_data);
        let segment = self.data_segment(DataIdx::new(data));
        self.with_memory(MemoryIdx::new(memory), |bytes| {
            let src = range(src.into(), len.into(), segment.len())?;
            let dst = range(dst, len.into(), bytes.len())?;
            bytes[dst].copy_from_slice(&segment[src]);
            Ok(())
        })
    }

    pub(crate) fn data_drop(&self, data: u32) -> Result<(), LibTrap> {
        self.drop_data(DataIdx::new(data));
        Ok(())
    }

    pub(crate) fn table_size(&self, table: u32) -> Result<u64, LibTrap> {
        Ok(self.with_table(TableIdx::new(table), |_, table| table.len()))
    }

    pub(crate) fn table_get(&self, table: u32, index: u64) -> Result<u64, LibTrap> {
        self.with_table(TableIdx::new(table), |owner, table| {
            let entry = table
                .get(owner.context(), index)
                .ok_or(TrapCode::TableOutOfBounds)?;
            Ok(owner.entry_to_raw(table, entry))
        })
    }

    pub(crate) fn table_set(&self, table: u32, index: u64, value: u64) -> Result<(), LibTrap> {
        self.with_table(TableIdx::new(table), |owner, table| {
            let entry = owner.raw_to_entry(table, value);
            table
                .write(owner.context(), index, std::iter::once(entry))
                .ok_or_else(|| TrapCode::TableOutOfBounds.into())
        })
    }

    pub(crate) fn table_grow(&self, table: u32, delta: u64, init: u64) -> Result<u64, LibTrap> {
        Ok(self.with_table(TableIdx::new(table), |owner, table| {
            let entry = owner.raw_to_entry(table, init);
            let limit = owner.store().region_limits.table_elements;
            table
                .grow(owner.context(), owner.vmctx(), delta, entry, limit)
                .unwrap_or(GROW_FAILED)
        }))
    }

    pub(crate) fn table_fill(
        &self,
        table: u32,
        dst: u64,
        value: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        self.with_table(TableIdx::new(table), |owner, table| {
            let in_bounds = dst.checked_add(len).is_some_and(|end| end <= table.len());
            if !in_bounds {
                return Err(TrapCode::TableOutOfBounds.into());
            }
            let entry = owner.raw_to_entry(table, value);
            table
                .write(
                    owner.context(),
                    dst,
                    std::iter::repeat_n(entry, len as usize),
                )
                .ok_or_else(|| TrapCode::TableOutOfBounds.into())
        })
    }

    pub(crate) fn table_copy(
        &self,
        tables: u64,
        dst: u64,
        src: u64,
        len: u64,
    ) -> Result<(), LibTrap> {
        let (to, from) = unpack(tables);
        let values = self.with_table(TableIdx::new(from), |owner, table| {
            let entries = table.read(owner.context(), src, len)?;
            Some(
                entries
                    .into_iter()
                    .map(|entry| owner.entry_to_raw(table, entry))
                    .collect::<Vec<_>>(),
            )
        });
        let values = values.ok_or(TrapCode::TableOutOfBounds)?;
        self.write_refs(TableIdx::new(to), dst, &values)
    }

    pub(crate) fn table_init(
        &self,
        table_elem: u64,
        dst: u64,
        src: u32,
        len: u32,
    ) -> Result<(), LibTrap> {
        let (table, elem) = unpack(table_elem);
        let values = self.elem_values(ElemIdx::new(elem), src.into(), len.into())?;
        self.write_refs(TableIdx::new(table), dst, &values)
    }

    pub(crate) fn elem_drop(&self, elem: u32) -> Result<(), LibTrap> {
        self.drop_elem(ElemIdx::new(elem));
        Ok(())
    }

    pub(crate) fn ref_func(&self, func: u32) -> Result<u64, LibTrap> {
        Ok(self
            .func_ref(FuncIdx::new(func))
            .map_or(0, FuncRefPtr::to_raw))
    }

    pub(crate) fn indirect_callee(&self, table_type: u64, index: u64) -> Result<u64, LibTrap> {
        let (table, ty) = unpack(table_type);
        let raw = self.with_table(TableIdx::new(table), |owner, table| {
            // Only the low half is the guest's index.
            let entry = table.get(owner.context(), index).ok_or_else(|| LibTrap {
                code: TrapCode::UndefinedElement,
                detail: Some(format!("element {index} of a table of {}", table.len())),
            })?;
            Ok::<_, LibTrap>(owner.entry_to_raw(table, entry))
        })?;
        let Some(func) = FuncRefPtr::known(raw) else {
            return Err(LibTrap {
                code: TrapCode::IndirectCallToNull,
                detail: Some(format!("element {index}")),
            });
        };
        let ty = TypeIdx::new(ty);
        if func.get().type_id != self.module().type_ids()[ty.index()] {
            return Err(LibTrap {
                code: TrapCode::BadSignature,
                detail: Some(self.mismatch(ty, func)),
            });
        }
        Ok(raw)
    }

    /// Stores references in a table.
    pub(crate) fn write_refs(
        &self,
        table: TableIdx,
        at: u64,
        values: &[u64],
    ) -> Result<(), LibTrap> {
        self.with_table(table, |owner, table| {
            let entries = values.iter().map(|&raw| owner.raw_to_entry(table, raw));
            table
                .write(owner.context(), at, entries)
                .ok_or_else(|| TrapCode::TableOutOfBounds.into())
        })
    }

    /// What was expected and what was found, in words.
    fn mismatch(&self, expected: TypeIdx, found: FuncRefPtr) -> String {
        let expected = &self.module().info().types[expected.index()];
        match self.store().func_type(found) {
            Some(found) => format!("expected {expected}, found {found}"),
            None => format!("expected {expected}"),
        }
    }
}
