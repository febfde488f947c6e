//! Wasmtime, by its public API, each operation done in the fastest way that API has.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use wasmtime::{
    Config, Enabled, Engine, Instance, InstanceAllocationStrategy, Linker, Module, OptLevel,
    PoolingAllocationConfig, Store, Trap, TypedFunc, UpdateDeadline, WasmParams, WasmResults,
};

use super::{Meter, Mode, Peer, Runner, Sample, Suspends, repeat, repeat_on};

/// An engine: pooling allocator, copy-on-write images, `opt_level` speed.
#[derive(Debug)]
pub(super) struct Wasmtime {
    config: Config,
    engine: Engine,
    meter: Meter,
}

impl Wasmtime {
    /// In the default mode, whatever is not named above is as Wasmtime chooses it. The lean mode
    /// has no backtraces and no unwind tables, and finds dirty pages by `PAGEMAP_SCAN`, the fastest
    /// settings that we know of.
    pub(super) fn new(mode: Mode) -> Result<Wasmtime> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(64)
            .total_memories(64)
            .total_tables(64);
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        config.memory_init_cow(true);
        config.wasm_exceptions(true);
        if mode == Mode::Lean {
            pool.pagemap_scan(Enabled::Auto);
            pool.linear_memory_keep_resident(1 << 20);
            pool.table_keep_resident(1 << 16);
            config.wasm_backtrace_max_frames(None);
            config.native_unwind_info(false);
        }
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        Ok(Wasmtime {
            config,
            engine,
            meter: Meter::None,
        })
    }

    /// As it chooses everything itself, without a pool, with a meter.
    pub(super) fn with_meter(meter: Meter) -> Result<Wasmtime> {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        config.consume_fuel(meter == Meter::Fuel);
        config.epoch_interruption(matches!(meter, Meter::Epochs | Meter::EpochsEvery(_)));
        if meter == Meter::Bounds {
            config.memory_reservation(0);
            config.memory_guard_size(0);
        }
        let engine = Engine::new(&config)?;
        Ok(Wasmtime {
            config,
            engine,
            meter,
        })
    }

    /// An instance of a module without imports, and its export `run`.
    fn run_of<P: WasmParams, R: WasmResults>(
        &self,
        wasm: &[u8],
    ) -> Result<(Store<()>, TypedFunc<P, R>)> {
        let module = Module::new(&self.engine, wasm)?;
        let mut store = Store::new(&self.engine, ());
        match self.meter {
            Meter::None | Meter::Bounds => {}
            Meter::Fuel => store.set_fuel(u64::MAX)?,
            Meter::Epochs => store.set_epoch_deadline(u64::MAX / 2),
            Meter::EpochsEvery(_) => {
                store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
                store.set_epoch_deadline(1);
            }
        }
        let instance = Instance::new(&mut store, &module, &[])?;
        let run = instance.get_typed_func(&mut store, "run")?;
        Ok((store, run))
    }
}

/// Begins epochs until it is dropped.
struct Ticker {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine, period: Duration) -> Ticker {
        let done = Arc::new(AtomicBool::new(false));
        let (engine, stop) = (engine.clone(), done.clone());
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                thread::park_timeout(period);
                engine.increment_epoch();
            }
        });
        Ticker {
            done,
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Is pending once.
#[derive(Debug, Default)]
struct Once(bool);

impl Future for Once {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Polls a future until it is ready: the cheapest executor.
fn to_the_end<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = TaskContext::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

impl Peer for Wasmtime {
    fn name(&self) -> &'static str {
        "wasmtime"
    }

    fn call_in(&self, wasm: &[u8]) -> Result<Runner> {
        let module = Module::new(&self.engine, wasm)?;
        let mut store = Store::new(&self.engine, ());
        let instance = Instance::new(&mut store, &module, &[])?;
        let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
        Ok(Box::new(move |count| {
            repeat(count, |sum| {
                Ok(add.call(&mut store, (sum as i32, 3))? as u64)
            })
        }))
    }

    fn call_out(&self, wasm: &[u8]) -> Result<Runner> {
        let module = Module::new(&self.engine, wasm)?;
        let mut linker = Linker::new(&self.engine);
        linker.func_wrap("host", "next", |x: i32| x.wrapping_mul(5).wrapping_add(1))?;
        let mut store = Store::new(&self.engine, ());
        let instance = linker.instantiate(&mut store, &module)?;
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
        Ok(Box::new(move |count| {
            let calls = i32::try_from(count).context("too many calls for one run")?;
            repeat(1, |_| Ok(run.call(&mut store, calls)? as u64))
        }))
    }

    fn suspend(&self, wasm: &[u8], _: Suspends) -> Result<Runner> {
        let module = Module::new(&self.engine, wasm)?;
        let mut linker = Linker::new(&self.engine);
        linker.func_wrap_async("host", "next", |_, (x,): (i32,)| {
            Box::new(async move {
                Once::default().await;
                x.wrapping_mul(5).wrapping_add(1)
            })
        })?;
        let mut store = Store::new(&self.engine, ());
        let instance = to_the_end(linker.instantiate_async(&mut store, &module))?;
        let run = instance.get_typed_func::<i32, i32>(&mut store, "run")?;
        Ok(Box::new(move |count| {
            let calls = i32::try_from(count).context("too many calls for one run")?;
            repeat(1, |_| {
                Ok(to_the_end(run.call_async(&mut store, calls))? as u64)
            })
        }))
    }

    fn rounds(&self, wasm: &[u8]) -> Result<Runner> {
        let (mut store, run) = self.run_of::<i32, i32>(wasm)?;
        Ok(Box::new(move |count| {
            let rounds = i32::try_from(count).context("too many rounds for one run")?;
            repeat(1, |_| Ok(run.call(&mut store, rounds)? as u64))
        }))
    }

    fn instantiate(&self, wasm: &[u8]) -> Result<Runner> {
        let module = Module::new(&self.engine, wasm)?;
        let engine = self.engine.clone();
        let ready = Linker::new(&engine).instantiate_pre(&module)?;
        let export = module.get_export_index("run").context("no export run")?;
        Ok(Box::new(move |count| {
            repeat(count, |_| {
                let mut store = Store::new(&engine, ());
                let instance = ready.instantiate(&mut store)?;
                let run = instance
                    .get_module_export(&mut store, &export)
                    .and_then(|export| export.into_func())
                    .context("run is no function")?;
                Ok(run.typed::<(), i32>(&store)?.call(&mut store, ())? as u64)
            })
        }))
    }

    fn start(&self, wasm: &[u8], argument: Option<i32>, threads: usize) -> Result<Runner> {
        let module = Module::new(&self.engine, wasm)?;
        let engine = self.engine.clone();
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module)?;
        let ready = linker.instantiate_pre(&module)?;
        let export = module.get_export_index("run");
        Ok(Box::new(move |count| {
            repeat_on(threads, count, |_| {
                let mut store = Store::new(&engine, ());
                let instance = ready.instantiate(&mut store)?;
                let Some(argument) = argument else {
                    return Ok(1);
                };
                let run = export.as_ref().context("no export run")?;
                let run = instance
                    .get_module_export(&mut store, run)
                    .and_then(|export| export.into_func())
                    .context("run is no function")?;
                Ok(run.typed::<i32, i32>(&store)?.call(&mut store, argument)? as u64)
            })
        }))
    }

    fn trap(&self, wasm: &[u8]) -> Result<Runner> {
        let (mut store, run) = self.run_of::<(), i32>(wasm)?;
        let error = run
            .call(&mut store, ())
            .err()
            .context("the guest did not trap")?;
        ensure!(error.is::<Trap>(), "not a trap: {error:?}");
        Ok(Box::new(move |count| {
            repeat(count, |_| match run.call(&mut store, ()) {
                Ok(_) => bail!("the guest did not trap"),
                Err(_) => Ok(1),
            })
        }))
    }

    fn compile(&self, wasm: &[u8], parallel: bool) -> Result<Runner> {
        // Without the pool, of which an engine that only compiles needs no second one.
        let mut config = self.config.clone();
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        config.parallel_compilation(parallel);
        let engine = Engine::new(&config)?;
        let wasm = wasm.to_vec();
        Ok(Box::new(move |count| {
            repeat(count, |_| {
                Ok(Module::new(&engine, &wasm)?.exports().len() as u64)
            })
        }))
    }

    fn compute(&self, wasm: &[u8], n: i32) -> Result<Runner> {
        let (mut store, run) = self.run_of::<i32, i64>(wasm)?;
        let engine = self.engine.clone();
        let period = match self.meter {
            Meter::EpochsEvery(millis) => Some(Duration::from_millis(millis)),
            _ => None,
        };
        Ok(Box::new(move |count| -> Result<Sample> {
            let _ticker = period.map(|period| Ticker::start(&engine, period));
            repeat(count, |_| Ok(run.call(&mut store, n)? as u64))
        }))
    }
}
