//! Ten thousand guests on two threads, a hundred of which are endless loops: the others finish on time.
//!
//! ```sh
//! cargo run --release -p selvedge --example crowd
//! ```
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::{Duration, Instant};

use selvedge::{
    Ending, Engine, Error, Limits, Linker, Region, Scheduler, Settings, Task, Ticket, Val,
};

/// `sum` does some work in its memory; `for_ever` does not end.
const WAT: &str = r#"(module (memory 1)
    (func (export "sum") (param $n i32) (result i32) (local $i i32) (local $at i32)
        (loop $l
            (local.set $at (i32.and (i32.shl (local.get $i) (i32.const 2)) (i32.const 0xfffc)))
            (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $i)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.le_u (local.get $i) (local.get $n))))
        (i32.load (i32.const 4)))
    (func (export "for_ever") (loop $l (br $l))))"#;

/// How many guests there are, and how long they may take.
pub(crate) struct Crowd {
    pub(crate) guests: u32,
    /// Each so many guests one does not end.
    pub(crate) one_endless_in: u32,
    pub(crate) threads: usize,
    pub(crate) slice: Duration,
    /// From when all instances are there, for guests that end.
    pub(crate) patience: Duration,
    /// The same for those that do not.
    pub(crate) endless_patience: Duration,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            guests: 10_000,
            one_endless_in: 100,
            threads: 2,
            slice: Duration::from_millis(1),
            patience: Duration::from_secs(60),
            endless_patience: Duration::from_secs(3),
        }
    }
}

/// What became of guests of one kind.
#[derive(Default, Debug)]
pub(crate) struct Fate {
    /// Guests of this kind.
    pub(crate) count: u32,
    /// Those that returned the right value.
    pub(crate) finished: u32,
    /// Those that met their deadline.
    pub(crate) late: u32,
    pub(crate) slices: u64,
    pub(crate) cpu_time: Duration,
    /// Until the last was seen to end.
    pub(crate) last: Duration,
}

impl Fate {
    /// Waits for guests, and sums up.
    fn of(tickets: Vec<(u32, Ticket)>, began: Instant) -> Self {
        let mut fate = Self::default();
        for (n, ticket) in tickets {
            let outcome = ticket.wait();
            fate.count += 1;
            match outcome.ending {
                Ending::Returned(values) if i32::from(&values) == result(n) => fate.finished += 1,
                Ending::DeadlineExceeded => fate.late += 1,
                _ => {}
            }
            fate.slices += outcome.slices;
            fate.cpu_time += outcome.cpu_time;
        }
        fate.last = began.elapsed();
        fate
    }
}

/// What `sum` has in the second word of its memory in the end: the sum of 1, 1 + 16384, and so on, up to `n`.
fn result(n: u32) -> i32 {
    let sum: u32 = (1..=n).step_by(16_384).fold(0, u32::wrapping_add);
    sum.cast_signed()
}

impl Crowd {
    /// Runs all guests. What became of those that end, and of the others.
    pub(crate) fn run(&self) -> Result<(Fate, Fate), Error> {
        let engine = Engine::new(&Settings::default())?;
        let program = Linker::new(&engine).program(&engine.compile(WAT.as_bytes())?)?;
        let mut limits = Limits::default();
        limits.memory_len = 64 << 10;
        limits.context_len = 64 << 10;
        limits.stack_len = 64 << 10;
        let region = Region::new(&engine, self.guests, &limits)?;

        let mut instances = Vec::new();
        for _ in 0..self.guests {
            instances.push(region.new_instance(&program)?);
        }

        let scheduler = Scheduler::new(self.threads, self.slice)?;
        let began = Instant::now();
        let (mut ending, mut endless) = (Vec::new(), Vec::new());
        for (i, instance) in (0..).zip(instances) {
            // Some take several slices.
            let n = if i % 500 == 1 { 5_000_000 } else { 20_000 + i };
            let is_endless = i % self.one_endless_in == 0;
            let (task, patience) = if is_endless {
                (Task::run(instance, "for_ever", &[]), self.endless_patience)
            } else {
                let args = [Val::I32(n.cast_signed())];
                (Task::run(instance, "sum", &args), self.patience)
            };
            let ticket = scheduler.spawn(task.with_deadline(began + patience));
            let tickets = if is_endless {
                &mut endless
            } else {
                &mut ending
            };
            tickets.push((n, ticket));
        }
        let ending = Fate::of(ending, began);
        Ok((ending, Fate::of(endless, began)))
    }
}

#[allow(dead_code, reason = "the test that includes this file calls the parts")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let crowd = Crowd::default();
    let (ending, endless) = crowd.run()?;
    let mut out = std::io::stdout().lock();
    for (what, fate) in [("that end", ending), ("endless", endless)] {
        writeln!(
            out,
            "{} guests {what}: {} finished, {} met their deadline; {} slices, {:.2?} of CPU time; the last ended after {:.2?}",
            fate.count, fate.finished, fate.late, fate.slices, fate.cpu_time, fate.last
        )?;
    }
    Ok(())
}
