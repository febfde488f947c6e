//! wasmi, an interpreter: the second opinion on code generation. Its store is made anew for each case.

use std::sync::Arc;

use wasmi::errors::{ErrorKind, InstantiationError, TableError};
use wasmi::{
    AsContextMut, Caller, Config, Error, Extern, ExternRef, FuncType, Instance, Linker, Module,
    Ref, Store, StoreLimits, StoreLimitsBuilder, TrapCode, V128, Val, ValType,
};

use super::host::{Does, FUNCS, Failed, HostFunc, MAX_DEPTH, MODULE};
use super::value::{Outcome, Trap, Type, Value};
use super::{Contents, Engine, Guest, State};
use crate::generate::{Case, FUEL, MEMORY_LIMIT, TABLE_LIMIT};

/// wasmi with everything on that it has.
#[derive(Debug)]
pub(crate) struct Wasmi {
    engine: wasmi::Engine,
    linker: Linker<Calls>,
}

/// What the host functions of one instance know.
#[derive(Debug)]
struct Calls {
    limits: StoreLimits,
    case: Arc<Case>,
    depth: u32,
    exhausted: bool,
}

impl Wasmi {
    /// The engine with its host functions.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut config = Config::default();
        config
            .wasm_custom_page_sizes(true)
            .wasm_wide_arithmetic(true)
            .set_max_recursion_depth(100_000)
            .set_max_stack_height(64 << 20);
        let engine = wasmi::Engine::new(&config);
        let mut linker = Linker::new(&engine);
        for func in FUNCS {
            let types = |types: &[Type]| types.iter().map(|&ty| val_type(ty)).collect::<Vec<_>>();
            let ty = FuncType::new(types(func.params), types(func.results));
            linker.func_new(MODULE, func.name, ty, move |mut caller, args, results| {
                let args: Vec<Value> = args.iter().map(|v| of_val(&caller, v)).collect();
                let values = run(func, &mut caller, &args)?;
                for (place, value) in results.iter_mut().zip(values) {
                    *place = to_val(&mut caller, value);
                }
                Ok(())
            })?;
        }
        Ok(Self { engine, linker })
    }
}

impl Engine for Wasmi {
    fn name(&self) -> &str {
        "wasmi"
    }

    fn takes(&self, case: &Case) -> bool {
        case.canonical && !case.beyond_wasmi
    }

    fn instantiate(&self, case: &Case) -> Result<Box<dyn Guest>, Outcome> {
        let module = Module::new(&self.engine, &case.wasm).map_err(outcome)?;
        let calls = Calls {
            limits: StoreLimitsBuilder::new()
                .memory_size(MEMORY_LIMIT)
                .table_elements(TABLE_LIMIT)
                .build(),
            case: Arc::new(case.clone()),
            depth: 0,
            exhausted: false,
        };
        let mut store = Store::new(&self.engine, calls);
        store.limiter(|calls| &mut calls.limits);
        let instance = self
            .linker
            .instantiate_and_start(&mut store, &module)
            .map_err(outcome)?;
        Ok(Box::new(WasmiGuest { store, instance }))
    }
}

struct WasmiGuest {
    store: Store<Calls>,
    instance: Instance,
}

impl Guest for WasmiGuest {
    fn refuel(&mut self, fuel: u32) {
        if let Some(global) = self.instance.get_global(&self.store, FUEL) {
            let _ = global.set(&mut self.store, Val::I32(fuel.cast_signed()));
        }
    }

    fn call(&mut self, func: &str, args: &[Value]) -> Outcome {
        let Some(func) = self.instance.get_func(&self.store, func) else {
            return Outcome::Refused("no such function".to_owned());
        };
        call(&mut self.store, func, args)
    }

    fn state(&mut self) -> State {
        let (store, instance) = (&self.store, &self.instance);
        let case = &store.data().case;
        let memory = |name: &String| match instance.get_memory(store, name) {
            Some(memory) => Contents::of_bytes(memory.data(store)),
            None => Contents::of_bytes(b"no memory"),
        };
        let table = |name: &String| {
            let Some(table) = instance.get_table(store, name) else {
                return Contents::of_values(&[]);
            };
            let values = (0..table.size(store)).map(|i| match table.get(store, i) {
                Some(value) => of_val(store, &value),
                None => Value::I32(u32::MAX),
            });
            Contents::of_values(&values.collect::<Vec<_>>())
        };
        let global = |name: &String| match instance.get_global(store, name) {
            Some(global) => of_val(store, &global.get(store)),
            None => Value::I32(u32::MAX),
        };
        State {
            memories: case.memories.iter().map(memory).collect(),
            tables: case.tables.iter().map(table).collect(),
            globals: case.globals.iter().map(global).collect(),
            exhausted: store.data().exhausted,
        }
    }
}

fn call(mut store: impl AsContextMut<Data = Calls>, func: wasmi::Func, args: &[Value]) -> Outcome {
    let args: Vec<Val> = args
        .iter()
        .map(|&v| to_val(store.as_context_mut(), v))
        .collect();
    let ty = func.ty(store.as_context());
    let mut results: Vec<Val> = ty.results().iter().map(|&ty| Val::default(ty)).collect();
    match func.call(store.as_context_mut(), &args, &mut results) {
        Ok(()) => Outcome::Returned(
            results
                .iter()
                .map(|v| of_val(store.as_context(), v))
                .collect(),
        ),
        Err(error) => outcome(error),
    }
}

fn run(
    func: &HostFunc,
    caller: &mut Caller<'_, Calls>,
    args: &[Value],
) -> Result<Vec<Value>, Error> {
    match func.does {
        Does::Mix | Does::Fail => func
            .mix(args)
            .map_err(|Failed| Error::new("failed on purpose")),
        Does::Poke | Does::Peek => {
            // Everything is exported, and in order: the first memory is memory 0.
            let name = caller.data().case.memories.first().cloned();
            let memory = name.and_then(|name| caller.get_export(&name));
            Ok(match memory.and_then(Extern::into_memory) {
                Some(memory) => func.touch(args, memory.data_mut(&mut *caller)),
                None => func.touch(args, &mut [][..]),
            })
        }
        Does::Again => Ok(vec![Value::I32(again(caller, args))]),
    }
}

fn again(caller: &mut Caller<'_, Calls>, args: &[Value]) -> u32 {
    let case = Arc::clone(&caller.data().case);
    let which = args.first().map_or(0, |value| value.bits() as usize);
    let Some(func) = case.funcs.get(which % case.funcs.len().max(1)) else {
        return 0;
    };
    if caller.data().depth == MAX_DEPTH {
        return 1;
    }
    let Some(callee) = caller.get_export(&func.name).and_then(Extern::into_func) else {
        return 0;
    };
    let zeros: Vec<Value> = func.params.iter().map(|&ty| Value::zero(ty)).collect();
    caller.data_mut().depth += 1;
    let ended = call(&mut *caller, callee, &zeros);
    caller.data_mut().depth -= 1;
    if ended == Outcome::Exhausted {
        caller.data_mut().exhausted = true;
    }
    ended.tag()
}

fn outcome(error: Error) -> Outcome {
    if let Some(code) = error.as_trap_code() {
        return match code {
            TrapCode::StackOverflow => Outcome::Exhausted,
            code => Outcome::Trapped(trap(code)),
        };
    }
    match error.kind() {
        ErrorKind::Message(_) => Outcome::HostFailed,
        ErrorKind::Table(TableError::CopyOutOfBounds) => Outcome::Trapped(Trap::Table),
        ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. }) => {
            Outcome::Trapped(Trap::Table)
        }
        _ => Outcome::Refused(error.to_string()),
    }
}

fn trap(code: TrapCode) -> Trap {
    match code {
        TrapCode::UnreachableCodeReached => Trap::Unreachable,
        TrapCode::MemoryOutOfBounds => Trap::Memory,
        TrapCode::TableOutOfBounds => Trap::Table,
        TrapCode::IndirectCallToNull => Trap::NullElement,
        TrapCode::BadSignature => Trap::BadSignature,
        TrapCode::IntegerDivisionByZero => Trap::DivisionByZero,
        TrapCode::IntegerOverflow => Trap::IntegerOverflow,
        TrapCode::BadConversionToInteger => Trap::BadConversion,
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
        Type::FuncRef => ValType::FuncRef,
        Type::ExternRef => ValType::ExternRef,
        Type::ExnRef => unreachable!("no case for wasmi has exceptions"),
    }
}

fn to_val(store: impl AsContextMut, value: Value) -> Val {
    match value {
        Value::I32(v) => Val::I32(v.cast_signed()),
        Value::I64(v) => Val::I64(v.cast_signed()),
        Value::F32(v) => Val::F32(wasmi::F32::from_bits(v)),
        Value::F64(v) => Val::F64(wasmi::F64::from_bits(v)),
        Value::V128(v) => Val::V128(V128::from(v)),
        Value::FuncRef { .. } => Val::FuncRef(Ref::Null),
        Value::ExnRef { .. } => unreachable!("no case for wasmi has exceptions"),
        Value::ExternRef(None) => Val::ExternRef(Ref::Null),
        Value::ExternRef(Some(v)) => Val::ExternRef(Ref::Val(ExternRef::new(store, v))),
    }
}

fn of_val<'a>(store: impl Into<wasmi::StoreContext<'a, Calls>>, val: &Val) -> Value {
    match val {
        Val::I32(v) => Value::I32(v.cast_unsigned()),
        Val::I64(v) => Value::I64(v.cast_unsigned()),
        Val::F32(v) => Value::F32(v.to_bits()),
        Val::F64(v) => Value::F64(v.to_bits()),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(func) => Value::FuncRef {
            null: func.is_null(),
        },
        Val::ExternRef(Ref::Null) => Value::ExternRef(None),
        Val::ExternRef(Ref::Val(object)) => {
            // Every object that a guest can hold was made here.
            let number = object.data(store).downcast_ref::<u64>().copied();
            Value::ExternRef(Some(number.unwrap_or(u64::MAX)))
        }
    }
}
