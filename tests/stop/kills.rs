//! Guests of every kind, ended at random times by threads that know nothing of what the guests do: what a switch
//! says is what becomes of its run, and of no other.
//!
//! ```text
//!  runner: publish a switch --> run --> retract it --> compare; the switch joins the old ones --> another guest
//!  killer: take what is published, now or soon --> terminate --> note what it said;  terminate an old one: Invalid
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::mem::take;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    HostError, InstanceHandle, KillError, KillSuccess, KillSwitch, Program, Region, RunResult,
    RuntimeError, TerminationDetails, Val, Vmctx,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::Sandbox;
use selvedge_tests::threads::WhenDone;

use crate::guests::{self, KINDS};

/// How many kills there are in total that end a run; `SELVEDGE_HAMMER` says more.
fn kills() -> u64 {
    std::env::var("SELVEDGE_HAMMER").map_or(300, |count| count.parse().expect("it is in order"))
}

/// Guests that wait in every way there is, and begin again if they are let go; and two that end.
const WAITING: &str = r#"(module
    (import "h" "waits" (func $waits))
    (import "h" "asks" (func $asks))
    (import "h" "nests" (func $nests (param i64) (result i64)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory $m 2)
    (memory $shared 1 1 shared)
    (func (export "waits") (param i64) (result i64) (loop $l (call $waits) (br $l)) unreachable)
    (func (export "asks") (param i64) (result i64) (loop $l (call $asks) (br $l)) unreachable)
    (func (export "sleeps") (param i64) (result i64)
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const -1))
        (loop $l (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))) (br $l))
        unreachable)
    (func (export "parks") (param i64) (result i64)
        (loop $l (drop (memory.atomic.wait32 $shared (i32.const 0) (i32.const 0) (i64.const -1))) (br $l))
        unreachable)
    (func (export "loops") (param i64) (result i64) (loop $l (br $l)) unreachable)
    (func (export "nests loops") (param i64) (result i64) (call $nests (i64.const -1)))
    (func (export "nests") (param i64) (result i64) (i64.add (call $nests (local.get 0)) (i64.const 1)))
    (func (export "inner") (param $n i64) (result i64) (local $sum i64)
        (loop $l
            (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 7)) (local.get $n)))
            (local.set $n (i64.sub (local.get $n) (i64.const 1)))
            (br_if $l (i64.ne (local.get $n) (i64.const 0))))
        (local.get $sum))
    (func (export "traps") (param i64) (result i64)
        (i64.div_u (call $nests (local.get 0)) (i64.const 0)))
)"#;

/// Of [`WAITING`], what never ends by itself.
const ENDLESS: [&str; 6] = ["waits", "asks", "sleeps", "parks", "loops", "nests loops"];
/// And what does.
const ENDING: [&str; 2] = ["nests", "traps"];

fn waiting_program(sandbox: &mut Sandbox) -> Program {
    wasi::add_to_linker(&mut sandbox.linker).expect("it is in order");
    let waits = |vmctx: &Vmctx<'_>| {
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let wake = Arc::new(move || {
            // Nobody waits any more if the wait was just over.
            let _ = wake.lock().expect("nobody panics with it").send(());
        });
        vmctx.wait_interruptibly(wake, || woken.recv().expect("there is a sender"));
    };
    let asks = |vmctx: &Vmctx<'_>| {
        while !vmctx.interrupted() {
            thread::yield_now();
        }
    };
    let nests = |vmctx: &Vmctx<'_>, n: i64| -> Result<i64, HostError> {
        let inner = if n < 0 { "loops" } else { "inner" };
        match vmctx.call_export(inner, &[Val::I64(n)])?[..] {
            [Val::I64(sum)] => Ok(sum),
            ref other => panic!("{other:?}"),
        }
    };
    sandbox
        .linker
        .func("h", "waits", waits)
        .expect("it is in order")
        .func("h", "asks", asks)
        .expect("it is in order")
        .func("h", "nests", nests)
        .expect("it is in order");
    sandbox.program(WAITING)
}

const REMOTE: &str = "Remote";

/// What a run comes to, as far as it can be compared.
fn told(result: Result<RunResult, RuntimeError>) -> String {
    match result {
        Ok(RunResult::Returned(values)) => format!("{:?}", values.values()),
        Ok(other) => format!("{other:?}"),
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote)) => REMOTE.to_owned(),
        Err(RuntimeError::RuntimeFault(fault)) => format!("{:?}", fault.code),
        Err(error) => error.to_string(),
    }
}

type Said = Result<KillSuccess, KillError>;

/// What a switch has said, by whichever thread.
type Log = Arc<Mutex<Vec<Said>>>;

/// The switch of the run that a runner is about to begin or in.
type Published = Mutex<Option<(KillSwitch, Log)>>;

/// A run that is over. What its switch said is complete once nobody else has the log.
struct Over {
    log: Log,
    kind: &'static str,
    /// None if the guest was reset or dropped before it came to an end.
    result: Option<String>,
    undisturbed: String,
}

/// What all threads share.
struct Arena {
    region: Region,
    /// The nine kinds, and those that wait.
    programs: [Program; 2],
    /// Guests that no runner has, so that each runs on several threads.
    idle: Mutex<Vec<(usize, InstanceHandle)>>,
    published: [Published; 2],
    old: Mutex<Vec<KillSwitch>>,
    killed: AtomicU64,
    /// Old switches that had something to say.
    revived: AtomicU64,
    /// How often switches said what.
    said: Mutex<BTreeMap<String, u64>>,
    done: AtomicBool,
}

/// For each kind and number of rounds, what it comes to when nobody ends it.
type Expected = BTreeMap<(&'static str, i64), String>;

const ROUNDS: [i64; 3] = [16, 2_000, 60_000];

impl Arena {
    fn new() -> Self {
        let mut sandbox = guests::sandbox(12);
        let waiting = waiting_program(&mut sandbox);
        let programs = [sandbox.program(guests::GUEST), waiting];
        let arena = Self {
            region: sandbox.region,
            programs,
            idle: Mutex::default(),
            published: Default::default(),
            old: Mutex::default(),
            killed: AtomicU64::new(0),
            revived: AtomicU64::new(0),
            said: Mutex::default(),
            done: AtomicBool::new(false),
        };
        let instances = (0..10).map(|i| (i % 2, arena.instance(i % 2)));
        *arena.idle.lock().expect("it is in order") = instances.collect();
        arena
    }

    fn instance(&self, program: usize) -> InstanceHandle {
        let ctx = WasiCtx::builder().build().expect("it gives nothing");
        let builder = self.region.instance_builder(&self.programs[program]);
        builder.with_embed_ctx(ctx).build().expect("a slot is free")
    }

    fn expected(&self) -> Expected {
        let mut expected = Expected::new();
        for (program, kinds) in [(0, &KINDS[..]), (1, &ENDING[..])] {
            for (&kind, rounds) in kinds.iter().flat_map(|kind| ROUNDS.map(|n| (kind, n))) {
                let mut instance = self.instance(program);
                let result = told(instance.run(kind, &[Val::I64(rounds)]));
                assert_ne!(result, REMOTE);
                expected.insert((kind, rounds), result);
            }
        }
        expected
    }

    /// Ends whatever is published, soon after it has seen it, and old runs.
    fn killer(&self, seed: u64) {
        let mut random = Random::new(seed);
        while !self.done.load(Relaxed) {
            let published = &self.published[random.below(2)];
            let published = published.lock().expect("it is in order").clone();
            if let Some((switch, log)) = published {
                for _ in 0..random.pick(&[0, 0, 50, 1_000, 20_000]) {
                    std::hint::spin_loop();
                }
                let said = switch.terminate();
                log.lock().expect("it is in order").push(said);
            }
            let old = {
                let mut old = self.old.lock().expect("it is in order");
                let len = old.len();
                if len > 100 {
                    old.swap_remove(random.below(len));
                }
                (len > 0).then(|| old[random.below(len.min(100))].clone())
            };
            if let Some(old) = old {
                // A thread that failed here would leave guests that nobody ends.
                if old.terminate() != Err(KillError::Invalid) {
                    self.revived.fetch_add(1, Relaxed);
                }
            }
            if random.below(4) == 0 {
                thread::yield_now();
            }
        }
    }

    /// Runs guests until there were enough kills.
    fn runner(&self, at: usize, expected: &Expected, wanted: u64) {
        let mut random = Random::new(100 + at as u64);
        let mut over = Vec::new();
        while self.killed.load(Relaxed) < wanted {
            let (program, mut instance) = {
                let mut idle = self.idle.lock().expect("it is in order");
                let chosen = random.below(idle.len());
                idle.swap_remove(chosen)
            };
            let rounds = random.pick(&ROUNDS);
            // Most of those that wait never end by themselves, so that there always is another kill.
            let kind = match program {
                0 => random.pick(&KINDS),
                _ if random.below(4) == 0 => random.pick(&ENDING),
                _ => random.pick(&ENDLESS),
            };
            let undisturbed = expected.get(&(kind, rounds)).cloned().unwrap_or_default();
            let log = Log::default();
            let switch = instance.kill_switch();
            *self.published[at].lock().expect("it is in order") =
                Some((switch.clone(), log.clone()));
            for _ in 0..random.pick(&[0, 0, 100, 3_000]) {
                std::hint::spin_loop();
            }
            let result = match random.below(40) {
                // It never runs.
                0 => None,
                _ => self.run(&mut instance, kind, rounds, &mut random),
            };
            if result.is_none() {
                instance.reset().expect("it is in order");
            }
            if random.below(20) == 0 {
                // The next one in the slot, perhaps.
                drop(instance);
                instance = self.instance(program);
            } else if instance.is_terminated() || random.below(4) == 0 {
                instance.reset().expect("it is in order");
            }
            let taken = self.published[at].lock().expect("it is in order").take();
            drop(taken);
            self.old.lock().expect("it is in order").push(switch);
            if random.below(3) == 0 {
                self.check_alone(program, &mut instance, expected);
            }
            over.push(Over {
                log,
                kind,
                result,
                undisturbed,
            });
            let mut idle = self.idle.lock().expect("it is in order");
            idle.push((program, instance));
            drop(idle);
            over.retain_mut(|over| !self.settle(over));
        }
        while !over.is_empty() {
            over.retain_mut(|over| !self.settle(over));
            thread::yield_now();
        }
    }

    /// One run to its end, perhaps in slices, perhaps not all on this thread; none if it is given up.
    fn run(
        &self,
        instance: &mut InstanceHandle,
        kind: &str,
        rounds: i64,
        random: &mut Random,
    ) -> Option<String> {
        let args = [Val::I64(rounds)];
        if random.below(3) != 0 {
            return Some(told(instance.run(kind, &args)));
        }
        let slice = Duration::from_micros(100);
        let mut result = instance.run_for(slice, kind, &args);
        while let Ok(RunResult::Preempted) = result {
            result = match random.below(30) {
                0 => return None,
                1 => thread::scope(|scope| {
                    let elsewhere = scope.spawn(|| instance.resume_for(slice));
                    elsewhere.join().expect("it is in order")
                }),
                _ => instance.resume_for(slice),
            };
        }
        Some(told(result))
    }

    /// A run whose switch nobody has is disturbed by nobody.
    fn check_alone(&self, program: usize, instance: &mut InstanceHandle, expected: &Expected) {
        let kind = ["integers", "nests"][program];
        let result = told(instance.run(kind, &[Val::I64(ROUNDS[1])]));
        assert_eq!(result, expected[&(kind, ROUNDS[1])], "{kind}");
    }

    /// Whether all has been said of a run; then it is checked.
    fn settle(&self, over: &mut Over) -> bool {
        let Some(log) = Arc::get_mut(&mut over.log) else {
            return false;
        };
        let said = take(log.get_mut().expect("it is in order"));
        let ended = said.iter().filter(|said| said.is_ok()).count();
        let kind = over.kind;
        assert!(ended <= 1, "{kind}: {said:?}");
        match over.result.as_deref() {
            None => {}
            // A fault that is under way goes before the kill.
            Some(result) if ended == 1 && kind == "traps" => {
                assert!([REMOTE, &over.undisturbed].contains(&result), "{result}");
            }
            Some(result) if ended == 1 => assert_eq!(result, REMOTE, "{kind}: {said:?}"),
            Some(result) => assert_eq!(result, over.undisturbed, "{kind}: {said:?}"),
        }
        self.killed.fetch_add(ended as u64, Relaxed);
        let mut counts = self.said.lock().expect("it is in order");
        for said in said {
            *counts.entry(format!("{said:?}")).or_default() += 1;
        }
        true
    }
}

#[test]
fn x_23_x_24_guests_that_are_ended_at_random_times_end_as_their_switches_say() {
    let wanted = kills();
    let arena = Arena::new();
    let expected = arena.expected();
    thread::scope(|scope| {
        let _done = WhenDone(&arena.done);
        for seed in 0..2 {
            let arena = &arena;
            scope.spawn(move || arena.killer(seed));
        }
        let runners = [0, 1].map(|at| {
            let (arena, expected) = (&arena, &expected);
            scope.spawn(move || arena.runner(at, expected, wanted))
        });
        // One that fails leaves the other, who goes on until there were enough kills.
        for runner in runners {
            runner.join().expect("it is in order");
        }
    });
    assert_eq!(arena.revived.load(Relaxed), 0);
    arena.idle.lock().expect("it is in order").clear();
    assert_eq!(arena.region.used_slots(), 0);
    let said = arena.said.lock().expect("it is in order");
    writeln!(std::io::stdout(), "switches said: {said:?}").expect("there is an output");
    if wanted >= 100_000 {
        // Over so many times each window is met.
        assert_eq!(said.len(), 5, "{said:?}");
    }
}
