//! Limits of one instance, the budget over all its memories and tables, and which slot it gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use selvedge::{
    AllocStrategy, InstanceHandle, Limits, Member, Program, RuntimeError, TrapCode, Val,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const GROWS: &str = r#"(module (memory (export "m") 1 100) (table $t 10 funcref)
    (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
    (func $f (export "deep") (param i32)
        (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))) (drop (i32.const 0))))))"#;

/// Raises one limit.
type Raise = fn(&mut Limits);

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn build(
    sandbox: &Sandbox,
    program: &Program,
    limits: Limits,
) -> Result<InstanceHandle, RuntimeError> {
    let builder = sandbox.region.instance_builder(program);
    builder.with_limits(limits).build()
}

fn grow(instance: &mut InstanceHandle, what: &str, by: i32) -> i32 {
    returned_i32(instance.run(what, &[Val::I32(by)]))
}

#[test]
fn an_instance_may_have_less_than_its_region_and_the_next_has_the_regions_again() {
    let sandbox = Sandbox::with(1, &limits(|l| l.memory_len = 4 << 16));
    let program = sandbox.program(GROWS);
    let half = limits(|l| (l.memory_len, l.table_elements) = (2 << 16, 20));
    for _ in 0..3 {
        let mut small = build(&sandbox, &program, half).unwrap();
        assert_eq!(small.limits().memory_len, 2 << 16);
        assert_eq!(grow(&mut small, "memory", 2), -1);
        assert_eq!(grow(&mut small, "memory", 1), 1);
        assert_eq!(grow(&mut small, "memory", 1), -1);
        assert!(matches!(
            small.grow_memory(1),
            Err(RuntimeError::LimitsExceeded {
                knob: "memory_len",
                given: 131_072,
                ..
            })
        ));
        assert_eq!(grow(&mut small, "table", 11), -1);
        assert_eq!(grow(&mut small, "table", 10), 10);
        drop(small);
        let mut large = sandbox.region.new_instance(&program).unwrap();
        assert_eq!(grow(&mut large, "memory", 3), 1);
        assert_eq!(grow(&mut large, "memory", 1), -1);
    }
}

#[test]
fn limits_equal_to_what_the_module_begins_with_refuse_all_growth() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(GROWS);
    let exact = limits(|l| (l.memory_len, l.table_elements) = (1 << 16, 10));
    let mut instance = build(&sandbox, &program, exact).unwrap();
    assert_eq!(grow(&mut instance, "memory", 1), -1);
    assert_eq!(grow(&mut instance, "table", 1), -1);
    assert_eq!(grow(&mut instance, "memory", 0), 1);
    assert_eq!(grow(&mut instance, "table", 0), 10);
}

#[test]
fn every_limit_above_the_regions_is_refused_by_its_name() {
    let region = limits(|l| {
        l.memory_len = 1 << 20;
        l.memory64_len = 1 << 20;
        l.stack_len = 64 << 10;
        l.table_elements = 1000;
        l.context_len = 16 << 10;
        l.total_memory_len = 1 << 20;
        l.backtrace_frames = 10;
    });
    let sandbox = Sandbox::with(1, &region);
    let program = sandbox.program(GROWS);
    let above: [(&str, Raise); 7] = [
        ("memory_len", |l| l.memory_len += 1),
        ("memory64_len", |l| l.memory64_len += 1),
        ("stack_len", |l| l.stack_len += 1),
        ("table_elements", |l| l.table_elements += 1),
        ("context_len", |l| l.context_len += 1),
        ("total_memory_len", |l| l.total_memory_len += 1),
        ("backtrace_frames", |l| l.backtrace_frames += 1),
    ];
    for (knob, raise) in above {
        let mut limits = region;
        raise(&mut limits);
        let error = build(&sandbox, &program, limits).unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidLimits(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("invalid limits: {knob} of the instance is ")),
            "{message}"
        );
        assert_eq!(sandbox.region.used_slots(), 0);
    }
    // Nonsense is nonsense for an instance too.
    let error = build(&sandbox, &program, limits(|l| l.stack_len = 0)).unwrap_err();
    assert!(error.to_string().contains("stack_len is 0"), "{error}");
    build(&sandbox, &program, region).unwrap();
}

#[test]
fn a_module_larger_than_the_limits_of_the_instance_is_refused_in_a_slot_that_ran_it_too() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(GROWS);
    let cases: [(&str, Limits); 4] = [
        ("memory_len", limits(|l| l.memory_len = 65535)),
        ("table_elements", limits(|l| l.table_elements = 9)),
        (
            "total_memory_len",
            limits(|l| l.total_memory_len = 65536 + 79),
        ),
        ("memory_len", limits(|l| l.memory_len = 0)),
    ];
    for (expected, limits) in cases {
        drop(sandbox.region.new_instance(&program).unwrap());
        match build(&sandbox, &program, limits) {
            Err(RuntimeError::LimitsExceeded { knob, .. }) => assert_eq!(knob, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            (sandbox.region.used_slots(), sandbox.region.free_slots()),
            (0, 1)
        );
    }
}

#[test]
fn the_stack_of_one_instance_may_be_shorter() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(GROWS);
    let mut short = build(&sandbox, &program, limits(|l| l.stack_len = 16 << 10)).unwrap();
    let mut long = sandbox.region.new_instance(&program).unwrap();
    let depth = [Val::I32(2000)];
    let code = fault(short.run("deep", &depth)).code;
    assert_eq!(code, TrapCode::StackOverflow);
    long.run("deep", &depth).unwrap();
}

#[test]
fn the_budget_counts_every_memory_and_table_of_the_instance_and_of_linked_modules() {
    let budget = 6 * 65536 + 8 * 100;
    let mut sandbox = Sandbox::with(4, &limits(|l| l.total_memory_len = budget));
    sandbox
        .linker
        .func("h", "nothing", |_: &selvedge::Vmctx<'_>| {})
        .unwrap();
    // Memory 0, one beside it, one with 64-bit addresses, a table in the context and one on the heap.
    let mut instance = sandbox.instance(
        r#"(module (memory $a 1) (memory $b 1) (memory $c i64 1) (table $s 10 10 funcref) (table $t 20 funcref)
            (func (export "a") (param i32) (result i32) (memory.grow $a (local.get 0)))
            (func (export "b") (param i32) (result i32) (memory.grow $b (local.get 0)))
            (func (export "c") (param i32) (result i32)
                (i32.wrap_i64 (memory.grow $c (i64.extend_i32_s (local.get 0)))))
            (func (export "t") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0))))"#,
    );
    assert_eq!(instance.total_memory_len(), 3 * 65536 + 8 * 30);
    let too_large = sandbox.module("(module (memory 4))");
    match instance.link(&sandbox.linker, &too_large) {
        Err(RuntimeError::LimitsExceeded {
            needed,
            given,
            knob,
            ..
        }) => {
            assert_eq!(
                (needed, given, knob),
                (7 * 65536 + 240, budget, "total_memory_len")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(sandbox.region.used_slots(), 1);
    let fits = sandbox.module(
        r#"(module (memory 1) (table 10 funcref)
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#,
    );
    let member = instance.link(&sandbox.linker, &fits).unwrap();
    assert_eq!(instance.total_memory_len(), 4 * 65536 + 8 * 40);
    for name in ["a", "b", "c"] {
        assert_eq!(grow(&mut instance, name, 3), -1, "{name}");
    }
    assert_eq!(grow(&mut instance, "t", 61 + 2 * 65536 / 8), -1);
    assert_eq!(grow(&mut instance, "b", 1), 1);
    let grown = instance.run_member(member, "grow", &[Val::I32(1)]);
    assert_eq!(returned_i32(grown), 1);
    // What is left is less than a page.
    for name in ["a", "b", "c"] {
        assert_eq!(grow(&mut instance, name, 1), -1, "{name}");
    }
    assert!(matches!(
        instance.grow_memory(1),
        Err(RuntimeError::LimitsExceeded {
            knob: "total_memory_len",
            ..
        })
    ));
    assert_eq!(grow(&mut instance, "t", 61), -1);
    assert_eq!(grow(&mut instance, "t", 60), 20);
    assert_eq!(instance.total_memory_len(), budget);
    // A reset gives back what has grown.
    instance.reset().unwrap();
    assert_eq!(instance.total_memory_len(), 4 * 65536 + 8 * 40);
    assert_eq!(grow(&mut instance, "c", 2), 1);
    assert!(instance.member_module(Member::MAIN).is_ok());
}

#[test]
fn sums_that_no_number_holds_are_refused() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory $m i64 1) (table $t i64 1 funcref)
            (func (export "m") (param i64) (result i64) (memory.grow $m (local.get 0)))
            (func (export "t") (param i64) (result i64) (table.grow $t (ref.null func) (local.get 0))))"#,
    );
    for name in ["m", "t"] {
        for by in [-1, i64::MAX, i64::MIN, 1 << 48, 1 << 61] {
            let values = instance
                .run(name, &[Val::I64(by)])
                .unwrap()
                .unwrap_returned();
            assert_eq!(values.into_values()[0].i64(), Some(-1), "{name} {by}");
        }
    }
    assert_eq!(instance.total_memory_len(), 65536 + 8);
}

/// Fills a region and empties it again, and checks its counts all the way.
fn fill_and_empty(sandbox: &Sandbox, program: &Program, strategies: &[AllocStrategy]) {
    let region = &sandbox.region;
    let capacity = region.capacity();
    let mut instances = Vec::new();
    for used in 0..capacity {
        assert_eq!(
            (region.used_slots(), region.free_slots()),
            (used, capacity - used)
        );
        let strategy = strategies[used as usize % strategies.len()].clone();
        let builder = region.instance_builder(program);
        instances.push(builder.with_alloc_strategy(strategy).build().unwrap());
    }
    for strategy in strategies {
        let builder = region.instance_builder(program);
        let full = builder.with_alloc_strategy(strategy.clone()).build();
        assert!(matches!(full, Err(RuntimeError::RegionFull { .. })));
    }
    // Each has memory of its own.
    for (i, instance) in (0..).zip(&mut instances) {
        instance.heap_mut().unwrap()[0] = i;
    }
    for (i, instance) in (0..).zip(&instances) {
        assert_eq!(instance.heap().unwrap()[0], i);
    }
    drop(instances);
    assert_eq!((region.used_slots(), region.free_slots()), (0, capacity));
}

/// A choice that looks random and is the same each time.
fn seeded() -> AllocStrategy {
    let state = AtomicU32::new(7);
    let next = |n: u32| n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    AllocStrategy::Chosen(Arc::new(move |_| {
        next(
            state
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(next(n)))
                .unwrap(),
        ) >> 16
    }))
}

#[test]
fn counts_are_right_whatever_slot_is_chosen() {
    for slots in [1, 10] {
        let sandbox = Sandbox::with(slots, &Limits::default());
        let program = sandbox.program(GROWS);
        for _ in 0..100 {
            fill_and_empty(&sandbox, &program, &[seeded()]);
            fill_and_empty(&sandbox, &program, &[AllocStrategy::Random]);
            fill_and_empty(
                &sandbox,
                &program,
                &[AllocStrategy::Recent, seeded(), AllocStrategy::Random],
            );
        }
    }
}

#[test]
fn the_slot_given_back_last_is_taken_first_unless_a_choice_says_otherwise() {
    let sandbox = Sandbox::with(3, &Limits::default());
    let program = sandbox.program(GROWS);
    let address = |instance: &InstanceHandle| instance.heap().unwrap().as_ptr().addr();
    let new = |strategy| {
        let builder = sandbox.region.instance_builder(&program);
        builder.with_alloc_strategy(strategy).build().unwrap()
    };
    let [a, b, c] = [(); 3].map(|()| new(AllocStrategy::Recent));
    let places = [&b, &a, &c].map(address);
    drop(b);
    drop(a);
    drop(c);
    // The list of free slots is now b, a, c.
    for (at, place) in (0..).zip(places) {
        let chosen = new(AllocStrategy::Chosen(Arc::new(move |free| {
            assert_eq!(free, 3);
            at + 3
        })));
        assert_eq!(address(&chosen), place);
        // Goes to the end of the list, from where the others are put back into their order.
        drop(chosen);
        let all = [(); 3].map(|()| new(AllocStrategy::Recent));
        for place in places {
            assert!(all.iter().any(|instance| address(instance) == place));
        }
        let mut all: Vec<_> = all.into_iter().collect();
        for place in places {
            let i = all
                .iter()
                .position(|instance| address(instance) == place)
                .unwrap();
            drop(all.remove(i));
        }
    }
    assert_eq!(address(&new(AllocStrategy::Recent)), places[2]);
}

#[test]
fn threads_share_a_region() {
    let sandbox = Sandbox::with(4, &Limits::default());
    let program = sandbox.program(GROWS);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..200 {
                    // Two a thread at most: never full.
                    let mut one = sandbox.region.new_instance(&program).unwrap();
                    let mut two = sandbox.region.new_instance(&program).unwrap();
                    one.heap_mut().unwrap()[7] = round as u8;
                    assert_eq!(grow(&mut two, "memory", 1), 1);
                    assert_eq!(two.heap().unwrap()[7], 0);
                    assert_eq!(one.heap().unwrap()[7], round as u8);
                }
            });
        }
    });
    assert_eq!(sandbox.region.used_slots(), 0);
}
