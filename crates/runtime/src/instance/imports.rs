//! What an instance of a module imports, resolved: functions, and what few modules import beside them.

use std::rc::Rc;
use std::sync::Arc;

use selvedge_artifact::ids::{GlobalIdx, MemoryIdx, TableIdx};

use crate::host::shared_memory::SharedMemory;
use crate::host::tag::Tag;
use crate::instance::memory::OwnMemory;
use crate::instance::record::Record;
use crate::program::Imports;

/// What an instance of a module imports.
pub(crate) struct Resolved {
    pub(crate) funcs: Arc<Imports>,
    /// All but functions, if there is any.
    pub(crate) others: Option<Box<Others>>,
}

/// What an instance of a module imports beside functions.
#[derive(Default)]
pub(crate) struct Others {
    /// Owner and index there of each imported table.
    pub(crate) tables: Vec<(Rc<Record>, TableIdx)>,
    /// Imported memories, in order.
    pub(crate) memories: Vec<ImportedMemory>,
    /// Owner and index there of each imported global.
    pub(crate) globals: Vec<(Rc<Record>, GlobalIdx)>,
    /// Imported tags.
    pub(crate) tags: Vec<Tag>,
}

impl Resolved {
    pub(crate) fn new(funcs: Arc<Imports>, others: Others) -> Self {
        let Others {
            tables,
            memories,
            globals,
            tags,
        } = &others;
        let is_empty =
            tables.is_empty() && memories.is_empty() && globals.is_empty() && tags.is_empty();
        let others = (!is_empty).then(|| Box::new(others));
        Self { funcs, others }
    }

    pub(super) fn tables(&self) -> &[(Rc<Record>, TableIdx)] {
        self.others.as_ref().map_or(&[], |others| &others.tables)
    }

    pub(super) fn memories(&self) -> &[ImportedMemory] {
        self.others.as_ref().map_or(&[], |others| &others.memories)
    }

    pub(super) fn globals(&self) -> &[(Rc<Record>, GlobalIdx)] {
        self.others.as_ref().map_or(&[], |others| &others.globals)
    }

    pub(super) fn tags(&self) -> &[Tag] {
        self.others.as_ref().map_or(&[], |others| &others.tags)
    }
}

/// Where an imported memory is.
pub(crate) enum ImportedMemory {
    /// Another module's: owner and index there.
    Member(Rc<Record>, MemoryIdx),
    /// Given by the host.
    Host(OwnMemory),
}

impl ImportedMemory {
    /// Address of its `VMMemoryDefinition`.
    pub(super) fn definition_addr(&self) -> usize {
        let (owner, memory) = match self {
            Self::Member(owner, memory) => (owner, *memory),
            Self::Host(memory) => return memory.shared().map_or(0, SharedMemory::definition_addr),
        };
        if let Some(shared) = owner.shared_memory(memory) {
            return shared.definition_addr();
        }
        let offset = owner.module().offsets().memory(memory);
        owner
            .vmctx()
            .wrapping_add_signed(offset.expect("the owner defines it") as isize)
    }
}
