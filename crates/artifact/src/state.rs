//! The state of a guest but for the bytes of its memory, free of addresses: what an instance begins with whose
//! artifact is a snapshot.
//!
//! The bytes of memory 0 are the artifact's memory image. What is not here begins as the module says.

use serde::{Deserialize, Serialize};

use crate::contract::ids::FuncIdx;
use crate::module::ModuleInfo;

/// Globals, tables, the length of memory 0, and which segments are dropped.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Bytes of memory 0, if it lies in the slot.
    pub memory_len: u64,
    /// Globals in order.
    pub globals: Vec<GlobalState>,
    /// Entries of the tables in order.
    pub tables: Vec<Vec<EntryState>>,
    /// For each data segment whether it is dropped.
    pub dropped_data: Vec<bool>,
    /// For each element segment whether it is dropped.
    pub dropped_elems: Vec<bool>,
    /// What its maker noted of the host's state: names and values.
    pub notes: Vec<(String, String)>,
}

/// The value of a global.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GlobalState {
    /// A number, a vector, or null: low half, high half.
    Bits(u64, u64),
    /// A function of the module, its own or imported.
    Func(FuncIdx),
}

/// What stands in a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EntryState {
    /// Null, or a function of the module: the entry as generated code reads it.
    Bits(u64),
    /// An imported function.
    Import(FuncIdx),
}

impl State {
    /// Checks that it is a state of this module: as many of everything, and within its bounds.
    pub(crate) fn fits(&self, info: &ModuleInfo) -> bool {
        let imported = &info.imported;
        let funcs = info.funcs.len();
        let memory_ok = match info.memories.first() {
            Some(memory) if info.owns_memory0() => {
                self.memory_len.is_multiple_of(memory.page_len())
                    && (memory.min_len()..=memory.max_len()).contains(&self.memory_len)
            }
            _ => self.memory_len == 0,
        };
        let globals_ok = self.globals.iter().all(|global| match global {
            GlobalState::Bits(..) => true,
            GlobalState::Func(func) => func.index() < funcs,
        });
        let tables_ok = self.tables.iter().zip(&info.tables).all(|(entries, ty)| {
            let len = entries.len() as u64;
            let known = |entry: &EntryState| match entry {
                EntryState::Bits(_) => true,
                EntryState::Import(func) => func.as_u32() < imported.funcs,
            };
            len >= ty.min && ty.max.is_none_or(|max| len <= max) && entries.iter().all(known)
        });
        imported.globals == 0
            && imported.tables == 0
            && imported.memories == 0
            && info.far_memories().is_empty()
            && memory_ok
            && globals_ok
            && tables_ok
            && self.globals.len() == info.globals.len()
            && self.tables.len() == info.tables.len()
            && self.dropped_data.len() == info.data.len()
            && self.dropped_elems.len() == info.elems.len()
    }
}
