//! Vectors on their ways between guest and host, and between guests: as arguments, results and
//! globals. What the instructions compute is the matter of the official suite.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a failure to set up is a failure of the test"
)]

use selvedge::{Cpu, Engine, FuncType, Limits, Linker, OptLevel, Settings, Val, ValType};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{self, Sandbox, returned};

/// Lane `i` of 32 bits is this plus `i`.
fn vector(first: u128) -> u128 {
    (0..4).map(|i| (first + i) << (32 * i)).sum()
}

fn v128s(values: &[Val]) -> Vec<u128> {
    values.iter().map(|value| value.v128().unwrap()).collect()
}

#[test]
fn vectors_go_to_the_guest_and_back() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (func (export "swap") (param v128 v128) (result v128 v128) (local.get 1) (local.get 0))
            (func (export "mixed") (param i32 v128 f64 v128 i64) (result v128)
                (i32x4.add (i32x4.add (local.get 1) (local.get 3))
                    (i32x4.splat (i32.add (local.get 0) (i32.add
                        (i32.trunc_f64_s (local.get 2)) (i32.wrap_i64 (local.get 4))))))))"#,
    );
    let (a, b) = (vector(1), u128::MAX / 5);
    let swapped = returned(instance.run("swap", &[Val::V128(a), Val::V128(b)]));
    assert_eq!(v128s(&swapped), [b, a]);
    let args: [Val; 5] = [
        1.into(),
        a.into(),
        2.0.into(),
        vector(10).into(),
        3u64.into(),
    ];
    let sum = (0..4).map(|i| (17 + 2 * i) << (32 * i)).sum::<u128>();
    assert_eq!(v128s(&returned(instance.run("mixed", &args))), [sum]);
    assert!(instance.run("swap", &[Val::V128(a), Val::I64(1)]).is_err());
}

#[test]
fn more_vectors_than_registers_travel_on_the_stack() {
    let sandbox = Sandbox::new();
    let params = "v128 ".repeat(20);
    let gets = |order: &mut dyn Iterator<Item = usize>| -> String {
        order.map(|i| format!("(local.get {i})")).collect()
    };
    let mut instance = sandbox.instance(&format!(
        r#"(module
            (func $turn (param {params}) (result {params}) {})
            (func (export "twice") (param {params}) (result {params}) (call $turn (call $turn {})))
            (func (export "turn") (param {params}) (result {params}) (call $turn {})))"#,
        gets(&mut (0..20).rev()),
        gets(&mut (0..20)),
        gets(&mut (0..20)),
    ));
    let args: Vec<Val> = (0..20).map(|i| Val::V128(vector(100 * i))).collect();
    assert_eq!(v128s(&returned(instance.run("twice", &args))), v128s(&args));
    let mut turned = v128s(&returned(instance.run("turn", &args)));
    turned.reverse();
    assert_eq!(turned, v128s(&args));
}

#[test]
fn host_functions_take_and_give_vectors() {
    let mut sandbox = Sandbox::new();
    let v128 = ValType::V128;
    let ty = FuncType::new([v128, ValType::I32, v128], [v128, ValType::I64]);
    sandbox
        .linker
        .func_new("host", "mix", ty, |_, args, results| {
            let (Some(a), Some(n), Some(b)) = (args[0].v128(), args[1].i32(), args[2].v128())
            else {
                panic!("the guest passes what it declares")
            };
            results[0] = Val::V128(a ^ b.rotate_left(n.cast_unsigned()));
            results[1] = Val::I64((a >> 64) as i64);
            Ok(())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module
            (import "host" "mix" (func $mix (param v128 i32 v128) (result v128 i64)))
            (func (export "run") (param v128 v128) (result v128 i64)
                (call $mix (local.get 0) (i32.const 32) (local.get 1))))"#,
    );
    let (a, b) = (vector(7), vector(1 << 20));
    let values = returned(instance.run("run", &[Val::V128(a), Val::V128(b)]));
    assert_eq!(values[0].v128(), Some(a ^ b.rotate_left(32)));
    assert_eq!(values[1].i64(), Some((a >> 64) as i64));
}

#[test]
fn globals_hold_vectors() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (global $before (export "before") (mut i64) (i64.const -1))
            (global $g (export "g") (mut v128) (v128.const i32x4 1 2 3 4))
            (global $after (export "after") (mut i64) (i64.const -1))
            (global (export "constant") v128 (v128.const i64x2 5 6))
            (func (export "double") (global.set $g (i32x4.add (global.get $g) (global.get $g)))))"#,
    );
    assert_eq!(instance.global("g").unwrap().v128(), Some(vector(1)));
    assert_eq!(
        instance.global("constant").unwrap().v128(),
        Some(6 << 64 | 5)
    );
    instance.set_global("g", &Val::V128(vector(10))).unwrap();
    returned(instance.run("double", &[]));
    let doubled = (0..4).map(|i| (20 + 2 * i) << (32 * i)).sum::<u128>();
    assert_eq!(instance.global("g").unwrap().v128(), Some(doubled));
    for beside in ["before", "after"] {
        assert_eq!(instance.global(beside).unwrap().i64(), Some(-1));
    }
    assert!(instance.set_global("g", &Val::I64(1)).is_err());
}

#[test]
fn linked_modules_share_vectors() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (global (export "g") (mut v128) (v128.const i32x4 1 2 3 4))
            (global (export "c") v128 (v128.const i32x4 9 9 9 9))
            (func (export "add") (param v128 v128) (result v128)
                (i32x4.add (local.get 0) (local.get 1))))"#,
    );
    instance
        .set_member_name("a", selvedge::Member::MAIN)
        .unwrap();
    let other = sandbox.module(
        r#"(module
            (import "a" "g" (global $g (mut v128)))
            (import "a" "c" (global $c v128))
            (import "a" "add" (func $add (param v128 v128) (result v128)))
            (global $copy (export "copy") v128 (global.get $c))
            (func (export "run") (result v128)
                (global.set $g (call $add (global.get $g) (global.get $copy)))
                (global.get $g)))"#,
    );
    let linker = Linker::new(&sandbox.engine);
    let member = instance.link(&linker, &other).unwrap();
    let sum = vector(10);
    let values = returned(instance.run_member(member, "run", &[]));
    assert_eq!(v128s(&values), [sum]);
    assert_eq!(instance.global("g").unwrap().v128(), Some(sum));
}

#[test]
fn vector_accesses_trap_at_the_end_of_memory() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1)
            (func (export "load") (param i32) (result v128) (v128.load (local.get 0)))
            (func (export "store") (param i32)
                (v128.store (local.get 0) (v128.const i64x2 -1 -1)))
            (func (export "lane") (param i32)
                (v128.store16_lane 7 (local.get 0) (v128.const i64x2 0 -1))))"#,
    );
    let at = |n: i32| [Val::I32(n)];
    returned(instance.run("store", &at(65536 - 16)));
    assert!(instance.run("store", &at(65536 - 15)).is_err());
    assert!(instance.run("load", &at(65536 - 15)).is_err());
    assert!(instance.run("lane", &at(65536 - 1)).is_err());
    returned(instance.run("lane", &at(65536 - 2)));
    // What trapped has written nothing.
    let last = returned(instance.run("load", &at(65536 - 32)));
    assert_eq!(v128s(&last), [0]);
}

/// The instructions of relaxed SIMD and how many vectors they take.
const RELAXED: &[(&str, usize)] = &[
    ("i8x16.relaxed_swizzle", 2),
    ("i32x4.relaxed_trunc_f32x4_s", 1),
    ("i32x4.relaxed_trunc_f32x4_u", 1),
    ("i32x4.relaxed_trunc_f64x2_s_zero", 1),
    ("i32x4.relaxed_trunc_f64x2_u_zero", 1),
    ("f32x4.relaxed_madd", 3),
    ("f32x4.relaxed_nmadd", 3),
    ("f64x2.relaxed_madd", 3),
    ("f64x2.relaxed_nmadd", 3),
    ("i8x16.relaxed_laneselect", 3),
    ("i16x8.relaxed_laneselect", 3),
    ("i32x4.relaxed_laneselect", 3),
    ("i64x2.relaxed_laneselect", 3),
    ("f32x4.relaxed_min", 2),
    ("f32x4.relaxed_max", 2),
    ("f64x2.relaxed_min", 2),
    ("f64x2.relaxed_max", 2),
    ("i16x8.relaxed_q15mulr_s", 2),
    ("i16x8.relaxed_dot_i8x16_i7x16_s", 2),
    ("i32x4.relaxed_dot_i8x16_i7x16_add_s", 3),
];

/// Runs every instruction of relaxed SIMD on the same vectors.
fn relaxed_results(settings: &Settings, inputs: &[[u128; 3]]) -> Vec<u128> {
    let funcs: String = RELAXED
        .iter()
        .map(|&(op, count)| {
            let operands: String = (0..count).map(|i| format!("(local.get {i})")).collect();
            format!(
                r#"(func (export "{op}") (param v128 v128 v128) (result v128) ({op} {operands}))"#
            )
        })
        .collect();
    let engine = Engine::new(settings).unwrap();
    let module = engine.compile(format!("(module {funcs})").as_bytes());
    let program = Linker::new(&engine).program(&module.unwrap()).unwrap();
    let region = sandbox::region(&engine, 1, &Limits::default());
    let mut instance = region.new_instance(&program).unwrap();
    let mut results = Vec::new();
    for (op, _) in RELAXED {
        for input in inputs {
            let args = input.map(Val::V128);
            results.extend(v128s(&returned(instance.run(op, &args))));
        }
    }
    results
}

/// `i16x8.relaxed_dot_i8x16_i7x16_s` as the deterministic profile has it.
fn signed_dot(a: u128, b: u128) -> [i16; 8] {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    std::array::from_fn(|lane| {
        let product = |i: usize| i32::from(a[i] as i8) * i32::from(b[i] as i8);
        let sum = product(2 * lane) + product(2 * lane + 1);
        sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    })
}

fn vector_of_i16(lanes: [i16; 8]) -> u128 {
    let lanes = lanes.into_iter().rev();
    lanes.fold(0, |vector, lane| vector << 16 | u128::from(lane as u16))
}

#[test]
fn deterministic_relaxed_simd_is_the_same_on_every_cpu() {
    let mut random = Random::new(7);
    // Lanes where the instructions of CPUs differ: extremes, zeros, infinities, NaNs.
    let special = [
        0,
        0x8000_0000_0000_0000,
        0x8080_8080_8080_8080,
        0x8000_8000_8000_8000,
        0x7f80_0000_ff80_0000,
        0x7ff0_0000_0000_0000,
        0x4f00_0000_cf00_0001,
        0x41e0_0000_0000_0000,
        0x7fc0_0000_7fc0_0000,
        u64::MAX,
    ];
    let mut half = || match random.below(3) {
        0 => u128::from(random.pick(&special)),
        _ => u128::from(random.bits()),
    };
    let mut inputs = vec![[u128::from_le_bytes([0x80; 16]); 3]];
    inputs.extend((0..200).map(|_| std::array::from_fn(|_| half() << 64 | half())));
    let settings = Settings::default().with_relaxed_simd_deterministic(true);
    let expected = relaxed_results(&settings, &inputs);
    for cpu in [Cpu::Host, Cpu::Baseline] {
        for opt_level in [OptLevel::None, OptLevel::Speed] {
            let settings = settings.clone().with_cpu(cpu).with_opt_level(opt_level);
            let found = relaxed_results(&settings, &inputs);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let (op, input) = (RELAXED[i / inputs.len()].0, inputs[i % inputs.len()]);
                assert_eq!(found, expected, "{op} {input:x?} {cpu:?} {opt_level:?}");
            }
        }
    }
    let dot = RELAXED
        .iter()
        .position(|(op, _)| *op == "i16x8.relaxed_dot_i8x16_i7x16_s")
        .unwrap();
    for (i, [a, b, _]) in inputs.iter().enumerate() {
        let found = expected[dot * inputs.len() + i];
        assert_eq!(found, vector_of_i16(signed_dot(*a, *b)), "{a:x} {b:x}");
    }
}
