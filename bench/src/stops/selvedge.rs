//! Selvedge's way: a signal, and nothing in the guest's code.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use selvedge::{
    Engine, HostError, InstanceHandle, Limits, Linker, PreemptSwitch, Region, RuntimeError,
    Settings, TerminationDetails, Vmctx,
};

use super::{Other, Stops};

/// What a switch says of a guest that calls a host function.
fn ensure_running(running: bool) -> Result<(), HostError> {
    if running {
        Ok(())
    } else {
        Err(HostError::terminate("it was not running"))
    }
}

/// An instance, idle between two methods.
pub(super) struct Guest(InstanceHandle);

impl Guest {
    pub(super) fn new(wasm: &[u8]) -> Result<Guest> {
        let engine = Engine::new(&Settings::default())?;
        let region = Region::new(&engine, 1, &Limits::default())?;
        let mut linker = Linker::new(&engine);
        linker.func("host", "stop", |vmctx: &Vmctx<'_>| {
            let switch = vmctx.get_embed_ctx::<PreemptSwitch>()?;
            ensure_running(switch.preempt())
        })?;
        let program = linker.program(&engine.compile(wasm)?)?;
        let mut instance = region.new_instance(&program)?;
        let switch = instance.preempt_switch()?;
        instance.insert_embed_ctx(switch);
        Ok(Guest(instance))
    }
}

impl Stops for Guest {
    fn kill(&mut self, other: &Other, count: usize) -> Result<Vec<f64>> {
        let instance = &mut self.0;
        let mut kill = |_| {
            let switch = instance.kill_switch();
            let stop = move || {
                // What it comes to is looked at below.
                let _ = switch.terminate();
            };
            let (ended, seconds) = other.stops(stop, || instance.run("spins", &[]))?;
            match ended {
                Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote)) => {}
                other => bail!("the guest was to be ended: {other:?}"),
            }
            instance.reset()?;
            Ok(seconds)
        };
        (0..count).map(&mut kill).collect()
    }

    fn preempt(&mut self, other: &Other, count: usize) -> Result<Vec<f64>> {
        let instance = &mut self.0;
        let switch = instance.preempt_switch()?;
        let mut preempt = |n| {
            let switch = switch.clone();
            // Before it runs there is nothing to suspend.
            let stop = move || while !switch.preempt() {};
            let (result, seconds) = other.stops(stop, || match n {
                0 => instance.run("spins", &[]),
                _ => instance.resume(),
            })?;
            ensure!(result?.is_preempted(), "the guest was to be suspended");
            Ok(seconds)
        };
        let seconds = (0..count).map(&mut preempt).collect();
        instance.reset()?;
        seconds
    }

    fn cycle(&mut self, count: usize) -> Result<Vec<f64>> {
        let instance = &mut self.0;
        let first = instance.run("calls", &[])?;
        ensure!(first.is_preempted(), "the guest was to be suspended");
        let mut cycle = |_| {
            let start = Instant::now();
            let result = instance.resume();
            let seconds = start.elapsed().as_secs_f64();
            ensure!(result?.is_preempted(), "the guest was to be suspended");
            Ok(seconds)
        };
        let seconds = (0..count).map(&mut cycle).collect();
        instance.reset()?;
        seconds
    }
}
