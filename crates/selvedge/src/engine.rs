//! The engine with its compiler: the runtime's engine and the settings that modules are compiled
//! with. What loaded modules share is the runtime's own affair.

use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use selvedge_compile::Settings as CompileSettings;
use selvedge_runtime::Module;

use crate::inspect::{self, Summary};
use crate::source;
use crate::{Cpu, Dump, Error, FuelCosts, OptLevel, Proposals};

/// What may be chosen about an engine. The default is fast code for this machine, compiled on all its
/// cores.
///
/// ```
/// use selvedge::{Engine, OptLevel, Settings};
///
/// let engine = Engine::new(&Settings::default().with_opt_level(OptLevel::None))?;
/// # Ok::<(), selvedge::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    opt_level: OptLevel,
    cpu: Cpu,
    relaxed_simd_deterministic: bool,
    keep_dwarf: bool,
    single_threaded: bool,
    fuel: Option<FuelCosts>,
    proposals: Proposals,
    nan_canonicalization: bool,
    explicit_bounds: bool,
    dense_regions: bool,
}

impl Settings {
    /// How hard the compiler tries.
    #[must_use]
    pub fn with_opt_level(mut self, opt_level: OptLevel) -> Self {
        self.opt_level = opt_level;
        self
    }

    /// The CPU that code is made for. Code for another CPU than this machine's can be written to a
    /// file with [`Engine::precompile`]; whether it runs is checked where it is loaded.
    #[must_use]
    pub fn with_cpu(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// Whether the instructions of relaxed SIMD give the same results on every CPU, as the
    /// deterministic profile of WebAssembly has them. If this is not called, they give what the CPU
    /// does fastest of what the specification allows.
    #[must_use]
    pub fn with_relaxed_simd_deterministic(mut self, deterministic: bool) -> Self {
        self.relaxed_simd_deterministic = deterministic;
        self
    }

    /// Which proposals modules may use, where it is not all that are built.
    #[must_use]
    pub fn with_proposals(mut self, proposals: Proposals) -> Self {
        self.proposals = proposals;
        self
    }

    /// The proposals that modules may use.
    pub fn proposals(&self) -> Proposals {
        self.proposals
    }

    /// Whether code compares every address with the length of its memory, in a way that holds when the
    /// processor guesses, too. If this is not called, code for memories with 32-bit addresses leaves that to
    /// address space without rights around the memory, which costs nothing where it runs. Results and traps are
    /// the same either way. Artifacts compiled without this are refused.
    #[must_use]
    pub fn with_explicit_bounds(mut self, explicit: bool) -> Self {
        self.explicit_bounds = explicit;
        self
    }

    /// Whether code is for dense regions alone ([`RegionOptions::dense`](crate::RegionOptions::dense)), where an instance
    /// then takes the least memory: code compares every address, as with [`Settings::with_explicit_bounds`], and the globals
    /// lie right beside what the guest only reads, so that both have room in one page, and other regions can't keep
    /// them apart. Artifacts compiled otherwise are refused, and so is this code by other engines.
    #[must_use]
    pub fn with_dense_regions(mut self, dense: bool) -> Self {
        self.dense_regions = dense;
        self
    }

    /// Whether code is for dense regions alone.
    pub fn is_for_dense_regions(&self) -> bool {
        self.dense_regions
    }

    /// Whether every NaN that arithmetic makes is the canonical one, positive and without a payload. If this is
    /// not called, sign and payload are what the CPU gives. Instructions that only move bits or change a sign
    /// (`abs`, `neg`, `copysign`, `pmin`, `pmax`, loads, `reinterpret`) keep a NaN as it is. Artifacts compiled
    /// without this are refused.
    #[must_use]
    pub fn with_nan_canonicalization(mut self, canonical: bool) -> Self {
        self.nan_canonicalization = canonical;
        self
    }

    /// The deterministic profile of WebAssembly: what a guest computes depends on nothing but its code, its
    /// arguments and what host functions give it, on every CPU and at every level of optimisation. NaNs are
    /// canonical, relaxed SIMD gives the first of the allowed results. What memories and tables may grow to is
    /// the embedder's to keep the same ([`Limits`](crate::Limits)), and so are clocks and random numbers, and how deep
    /// calls may nest, and in what order threads come to a shared memory. Artifacts that promise less are
    /// refused.
    #[must_use]
    pub fn deterministic(self) -> Self {
        self.with_nan_canonicalization(true)
            .with_relaxed_simd_deterministic(true)
    }

    /// Has code count fuel, each instruction at what the table says ([`FuelCosts::default`] is one unit for
    /// nearly all). The guests of such an engine can be given a budget, see
    /// [`Instance::set_fuel`](crate::Instance::set_fuel). Artifacts of engines that count otherwise, or not
    /// at all, are refused.
    #[must_use]
    pub fn with_fuel(mut self, costs: FuelCosts) -> Self {
        self.fuel = Some(costs);
        self
    }

    /// Whether a module's DWARF sections are kept with its code, so that backtraces name source lines.
    /// They are read when a backtrace is first asked for its lines. Not kept if this is not called.
    #[must_use]
    pub fn with_dwarf(mut self, keep: bool) -> Self {
        self.keep_dwarf = keep;
        self
    }

    /// Whether the functions of a module are compiled on several threads; they are if this is not
    /// called. The code is the same either way.
    #[must_use]
    pub fn with_parallel_compilation(mut self, parallel: bool) -> Self {
        self.single_threaded = !parallel;
        self
    }
}

/// What compiles modules, and what they share when they run: settings, types, the map of loaded code.
/// Clones are the same engine; it may be used from any thread.
///
/// An `&Engine` is accepted wherever the runtime asks for its own engine, as in
/// [`Linker::new`](crate::Linker::new) and [`Region::new`](crate::Region::new).
#[derive(Clone, Debug)]
pub struct Engine {
    runtime: selvedge_runtime::Engine,
    settings: Arc<CompileSettings>,
}

impl Engine {
    /// Makes an engine. The first one of a process installs the handler that turns faults of guests
    /// into errors.
    ///
    /// # Errors
    ///
    /// If the system refuses the handler.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let mut compile = CompileSettings::default();
        if let Some(costs) = &settings.fuel {
            compile.count_fuel(costs.clone());
        }
        compile.tunables.explicit_bounds = settings.explicit_bounds || settings.dense_regions;
        compile.tunables.compact_contexts = settings.dense_regions;
        compile.tunables.nan_canonicalization = settings.nan_canonicalization;
        compile.tunables.relaxed_simd_deterministic = settings.relaxed_simd_deterministic;
        let runtime = selvedge_runtime::Engine::with_tunables(compile.tunables)?;
        compile.opt_level = settings.opt_level;
        compile.cpu = settings.cpu;
        compile.keep_dwarf = settings.keep_dwarf;
        compile.parallel = !settings.single_threaded;
        compile.proposals = settings.proposals;
        Ok(Self {
            runtime,
            settings: Arc::new(compile),
        })
    }

    /// Takes the trap handler out of the process again and puts back who was there before it; false, and
    /// nothing is changed, if somebody has put a handler on top of it. From then on a guest that traps is a
    /// fault of the process, until an engine is made again.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn remove_trap_handler() -> Result<bool, Error> {
        Ok(selvedge_runtime::Engine::remove_trap_handler()?)
    }

    /// Whether guests can be suspended from outside on this machine, by a
    /// [`PreemptSwitch`](crate::PreemptSwitch), after a slice of time or at an epoch's deadline. The first call in a process
    /// tries it, with something in every register.
    ///
    /// # Errors
    ///
    /// With what went wrong. Then everything else works, and what would suspend a guest says the same.
    pub fn preemption() -> Result<(), Error> {
        Ok(selvedge_runtime::Engine::preemption()?)
    }

    /// Compiles a module, given in the binary or in the text format, and makes it ready to run.
    ///
    /// # Errors
    ///
    /// If the bytes are no module, or one that is invalid or uses what Selvedge does not support: the
    /// error says what and at which offset.
    pub fn compile(&self, module: &[u8]) -> Result<Module, Error> {
        let binary = source::to_binary(module)?;
        let compiled = selvedge_compile::compile(&binary, &self.settings)?;
        Ok(Module::from_compiled(&self.runtime, compiled)?)
    }

    /// Compiles the module in a file, in the binary or in the text format.
    ///
    /// # Errors
    ///
    /// As [`Engine::compile`], and if the file can't be read.
    pub fn compile_file(&self, path: impl AsRef<Path>) -> Result<Module, Error> {
        let path = path.as_ref();
        let module = fs::read(path).map_err(|source| Error::ReadFile {
            path: path.display().to_string(),
            source,
        })?;
        self.compile(&module).map_err(|error| error.in_file(path))
    }

    /// Compiles a module to the bytes of an artifact, to be kept in a file. It is loaded with
    /// [`Module::load_file`] or [`Module::from_artifact`], which are `unsafe`: an artifact is native
    /// code, and whoever loads one vouches for where it comes from.
    ///
    /// # Errors
    ///
    /// As [`Engine::compile`].
    pub fn precompile(&self, module: &[u8]) -> Result<Vec<u8>, Error> {
        let binary = source::to_binary(module)?;
        Ok(selvedge_compile::compile(&binary, &self.settings)?.into_bytes())
    }

    /// The code of a module's functions as text, for reading: of all of them, or of the one with this
    /// index or name.
    ///
    /// # Errors
    ///
    /// As [`Engine::compile`], and if there is no such function.
    pub fn dump(&self, module: &[u8], what: Dump, func: Option<&str>) -> Result<String, Error> {
        let binary = source::to_binary(module)?;
        Ok(selvedge_compile::dump(&binary, &self.settings, what, func)?)
    }

    /// What is in a module, given in the binary or in the text format, or in an artifact.
    ///
    /// # Errors
    ///
    /// As [`Engine::compile`]; if it is an artifact, why that is refused.
    pub fn inspect(&self, module_or_artifact: &[u8]) -> Result<Summary, Error> {
        inspect::inspect(module_or_artifact, &self.settings)
    }
}

impl Deref for Engine {
    type Target = selvedge_runtime::Engine;

    fn deref(&self) -> &selvedge_runtime::Engine {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Linker, Region, RuntimeError, Source, TrapCode};

    const ADD: &[u8] = b"(module $sum (func (export \"add\") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1))))";

    fn engine() -> Engine {
        Engine::new(&Settings::default()).unwrap()
    }

    #[test]
    fn text_and_binary_give_the_same_module() {
        let binary = wat::parse_bytes(ADD).unwrap();
        let engine = engine();
        assert!(engine.precompile(ADD).unwrap() == engine.precompile(&binary).unwrap());
        assert_eq!(engine.compile(&binary).unwrap().name(), Some("sum"));
    }

    #[test]
    fn one_thread_and_many_give_the_same_artifact() {
        let settings = Settings::default();
        let one = Engine::new(&settings.clone().with_parallel_compilation(false)).unwrap();
        let many = Engine::new(&settings.with_parallel_compilation(true)).unwrap();
        assert!(one.precompile(ADD).unwrap() == many.precompile(ADD).unwrap());
    }

    #[test]
    fn settings_reach_the_compiler() {
        let settings = Settings::default()
            .with_cpu(Cpu::Baseline)
            .with_opt_level(OptLevel::None);
        let engine = Engine::new(&settings).unwrap();
        let artifact = engine.precompile(ADD).unwrap();
        let identity = engine.inspect(&artifact).unwrap().identity.unwrap();
        assert!(
            !identity
                .cpu_features
                .iter()
                .any(|feature| feature.contains("avx"))
        );
        assert_eq!(identity.tunables, *engine.tunables());
    }

    #[test]
    fn clones_are_one_engine() {
        let engine = engine();
        let module = engine.clone().compile(ADD).unwrap();
        Linker::new(&engine).program(&module).unwrap();
        let other = Engine::new(&Settings::default()).unwrap();
        let error = Linker::new(&other).program(&module).unwrap_err();
        assert!(matches!(error, RuntimeError::OtherEngine(_)), "{error}");
    }

    #[test]
    fn errors_of_every_part_become_one() {
        fn run() -> Result<(), Error> {
            let engine = Engine::new(&Settings::default())?;
            let module = engine.compile(b"(module (func (export \"f\") unreachable))")?;
            let program = Linker::new(&engine).program(&module)?;
            let region = Region::new(&engine, 1, &Limits::default())?;
            region.new_instance(&program)?.run("f", &[])?;
            Ok(())
        }
        match run() {
            Err(Error::Runtime(RuntimeError::RuntimeFault(details))) => {
                assert_eq!(details.code, TrapCode::Unreachable);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = engine().compile_file("no/such.wasm").unwrap_err();
        assert!(error.to_string().contains("no/such.wasm"), "{error}");
    }

    #[test]
    fn modules_and_artifacts_are_summed_up_alike() {
        let engine = engine();
        let of_text = engine.inspect(ADD).unwrap();
        let of_artifact = engine.inspect(&engine.precompile(ADD).unwrap()).unwrap();
        assert_eq!(
            (of_text.source, of_artifact.source),
            (Source::Text, Source::Artifact)
        );
        assert_eq!(of_text.exports, of_artifact.exports);
        assert_eq!(of_text.name, of_artifact.name);
        assert_eq!((of_text.funcs, of_text.len), (1, ADD.len() as u64));
        assert!(of_text.identity.is_none() && of_artifact.identity.is_some());
        let code = of_text
            .sections
            .iter()
            .find(|(name, _)| name == "code")
            .unwrap();
        assert!(code.1 > 0);
    }

    #[test]
    fn code_is_dumped_by_name() {
        let engine = engine();
        assert!(
            engine
                .dump(ADD, Dump::Clif, Some("0"))
                .unwrap()
                .contains("iadd")
        );
        assert!(engine.dump(ADD, Dump::Asm, Some("none")).is_err());
    }
}
