//! The linker: names to host functions.

use std::collections::HashMap;
use std::sync::Arc;

use selvedge_artifact::module::ExternIdx;
use selvedge_artifact::types::{ExternType, FuncType};

use crate::engine::Engine;
use crate::error::Error;
use crate::host::error::HostError;
use crate::host::func::{HostFunc, IntoHostFunc};
use crate::host::vmctx::Vmctx;
use crate::module::Module;
use crate::program::{Imports, Program, host_func_ref};
use crate::value::Val;

/// Names and the host functions behind them. Clones share the functions.
#[derive(Clone, Debug)]
pub struct Linker {
    engine: Engine,
    /// By module name, then by item name: an import is looked up without making a string.
    modules: HashMap<String, HashMap<String, Arc<HostFunc>>>,
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
        self.define(module, name, Arc::new(func.into_host_func()))
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
        self.define(module, name, Arc::new(HostFunc::untyped(ty, func)))
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
                Arc::new(HostFunc::untyped(ty.clone(), func)),
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
            refs: Box::default(),
            _hosts: Vec::new(),
        };
        let mut refs = Vec::with_capacity(info.imported.funcs as usize);
        for import in &info.imports {
            let expected = info.extern_type(import.item);
            let found = self.get(&import.module, &import.name);
            let (ExternIdx::Func(func), Some(host)) = (import.item, found) else {
                return Err(match found {
                    Some(host) => mismatch(&import.module, &import.name, expected, host),
                    None => unknown(&import.module, &import.name, expected),
                });
            };
            if expected != ExternType::Func(host.ty.clone()) {
                return Err(mismatch(&import.module, &import.name, expected, host));
            }
            refs.push(host_func_ref(module, info.funcs[func.index()], host));
            imports._hosts.push(Arc::clone(host));
        }
        imports.refs = refs.into_boxed_slice();
        Program::new(module, imports)
    }

    /// The definition of a name.
    pub(crate) fn get(&self, module: &str, name: &str) -> Option<&Arc<HostFunc>> {
        self.modules.get(module)?.get(name)
    }

    /// The engine it belongs to.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn define(
        &mut self,
        module: &str,
        name: &str,
        func: Arc<HostFunc>,
    ) -> Result<&mut Self, Error> {
        let names = self.modules.entry(module.to_owned()).or_default();
        if !self.allow_shadowing && names.contains_key(name) {
            return Err(Error::AlreadyDefined {
                module: module.to_owned(),
                name: name.to_owned(),
            });
        }
        names.insert(name.to_owned(), func);
        Ok(self)
    }
}

/// The error for an import without definition.
pub(crate) fn unknown(module: &str, name: &str, ty: ExternType) -> Error {
    Error::UnknownImport {
        module: module.to_owned(),
        name: name.to_owned(),
        ty: Box::new(ty),
    }
}

fn mismatch(module: &str, name: &str, expected: ExternType, host: &HostFunc) -> Error {
    Error::ImportType {
        module: module.to_owned(),
        name: name.to_owned(),
        expected: Box::new(expected),
        found: Box::new(ExternType::Func(host.ty.clone())),
    }
}
