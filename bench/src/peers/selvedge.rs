//! Selvedge, by its public API, each operation done in the fastest way that API has.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use selvedge::{
    Engine, EpochDecision, EpochTicker, Flow, FuelCosts, InstanceHandle, Limits, Linker, Program,
    Region, RuntimeError, Settings, TypedFunc, Vmctx, WasmParams, WasmResults, Yield,
};

use super::{Meter, Mode, Peer, Runner, Suspends, repeat, repeat_on};

/// An engine and a region.
#[derive(Debug)]
pub(super) struct Selvedge {
    engine: Engine,
    region: Region,
    meter: Meter,
}

impl Selvedge {
    /// In the default mode, everything is as Selvedge chooses it. The lean mode has no backtraces.
    pub(super) fn new(mode: Mode) -> Result<Selvedge> {
        let engine = Engine::new(&Settings::default())?;
        let mut limits = Limits::default();
        if mode == Mode::Lean {
            limits.backtrace_frames = 0;
        }
        let region = Region::new(&engine, 64, &limits)?;
        let meter = Meter::None;
        Ok(Selvedge {
            engine,
            region,
            meter,
        })
    }

    /// As in the default mode, with a meter.
    pub(super) fn with_meter(meter: Meter) -> Result<Selvedge> {
        let settings = match meter {
            // There is no setting for epochs.
            Meter::None | Meter::Epochs | Meter::EpochsEvery(_) => Settings::default(),
            Meter::Fuel => Settings::default().with_fuel(FuelCosts::default()),
            Meter::Bounds => Settings::default().with_explicit_bounds(true),
        };
        let engine = Engine::new(&settings)?;
        let region = Region::new(&engine, 4, &Limits::default())?;
        Ok(Selvedge {
            engine,
            region,
            meter,
        })
    }

    /// A module without imports, ready to be instantiated.
    fn program(&self, wasm: &[u8]) -> Result<Program> {
        let module = self.engine.compile(wasm)?;
        Ok(Linker::new(&self.engine).program(&module)?)
    }

    /// An instance of a module without imports, and one of its exports.
    fn export<P: WasmParams, R: WasmResults>(
        &self,
        wasm: &[u8],
        name: &str,
    ) -> Result<(InstanceHandle, TypedFunc<P, R>)> {
        let instance = self.region.new_instance(&self.program(wasm)?)?;
        let func = instance.typed_func(name)?;
        Ok((instance, func))
    }
}

impl Peer for Selvedge {
    fn name(&self) -> &'static str {
        "selvedge"
    }

    fn call_in(&self, wasm: &[u8]) -> Result<Runner> {
        let (mut instance, add) = self.export::<(i32, i32), i32>(wasm, "add")?;
        Ok(Box::new(move |count| {
            repeat(count, |sum| {
                Ok(add.call(&mut instance, (sum as i32, 3))? as u64)
            })
        }))
    }

    fn call_out(&self, wasm: &[u8]) -> Result<Runner> {
        let module = self.engine.compile(wasm)?;
        let mut linker = Linker::new(&self.engine);
        linker.func("host", "next", |_: &Vmctx<'_>, x: i32| {
            x.wrapping_mul(5).wrapping_add(1)
        })?;
        let mut instance = self.region.new_instance(&linker.program(&module)?)?;
        let run = instance.typed_func::<i32, i32>("run")?;
        Ok(Box::new(move |count| {
            let calls = i32::try_from(count).context("too many calls for one run")?;
            repeat(1, |_| Ok(run.call(&mut instance, calls)? as u64))
        }))
    }

    fn suspend(&self, wasm: &[u8], from: Suspends) -> Result<Runner> {
        let module = self.engine.compile(wasm)?;
        let mut linker = Linker::new(&self.engine);
        let next = |x: i32| x.wrapping_mul(5).wrapping_add(1);
        match from {
            Suspends::InTheMiddle => {
                linker.suspending_func("host", "next", move |vmctx: &Vmctx<'_>, x: i32| {
                    vmctx.yield_().map(|()| next(x))
                })?
            }
            Suspends::ByReturning => {
                linker.func("host", "next", move |_: &Vmctx<'_>, x: i32| {
                    Flow::from(Yield::returning(next(x)))
                })?
            }
        };
        let mut instance = self.region.new_instance(&linker.program(&module)?)?;
        Ok(Box::new(move |count| {
            let calls = i32::try_from(count).context("too many calls for one run")?;
            repeat(1, |_| {
                let mut result = instance.run("run", &[calls.into()])?;
                while result.is_yielded() {
                    result = instance.resume()?;
                }
                Ok(i32::from(result.returned()?) as u64)
            })
        }))
    }

    fn rounds(&self, wasm: &[u8]) -> Result<Runner> {
        let (mut instance, run) = self.export::<i32, i32>(wasm, "run")?;
        Ok(Box::new(move |count| {
            let rounds = i32::try_from(count).context("too many rounds for one run")?;
            repeat(1, |_| Ok(run.call(&mut instance, rounds)? as u64))
        }))
    }

    fn instantiate(&self, wasm: &[u8]) -> Result<Runner> {
        let program = self.program(wasm)?;
        let region = self.region.clone();
        Ok(Box::new(move |count| {
            repeat(count, |_| {
                let mut instance = region.new_instance(&program)?;
                let run = instance.typed_func::<(), i32>("run")?;
                Ok(run.call(&mut instance, ())? as u64)
            })
        }))
    }

    fn start(&self, wasm: &[u8], argument: Option<i32>, threads: usize) -> Result<Runner> {
        let module = self.engine.compile(wasm)?;
        let mut linker = Linker::new(&self.engine);
        linker.define_unknown_imports_as_traps(&module)?;
        let program = linker.program(&module)?;
        let region = self.region.clone();
        Ok(Box::new(move |count| {
            repeat_on(threads, count, |_| {
                let mut instance = region.new_instance(&program)?;
                let Some(argument) = argument else {
                    return Ok(1);
                };
                let run = instance.typed_func::<i32, i32>("run")?;
                Ok(run.call(&mut instance, argument)? as u64)
            })
        }))
    }

    fn trap(&self, wasm: &[u8]) -> Result<Runner> {
        let (mut instance, run) = self.export::<(), i32>(wasm, "run")?;
        let error = run
            .call(&mut instance, ())
            .err()
            .context("the guest did not trap")?;
        ensure!(
            matches!(error, RuntimeError::RuntimeFault(_)),
            "not a trap: {error:?}"
        );
        Ok(Box::new(move |count| {
            repeat(count, |_| match run.call(&mut instance, ()) {
                Ok(_) => bail!("the guest did not trap"),
                Err(_) => Ok(1),
            })
        }))
    }

    fn compile(&self, wasm: &[u8], parallel: bool) -> Result<Runner> {
        let engine = Engine::new(&Settings::default().with_parallel_compilation(parallel))?;
        let wasm = wasm.to_vec();
        Ok(Box::new(move |count| {
            repeat(count, |_| {
                Ok(engine.compile(&wasm)?.exports().count() as u64)
            })
        }))
    }

    fn compute(&self, wasm: &[u8], n: i32) -> Result<Runner> {
        let (mut instance, run) = self.export::<i32, i64>(wasm, "run")?;
        let engine = self.engine.clone();
        let mut period = None;
        match self.meter {
            Meter::Epochs => instance.set_epoch_deadline(u64::MAX / 2)?,
            Meter::EpochsEvery(millis) => {
                instance.epoch_deadline_callback(|_| EpochDecision::Continue(1));
                instance.set_epoch_deadline(1)?;
                period = Some(Duration::from_millis(millis));
            }
            Meter::None | Meter::Fuel | Meter::Bounds => {}
        }
        Ok(Box::new(move |count| {
            let _ticker = period
                .map(|period| EpochTicker::start(&engine, period))
                .transpose()?;
            repeat(count, |_| Ok(run.call(&mut instance, n)? as u64))
        }))
    }
}
