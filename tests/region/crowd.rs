//! Many instances, one after another and at a time: what they leave behind, and what they hold.

use std::sync::Arc;
use std::thread;

use selvedge::{InstanceHandle, Limits, Region, RuntimeError, Vmctx};
use selvedge_tests::children;
use selvedge_tests::held::Held;
use selvedge_tests::sandbox::Sandbox;

const WAT: &str = r#"(module (memory 20) (table 4 8 funcref) (global $g (mut i32) (i32.const 1))
    (data (i32.const 70000) "some data") (func $f) (elem declare func $f)
    (func (export "run") (param i32) (result i32)
        (memory.fill (local.get 0) (i32.const 1) (i32.const 5000)) (table.set (i32.const 0) (ref.func $f))
        (drop (memory.grow (i32.const 1))) (global.set $g (local.get 0)) (global.get $g)))"#;

/// How many instances are made: a million where `SELVEDGE_SOAK` is set.
fn many() -> i32 {
    if std::env::var_os("SELVEDGE_SOAK").is_some() {
        1_000_000
    } else {
        20_000
    }
}

fn cycle(region: &Region, program: &selvedge::Program, i: i32) -> Result<(), RuntimeError> {
    let mut instance = region.new_instance(program)?;
    let run = instance.typed_func::<i32, i32>("run")?;
    assert_eq!(run.call(&mut instance, i % 100_000)?, i % 100_000);
    Ok(())
}

#[test]
fn x_19_a_million_instances_leave_no_mappings_and_no_memory() {
    children::check_ends("crowd::child", "many", 0);
}

/// Not a test of its own: the body of the child. Without a case it does nothing.
#[test]
fn child() {
    if children::case().is_none() {
        return;
    }
    let sandbox = Sandbox::with(16, &Limits::default());
    let program = sandbox.program(WAT);
    let run = |count| {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    (0..count).for_each(|i| cycle(&sandbox.region, &program, i).unwrap())
                });
            }
        });
    };
    run(1000);
    let before = Held::now();
    run(many() / 2);
    before.check_flat();
    assert_eq!(sandbox.region.free_slots(), 16);
}

#[test]
fn slots_are_shared_out_among_threads_whoever_drops_an_instance() {
    let sandbox = Sandbox::with(8, &Limits::default());
    let program = sandbox.program(WAT);
    let (sender, receiver) = std::sync::mpsc::sync_channel::<InstanceHandle>(4);
    thread::scope(|scope| {
        scope.spawn(|| receiver.into_iter().for_each(drop));
        for i in 0..2000 {
            // Those that wait to be dropped are at most six: one there, four on the way, one here.
            let mut instance = sandbox.region.new_instance(&program).unwrap();
            let run = instance.typed_func::<i32, i32>("run").unwrap();
            assert_eq!(run.call(&mut instance, i).unwrap(), i);
            sender.send(instance).unwrap();
        }
        drop(sender);
    });
    assert_eq!(sandbox.region.free_slots(), 8);
}

#[test]
fn a_program_that_is_gone_leaves_nothing_in_its_slots() {
    let mut sandbox = Sandbox::with(4, &Limits::default());
    let held = Arc::new(());
    let of_func = held.clone();
    let func = move |_: &Vmctx<'_>| {
        let _ = &of_func;
    };
    sandbox.linker.func("host", "f", func).unwrap();
    let program = sandbox.program(r#"(module (import "host" "f" (func)) (memory 1))"#);
    let linker = std::mem::replace(&mut sandbox.linker, selvedge::Linker::new(&sandbox.engine));
    drop(linker);
    let other = sandbox.program("(module)");
    let mut instances: Vec<_> = (0..3)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    instances.pop();
    // On another thread's list, too.
    let on_other = instances.pop().unwrap();
    thread::scope(|scope| scope.spawn(|| drop(on_other)).join().unwrap());
    assert_eq!(Arc::strong_count(&held), 2);
    drop(program);
    assert_eq!(Arc::strong_count(&held), 2, "an instance is left");
    drop(instances);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(sandbox.region.free_slots(), 4);
    sandbox.region.new_instance(&other).unwrap();
}

#[test]
fn a_region_that_is_gone_lets_its_address_space_go() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(WAT);
    // More than the address space has room for at a time.
    for i in 0..20 {
        let region = Region::new(&sandbox.engine, 2000, &Limits::default()).unwrap();
        cycle(&region, &program, i).unwrap();
        let instance = region.new_instance(&program).unwrap();
        let kept = (i % 2 == 0).then(|| instance.region().clone());
        drop(region);
        drop(instance);
        if let Some(region) = kept {
            cycle(&region, &program, i).unwrap();
            assert_eq!(region.free_slots(), 2000);
        }
    }
}
