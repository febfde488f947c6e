//! Dense slots whose memories begin right behind their contexts, on no page: whatever lies beside a memory, and
//! whoever had the slot before, each guest finds its own and nothing else.

use selvedge::{
    Engine, InstanceHandle, Limits, Linker, Module, Program, Region, RegionOptions, RuntimeError,
    Settings, TrapCode, Val,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{fault, returned_i32};

/// An engine for dense regions, and what a test does with it.
struct Dense {
    engine: Engine,
    linker: Linker,
}

/// A page of memory or more with data at both ends of its first part, some globals and a table in the context.
fn wat(pages: u32, globals: usize, entries: u32) -> String {
    let many = "(global (mut i64) (i64.const 0x1122334455667788)) ".repeat(globals);
    format!(
        r#"(module (memory (export "m") {pages} 200)
            (data (i32.const 0) "at the beginning") (data (i32.const 65520) "at a page's last")
            {many} (global $g (export "g") (mut i32) (i32.const 7)) (table (export "t") {entries} {entries} externref)
            (func (export "fill") (param i32) (memory.fill (i32.const 0) (local.get 0) (i32.shl (memory.size) (i32.const 16))))
            (func (export "set") (param i32) (global.set $g (local.get 0)))
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "load far") (param i32) (result i32) (i32.load offset=0xfffffff0 (local.get 0)))
            (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1))))"#
    )
}

impl Dense {
    fn new() -> Self {
        let engine = Engine::new(&Settings::default().with_dense_regions(true)).unwrap();
        let linker = Linker::new(&engine);
        Self { engine, linker }
    }

    fn program(&self, wat: &str) -> Program {
        let module = self.engine.compile(wat.as_bytes()).unwrap();
        self.linker.program(&module).unwrap()
    }

    fn region(&self, slots: u32, limits: &Limits, options: &RegionOptions) -> Region {
        let mut options = *options;
        options.dense = true;
        Region::with_options(&self.engine, slots, limits, &options).unwrap()
    }
}

fn limits(memory_len: u64, context_len: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.memory_len, limits.context_len) = (memory_len, context_len);
    limits
}

/// What a memory of these programs begins with.
fn fresh(pages: usize) -> Vec<u8> {
    let mut bytes = vec![0; pages << 16];
    bytes[..16].copy_from_slice(b"at the beginning");
    bytes[65520..65536].copy_from_slice(b"at a page's last");
    bytes
}

fn check_fresh(instance: &InstanceHandle, pages: usize, why: &str) {
    let heap = instance.heap().unwrap();
    let fresh = fresh(pages);
    let differs = heap.iter().zip(&fresh).position(|(is, ought)| is != ought);
    assert!(
        heap.len() == fresh.len() && differs.is_none(),
        "{why}: {differs:?}"
    );
    assert!(
        matches!(instance.global("g").unwrap(), Val::I32(7)),
        "{why}"
    );
    for at in 0..instance.table_len("t").unwrap() {
        let element = instance.table_get("t", at).unwrap();
        assert!(matches!(element, Some(Val::ExternRef(None))), "{why}");
    }
}

fn run(instance: &mut InstanceHandle, name: &str, args: &[i32]) -> Result<i32, RuntimeError> {
    let args: Vec<_> = args.iter().map(|&arg| Val::I32(arg)).collect();
    let values = instance.run(name, &args)?.unwrap_returned().into_values();
    Ok(match values[..] {
        [Val::I32(value)] => value,
        _ => 0,
    })
}

#[test]
fn a_memory_begins_right_behind_its_context_or_where_it_is_asked_to() {
    let dense = Dense::new();
    let program = dense.program(&wat(2, 3, 5));
    for (asked, least) in [
        (1, 64),
        (64, 64),
        (256, 256),
        (2048, 2048),
        (4096, 4096),
        (1 << 16, 1 << 16),
    ] {
        let mut options = RegionOptions::default();
        options.heap_alignment = asked;
        let region = dense.region(3, &limits(200 << 16, 9000), &options);
        let instances: Vec<_> = (0..3)
            .map(|_| region.new_instance(&program).unwrap())
            .collect();
        for instance in &instances {
            let addr = instance.heap().unwrap().as_ptr().addr();
            assert!(addr.is_multiple_of(least), "{asked}: {addr:#x}");
            assert_eq!(
                addr.is_multiple_of(4096),
                least >= 4096,
                "{asked}: {addr:#x}"
            );
            check_fresh(instance, 2, "a new one");
        }
    }
}

#[test]
fn what_is_outside_of_a_memory_traps_on_both_sides() {
    let dense = Dense::new();
    let mut program = dense.program("(module)");
    let region = dense.region(3, &limits(4 << 16, 2000), &RegionOptions::default());
    for wat in [wat(1, 0, 0), wat(1, 20, 30)] {
        program = dense.program(&wat);
        let mut instances: Vec<_> = (0..3)
            .map(|_| region.new_instance(&program).unwrap())
            .collect();
        let instance = &mut instances[1];
        assert_eq!(
            run(instance, "load", &[65532]).unwrap(),
            i32::from_le_bytes(*b"last")
        );
        for at in [65533, 65536, 65600, 70_000, -1, -4, -64, i32::MIN, 1 << 20] {
            assert_eq!(
                fault(instance.run("load", &[Val::I32(at)])).code,
                TrapCode::HeapOutOfBounds
            );
            assert_eq!(
                fault(instance.run("load far", &[Val::I32(at)])).code,
                TrapCode::HeapOutOfBounds
            );
            let args = [Val::I32(at), Val::I32(-1)];
            assert_eq!(
                fault(instance.run("store", &args)).code,
                TrapCode::HeapOutOfBounds
            );
        }
        for instance in &instances {
            check_fresh(instance, 1, "nobody wrote");
        }
    }
    drop(program);
}

#[test]
fn slots_that_share_pages_keep_what_is_theirs() {
    const COUNT: usize = 100;
    let dense = Dense::new();
    let region = dense.region(COUNT as u32, &limits(0, 512), &RegionOptions::default());
    let program = |first: i32| {
        dense.program(&format!(
            r#"(module (global $g (export "g") (mut i32) (i32.const {first})) (global $v (mut v128) (v128.const i64x2 5 6))
                (table (export "t") 3 4 externref)
                (func (export "add") (param i32) (result i32) (global.set $g (i32.add (global.get $g) (local.get 0)))
                    (global.set $v (i64x2.add (global.get $v) (v128.const i64x2 1 1)))
                    (i32.add (global.get $g) (i32.wrap_i64 (i64x2.extract_lane 1 (global.get $v))))))"#
        ))
    };
    let programs = [program(1000), program(5)];
    let firsts = [1000, 5];
    let mut instances: Vec<Option<(InstanceHandle, usize, i32)>> =
        (0..COUNT).map(|_| None).collect();
    let mut random = Random::new(77);
    for _ in 0..2000 {
        let at = random.below(COUNT);
        let Some((instance, which, calls)) = &mut instances[at] else {
            let which = random.below(2);
            let instance = region.new_instance(&programs[which]).unwrap();
            instances[at] = Some((instance, which, 0));
            continue;
        };
        if random.below(4) == 0 {
            instances[at] = None;
            continue;
        }
        *calls += 1;
        let expected = firsts[*which] + *calls * 3 + 6 + *calls;
        assert_eq!(returned_i32(instance.run("add", &[Val::I32(3)])), expected);
        assert_eq!(instance.table_len("t").unwrap(), 3);
        if random.below(8) == 0 {
            instance.reset().unwrap();
            *calls = 0;
        }
    }
    let too_many = r#"(module (table 100 100 funcref))"#;
    let error = region.new_instance(&dense.program(too_many)).unwrap_err();
    assert!(
        matches!(error, RuntimeError::LimitsExceeded { .. }),
        "{error}"
    );
    let memory = region
        .new_instance(&dense.program("(module (memory 1))"))
        .unwrap_err();
    assert!(
        matches!(memory, RuntimeError::LimitsExceeded { .. }),
        "{memory}"
    );
}

#[test]
fn the_next_program_finds_nothing_though_its_memory_begins_elsewhere() {
    let dense = Dense::new();
    let shapes = [
        (1, 0, 0),
        (1, 4, 3),
        (3, 40, 0),
        (1, 300, 9),
        (80, 0, 500),
        (80, 7, 1),
    ];
    let programs =
        shapes.map(|(pages, globals, entries)| dense.program(&wat(pages, globals, entries)));
    for (seed, (keep, finds)) in (0..).zip([
        (2 << 20, true),
        (0, true),
        (5000, true),
        (40_000, true),
        (2 << 20, false),
    ]) {
        let mut options = RegionOptions::default();
        (options.keep_resident_len, options.find_written_pages) = (keep, finds);
        let region = dense.region(2, &limits(200 << 16, 12_000), &options);
        let mut random = Random::new(seed);
        let mut neighbour = region.new_instance(&programs[1]).unwrap();
        run(&mut neighbour, "fill", &[0x77]).unwrap();
        run(&mut neighbour, "set", &[0x7777]).unwrap();
        for round in 0..150 {
            let which = random.below(shapes.len());
            let pages = shapes[which].0 as usize;
            let why = format!("keep {keep}, finds {finds}, round {round}, program {which}");
            let mut instance = region.new_instance(&programs[which]).unwrap();
            check_fresh(&instance, pages, &why);
            for _ in 0..random.below(4) {
                match random.below(5) {
                    0 => drop(run(&mut instance, "fill", &[0xaa])),
                    1 => drop(run(&mut instance, "grow", &[random.below(4) as i32])),
                    2 => {
                        let mut heap = instance.heap_mut().unwrap();
                        let len = heap.len();
                        (0..50).for_each(|_| heap[random.below(len)] = 0x55);
                        (heap[0], heap[len - 1]) = (1, 1);
                    }
                    3 => drop(run(&mut instance, "set", &[-1])),
                    _ => {
                        instance.reset().unwrap();
                        check_fresh(&instance, pages, &why);
                    }
                }
            }
        }
        let heap = neighbour.heap().unwrap();
        assert!(
            heap.iter().all(|&byte| byte == 0x77),
            "the neighbour's memory"
        );
        drop(heap);
        assert!(matches!(neighbour.global("g").unwrap(), Val::I32(0x7777)));
    }
}

#[test]
fn what_a_memory_grew_by_is_zero_again() {
    let dense = Dense::new();
    let program = dense.program(&wat(1, 5, 2));
    let region = dense.region(1, &limits(200 << 16, 1024), &RegionOptions::default());
    for _ in 0..3 {
        let mut instance = region.new_instance(&program).unwrap();
        for pages in [2, 30, 1] {
            assert_eq!(run(&mut instance, "grow", &[pages]).unwrap(), 1);
            let len = (1 + pages as usize) << 16;
            assert!(
                instance.heap().unwrap()[65537..len]
                    .iter()
                    .all(|&byte| byte == 0)
            );
            run(&mut instance, "fill", &[0xff]).unwrap();
            instance.reset().unwrap();
            check_fresh(&instance, 1, "reset");
        }
        // All that the region has room for.
        assert_eq!(run(&mut instance, "grow", &[199]).unwrap(), 1);
        run(&mut instance, "fill", &[0xff]).unwrap();
        assert_eq!(run(&mut instance, "grow", &[1]).unwrap(), -1);
    }
}

#[test]
fn forks_and_snapshots_begin_where_their_origin_stood() {
    let dense = Dense::new();
    let region = dense.region(4, &limits(200 << 16, 12_000), &RegionOptions::default());
    for (pages, globals) in [(1, 3), (40, 200)] {
        let program = dense.program(&wat(pages, globals, 4));
        let mut instance = region.new_instance(&program).unwrap();
        run(&mut instance, "grow", &[2]).unwrap();
        let len = (pages as i32 + 2) << 16;
        for (at, value) in [(4, 11), (4000, 12), (70_000, 13), (len - 4, 14)] {
            run(&mut instance, "store", &[at, value]).unwrap();
        }
        run(&mut instance, "set", &[99]).unwrap();
        let fork = instance.fork().unwrap();
        let snapshot = instance.snapshot().unwrap();
        let from_snapshot = region.new_instance(&snapshot).unwrap();
        let artifact =
            Module::from_compiled(&dense.engine, snapshot.to_artifact(&[]).unwrap()).unwrap();
        let loaded = dense.linker.program(&artifact).unwrap();
        let loaded = region.new_instance(&loaded).unwrap();
        for mut copy in [fork, from_snapshot, loaded] {
            assert!(*copy.heap().unwrap() == *instance.heap().unwrap());
            assert!(matches!(copy.global("g").unwrap(), Val::I32(99)));
            run(&mut copy, "fill", &[1]).unwrap();
        }
        assert_eq!(run(&mut instance, "load", &[len - 4]).unwrap(), 14);
    }
}

#[test]
fn code_for_dense_regions_runs_nowhere_else() {
    let dense = Dense::new();
    let error = Region::new(&dense.engine, 1, &Limits::default()).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidLimits(_)), "{error}");
    let region = dense.region(1, &Limits::default(), &RegionOptions::default());
    let instance = region.new_instance(&dense.program("(module)")).unwrap();
    let snapshot = instance.snapshot().unwrap();
    for settings in [
        Settings::default(),
        Settings::default().with_explicit_bounds(true),
    ] {
        let other = Engine::new(&settings).unwrap();
        let artifact = snapshot.to_artifact(&[]).unwrap();
        let error = Module::from_compiled(&other, artifact).unwrap_err();
        assert!(matches!(error, RuntimeError::Artifact(_)), "{error}");
    }
}
