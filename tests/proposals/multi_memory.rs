//! Several memories in one module: each with its own bytes, limits, guard and place for the host to
//! look at.

use selvedge::{InstanceHandle, Limits, Member, RuntimeError, TrapCode, Val};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

/// Three memories, of which the second may not grow beyond three pages.
const THREE: &str = "(module
    (memory $a (export \"a\") 1)
    (memory $b (export \"b\") 1 3)
    (memory $c (export \"c\") 0)
    (data (memory $a) (i32.const 10) \"aaaa\")
    (data (memory $b) (i32.const 10) \"bbbb\")
    (data $passive \"cccc\")
    (func (export \"load_a\") (param i32) (result i32) (i32.load $a (local.get 0)))
    (func (export \"load_b\") (param i32) (result i32) (i32.load $b (local.get 0)))
    (func (export \"load_c\") (param i32) (result i32) (i32.load $c (local.get 0)))
    (func (export \"load_b_far\") (param i32) (result i32)
        (i32.load $b offset=0xffffffff (local.get 0)))
    (func (export \"store_b\") (param i32 i32) (i32.store $b (local.get 0) (local.get 1)))
    (func (export \"grow_a\") (param i32) (result i32) (memory.grow $a (local.get 0)))
    (func (export \"grow_b\") (param i32) (result i32) (memory.grow $b (local.get 0)))
    (func (export \"grow_c\") (param i32) (result i32) (memory.grow $c (local.get 0)))
    (func (export \"size_b\") (result i32) (memory.size $b))
    (func (export \"init_c\") (param i32)
        (memory.init $c $passive (local.get 0) (i32.const 0) (i32.const 4)))
    (func (export \"copy_a_to_b\") (param i32 i32 i32)
        (memory.copy $b $a (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"fill_b\") (param i32 i32 i32)
        (memory.fill $b (local.get 0) (local.get 1) (local.get 2))))";

fn run(instance: &mut InstanceHandle, name: &str, args: &[i32]) -> i32 {
    let args: Vec<Val> = args.iter().map(|&n| Val::I32(n)).collect();
    returned_i32(instance.run(name, &args))
}

fn done(instance: &mut InstanceHandle, name: &str, args: &[i32]) {
    let args: Vec<Val> = args.iter().map(|&n| Val::I32(n)).collect();
    if let Err(error) = instance.run(name, &args) {
        panic!("{name}: {error}");
    }
}

#[test]
fn memories_are_apart_for_guest_and_host() {
    let mut instance = Sandbox::new().instance(THREE);
    assert_eq!(
        run(&mut instance, "load_a", &[10]),
        i32::from_le_bytes(*b"aaaa")
    );
    assert_eq!(
        run(&mut instance, "load_b", &[10]),
        i32::from_le_bytes(*b"bbbb")
    );
    done(&mut instance, "store_b", &[100, -1]);
    assert_eq!(run(&mut instance, "load_a", &[100]), 0);
    done(&mut instance, "copy_a_to_b", &[200, 8, 8]);
    done(&mut instance, "fill_b", &[300, 7, 3]);
    assert_eq!(run(&mut instance, "grow_c", &[1]), 0);
    done(&mut instance, "init_c", &[65532]);
    assert_eq!(
        run(&mut instance, "load_c", &[65532]),
        i32::from_le_bytes(*b"cccc")
    );

    // Memory 0 is what is meant without a name.
    assert_eq!(instance.heap().unwrap().len(), 65536);
    assert_eq!(instance.memory("a").unwrap()[10..14], *b"aaaa");
    let b = instance.memory("b").unwrap();
    assert_eq!(b[98..106], [0, 0, 255, 255, 255, 255, 0, 0]);
    assert_eq!(b[200..210], *b"\0\0aaaa\0\0\0\0");
    assert_eq!(b[299..304], [0, 7, 7, 7, 0]);
    // Views of one memory keep each other out, not those of another.
    drop(b);
    instance.memory_mut("b").unwrap()[50] = 9;
    assert_eq!(run(&mut instance, "load_b", &[50]), 9);
    assert_eq!(instance.memory("c").unwrap().len(), 65536);
    let error = instance.memory("load_a").unwrap_err();
    assert!(matches!(error, RuntimeError::ExportKind { .. }), "{error}");
    let error = instance.memory("d").unwrap_err();
    assert!(
        matches!(error, RuntimeError::UnknownExport { .. }),
        "{error}"
    );
}

#[test]
fn each_memory_traps_at_its_own_end() {
    let mut instance = Sandbox::new().instance(THREE);
    assert_eq!(run(&mut instance, "grow_a", &[4]), 1);
    assert_eq!(run(&mut instance, "load_a", &[65536 * 5 - 4]), 0);
    assert_eq!(run(&mut instance, "load_b", &[65532]), 0);
    let outside = [
        ("load_a", 65536 * 5),
        ("load_b", 65536),
        ("load_b", 65533),
        ("load_b", -1),
        ("load_b_far", 0),
        ("load_b_far", -1),
        ("load_c", 0),
        ("load_c", i32::MAX),
    ];
    for (name, at) in outside {
        let fault = fault(instance.run(name, &[Val::I32(at)]));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name} {at}");
    }
    for args in [[65533, 0, 4], [0, 65536 * 5 - 3, 4], [65537, 0, 0]] {
        let args = args.map(Val::I32);
        let fault = fault(instance.run("copy_a_to_b", &args));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds);
    }
}

#[test]
fn each_memory_grows_to_its_own_maximum_and_the_limit() {
    let mut limits = Limits::default();
    limits.memory_len = 4 * 65536;
    let mut instance = Sandbox::with(2, &limits).instance(THREE);
    assert_eq!(run(&mut instance, "grow_b", &[3]), -1);
    assert_eq!(run(&mut instance, "grow_b", &[2]), 1);
    assert_eq!(run(&mut instance, "size_b", &[]), 3);
    assert_eq!(run(&mut instance, "grow_c", &[5]), -1);
    assert_eq!(run(&mut instance, "grow_c", &[4]), 0);
    assert_eq!(run(&mut instance, "grow_c", &[1]), -1);
    assert_eq!(run(&mut instance, "grow_c", &[-1]), -1);
    assert_eq!(run(&mut instance, "grow_a", &[3]), 1);

    let sandbox = Sandbox::with(2, &limits);
    let program = sandbox.program("(module (memory 1) (memory 5))");
    let error = sandbox.region.new_instance(&program).unwrap_err();
    assert!(
        matches!(error, RuntimeError::LimitsExceeded { .. }),
        "{error}"
    );
}

#[test]
fn an_instance_begins_anew_in_a_slot_that_was_used() {
    let sandbox = Sandbox::with(1, &Limits::default());
    let program = sandbox.program(THREE);
    for _ in 0..3 {
        let mut instance = sandbox.region.new_instance(&program).unwrap();
        assert_eq!(
            run(&mut instance, "load_b", &[10]),
            i32::from_le_bytes(*b"bbbb")
        );
        assert_eq!(run(&mut instance, "load_b", &[20]), 0);
        done(&mut instance, "fill_b", &[0, 1, 65536]);
        assert_eq!(run(&mut instance, "grow_c", &[2]), 0);
    }
}

/// Links a module that imports twice the same memory, and another, from a module that imports one of
/// them in turn.
#[test]
fn memories_are_imported_and_exported_again_by_index() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance("(module)");
    let mut link = |name: &str, wat: &str| -> Member {
        let member = instance
            .link(&sandbox.linker, &sandbox.module(wat))
            .unwrap();
        instance.set_member_name(name, member).unwrap();
        member
    };
    link("three", THREE);
    link(
        "middle",
        "(module
            (import \"three\" \"c\" (memory 0))
            (import \"three\" \"b\" (memory 1))
            (memory (export \"own\") 2)
            (data (memory 2) (i32.const 0) \"own\")
            (export \"b again\" (memory 1))
            (export \"c again\" (memory 0)))",
    );
    let last = link(
        "last",
        "(module
            (memory $own (import \"middle\" \"own\") 2)
            (memory $b1 (import \"middle\" \"b again\") 1)
            (memory $b2 (import \"three\" \"b\") 1)
            (memory $c (import \"middle\" \"c again\") 0)
            (memory $mine 1)
            (func (export \"copy\") (result i32)
                ;; Over itself through two imports, to where the ranges overlap.
                (memory.copy $b2 $b1 (i32.const 12) (i32.const 10) (i32.const 4))
                (memory.copy $mine $b1 (i32.const 0) (i32.const 12) (i32.const 2))
                (memory.copy $mine $own (i32.const 2) (i32.const 0) (i32.const 2))
                (i32.load $mine (i32.const 0)))
            (func (export \"grow\") (result i32)
                (drop (memory.grow $b1 (i32.const 1)))
                (drop (memory.grow $c (i32.const 9)))
                (i32.store8 $b2 (i32.const 131071) (i32.const 1))
                (i32.add (memory.size $b2) (i32.mul (memory.size $c) (i32.const 100)))))",
    );
    let found = returned_i32(instance.run_member(last, "copy", &[]));
    assert_eq!(found, i32::from_le_bytes(*b"bbow"));
    assert_eq!(returned_i32(instance.run_member(last, "grow", &[])), 902);
}
