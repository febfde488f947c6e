//! Making, calling and dropping an instance of a program that has run before allocates nothing.

use allocation_counter::{AllocationInfo, measure};
use selvedge::{Limits, Region, RegionOptions, Val};
use selvedge_tests::sandbox::Sandbox;

const PROGRAMS: [(&str, &str); 5] = [
    (
        "no memory",
        r#"(module (func (export "run") (param i32) (result i32) (local.get 0)))"#,
    ),
    (
        "one page",
        r#"(module (memory 1) (data (i32.const 1000) "data")
            (func (export "run") (param i32) (result i32)
                (i32.store (i32.const 5000) (local.get 0)) (i32.load (i32.const 5000))))"#,
    ),
    (
        "a large memory",
        r#"(module (memory 256) (data (i32.const 100000) "data")
            (func (export "run") (param i32) (result i32)
                (memory.fill (i32.const 0) (i32.const 1) (i32.const 20000))
                (i32.store (i32.const 15000000) (local.get 0)) (i32.load (i32.const 15000000))))"#,
    ),
    (
        "tables, globals, segments",
        r#"(module (table $t 10 20 funcref) (table $u 10 funcref) (memory 2)
            (elem $e func $f) (elem (table $t) (i32.const 0) func $f $f) (data $d "passive")
            (global $g (mut i32) (i32.const 5)) (global $r (mut funcref) (ref.func $f))
            (func $f)
            (func (export "run") (param i32) (result i32)
                (table.set $t (i32.const 3) (ref.func $f)) (table.set $u (i32.const 4) (ref.func $f))
                (global.set $r (ref.null func)) (global.set $g (local.get 0))
                (memory.init $d (i32.const 0) (i32.const 0) (i32.const 7)) (data.drop $d) (elem.drop $e)
                (global.get $g)))"#,
    ),
    (
        "a host function",
        r#"(module (import "host" "next" (func $next (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (call $next (local.get 0))))"#,
    ),
];

/// What so many cycles allocate.
fn cycles(region: &Region, program: &selvedge::Program, count: i32) -> AllocationInfo {
    measure(|| {
        for i in 0..count {
            let mut instance = region.new_instance(program).unwrap();
            let run = instance.typed_func::<i32, i32>("run").unwrap();
            assert_eq!(run.call(&mut instance, i).unwrap(), i);
        }
    })
}

#[test]
fn a_program_that_has_run_starts_without_an_allocation() {
    let mut sandbox = Sandbox::new();
    let next = |_: &selvedge::Vmctx<'_>, x: i32| x;
    sandbox.linker.func("host", "next", next).unwrap();
    for options in [RegionOptions::default(), {
        let mut options = RegionOptions::default();
        options.find_written_pages = false;
        options
    }] {
        let limits = Limits::default();
        let region = Region::with_options(&sandbox.engine, 4, &limits, &options).unwrap();
        for (what, wat) in PROGRAMS {
            let program = sandbox.program(wat);
            // The first fills what later ones find: the slot, a stack, what tables begin with.
            assert_ne!(cycles(&region, &program, 2).count_total, 0, "{what}");
            let info = cycles(&region, &program, 1500);
            assert_eq!((info.count_total, info.bytes_total), (0, 0), "{what}");
        }
    }
}

#[test]
fn a_reset_allocates_nothing() {
    let mut sandbox = Sandbox::new();
    let next = |_: &selvedge::Vmctx<'_>, x: i32| x;
    sandbox.linker.func("host", "next", next).unwrap();
    for (what, wat) in PROGRAMS {
        let mut instance = sandbox.instance(wat);
        let run = instance.typed_func::<i32, i32>("run").unwrap();
        let mut cycles = |count| {
            measure(|| {
                for i in 0..count {
                    assert_eq!(run.call(&mut instance, i).unwrap(), i);
                    instance.reset().unwrap();
                }
            })
        };
        cycles(2);
        assert_eq!(cycles(600).count_total, 0, "{what}");
    }
}

#[test]
fn an_idle_instance_holds_little_on_the_heap() {
    const COUNT: usize = 64;
    let mut sandbox = Sandbox::with(COUNT as u32, &Limits::default());
    let next = |_: &selvedge::Vmctx<'_>, x: i32| x;
    sandbox.linker.func("host", "next", next).unwrap();
    // Bytes asked for. Those of tables and globals are the guest's own, kept once more to start from.
    for ((what, wat), most) in PROGRAMS.into_iter().zip([1100, 1220, 1220, 1920, 1100]) {
        let program = sandbox.program(wat);
        let mut instances = Vec::with_capacity(COUNT);
        let info = measure(|| {
            for i in 0..COUNT {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                let run = instance.typed_func::<i32, i32>("run").unwrap();
                assert_eq!(run.call(&mut instance, i as i32).unwrap(), i as i32);
                instances.push(instance);
            }
        });
        let each = info.bytes_current / COUNT as i64;
        assert!(
            each <= most,
            "{what}: {each} bytes for each, {most} at most"
        );
    }
}

#[test]
fn the_counter_counts() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(PROGRAMS[0].1);
    let info = measure(|| drop(instance.run("run", &[Val::I32(1)]).unwrap()));
    assert_ne!(info.count_total, 0);
}
