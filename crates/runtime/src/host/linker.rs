//! The linker: names to host functions, tags and shared memories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use selvedge_artifact::ids::FuncIdx;
use selvedge_artifact::module::{ExternIdx, Import, ModuleInfo};
use selvedge_artifact::types::{ExternType, FuncType};

use crate::engine::Engine;
use crate::error::Error;
use crate::host::error::HostError;
use crate::host::func::{HostFunc, IntoHostFunc};
use crate::host::shared_memory::SharedMemory;
use crate::host::tag::Tag;
use crate::host::vmctx::Vmctx;
use crate::instance::link;
use crate::module::Module;
use crate::program::{ImportedFuncs, Imports, Program, host_func_ref};
use crate::value::Val;
use crate::vm::host_entry;

/// What stands behind a name.
#[derive(Clone, Debug)]
enum Definition {
    Func(Arc<HostFunc>),
    Tag(Tag),
    Memory(SharedMemory),
}

impl Definition {
    /// Its type as it is now: a memory may have grown.
    fn ty(&self) -> ExternType {
        match self {
            Self::Func(func) => ExternType::Func(func.ty.clone()),
            Self::Tag(tag) => ExternType::Tag(tag.ty().clone()),
            Self::Memory(memory) => ExternType::Memory(memory.ty()),
        }
    }
}

/// A definition that fits an import.
pub(crate) enum Given<'a> {
    Func(FuncIdx, &'a Arc<HostFunc>),
    Tag(&'a Tag),
    Memory(&'a SharedMemory),
}

/// Names and the host functions, tags and shared memories behind them. Clones share those.
#[derive(Clone, Debug)]
pub struct Linker {
    engine: Engine,
    /// By module name, then by item name: an import is looked up without making a string.
    modules: HashMap<String, HashMap<String, Definition>>,
    allow_shadowing: bool,
}

impl Linker {
    /// A linker without definitions.
    pub fn new(engine: &Engine) -> Self {
        Self {
            engine: engine.clone(),
            modules: HashMap::new(),
            allow_shadowing: false,
        }
    }

    /// Whether a later definition of a name replaces an earlier one; if not, it is an error.
    pub fn allow_shadowing(&mut self, allow: bool) -> &mut Self {
        self.allow_shadowing = allow;
        self
    }

    /// Defines a host function by a closure over scalars, `&Vmctx` first.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn func<P, R>(
        &mut self,
        module: &str,
        name: &str,
        func: impl IntoHostFunc<P, R>,
    ) -> Result<&mut Self, Error> {
        self.define(
            module,
            name,
            Definition::Func(Arc::new(func.into_host_func())),
        )
    }

    /// Defines a host function whose type is known only at run time. The closure gets parameters of that
    /// type, and results that hold zeros and nulls of theirs; it must leave values of those types.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn func_new(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        func: impl Fn(&Vmctx<'_>, &[Val], &mut [Val]) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Result<&mut Self, Error> {
        let func = Arc::new(HostFunc::untyped(ty, false, func));
        self.define(module, name, Definition::Func(func))
    }

    /// As [`Linker::func`], for a host function that may suspend its guest in the middle, with
    /// [`Vmctx::yield_`] and its kin. It runs on a stack of its own of 1 MiB, so each call of it switches
    /// stacks twice more, and an instance that it has suspended can be resumed on the same thread only.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn suspending_func<P, R>(
        &mut self,
        module: &str,
        name: &str,
        func: impl IntoHostFunc<P, R>,
    ) -> Result<&mut Self, Error> {
        let func = Arc::new(func.into_suspending_func());
        self.define(module, name, Definition::Func(func))
    }

    /// As [`Linker::func_new`], for a host function that may suspend its guest in the middle.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn suspending_func_new(
        &mut self,
        module: &str,
        name: &str,
        ty: FuncType,
        func: impl Fn(&Vmctx<'_>, &[Val], &mut [Val]) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Result<&mut Self, Error> {
        let func = Arc::new(HostFunc::untyped(ty, true, func));
        self.define(module, name, Definition::Func(func))
    }

    /// Defines a tag of exceptions. Every guest that imports it means this very tag, so that one catches
    /// what another one, or the host, throws.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn tag(&mut self, module: &str, name: &str, tag: &Tag) -> Result<&mut Self, Error> {
        self.define(module, name, Definition::Tag(tag.clone()))
    }

    /// Defines a shared memory. Every instance of a program that imports it has the same one.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`], [`Error::OtherEngine`].
    pub fn shared_memory(
        &mut self,
        module: &str,
        name: &str,
        memory: &SharedMemory,
    ) -> Result<&mut Self, Error> {
        if !memory.engine().same(&self.engine) {
            return Err(Error::OtherEngine("shared memory"));
        }
        self.define(module, name, Definition::Memory(memory.clone()))
    }

    /// Has calls of the host functions that are defined by now counted, by guests and by the host, whatever becomes
    /// of them; the count, which goes on as long as a program of this linker runs. Functions that are defined
    /// later are not counted, nor are programs that were made before; nothing is paid for those. A second count
    /// counts along with the first.
    ///
    /// A call that is counted costs some nanoseconds more: its arguments go through memory.
    pub fn count_calls(&mut self) -> Arc<AtomicU64> {
        let calls = Arc::default();
        for definition in self.modules.values_mut().flat_map(HashMap::values_mut) {
            if let Definition::Func(func) = definition {
                *func = Arc::new(host_entry::noted(func, &calls));
            }
        }
        calls
    }

    /// Defines every function import of a module that has no definition yet as a function that ends the
    /// guest with an error that names the import.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownImport`] for an undefined import that is not a function.
    pub fn define_unknown_imports_as_traps(&mut self, module: &Module) -> Result<&mut Self, Error> {
        for import in module.imports() {
            if self.get(import.module, import.name).is_some() {
                continue;
            }
            let ExternType::Func(ty) = &import.ty else {
                return Err(unknown(import.module, import.name, import.ty));
            };
            let message = format!(
                "the guest called {}::{}, an import that the host does not define",
                import.module, import.name
            );
            let func =
                move |_: &Vmctx<'_>, _: &[Val], _: &mut [Val]| Err(HostError::new(message.clone()));
            self.define(
                import.module,
                import.name,
                Definition::Func(Arc::new(HostFunc::untyped(ty.clone(), false, func))),
            )?;
        }
        Ok(self)
    }

    /// Resolves the imports of a module, and checks their types once for all instances.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownImport`], [`Error::ImportType`], [`Error::OtherEngine`], [`Error::System`].
    pub fn program(&self, module: &Module) -> Result<Program, Error> {
        if !module.engine().same(&self.engine) {
            return Err(Error::OtherEngine("module"));
        }
        let info = module.info();
        let mut imports = Imports {
            refs: ImportedFuncs::default(),
            tags: Vec::new(),
            _hosts: Vec::new(),
            memories: Vec::new(),
        };
        let mut refs = Vec::with_capacity(info.imported.funcs as usize);
        for import in &info.imports {
            match self.resolve(info, import)? {
                Given::Func(func, host) => {
                    refs.push(host_func_ref(module, info.funcs[func.index()], host));
                    imports._hosts.push(Arc::clone(host));
                }
                Given::Tag(tag) => imports.tags.push(tag.clone()),
                Given::Memory(memory) => imports.memories.push(memory.clone()),
            }
        }
        imports.refs = ImportedFuncs::new(refs);
        Program::new(module, imports)
    }

    /// The definition of a name.
    fn get(&self, module: &str, name: &str) -> Option<&Definition> {
        self.modules.get(module)?.get(name)
    }

    /// The definition of an import, if it fits.
    pub(crate) fn resolve(&self, info: &ModuleInfo, import: &Import) -> Result<Given<'_>, Error> {
        let found = self.get(&import.module, &import.name);
        let found = found.ok_or_else(|| missing(info, import))?;
        match (import.item, found) {
            (ExternIdx::Func(func), Definition::Func(host)) if info.func_type(func) == &host.ty => {
                Ok(Given::Func(func, host))
            }
            (ExternIdx::Tag(tag), Definition::Tag(host)) if info.tag_type(tag) == host.ty() => {
                Ok(Given::Tag(host))
            }
            (ExternIdx::Memory(_), Definition::Memory(memory))
                if link::matches(&found.ty(), &info.extern_type(import.item)) =>
            {
                Ok(Given::Memory(memory))
            }
            _ => Err(mismatch(info, import, found.ty())),
        }
    }

    /// The engine it belongs to.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn define(
        &mut self,
        module: &str,
        name: &str,
        definition: Definition,
    ) -> Result<&mut Self, Error> {
        let names = self.modules.entry(module.to_owned()).or_default();
        if !self.allow_shadowing && names.contains_key(name) {
            return Err(Error::AlreadyDefined {
                module: module.to_owned(),
                name: name.to_owned(),
            });
        }
        names.insert(name.to_owned(), definition);
        Ok(self)
    }
}

/// The error for an import without definition.
fn unknown(module: &str, name: &str, ty: ExternType) -> Error {
    Error::UnknownImport {
        module: module.to_owned(),
        name: name.to_owned(),
        ty: Box::new(ty),
    }
}

/// The error for an import that nobody defines.
pub(crate) fn missing(info: &ModuleInfo, import: &Import) -> Error {
    unknown(&import.module, &import.name, info.extern_type(import.item))
}

/// The error for an import whose definition has another type.
pub(crate) fn mismatch(info: &ModuleInfo, import: &Import, found: ExternType) -> Error {
    Error::ImportType {
        module: import.module.clone(),
        name: import.name.clone(),
        expected: Box::new(info.extern_type(import.item)),
        found: Box::new(found),
    }
}
