//! X-pool: whatever a guest and its host did to an instance, the next one in its slot is byte for byte like the
//! first one in a slot that nobody has used.

use std::thread;

use selvedge::{
    Engine, Flow, HostError, InstanceHandle, Limits, Linker, Member, Region, RegionOptions,
    RunResult, Settings, Val, Vmctx, Yield,
};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::Sandbox;

/// A guest with every kind of state, and functions that change it. `PAGES` is its memory.
const WAT: &str = r#"(module
    (import "host" "wait" (func $wait)) (import "host" "end" (func $end)) (import "host" "panic" (func $panic))
    (type $n (func (result i32)))
    (memory (export "m") PAGES 600) (data (i32.const 1000) "some words") (data (i32.const 8190) "over pages")
    (data $passive "passive")
    (table $t (export "t") 6 20 funcref) (table $h (export "h") 3 funcref) (table $e (export "e") 4 externref)
    (elem (table $t) (i32.const 1) func $one $two $wait) (elem (table $h) (i32.const 0) func $two)
    (elem $spare funcref (ref.func $one) (ref.func $end))
    (global (export "g0") (mut i32) (i32.const 42)) (global (export "g1") (mut f64) (f64.const 1.5))
    (global (export "g2") (mut v128) (v128.const i64x2 7 9)) (global $x (export "g3") (mut externref) (ref.null extern))
    (global $f (export "g4") (mut funcref) (ref.func $two))
    (func $one (type $n) (i32.const 1)) (func $two (type $n) (i32.const 2))
    (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (drop (memory.grow (local.get 0))))
    (func (export "globals") (param i32 externref)
        (global.set 0 (local.get 0)) (global.set 1 (f64.convert_i32_s (local.get 0)))
        (global.set 2 (i32x4.splat (local.get 0))) (global.set $x (local.get 1)) (global.set $f (ref.func $one)))
    (func (export "tables") (param i32 externref)
        (drop (table.grow $t (ref.func $one) (i32.const 3))) (table.fill $t (i32.const 0) (ref.func $two) (local.get 0))
        (drop (table.grow $h (ref.func $end) (i32.const 2000))) (table.set $h (i32.const 1) (ref.func $end))
        (drop (table.grow $e (local.get 1) (local.get 0))) (table.set $e (i32.const 2) (local.get 1)))
    (func (export "segments")
        (table.init $t $spare (i32.const 0) (i32.const 0) (i32.const 2)) (memory.init $passive (i32.const 3) (i32.const 0) (i32.const 7))
        (data.drop $passive) (elem.drop $spare))
    (func $deep (export "deep") (param i32) (result i32)
        (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
            (else (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))))
    (func (export "trap") (i32.store (i32.const 4) (i32.const -1)) unreachable)
    (func (export "forever") (call $wait) (i32.store (i32.const 8) (i32.const 1)))
    (func (export "stop") (i32.store (i32.const 12) (i32.const -1)) (call $end))
    (func (export "panics") (global.set 0 (i32.const 5)) (call $panic))
    (func (export "init") (memory.init $passive (i32.const 20) (i32.const 0) (i32.const 7))
        (table.init $t $spare (i32.const 4) (i32.const 0) (i32.const 1)))
    (func (export "call") (param i32) (result i32) (call_indirect $t (type $n) (local.get 0))))"#;

/// A module that is linked to the guest and writes to what it imports.
const LINKED: &str = r#"(module (import "main" "m" (memory 1)) (import "main" "t" (table 1 funcref))
    (import "main" "g0" (global $g (mut i32))) (func $f (result i32) (i32.const 99))
    (memory 2) (data (memory 1) (i32.const 0) "its own")
    (data (i32.const 500) "from the other module") (elem (table 0) (i32.const 0) func $f)
    (func (export "set") (global.set $g (i32.const 1000))))"#;

fn sandbox(settings: &Settings) -> Sandbox {
    let mut sandbox = Sandbox::new();
    if *settings != Settings::default() {
        sandbox.engine = Engine::new(settings).unwrap();
        sandbox.linker = Linker::new(&sandbox.engine);
    }
    let linker: &mut Linker = &mut sandbox.linker;
    linker
        .func("host", "wait", |_: &Vmctx<'_>| {
            Flow::<()>::Yield(Yield::returning(()))
        })
        .unwrap();
    linker
        .func("host", "end", |_: &Vmctx<'_>| {
            Err::<(), _>(HostError::terminate("enough"))
        })
        .unwrap();
    linker
        .func("host", "panic", |_: &Vmctx<'_>| -> () {
            panic!("as the test wants")
        })
        .unwrap();
    sandbox
}

/// All that can be seen of an instance, for comparison.
#[derive(PartialEq)]
struct Seen {
    heap: Vec<u8>,
    globals: Vec<String>,
    tables: Vec<Vec<bool>>,
    calls: Vec<Option<i32>>,
    spare: Vec<u8>,
    state: [bool; 4],
}

fn see(instance: &mut InstanceHandle) -> Seen {
    let state = [
        instance.is_ready(),
        instance.is_yielded(),
        instance.is_faulted(),
        instance.contains_embed_ctx::<u64>(),
    ];
    let heap = instance.heap().unwrap().to_vec();
    let globals = (0..5).map(|i| match instance.global(&format!("g{i}")).unwrap() {
        Val::FuncRef(func) => format!("{}", func.is_some()),
        Val::ExternRef(object) => format!("{}", object.is_some()),
        other => format!("{other:?}"),
    });
    let globals = globals.collect();
    let tables = ["t", "h", "e"].map(|table| {
        let len = instance.table_len(table).unwrap();
        let element = |at| match instance.table_get(table, at).unwrap().unwrap() {
            Val::FuncRef(func) => func.is_some(),
            Val::ExternRef(object) => object.is_some(),
            other => panic!("{other:?}"),
        };
        (0..len).map(element).collect()
    });
    let call = |at| match instance.run("call", &[Val::I32(at)]) {
        Ok(RunResult::Returned(value)) => value.into_values()[0].i32(),
        _ => None,
    };
    let calls = [0, 1, 2, 4, 5, 6].map(call).to_vec();
    // Segments are there again.
    let spare = match instance.run("init", &[]) {
        Ok(_) => instance.heap().unwrap()[20..27].to_vec(),
        Err(error) => format!("{error}").into_bytes(),
    };
    Seen {
        heap,
        globals,
        tables: tables.to_vec(),
        calls,
        spare,
        state,
    }
}

/// Does something to an instance; whether it can go on. A linked module writes to its imports on a reset, too.
fn soil(
    instance: &mut InstanceHandle,
    sandbox: &Sandbox,
    random: &mut Random,
    is_linked: &mut bool,
) -> bool {
    let object = || Val::ExternRef(Some(selvedge::ExternRef::new(7)));
    let len = instance.heap().unwrap().len() as i32;
    let number = |random: &mut Random, below: i32| random.below(below as usize) as i32;
    let at = number(random, len);
    let result = match random.below(15) {
        0 => {
            let (byte, count) = (number(random, 256), number(random, (len - at).min(300_000)));
            instance.run("fill", &[Val::I32(at), Val::I32(byte), Val::I32(count)])
        }
        1 => instance.run("fill", &[Val::I32(0), Val::I32(0xaa), Val::I32(len)]),
        2 => {
            for _ in 0..300 {
                let at = number(random, len) as usize;
                instance.heap_mut().unwrap()[at] ^= 0x55;
            }
            return true;
        }
        3 => {
            instance
                .run("grow", &[Val::I32(number(random, 9))])
                .unwrap();
            let len = instance.heap().unwrap().len();
            instance.heap_mut().unwrap()[len - 1] = 1;
            return true;
        }
        4 => instance.run("globals", &[Val::I32(at), object()]),
        5 => instance.run("tables", &[Val::I32(number(random, 4)), object()]),
        6 => instance.run("segments", &[]),
        7 => instance.run("deep", &[Val::I32(number(random, 9000))]),
        8 => instance.run("deep", &[Val::I32(i32::MAX)]),
        9 => instance.run("trap", &[]),
        10 => {
            instance.set_catch_panics(true);
            instance.run("panics", &[]).unwrap_err();
            return false;
        }
        11 => {
            instance.run("stop", &[]).unwrap_err();
            return false;
        }
        12 => {
            instance.run("forever", &[]).unwrap();
            // Dropped while it waits, or goes on.
            return random.below(2) == 0 && instance.resume().is_ok();
        }
        13 => {
            *is_linked = true;
            instance.set_member_name("main", Member::MAIN).unwrap();
            let linked = instance
                .link(&sandbox.linker, &sandbox.module(LINKED))
                .unwrap();
            instance.run_member(linked, "set", &[])
        }
        _ => {
            instance.insert_embed_ctx(5u64);
            instance.reset().unwrap();
            return true;
        }
    };
    drop(result);
    true
}

/// Walks through instances of two programs in one slot or two.
fn walk(options: &RegionOptions, settings: &Settings, seed: u64, rounds: usize) {
    let sandbox = sandbox(settings);
    let mut limits = Limits::default();
    // Enough for what the guest asks for, and little enough to lie close together.
    limits.memory_len = 600 << 16;
    let region = || Region::with_options(&sandbox.engine, 3, &limits, options).unwrap();
    let used = region();
    let mut random = Random::new(seed);
    let programs: Vec<_> = ["1", "4", "80"]
        .iter()
        .map(|pages| sandbox.program(&WAT.replace("PAGES", pages)))
        .collect();
    let fresh: Vec<_> = programs
        .iter()
        .map(|program| see(&mut region().new_instance(program).unwrap()))
        .collect();
    let mut program = 0;
    for round in 0..rounds {
        if random.below(4) == 0 {
            program = random.below(programs.len());
        }
        let mut instance = used.new_instance(&programs[program]).unwrap();
        let seen = see(&mut instance);
        assert!(
            seen == fresh[program],
            "seed {seed}, round {round}, program {program}: something is left"
        );
        let mut is_linked = false;
        for _ in 0..random.below(6) {
            if !soil(&mut instance, &sandbox, &mut random, &mut is_linked) {
                break;
            }
        }
        if random.below(8) == 0 {
            instance.reset().unwrap();
            instance.remove_embed_ctx::<u64>();
            let seen = see(&mut instance);
            assert!(
                is_linked || seen == fresh[program],
                "seed {seed}, round {round}, program {program}: not reset"
            );
        }
        if random.below(8) == 0 {
            thread::scope(|scope| scope.spawn(|| drop(instance)).join().unwrap());
        } else {
            drop(instance);
        }
    }
    assert_eq!(used.free_slots(), 3);
}

#[test]
fn x_pool_the_next_instance_is_byte_for_byte_like_a_fresh_one() {
    for seed in 0..8 {
        walk(&RegionOptions::default(), &Settings::default(), seed, 60);
    }
}

#[test]
fn x_pool_so_it_is_where_little_is_kept_or_the_system_tells_nothing() {
    let mut options = RegionOptions::default();
    for (seed, keep, find) in [(20, 0, true), (21, 40_000, true), (22, 2 << 20, false)] {
        (options.keep_resident_len, options.find_written_pages) = (keep, find);
        walk(&options, &Settings::default(), seed, 60);
    }
}

#[test]
fn x_pool_so_it_is_in_dense_slots() {
    let mut options = RegionOptions::default();
    options.dense = true;
    for (seed, keep, find) in [
        (30, 2 << 20, true),
        (31, 0, true),
        (32, 40_000, true),
        (33, 2 << 20, false),
    ] {
        (options.keep_resident_len, options.find_written_pages) = (keep, find);
        for (dense, alignment) in [(false, 1), (true, 1), (true, 4096)] {
            let settings = Settings::default()
                .with_explicit_bounds(true)
                .with_dense_regions(dense);
            options.heap_alignment = alignment;
            walk(&options, &settings, seed, 40);
        }
    }
}
