//! Fuel in small programs whose instructions are counted by hand, over runs and resets, and the smallest budgets.

use selvedge::{
    Engine, FuelCosts, InstanceHandle, Limits, Linker, OptLevel, RuntimeError, Settings, TrapCode,
    Val,
};
use selvedge_tests::sandbox;

/// Functions and what a call consumes: all instructions that run, but for those that only give structure.
const SHAPES: &str = r#"(module
    (func $two (drop (i32.add (i32.const 1) (i32.const 2))))
    (func $early (drop (i32.const 1)) (return) (drop (i32.const 2)) (drop (i32.const 3)))
    (table 2 funcref) (elem (i32.const 0) $two $early)
    (func (export "add") (call $two))
    (func (export "calls") (call $two) (call $two) (call $two))
    (func (export "after_return") (call $early))
    (func (export "call_after_return") (drop (i32.const 1)) (return) (call $two))
    (func (export "call_after_unreachable") (param i32)
        (block (br_if 0 (local.get 0)) (unreachable) (call $two)))
    (func (export "after_br") (block (drop (i32.const 1)) (br 0) (drop (i32.const 2)) (call $two)) (drop (i32.const 3)))
    (func (export "empty_loops") (loop) (loop (loop)))
    (func (export "if") (param i32) (if (local.get 0) (then (drop (i32.const 1)) (drop (i32.const 2)))))
    (func (export "indirect") (param i32)
        (call_indirect (i32.const 0)) (call_indirect (i32.const 1)) (call_indirect (local.get 0)))
    (func (export "loop") (param i32)
        (loop $l
            (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
            (br_if $l (local.get 0))))
    (func (export "br_table") (param i32)
        (loop $l
            (block $out
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br_table $out $l (local.get 0)))))
)"#;

fn instance(opt_level: OptLevel) -> InstanceHandle {
    let settings = Settings::default()
        .with_opt_level(opt_level)
        .with_fuel(FuelCosts::default());
    let engine = Engine::new(&settings).unwrap();
    let module = engine.compile(SHAPES.as_bytes()).unwrap();
    let program = Linker::new(&engine).program(&module).unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    region.new_instance(&program).unwrap()
}

#[test]
fn small_programs_consume_what_their_instructions_that_run_cost() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let mut instance = instance(opt_level);
        let mut total = 0;
        let mut check = |name: &str, args: &[i32], units: u64| {
            let args: Vec<Val> = args.iter().map(|&n| Val::I32(n)).collect();
            instance.run(name, &args).unwrap();
            total += units;
            // Counted over all runs.
            assert_eq!(
                instance.get_instruction_count(),
                Some(total),
                "{name} {opt_level:?}"
            );
        };
        check("add", &[], 1 + 3);
        check("calls", &[], 3 + 9);
        // What stands behind a return, a branch or a trap costs nothing.
        check("after_return", &[], 1 + 1);
        check("call_after_return", &[], 1);
        check("call_after_unreachable", &[1], 2);
        check("after_br", &[], 1 + 1 + 1);
        check("empty_loops", &[], 0);
        check("if", &[1], 2 + 2);
        check("if", &[0], 2);
        check("indirect", &[0], 3 * 2 + 3 + 1 + 3);
        // local.get i32.const i32.sub local.set local.get br_if
        check("loop", &[10], 60);
        check("loop", &[11_667], 70_002);
        // local.get i32.const i32.sub local.set local.get br_table, and it goes on unless 0 is left.
        check("br_table", &[10_000], 60_000);
        instance.reset().unwrap();
        // A reset is not a new life for the count, which is the embedder's.
        assert_eq!(instance.get_instruction_count(), Some(total));
        instance.set_instruction_count(5).unwrap();
        instance.run("add", &[]).unwrap();
        assert_eq!(instance.get_instruction_count(), Some(9));
    }
}

#[test]
fn the_smallest_budgets_stop_a_guest_at_its_first_look_at_them() {
    let mut instance = instance(OptLevel::Speed);
    let is_out = |result: Result<_, RuntimeError>| matches!(result, Err(RuntimeError::RuntimeFault(fault)) if fault.code == TrapCode::OutOfFuel);
    for units in [0, 1] {
        instance.set_fuel(units).unwrap();
        assert!(
            is_out(instance.run("loop", &[Val::I32(i32::MAX)])),
            "{units}"
        );
        assert_eq!(instance.fuel(), Some(0));
        assert!(instance.is_faulted());
        // Nothing runs on nothing.
        assert!(is_out(instance.run("loop", &[Val::I32(1)])));
        assert!(is_out(instance.run("empty_loops", &[])));
    }
    // A look is taken at each branch back, taken or not: exactly enough is too little, one more is not.
    for (units, out, expected) in [
        (59, true, 60),
        (60, true, 60),
        (61, true, 66),
        (66, true, 66),
        (67, false, 66),
    ] {
        instance.set_fuel(units).unwrap();
        let before = instance.get_instruction_count().unwrap();
        let result = instance.run("loop", &[Val::I32(11)]);
        assert_eq!(is_out(result), out, "{units}");
        let consumed = instance.get_instruction_count().unwrap() - before;
        assert_eq!(consumed, expected, "{units}");
    }
    instance.add_fuel(1_000).unwrap();
    instance.run("loop", &[Val::I32(10)]).unwrap();
}
