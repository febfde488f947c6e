//! The way of a module through the compiler: read, translate, generate, emit.
//!
//! A *place* is a number in the order of the text: functions with a body first, then the trampolines
//! of each signature.

use std::panic::{self, AssertUnwindSafe};

use cranelift_codegen::Context;
use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use selvedge_artifact::header::Identity;
use selvedge_artifact::ids::{DefinedFuncIdx, SigIdx};
use selvedge_artifact::vmoffsets::VMOffsets;
use selvedge_artifact::write::Compiled;
use wasmparser::FuncValidatorAllocations;

use crate::codegen::{self, Code};
use crate::emit;
use crate::env::ModuleEnv;
use crate::error::Error;
use crate::func::FuncTranslator;
use crate::module::Module;
use crate::parallel;
use crate::settings::Settings;
use crate::target::{self, Isas, RelaxedSimd};
use crate::trampoline::{self, Kind};

/// IR values that a function may have per byte of its body. Real ones stay below 5.
const MAX_EXPANSION: u64 = 32;
/// IR values that a function may have beyond that.
const EXPANSION_SLACK: u64 = 1 << 16;

/// A module that has been read, and what its code is made for.
pub(crate) struct Compiler<'a> {
    pub(crate) module: Module<'a>,
    pub(crate) isas: Isas,
    offsets: VMOffsets,
    relaxed_simd: RelaxedSimd,
    settings: &'a Settings,
}

/// What a thread reuses from one function to the next.
pub(crate) struct Worker {
    translator: FuncTranslator,
    builder: FunctionBuilderContext,
    allocations: FuncValidatorAllocations,
    /// Holds the IR after [`Compiler::translate`].
    pub(crate) context: Context,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            translator: FuncTranslator::default(),
            builder: FunctionBuilderContext::new(),
            allocations: FuncValidatorAllocations::default(),
            context: Context::new(),
        }
    }
}

impl<'a> Compiler<'a> {
    /// Reads a module.
    pub(crate) fn new(wasm: &'a [u8], settings: &'a Settings) -> Result<Self, Error> {
        let isas = Isas::new(settings)?;
        let module = Module::read(wasm, settings.proposals)?;
        let offsets = VMOffsets::new(&module.info, settings.tunables.compact_contexts)?;
        Ok(Self {
            module,
            relaxed_simd: target::relaxed_simd(isas.any(), settings),
            isas,
            offsets,
            settings,
        })
    }

    /// Functions and trampolines.
    pub(crate) fn count(&self) -> usize {
        self.module.bodies.len() + self.module.info.sigs.len() * Kind::ALL.len()
    }

    /// Runs one job on the function or trampoline at a place. The code generator asserts much about
    /// itself; should an assertion fail, that function is in error and the process goes on.
    pub(crate) fn job<T>(
        &self,
        worker: &mut Worker,
        place: usize,
        job: impl FnOnce(&mut Worker) -> Result<T, Error>,
    ) -> Result<T, Error> {
        panic::catch_unwind(AssertUnwindSafe(|| job(worker))).unwrap_or_else(|payload| {
            *worker = Worker::default();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
            Err(Error::codegen(
                emit::symbol(&self.module, place),
                format!(
                    "the compiler panicked, which is a bug: {}",
                    text.unwrap_or("no message")
                ),
            ))
        })
    }

    /// Builds the IR of the function or trampoline at a place.
    pub(crate) fn translate(&self, worker: &mut Worker, place: usize) -> Result<(), Error> {
        worker.context.clear();
        let Some(body) = self.module.bodies.get(place) else {
            self.build_trampoline(worker, place - self.module.bodies.len());
            return Ok(());
        };
        let env = ModuleEnv {
            info: &self.module.info,
            offsets: &self.offsets,
            tunables: &self.settings.tunables,
            fuel: self.settings.fuel.as_ref(),
            relaxed_simd: self.relaxed_simd,
            pointer_frontend: self.isas.any().frontend_config(),
        };
        let mut validator = body.validator(std::mem::take(&mut worker.allocations));
        worker.translator.translate(
            &env,
            DefinedFuncIdx::new(place as u32),
            &body.body,
            &mut validator,
            &mut worker.context.func,
        )?;
        worker.allocations = validator.into_allocations();
        let body_range = body.body.range();
        check_expansion(&worker.context.func, body_range.end - body_range.start)
    }

    fn build_trampoline(&self, worker: &mut Worker, number: usize) {
        let sig = number / Kind::ALL.len();
        trampoline::build(
            Kind::ALL[number % Kind::ALL.len()],
            SigIdx::new(sig as u32),
            &self.module.info.sigs[sig].sig,
            self.settings.fuel.is_some(),
            self.isas.any().frontend_config(),
            &mut worker.builder,
            &mut worker.context.func,
        );
    }

    /// Compiles everything and writes the artifact.
    pub(crate) fn finish(self) -> Result<Compiled, Error> {
        let codes = parallel::map(
            self.settings.parallel,
            self.count(),
            Worker::default,
            |worker, place| self.generate(worker, place),
        )?;
        let identity = identity(self.isas.any(), self.settings);
        let mut module = self.module;
        if !self.settings.keep_dwarf {
            module.dwarf.clear();
        }
        emit::emit(module, &codes, self.isas.any(), &identity)
    }

    fn generate(&self, worker: &mut Worker, place: usize) -> Result<Code, Error> {
        self.job(worker, place, |worker| {
            self.translate(worker, place)?;
            let name = || emit::symbol(&self.module, place);
            let isa = self.isas.of(&worker.context.func);
            let residuals = match self.module.bodies.get(place) {
                Some(_) => worker.translator.fuel_residuals.as_slice(),
                None => &[],
            };
            codegen::generate(isa, &mut worker.context, residuals, &name)
        })
    }
}

/// Refuses a function that makes far more of its bytes than code does. A call of two bytes can
/// yield a thousand values, each of which costs the register allocator half a kilobyte or more.
fn check_expansion(func: &Function, body_len: u64) -> Result<(), Error> {
    let found = func.dfg.num_values() as u64;
    let limit = EXPANSION_SLACK + body_len * MAX_EXPANSION;
    if found > limit {
        return Err(Error::LimitExceeded {
            what: "values computed by a function of this length",
            found,
            limit,
        });
    }
    Ok(())
}

/// What an artifact of these settings says of itself.
pub(crate) fn identity(isa: &dyn TargetIsa, settings: &Settings) -> Identity {
    Identity {
        producer: env!("CARGO_PKG_VERSION").to_owned(),
        target: target::TARGET.to_owned(),
        cpu_features: target::cpu_features(isa),
        tunables: settings.tunables,
    }
}
