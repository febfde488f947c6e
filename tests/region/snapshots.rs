//! Snapshots and forks: the state of an idle instance as what others begin with.

use std::thread;

use selvedge::{
    Engine, ExternRef, Flow, InstanceHandle, Limits, Linker, Module, Program, Region,
    RegionOptions, RuntimeError, Settings, Val, Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

/// A guest with every kind of state; `step` changes all of it, `sum` depends on all of it.
const WAT: &str = r#"(module
    (import "host" "seven" (func $seven (result i32)))
    (type $n (func (result i32)))
    (memory (export "m") PAGES 400) (data (i32.const 100) "abc") (data $passive "\05")
    (table $t (export "t") 4 30 funcref) (table $u (export "u") 2 funcref) (table (export "e") 1 externref)
    (elem (table $t) (i32.const 0) func $one) (elem $spare func $two) (elem declare func $seven)
    (global $g (export "g") (mut i32) (i32.const 1)) (global $v (mut v128) (v128.const i64x2 1 2))
    (global $f (export "f") (mut funcref) (ref.null func)) (global $h (mut funcref) (ref.null func))
    (global (export "x") (mut externref) (ref.null extern))
    (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
    (func $start (i32.store (i32.const 4) (i32.add (i32.load (i32.const 4)) (i32.const 1000))))
    (start $start)
    (func (export "step")
        (global.set $g (i32.mul (global.get $g) (i32.const 3)))
        (global.set $v (i32x4.splat (global.get $g)))
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (global.get $g)))
        (i32.store (i32.const 60000) (global.get $g))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then
            (i32.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)) (global.get $g))))
        (drop (table.grow $t (ref.func $two) (i32.const 1))) (table.set $t (i32.const 1) (ref.func $seven))
        (drop (table.grow $u (ref.func $seven) (i32.const 40))) (table.set $u (i32.const 0) (ref.func $one))
        (global.set $f (ref.func $two)) (global.set $h (ref.func $seven))
        (table.init $t $spare (i32.const 2) (i32.const 0) (i32.const 1)))
    (func (export "drop") (elem.drop $spare) (data.drop $passive))
    (func (export "spare") (memory.init $passive (i32.const 8) (i32.const 0) (i32.const 1)))
    (func (export "sum") (result i32) (local $i i32) (local $sum i32)
        (local.set $sum (i32.add (global.get $g) (i32x4.extract_lane 3 (global.get $v))))
        (local.set $sum (i32.add (local.get $sum) (i32.mul (memory.size) (i32.const 7))))
        (local.set $sum (i32.add (local.get $sum) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))))
        (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 100))))
        (local.set $sum (i32.add (local.get $sum)
            (i32.load (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)))))
        (loop $next
            (if (i32.eqz (ref.is_null (table.get $t (local.get $i)))) (then
                (local.set $sum (i32.add (i32.mul (local.get $sum) (i32.const 31))
                    (call_indirect $t (type $n) (local.get $i))))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $i) (table.size $t))))
        (local.set $sum (i32.add (local.get $sum) (i32.mul (table.size $u) (i32.const 100))))
        (if (i32.eqz (ref.is_null (global.get $h))) (then
            (table.set $t (i32.const 0) (global.get $h))
            (local.set $sum (i32.mul (local.get $sum) (call_indirect $t (type $n) (i32.const 0))))
            (table.set $t (i32.const 0) (ref.func $one))))
        (local.get $sum)))"#;

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::with(16, &Limits::default());
    sandbox
        .linker
        .func("host", "seven", |_: &Vmctx<'_>| 7)
        .unwrap();
    sandbox
}

fn sum(instance: &mut InstanceHandle) -> i32 {
    returned_i32(instance.run("sum", &[]))
}

fn begun(sandbox: &Sandbox, pages: u32, steps: usize) -> InstanceHandle {
    let program = sandbox.program(&WAT.replace("PAGES", &pages.to_string()));
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    instance.run_start().unwrap();
    for _ in 0..steps {
        returned(instance.run("step", &[]));
    }
    instance
}

#[test]
fn what_comes_out_of_a_snapshot_goes_on_where_it_was_taken() {
    let sandbox = sandbox();
    for (pages, steps) in [(1, 0), (1, 1), (3, 4), (40, 2)] {
        let mut original = begun(&sandbox, pages, steps);
        let snapshot = original.snapshot().unwrap();
        let at_snapshot = sum(&mut original);
        returned(original.run("step", &[]));
        let one_further = sum(&mut original);
        assert_ne!(at_snapshot, one_further);
        // In new slots and in used ones, on this thread and on another.
        for round in 0..4 {
            let mut copy = sandbox.region.new_instance(&snapshot).unwrap();
            assert!(copy.is_ready(), "the start function has run");
            assert_eq!(sum(&mut copy), at_snapshot, "{pages} {steps} {round}");
            returned(copy.run("step", &[]));
            assert_eq!(sum(&mut copy), one_further);
            copy.heap_mut().unwrap().fill(0x99);
            copy.reset().unwrap();
            assert_eq!(sum(&mut copy), at_snapshot);
            returned(copy.run("step", &[]));
            thread::scope(|scope| scope.spawn(|| drop(copy)).join().unwrap());
        }
        assert_eq!(sum(&mut original), one_further);
        drop(original);
        let again = sandbox
            .region
            .new_instance(&snapshot)
            .unwrap()
            .snapshot()
            .unwrap();
        assert_eq!(
            sum(&mut sandbox.region.new_instance(&again).unwrap()),
            at_snapshot
        );
    }
}

/// A snapshot as another process would get it: through the bytes of its artifact, into an engine of its own.
fn through_bytes(snapshot: &Program, notes: &[(&str, &str)]) -> (Sandbox, Program) {
    let other = sandbox();
    let artifact = snapshot.to_artifact(notes).unwrap();
    let module = Module::from_compiled(&other.engine, artifact).unwrap();
    assert!(module.is_snapshot() && !module.has_start());
    assert!(module.notes().eq(notes.iter().copied()));
    let program = other.linker.program(&module).unwrap();
    (other, program)
}

#[test]
fn an_artifact_of_a_snapshot_begins_with_its_state() {
    let sandbox = sandbox();
    for (pages, steps) in [(1, 0), (1, 3), (40, 2)] {
        let mut original = begun(&sandbox, pages, steps);
        let snapshot = original.snapshot().unwrap();
        let heap = original.heap().unwrap().to_vec();
        let at_snapshot = sum(&mut original);
        let notes = [("a", "1"), ("b", ""), ("a", "2")];
        let (other, program) = through_bytes(&snapshot, &notes);
        for _ in 0..3 {
            let mut copy = other.region.new_instance(&program).unwrap();
            assert!(copy.is_ready(), "the start function has run");
            assert_eq!(&copy.heap().unwrap()[..], &heap[..]);
            assert_eq!(sum(&mut copy), at_snapshot, "{pages} {steps}");
            copy.heap_mut().unwrap().fill(3);
            copy.reset().unwrap();
            assert_eq!(&copy.heap().unwrap()[..], &heap[..]);
            let mut fork = copy.fork().unwrap();
            assert_eq!(sum(&mut fork), at_snapshot);
        }
        // A step further, and as an artifact again.
        let mut copy = other.region.new_instance(&program).unwrap();
        for instance in [&mut copy, &mut original] {
            returned(instance.run("step", &[]));
        }
        let (third, program) = through_bytes(&copy.snapshot().unwrap(), &[]);
        let mut last = third.region.new_instance(&program).unwrap();
        assert_eq!(sum(&mut last), sum(&mut original));
        // Segments that were dropped stay so.
        returned(last.run("spare", &[]));
        returned(last.run("drop", &[]));
        let (fourth, program) = through_bytes(&last.snapshot().unwrap(), &[]);
        let mut last = fourth.region.new_instance(&program).unwrap();
        for _ in 0..2 {
            assert!(last.run("spare", &[]).is_err());
            last.reset().unwrap();
        }
    }
}

#[test]
fn artifacts_of_snapshots_keep_names_traps_and_limits() {
    let sandbox = Sandbox::new();
    let traps = r#"(module $named (memory 1)
        (func $inner (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
        (func (export "init") (drop (memory.grow (i32.const 2))))
        (func $outer (export "run") (result i32) (call $inner (i32.const 0))))"#;
    let mut original = sandbox.instance(traps);
    returned(original.run("init", &[]));
    let expected = fault(original.run("run", &[]));
    original.reset().unwrap();
    returned(original.run("init", &[]));
    let snapshot = original.snapshot().unwrap();
    let artifact = snapshot.to_artifact(&[]).unwrap();
    let module = Module::from_compiled(&sandbox.engine, artifact.clone()).unwrap();
    assert_eq!(module.name(), Some("named"));
    let program = sandbox.linker.program(&module).unwrap();
    let mut copy = sandbox.region.new_instance(&program).unwrap();
    assert_eq!(copy.heap().unwrap().len(), 3 << 16);
    let found = fault(copy.run("run", &[]));
    assert_eq!(found.code, expected.code);
    assert_eq!(found.backtrace.to_string(), expected.backtrace.to_string());
    // It is an instance of its own, and no module for others.
    let error = sandbox
        .instance("(module)")
        .link(&sandbox.linker, &module)
        .unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
    // An engine of other settings refuses it as any artifact.
    let settings = Settings::default().with_explicit_bounds(true);
    let other = Engine::new(&settings).unwrap();
    let error = Module::from_compiled(&other, artifact).unwrap_err();
    assert!(matches!(error, RuntimeError::Artifact(_)), "{error}");
    // What is no snapshot has the compiler's artifact.
    let error = sandbox.program("(module)").to_artifact(&[]).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
}

#[test]
fn an_artifact_begins_in_dense_slots_too() {
    let settings = Settings::default().with_explicit_bounds(true);
    let engine = Engine::new(&settings).unwrap();
    let mut options = RegionOptions::default();
    options.dense = true;
    let mut limits = Limits::default();
    limits.memory_len = 1 << 20;
    let region = Region::with_options(&engine, 4, &limits, &options).unwrap();
    let module = engine
        .compile(
            br#"(module (memory 1 8) (func (export "init")
                (drop (memory.grow (i32.const 3))) (i32.store (i32.const 200000) (i32.const 77)))
            (func (export "read") (result i32) (i32.load (i32.const 200000))))"#,
        )
        .unwrap();
    let linker = Linker::new(&engine);
    let mut instance = region
        .new_instance(&linker.program(&module).unwrap())
        .unwrap();
    returned(instance.run("init", &[]));
    let artifact = instance.snapshot().unwrap().to_artifact(&[]).unwrap();
    let module = Module::from_compiled(&engine, artifact).unwrap();
    let program = linker.program(&module).unwrap();
    for _ in 0..5 {
        let mut copy = region.new_instance(&program).unwrap();
        assert_eq!(returned_i32(copy.run("read", &[])), 77);
        copy.heap_mut().unwrap().fill(1);
    }
}

#[test]
fn segments_that_were_dropped_stay_so() {
    let sandbox = sandbox();
    let mut original = begun(&sandbox, 1, 1);
    let before = original.snapshot().unwrap();
    returned(original.run("drop", &[]));
    let after = original.snapshot().unwrap();
    for _ in 0..2 {
        let mut copy = sandbox.region.new_instance(&before).unwrap();
        returned(copy.run("spare", &[]));
        returned(copy.run("drop", &[]));
        copy.reset().unwrap();
        returned(copy.run("spare", &[]));
        let mut copy = sandbox.region.new_instance(&after).unwrap();
        assert!(copy.run("spare", &[]).is_err());
        copy.reset().unwrap();
        assert!(copy.run("spare", &[]).is_err());
    }
}

#[test]
fn a_snapshot_outlives_its_instance_and_its_region_and_fits_others() {
    let sandbox = sandbox();
    let mut original = begun(&sandbox, 2, 2);
    let (expected, snapshot) = (sum(&mut original), original.snapshot().unwrap());
    drop(original);
    let other = Region::new(&sandbox.engine, 1, &Limits::default()).unwrap();
    drop(sandbox.region);
    assert_eq!(sum(&mut other.new_instance(&snapshot).unwrap()), expected);
    // What the limits don't give is refused, though the module alone would fit.
    for (memory_len, total, elements) in [
        (3 << 16, 32 << 30, 1000),
        (4 << 30, 1 << 18, 1000),
        (4 << 30, 32 << 30, 50),
    ] {
        let mut limits = Limits::default();
        (
            limits.memory_len,
            limits.total_memory_len,
            limits.table_elements,
        ) = (memory_len, total, elements);
        let small = Region::new(&sandbox.engine, 1, &limits).unwrap();
        let error = small.new_instance(&snapshot).unwrap_err();
        assert!(
            matches!(error, RuntimeError::LimitsExceeded { .. }),
            "{error}"
        );
        assert_eq!(small.free_slots(), 1);
    }
}

#[test]
fn a_fork_begins_with_the_state_and_neither_sees_the_other() {
    let sandbox = sandbox();
    for (pages, steps) in [(1, 0), (1, 3), (40, 2)] {
        for round in 0..3 {
            let mut original = begun(&sandbox, pages, steps);
            original.heap_mut().unwrap()[5000] = 9;
            let expected = sum(&mut original);
            let mut fork = original.fork().unwrap();
            assert!(fork.is_ready());
            assert_eq!(&fork.heap().unwrap()[..], &original.heap().unwrap()[..]);
            assert_eq!(sum(&mut fork), expected);
            returned(fork.run("step", &[]));
            fork.heap_mut().unwrap()[5000] = 1;
            assert_eq!(original.heap().unwrap()[5000], 9);
            assert_eq!(sum(&mut original), expected, "{pages} {steps} {round}");
            returned(original.run("step", &[]));
            assert_eq!(sum(&mut original), sum(&mut fork));
            // Forks of forks whose program is gone, and of instances of snapshots, which are reset to those.
            let snapshot = fork.snapshot().unwrap();
            let mut from = sandbox.region.new_instance(&snapshot).unwrap();
            let at_snapshot = sum(&mut from);
            assert_eq!(sum(&mut fork.fork().unwrap().fork().unwrap()), at_snapshot);
            returned(from.run("step", &[]));
            let mut last = from.fork().unwrap().fork().unwrap();
            assert_eq!(&last.heap().unwrap()[..], &from.heap().unwrap()[..]);
            assert_eq!(sum(&mut last), sum(&mut from));
            last.reset().unwrap();
            assert_eq!(sum(&mut last), at_snapshot);
            drop(snapshot);
            let error = from.fork().unwrap_err();
            assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
        }
    }
    assert_eq!(sandbox.region.free_slots(), 16);
}

#[test]
fn a_fork_works_without_the_systems_help_and_in_a_full_region_is_an_error() {
    let sandbox = sandbox();
    let mut options = RegionOptions::default();
    options.find_written_pages = false;
    let region = Region::with_options(&sandbox.engine, 2, &Limits::default(), &options).unwrap();
    let program = sandbox.program(&WAT.replace("PAGES", "20"));
    let mut original = region.new_instance(&program).unwrap();
    original.run_start().unwrap();
    returned(original.run("step", &[]));
    let mut fork = original.fork().unwrap();
    assert_eq!(sum(&mut fork), sum(&mut original));
    assert!(matches!(
        original.fork(),
        Err(RuntimeError::RegionFull { .. })
    ));
}

#[test]
fn what_a_snapshot_can_not_hold_is_refused() {
    let mut sandbox = sandbox();
    let linker: &mut Linker = &mut sandbox.linker;
    let wait = |_: &Vmctx<'_>| Flow::<()>::Yield(Yield::returning(()));
    linker.func("host", "wait", wait).unwrap();
    let refused = |instance: &InstanceHandle| {
        let errors = [instance.snapshot().map(drop), instance.fork().map(drop)];
        errors.map(|error| match error {
            Ok(()) => panic!("it is not refused"),
            Err(RuntimeError::InvalidArgument(why)) => why,
            Err(error) => panic!("{error}"),
        })
    };
    let program = sandbox.program(&WAT.replace("PAGES", "1"));
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    refused(&instance);
    instance.run_start().unwrap();
    // Objects of the host, in a global and in a table.
    let object = || Val::ExternRef(Some(ExternRef::new(1)));
    instance.set_global("x", &object()).unwrap();
    refused(&instance);
    instance.set_global("x", &Val::ExternRef(None)).unwrap();
    instance.table_set("e", 0, &object()).unwrap();
    refused(&instance);
    instance.table_set("e", 0, &Val::ExternRef(None)).unwrap();
    // Contexts are of the embedder, and a fork gets none.
    instance.insert_embed_ctx(5u8);
    assert!(instance.snapshot().is_err());
    assert!(!instance.fork().unwrap().contains_embed_ctx::<u8>());
    instance.remove_embed_ctx::<u8>();
    instance.snapshot().unwrap();
    instance
        .link(&sandbox.linker, &sandbox.module("(module)"))
        .unwrap();
    refused(&instance);
    // A guest that waits, one that trapped, and memories outside the slot.
    let wait = r#"(module (import "host" "wait" (func $w)) (func (export "run") (call $w)))"#;
    let mut waits = sandbox.instance(wait);
    waits.run("run", &[]).unwrap();
    refused(&waits);
    let mut traps = sandbox.instance(r#"(module (func (export "run") unreachable))"#);
    traps.run("run", &[]).unwrap_err();
    refused(&traps);
    for memories in [
        "(memory 1) (memory 1)",
        "(memory i64 1)",
        "(memory 1 2 shared)",
    ] {
        refused(&sandbox.instance(&format!("(module {memories})")));
    }
    sandbox.instance("(module)").snapshot().unwrap();
}
