//! What a region does when all of its slots are in use.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use selvedge::{Limits, Region, RegionOptions, RuntimeError, Val, WhenFull};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

const WAT: &str = r#"(module (memory 1) (global $n (mut i32) (i32.const 0))
    (func (export "count") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#;

fn region(sandbox: &Sandbox, slots: u32, when_full: WhenFull) -> Region {
    let mut options = RegionOptions::default();
    options.when_full = when_full;
    Region::with_options(&sandbox.engine, slots, &Limits::default(), &options).unwrap()
}

#[test]
fn who_waits_gets_the_slot_of_an_instance_that_is_dropped() {
    let sandbox = Sandbox::new();
    let region = region(&sandbox, 2, WhenFull::Wait(Duration::MAX));
    let program = sandbox.program(WAT);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..4 {
            let sender = sender.clone();
            let (region, program) = (&region, &program);
            scope.spawn(move || {
                for _ in 0..300 {
                    let mut instance = region.new_instance(program).unwrap();
                    assert_eq!(returned_i32(instance.run("count", &[])), 1);
                    // Every other one ends on another thread.
                    sender.send(instance).unwrap();
                }
            });
        }
        drop(sender);
        let ended = receiver.iter().map(drop).count();
        assert_eq!(ended, 1200);
    });
    assert_eq!(region.free_slots(), 2);
}

#[test]
fn who_has_waited_long_enough_is_told_that_the_region_is_full() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(WAT);
    let region = region(&sandbox, 1, WhenFull::Wait(Duration::from_millis(1)));
    let held = region.new_instance(&program).unwrap();
    let full = region.new_instance(&program).unwrap_err();
    assert!(
        matches!(full, RuntimeError::RegionFull { capacity: 1 }),
        "{full}"
    );
    drop(held);
    region.new_instance(&program).unwrap();
}

#[test]
fn instances_outside_a_full_region_are_like_those_within() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(WAT);
    let region = region(&sandbox, 1, WhenFull::Outside);
    for _ in 0..3 {
        let mut instances: Vec<_> = (0..5)
            .map(|_| region.new_instance(&program).unwrap())
            .collect();
        assert_eq!((region.used_slots(), region.free_slots()), (1, 0));
        for instance in &mut instances {
            assert_eq!(returned_i32(instance.run("count", &[])), 1);
            instance.heap_mut().unwrap().fill(7);
            assert_eq!(instance.region().capacity(), 1);
            instance.reset().unwrap();
            assert_eq!(returned_i32(instance.run("count", &[])), 1);
            assert!(instance.heap().unwrap().iter().all(|byte| *byte == 0));
        }
        let other = r#"(module (func (export "seven") (result i32) (i32.const 7)))"#;
        let (last, module) = (instances.last_mut().unwrap(), sandbox.module(other));
        let member = last.link(&sandbox.linker, &module).unwrap();
        assert_eq!(returned_i32(last.run_member(member, "seven", &[])), 7);
        drop(instances);
        assert_eq!(region.free_slots(), 1);
    }
}

#[test]
fn an_instance_with_options_begins_like_any_other() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(WAT);
    for round in 0..3 {
        let builder = sandbox.region.instance_builder(&program);
        let mut limits = Limits::default();
        limits.memory_len = 2 << 16;
        let mut instance = builder
            .with_embed_ctx(round)
            .with_limits(limits)
            .build()
            .unwrap();
        assert_eq!(instance.limits().memory_len, 2 << 16);
        assert_eq!(*instance.get_embed_ctx::<i32>().unwrap().unwrap(), round);
        assert!(instance.grow_memory(2).is_err());
        drop(instance);
        // Nothing of that is left for the next one.
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        assert_eq!(instance.limits(), &Limits::default());
        assert!(!instance.contains_embed_ctx::<i32>());
        instance.grow_memory(2).unwrap();
    }
}

#[test]
fn what_was_of_one_instance_is_refused_by_the_next_in_its_slot() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(
        r#"(module (table (export "t") 1 funcref) (elem (i32.const 0) $f) (func $f (export "f"))
            (func (export "take") (param funcref)))"#,
    );
    let mut first = sandbox.region.new_instance(&program).unwrap();
    let typed = first.typed_func::<(), ()>("f").unwrap();
    let reference = first.table_get("t", 0).unwrap().unwrap();
    first.run("take", std::slice::from_ref(&reference)).unwrap();
    typed.call(&mut first, ()).unwrap();
    drop(first);
    let mut next = sandbox.region.new_instance(&program).unwrap();
    let refused = [
        typed.call(&mut next, ()).unwrap_err(),
        next.run("take", &[reference]).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, RuntimeError::ForeignReference), "{error}");
    }
    next.run("take", &[Val::FuncRef(None)]).unwrap();
}
