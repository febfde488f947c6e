//! An engine, a linker and a region: what nearly every test begins with.

use selvedge::{
    Engine, FaultDetails, InstanceHandle, Limits, Linker, Module, Program, Region, RegionOptions,
    RunResult, RuntimeError, Settings, Val,
};

/// The variable that says with how many protection keys tests stripe their regions, without any if it is not set.
pub const KEYS: &str = "SELVEDGE_PROTECTION_KEYS";

/// A region with the default options, but for protection keys, which the environment asks for.
pub fn region(engine: &Engine, slots: u32, limits: &Limits) -> Region {
    let mut options = RegionOptions::default();
    if let Ok(keys) = std::env::var(KEYS) {
        options.protection_keys = keys.parse().expect("the variable holds a number");
    }
    Region::with_options(engine, slots, limits, &options)
        .unwrap_or_else(|error| panic!("there is to be a region: {error}"))
}

/// Where a test runs its guests.
#[derive(Debug)]
pub struct Sandbox {
    /// Compiles.
    pub engine: Engine,
    /// Holds the test's host functions.
    pub linker: Linker,
    /// Has slots for the test's instances.
    pub region: Region,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// A sandbox with a few slots and the default limits.
    pub fn new() -> Self {
        Self::with(8, &Limits::default())
    }

    /// A sandbox with these limits.
    pub fn with(slots: u32, limits: &Limits) -> Self {
        let engine = Engine::new(&Settings::default()).expect("an engine can be made");
        let region = region(&engine, slots, limits);
        Self {
            linker: Linker::new(&engine),
            region,
            engine,
        }
    }

    /// Compiles a module that is in order.
    pub fn module(&self, wat: &str) -> Module {
        self.engine
            .compile(wat.as_bytes())
            .unwrap_or_else(|error| panic!("{error}\n{wat}"))
    }

    /// Links a module whose imports are in the linker.
    pub fn program(&self, wat: &str) -> Program {
        self.linker
            .program(&self.module(wat))
            .unwrap_or_else(|error| panic!("{error}\n{wat}"))
    }

    /// An instance of a module without a start function.
    pub fn instance(&self, wat: &str) -> InstanceHandle {
        self.region
            .new_instance(&self.program(wat))
            .unwrap_or_else(|error| panic!("{error}\n{wat}"))
    }
}

/// The values of a run that returned.
pub fn returned(result: Result<RunResult, RuntimeError>) -> Vec<Val> {
    match result {
        Ok(result) => result.unwrap_returned().into_values(),
        Err(error) => panic!("the guest was to return: {error}"),
    }
}

/// The one `i32` of a run that returned.
pub fn returned_i32(result: Result<RunResult, RuntimeError>) -> i32 {
    match returned(result)[..] {
        [Val::I32(value)] => value,
        ref other => panic!("one i32 was to be returned, not {other:?}"),
    }
}

/// The fault of a run that trapped.
pub fn fault<T: std::fmt::Debug>(result: Result<T, RuntimeError>) -> FaultDetails {
    match result {
        Err(RuntimeError::RuntimeFault(fault)) => *fault,
        other => panic!("the guest was to trap, not {other:?}"),
    }
}

/// Values as their types and bits, which compare as they are: also NaNs, also references to null.
pub fn bits(values: &[Val]) -> Vec<(String, u128)> {
    values
        .iter()
        .map(|value| {
            let bits = match value {
                Val::I32(v) => v.cast_unsigned().into(),
                Val::I64(v) => v.cast_unsigned().into(),
                Val::F32(v) => v.to_bits().into(),
                Val::F64(v) => v.to_bits().into(),
                Val::V128(v) => *v,
                Val::FuncRef(func) => func.is_some().into(),
                Val::ExternRef(object) => object.is_some().into(),
                other => panic!("{other:?} has no bits"),
            };
            (value.ty().to_string(), bits)
        })
        .collect()
}
