//! Regions: slots are counted, handed out, taken back, and clean for whoever comes next.

use selvedge::{InstanceHandle, Limits, Program, Region, RegionOptions, RuntimeError, Val};
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned, returned_i32};

#[test]
fn a_full_region_says_so_until_an_instance_is_dropped() {
    let sandbox = Sandbox::with(3, &Limits::default());
    let region = &sandbox.region;
    let program = sandbox.program("(module (memory 1))");
    let mut instances: Vec<_> = (0..3)
        .map(|_| region.new_instance(&program).unwrap())
        .collect();
    assert_eq!(
        (region.capacity(), region.used_slots(), region.free_slots()),
        (3, 3, 0)
    );
    for _ in 0..10 {
        let error = region.new_instance(&program).unwrap_err();
        assert_eq!(
            error.to_string(),
            "all 3 slots of the region are in use; drop an instance or make a larger region"
        );
    }
    instances.remove(1);
    assert_eq!(region.free_slots(), 1);
    instances.push(region.new_instance(&program).unwrap());
    assert!(matches!(
        region.new_instance(&program),
        Err(RuntimeError::RegionFull { .. })
    ));
    drop(instances);
    assert_eq!((region.used_slots(), region.free_slots()), (0, 3));
}

#[test]
fn an_instance_keeps_its_region_program_and_engine_alive() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(r#"(module (func (export "f") (result i32) (i32.const 5)))"#);
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    drop((sandbox, program));
    assert_eq!(returned_i32(instance.run("f", &[])), 5);
    assert_eq!(instance.region().used_slots(), 1);
    assert_eq!(instance.region().limits(), &Limits::default());
}

#[test]
fn instances_of_a_region_do_not_see_each_other() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(DIRTY);
    let mut instances: Vec<_> = (0..8)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    for (i, instance) in (0..).zip(&mut instances) {
        returned(instance.run("set", &[Val::I32(i)]));
    }
    for (i, instance) in (0..).zip(&mut instances) {
        assert_eq!(returned_i32(instance.run("get", &[])), i);
        instance.heap_mut().unwrap()[1000] = i as u8;
    }
    for (i, instance) in (0..).zip(&instances) {
        assert_eq!(instance.heap().unwrap()[1000], i);
    }
}

/// A guest with every kind of state, that changes all of it.
const DIRTY: &str = r#"(module
    (memory (export "m") 2 20) (data (i32.const 65530) "across pages") (data $passive "passive")
    (table $t (export "t") 3 8 funcref) (table $h (export "h") 2 funcref) (table $e (export "e") 2 externref)
    (elem $t (i32.const 0) func $f) (elem $passive funcref (ref.func $g))
    (global $n (export "n") (mut i32) (i32.const 42)) (global $x (export "x") (mut f64) (f64.const 1.5))
    (func $f) (func $g)
    (func (export "set") (param i32) (global.set $n (local.get 0)))
    (func (export "get") (result i32) (global.get $n))
    (func (export "init") (memory.init $passive (i32.const 10) (i32.const 0) (i32.const 7))
        (table.init $t $passive (i32.const 2) (i32.const 0) (i32.const 1)))
    (func (export "soil") (param externref)
        (memory.fill (i32.const 0) (i32.const 0xaa) (i32.const 131072))
        (drop (memory.grow (i32.const 10)))
        (memory.fill (i32.const 131072) (i32.const 0xbb) (i32.const 655360))
        (global.set $n (i32.const -1)) (global.set $x (f64.const -1))
        (drop (table.grow $t (ref.func $g) (i32.const 4))) (table.fill $t (i32.const 0) (ref.func $g) (i32.const 7))
        (drop (table.grow $h (ref.func $g) (i32.const 1000))) (table.set $h (i32.const 0) (ref.func $f))
        (table.set $e (i32.const 1) (local.get 0))
        (data.drop $passive) (elem.drop $passive)))"#;

/// Checks an instance of [`DIRTY`] against the module.
fn assert_clean(instance: &mut InstanceHandle) {
    {
        let heap = instance.heap().unwrap();
        assert_eq!(heap.len(), 2 << 16);
        assert_eq!(&heap[65530..65542], b"across pages");
        let others = heap[..65530].iter().chain(&heap[65542..]);
        assert!(others.into_iter().all(|&b| b == 0));
    }
    let globals = ["n", "x"].map(|name| instance.global(name).unwrap());
    assert_eq!(bits(&globals), bits(&[Val::I32(42), Val::F64(1.5)]));
    for (table, len, set) in [("t", 3, Some(0)), ("h", 2, None), ("e", 2, None)] {
        assert_eq!(instance.table_len(table).unwrap(), len);
        for index in 0..len {
            let element = instance.table_get(table, index).unwrap().unwrap();
            let expected = u64::from(set == Some(index));
            assert_eq!(
                bits(&[element])[0].1,
                u128::from(expected),
                "{table} {index}"
            );
        }
    }
    // Passive segments are there again.
    returned(instance.run("init", &[]));
    assert_eq!(&instance.heap().unwrap()[10..17], b"passive");
}

fn soil(instance: &mut InstanceHandle) {
    let object = Val::ExternRef(Some(selvedge::ExternRef::new(5)));
    returned(instance.run("soil", &[object]));
    assert_eq!(instance.heap().unwrap().len(), 12 << 16);
}

#[test]
fn a_slot_is_clean_for_the_same_program() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(DIRTY);
    for _ in 0..20 {
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        assert_clean(&mut instance);
        soil(&mut instance);
    }
}

#[test]
fn a_slot_is_clean_after_a_guest_that_trapped_or_never_ran() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(&DIRTY.replace(
        "(func $f)",
        "(func $f) (func (export \"trap\") (i32.store (i32.const 0) (i32.const -1)) (global.set $n (i32.const 3)) unreachable)",
    ));
    for round in 0..10 {
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        assert_clean(&mut instance);
        drop(instance);
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        if round % 2 == 0 {
            soil(&mut instance);
        }
        fault(instance.run("trap", &[]));
    }
}

/// Programs that leave different things in a slot.
fn programs(sandbox: &Sandbox) -> Vec<Program> {
    let wats = [
        DIRTY.to_owned(),
        // A larger image, more globals.
        format!(
            r#"(module (memory (export "m") 5) (data (i32.const 0) "{}") {})"#,
            "x".repeat(200_000),
            "(global (mut i64) (i64.const -1))".repeat(600)
        ),
        // No memory.
        r#"(module (global (export "g") (mut i32) (i32.const 9)))"#.to_owned(),
        // A memory without an image, of another length.
        r#"(module (memory (export "m") 1))"#.to_owned(),
        // A memory without pages.
        r#"(module (memory (export "m") 0 3))"#.to_owned(),
        // An image in a memory that is not full.
        r#"(module (memory (export "m") 3) (data (i32.const 70000) "y"))"#.to_owned(),
    ];
    wats.iter().map(|wat| sandbox.program(wat)).collect()
}

/// What the host sees of a new instance of each of [`programs`].
fn assert_new(index: usize, instance: &mut InstanceHandle) {
    let zero_but =
        |instance: &InstanceHandle, len: usize, filled: std::ops::Range<usize>, byte: u8| {
            let heap = instance.heap().unwrap();
            assert_eq!(heap.len(), len);
            assert!(heap[filled.clone()].iter().all(|&b| b == byte));
            assert!(
                heap[..filled.start]
                    .iter()
                    .chain(&heap[filled.end..])
                    .all(|&b| b == 0)
            );
        };
    match index {
        0 => assert_clean(instance),
        1 => zero_but(instance, 5 << 16, 0..200_000, b'x'),
        2 => {
            assert!(instance.heap().is_err());
            assert_eq!(instance.global("g").unwrap().i32(), Some(9));
        }
        3 => zero_but(instance, 1 << 16, 0..0, 0),
        4 => assert_eq!(instance.heap().unwrap().len(), 0),
        _ => zero_but(instance, 3 << 16, 70000..70001, b'y'),
    }
}

#[test]
fn a_slot_is_clean_for_any_other_program() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let programs = programs(&sandbox);
    for first in 0..programs.len() {
        for second in 0..programs.len() {
            let mut instance = sandbox.region.new_instance(&programs[first]).unwrap();
            assert_new(first, &mut instance);
            if first == 0 {
                soil(&mut instance);
            } else if let Ok(mut heap) = instance.heap_mut() {
                heap.fill(0xcc);
            }
            if let Ok(old) = instance.grow_memory(1) {
                let page = old as usize * 65536;
                assert!(instance.heap().unwrap()[page..].iter().all(|&b| b == 0));
                instance.heap_mut().unwrap()[page..].fill(0xdd);
            }
            drop(instance);
            assert_new(
                second,
                &mut sandbox.region.new_instance(&programs[second]).unwrap(),
            );
        }
    }
}

#[test]
fn memory_beyond_the_first_pages_is_out_of_reach_again_after_a_guest_that_grew() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(
        r#"(module (memory 1) (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "grow") (result i32) (memory.grow (i32.const 3))))"#,
    );
    for _ in 0..5 {
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        for page in 1..4 {
            fault(instance.run("load", &[Val::I32(page << 16)]));
        }
        returned(instance.run("grow", &[]));
        assert_eq!(returned_i32(instance.run("load", &[Val::I32(3 << 16)])), 0);
        instance.heap_mut().unwrap().fill(1);
    }
}

#[test]
fn an_instance_that_could_not_be_made_leaves_its_slot_clean() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let dirty = sandbox.program(DIRTY);
    let failing = sandbox
        .program(r#"(module (memory 1) (data (i32.const 0) "zzz") (data (i32.const 65536) "b"))"#);
    for _ in 0..5 {
        assert!(sandbox.region.new_instance(&failing).is_err());
        let mut instance = sandbox.region.new_instance(&dirty).unwrap();
        assert_clean(&mut instance);
        soil(&mut instance);
        drop(instance);
        assert!(sandbox.region.new_instance(&failing).is_err());
        assert!(sandbox.region.new_instance(&failing).is_err());
    }
}

#[test]
fn regions_come_and_go() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(DIRTY);
    for slots in [1, 2, 16, 1000] {
        let region = selvedge::Region::new(&sandbox.engine, slots, &Limits::default()).unwrap();
        let mut instance = region.new_instance(&program).unwrap();
        drop(region);
        assert_clean(&mut instance);
    }
}

#[test]
fn memories_are_aligned_as_the_region_was_asked_to() {
    let sandbox = Sandbox::new();
    let module = r#"(module (memory 2) (data (i32.const 131071) "\07")
        (func (export "last") (result i32) (i32.load8_u (i32.const 131071))))"#;
    let program = sandbox.program(module);
    for log in [0, 1, 12, 13, 16, 21, 30] {
        let mut options = RegionOptions::default();
        options.heap_alignment = 1 << log;
        let limits = Limits::default();
        let region = Region::with_options(&sandbox.engine, 3, &limits, &options).unwrap();
        let mut instances: Vec<_> = (0..3)
            .map(|_| region.new_instance(&program).unwrap())
            .collect();
        for instance in &mut instances {
            let mut heap = instance.heap_mut().unwrap();
            assert_eq!(heap.as_ptr().addr() % (1 << log), 0);
            heap[..131_071].fill(1);
            drop(heap);
            assert_eq!(returned_i32(instance.run("last", &[])), 7);
            assert_eq!(instance.grow_memory(1).unwrap(), 2);
        }
    }
    for wrong in [0, 3, 4095, 4097, usize::MAX] {
        let mut options = RegionOptions::default();
        options.heap_alignment = wrong;
        let made = Region::with_options(&sandbox.engine, 1, &Limits::default(), &options);
        assert!(
            matches!(made, Err(RuntimeError::InvalidArgument(_))),
            "{wrong}"
        );
    }
    let mut options = RegionOptions::default();
    options.heap_alignment = 1 << 63;
    let made = Region::with_options(&sandbox.engine, 1, &Limits::default(), &options);
    assert!(matches!(made, Err(RuntimeError::InvalidLimits(_))));
}
