//! Modules made of a seed: valid, ending, with canonical NaNs, everything exported; and the calls that
//! are made of them. Runs nothing.

use anyhow::{Context, Result};
use arbitrary::Unstructured;
use wasm_smith::{Config, InstructionKind, InstructionKinds, Module};
use wasmparser::{ExternalKind, Parser, Payload, TypeRef, Validator, WasmFeatures};

use crate::engines::host;
use crate::engines::value::{Type, Value};
use crate::features::{FUNCTION_REFERENCES, Feature, THREADS};
use crate::observe::{self, How};
use crate::random::Random;

/// The global that functions and loops count down, and trap at zero.
pub(crate) const FUEL: &str = "selvedge-fuzz fuel";
/// What it holds before each call.
pub(crate) const FUEL_PER_CALL: u32 = 1000;
/// Bytes that a memory may grow to; part of all engines' limits.
pub(crate) const MEMORY_LIMIT: usize = 20 * PAGE;
/// Elements that a table may grow to.
pub(crate) const TABLE_LIMIT: usize = 2000;
const PAGE: usize = 1 << 16;

/// A module and what a run of it touches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    /// Makes the case again.
    pub(crate) seed: u64,
    /// Whether only canonical NaNs come of it, whatever the engine does.
    pub(crate) canonical: bool,
    /// Whether it uses something that wasmi does not have.
    pub(crate) beyond_wasmi: bool,
    /// The module.
    pub(crate) wasm: Vec<u8>,
    /// Exported functions that the module may be asked to run.
    pub(crate) funcs: Vec<ExportedFunc>,
    /// Exported memories, by index.
    pub(crate) memories: Vec<String>,
    /// Exported globals, by index, without the one for fuel.
    pub(crate) globals: Vec<String>,
    /// Exported tables, by index.
    pub(crate) tables: Vec<String>,
}

/// A function by its name and type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ExportedFunc {
    pub(crate) name: String,
    pub(crate) params: Vec<Type>,
    pub(crate) results: Vec<Type>,
}

/// A call of an exported function.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) func: &'a ExportedFunc,
    pub(crate) args: Vec<Value>,
}

impl Case {
    /// The case of a seed. Fails only where the generator does.
    pub(crate) fn of_seed(seed: u64, features: &[Feature]) -> Result<Self> {
        let mut random = Random::new(seed);
        let mut references = false;
        let mut threads = false;
        let mut canonical = true;
        let mut module = generated(&mut random, |random| {
            let mut config = config(random);
            references = false;
            threads = false;
            canonical = config.canonicalize_nans;
            for feature in features {
                // Leaving some out makes their neighbours more frequent.
                if !random.once_in(8) {
                    (feature.enable)(&mut config);
                    references |= feature.name == FUNCTION_REFERENCES;
                    threads |= feature.name == THREADS;
                }
            }
            let len = 1 << (10 + random.below(6));
            (config, random.bytes(len))
        })?;
        let fuel = module.ensure_termination(FUEL_PER_CALL)?;
        // What observes a value also keeps it from being folded into what uses it: not all at once.
        let how = How {
            rate: random.pick(&[0, 1, 1, 4]),
            references,
            canonical,
            tame: threads && !random.once_in(4),
        };
        let wasm = observe::observed(&module.to_bytes(), &mut random, how, (FUEL, fuel))?;
        Ok(Self {
            canonical,
            ..Self::of_wasm(seed, wasm)?
        })
    }

    /// A case from a file: a module that may lack the global for fuel.
    pub(crate) fn of_wasm(seed: u64, wasm: Vec<u8>) -> Result<Self> {
        let types = Validator::new_with_features(WasmFeatures::all())
            .validate_all(&wasm)
            .context("the module is invalid")?;
        // Proposals that only Wasmtime and Selvedge have.
        let wasmi = WasmFeatures::all()
            .difference(WasmFeatures::EXCEPTIONS)
            .difference(WasmFeatures::GC)
            .difference(WasmFeatures::THREADS)
            .difference(WasmFeatures::FUNCTION_REFERENCES);
        let mut case = Self {
            seed,
            canonical: true,
            beyond_wasmi: Validator::new_with_features(wasmi)
                .validate_all(&wasm)
                .is_err(),
            ..Self::default()
        };
        let mut imported = Vec::new();
        for payload in Parser::new(0).parse_all(&wasm) {
            let section = match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(_) = import.ty {
                            imported.push(import.name);
                        }
                    }
                    continue;
                }
                Payload::ExportSection(section) => section,
                _ => continue,
            };
            for export in section {
                let export = export?;
                let name = export.name.to_owned();
                match export.kind {
                    ExternalKind::Func => {
                        // Called by the host, it has a guest to touch in one engine and none in
                        // another.
                        let import = imported.get(export.index as usize);
                        if import.is_some_and(|name| host::touches_guest(name)) {
                            continue;
                        }
                        let id = types.as_ref().core_function_at(export.index);
                        let ty = types[id].unwrap_func();
                        let (Some(params), Some(results)) =
                            (Type::of_all(ty.params()), Type::of_all(ty.results()))
                        else {
                            continue;
                        };
                        case.funcs.push(ExportedFunc {
                            name,
                            params,
                            results,
                        });
                    }
                    ExternalKind::Memory => case.memories.push(name),
                    ExternalKind::Table => case.tables.push(name),
                    ExternalKind::Global if name != FUEL => case.globals.push(name),
                    _ => {}
                }
            }
        }
        case.wasm = wasm;
        Ok(case)
    }

    /// The calls to make, in order, on one instance.
    pub(crate) fn calls(&self) -> Vec<Call<'_>> {
        /// Enough for every function of most modules to be called more than once.
        const MAX_CALLS: usize = 24;
        const ROUNDS: usize = 3;
        let mut random = Random::new(!self.seed);
        if self.funcs.is_empty() {
            return Vec::new();
        }
        let count = (self.funcs.len() * ROUNDS).min(MAX_CALLS);
        let first = random.below(self.funcs.len());
        let call = |i: usize| {
            let func = &self.funcs[(first + i) % self.funcs.len()];
            let args = func.params.iter();
            let args = args.map(|&ty| Value::random(ty, &mut random)).collect();
            Call { func, args }
        };
        (0..count).map(call).collect()
    }
}

/// What the generator may do, which differs from seed to seed: many small worlds find more than one.
fn config(random: &mut Random) -> Config {
    let pages = 1 + random.below(MEMORY_LIMIT / PAGE);
    let imports = !random.once_in(4);
    let max_funcs = host::FUNCS.len() + random.pick(&[2, 6, 20]);
    Config {
        available_imports: imports.then(host::imports),
        allow_start_export: random.once_in(4),
        // If not, the engines do, of those that can.
        canonicalize_nans: !random.once_in(3),
        // Without this, most calls end at their first load.
        disallow_traps: !random.once_in(3),
        allowed_instructions: instructions(random),
        allow_floats: !random.once_in(8),
        export_everything: true,
        min_funcs: 2,
        max_funcs,
        max_imports: if imports { host::FUNCS.len() } else { 0 },
        max_instructions: random.pick(&[50, 200, 800]),
        min_types: 1,
        max_types: random.pick(&[5, 20]),
        min_memories: u32::from(!random.once_in(8)),
        max_memories: 1,
        max_memory32_bytes: (pages * PAGE) as u64,
        max_memory64_bytes: (pages * PAGE) as u128,
        memory_max_size_required: random.once_in(2),
        min_tables: u32::from(!random.once_in(4)),
        max_tables: 4,
        max_table_elements: TABLE_LIMIT as u64 / 2,
        table_max_size_required: random.once_in(2),
        max_globals: 20,
        max_element_segments: 10,
        max_elements: 20,
        max_data_segments: 10,
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        reference_types_enabled: true,
        saturating_float_to_int_enabled: true,
        sign_extension_ops_enabled: true,
        // What follows is turned on by the table of features, or is not of this world.
        extended_const_enabled: false,
        simd_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        wide_arithmetic_enabled: false,
        memory64_enabled: false,
        custom_page_sizes_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        compact_imports_enabled: false,
        custom_descriptors_enabled: false,
        ..Config::default()
    }
}

/// All instructions, or a few families of them, so that these meet more often.
fn instructions(random: &mut Random) -> InstructionKinds {
    use InstructionKind as K;
    if random.once_in(2) {
        return InstructionKinds::all();
    }
    const FAMILIES: [K; 9] = [
        K::Numeric,
        K::NumericInt,
        K::Vector,
        K::VectorInt,
        K::Reference,
        K::Variable,
        K::Table,
        K::Memory,
        K::Control,
    ];
    let mut kinds = vec![
        K::Parametric,
        random.pick(&[K::Numeric, K::Vector, K::VectorInt, K::Memory]),
    ];
    kinds.extend(FAMILIES.into_iter().filter(|_| random.once_in(2)));
    InstructionKinds::new(&kinds)
}

/// A module of any features, for the compiler alone: it need not be supported, nor valid.
pub(crate) fn anything(random: &mut Random) -> Result<Vec<u8>> {
    let module = generated(random, |random| {
        let mut config = random_config(random);
        config.allow_invalid_funcs = random.once_in(4);
        config.max_funcs = config.max_funcs.min(50);
        if random.once_in(2) {
            // Features that are refused hide what lies behind them.
            config.gc_enabled = false;
            config.compact_imports_enabled = false;
            config.max_imports = 0;
        }
        let len = 1 << (7 + random.below(8));
        (config, random.bytes(len))
    })?;
    Ok(module.to_bytes())
}

/// A configuration of the generator's own choice.
fn random_config(random: &mut Random) -> Config {
    const LEN: usize = 1 << 10;
    let bytes = random.bytes(LEN);
    Unstructured::new(&bytes).arbitrary().unwrap_or_default()
}

/// A module of the next numbers that make one: some bytes lead the generator nowhere.
fn generated(
    random: &mut Random,
    mut choose: impl FnMut(&mut Random) -> (Config, Vec<u8>),
) -> Result<Module> {
    const TRIES: usize = 100;
    let mut failed = arbitrary::Error::NotEnoughData;
    for _ in 0..TRIES {
        let (config, bytes) = choose(random);
        match Module::new(config, &mut Unstructured::new(&bytes)) {
            Ok(module) => return Ok(module),
            Err(error) => failed = error,
        }
    }
    Err(failed).context("no module could be generated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memories_and_atomics_of_all_kinds_come_up() {
        let features = crate::features::parse(Some("all")).unwrap();
        let text: String = (0..400)
            .map(|seed| {
                let case = Case::of_seed(seed, &features).unwrap();
                wasmprinter::print_bytes(&case.wasm).unwrap()
            })
            .collect();
        let count = |word: &str| text.matches(word).count();
        for word in [
            " shared)",
            "i32.atomic.load",
            "i64.atomic.store8",
            "i64.atomic.rmw.add",
            "i32.atomic.rmw8.cmpxchg_u",
            "memory.atomic.notify",
            "memory.atomic.wait32",
            "memory.atomic.wait64",
            "atomic.fence",
        ] {
            assert!(count(word) > 5, "{word}: {}", count(word));
        }
        // Every wait has its bound in front of it, as the time-out or as a mask of it.
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with("memory.atomic.wait") {
                let bound = lines[at - 2..at].contains(&"i64.const 4095");
                assert!(bound, "{:?}", &lines[at - 2..=at]);
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_case_every_time() {
        let features = crate::features::parse(None).unwrap();
        for seed in 0..20 {
            let case = Case::of_seed(seed, &features).unwrap();
            assert!(case.wasm == Case::of_seed(seed, &features).unwrap().wasm);
            assert!(!case.globals.iter().any(|name| name == FUEL));
        }
    }
}
