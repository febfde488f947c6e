//! One module in one slot: the runtime's record of it, which its context names.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use selvedge_artifact::ids::{DataIdx, ElemIdx, FuncIdx, GlobalIdx, MemoryIdx, TableIdx, TagIdx};
use selvedge_artifact::module::SegmentMode;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::vmfields::{
    ENTRY_FIRST_TYPE, ENTRY_FOREIGN, ENTRY_NULL, KIND_GUEST, VMCONTEXT_MAGIC, table_entry,
    vm_context_header,
};
use selvedge_artifact::vmoffsets::{GLOBAL_LEN, VMOffsets};

use crate::arch;
use crate::error::Error;
use crate::fault::details::TrapInfo;
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::Tag;
use crate::instance::builtins::LibTrap;
use crate::instance::growth::Asker;
use crate::instance::imports::{ImportedMemory, Resolved};
use crate::instance::init;
use crate::instance::memory::OwnMemory;
use crate::instance::permission::Grown;
use crate::instance::segments::Dropped;
use crate::instance::store::Store;
use crate::instance::table::OwnTable;
use crate::module::Module;
use crate::program::{Imports, Program};
use crate::region::Region;
use crate::region::metrics::SlotCounts;
use crate::region::slot::{Lease, Slot};
use crate::value::Val;
use crate::vm::callee::Callee;
use crate::vm::context::{ArraySlot, Context, VMFuncRef};
use crate::vm::libcalls;
use crate::vm::memory::GuestMemory;
use crate::vm::ptr::{FuncRefArena, FuncRefPtr};
use crate::vm::store_ptr::StorePtr;
use crate::vm::views;

/// One module in one slot.
pub(crate) struct Record {
    store: StorePtr,
    position: u32,
    module: Module,
    vmctx: usize,
    context: Context,
    memories: Box<[OwnMemory]>,
    imports: Resolved,
    tables: Box<[OwnTable]>,
    tags: Box<[Tag]>,
    /// Once one has been asked for.
    func_refs: OnceCell<Box<RefCell<FuncRefs>>>,
    dropped: RefCell<Dropped>,
    /// Whether segments were dropped since the record was sealed.
    segments_changed: Cell<bool>,
    sealed: OnceCell<Sealed>,
    // Last: the views above look into it.
    slot: RefCell<Slot>,
}

/// What a record had before its instance did anything, beside what its tables and its slot keep.
struct Sealed {
    /// The cells of its globals.
    globals: Box<[u8]>,
    /// Whether data segments are to be copied for every instance.
    copies_data: bool,
    /// Whether it is the state of another instance, whose start function has run.
    is_state: bool,
    dropped: Dropped,
}

/// References to this record's functions, made when they are asked for.
#[derive(Default)]
struct FuncRefs {
    by_func: HashMap<FuncIdx, FuncRefPtr>,
    arena: FuncRefArena,
}

impl Record {
    /// Makes the record of a module in a slot that is ready for it, and writes all of the context that
    /// does not depend on constant expressions. [`Record::initialize`] does the rest.
    pub(crate) fn new(
        store: StorePtr,
        position: usize,
        module: &Module,
        imports: Resolved,
        slot: Slot,
    ) -> Result<Rc<Self>, Error> {
        let info = module.info();
        let offsets = module.offsets();
        let context = views::context(&slot);
        let vmctx = slot.vmctx().expose_provenance();
        let memories = OwnMemory::all(
            module,
            store.get().engine.tunables(),
            &store.get().region_limits,
            &slot,
            &context,
        )?;
        let tables = (info.imported.tables as usize..info.tables.len())
            .map(|i| {
                let index = TableIdx::new(i as u32);
                let definition = offsets
                    .table(index)
                    .expect("defined tables have a definition");
                let inline = offsets.inline_table(index);
                OwnTable::new(info.tables[i], &context, vmctx, definition, inline)
            })
            .collect::<Result<_, _>>()?;
        let mut tags = Vec::with_capacity(info.tags.len());
        tags.extend_from_slice(imports.tags());
        for ty in &info.tags[tags.len().min(info.tags.len())..] {
            tags.push(Tag::new(info.types[ty.index()].clone())?);
        }
        let record = Rc::new(Self {
            store,
            position: position as u32,
            module: module.clone(),
            vmctx,
            context,
            memories,
            imports,
            tables,
            tags: tags.into_boxed_slice(),
            func_refs: OnceCell::new(),
            dropped: RefCell::new(Dropped::none(info.data.len(), info.elems.len())),
            segments_changed: Cell::new(false),
            sealed: OnceCell::new(),
            slot: RefCell::new(slot),
        });
        record.write_context();
        Ok(record)
    }

    fn write_context(&self) {
        let fields = vm_context_header::OFFSETS;
        let write = |field: u32, value: usize| {
            self.context.write(VMOffsets::header(field), value as u64);
        };
        write(
            fields.type_ids,
            self.module.type_ids().as_ptr().expose_provenance(),
        );
        write(
            fields.imports,
            self.imports
                .funcs
                .refs
                .of(self.store().keyed)
                .as_ptr()
                .expose_provenance(),
        );
        let counts_fuel = self.store().engine.tunables().counts_fuel();
        let keyed = self.store().keyed;
        write(fields.builtins, libcalls::table(counts_fuel, keyed));
        write(fields.host_call, arch::way_to_host(counts_fuel, keyed));
        write(fields.instance, (&raw const *self).expose_provenance());
        write(
            fields.limits,
            self.store().limits.as_ptr().expose_provenance(),
        );
        if !self.module.info().owns_memory0() {
            write(fields.memory0_base, self.vmctx);
            write(fields.memory0_len, 0);
        }
        write(fields.reserved, 0);
        self.context
            .write(VMOffsets::header(fields.magic), VMCONTEXT_MAGIC);
        let offsets = self.module.offsets();
        for (i, import) in self.imports.memories().iter().enumerate() {
            self.context.write(
                offsets.imported_memory(MemoryIdx::new(i as u32)),
                import.definition_addr() as u64,
            );
        }
        for (i, (owner, global)) in self.imports.globals().iter().enumerate() {
            let offset = owner
                .module
                .offsets()
                .global(*global)
                .expect("the owner defines it");
            let cell = owner.vmctx.wrapping_add_signed(offset as isize);
            self.context.write(
                offsets.imported_global(GlobalIdx::new(i as u32)),
                cell as u64,
            );
        }
        self.write_table_images();
    }

    fn write_table_images(&self) {
        let info = self.module.info();
        for image in &info.table_images {
            let from = image.offset as usize;
            let bytes = &self.module.tables()[from..from + image.len as usize * 8];
            self.tables[(image.table.as_u32() - info.imported.tables) as usize]
                .write_image(&self.context, bytes);
        }
    }

    /// Takes what there is now for what the record's instance begins with, again and again: it was
    /// initialized, and nothing else was done. A module that makes a shared memory is not sealed: others may
    /// keep that. Only a record without imported tables and globals is.
    pub(crate) fn seal(&self, is_state: bool) {
        let segments = self.module.info().data.iter();
        let mut modes = segments.map(|segment| &segment.mode);
        let copies_data = modes.any(|mode| matches!(mode, SegmentMode::Active { .. }));
        let own_shared = self.memories.iter().any(|memory| memory.shared().is_some());
        if own_shared || !self.imports.tables().is_empty() || !self.imports.globals().is_empty() {
            return;
        }
        let (offset, len) = self.globals();
        let sealed = Sealed {
            globals: self.context.read_bytes(offset, len),
            copies_data: copies_data && !is_state,
            is_state,
            dropped: self.dropped.borrow().clone(),
        };
        if self.sealed.set(sealed).is_ok() {
            self.segments_changed.set(false);
            self.tables.iter().for_each(OwnTable::seal);
        }
    }

    /// Whether [`Record::restore`] does all that [`Record::initialize`] did, but for data segments.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.get().is_some()
    }

    /// Where the cells of its globals are in the context, and their bytes.
    fn globals(&self) -> (i32, usize) {
        let info = self.module.info();
        let first = GlobalIdx::new(info.imported.globals);
        let count = info.globals.len() - info.imported.globals as usize;
        match self.module.offsets().global(first) {
            Some(offset) if count > 0 => (offset, count * GLOBAL_LEN as usize),
            _ => (-1, 0),
        }
    }

    /// Makes memories, globals, tables and segments what they were when the record was sealed. No slice of a
    /// memory is out. One that was not sealed is to be initialized anew.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        let Some(sealed) = self.sealed.get() else {
            return self.reset();
        };
        for memory in &self.memories {
            memory.reset(&self.context, &self.slot)?;
        }
        let (offset, len) = self.globals();
        if len > 0 {
            self.context.write_bytes(offset, &sealed.globals);
        }
        for table in &self.tables {
            table.restore(&self.context, self.vmctx)?;
        }
        if self.segments_changed.replace(false) {
            let mut dropped = self.dropped.borrow_mut();
            dropped.data.copy_from(&sealed.dropped.data);
            dropped.elems.copy_from(&sealed.dropped.elems);
        }
        Ok(())
    }

    /// Whether it begins with the state of another instance.
    pub(crate) fn is_state(&self) -> bool {
        self.sealed.get().is_some_and(|sealed| sealed.is_state)
    }

    /// The start function, if there is one that an instance of it begins with.
    pub(crate) fn start(&self) -> Option<FuncIdx> {
        self.module.info().start.filter(|_| !self.is_state())
    }

    /// Which data and element segments are dropped.
    pub(crate) fn dropped_segments(&self) -> (Vec<bool>, Vec<bool>) {
        let info = self.module.info();
        let dropped = self.dropped.borrow();
        (
            (0..info.data.len())
                .map(|at| dropped.data.get(at))
                .collect(),
            (0..info.elems.len())
                .map(|at| dropped.elems.get(at))
                .collect(),
        )
    }

    /// Says which data and element segments are dropped.
    pub(crate) fn set_dropped_segments(&self, data: &[bool], elems: &[bool]) {
        let info = self.module.info();
        self.segments_changed.set(true);
        let mut own = self.dropped.borrow_mut();
        for (at, &dropped) in data.iter().enumerate().take(info.data.len()) {
            own.data.set(at, dropped);
        }
        for (at, &dropped) in elems.iter().enumerate().take(info.elems.len()) {
            own.elems.set(at, dropped);
        }
    }

    /// Ranges of offsets of memory 0 outside which it holds what its slot's image has.
    pub(crate) fn written_ranges(&self) -> Vec<Range<usize>> {
        self.slot.borrow().written_ranges()
    }

    /// A program of its module and imports.
    pub(crate) fn program(&self) -> Result<Program, Error> {
        Program::again(&self.module, self.imports.funcs.clone())
    }

    /// How a table holds a function that is not the table's own module's.
    pub(crate) fn foreign_entry(&self, func: FuncRefPtr) -> u64 {
        table_entry(ENTRY_FOREIGN, self.store().foreign_number(func))
    }

    /// Gives the record tags of its own again, so that the next instance's are not the last one's.
    pub(crate) fn renew_tags(&mut self) -> Result<(), Error> {
        let imported = self.imports.tags().len();
        for tag in self.tags.iter_mut().skip(imported) {
            *tag = Tag::new(tag.ty().clone())?;
        }
        Ok(())
    }

    /// Whether it has a memory of its own outside its slot.
    pub(crate) fn has_far_memory(&self) -> bool {
        self.memories.iter().any(OwnMemory::is_far)
    }

    /// Whether its slot is one of a region's.
    pub(crate) fn is_in(&self, region: &Region) -> bool {
        region.is_of(self.slot.borrow().lease())
    }

    /// The lease of its slot.
    pub(crate) fn lease(&self) -> Arc<Lease> {
        self.slot.borrow().lease().clone()
    }

    /// What was counted in its slot since that was last asked.
    pub(crate) fn take_counts(&self) -> SlotCounts {
        self.slot.borrow_mut().take_counts()
    }

    /// Its slot, for something else.
    pub(crate) fn into_slot(self) -> Slot {
        self.slot.into_inner()
    }

    /// Makes memories, tables and segments what they were before [`Record::initialize`]. No slice of a memory
    /// is out.
    fn reset(&self) -> Result<(), Error> {
        for memory in &self.memories {
            memory.reset(&self.context, &self.slot)?;
        }
        for table in &self.tables {
            table.reset(&self.context, self.vmctx)?;
        }
        self.write_table_images();
        let mut dropped = self.dropped.borrow_mut();
        dropped.data.clear();
        dropped.elems.clear();
        Ok(())
    }

    /// Keeps the imported functions.
    pub(crate) fn keep_imports(&self) -> Arc<Imports> {
        self.imports.funcs.clone()
    }

    /// Fills globals, tables and memories as the module says (specification, "Instantiation").
    pub(crate) fn initialize(&self) -> Result<(), Error> {
        match self.sealed.get() {
            None => init::initialize(self),
            Some(sealed) if sealed.copies_data => {
                // They were dropped behind the last copy.
                let info = self.module.info();
                let mut dropped = self.dropped.borrow_mut();
                for (at, segment) in info.data.iter().enumerate() {
                    if matches!(segment.mode, SegmentMode::Active { .. }) {
                        dropped.data.set(at, false);
                    }
                }
                drop(dropped);
                init::initialize_memories(self)
            }
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.get()
    }

    /// Position among the store's members.
    pub(crate) fn position(&self) -> usize {
        self.position as usize
    }

    pub(crate) fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) fn vmctx(&self) -> usize {
        self.vmctx
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// The memories that the module defines.
    pub(crate) fn own_memories(&self) -> &[OwnMemory] {
        &self.memories
    }

    /// The memories that the host gave to the module.
    pub(crate) fn host_memories(&self) -> impl Iterator<Item = &OwnMemory> {
        self.imports.memories().iter().filter_map(|m| match m {
            ImportedMemory::Host(memory) => Some(memory),
            ImportedMemory::Member(..) => None,
        })
    }

    /// Whether the host holds a slice of one of the module's own memories.
    pub(crate) fn memory_is_borrowed(&self) -> bool {
        self.memories.iter().any(OwnMemory::is_borrowed)
    }

    /// A memory and the record that defines it, or that the host gave it to.
    pub(crate) fn find_memory(&self, memory: MemoryIdx) -> Option<(&Record, &OwnMemory)> {
        match self.imports.memories().get(memory.index()) {
            Some(ImportedMemory::Member(owner, memory)) => owner.find_memory(*memory),
            Some(ImportedMemory::Host(memory)) => Some((self, memory)),
            None => {
                let own = memory.index() - self.imports.memories().len();
                Some((self, self.memories.get(own)?))
            }
        }
    }

    /// A memory that is not shared, wherever it is defined.
    pub(crate) fn memory(&self, memory: MemoryIdx) -> Option<&GuestMemory> {
        self.find_memory(memory)?.1.view()
    }

    /// A shared memory, wherever it is defined.
    pub(crate) fn shared_memory(&self, memory: MemoryIdx) -> Option<&SharedMemory> {
        self.find_memory(memory)?.1.shared()
    }

    /// A memory that the host can have a slice of.
    pub(crate) fn sliceable_memory(&self, memory: MemoryIdx) -> Result<&GuestMemory, Error> {
        let missing = Error::InvalidArgument("the module has no memory");
        let (_, memory) = self.find_memory(memory).ok_or(missing)?;
        memory.view().ok_or(Error::MemoryShared)
    }

    /// Owner of a memory and its index there.
    pub(crate) fn memory_owner(self: &Rc<Self>, memory: MemoryIdx) -> (&Rc<Record>, MemoryIdx) {
        match self.imports.memories().get(memory.index()) {
            Some(ImportedMemory::Member(owner, memory)) => owner.memory_owner(*memory),
            _ => (self, memory),
        }
    }

    /// Works on the bytes of a memory for a libcall. No slice can be out: the guest runs.
    pub(crate) fn with_memory<R>(
        &self,
        memory: MemoryIdx,
        f: impl FnOnce(&mut [u8]) -> Result<R, LibTrap>,
    ) -> Result<R, LibTrap> {
        let mut bytes = self
            .memory(memory)
            .and_then(GuestMemory::borrow_mut)
            .ok_or(TrapCode::HeapOutOfBounds)?;
        f(bytes.bytes_mut())
    }

    /// The address in a memory that stands at an address of the process, its guard included.
    pub(crate) fn address_in_memory(&self, memory: MemoryIdx, addr: usize) -> Option<u64> {
        let (owner, memory) = self.find_memory(memory)?;
        let range = memory.range(owner.store().engine.tunables());
        range.contains(&addr).then(|| (addr - range.start) as u64)
    }

    /// What is known of an access outside a memory that begins at an address.
    pub(crate) fn outside_memory(&self, memory: u32, address: u64) -> Box<TrapInfo> {
        let found = self.find_memory(MemoryIdx::new(memory));
        let len = found.map_or(0, |(_, memory)| memory.len());
        Box::new(TrapInfo::Memory {
            memory,
            address: address.max(len),
            len,
        })
    }

    /// Accessible bytes of a memory.
    pub(crate) fn memory_len(&self, memory: MemoryIdx) -> u64 {
        self.find_memory(memory)
            .map_or(0, |(_, memory)| memory.len())
    }

    /// Pages of a memory.
    pub(crate) fn memory_pages(&self, memory: MemoryIdx) -> u64 {
        self.find_memory(memory)
            .map_or(0, |(_, memory)| memory.pages())
    }

    /// Makes a memory that this record defines longer.
    pub(crate) fn grow_own_memory(&self, memory: &OwnMemory, len: u64) -> Result<(), Error> {
        memory.grow(&self.context, &self.slot, len as usize)
    }

    /// Grows a memory for the host.
    pub(crate) fn grow_memory_checked(
        &self,
        memory: MemoryIdx,
        delta: u32,
        asker: Asker,
    ) -> Result<u32, Error> {
        if self
            .find_memory(memory)
            .is_some_and(|(_, m)| m.is_borrowed())
        {
            return Err(Error::MemoryBorrowed);
        }
        let Grown::From(old) = self.grow_memory(memory, delta.into(), asker)? else {
            // The limiter of whoever can't wait for it is not asked.
            return Err(Error::AsyncRequired("a memory"));
        };
        // More pages than 32 bits count has only a 64-bit memory with pages of one byte.
        Ok(u32::try_from(old).unwrap_or(u32::MAX))
    }

    /// Works on a table, wherever it is defined.
    pub(crate) fn with_table<R>(
        &self,
        table: TableIdx,
        f: impl FnOnce(&Record, &OwnTable) -> R,
    ) -> R {
        match self.imports.tables().get(table.index()) {
            Some((owner, table)) => owner.with_table(*table, f),
            None => f(
                self,
                &self.tables[table.index() - self.imports.tables().len()],
            ),
        }
    }

    /// Owner of a table and its index there.
    pub(crate) fn table_owner(self: &Rc<Self>, table: TableIdx) -> (&Rc<Record>, TableIdx) {
        match self.imports.tables().get(table.index()) {
            Some((owner, table)) => owner.table_owner(*table),
            None => (self, table),
        }
    }

    /// Owner of a global and its index there.
    pub(crate) fn global_owner(self: &Rc<Self>, global: GlobalIdx) -> (&Rc<Record>, GlobalIdx) {
        match self.imports.globals().get(global.index()) {
            Some((owner, global)) => owner.global_owner(*global),
            None => (self, global),
        }
    }

    /// The raw value of a global.
    pub(crate) fn global_raw(&self, global: GlobalIdx) -> ArraySlot {
        match self.imports.globals().get(global.index()) {
            Some((owner, global)) => owner.global_raw(*global),
            None => self.context.read_cell(self.own_global(global)),
        }
    }

    /// Stores the raw value of a global.
    pub(crate) fn set_global_raw(&self, global: GlobalIdx, raw: ArraySlot) {
        match self.imports.globals().get(global.index()) {
            Some((owner, global)) => owner.set_global_raw(*global, raw),
            None => self.context.write_cell(self.own_global(global), raw),
        }
    }

    fn own_global(&self, global: GlobalIdx) -> i32 {
        self.module
            .offsets()
            .global(global)
            .expect("a global that is not imported is defined")
    }

    /// The imported function with this host environment.
    pub(crate) fn import_of_env(&self, env: usize) -> Option<FuncIdx> {
        let refs = self.imports.funcs.refs.of(self.store().keyed);
        let at = refs
            .iter()
            .position(|r| r.kind != KIND_GUEST && r.ctx == env)?;
        Some(FuncIdx::new(at as u32))
    }

    /// The `VMFuncRef` of an imported function.
    pub(crate) fn import(&self, func: FuncIdx) -> Option<VMFuncRef> {
        let refs = self.imports.funcs.refs.of(self.store().keyed);
        refs.get(func.index()).copied()
    }

    /// A tag.
    pub(crate) fn tag(&self, tag: TagIdx) -> &Tag {
        &self.tags[tag.index()]
    }

    /// All tags, imported ones first.
    pub(crate) fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The tables that the module defines.
    pub(crate) fn own_tables(&self) -> &[OwnTable] {
        &self.tables
    }

    /// A reference to a function of this module.
    pub(crate) fn func_ref(&self, func: FuncIdx) -> Option<FuncRefPtr> {
        let info = self.module.info();
        let Some(defined) = info.defined_func(func) else {
            let refs = self.imports.funcs.refs.of(self.store().keyed);
            return FuncRefPtr::of_import(refs, func.index());
        };
        let refs = self.func_refs.get_or_init(Box::default);
        let mut refs = refs.borrow_mut();
        if let Some(&known) = refs.by_func.get(&func) {
            return Some(known);
        }
        let ty = *info.funcs.get(func.index())?;
        let func_ref = VMFuncRef {
            call: self
                .module
                .code_addr(self.module.trampolines(func).guest_to_guest),
            body: self.module.func_addr(defined),
            ctx: self.vmctx,
            type_id: self.module.type_ids()[ty.index()],
            kind: KIND_GUEST,
        };
        let ptr = FuncRefPtr::of_arena(&mut refs.arena, func_ref);
        refs.by_func.insert(func, ptr);
        Some(ptr)
    }

    /// What a table of this record holds, as generated code passes it.
    pub(crate) fn entry_to_raw(&self, table: &OwnTable, entry: u64) -> u64 {
        if !table.ty.elem.is_func_ref() {
            return entry;
        }
        let (ty, code) = (entry as u32, (entry >> 32) as u32);
        let ptr = match ty {
            ENTRY_NULL => None,
            ENTRY_FOREIGN => self.store().foreign_func(code),
            _ => self
                .module
                .info()
                .func_at(code)
                .and_then(|func| self.func_ref(self.module.info().func_idx(func))),
        };
        ptr.map_or(0, FuncRefPtr::to_raw)
    }

    /// What generated code passes, as a table of this record holds it.
    pub(crate) fn raw_to_entry(&self, table: &OwnTable, raw: u64) -> u64 {
        if !table.ty.elem.is_func_ref() {
            return raw;
        }
        let Some(ptr) = FuncRefPtr::known(raw) else {
            return table_entry(ENTRY_NULL, 0);
        };
        let func_ref = ptr.get();
        let own = (func_ref.kind == KIND_GUEST && func_ref.ctx == self.vmctx)
            .then(|| self.module.text_offset(func_ref.body))
            .flatten()
            .and_then(|offset| Some((offset, self.module.func_at(func_ref.body)?)));
        match own {
            Some((offset, func)) => {
                let info = self.module.info();
                let canonical = info.canonical_types[info.funcs[func.index()].index()];
                table_entry(ENTRY_FIRST_TYPE + canonical.as_u32(), offset)
            }
            None => self.foreign_entry(ptr),
        }
    }

    /// The bytes of a data segment; none once it is dropped.
    pub(crate) fn data_segment(&self, data: DataIdx) -> &[u8] {
        if self.dropped.borrow().data.get(data.index()) {
            return &[];
        }
        let segment = &self.module.info().data[data.index()];
        &self.module.data()[segment.offset as usize..][..segment.len as usize]
    }

    pub(crate) fn drop_data(&self, data: DataIdx) {
        self.segments_changed.set(true);
        self.dropped.borrow_mut().data.set(data.index(), true);
    }

    /// References from an element segment.
    pub(crate) fn elem_values(
        &self,
        elem: ElemIdx,
        from: u64,
        count: u64,
    ) -> Result<Vec<u64>, LibTrap> {
        let elements = &self.module.info().elems[elem.index()].elements;
        let len = if self.dropped.borrow().elems.get(elem.index()) {
            0
        } else {
            elements.len() as u64
        };
        if from.checked_add(count).is_none_or(|end| end > len) {
            let outside = TrapInfo::Segment {
                segment: elem.as_u32(),
                index: from.max(len),
                len,
            };
            return Err(LibTrap::new(TrapCode::TableOutOfBounds, outside));
        }
        Ok((from..from + count)
            .map(|i| init::element(self, elements, i as usize))
            .collect())
    }

    pub(crate) fn drop_elem(&self, elem: ElemIdx) {
        self.segments_changed.set(true);
        self.dropped.borrow_mut().elems.set(elem.index(), true);
    }

    /// Calls an exported function.
    pub(crate) fn call_export(&self, name: &str, args: &[Val]) -> Result<Vec<Val>, Error> {
        let func = self.exported_func(name)?;
        self.call(func, args)
    }

    /// Calls a function by index.
    pub(crate) fn call(&self, func: FuncIdx, args: &[Val]) -> Result<Vec<Val>, Error> {
        let callee = Callee::of(self, func).ok_or(Error::ForeignReference)?;
        crate::instance::call::call(
            self.store(),
            &callee,
            self.module.info().func_type(func),
            args,
        )
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("module", &self.module)
            .finish_non_exhaustive()
    }
}
