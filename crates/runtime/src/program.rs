//! A program: a module with every import resolved, type-checked once, and its initial image built.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::arch;
use crate::error::Error;
use crate::host::func::HostFunc;
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::Tag;
use crate::module::Module;
use crate::sys::memfd;
use crate::vm::context::VMFuncRef;
use selvedge_artifact::ids::TypeIdx;
use selvedge_artifact::vmfields::{KIND_HOST_ARRAY, KIND_HOST_REGS};

/// What a region instantiates: a [`Module`] with its imports. Immutable and shared.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    module: Module,
    imports: Arc<Imports>,
    image: Option<Image>,
}

/// Imported functions as generated code sees them, and what keeps them alive (I-11).
pub(crate) struct Imports {
    /// One a function import, in order.
    pub(crate) refs: Box<[VMFuncRef]>,
    /// Imported tags, in order.
    pub(crate) tags: Vec<Tag>,
    /// Owners of the host functions among them.
    pub(crate) _hosts: Vec<Arc<HostFunc>>,
    /// Memories that the host gives, in order.
    pub(crate) memories: Vec<SharedMemory>,
}

/// The initial contents of memory 0 in a sealed file.
pub(crate) struct Image {
    /// The file; holes are zero pages.
    pub(crate) file: OwnedFd,
    /// Its length: whole pages.
    pub(crate) len: usize,
}

impl Program {
    /// Puts a program together. The imports match the module's by order and type.
    pub(crate) fn new(module: &Module, imports: Imports) -> Result<Self, Error> {
        let image = Image::of(module)?;
        Ok(Self {
            inner: Arc::new(Inner {
                module: module.clone(),
                imports: Arc::new(imports),
                image,
            }),
        })
    }

    /// The module.
    pub fn module(&self) -> &Module {
        &self.inner.module
    }

    pub(crate) fn imports(&self) -> &Arc<Imports> {
        &self.inner.imports
    }

    pub(crate) fn image(&self) -> Option<&Image> {
        self.inner.image.as_ref()
    }
}

impl Image {
    fn of(module: &Module) -> Result<Option<Self>, Error> {
        let runs = &module.info().memory_image.runs;
        let Some(last) = runs.last() else {
            return Ok(None);
        };
        let len = last.memory_offset + last.len;
        let failed = "make the file behind the memory image";
        let file = memfd::create("selvedge-image", len).map_err(Error::system(failed))?;
        for run in runs {
            let from = run.section_offset as usize;
            let bytes = &module.image()[from..from + run.len as usize];
            memfd::write_at(&file, run.memory_offset, bytes).map_err(Error::system(failed))?;
        }
        // Nobody can cut the file below a mapping of it, nor change what all instances share (D-13).
        memfd::seal(&file).map_err(Error::system(failed))?;
        Ok(Some(Self {
            file,
            len: len as usize,
        }))
    }
}

/// The `VMFuncRef` through which a module calls a host function.
pub(crate) fn host_func_ref(module: &Module, ty: TypeIdx, func: &HostFunc) -> VMFuncRef {
    let guest_to_host = arch::way_to_host(module.engine().tunables().counts_fuel());
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

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("module", &self.inner.module)
            .finish_non_exhaustive()
    }
}
