//! How many instances there can be at a time, and what each holds in memory while it is idle.
//!
//! ```sh
//! cargo run --release -p selvedge --example capacity               # each kind by itself, 10,000 of it
//! cargo run --release -p selvedge --example capacity -- 15000      # so many of each
//! cargo run --release -p selvedge --example capacity -- 100000 dense     # in dense regions alone
//! ```
//!
//! A line of it is one process. *Bytes* are what the process has in memory, its heap included, once the instances are
//! made and once each was called (`Pss`, so a page that guest and host have mapped counts once); none of it was written
//! by a guest but for the globals. *Tables* are the page
//! tables, which the kernel has.

use std::error::Error;
use std::io::Write;
use std::process::Command;
use std::time::Instant;
use std::{fs, io};

use selvedge::{Engine, InstanceHandle, Limits, Linker, Region, RegionOptions, Settings};

/// Kinds of instances: a name, what the module has, and whether it has a memory.
const KINDS: [(&str, &str, bool); 4] = [
    ("nothing", "", false),
    ("globals", GLOBALS, false),
    ("memory", "(memory 1)", true),
    ("memory+globals", MEMORY_AND_GLOBALS, true),
];

const GLOBALS: &str = "(global $calls (mut i32) (i32.const 0))";
const MEMORY_AND_GLOBALS: &str = "(memory 1) (global $calls (mut i32) (i32.const 0))";

/// The module of a kind.
fn wat(name: &str, parts: &str) -> String {
    let body = if name.contains("globals") {
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls)"
    } else {
        "(i32.const 1)"
    };
    format!("(module {parts} (func (export \"run\") (result i32) {body}))")
}

/// What the process holds now.
struct Held {
    bytes: i64,
    tables: i64,
    mappings: usize,
}

impl Held {
    fn now() -> io::Result<Self> {
        // A line is `Pss_Anon:   123 kB`.
        let field = |file: &str, name: &str| -> io::Result<i64> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let words = line.unwrap_or_default().split_whitespace();
            Ok(1024 * words.flat_map(str::parse::<i64>).next().unwrap_or(0))
        };
        let rollup = "/proc/self/smaps_rollup";
        Ok(Self {
            bytes: field(rollup, "Pss_Anon:")? + field(rollup, "Pss_Shmem:")?,
            tables: field("/proc/self/status", "VmPTE:")?,
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count(),
        })
    }

    /// What each of so many instances has added: bytes in memory, and of page tables.
    fn each_since(&self, before: &Self, count: usize) -> (i64, i64) {
        let count = count.max(1) as i64;
        let (bytes, tables) = (self.bytes - before.bytes, self.tables - before.tables);
        (bytes / count, tables / count)
    }
}

/// Makes instances of one kind, and says what they hold.
fn measure(count: u32, dense: bool, kind: &str) -> Result<(), Box<dyn Error>> {
    let known = KINDS.iter().find(|(name, ..)| *name == kind);
    let &(name, parts, has_memory) = known.ok_or("no such kind of instances")?;
    let engine = Engine::new(&Settings::default().with_dense_regions(dense))?;
    let program = Linker::new(&engine).program(&engine.compile(wat(name, parts).as_bytes())?)?;
    let mut limits = Limits::default();
    let mut options = RegionOptions::default();
    options.dense = dense;
    if dense {
        limits.memory_len = if has_memory { 64 << 10 } else { 0 };
        limits.context_len = 512;
    }
    // A region is one range of addresses, and what is free of them lies in pieces.
    let in_one = if dense { count } else { count.min(2000) };
    let regions = (0..count.div_ceil(in_one.max(1)))
        .map(|_| Region::with_options(&engine, in_one, &limits, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = io::stdout().lock();
    let mut instances: Vec<InstanceHandle> = Vec::with_capacity(count as usize);
    let before = Held::now()?;
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
    let made = instances.len();
    let created = Held::now()?;
    for instance in &mut instances {
        let run = instance.typed_func::<(), i32>("run")?;
        assert_eq!(run.call(instance, ())?, 1);
    }
    let called = Held::now()?;
    let (bytes, tables) = created.each_since(&before, made);
    let (bytes_called, tables_called) = called.each_since(&before, made);
    writeln!(
        out,
        "{:8} {name:16} {made:8} {:8} ns {bytes:8} {bytes_called:8} {tables:8} {tables_called:8} {:8.2}",
        if dense { "dense" } else { "guarded" },
        (elapsed / made.max(1) as u32).as_nanos(),
        (called.mappings - before.mappings) as f64 / made.max(1) as f64,
    )?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let count: u32 = args.first().map_or(Ok(10_000), |arg| arg.parse())?;
    if let [_, region, kind] = &args[..] {
        return measure(count, region == "dense", kind);
    }
    writeln!(
        io::stdout(),
        "{:8} {:16} {:>8} {:>11} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "region",
        "module has",
        "count",
        "made in",
        "bytes",
        "called",
        "tables",
        "called",
        "mappings"
    )?;
    for region in ["guarded", "dense"] {
        if args.get(1).is_some_and(|asked| asked != region) {
            continue;
        }
        for (kind, ..) in KINDS {
            let this = std::env::current_exe()?;
            let status = Command::new(this)
                .args([&count.to_string(), region, kind])
                .status()?;
            if !status.success() {
                return Err(format!("{region} {kind}: {status}").into());
            }
        }
    }
    Ok(())
}
