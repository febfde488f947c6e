//! Fuel: what is counted, and what happens when it is used up.

use selvedge::{
    Engine, FuelCosts, InstanceHandle, Limits, Linker, OptLevel, RuntimeError, Settings, TrapCode,
    Val, Vmctx,
};
use selvedge_tests::sandbox;

fn engine(opt_level: OptLevel) -> Engine {
    let settings = Settings::default()
        .with_opt_level(opt_level)
        .with_fuel(FuelCosts::default());
    Engine::new(&settings).unwrap()
}

fn instance(engine: &Engine, wat: &str) -> InstanceHandle {
    let module = engine.compile(wat.as_bytes()).unwrap();
    let mut linker = Linker::new(engine);
    linker
        .func("host", "left", |vmctx: &Vmctx<'_>| vmctx.fuel().unwrap())
        .unwrap();
    linker
        .func("host", "charge", |vmctx: &Vmctx<'_>, units: u64| {
            vmctx.consume_fuel(units).map(drop)
        })
        .unwrap();
    linker
        .func("host", "give", |vmctx: &Vmctx<'_>, units: u64| {
            vmctx.add_fuel(units);
        })
        .unwrap();
    linker
        .func("host", "again", |vmctx: &Vmctx<'_>, n: i32| {
            vmctx.call_export("work", &[n.into()]).map(|_| ())
        })
        .unwrap();
    let program = linker.program(&module).unwrap();
    let region = sandbox::region(engine, 1, &Limits::default());
    region.new_instance(&program).unwrap()
}

/// Runs a function that returns or traps; what it consumed, and the trap.
fn consumed(instance: &mut InstanceHandle, name: &str, args: &[Val]) -> (u64, Option<TrapCode>) {
    instance.set_instruction_count(0).unwrap();
    let trap = match instance.run(name, args) {
        Ok(_) => None,
        Err(RuntimeError::RuntimeFault(fault)) => Some(fault.code),
        Err(other) => panic!("{other}"),
    };
    (instance.get_instruction_count().unwrap(), trap)
}

/// Functions, and what a call of each costs by counting the instructions by hand.
const COUNTED: &str = r#"(module
    (import "host" "left" (func $left (result i64)))
    (import "host" "charge" (func $charge (param i64)))
    (import "host" "give" (func $give (param i64)))
    (import "host" "again" (func $again (param i32)))
    (memory 1 4)
    (table 8 16 funcref)
    (elem (i32.const 0) func $work)
    (type $work (func (param i32)))
    (data $bytes "0123456789")
    (func (export "nothing"))
    (func (export "free") (block (loop (nop)) (drop (i32.const 1))))
    (func (export "add") (result i32) (i32.add (i32.const 1) (i32.const 2)))
    (func $work (export "work") (param i32)
        (loop $l
            (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
            (br_if $l (local.get 0))))
    (func (export "calls") (call $work (i32.const 3)) (call $work (i32.const 1)))
    (func (export "indirect") (call_indirect (type $work) (i32.const 2) (i32.const 0)))
    (func (export "tail") (return_call $work (i32.const 5)))
    (func (export "if") (param i32)
        (if (local.get 0) (then (drop (i32.const 1)) (drop (i32.const 2))) (else (drop (i32.const 3)))))
    (func (export "table") (param i32)
        (block (block (block (br_table 0 1 2 (local.get 0))) (drop (i32.const 1))) (drop (i32.const 2)))
        (drop (i32.const 3)))
    (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "copy") (param i32) (memory.copy (i32.const 0) (i32.const 1) (local.get 0)))
    (func (export "init") (param i32) (memory.init $bytes (i32.const 0) (i32.const 0) (local.get 0)))
    (func (export "grow") (param i32) (drop (memory.grow (local.get 0))))
    (func (export "table_grow") (param i32) (drop (table.grow (ref.null func) (local.get 0))))
    (func (export "table_fill") (param i32) (table.fill (i32.const 0) (ref.null func) (local.get 0)))
    (func (export "nested") (call $again (i32.const 2)) (drop (i32.const 1)))
    (func (export "charged") (call $charge (i64.const 1000)))
    (func (export "left") (result i64) (drop (i32.const 1)) (call $left))
    (func (export "given") (call $give (i64.const 100)) (drop (i32.const 1)))
    (func (export "divide") (param i32) (result i32)
        (drop (i32.const 1)) (drop (i32.div_u (i32.const 1) (local.get 0))) (drop (i32.const 1)) (i32.const 2))
    (func (export "load") (param i32)
        (drop (i32.const 1)) (drop (i32.load (local.get 0))) (drop (i32.load offset=8 (local.get 0)))
        (drop (i32.const 1)))
    (func (export "unreachable") (drop (i32.const 1)) (unreachable))
    (func (export "around") (param i32)
        (block (br_if 0 (local.get 0)) (drop (i32.const 1)) (drop (i32.const 2)) (unreachable))
        (drop (i32.const 1)))
    (func $deep (export "deep") (param i32)
        (call $deep (i32.add (local.get 0) (i32.const 1))))
    (func (export "forever") (loop (br 0)))
    (tag $e (param i32))
    (func $throw (param i32) (throw $e (local.get 0)))
    (func (export "caught") (result i32)
        (block $h (result i32)
            (try_table (catch $e $h) (drop (i32.const 1)) (call $throw (i32.const 2))
                (drop (i32.const 3)))
            (unreachable))
        (drop (i32.const 4)) (drop (i32.const 5)))
    (func (export "throws") (param i32)
        (loop $l (try_table (catch_all $l) (throw $e (local.get 0)))))
)"#;

#[test]
fn every_form_of_control_costs_what_its_instructions_cost() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let engine = engine(opt_level);
        let mut instance = instance(&engine, COUNTED);
        let mut check = |name: &str, args: &[Val], units: u64, trap: Option<TrapCode>| {
            let found = consumed(&mut instance, name, args);
            assert_eq!(found, (units, trap), "{name} {args:?} at {opt_level:?}");
        };
        let int = |v: i32| [Val::I32(v)];
        check("nothing", &[], 0, None);
        check("free", &[], 1, None);
        check("add", &[], 3, None);
        // An iteration: local.get i32.const i32.sub local.set local.get br_if.
        check("work", &int(1), 6, None);
        check("work", &int(7), 42, None);
        check("calls", &[], 4 + 24, None);
        check("indirect", &[], 3 + 12, None);
        check("tail", &[], 2 + 30, None);
        check("if", &int(1), 2 + 2, None);
        check("if", &int(0), 2 + 1, None);
        for (index, units) in [(0, 5), (1, 4), (2, 3), (9, 3)] {
            check("table", &int(index), units, None);
        }
        check("fill", &int(0), 4, None);
        check("fill", &int(1), 4 + 1, None);
        check("fill", &int(64), 4 + 8, None);
        check("fill", &int(65), 4 + 9, None);
        check("copy", &int(100), 4 + 13, None);
        check("init", &int(10), 4 + 2, None);
        check("grow", &int(2), 2 + 2, None);
        check("table_grow", &int(3), 3 + 3, None);
        check("table_fill", &int(5), 4 + 5, None);
        check("nested", &[], 2 + 12 + 1, None);
        check("charged", &[], 2 + 1000, None);
        check("left", &[], 2, None);
        check("given", &[], 3, None);
        check("divide", &int(1), 6, None);
        check("divide", &int(0), 4, Some(TrapCode::IntegerDivisionByZero));
        check("load", &int(0), 6, None);
        check("load", &int(196_605), 3, Some(TrapCode::HeapOutOfBounds));
        check("load", &int(196_604), 5, Some(TrapCode::HeapOutOfBounds));
        check(
            "fill",
            &int(1 << 20),
            4 + (1 << 17),
            Some(TrapCode::HeapOutOfBounds),
        );
        // In the callee: local.get throw.
        check("caught", &[], 3 + 2 + 2, None);
        check("unreachable", &[], 1, Some(TrapCode::Unreachable));
        check("around", &int(1), 2 + 1, None);
        check("around", &int(0), 2 + 2, Some(TrapCode::Unreachable));
    }
}

#[test]
fn a_guest_that_would_go_on_for_ever_stops_when_its_fuel_is_used_up() {
    let engine = engine(OptLevel::Speed);
    let mut instance = instance(&engine, COUNTED);
    for (name, args) in [
        ("forever", &[][..]),
        ("deep", &[Val::I32(0)]),
        ("throws", &[Val::I32(0)]),
    ] {
        instance.set_fuel(10_000).unwrap();
        let (units, trap) = consumed(&mut instance, name, args);
        assert_eq!(trap, Some(TrapCode::OutOfFuel), "{name}");
        // A turn of either costs at most four units, and the count is looked at once a turn.
        assert!((10_000..10_004).contains(&units), "{name} took {units}");
        assert_eq!(instance.fuel(), Some(0));
        // Nothing runs on an empty tank, not even what never looks at the count.
        let again = consumed(&mut instance, "nothing", &[]);
        assert_eq!(again, (0, Some(TrapCode::OutOfFuel)));
        assert_eq!(instance.add_fuel(1).unwrap(), 1);
        assert_eq!(consumed(&mut instance, "nothing", &[]), (0, None));
    }
}

#[test]
fn the_backtrace_of_a_guest_without_fuel_says_where_it_was() {
    let engine = engine(OptLevel::Speed);
    let mut instance = instance(&engine, COUNTED);
    instance.set_fuel(50).unwrap();
    let error = instance.run("calls", &[]).map(drop);
    assert!(error.is_ok());
    instance.set_fuel(15).unwrap();
    let Err(RuntimeError::RuntimeFault(fault)) = instance.run("calls", &[]) else {
        panic!("it should have run out");
    };
    assert_eq!(fault.code, TrapCode::OutOfFuel);
    assert_eq!(fault.backtrace.frames.len(), 2, "{fault}");
    assert!(fault.to_string().contains("all fuel consumed"), "{fault}");
}

#[test]
fn every_budget_runs_out_at_the_same_place_at_every_level() {
    let [none, speed] = [OptLevel::None, OptLevel::Speed].map(|level| {
        let engine = engine(level);
        let mut instance = instance(&engine, COUNTED);
        let mut found = Vec::new();
        for (name, args) in [
            ("work", &[Val::I32(9)][..]),
            ("calls", &[]),
            ("nested", &[]),
            ("tail", &[]),
            ("charged", &[]),
            ("fill", &[Val::I32(100)]),
        ] {
            for budget in 0..80 {
                instance.set_fuel(budget).unwrap();
                found.push((name, budget, consumed(&mut instance, name, args)));
            }
        }
        found
    });
    assert_eq!(none, speed);
    for (name, budget, (units, trap)) in none {
        match trap {
            Some(trap) => {
                assert_eq!(trap, TrapCode::OutOfFuel);
                assert!(units >= budget, "{name} stopped after {units} of {budget}");
            }
            // What comes behind the last look is done in any case.
            None => assert!(units <= budget + 4, "{name} used {units} of {budget}"),
        }
    }
}

#[test]
fn what_was_left_and_what_was_consumed_add_up() {
    let engine = engine(OptLevel::Speed);
    let mut instance = instance(&engine, COUNTED);
    assert_eq!(instance.fuel(), Some(i64::MAX as u64));
    assert_eq!(instance.get_instruction_count(), Some(0));
    instance.set_fuel(100).unwrap();
    let left = instance.run("left", &[]).unwrap().unwrap_returned();
    assert_eq!(u64::from(left), 98);
    assert_eq!(
        (instance.fuel(), instance.get_instruction_count()),
        (Some(98), Some(2))
    );
    // Giving does not change what was consumed.
    instance.add_fuel(1000).unwrap();
    assert_eq!(
        (instance.fuel(), instance.get_instruction_count()),
        (Some(1098), Some(2))
    );
    instance.set_instruction_count(u64::MAX).unwrap();
    instance.run("add", &[]).unwrap();
    assert_eq!(
        (instance.fuel(), instance.get_instruction_count()),
        (Some(1095), Some(2))
    );
    instance.set_fuel(u64::MAX).unwrap();
    assert_eq!(instance.add_fuel(5).unwrap(), i64::MAX as u64);
    assert_eq!(instance.get_instruction_count(), Some(2));
}

#[test]
fn host_functions_charge_and_give() {
    let engine = engine(OptLevel::Speed);
    let mut instance = instance(&engine, COUNTED);
    instance.set_fuel(1001).unwrap();
    let short = consumed(&mut instance, "charged", &[]);
    assert_eq!(short, (1001, Some(TrapCode::OutOfFuel)));
    instance.set_fuel(1002).unwrap();
    assert_eq!(consumed(&mut instance, "charged", &[]), (1002, None));
    // What is given in the middle is there at the next look.
    instance.set_fuel(3).unwrap();
    assert_eq!(consumed(&mut instance, "given", &[]), (3, None));
    assert_eq!(instance.fuel(), Some(100));
}

#[test]
fn instructions_cost_what_the_table_says() {
    let mut costs = FuelCosts::default();
    costs.set("i32.add", 10).unwrap();
    costs.set("i32.const", 0).unwrap();
    assert!(costs.set("i32.plus", 1).is_err());
    let engine = Engine::new(&Settings::default().with_fuel(costs)).unwrap();
    let mut instance = instance(&engine, COUNTED);
    assert_eq!(consumed(&mut instance, "add", &[]), (10, None));
}

#[test]
fn code_that_counts_otherwise_is_refused() {
    let plain = Engine::new(&Settings::default()).unwrap();
    let counting = engine(OptLevel::Speed);
    let mut dear = FuelCosts::default();
    dear.set("call", 7).unwrap();
    let dear = Engine::new(&Settings::default().with_fuel(dear)).unwrap();
    for (maker, loader) in [(&plain, &counting), (&counting, &plain), (&counting, &dear)] {
        let artifact = maker.precompile(COUNTED.as_bytes()).unwrap();
        let error = loader.inspect(&artifact).unwrap_err().to_string();
        assert!(error.contains("metering"), "{error}");
    }
}

#[test]
fn guests_that_do_not_count_say_so() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let module = engine.compile(b"(module (func (export \"f\")))").unwrap();
    let program = Linker::new(&engine).program(&module).unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    let mut instance = region.new_instance(&program).unwrap();
    assert_eq!(
        (instance.fuel(), instance.get_instruction_count()),
        (None, None)
    );
    for result in [
        instance.set_fuel(1),
        instance.add_fuel(1).map(drop),
        instance.set_instruction_count(1),
    ] {
        assert!(matches!(result, Err(RuntimeError::FuelNotCounted)));
    }
}
