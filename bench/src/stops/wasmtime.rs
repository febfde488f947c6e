//! Wasmtime's way: epochs, which the guest's code looks at in every round of a loop. A kill is the trap at a deadline,
//! and a preemption is the yield there of a guest that is run as a future, polled without an executor.

use std::pin::pin;
use std::task::{Context as TaskContext, Waker};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use wasmtime::{Caller, Config, Engine, Instance, Linker, Module, OptLevel, Store, Trap};

use super::{Other, Stops};

/// A store with an instance.
pub(super) struct Guest {
    engine: Engine,
    store: Store<()>,
    instance: Instance,
}

impl Guest {
    pub(super) fn new(wasm: &[u8]) -> Result<Guest> {
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, wasm)?;
        let mut linker = Linker::new(&engine);
        linker.func_wrap("host", "stop", |caller: Caller<'_, ()>| {
            caller.engine().increment_epoch();
        })?;
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module)?;
        Ok(Guest {
            engine,
            store,
            instance,
        })
    }
}

impl Stops for Guest {
    fn kill(&mut self, other: &Other, count: usize) -> Result<Vec<f64>> {
        let spins = self
            .instance
            .get_typed_func::<(), ()>(&mut self.store, "spins")?;
        self.store.epoch_deadline_trap();
        let mut kill = |_| {
            self.store.set_epoch_deadline(1);
            let engine = self.engine.clone();
            let stop = move || engine.increment_epoch();
            let (ended, seconds) = other.stops(stop, || spins.call(&mut self.store, ()))?;
            match ended {
                Err(error) if error.downcast_ref() == Some(&Trap::Interrupt) => {}
                other => bail!("the guest was to be ended: {other:?}"),
            }
            Ok(seconds)
        };
        (0..count).map(&mut kill).collect()
    }

    fn preempt(&mut self, other: &Other, count: usize) -> Result<Vec<f64>> {
        let spins = self
            .instance
            .get_typed_func::<(), ()>(&mut self.store, "spins")?;
        self.store.epoch_deadline_async_yield_and_update(1);
        self.store.set_epoch_deadline(1);
        let mut run = pin!(spins.call_async(&mut self.store, ()));
        let mut context = TaskContext::from_waker(Waker::noop());
        let mut preempt = |_| {
            let engine = self.engine.clone();
            let stop = move || engine.increment_epoch();
            let (polled, seconds) = other.stops(stop, || run.as_mut().poll(&mut context))?;
            ensure!(polled.is_pending(), "the guest was to be suspended");
            Ok(seconds)
        };
        (0..count).map(&mut preempt).collect()
    }

    fn cycle(&mut self, count: usize) -> Result<Vec<f64>> {
        let calls = self
            .instance
            .get_typed_func::<(), ()>(&mut self.store, "calls")?;
        self.store.epoch_deadline_async_yield_and_update(1);
        self.store.set_epoch_deadline(1);
        let mut run = pin!(calls.call_async(&mut self.store, ()));
        let mut context = TaskContext::from_waker(Waker::noop());
        ensure!(
            run.as_mut().poll(&mut context).is_pending(),
            "the guest was to be suspended"
        );
        let mut cycle = |_| {
            let start = Instant::now();
            let polled = run.as_mut().poll(&mut context);
            let seconds = start.elapsed().as_secs_f64();
            ensure!(polled.is_pending(), "the guest was to be suspended");
            Ok(seconds)
        };
        (0..count).map(&mut cycle).collect()
    }
}
