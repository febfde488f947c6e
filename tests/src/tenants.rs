//! Instances of several programs one after another in few slots. Each does what it can to leave something behind, in
//! an order that a seed says; the next one must be like one in a slot that nobody has used. The fuzzer has this file,
//! too.
//!
//! ```text
//!  slot: | see, compare | soil, soil, ... | drop | see, compare | soil ... | drop |
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use selvedge::{
    Engine, Error, ExternRef, Flow, FuelCosts, HostError, InstanceHandle, KillError, KillSwitch,
    Limits, Linker, Member, Module, Program, Region, RegionOptions, RunResult, RuntimeError,
    Settings, Val, Vmctx, Yield,
};

use crate::random::Random;

/// A guest with every kind of state, functions that change it, and some that look for what is not theirs.
/// `SECOND` is its other memory or none, `PAGES` the size of the first.
const WAT: &str = r#"(module
    (import "host" "wait" (func $wait)) (import "host" "end" (func $end))
    (import "host" "panic" (func $panic)) (import "host" "kill" (func $kill))
    (type $n (func (result i32)))
    (memory (export "m") PAGES 600) (data (i32.const 1000) "some words") (data (i32.const 8190) "over pages")
    SECOND
    (data $passive "passive")
    (table $t (export "t") 6 20 funcref) (table $h (export "h") 3 funcref) (table $e (export "e") 4 externref)
    (elem (table $t) (i32.const 1) func $one $two $wait) (elem (table $h) (i32.const 0) func $two)
    (elem $spare funcref (ref.func $one) (ref.func $end))
    (tag $tag (param i32 i64))
    (global $a (export "g0") (mut i32) (i32.const 42)) (global $b (export "g1") (mut f64) (f64.const 1.5))
    (global $c (export "g2") (mut v128) (v128.const i64x2 7 9)) (global $x (export "g3") (mut externref) (ref.null extern))
    (global $f (export "g4") (mut funcref) (ref.func $two)) (global $exn (export "g5") (mut exnref) (ref.null exn))
    (global $d (export "g6") (mut i64) (i64.const -1)) (global $s (export "g7") (mut f32) (f32.const 0.25))
    (func $one (type $n) (i32.const 1)) (func $two (type $n) (i32.const 2))

    (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (drop (memory.grow (local.get 0))))
    (func (export "globals") (param i32 externref)
        (global.set $a (local.get 0)) (global.set $b (f64.convert_i32_s (local.get 0)))
        (global.set $c (i32x4.splat (local.get 0))) (global.set $x (local.get 1)) (global.set $f (ref.func $one))
        (global.set $d (i64.extend_i32_s (local.get 0))) (global.set $s (f32.convert_i32_s (local.get 0))))
    (func (export "tables") (param i32 externref)
        (drop (table.grow $t (ref.func $one) (i32.const 3))) (table.fill $t (i32.const 0) (ref.func $two) (local.get 0))
        (drop (table.grow $h (ref.func $end) (i32.const 2000))) (table.set $h (i32.const 1) (ref.func $end))
        (drop (table.grow $e (local.get 1) (local.get 0))) (table.set $e (i32.const 2) (local.get 1))
        (table.copy $t $h (i32.const 4) (i32.const 0) (i32.const 2)))
    (func (export "segments")
        (table.init $t $spare (i32.const 0) (i32.const 0) (i32.const 2)) (memory.init $passive (i32.const 3) (i32.const 0) (i32.const 7))
        (data.drop $passive) (elem.drop $spare))
    (func (export "throw") (param i32)
        (block $caught (result i32 i64 exnref)
            (try_table (catch_ref $tag $caught) (throw $tag (local.get 0) (i64.const 5)))
            unreachable)
        (global.set $exn) drop drop)
    (func (export "trap") (i32.store (i32.const 4) (i32.const -1)) unreachable)
    (func (export "wait") (call $wait) (i32.store (i32.const 8) (i32.const 1)))
    (func (export "end") (i32.store (i32.const 12) (i32.const -1)) (call $end))
    (func (export "kill") (i32.store (i32.const 16) (i32.const -1)) (call $kill))
    (func (export "panic") (global.set $a (i32.const 5)) (call $panic))
    (func (export "forever") (param $x i32) (local $v v128)
        (local.set $v (i32x4.splat (local.get $x)))
        (loop $l
            (i32.store (i32.const 20) (i32.add (i32.load (i32.const 20)) (local.get $x)))
            (local.set $v (i32x4.add (local.get $v) (i32x4.splat (local.get $x))))
            (global.set $c (local.get $v))
            (br $l)))

    ;; Fills registers and the stack down to a depth with what is given; the sum, so that nothing of it is idle.
    (func $soak (export "soak") (param $n i32) (param $x i64) (result i64)
        (local $a i64) (local $b i64) (local $c i64) (local $v v128) (local $w v128) (local $u v128) (local $y f64)
        (local.set $a (i64.mul (local.get $x) (i64.const 0x9e3779b97f4a7c15)))
        (local.set $b (i64.rotl (local.get $a) (i64.const 21)))
        (local.set $c (i64.xor (local.get $b) (local.get $x)))
        (local.set $v (i64x2.splat (local.get $a))) (local.set $w (i64x2.splat (local.get $b)))
        (local.set $u (v128.not (v128.xor (local.get $v) (local.get $w))))
        (local.set $y (f64.convert_i64_s (local.get $c)))
        (if (local.get $n) (then
            (local.set $a (i64.add (local.get $a) (call $soak (i32.sub (local.get $n) (i32.const 1)) (local.get $c))))))
        (i64.add (i64.add (local.get $a) (local.get $b)) (i64.add (i64.add (local.get $c) (i64.reinterpret_f64 (local.get $y)))
            (i64.add (i64x2.extract_lane 1 (i32x4.add (local.get $v) (i32x4.sub (local.get $w) (local.get $u)))) (local.get $x)))))
    ;; Whatever a local holds that nobody has set, down to a depth. Nobody ever gives the number that sets them.
    (func $residue (export "residue") (param $n i32) (param $x i32) (result i64)
        (local $a i64) (local $b i64) (local $c i64) (local $d i32) (local $y f64) (local $z f32)
        (local $v v128) (local $w v128) (local $u v128) (local $f funcref) (local $e externref)
        (if (i32.eq (local.get $x) (i32.const 0x1234567)) (then
            (local.set $a (i64.const 1)) (local.set $b (i64.const 2)) (local.set $c (i64.const 3))
            (local.set $d (i32.const 4)) (local.set $y (f64.const 5)) (local.set $z (f32.const 6))
            (local.set $v (v128.const i64x2 7 8)) (local.set $w (v128.const i64x2 9 10))
            (local.set $u (v128.const i64x2 11 12)) (local.set $f (ref.func $one))))
        (local.set $a (i64.or (i64.or (local.get $a) (local.get $b)) (i64.or (local.get $c) (i64.extend_i32_u (local.get $d)))))
        (local.set $a (i64.or (local.get $a) (i64.or (i64.reinterpret_f64 (local.get $y))
            (i64.extend_i32_u (i32.reinterpret_f32 (local.get $z))))))
        (local.set $v (v128.or (local.get $v) (v128.or (local.get $w) (local.get $u))))
        (local.set $a (i64.or (local.get $a) (i64.or (i64x2.extract_lane 0 (local.get $v)) (i64x2.extract_lane 1 (local.get $v)))))
        (local.set $a (i64.or (local.get $a) (i64.extend_i32_u (i32.or
            (i32.eqz (ref.is_null (local.get $f))) (i32.eqz (ref.is_null (local.get $e)))))))
        (if (local.get $n) (then
            (local.set $a (i64.or (local.get $a) (call $residue (i32.sub (local.get $n) (i32.const 1)) (local.get $x))))))
        (local.get $a))
    (func (export "sizes") (result i32 i32 i32 i32)
        (memory.size) (table.size $t) (table.size $h) (table.size $e))
    (func (export "init") (memory.init $passive (i32.const 20) (i32.const 0) (i32.const 7))
        (table.init $t $spare (i32.const 4) (i32.const 0) (i32.const 1)))
    (func (export "call") (param i32) (result i32) (call_indirect $t (type $n) (local.get 0))))"#;

const SECOND: &str = r#"(memory $second (export "m2") 2 9) (data (memory $second) (i32.const 70000) "second")
    (func (export "fill2") (param i32 i32)
        (drop (memory.grow $second (i32.const 1)))
        (memory.fill $second (local.get 0) (local.get 1) (i32.const 60000)))"#;

/// A module that is linked to the guest and writes to what it imports.
const LINKED: &str = r#"(module (import "main" "m" (memory 1)) (import "main" "t" (table 1 funcref))
    (import "main" "g0" (global $g (mut i32))) (func $f (result i32) (i32.const 99))
    (memory 2) (data (memory 1) (i32.const 0) "its own")
    (data (i32.const 500) "from the other module") (elem (table 0) (i32.const 0) func $f)
    (func (export "set") (global.set $g (i32.const 1000))))"#;

/// What can be seen of an instance, each with its name.
type Seen = Vec<(String, Vec<u8>)>;

/// A context of the embedder's.
struct Ctx;

/// A region whose slots have seen much, and what instances of each program are like.
struct Street {
    engine: Engine,
    linker: Linker,
    limits: Limits,
    options: RegionOptions,
    used: Region,
    linked: Module,
    programs: Vec<(Program, Rc<Seen>)>,
    /// Switches of runs that are over.
    switches: Vec<KillSwitch>,
    counts_fuel: bool,
}

/// Lets so many instances do what a seed says.
///
/// # Errors
///
/// What is left of one instance, in words.
pub fn walk(seed: u64, tenants: usize) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut street = Street::new(&mut random).map_err(|error| error.to_string())?;
    for tenant in 0..tenants {
        let told = street.tenant(&mut random);
        told.map_err(|what| format!("seed {seed}, tenant {tenant}, {:?}: {what}", street.options))?;
    }
    let used = street.used.used_slots();
    (used == 0)
        .then_some(())
        .ok_or_else(|| format!("{used} slots are still in use"))
}

fn add_functions(linker: &mut Linker) -> Result<(), Error> {
    linker
        .func("host", "wait", |_: &Vmctx<'_>| {
            Flow::<()>::Yield(Yield::returning(()))
        })?
        .func("host", "end", |_: &Vmctx<'_>| {
            Err::<(), _>(HostError::terminate("enough"))
        })?
        .func("host", "panic", |_: &Vmctx<'_>| -> () {
            std::panic::resume_unwind(Box::new("as the test wants"))
        })?
        .func("host", "kill", |vmctx: &Vmctx<'_>| {
            // Whether another one was first does not matter here.
            let _ = vmctx.kill_switch().terminate();
        })?;
    Ok(())
}

impl Street {
    fn new(random: &mut Random) -> Result<Self, Error> {
        let mut options = RegionOptions::default();
        options.dense = random.below(2) == 0;
        options.keep_resident_len = random.pick(&[0, 8_192, 40_000, 2 << 20]);
        options.find_written_pages = random.below(4) != 0;
        let counts_fuel = random.below(3) == 0;
        let mut settings = Settings::default()
            .with_parallel_compilation(false)
            .with_explicit_bounds(options.dense || random.below(4) == 0)
            .with_dense_regions(options.dense && random.below(3) != 0);
        options.heap_alignment = random.pick(&[1, 1, 128, 4096]);
        if counts_fuel {
            settings = settings.with_fuel(FuelCosts::default());
        }
        let engine = Engine::new(&settings)?;
        let mut linker = Linker::new(&engine);
        add_functions(&mut linker)?;
        let mut limits = Limits::default();
        // Enough for what the guest asks for, and little enough to lie close together.
        limits.memory_len = 600 << 16;
        let slots = random.pick(&[2, 3]);
        let mut street = Self {
            used: Region::with_options(&engine, slots, &limits, &options)?,
            linked: engine.compile(LINKED.as_bytes())?,
            programs: Vec::new(),
            switches: Vec::new(),
            engine,
            linker,
            limits,
            options,
            counts_fuel,
        };
        // Contexts of different lengths, behind which memories begin at different places.
        let many = "(global i64 (i64.const -1)) ".repeat(75);
        let more = "(table 40 40 funcref) (global i64 (i64.const -1))";
        for (pages, second) in [
            ("1", ""),
            ("4", SECOND),
            ("80", ""),
            ("2", &*many),
            ("1", more),
        ] {
            let wat = WAT.replace("PAGES", pages).replace("SECOND", second);
            let module = street.engine.compile(wat.as_bytes())?;
            let program = street.linker.program(&module)?;
            street.add(program)?;
        }
        Ok(street)
    }

    /// A program, and what an instance of it is like in a slot that nobody has used.
    fn add(&mut self, program: Program) -> Result<(), Error> {
        let region = Region::with_options(&self.engine, 1, &self.limits, &self.options)?;
        let seen = see(&mut region.new_instance(&program)?)?;
        self.programs.push((program, Rc::new(seen)));
        Ok(())
    }

    /// One instance, from its making to its end.
    fn tenant(&mut self, random: &mut Random) -> Result<(), String> {
        let at = random.below(self.programs.len());
        let in_words = |error: RuntimeError| format!("program {at}: {error}");
        let (program, fresh) = &self.programs[at];
        let fresh = fresh.clone();
        let mut instance = self.used.new_instance(program).map_err(in_words)?;
        for switch in &self.switches {
            if switch.terminate() != Err(KillError::Invalid) {
                return Err("a switch of a former run is for a run of this one".to_owned());
            }
        }
        let ready = instance.kill_switch();
        compare(&see(&mut instance).map_err(in_words)?, &fresh)?;
        if ready.terminate() != Err(KillError::Invalid) {
            return Err("a run that is over can be ended".to_owned());
        }
        let mut is_linked = false;
        for _ in 0..random.below(7) {
            self.switches.push(instance.kill_switch());
            if !self.soil(&mut instance, random, &mut is_linked) {
                break;
            }
        }
        // The last may be for a run that never came, so that it would be for the next one.
        self.switches.push(instance.kill_switch());
        let len = self.switches.len();
        self.switches.drain(..len.saturating_sub(40));
        if random.below(6) == 0 && !is_linked {
            instance.reset().map_err(in_words)?;
            let _ = instance.remove_embed_ctx::<Ctx>();
            if self.counts_fuel {
                instance.set_fuel(u64::MAX).map_err(in_words)?;
            }
            // What the embedder has set stays: its limits, for one.
            let seen = see(&mut instance).map_err(in_words)?;
            let same = |(seen, fresh): (&_, &_)| seen == fresh;
            if !seen[1..].iter().zip(&fresh[1..]).all(same) {
                return Err(format!("a reset leaves: {:?}", compare(&seen, &fresh)));
            }
        }
        if random.below(6) == 0 {
            let elsewhere = thread::spawn(move || drop(instance));
            let _ = elsewhere.join();
        } else {
            drop(instance);
        }
        Ok(())
    }

    /// Does something to an instance; whether it can go on.
    fn soil(
        &mut self,
        instance: &mut InstanceHandle,
        random: &mut Random,
        is_linked: &mut bool,
    ) -> bool {
        let object = || Val::ExternRef(Some(ExternRef::new(7)));
        let len = instance.heap().map_or(0, |heap| heap.len());
        let (at, byte) = (random.below(len), Val::I32(random.below(256) as i32));
        let count = Val::I32(random.below((len - at).min(300_000) + 1) as i32);
        let number = Val::I32(random.bits() as i32);
        let few = Val::I32(random.below(6) as i32);
        let at = Val::I32(at as i32);
        let done = match random.below(24) {
            0 => instance.run("fill", &[at, byte, count]),
            1 => instance.run("fill", &[Val::I32(0), byte, Val::I32(len as i32)]),
            2 => {
                let heap = instance.heap_mut();
                return heap.is_ok_and(|mut heap| {
                    (0..300).for_each(|_| heap[random.below(len)] ^= 0x55);
                    true
                });
            }
            3 => {
                let grown = instance.run("grow", &[few]);
                if let Ok(mut heap) = instance.heap_mut() {
                    let last = heap.len() - 1;
                    heap[last] = 1;
                }
                grown
            }
            4 => instance.run("fill2", &[Val::I32(random.below(70_000) as i32), byte]),
            5 => instance.run("globals", &[number, object()]),
            6 => instance.run("tables", &[few, object()]),
            7 => instance.run("segments", &[]),
            8 => {
                let deep = Val::I32(random.below(5_000) as i32);
                instance.run("soak", &[deep, Val::I64(random.bits().cast_signed())])
            }
            // Over the end of the stack.
            9 => instance.run("soak", &[Val::I32(i32::MAX), Val::I64(-1)]),
            10 => instance.run("trap", &[]),
            11 => instance.run("throw", &[number]),
            12 => {
                instance.set_catch_panics(random.below(2) == 0);
                let panics = AssertUnwindSafe(|| instance.run("panic", &[]));
                return catch_unwind(panics).is_ok_and(|_| false);
            }
            13 => instance.run("end", &[]),
            14 => instance.run("kill", &[]),
            15 => {
                let waits = instance.run("wait", &[]);
                // Dropped while it waits, or goes on.
                return waits.is_ok() && random.below(2) == 0 && instance.resume().is_ok();
            }
            16 => return self.interrupt(instance, random),
            17 => {
                let (switch, turns) = (instance.kill_switch(), random.below(2_000));
                thread::scope(|scope| {
                    scope.spawn(move || {
                        (0..turns).for_each(|_| std::hint::spin_loop());
                        switch.terminate()
                    });
                    instance.run("forever", &[number])
                })
            }
            18 => {
                *is_linked = true;
                self.link(instance)
            }
            19 => {
                instance.insert_embed_ctx(Ctx);
                return instance.reset().is_ok();
            }
            20 => return self.take_snapshot(instance, random),
            21 => return Self::fork(instance, random),
            22 if self.counts_fuel => {
                let spent = instance.run_bounded(10_000, "forever", &[number]);
                if random.below(2) == 0 && instance.set_fuel(5_000).is_ok() {
                    drop(instance.resume());
                }
                drop(spent);
                return false;
            }
            _ => {
                drop(instance.set_global("g2", &Val::V128(u128::MAX)));
                drop(instance.table_set("e", 3, &object()));
                drop(instance.set_global("g3", &object()));
                return true;
            }
        };
        drop(done);
        !instance.is_terminated()
    }

    fn link(&self, instance: &mut InstanceHandle) -> Result<RunResult, RuntimeError> {
        instance.set_member_name("main", Member::MAIN)?;
        let linked = instance.link(&self.linker, &self.linked)?;
        instance.run_member(linked, "set", &[])
    }

    /// Suspends it somewhere; then it goes on for a while, is ended, or is left as it stands.
    fn interrupt(&self, instance: &mut InstanceHandle, random: &mut Random) -> bool {
        let slice = Duration::from_micros(100);
        let mut result = instance.run_for(slice, "forever", &[Val::I32(-1)]);
        for _ in 0..random.below(3) {
            if matches!(result, Ok(RunResult::Preempted)) {
                result = instance.resume_for(slice);
            }
        }
        drop(result);
        match random.below(3) {
            0 => false,
            1 => {
                let _ = instance.kill_switch().terminate();
                instance.resume().is_ok()
            }
            _ => instance.reset().is_ok(),
        }
    }

    /// Its state becomes a program of the street's, if it has nothing of the host's, and has an instance.
    fn take_snapshot(&mut self, instance: &mut InstanceHandle, random: &mut Random) -> bool {
        let Ok(snapshot) = instance.snapshot() else {
            return !instance.is_terminated();
        };
        if let Ok(mut copy) = self.used.new_instance(&snapshot) {
            let len = copy.heap().map_or(0, |heap| heap.len());
            let all = [0, random.below(256), len].map(|n| Val::I32(n as i32));
            drop(copy.run("fill", &all));
            drop(copy.run("tables", &[Val::I32(2), Val::ExternRef(None)]));
        }
        if self.programs.len() == 3 {
            let _ = self.add(snapshot);
        } else if random.below(2) == 0 {
            self.programs.truncate(3);
        }
        true
    }

    /// A second instance of its state, of which one goes on and the other is dropped.
    fn fork(instance: &mut InstanceHandle, random: &mut Random) -> bool {
        let Ok(mut fork) = instance.fork() else {
            return !instance.is_terminated();
        };
        let len = fork.heap().map_or(0, |heap| heap.len());
        let all = [0, random.below(256), len].map(|n| Val::I32(n as i32));
        drop(fork.run("fill", &all));
        drop(fork.run("globals", &[Val::I32(3), Val::ExternRef(None)]));
        if random.below(2) == 0 {
            *instance = fork;
        }
        true
    }
}

/// The first thing in which two differ.
fn compare(seen: &Seen, fresh: &Seen) -> Result<(), String> {
    let different = seen.iter().zip(fresh).find(|(seen, fresh)| seen != fresh);
    let Some(((name, seen), (_, fresh))) = different else {
        return Ok(());
    };
    if seen.len() == fresh.len()
        && let Some(at) = (0..seen.len()).find(|&at| seen[at] != fresh[at])
    {
        let (seen, fresh) = (seen[at], fresh[at]);
        return Err(format!("{name}, byte {at}: {seen} in place of {fresh}"));
    }
    let text = String::from_utf8_lossy;
    Err(format!(
        "{name}: {:.500} in place of {:.500}",
        text(seen),
        text(fresh)
    ))
}

/// What can be seen of an instance, by its host and by itself. Afterwards it is not what it was.
fn see(instance: &mut InstanceHandle) -> Result<Seen, RuntimeError> {
    let mut seen = Seen::new();
    let mut add = |name: &str, what: Vec<u8>| seen.push((name.to_owned(), what));
    let state = (
        [
            instance.is_ready(),
            instance.is_not_started(),
            instance.is_yielded(),
        ],
        [
            instance.is_faulted(),
            instance.is_terminated(),
            instance.is_preempted(),
        ],
        [instance.is_out_of_fuel(), instance.is_bound_to_thread()],
        instance.contains_embed_ctx::<Ctx>(),
        (instance.fuel(), instance.total_memory_len()),
        (instance.backtrace().frames.len(), *instance.limits()),
    );
    add("state", format!("{state:?}").into_bytes());
    add("memory", instance.heap()?.to_vec());
    if let Ok(second) = instance.memory("m2") {
        add("second memory", second.to_vec());
    }
    for table in ["t", "h", "e"] {
        let elements = (0..instance.table_len(table)?).map(|at| {
            let element = instance.table_get(table, at)?;
            Ok(u8::from(!matches!(
                element,
                Some(Val::FuncRef(None) | Val::ExternRef(None))
            )))
        });
        add(table, elements.collect::<Result<_, RuntimeError>>()?);
    }
    for at in 0..8 {
        let name = format!("g{at}");
        let value = match instance.global(&name)? {
            Val::FuncRef(func) => func.is_some().to_string(),
            Val::ExternRef(object) => object.is_some().to_string(),
            Val::ExnRef(exception) => exception.is_some().to_string(),
            other => format!("{other:?}"),
        };
        add(&name, value.into_bytes());
    }
    let mut told = |name: &str, args: &[Val]| match instance.run(name, args) {
        Ok(RunResult::Returned(values)) => format!("{:?}", values.values()),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    };
    add("sizes", told("sizes", &[]).into_bytes());
    for depth in [0, 3, 200] {
        let residue = told("residue", &[Val::I32(depth), Val::I32(-1)]);
        add("residue", residue.into_bytes());
    }
    for at in 0..7 {
        add("call", told("call", &[Val::I32(at)]).into_bytes());
    }
    // Segments are there again.
    let init = instance.run("init", &[]).map(drop);
    add(
        "init",
        format!("{:?}", init.map_err(|error| error.to_string())).into_bytes(),
    );
    add("memory after that", instance.heap()?[..64].to_vec());
    Ok(seen)
}
