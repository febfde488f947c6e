//! Linking more modules into an instance: they import each other's functions, tables, memories and
//! globals, and share one stack and one budget.
//!
//! The module that an instance is made of imports host functions only, which a `Program` resolves once
//! for all instances. Members are resolved here, per instance, since what they import is per instance.

use std::rc::Rc;
use std::sync::Arc;

use selvedge_artifact::module::ExternIdx;
use selvedge_artifact::types::{ExternType, MemoryType, TableType};

use crate::error::Error;
use crate::host::linker::{Given, Linker, mismatch, missing};
use crate::instance::imports::{ImportedMemory, Others, Resolved};
use crate::instance::memory::OwnMemory;
use crate::instance::record::Record;
use crate::instance::{Instance, Member};
use crate::module::Module;
use crate::program::{ImportedFuncs, Imports, Program, host_func_ref};
use crate::region::alloc::AllocStrategy;

impl Instance {
    /// Instantiates another module inside this instance, and runs its start function. Its imports are
    /// looked up first among the members that have a name (see [`Instance::set_member_name`]), then in the
    /// linker. It takes a slot of the same region; where that has protection keys, it gets address space of its own.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the instance is suspended or was terminated, or the module is a snapshot;
    /// [`Error::UnknownImport`], [`Error::ImportType`], what [`Region::new_instance`](crate::Region::new_instance)
    /// gives, and what a start function gives. What the module wrote to its imports before it failed stays.
    pub fn link(&mut self, linker: &Linker, module: &Module) -> Result<Member, Error> {
        let state = self.store.state.get();
        state.check_link()?;
        if !module.engine().same(self.region().engine()) || !linker.engine().same(module.engine()) {
            return Err(Error::OtherEngine("module or linker"));
        }
        if module.is_snapshot() {
            return Err(Error::InvalidArgument(
                "a snapshot is an instance of its own, and can't be linked into another one",
            ));
        }
        let imports = self.resolve(linker, module)?;
        // The slot wants the module's image; imports are kept apart.
        let none = Imports {
            refs: ImportedFuncs::default(),
            tags: Vec::new(),
            _hosts: Vec::new(),
            memories: Vec::new(),
        };
        let program = Program::new(module, none)?;
        let store = &self.store;
        store.region_limits.admit(module, store.memory_total())?;
        let alloc = store.known_extras();
        let alloc = alloc.map_or_else(AllocStrategy::default, |extras| extras.alloc.clone());
        let slot = self.region().take_slot(&program, &alloc)?;
        let position = self.store.members.len();
        let record = Record::new(self.store.ptr(), position, module, imports, slot)?;
        // From here on others may hold references to it, so it stays even if it fails.
        self.store.add_member(record.clone());
        record.initialize()?;
        let member = Member(position);
        if let Some(start) = module.info().start {
            match self.past_epochs(record.call(start, &[])) {
                Err(Error::InstanceYielded | Error::InstancePreempted)
                    if self.is_yielded() || self.is_preempted() =>
                {
                    return Err(Error::StartYielded);
                }
                result => result?,
            };
            // A member's start is not the instance's.
            self.store.state.set(state);
        }
        Ok(member)
    }

    /// Names a member, so that modules linked later can import from it. A name that was given before goes
    /// over to the new member.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] if the member is of another instance.
    pub fn set_member_name(&mut self, name: &str, member: Member) -> Result<(), Error> {
        let record = self.record(member)?.clone();
        let names = &mut self.store.extras_mut().names;
        names.insert(name.to_owned(), record);
        Ok(())
    }

    fn resolve(&self, linker: &Linker, module: &Module) -> Result<Resolved, Error> {
        let info = module.info();
        let mut funcs = Vec::new();
        let mut hosts = Vec::new();
        let mut resolved = Others::default();
        let names = self.store.known_extras().map(|extras| &extras.names);
        for import in &info.imports {
            let Some(owner) = names.and_then(|names| names.get(&import.module)) else {
                match linker.resolve(info, import)? {
                    Given::Func(func, host) => {
                        funcs.push(host_func_ref(module, info.funcs[func.index()], host));
                        hosts.push(Arc::clone(host));
                    }
                    Given::Tag(tag) => resolved.tags.push(tag.clone()),
                    Given::Memory(shared) => {
                        let memory = ImportedMemory::Host(OwnMemory::imported(shared.clone()));
                        resolved.memories.push(memory);
                    }
                }
                continue;
            };
            let export = owner.module().info().export(&import.name);
            let export = export.ok_or_else(|| missing(info, import))?;
            let found = current_type(owner, export);
            let expected = info.extern_type(import.item);
            let same_type = match (export, import.item) {
                // Two types of one form may be different ones.
                (ExternIdx::Func(found), ExternIdx::Func(expected)) => {
                    owner.module().func_type_id(found) == module.func_type_id(expected)
                }
                (ExternIdx::Tag(found), ExternIdx::Tag(expected)) => {
                    owner.module().tag_type_id(found) == module.tag_type_id(expected)
                }
                _ => true,
            };
            if !same_type || !matches(&found, &expected) {
                return Err(mismatch(info, import, found));
            }
            match export {
                ExternIdx::Func(func) => {
                    let func_ref = owner.func_ref(func).ok_or_else(|| missing(info, import))?;
                    funcs.push(func_ref.get());
                }
                ExternIdx::Table(table) => {
                    let (owner, table) = owner.table_owner(table);
                    resolved.tables.push((owner.clone(), table));
                }
                ExternIdx::Memory(memory) => {
                    let (owner, memory) = owner.memory_owner(memory);
                    let memory = ImportedMemory::Member(owner.clone(), memory);
                    resolved.memories.push(memory);
                }
                ExternIdx::Global(global) => {
                    let (owner, global) = owner.global_owner(global);
                    resolved.globals.push((owner.clone(), global));
                }
                ExternIdx::Tag(tag) => resolved.tags.push(owner.tag(tag).clone()),
            }
        }
        let funcs = Arc::new(Imports {
            refs: ImportedFuncs::new(funcs),
            tags: Vec::new(),
            _hosts: hosts,
            memories: Vec::new(),
        });
        Ok(Resolved::new(funcs, resolved))
    }
}

/// The type of an export as it is now: memories and tables may have grown (specification, "Import
/// matching").
fn current_type(owner: &Rc<Record>, export: ExternIdx) -> ExternType {
    let ty = owner.module().info().extern_type(export);
    match (ty, export) {
        (ExternType::Table(ty), ExternIdx::Table(table)) => {
            let min = owner.with_table(table, |_, table| table.len());
            ExternType::Table(TableType { min, ..ty })
        }
        (ExternType::Memory(ty), ExternIdx::Memory(memory)) => {
            let min = owner.memory_pages(memory);
            ExternType::Memory(MemoryType { min, ..ty })
        }
        (ty, _) => ty,
    }
}

/// Whether a definition may stand for an import.
pub(crate) fn matches(found: &ExternType, expected: &ExternType) -> bool {
    let limits = |found: (u64, Option<u64>), expected: (u64, Option<u64>)| {
        let max_ok = match (found.1, expected.1) {
            (_, None) => true,
            (Some(found), Some(expected)) => found <= expected,
            (None, Some(_)) => false,
        };
        found.0 >= expected.0 && max_ok
    };
    match (found, expected) {
        (ExternType::Func(found), ExternType::Func(expected)) => found == expected,
        (ExternType::Global(found), ExternType::Global(expected)) => {
            found == expected
                || !found.mutable && !expected.mutable && found.ty.is_subtype(expected.ty)
        }
        (ExternType::Tag(found), ExternType::Tag(expected)) => found == expected,
        (ExternType::Table(found), ExternType::Table(expected)) => {
            found.elem == expected.elem
                && found.is_64 == expected.is_64
                && limits((found.min, found.max), (expected.min, expected.max))
        }
        (ExternType::Memory(found), ExternType::Memory(expected)) => {
            found.shared == expected.shared
                && (found.is_64, found.page_len_log2) == (expected.is_64, expected.page_len_log2)
                && limits((found.min, found.max), (expected.min, expected.max))
        }
        _ => false,
    }
}
