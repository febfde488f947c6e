//! Host functions that know the names under which guests import them.

use crate::error::Error;
use crate::host::linker::Linker;

/// A host function with the name under which guests import it. The attribute `#[hostcall]` implements it
/// for a type of the function's name.
pub trait Hostcall {
    /// Module name of the import.
    const MODULE: &'static str;
    /// Item name of the import.
    const NAME: &'static str;

    /// Defines the function in a linker.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    fn define(linker: &mut Linker) -> Result<(), Error>;
}

impl Linker {
    /// Defines a host function under its own name: `linker.hostcall::<log>()`, where `#[hostcall] fn log` is
    /// in scope.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyDefined`].
    pub fn hostcall<H: Hostcall>(&mut self) -> Result<&mut Self, Error> {
        H::define(self)?;
        Ok(self)
    }
}
