//! Selvedge, through its public face only. One engine and one region serve all cases, so that a slot
//! that was not cleaned shows as a difference in the next case.

use std::cell::Cell;
use std::sync::Arc;

use selvedge::{
    Cpu, Engine as RuntimeEngine, ExternRef, FuncType, HostError, InstanceHandle, Limits, Linker,
    OptLevel, Region, RuntimeError, Settings, SharedMemory, TrapCode, Val, ValType, Vmctx,
};

use super::host::{Bytes, Does, FUNCS, Failed, HostFunc, MAX_DEPTH, MODULE};
use super::value::{Outcome, Trap, Type, Value};
use super::{Contents, Engine, Guest, State};
use crate::generate::{Case, FUEL, MEMORY_LIMIT, TABLE_LIMIT};

/// Selvedge with some settings.
#[derive(Debug)]
pub(crate) struct Selvedge {
    name: &'static str,
    canonical: bool,
    engine: RuntimeEngine,
    linker: Linker,
    region: Region,
}

impl Selvedge {
    /// Selvedge without optimisation and with it, both making NaNs canonical, and for a CPU that can do
    /// less, with all bounds checked by code.
    pub(crate) fn variants() -> anyhow::Result<Vec<Self>> {
        let settings = Settings::default()
            .with_parallel_compilation(false)
            .with_relaxed_simd_deterministic(true);
        let canonical = settings.clone().with_nan_canonicalization(true);
        let none = canonical.clone().with_opt_level(OptLevel::None);
        let baseline = settings
            .clone()
            .with_cpu(Cpu::Baseline)
            .with_explicit_bounds(true);
        Ok(vec![
            Self::new("selvedge -O none", true, &none)?,
            Self::new("selvedge -O speed", true, &canonical)?,
            Self::new(
                "selvedge --cpu x86-64-v2 --explicit-bounds",
                false,
                &baseline,
            )?,
        ])
    }

    fn new(name: &'static str, canonical: bool, settings: &Settings) -> anyhow::Result<Self> {
        let engine = RuntimeEngine::new(settings)?;
        let mut limits = Limits::default();
        limits.memory_len = MEMORY_LIMIT as u64;
        limits.memory64_len = MEMORY_LIMIT as u64;
        limits.table_elements = TABLE_LIMIT as u64;
        limits.stack_len = 64 << 20;
        let region = Region::new(&engine, 1, &limits)?;
        let mut linker = Linker::new(&engine);
        for func in FUNCS {
            define(&mut linker, func)?;
        }
        Ok(Self {
            name,
            canonical,
            engine,
            linker,
            region,
        })
    }
}

impl Engine for Selvedge {
    fn name(&self) -> &str {
        self.name
    }

    fn takes(&self, case: &Case) -> bool {
        self.canonical || case.canonical
    }

    fn instantiate(&self, case: &Case) -> Result<Box<dyn Guest>, Outcome> {
        let module = self.engine.compile(&case.wasm).map_err(refused)?;
        let program = self.linker.program(&module).map_err(outcome)?;
        let names = Arc::new(case.clone());
        let calls = Calls {
            case: Arc::clone(&names),
            depth: Cell::new(0),
            exhausted: Cell::new(false),
        };
        let builder = self.region.instance_builder(&program);
        let mut instance = builder.with_embed_ctx(calls).build().map_err(outcome)?;
        instance.run_start().map_err(outcome)?;
        Ok(Box::new(SelvedgeGuest {
            instance,
            case: names,
        }))
    }
}

/// What the host functions of one instance know.
struct Calls {
    case: Arc<Case>,
    depth: Cell<u32>,
    exhausted: Cell<bool>,
}

struct SelvedgeGuest {
    instance: InstanceHandle,
    case: Arc<Case>,
}

impl Guest for SelvedgeGuest {
    fn refuel(&mut self, fuel: u32) {
        // A module from a file may have no such global.
        let _ = self.instance.set_global(FUEL, &Val::from(fuel));
    }

    fn call(&mut self, func: &str, args: &[Value]) -> Outcome {
        let args: Vec<Val> = args.iter().map(|&value| to_val(value)).collect();
        match self.instance.run(func, &args) {
            Ok(run) => match run.returned() {
                Ok(values) => Outcome::Returned(values.values().iter().map(of_val).collect()),
                Err(_) => Outcome::Refused("the run did not end".to_owned()),
            },
            Err(error) => outcome(error),
        }
    }

    fn state(&mut self) -> State {
        let instance = &self.instance;
        let memory = |name: &String| {
            if let Ok(shared) = instance.shared_memory(name) {
                let mut bytes = vec![0; shared.len() as usize];
                return match shared.read(0, &mut bytes) {
                    Ok(()) => Contents::of_bytes(&bytes),
                    Err(_) => Contents::of_bytes(b"no read"),
                };
            }
            match instance.memory(name) {
                Ok(bytes) => Contents::of_bytes(&bytes),
                Err(_) => Contents::of_bytes(b"no memory"),
            }
        };
        let table = |name: &String| {
            let len = instance.table_len(name).unwrap_or(0);
            let values = (0..len).map(|i| match instance.table_get(name, i) {
                Ok(Some(value)) => of_val(&value),
                // No engine has such an element, so this is a difference.
                _ => Value::I32(u32::MAX),
            });
            Contents::of_values(&values.collect::<Vec<_>>())
        };
        let global = |name: &String| {
            instance
                .global(name)
                .map_or(Value::I32(u32::MAX), |v| of_val(&v))
        };
        let exhausted = match instance.get_embed_ctx::<Calls>() {
            Some(Ok(calls)) => calls.exhausted.get(),
            _ => false,
        };
        State {
            memories: self.case.memories.iter().map(memory).collect(),
            tables: self.case.tables.iter().map(table).collect(),
            globals: self.case.globals.iter().map(global).collect(),
            exhausted,
        }
    }
}

/// Puts a host function into a linker: as a Rust function with scalars where there is one for its
/// signature, so that both ways into the host are taken.
fn define(linker: &mut Linker, func: &'static HostFunc) -> Result<(), RuntimeError> {
    match func.name {
        "one" => linker.func(MODULE, func.name, move |_: &Vmctx<'_>, a: i32| -> i32 {
            first(func, &[Val::I32(a)]).i32().unwrap_or(0)
        }),
        "floats" => linker.func(
            MODULE,
            func.name,
            move |_: &Vmctx<'_>, a: f32, b: f64| -> f64 {
                first(func, &[Val::F32(a), Val::F64(b)])
                    .f64()
                    .unwrap_or(0.0)
            },
        ),
        "float" => linker.func(MODULE, func.name, move |_: &Vmctx<'_>, a: i64| -> f32 {
            first(func, &[Val::I64(a)]).f32().unwrap_or(0.0)
        }),
        _ => {
            let types = |types: &[Type]| types.iter().map(|&ty| val_type(ty)).collect::<Vec<_>>();
            let ty = FuncType::new(types(func.params), types(func.results));
            linker.func_new(MODULE, func.name, ty, move |vmctx, args, results| {
                let args: Vec<Value> = args.iter().map(of_val).collect();
                for (place, value) in results.iter_mut().zip(run(func, vmctx, &args)?) {
                    *place = to_val(value);
                }
                Ok(())
            })
        }
    }
    .map(drop)
}

fn first(func: &HostFunc, args: &[Val]) -> Val {
    let args: Vec<Value> = args.iter().map(of_val).collect();
    match func.mix(&args).as_deref() {
        Ok([value, ..]) => to_val(*value),
        _ => Val::I32(0),
    }
}

fn run(func: &HostFunc, vmctx: &Vmctx<'_>, args: &[Value]) -> Result<Vec<Value>, HostError> {
    match func.does {
        Does::Mix | Does::Fail => func
            .mix(args)
            .map_err(|Failed| HostError::new("failed on purpose")),
        Does::Poke | Does::Peek => Ok(match (vmctx.shared_memory(), vmctx.heap_mut()) {
            (Some(shared), _) => func.touch(args, &mut Shared(shared)),
            (None, Ok(mut heap)) => func.touch(args, &mut heap[..]),
            // There is no memory.
            (None, Err(_)) => func.touch(args, &mut [][..]),
        }),
        Does::Again => again(vmctx, args).map(|tag| vec![Value::I32(tag)]),
    }
}

/// A shared memory as host functions touch it.
struct Shared(SharedMemory);

impl Bytes for Shared {
    fn get(&mut self, at: usize) -> Option<u8> {
        let mut byte = [0];
        self.0.read(at as u64, &mut byte).ok()?;
        Some(byte[0])
    }

    fn set(&mut self, at: usize, byte: u8) {
        // Outside there is nothing to write.
        let _ = self.0.write(at as u64, &[byte]);
    }
}

fn again(vmctx: &Vmctx<'_>, args: &[Value]) -> Result<u32, HostError> {
    let calls = vmctx.embed_ctx::<Calls>()?;
    let which = args.first().map_or(0, |value| value.bits() as usize);
    let Some(func) = calls.case.funcs.get(which % calls.case.funcs.len().max(1)) else {
        return Ok(0);
    };
    if calls.depth.get() == MAX_DEPTH {
        return Ok(1);
    }
    calls.depth.set(calls.depth.get() + 1);
    let zeros: Vec<Val> = func
        .params
        .iter()
        .map(|&ty| to_val(Value::zero(ty)))
        .collect();
    let called = vmctx.call_export(&func.name, &zeros);
    calls.depth.set(calls.depth.get() - 1);
    let ended = match called {
        Ok(values) => Outcome::Returned(values.iter().map(of_val).collect()),
        Err(error) => outcome(error),
    };
    if ended == Outcome::Exhausted {
        calls.exhausted.set(true);
    }
    Ok(ended.tag())
}

/// A module that the compiler does not take.
fn refused(error: selvedge::Error) -> Outcome {
    Outcome::Refused(error.to_string())
}

fn outcome(error: RuntimeError) -> Outcome {
    match error {
        RuntimeError::RuntimeFault(details) => match details.code {
            TrapCode::StackOverflow | TrapCode::ExceptionsExhausted => Outcome::Exhausted,
            code => Outcome::Trapped(trap(code)),
        },
        RuntimeError::DataSegmentOutOfBounds => Outcome::Trapped(Trap::Memory),
        RuntimeError::ElemSegmentOutOfBounds => Outcome::Trapped(Trap::Table),
        RuntimeError::UncaughtException(uncaught) => {
            Outcome::Threw(uncaught.exception.values().iter().map(of_val).collect())
        }
        RuntimeError::HostFunction(_) => Outcome::HostFailed,
        other => Outcome::Refused(other.to_string()),
    }
}

fn trap(code: TrapCode) -> Trap {
    match code {
        TrapCode::Unreachable => Trap::Unreachable,
        TrapCode::HeapOutOfBounds => Trap::Memory,
        TrapCode::TableOutOfBounds | TrapCode::UndefinedElement => Trap::Table,
        TrapCode::IndirectCallToNull => Trap::NullElement,
        TrapCode::BadSignature => Trap::BadSignature,
        TrapCode::IntegerDivisionByZero => Trap::DivisionByZero,
        TrapCode::IntegerOverflow => Trap::IntegerOverflow,
        TrapCode::BadConversionToInteger => Trap::BadConversion,
        TrapCode::NullReference
        | TrapCode::NullFuncReference
        | TrapCode::NullExceptionReference => Trap::NullReference,
        TrapCode::UnalignedAtomic => Trap::Unaligned,
        TrapCode::ExpectedSharedMemory => Trap::NotShared,
        _ => Trap::Other,
    }
}

fn val_type(ty: Type) -> ValType {
    match ty {
        Type::I32 => ValType::I32,
        Type::I64 => ValType::I64,
        Type::F32 => ValType::F32,
        Type::F64 => ValType::F64,
        Type::V128 => ValType::V128,
        Type::FuncRef => ValType::FUNCREF,
        Type::ExternRef => ValType::EXTERNREF,
        Type::ExnRef => ValType::EXNREF,
    }
}

fn to_val(value: Value) -> Val {
    match value {
        Value::I32(v) => Val::from(v),
        Value::I64(v) => Val::from(v),
        Value::F32(v) => Val::F32(f32::from_bits(v)),
        Value::F64(v) => Val::F64(f64::from_bits(v)),
        Value::V128(v) => Val::V128(v),
        Value::FuncRef { .. } => Val::FuncRef(None),
        Value::ExnRef { .. } => Val::ExnRef(None),
        Value::ExternRef(v) => Val::ExternRef(v.map(ExternRef::new)),
    }
}

fn of_val(val: &Val) -> Value {
    match val {
        Val::I32(v) => Value::I32(v.cast_unsigned()),
        Val::I64(v) => Value::I64(v.cast_unsigned()),
        Val::F32(v) => Value::F32(v.to_bits()),
        Val::F64(v) => Value::F64(v.to_bits()),
        Val::V128(v) => Value::V128(*v),
        Val::FuncRef(func) => Value::FuncRef {
            null: func.is_none(),
        },
        Val::ExnRef(exception) => Value::ExnRef {
            null: exception.is_none(),
        },
        Val::ExternRef(object) => Value::ExternRef(object.as_ref().map(|object| {
            // Every object that a guest can hold was made here.
            object.downcast_ref::<u64>().copied().unwrap_or(u64::MAX)
        })),
        other => unreachable!("a value of a type that no module here has: {other:?}"),
    }
}
