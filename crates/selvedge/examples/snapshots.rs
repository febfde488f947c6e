//! A guest with 1 MiB of state that takes long to compute: what it costs to start from scratch, from a snapshot, and
//! as a fork.
//!
//! ```sh
//! cargo run --release --example snapshots
//! ```

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use selvedge::{Engine, InstanceHandle, Limits, Linker, Program, Region, RuntimeError, Settings};

/// `init` fills 1 MiB with what a simple generator of random numbers gives; `lookup` reads of it.
const WAT: &str = r#"(module (memory 17)
    (func (export "init") (param $rounds i32) (local $at i32) (local $x i32)
        (local.set $x (i32.const 12345))
        (loop $rounds
            (local.set $at (i32.const 0))
            (loop $next
                (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1103515245)) (i32.const 12345)))
                (i32.store (local.get $at) (local.get $x))
                (local.set $at (i32.add (local.get $at) (i32.const 4)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 1048576))))
            (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
            (br_if $rounds (i32.gt_s (local.get $rounds) (i32.const 0)))))
    (func (export "lookup") (param i32) (result i32)
        (i32.load (i32.shl (i32.and (local.get 0) (i32.const 0x3ffff)) (i32.const 2)))))"#;

/// The shortest of many times, and a median.
fn time<R>(
    count: usize,
    mut f: impl FnMut() -> Result<R, RuntimeError>,
) -> Result<(Duration, Duration), RuntimeError> {
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        let made = f()?;
        times.push(start.elapsed());
        // What is made is dropped outside the time that is taken.
        drop(made);
    }
    times.sort_unstable();
    Ok((times[0], times[times.len() / 2]))
}

fn begun(region: &Region, program: &Program) -> Result<InstanceHandle, RuntimeError> {
    let mut instance = region.new_instance(program)?;
    instance
        .typed_func::<i32, ()>("init")?
        .call(&mut instance, 10)?;
    Ok(instance)
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::new(&Settings::default())?;
    let program = Linker::new(&engine).program(&engine.compile(WAT.as_bytes())?)?;
    let region = Region::new(&engine, 64, &Limits::default())?;
    let mut original = begun(&region, &program)?;
    let lookup = original.typed_func::<i32, i32>("lookup")?;
    let expected = lookup.call(&mut original, 77)?;
    let snapshot = original.snapshot()?;

    // The guest finds what it computed.
    for mut other in [region.new_instance(&snapshot)?, original.fork()?] {
        let lookup = other.typed_func::<i32, i32>("lookup")?;
        assert_eq!(lookup.call(&mut other, 77)?, expected);
    }
    let read = |instance: InstanceHandle| {
        let mut instance = instance;
        let lookup = instance.typed_func::<i32, i32>("lookup")?;
        lookup.call(&mut instance, 77)?;
        Ok(instance)
    };
    let times = [
        ("from scratch", time(50, || begun(&region, &program))?),
        ("the snapshot itself", time(200, || original.snapshot())?),
        (
            "a start from the snapshot, and a call",
            time(2000, || read(region.new_instance(&snapshot)?))?,
        ),
        (
            "the first start in a region from the snapshot, and a call",
            time(200, || {
                // A new region has no slot that has run it.
                let fresh = Region::new(&engine, 1, &Limits::default())?;
                let start = Instant::now();
                let instance = read(fresh.new_instance(&snapshot)?)?;
                Ok((instance, start.elapsed()))
            })?,
        ),
        ("a fork, and a call", time(2000, || read(original.fork()?))?),
    ];
    let mut out = std::io::stdout().lock();
    for (what, (least, median)) in times {
        writeln!(out, "{what}: {median:?} (at best {least:?})")?;
    }
    Ok(())
}
