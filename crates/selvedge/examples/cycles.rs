//! Makes, calls and drops an instance again and again: for looking at it with `strace -c -f` or `perf`.
//!
//! ```sh
//! cargo run --release --example cycles -- COUNT PAGES-OF-MEMORY PAGES-WRITTEN THREADS
//! ```

use std::error::Error;
use std::thread;
use std::time::Instant;

use selvedge::{Engine, Limits, Linker, Program, Region, RuntimeError, Settings};

/// `PAGES` of memory, or none for 0; writes to as many pages of 4 KiB as it is told.
const WITH_MEMORY: &str = r#"(module (memory PAGES) (data (i32.const 1000) "some data")
    (func (export "run") (param $n i32) (result i32) (local $i i32)
        (block $done
            (loop $next
                (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
                (i32.store (i32.shl (local.get $i) (i32.const 12)) (i32.const 1))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $next)))
        (local.get $i)))"#;
const WITHOUT: &str = r#"(module (func (export "run") (param i32) (result i32) (local.get 0)))"#;

fn cycles(
    region: &Region,
    program: &Program,
    count: u32,
    written: i32,
) -> Result<(), RuntimeError> {
    for _ in 0..count {
        let mut instance = region.new_instance(program)?;
        let run = instance.typed_func::<i32, i32>("run")?;
        run.call(&mut instance, written)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = |at, default: u32| -> Result<u32, std::num::ParseIntError> {
        std::env::args()
            .nth(at)
            .map_or(Ok(default), |arg| arg.parse())
    };
    let (count, pages) = (number(1, 100_000)?, number(2, 1)?);
    let (written, threads) = (number(3, 1)?, number(4, 1)?.max(1));
    let wat = match pages {
        0 => WITHOUT.to_owned(),
        pages => WITH_MEMORY.replace("PAGES", &pages.to_string()),
    };
    let engine = Engine::new(&Settings::default())?;
    let program = Linker::new(&engine).program(&engine.compile(wat.as_bytes())?)?;
    let region = Region::new(&engine, 64, &Limits::default())?;
    let run = |count| {
        thread::scope(|scope| {
            let cycles = || cycles(&region, &program, count, written.cast_signed());
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(cycles)).collect();
            threads
                .into_iter()
                .try_for_each(|it| it.join().unwrap_or(Ok(())))
        })
    };
    run(1000)?;
    let start = Instant::now();
    run(count)?;
    let each = start.elapsed() / count;
    let mut out = std::io::stdout().lock();
    std::io::Write::write_fmt(&mut out, format_args!("{each:?} a cycle and thread\n"))?;
    Ok(())
}
