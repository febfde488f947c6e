//! A program: a module with every import resolved, type-checked once, and its initial image built.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::arch;
use crate::error::Error;
use crate::host::func::HostFunc;
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::Tag;
use crate::module::Module;
use crate::region::RegionInner;
use crate::sys::memfd;
use crate::sys::mmap::FileMap;
use crate::vm::context::VMFuncRef;
use selvedge_artifact::ids::TypeIdx;
use selvedge_artifact::state::State;
use selvedge_artifact::vmfields::{KIND_HOST_ARRAY, KIND_HOST_REGS};

/// What a region instantiates: a [`Module`] with its imports. Immutable and shared.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    module: Module,
    imports: Arc<Imports>,
    image: Option<Arc<Image>>,
    /// What its instances begin with, if that is the state of another one.
    state: Option<State>,
    /// Regions that may have slots ready for the program.
    regions: Mutex<Vec<Weak<RegionInner>>>,
}

impl Drop for Inner {
    /// Nobody can ask for another instance: what is kept for one goes.
    fn drop(&mut self) {
        let regions = self.regions.get_mut();
        for region in regions.unwrap_or_else(PoisonError::into_inner) {
            if let Some(region) = region.upgrade() {
                region.forget_unwanted();
            }
        }
    }
}

/// Names a program without keeping it.
#[derive(Clone)]
pub(crate) struct WeakProgram(Weak<Inner>);

impl WeakProgram {
    /// Whether it names this program.
    pub(crate) fn is(&self, program: &Program) -> bool {
        // The allocation stays as long as it is named, so no other program can be at its place.
        Weak::as_ptr(&self.0) == Arc::as_ptr(&program.inner)
    }

    /// The program, if somebody has it.
    pub(crate) fn get(&self) -> Option<Program> {
        self.0.upgrade().map(|inner| Program { inner })
    }

    /// Whether somebody has the program.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Imported functions as generated code sees them, and what keeps them alive (I-11).
pub(crate) struct Imports {
    /// One a function import, in order.
    pub(crate) refs: ImportedFuncs,
    /// Imported tags, in order.
    pub(crate) tags: Vec<Tag>,
    /// Owners of the host functions among them.
    pub(crate) _hosts: Vec<Arc<HostFunc>>,
    /// Memories that the host gives, in order.
    pub(crate) memories: Vec<SharedMemory>,
}

/// Imported functions, for guests whose pages have no protection key and for those whose pages have one.
#[derive(Default)]
pub(crate) struct ImportedFuncs {
    plain: Box<[VMFuncRef]>,
    keyed: OnceLock<Box<[VMFuncRef]>>,
}

impl ImportedFuncs {
    pub(crate) fn new(refs: Vec<VMFuncRef>) -> Self {
        Self {
            plain: refs.into_boxed_slice(),
            keyed: OnceLock::new(),
        }
    }

    /// The functions as guests see them whose pages have a key, or don't. They stay at their place.
    pub(crate) fn of(&self, keyed: bool) -> &[VMFuncRef] {
        if !keyed {
            return &self.plain;
        }
        self.keyed.get_or_init(|| {
            let refs = self.plain.iter().map(|func_ref| VMFuncRef {
                call: arch::keyed_way(func_ref.call),
                ..*func_ref
            });
            refs.collect()
        })
    }
}

/// The initial contents of memory 0 in a sealed file.
#[derive(Debug)]
pub(crate) struct Image {
    /// The file; holes are zero pages.
    pub(crate) file: File,
    /// Its bytes, for whoever writes pages back: whole pages.
    map: FileMap,
}

impl Program {
    /// Puts a program together. The imports match the module's by order and type.
    pub(crate) fn new(module: &Module, imports: Imports) -> Result<Self, Error> {
        Self::again(module, Arc::new(imports))
    }

    /// A program of a module and its imports.
    pub(crate) fn again(module: &Module, imports: Arc<Imports>) -> Result<Self, Error> {
        Ok(Self::of(module, imports, module.memory_image()?, None))
    }

    /// A program whose instances begin with the state of another one.
    pub(crate) fn of_state(
        module: &Module,
        imports: Arc<Imports>,
        image: Option<Image>,
        state: State,
    ) -> Self {
        Self::of(module, imports, image.map(Arc::new), Some(state))
    }

    fn of(
        module: &Module,
        imports: Arc<Imports>,
        image: Option<Arc<Image>>,
        state: Option<State>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                module: module.clone(),
                imports,
                image,
                state,
                regions: Mutex::default(),
            }),
        }
    }

    /// The state that its instances begin with, if it is another one's.
    pub(crate) fn state(&self) -> Option<&State> {
        let own = self.inner.state.as_ref();
        own.or(self.inner.module.info().state.as_ref())
    }

    /// Bytes of memory 0 that its instances begin with, if it lies in the slot.
    pub(crate) fn memory_len(&self) -> usize {
        let info = self.inner.module.info();
        match self.state() {
            _ if !info.owns_memory0() => 0,
            Some(state) => state.memory_len as usize,
            None => info.memories[0].min_len() as usize,
        }
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.inner.module
    }

    /// The program by name, for what a region keeps for it.
    pub(crate) fn known_to(&self, region: &Arc<RegionInner>) -> WeakProgram {
        let regions = self.inner.regions.lock();
        let mut regions = regions.unwrap_or_else(PoisonError::into_inner);
        if !regions
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(region))
        {
            regions.retain(|known| known.strong_count() > 0);
            regions.push(Arc::downgrade(region));
        }
        WeakProgram(Arc::downgrade(&self.inner))
    }

    pub(crate) fn imports(&self) -> &Arc<Imports> {
        &self.inner.imports
    }

    pub(crate) fn image(&self) -> Option<&Arc<Image>> {
        self.inner.image.as_ref()
    }
}

impl Image {
    /// The image of a module's memory 0, if it has one.
    pub(crate) fn of(module: &Module) -> Result<Option<Self>, Error> {
        let runs = &module.info().memory_image.runs;
        let Some(last) = runs.last() else {
            return Ok(None);
        };
        let parts = runs.iter().map(|run| {
            let from = run.section_offset as usize;
            (
                run.memory_offset,
                &module.image()[from..from + run.len as usize],
            )
        });
        let image = Self::new(last.memory_offset + last.len, parts);
        image
            .map(Some)
            .map_err(Error::system("make the file behind the memory image"))
    }

    /// An image of a length in whole pages, from bytes and their offsets; the rest is zero.
    pub(crate) fn new<'a>(
        len: u64,
        parts: impl Iterator<Item = (u64, &'a [u8])>,
    ) -> io::Result<Self> {
        let file = memfd::create("selvedge-image", len)?;
        for (offset, bytes) in parts {
            memfd::write_at(&file, offset, bytes)?;
        }
        // Nobody can cut the file below a mapping of it, nor change what all instances share (D-13).
        memfd::seal(&file)?;
        let file = File::from(file);
        let map = FileMap::map(&file)?;
        Ok(Self { file, map })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.as_slice()
    }
}

/// The `VMFuncRef` through which a module calls a host function.
pub(crate) fn host_func_ref(module: &Module, ty: TypeIdx, func: &HostFunc) -> VMFuncRef {
    let guest_to_host = arch::way_to_host(module.engine().tunables().counts_fuel(), false);
    let (call, body, kind) = match func.regs_entry {
        Some(entry) => (guest_to_host, entry, KIND_HOST_REGS),
        None => {
            let info = module.info();
            let sig = &info.sigs[info.type_sigs[ty.index()].index()];
            let adapter = module.code_addr(sig.guest_to_host_array);
            (
                adapter,
                crate::vm::host_entry::array_entry(func),
                KIND_HOST_ARRAY,
            )
        }
    };
    VMFuncRef {
        call,
        body,
        ctx: func.env_addr,
        type_id: module.type_ids()[ty.index()],
        kind,
    }
}

impl fmt::Debug for WeakProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeakProgram({:?})", self.0.as_ptr())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("module", &self.inner.module)
            .finish_non_exhaustive()
    }
}
