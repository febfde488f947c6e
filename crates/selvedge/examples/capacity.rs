//! How many instances there can be at a time, and what each holds in memory.
//!
//! ```sh
//! cargo run --release --example capacity -- COUNT [dense]
//! ```

use std::error::Error;
use std::io::Write;
use std::time::Instant;
use std::{fs, io};

use selvedge::{Engine, Limits, Linker, Region, RegionOptions, Settings};

const WAT: &str = r#"(module (memory 1) (global $calls (mut i32) (i32.const 0))
    (func (export "run") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (global.get $calls)))"#;

/// Resident bytes of this process, and its mappings.
fn held() -> io::Result<(usize, usize)> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok((pages * 4096, maps.lines().count()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let count: u32 = args.next().map_or(Ok(15_000), |arg| arg.parse())?;
    let dense = args.next().is_some_and(|arg| arg == "dense");
    let engine = Engine::new(&Settings::default().with_explicit_bounds(dense))?;
    let program = Linker::new(&engine).program(&engine.compile(WAT.as_bytes())?)?;
    let mut limits = Limits::default();
    let mut options = RegionOptions::default();
    options.dense = dense;
    if dense {
        (limits.memory_len, limits.context_len) = (64 << 10, 8 << 10);
    }
    let before = held()?;
    // A region is one range of addresses, and what is free of them lies in pieces.
    let in_one = if dense { count } else { count.min(2000) };
    let regions = (0..count.div_ceil(in_one.max(1)))
        .map(|_| Region::with_options(&engine, in_one, &limits, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    let mut instances = Vec::with_capacity(count as usize);
    let start = Instant::now();
    for i in 0..count {
        match regions[(i / in_one) as usize].new_instance(&program) {
            Ok(instance) => instances.push(instance),
            Err(error) => {
                writeln!(out, "after {}: {error}", instances.len())?;
                break;
            }
        }
    }
    let elapsed = start.elapsed();
    for instance in &mut instances {
        let run = instance.typed_func::<(), i32>("run")?;
        assert_eq!(run.call(instance, ())?, 1);
    }
    let after = held()?;
    let made = instances.len().max(1);
    writeln!(
        out,
        "{} instances at a time, {:?} each; {} bytes in memory and {:.2} mappings for each",
        instances.len(),
        elapsed / made as u32,
        (after.0 - before.0) / made,
        (after.1 - before.1) as f64 / made as f64,
    )?;
    Ok(())
}
