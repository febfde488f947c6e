//! Wasmtime: the second opinion on every feature. It shares the code generator with Selvedge, and neither
//! the translator nor the runtime. Its store is made anew for each case.

use std::sync::Arc;

use wasmtime::{
    AsContextMut, Caller, Config, Error, Extern, ExternRef, FuncType, GcHeapOutOfMemory, Instance,
    Linker, Module, Ref, SharedMemory, Store, StoreContextMut, StoreLimits, StoreLimitsBuilder,
    ThrownException, Trap as TrapCode, V128, Val, ValType,
};

use super::host::{Does, FUNCS, Failed, HostFunc, MAX_DEPTH, MODULE};
use super::value::{Outcome, Trap, Type, Value};
use super::window::Window;
use super::{Contents, Engine, Guest, State};
use crate::generate::{Case, FUEL, MEMORY_LIMIT, TABLE_LIMIT};

/// Wasmtime with every proposal on that Selvedge has, and with what a standard leaves open settled.
pub(crate) struct Wasmtime {
    engine: wasmtime::Engine,
    linker: Linker<Calls>,
}

/// What the host functions of one instance know.
struct Calls {
    limits: StoreLimits,
    case: Arc<Case>,
    depth: u32,
    exhausted: bool,
    /// Into the shared memories that were looked at, by their names.
    windows: Vec<(String, Window)>,
}

impl Calls {
    /// The window into an exported memory, which is made once.
    fn window(
        &mut self,
        engine: &wasmtime::Engine,
        name: &str,
        shared: SharedMemory,
    ) -> Result<&mut Window, Error> {
        let known = self.windows.iter().position(|(of, _)| of == name);
        let at = match known {
            Some(at) => at,
            None => {
                let window = Window::new(engine, shared)?;
                self.windows.push((name.to_owned(), window));
                self.windows.len() - 1
            }
        };
        Ok(&mut self.windows[at].1)
    }
}

impl Wasmtime {
    /// The engine with its host functions.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut config = Config::new();
        config
            .wasm_simd(true)
            .wasm_relaxed_simd(true)
            .relaxed_simd_deterministic(true)
            .cranelift_nan_canonicalization(true)
            .wasm_tail_call(true)
            .wasm_multi_memory(true)
            .wasm_memory64(true)
            .wasm_extended_const(true)
            .wasm_function_references(true)
            .wasm_exceptions(true)
            .wasm_custom_page_sizes(true)
            .wasm_wide_arithmetic(true)
            .wasm_threads(true)
            .shared_memory(true)
            .parallel_compilation(false);
        let engine = wasmtime::Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        for func in FUNCS {
            let types = |types: &[Type]| types.iter().map(|&ty| val_type(ty)).collect::<Vec<_>>();
            let ty = FuncType::new(&engine, types(func.params), types(func.results));
            linker.func_new(MODULE, func.name, ty, move |mut caller, args, results| {
                let args = of_vals(&mut caller, args);
                let values = run(func, &mut caller, &args)?;
                for (place, value) in results.iter_mut().zip(values) {
                    *place = to_val(&mut caller, value)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { engine, linker })
    }
}

impl Engine for Wasmtime {
    fn name(&self) -> &str {
        "wasmtime"
    }

    fn takes(&self, _: &Case) -> bool {
        true
    }

    fn instantiate(&self, case: &Case) -> Result<Box<dyn Guest>, Outcome> {
        let module = Module::new(&self.engine, &case.wasm)
            .map_err(|error| Outcome::Refused(format!("{error:#}")))?;
        let calls = Calls {
            limits: StoreLimitsBuilder::new()
                .memory_size(MEMORY_LIMIT)
                .table_elements(TABLE_LIMIT)
                .build(),
            case: Arc::new(case.clone()),
            depth: 0,
            exhausted: false,
            windows: Vec::new(),
        };
        let mut store = Store::new(&self.engine, calls);
        store.limiter(|calls| &mut calls.limits);
        match self.linker.instantiate(&mut store, &module) {
            Ok(instance) => Ok(Box::new(WasmtimeGuest { store, instance })),
            Err(error) => Err(outcome(store.as_context_mut(), &error)),
        }
    }
}

struct WasmtimeGuest {
    store: Store<Calls>,
    instance: Instance,
}

impl Guest for WasmtimeGuest {
    fn refuel(&mut self, fuel: u32) {
        if let Some(global) = self.instance.get_global(&mut self.store, FUEL) {
            let _ = global.set(&mut self.store, Val::I32(fuel.cast_signed()));
        }
    }

    fn call(&mut self, func: &str, args: &[Value]) -> Outcome {
        let Some(func) = self.instance.get_func(&mut self.store, func) else {
            return Outcome::Refused("no such function".to_owned());
        };
        call(self.store.as_context_mut(), func, args)
    }

    fn state(&mut self) -> State {
        let (store, instance) = (&mut self.store, &self.instance);
        let case = Arc::clone(&store.data().case);
        let mut memories = Vec::new();
        for name in &case.memories {
            memories.push(match instance.get_export(&mut *store, name) {
                Some(Extern::Memory(memory)) => Contents::of_bytes(memory.data(&*store)),
                Some(Extern::SharedMemory(shared)) => {
                    let engine = store.engine().clone();
                    let window = store.data_mut().window(&engine, name, shared);
                    match window.and_then(Window::bytes) {
                        Ok(bytes) => Contents::of_bytes(bytes),
                        // Nobody else has such a memory, so this is a difference.
                        Err(error) => Contents::of_bytes(error.to_string().as_bytes()),
                    }
                }
                _ => Contents::of_bytes(b"no memory"),
            });
        }
        let mut tables = Vec::new();
        for name in &case.tables {
            let Some(table) = instance.get_table(&mut *store, name) else {
                tables.push(Contents::of_values(&[]));
                continue;
            };
            let values: Vec<_> = (0..table.size(&*store))
                .map(|i| match table.get(&mut *store, i) {
                    Some(element) => of_ref(store.as_context_mut(), element),
                    None => Value::I32(u32::MAX),
                })
                .collect();
            tables.push(Contents::of_values(&values));
        }
        let mut globals = Vec::new();
        for name in &case.globals {
            globals.push(match instance.get_global(&mut *store, name) {
                Some(global) => {
                    let value = global.get(&mut *store);
                    of_val(store.as_context_mut(), &value)
                }
                None => Value::I32(u32::MAX),
            });
        }
        State {
            memories,
            tables,
            globals,
            exhausted: store.data().exhausted,
        }
    }
}

fn call(mut store: StoreContextMut<'_, Calls>, func: wasmtime::Func, args: &[Value]) -> Outcome {
    let args: Result<Vec<Val>, Error> = args.iter().map(|&v| to_val(&mut store, v)).collect();
    let args = match args {
        Ok(args) => args,
        Err(error) => return outcome(store, &error),
    };
    let mut results = vec![Val::I32(0); func.ty(&store).results().len()];
    match func.call(&mut store, &args, &mut results) {
        Ok(()) => Outcome::Returned(of_vals(&mut store, &results)),
        Err(error) => outcome(store, &error),
    }
}

fn run(
    func: &HostFunc,
    caller: &mut Caller<'_, Calls>,
    args: &[Value],
) -> Result<Vec<Value>, Error> {
    match func.does {
        Does::Mix | Does::Fail => func.mix(args).map_err(Error::new),
        Does::Poke | Does::Peek => {
            // Everything is exported, and in order: the first memory is memory 0.
            let name = caller.data().case.memories.first().cloned();
            let name = name.unwrap_or_default();
            Ok(match caller.get_export(&name) {
                Some(Extern::Memory(memory)) => func.touch(args, memory.data_mut(&mut *caller)),
                Some(Extern::SharedMemory(shared)) => {
                    let engine = caller.engine().clone();
                    let window = caller.data_mut().window(&engine, &name, shared)?;
                    func.touch(args, window)
                }
                _ => func.touch(args, &mut [][..]),
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
    let ended = call(caller.as_context_mut(), callee, &zeros);
    caller.data_mut().depth -= 1;
    if ended == Outcome::Exhausted {
        caller.data_mut().exhausted = true;
    }
    ended.tag()
}

fn outcome(mut store: StoreContextMut<'_, Calls>, error: &Error) -> Outcome {
    if error.is::<ThrownException>() {
        let Some(exception) = store.take_pending_exception() else {
            return Outcome::Refused("an exception was thrown and is not there".to_owned());
        };
        let fields = exception.fields(&mut store);
        let fields = fields.map(|fields| fields.collect::<Vec<Val>>());
        return match fields {
            Ok(fields) => Outcome::Threw(of_vals(&mut store, &fields)),
            Err(error) => Outcome::Refused(format!("{error:#}")),
        };
    }
    match error.downcast_ref::<TrapCode>() {
        // How many exceptions are kept at once is each engine's own affair, as stacks are.
        Some(TrapCode::StackOverflow | TrapCode::AllocationTooLarge) => Outcome::Exhausted,
        Some(&code) => Outcome::Trapped(trap(code)),
        None if error.is::<Failed>() => Outcome::HostFailed,
        None if error.is::<GcHeapOutOfMemory<()>>() || error.is::<GcHeapOutOfMemory<u64>>() => {
            Outcome::Exhausted
        }
        None => Outcome::Refused(format!("{error:#}")),
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
        TrapCode::NullReference => Trap::NullReference,
        TrapCode::HeapMisaligned => Trap::Unaligned,
        TrapCode::AtomicWaitNonSharedMemory => Trap::NotShared,
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

fn to_val(store: impl AsContextMut, value: Value) -> Result<Val, Error> {
    Ok(match value {
        Value::I32(v) => Val::I32(v.cast_signed()),
        Value::I64(v) => Val::I64(v.cast_signed()),
        Value::F32(v) => Val::F32(v),
        Value::F64(v) => Val::F64(v),
        Value::V128(v) => Val::V128(V128::from(v)),
        Value::FuncRef { .. } => Val::FuncRef(None),
        Value::ExternRef(None) => Val::ExternRef(None),
        Value::ExternRef(Some(v)) => Val::ExternRef(Some(ExternRef::new(store, v)?)),
        Value::ExnRef { .. } => Val::ExnRef(None),
    })
}

fn of_vals(store: &mut impl AsContextMut<Data = Calls>, vals: &[Val]) -> Vec<Value> {
    let mut values = Vec::new();
    for val in vals {
        values.push(of_val(store.as_context_mut(), val));
    }
    values
}

fn of_val(store: StoreContextMut<'_, Calls>, val: &Val) -> Value {
    match *val {
        Val::I32(v) => Value::I32(v.cast_unsigned()),
        Val::I64(v) => Value::I64(v.cast_unsigned()),
        Val::F32(v) => Value::F32(v),
        Val::F64(v) => Value::F64(v),
        Val::V128(v) => Value::V128(v.as_u128()),
        Val::FuncRef(func) => of_ref(store, Ref::Func(func)),
        Val::ExternRef(object) => of_ref(store, Ref::Extern(object)),
        Val::ExnRef(exception) => of_ref(store, Ref::Exn(exception)),
        ref other => unreachable!("a value of a type that no module here has: {other:?}"),
    }
}

fn of_ref(store: StoreContextMut<'_, Calls>, reference: Ref) -> Value {
    match reference {
        Ref::Func(func) => Value::FuncRef {
            null: func.is_none(),
        },
        Ref::Extern(None) => Value::ExternRef(None),
        Ref::Extern(Some(object)) => {
            // Every object that a guest can hold was made here.
            let number = object.data(&store).ok().flatten();
            let number = number.and_then(|number| number.downcast_ref::<u64>());
            Value::ExternRef(Some(number.copied().unwrap_or(u64::MAX)))
        }
        Ref::Exn(exception) => Value::ExnRef {
            null: exception.is_none(),
        },
        Ref::Any(_) => unreachable!("no module here has references to what a collector keeps"),
    }
}
