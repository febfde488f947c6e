//! The compiler of Selvedge: WebAssembly to a native artifact.
//!
//! ```text
//!  wasm --module--> metadata, bodies --func--> IR --codegen--> machine code --emit--> artifact
//!                                       one function a job, on many threads
//! ```
//!
//! What comes in is untrusted: whatever it holds, the outcome is an artifact or an [`Error`].
//! What comes out is what `selvedge-artifact` defines; nothing here knows the runtime, and nothing
//! outside knows Cranelift.
#![forbid(unsafe_code)]

mod codegen;
mod compiler;
mod dump;
mod emit;
mod env;
mod error;
mod fuel_costs;
mod func;
mod module;
mod operators;
mod parallel;
mod proposals;
mod settings;
mod target;
mod trampoline;

pub use dump::dump;
pub use error::Error;
pub use fuel_costs::FuelCosts;
pub use proposals::{Proposal, Proposals};
pub use selvedge_artifact::header::Identity;
pub use selvedge_artifact::module::ModuleInfo;
pub use selvedge_artifact::write::Compiled;
pub use settings::{Cpu, Dump, Metering, OptLevel, Settings, Tunables};

use compiler::Compiler;

/// Compiles a module to an artifact.
///
/// ```
/// let wasm = [0, b'a', b's', b'm', 1, 0, 0, 0];
/// let artifact = selvedge_compile::compile(&wasm, &selvedge_compile::Settings::default())?;
/// assert!(artifact.as_bytes().starts_with(b"\x7fELF"));
/// # Ok::<(), selvedge_compile::Error>(())
/// ```
pub fn compile(wasm: &[u8], settings: &Settings) -> Result<Compiled, Error> {
    Compiler::new(wasm, settings)?.finish()
}

/// Checks that a module is valid and that its features are supported, without generating code.
pub fn validate(wasm: &[u8], settings: &Settings) -> Result<(), Error> {
    let module = module::Module::read(wasm, settings.proposals)?;
    module.validate_bodies(settings.parallel)
}

/// What is in a module, less what only compiling tells (where code is and what tables hold), if it is
/// valid and its features are supported.
pub fn describe(wasm: &[u8], settings: &Settings) -> Result<ModuleInfo, Error> {
    let module = module::Module::read(wasm, settings.proposals)?;
    module.validate_bodies(settings.parallel)?;
    Ok(module.info)
}

/// What artifacts of these settings say of themselves: an engine compares it with what it is.
pub fn identity(settings: &Settings) -> Result<Identity, Error> {
    let isa = target::isa(settings)?;
    Ok(compiler::identity(&*isa, settings))
}
