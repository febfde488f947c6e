//! Canonical NaNs: with the setting, arithmetic on floats gives no NaN but the positive one without payload,
//! whatever NaNs go in and on whatever CPU; and the deterministic profile gives the same bits everywhere.
#![forbid(unsafe_code)]

use selvedge::{Cpu, Engine, Limits, Linker, OptLevel, Region, Settings, Val};
use selvedge_tests::sandbox::{bits, returned};

/// Instructions whose NaNs the specification leaves open, as functions of two operands `a` and `b`.
const SCALAR: &[(&str, &str)] = &[
    ("ceil", "(T.ceil (local.get 0))"),
    ("floor", "(T.floor (local.get 0))"),
    ("trunc", "(T.trunc (local.get 0))"),
    ("nearest", "(T.nearest (local.get 0))"),
    ("sqrt", "(T.sqrt (local.get 0))"),
    ("add", "(T.add (local.get 0) (local.get 1))"),
    ("sub", "(T.sub (local.get 0) (local.get 1))"),
    ("mul", "(T.mul (local.get 0) (local.get 1))"),
    ("div", "(T.div (local.get 0) (local.get 1))"),
    ("min", "(T.min (local.get 0) (local.get 1))"),
    ("max", "(T.max (local.get 0) (local.get 1))"),
];

/// Those of relaxed SIMD that compute, beside all of the above, which vectors have, too.
const RELAXED: &[(&str, &str)] = &[
    (
        "madd",
        "(T.relaxed_madd (local.get 0) (local.get 1) (local.get 0))",
    ),
    (
        "nmadd",
        "(T.relaxed_nmadd (local.get 0) (local.get 1) (local.get 0))",
    ),
    ("relaxed_min", "(T.relaxed_min (local.get 0) (local.get 1))"),
    ("relaxed_max", "(T.relaxed_max (local.get 0) (local.get 1))"),
];

/// Operands of 32 and 64 bits: quiet and signalling NaNs of both signs with payloads, and numbers that make
/// NaNs out of nothing.
const F32: [u32; 8] = [
    0x7fc0_0000,
    0xffc0_0000,
    0x7fa0_0001,
    0xffa0_1234,
    0x7f80_0000,
    0xff80_0000,
    0,
    0xbf80_0000,
];
const F64: [u64; 8] = [
    0x7ff8 << 48,
    0xfff8 << 48,
    (0x7ff4 << 48) | 1,
    (0xfff4 << 48) | 0x1234,
    0x7ff0 << 48,
    0xfff0 << 48,
    0,
    0xbff0 << 48,
];

/// One exported function for each instruction and type.
fn module() -> String {
    let mut funcs = String::new();
    let mut add = |name: &str, ty: &str, params: &str, result: &str, body: &str| {
        let body = body.replace("T.", &format!("{ty}."));
        funcs +=
            &format!("(func (export \"{ty}.{name}\") (param {params}) (result {result}) {body})\n");
    };
    for (name, body) in SCALAR {
        for ty in ["f32", "f64"] {
            add(name, ty, &format!("{ty} {ty}"), ty, body);
        }
    }
    for (name, body) in SCALAR.iter().chain(RELAXED) {
        for ty in ["f32x4", "f64x2"] {
            add(name, ty, "v128 v128", "v128", body);
        }
    }
    add(
        "demote_f64",
        "f32",
        "f64 f64",
        "f32",
        "(f32.demote_f64 (local.get 0))",
    );
    add(
        "promote_f32",
        "f64",
        "f32 f32",
        "f64",
        "(f64.promote_f32 (local.get 0))",
    );
    add(
        "demote_f64x2_zero",
        "f32x4",
        "v128 v128",
        "v128",
        "(f32x4.demote_f64x2_zero (local.get 0))",
    );
    add(
        "promote_low_f32x4",
        "f64x2",
        "v128 v128",
        "v128",
        "(f64x2.promote_low_f32x4 (local.get 0))",
    );
    format!("(module {funcs})")
}

/// Pairs of operands of the type that a function takes.
fn operands(name: &str) -> Vec<[Val; 2]> {
    let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)));
    let lanes32 = |i: usize| {
        Val::V128((0..4).fold(0, |v, lane| {
            v | u128::from(F32[(i + lane) % F32.len()]) << (32 * lane)
        }))
    };
    let lanes64 = |i: usize| {
        Val::V128((0..2).fold(0, |v, lane| {
            v | u128::from(F64[(i + lane) % F64.len()]) << (64 * lane)
        }))
    };
    let value = |i: usize| match name {
        "f32.demote_f64" => Val::F64(f64::from_bits(F64[i])),
        "f64.promote_f32" => Val::F32(f32::from_bits(F32[i])),
        "f32x4.demote_f64x2_zero" => lanes64(i),
        "f64x2.promote_low_f32x4" => lanes32(i),
        _ if name.starts_with("f32x4") => lanes32(i),
        _ if name.starts_with("f64x2") => lanes64(i),
        _ if name.starts_with("f32") => Val::F32(f32::from_bits(F32[i])),
        _ => Val::F64(f64::from_bits(F64[i])),
    };
    pairs(F32.len())
        .map(|(a, b)| [value(a), value(b)])
        .collect()
}

/// What every function gives for all operands: its name, and the bits.
fn results(settings: &Settings) -> Vec<(String, Vec<u128>)> {
    let engine = Engine::new(settings).expect("an engine");
    let module = engine.compile(module().as_bytes()).expect("it is valid");
    let program = Linker::new(&engine)
        .program(&module)
        .expect("it imports nothing");
    let region = Region::new(&engine, 1, &Limits::default()).expect("a region");
    let mut instance = region.new_instance(&program).expect("an instance");
    let names: Vec<String> = module
        .exports()
        .map(|export| export.name.to_owned())
        .collect();
    names
        .into_iter()
        .map(|name| {
            let found = operands(&name)
                .iter()
                .map(|pair| bits(&returned(instance.run(&name, pair)))[0].1)
                .collect();
            (name, found)
        })
        .collect()
}

/// Whether a result has a NaN that is not the canonical one.
fn has_other_nan(name: &str, value: u128) -> bool {
    let odd32 = |v: u32| f32::from_bits(v).is_nan() && v != 0x7fc0_0000;
    let odd64 = |v: u64| f64::from_bits(v).is_nan() && v != 0x7ff8 << 48;
    match name.split('.').next() {
        Some("f32") => odd32(value as u32),
        Some("f64") => odd64(value as u64),
        Some("f32x4") => (0..4).any(|lane| odd32((value >> (32 * lane)) as u32)),
        _ => (0..2).any(|lane| odd64((value >> (64 * lane)) as u64)),
    }
}

#[test]
fn every_nan_is_canonical_if_that_is_asked_for() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        for cpu in [Cpu::Host, Cpu::Baseline] {
            let settings = Settings::default()
                .with_opt_level(opt_level)
                .with_cpu(cpu)
                .deterministic();
            for (name, found) in results(&settings) {
                let odd = found.iter().position(|value| has_other_nan(&name, *value));
                let pair = odd.map(|at| bits(&operands(&name)[at]));
                assert_eq!(pair, None, "{name}");
            }
        }
    }
}

/// Without this the test above would show nothing.
#[test]
fn without_the_setting_nans_are_what_the_cpu_gives() {
    let odd = results(&Settings::default())
        .into_iter()
        .filter(|(name, found)| found.iter().any(|value| has_other_nan(name, *value)))
        .count();
    // Not those of relaxed SIMD that hand on an operand, perhaps.
    assert!(odd >= 2 * SCALAR.len() + 2, "{odd}");
}

#[test]
fn the_deterministic_profile_gives_the_same_bits_everywhere() {
    let of = |cpu, level| {
        let settings = Settings::default().with_cpu(cpu).with_opt_level(level);
        results(&settings.deterministic())
    };
    let first = of(Cpu::Baseline, OptLevel::None);
    for cpu in [Cpu::Baseline, Cpu::Host] {
        for level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
            assert_eq!(of(cpu, level), first, "{cpu:?} {level:?}");
        }
    }
}
