//! A loaded module: an artifact, checked, with its code mapped executable.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use selvedge_artifact::catches::CatchTable;
use selvedge_artifact::ids::{DefinedFuncIdx, FuncIdx, TagIdx};
use selvedge_artifact::image::ImageBuilder;
use selvedge_artifact::module::{CodeRange, ModuleInfo, SigTrampolines};
use selvedge_artifact::pcmap::{AddressMap, FuelMap};
use selvedge_artifact::read::{self, Layout};
use selvedge_artifact::state::State;
use selvedge_artifact::types::ExternType;
use selvedge_artifact::vmoffsets::VMOffsets;
use selvedge_artifact::write::{self, Compiled};

use crate::code::mapping::CodeMapping;
use crate::code::registry::{self, CodeEntry, Registration};
use crate::engine::Engine;
use crate::error::Error;
use crate::fault::lines::{Lines, SourceLine};
use crate::program::Image;
use crate::sys::mmap::FileMap;

/// A compiled module. Immutable and shared; clones are the same module.
#[derive(Clone)]
pub struct Module {
    inner: Arc<Inner>,
}

struct Inner {
    // Fields drop in this order: the code is unregistered before it is unmapped (I-4).
    _registration: Registration,
    code: CodeMapping,
    bytes: Bytes,
    engine: Engine,
    id: u64,
    info: ModuleInfo,
    layout: Layout,
    offsets: VMOffsets,
    type_ids: Box<[u32]>,
    names: OnceLock<Vec<(u32, String)>>,
    /// The module's DWARF, once it has been asked for.
    lines: OnceLock<Option<Lines>>,
    /// The image of memory 0, once a program has been made of the module.
    memory_image: OnceLock<Option<Arc<Image>>>,
}

/// Where the artifact's bytes are kept.
enum Bytes {
    Owned(Box<[u8]>),
    Mapped(FileMap),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(map) => map.as_slice(),
        }
    }
}

/// An import of a module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportType<'a> {
    /// Name of the module asked for.
    pub module: &'a str,
    /// Name of the item in it.
    pub name: &'a str,
    /// Its type.
    pub ty: ExternType,
}

/// An export of a module.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportType<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub ty: ExternType,
}

impl Module {
    /// Loads code that the compiler in this process has just made, or a snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Artifact`] if it was compiled for other settings than the engine's,
    /// [`Error::System`] if its code can't be mapped.
    pub fn from_compiled(engine: &Engine, compiled: Compiled) -> Result<Self, Error> {
        let bytes = compiled.into_bytes().into_boxed_slice();
        Self::load(engine, Bytes::Owned(bytes), None)
    }

    /// Loads an artifact from bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Artifact`] if it is damaged, or was made by another version, for another machine or for
    /// other settings; [`Error::System`] if its code can't be mapped.
    ///
    /// # Safety
    ///
    /// - The bytes are an artifact that Selvedge's compiler wrote, or are refused: checks find accidents,
    ///   but an artifact is native code, and one that was forged with care does what it likes (I-9).
    #[allow(
        unsafe_code,
        reason = "the function is unsafe to call; its body holds no unsafe block"
    )]
    pub unsafe fn from_artifact(engine: &Engine, bytes: &[u8]) -> Result<Self, Error> {
        Self::load(engine, Bytes::Owned(bytes.into()), None)
    }

    /// Loads an artifact from a file, which is mapped: several processes share its code.
    ///
    /// # Errors
    ///
    /// As [`Module::from_artifact`], and [`Error::ReadArtifact`].
    ///
    /// # Safety
    ///
    /// - As [`Module::from_artifact`].
    /// - The file is neither altered nor truncated while the module lives.
    #[allow(
        unsafe_code,
        reason = "the function is unsafe to call; its body holds no unsafe block"
    )]
    pub unsafe fn load_file(engine: &Engine, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::ReadArtifact {
            path: path.display().to_string(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Self::load(engine, Bytes::Owned(Box::default()), None);
        }
        let map = FileMap::map(&file).map_err(failed)?;
        Self::load(engine, Bytes::Mapped(map), Some(&file))
    }

    fn load(engine: &Engine, bytes: Bytes, file: Option<&File>) -> Result<Self, Error> {
        let mut artifact = read::read(bytes.as_slice(), &engine.accepts())?;
        let text = artifact.layout.text.clone();
        let code = match file {
            Some(file) => CodeMapping::from_file(file, text.start as u64, text.len()),
            None => CodeMapping::from_bytes(&bytes.as_slice()[text]),
        }
        .map_err(Error::system("map the module's code"))?;
        let compact = engine.tunables().compact_contexts;
        let offsets =
            VMOffsets::new(&artifact.info, compact).map_err(|e| Error::LimitsExceeded {
                what: "bytes of context",
                needed: e.needed,
                given: selvedge_artifact::vmoffsets::CONTEXT_MAX_LEN,
                knob: "nothing",
            })?;
        let traps = &bytes.as_slice()[artifact.layout.traps.clone()];
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let registration = registry::register(CodeEntry {
            start: code.range().start,
            end: code.range().end,
            // The bytes are on the heap or mapped: they stay where they are when the owner moves.
            traps: traps.as_ptr(),
            traps_len: traps.len(),
        });
        let type_ids = engine.type_ids(&artifact.info.types, &artifact.info.type_groups);
        // From here on types of different modules can be compared.
        artifact.info.renumber_types(&type_ids);
        Ok(Self {
            inner: Arc::new(Inner {
                _registration: registration,
                code,
                bytes,
                engine: engine.clone(),
                id,
                info: artifact.info,
                layout: artifact.layout,
                offsets,
                type_ids,
                names: OnceLock::new(),
                lines: OnceLock::new(),
                memory_image: OnceLock::new(),
            }),
        })
    }

    /// The engine it was loaded into.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The module's own name for itself.
    pub fn name(&self) -> Option<&str> {
        self.inner.info.name.as_deref()
    }

    /// Imports, in the order of the module.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = ImportType<'_>> {
        self.inner.info.imports.iter().map(|import| ImportType {
            module: &import.module,
            name: &import.name,
            ty: self.inner.info.extern_type(import.item),
        })
    }

    /// Exports, in the order of the module.
    pub fn exports(&self) -> impl ExactSizeIterator<Item = ExportType<'_>> {
        self.inner.info.exports.iter().map(|export| ExportType {
            name: &export.name,
            ty: self.inner.info.extern_type(export.item),
        })
    }

    /// The type of the export of this name.
    pub fn export_type(&self, name: &str) -> Option<ExternType> {
        self.inner
            .info
            .export(name)
            .map(|item| self.inner.info.extern_type(item))
    }

    /// Whether the module has a start function that is yet to run. That of a snapshot has run.
    pub fn has_start(&self) -> bool {
        self.inner.info.start.is_some() && !self.is_snapshot()
    }

    /// Whether the module is a snapshot: its instances begin with the state of another one
    /// ([`Program::to_artifact`](crate::Program::to_artifact)).
    pub fn is_snapshot(&self) -> bool {
        self.inner.info.state.is_some()
    }

    /// Bytes of machine code.
    pub fn code_len(&self) -> usize {
        self.inner.layout.text.len()
    }

    /// Names and values that the maker of a snapshot noted, in order.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        let state = self.inner.info.state.iter();
        let notes = state.flat_map(|state| &state.notes);
        notes.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The artifact with another state.
    pub(crate) fn write_snapshot(
        &self,
        state: State,
        memory: ImageBuilder<'_>,
    ) -> Result<Compiled, selvedge_artifact::Error> {
        let file = self.inner.bytes.as_slice();
        write::write_snapshot(file, &self.inner.layout, state, memory)
    }

    /// A number that no other module of this process has.
    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn info(&self) -> &ModuleInfo {
        &self.inner.info
    }

    pub(crate) fn offsets(&self) -> &VMOffsets {
        &self.inner.offsets
    }

    /// The engine's numbers of this module's types.
    pub(crate) fn type_ids(&self) -> &[u32] {
        &self.inner.type_ids
    }

    /// The engine's number of the type of a function.
    pub(crate) fn func_type_id(&self, func: FuncIdx) -> u32 {
        self.inner.type_ids[self.inner.info.funcs[func.index()].index()]
    }

    /// The engine's number of a tag's type.
    pub(crate) fn tag_type_id(&self, tag: TagIdx) -> u32 {
        self.inner.type_ids[self.inner.info.tags[tag.index()].index()]
    }

    /// Bytes of data segments that are not in the image.
    pub(crate) fn data(&self) -> &[u8] {
        &self.inner.bytes.as_slice()[self.inner.layout.data.clone()]
    }

    /// The initial contents of memory 0 as a file, one for all programs of the module.
    pub(crate) fn memory_image(&self) -> Result<Option<Arc<Image>>, Error> {
        let cell = &self.inner.memory_image;
        if cell.get().is_none() {
            let image = Image::of(self)?.map(Arc::new);
            // Another thread may have been quicker; then ours is dropped.
            let _ = cell.set(image);
        }
        Ok(cell.get().cloned().flatten())
    }

    /// Pages of the memory image.
    pub(crate) fn image(&self) -> &[u8] {
        &self.inner.bytes.as_slice()[self.inner.layout.image.clone()]
    }

    /// Initial table entries.
    pub(crate) fn tables(&self) -> &[u8] {
        &self.inner.bytes.as_slice()[self.inner.layout.tables.clone()]
    }

    /// Handlers of exceptions.
    pub(crate) fn catches(&self) -> Option<CatchTable<'_>> {
        let bytes = &self.inner.bytes.as_slice()[self.inner.layout.catches.clone()];
        CatchTable::new(bytes).filter(|table| !table.is_empty())
    }

    /// The address of code.
    pub(crate) fn code_addr(&self, range: CodeRange) -> usize {
        self.inner.code.base().addr() + range.offset as usize
    }

    /// The address of an offset of the text.
    pub(crate) fn text_addr(&self, offset: u32) -> usize {
        self.inner.code.base().addr() + offset as usize
    }

    /// The address of a function's code.
    pub(crate) fn func_addr(&self, func: DefinedFuncIdx) -> usize {
        self.code_addr(self.inner.info.code[func.index()])
    }

    /// The function at an address of this module's code.
    pub(crate) fn func_at(&self, pc: usize) -> Option<FuncIdx> {
        let func = self.inner.info.func_at(self.text_offset(pc)?)?;
        Some(self.inner.info.func_idx(func))
    }

    /// Offset in the Wasm file of the instruction at an address of this module's code.
    pub(crate) fn wasm_offset(&self, pc: usize) -> Option<u32> {
        let bytes = &self.inner.bytes.as_slice()[self.inner.layout.addresses.clone()];
        AddressMap::new(bytes)?.lookup(self.text_offset(pc)?)
    }

    /// What the fuel map has for the instruction at an address of this module's code.
    pub(crate) fn fuel_value(&self, pc: usize) -> Option<u32> {
        let bytes = &self.inner.bytes.as_slice()[self.inner.layout.fuel.clone()];
        FuelMap::new(bytes)?.lookup(self.text_offset(pc)?)
    }

    /// Offset in the Wasm file of a function's body; `None` for an imported function.
    pub(crate) fn body_offset(&self, func: FuncIdx) -> Option<u32> {
        let defined = self.inner.info.defined_func(func)?;
        self.inner.info.body_offsets.get(defined.index()).copied()
    }

    /// Whether DWARF was kept when the module was compiled.
    pub(crate) fn has_dwarf(&self) -> bool {
        !self.inner.layout.dwarf.is_empty()
    }

    /// Where the instruction at an offset of the Wasm file stands in the source.
    pub(crate) fn source_lines(&self, wasm_offset: u32) -> Vec<SourceLine> {
        let lines = self.inner.lines.get_or_init(|| {
            Lines::read(|name| {
                let section = self.inner.layout.dwarf.iter().find(|s| s.0 == name);
                section.map_or(&[][..], |(_, range)| {
                    &self.inner.bytes.as_slice()[range.clone()]
                })
            })
        });
        let offset = wasm_offset.checked_sub(self.inner.info.code_section_offset);
        match (lines, offset) {
            (Some(lines), Some(offset)) => lines.find(offset.into()),
            _ => Vec::new(),
        }
    }

    /// Whether an address lies in this module's code.
    pub(crate) fn text_offset(&self, pc: usize) -> Option<u32> {
        let offset = pc.checked_sub(self.inner.code.base().addr())?;
        (offset < self.inner.code.len()).then_some(offset as u32)
    }

    /// The trampolines for functions of a type.
    pub(crate) fn trampolines(&self, func: FuncIdx) -> &SigTrampolines {
        let info = &self.inner.info;
        let sig = info.type_sigs[info.funcs[func.index()].index()];
        &info.sigs[sig.index()]
    }

    /// The name of a function: from the name section, else of its first export.
    pub(crate) fn func_name(&self, func: FuncIdx) -> Option<&str> {
        let names = self.inner.names.get_or_init(|| {
            let section = &self.inner.bytes.as_slice()[self.inner.layout.names.clone()];
            read::func_names(section)
        });
        if let Ok(at) = names.binary_search_by_key(&func.as_u32(), |n| n.0) {
            return Some(&names[at].1);
        }
        use selvedge_artifact::module::ExternIdx;
        let exported = |e: &&selvedge_artifact::module::Export| e.item == ExternIdx::Func(func);
        self.inner
            .info
            .exports
            .iter()
            .find(exported)
            .map(|e| e.name.as_str())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name())
            .field("id", &self.inner.id)
            .field("code", &self.inner.code.range())
            .finish_non_exhaustive()
    }
}
