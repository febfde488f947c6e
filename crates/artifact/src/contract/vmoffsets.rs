//! Where the parts of one module's `VMContext` lie, as offsets below `vmctx`.
//!
//! ```text
//!  low                                                                                vmctx == memory 0
//!  | writable, page-aligned | read-only to the guest, page-aligned                             |
//!  | globals                | inline tables | imported globals, memories | memories | tables | header |
//! ```
//!
//! Without the tunable `compact_contexts`, that is: with it no part is as long as its pages, and the globals lie right
//! below what the guest only reads.
//!
//! The fixed header stands right below memory 0, so that its fields have the same short offsets in
//! every module. Memory 0, if it lies in the slot, has its definition in there; the part named
//! memories holds those of all others that the module defines. All offsets are negative, given as `i32` for use in addressing modes.

use super::ids::{GlobalIdx, MemoryIdx, TableIdx};
use super::vmfields::{vm_context_header, vm_memory_definition, vm_table_definition};
use crate::module::ModuleInfo;
use thiserror::Error;

/// Bytes of a host page as far as the layout is concerned.
pub const CONTEXT_PAGE_LEN: u32 = 4096;
/// What the parts of a compact context are multiples of: globals are aligned to it.
pub const COMPACT_LEN: u32 = 16;
/// Bytes of a cell that holds a global.
pub const GLOBAL_LEN: u32 = 16;
/// Bytes of a table entry.
pub const TABLE_ENTRY_LEN: u32 = 8;
/// Entries up to which a table with a maximum stands inside the context.
pub const INLINE_TABLE_MAX: u64 = 1 << 16;
/// Bytes that a context may have at most: offsets stay far from the limits of `i32`.
pub const CONTEXT_MAX_LEN: u64 = 256 << 20;

/// The module needs more context than the format allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error(
    "the module's globals, tables and memories need {needed} bytes of context, more than the {CONTEXT_MAX_LEN} that are allowed"
)]
pub struct ContextTooLarge {
    /// Bytes that would be needed.
    pub needed: u64,
}

/// Offsets of one module's `VMContext`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VMOffsets {
    tables: i32,
    memories: i32,
    owns_memory0: bool,
    imported_memories: i32,
    imported_globals: i32,
    globals: i32,
    inline_tables: Vec<Option<i32>>,
    imported_table_count: u32,
    imported_memory_count: u32,
    imported_global_count: u32,
    read_only_len: u32,
    writable_len: u32,
}

impl VMOffsets {
    /// Lays out the context of a module, `compact` as the tunable `compact_contexts` says.
    pub fn new(module: &ModuleInfo, compact: bool) -> Result<Self, ContextTooLarge> {
        let part = u64::from(if compact {
            COMPACT_LEN
        } else {
            CONTEXT_PAGE_LEN
        });
        let imported = &module.imported;
        let mut cursor = Cursor(u64::from(vm_context_header::OFFSETS.struct_len));
        let defined_tables = &module.tables[imported.tables as usize..];
        let tables = cursor.down(
            defined_tables.len() as u64 * u64::from(vm_table_definition::OFFSETS.struct_len),
            16,
        );
        let far_memories = module.far_memories().len() as u64;
        let definition_len = u64::from(vm_memory_definition::OFFSETS.struct_len);
        let memories = cursor.down(far_memories * definition_len, 16);
        let imported_memories = cursor.down(u64::from(imported.memories) * 8, 8);
        let imported_globals = cursor.down(u64::from(imported.globals) * 8, 8);
        let inline_tables: Vec<_> = defined_tables
            .iter()
            .map(|table| {
                let capacity = table.max.filter(|&max| max <= INLINE_TABLE_MAX)?;
                Some(cursor.down(capacity * u64::from(TABLE_ENTRY_LEN), 16))
            })
            .collect();
        let read_only_len = cursor.round(part);
        let globals = cursor.down(
            (module.globals.len() as u64 - u64::from(imported.globals)) * u64::from(GLOBAL_LEN),
            16,
        );
        let total = cursor.round(part);
        if total > CONTEXT_MAX_LEN {
            return Err(ContextTooLarge { needed: total });
        }
        // Below CONTEXT_MAX_LEN every distance fits 32 bits, so the conversions are exact.
        let offset = |distance: u64| -(distance as i32);
        Ok(Self {
            tables: offset(tables),
            memories: offset(memories),
            owns_memory0: module.owns_memory0(),
            imported_memories: offset(imported_memories),
            imported_globals: offset(imported_globals),
            globals: offset(globals),
            inline_tables: inline_tables.into_iter().map(|t| t.map(offset)).collect(),
            imported_table_count: imported.tables,
            imported_memory_count: imported.memories,
            imported_global_count: imported.globals,
            read_only_len: read_only_len as u32,
            writable_len: (total - read_only_len) as u32,
        })
    }

    /// Offset of a field of the fixed header, given its offset inside `VMContextHeader`.
    pub const fn header(field: u32) -> i32 {
        field as i32 - vm_context_header::OFFSETS.struct_len as i32
    }

    /// The pointer to the `VMMemoryDefinition` of an imported memory.
    pub fn imported_memory(&self, memory: MemoryIdx) -> i32 {
        self.imported_memories + memory.as_u32() as i32 * 8
    }

    /// The `VMMemoryDefinition` of a memory defined in the module; `None` for an imported one.
    pub fn memory(&self, memory: MemoryIdx) -> Option<i32> {
        let defined = memory.as_u32().checked_sub(self.imported_memory_count)?;
        let far = match defined.checked_sub(self.owns_memory0.into()) {
            Some(far) => far,
            None => return Some(Self::header(vm_context_header::OFFSETS.memory0_base)),
        };
        Some(self.memories + far as i32 * vm_memory_definition::OFFSETS.struct_len as i32)
    }

    /// The pointer to the cell of an imported global.
    pub fn imported_global(&self, global: GlobalIdx) -> i32 {
        self.imported_globals + global.as_u32() as i32 * 8
    }

    /// The `VMTableDefinition` of a table defined in the module; `None` for an imported one.
    pub fn table(&self, table: TableIdx) -> Option<i32> {
        let defined = table.as_u32().checked_sub(self.imported_table_count)?;
        Some(self.tables + defined as i32 * vm_table_definition::OFFSETS.struct_len as i32)
    }

    /// Entry 0 of a table that stands inside the context; `None` for an imported table or one
    /// that may grow too large.
    pub fn inline_table(&self, table: TableIdx) -> Option<i32> {
        let defined = table.as_u32().checked_sub(self.imported_table_count)?;
        self.inline_tables.get(defined as usize).copied().flatten()
    }

    /// The cell of a global defined in the module; `None` for an imported one.
    pub fn global(&self, global: GlobalIdx) -> Option<i32> {
        let defined = global.as_u32().checked_sub(self.imported_global_count)?;
        Some(self.globals + (defined * GLOBAL_LEN) as i32)
    }

    /// Bytes right below `vmctx` that the guest only reads; a multiple of the page, if the context is not compact.
    pub const fn read_only_len(&self) -> u32 {
        self.read_only_len
    }

    /// Bytes below the read-only part that the guest may write; a multiple of the page, if the context is not compact.
    pub const fn writable_len(&self) -> u32 {
        self.writable_len
    }
}

/// Distance below `vmctx` that is taken so far.
struct Cursor(u64);

impl Cursor {
    /// Takes `len` bytes whose lowest address is aligned; gives the distance of that address.
    fn down(&mut self, len: u64, align: u64) -> u64 {
        self.0 = self.0.saturating_add(len).next_multiple_of(align);
        self.0
    }

    /// Rounds up to the length of a part.
    fn round(&mut self, len: u64) -> u64 {
        self.0 = self.0.next_multiple_of(len);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{GlobalType, MemoryType, TableType, ValType};

    fn module(tables: &[Option<u64>], globals: u32) -> ModuleInfo {
        ModuleInfo {
            tables: tables
                .iter()
                .map(|&max| TableType {
                    elem: ValType::FUNCREF,
                    min: 0,
                    max,
                    is_64: false,
                })
                .collect(),
            globals: (0..globals)
                .map(|_| GlobalType {
                    ty: ValType::I32,
                    mutable: true,
                })
                .collect(),
            ..ModuleInfo::default()
        }
    }

    #[test]
    fn an_empty_module_needs_one_page() {
        let offsets = VMOffsets::new(&module(&[], 0), false).unwrap();
        assert_eq!(offsets.read_only_len(), 4096);
        assert_eq!(offsets.writable_len(), 0);
        assert_eq!(VMOffsets::header(vm_context_header::OFFSETS.magic), -8);
    }

    #[test]
    fn parts_do_not_overlap() {
        for compact in [false, true] {
            let info = module(&[Some(10), None, Some(1000)], 700);
            let offsets = VMOffsets::new(&info, compact).unwrap();
            let header = -(vm_context_header::OFFSETS.struct_len as i32);
            let table = |i| offsets.table(TableIdx::new(i)).unwrap();
            assert!(table(2) + 16 <= header);
            let inline0 = offsets.inline_table(TableIdx::new(0)).unwrap();
            let inline2 = offsets.inline_table(TableIdx::new(2)).unwrap();
            assert!(inline0 + 80 <= table(0));
            assert!(inline2 + 8000 <= inline0);
            assert_eq!(offsets.inline_table(TableIdx::new(1)), None);
            assert!(-(offsets.read_only_len() as i32) <= inline2);
            let last = offsets.global(GlobalIdx::new(699)).unwrap();
            assert!(last + 16 <= -(offsets.read_only_len() as i32));
            let total = offsets.read_only_len() + offsets.writable_len();
            assert!(-(total as i32) <= offsets.global(GlobalIdx::new(0)).unwrap());
            if compact {
                assert_eq!(last + 16, -(offsets.read_only_len() as i32));
                assert_eq!(offsets.read_only_len() % 16, 0);
                assert_eq!(offsets.writable_len(), 700 * 16);
            }
        }
    }

    #[test]
    fn memories_beyond_the_first_own_one_have_definitions_in_line() {
        let mut info = module(&[Some(4)], 0);
        info.memories = vec![MemoryType::new(1, None); 3];
        let at = |offsets: &VMOffsets, i| offsets.memory(MemoryIdx::new(i));
        let own = VMOffsets::new(&info, false).unwrap();
        let header = VMOffsets::header(vm_context_header::OFFSETS.memory0_base);
        assert_eq!(at(&own, 0), Some(header));
        let first = at(&own, 1).unwrap();
        assert_eq!(at(&own, 2), Some(first + 16));
        assert!(first + 32 <= own.table(TableIdx::new(0)).unwrap());
        assert!(own.inline_table(TableIdx::new(0)).unwrap() + 32 <= first);

        info.imported.memories = 2;
        let imported = VMOffsets::new(&info, false).unwrap();
        assert_eq!(at(&imported, 0), None);
        assert_eq!(at(&imported, 1), None);
        let only = at(&imported, 2).unwrap();
        assert!(only + 16 <= imported.table(TableIdx::new(0)).unwrap());
        assert!(imported.imported_memory(MemoryIdx::new(1)) + 8 <= only);
    }

    #[test]
    fn too_many_tables_are_refused() {
        let tables = vec![Some(INLINE_TABLE_MAX); 1000];
        assert!(VMOffsets::new(&module(&tables, 0), false).is_err());
    }
}
