//! Guests under tokio: each is a task, host functions are `async`, and one that loops for ever takes no more than
//! its share of the thread.
//!
//! `cargo run -p selvedge --example tokio_guests`
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::Duration;

use selvedge::{
    Awaiting, Engine, HostError, Limits, Linker, Region, RuntimeError, Settings, Val, Vmctx,
};

/// Asks the host for a number as often as it is told, and adds the answers up; or computes for ever.
const GUEST: &str = r#"(module
    (import "host" "fetch" (func $fetch (param i32) (result i32)))
    (func (export "add_up") (param $times i32) (result i32) (local $sum i32)
        (loop $again
            (local.set $sum (i32.add (local.get $sum) (call $fetch (local.get $times))))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
        (local.get $sum))
    (func (export "compute") (loop $for_ever (br $for_ever))))"#;

/// What a host function does that takes its time: here it lets others go first.
async fn fetch(key: i32) -> Result<i32, HostError> {
    tokio::task::yield_now().await;
    Ok(key * 10)
}

/// Runs so many guests beside one that never stops, all on this thread; what they have added up.
pub(crate) fn run(guests: i32) -> Result<Vec<i32>, Box<dyn std::error::Error>> {
    let engine = Engine::new(&Settings::default())?;
    let mut linker = Linker::new(&engine);
    linker.func("host", "fetch", |_: &Vmctx<'_>, key: i32| {
        Awaiting::new(fetch(key))
    })?;
    let program = linker.program(&engine.compile(GUEST.as_bytes())?)?;
    let slots = guests.cast_unsigned() + 1;
    let region = Region::new(&engine, slots, &Limits::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;

    runtime.block_on(async {
        let mut endless = region.new_instance(&program)?;
        let endless = tokio::spawn(async move {
            let slice = Duration::from_micros(500);
            endless.run_async("compute", &[]).with_slice(slice).await
        });
        let mut tasks = Vec::new();
        for times in 1..=guests {
            let mut guest = region.new_instance(&program)?;
            tasks.push(tokio::spawn(async move {
                let sum = guest.run_async("add_up", &[Val::I32(times)]).await?;
                Ok::<i32, RuntimeError>(sum.returned()?.into())
            }));
        }
        let mut sums = Vec::new();
        for task in tasks {
            sums.push(task.await??);
        }
        // The guest ends with its task.
        endless.abort();
        Ok(sums)
    })
}

#[allow(dead_code, reason = "the test that includes this file calls the part")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for (guest, sum) in (1..).zip(run(5)?) {
        writeln!(
            out,
            "guest {guest} adds up to {sum}, beside one that never ends"
        )?;
    }
    Ok(())
}
