//! Canonical NaNs: with the setting, arithmetic on floats gives no NaN but the positive one without payload,
//! whatever NaNs go in and on whatever CPU; and the deterministic profile gives the same bits everywhere.
#![forbid(unsafe_code)]

use selvedge::{Cpu, Engine, Limits, Linker, OptLevel, Settings, Val};
use selvedge_tests::sandbox::{self, bits, returned};

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

/// The same instructions of operands that the compiler knows, for it to compute what it may. The name says
/// which pair.
fn module_of_constants() -> String {
    let literal = |nan: bool, negative: bool, payload: u64, value: f64| {
        let sign = if negative { "-" } else { "" };
        match (nan, value.is_infinite()) {
            (true, _) => format!("{sign}nan:{payload:#x}"),
            (false, true) => format!("{sign}inf"),
            (false, false) => value.to_string(),
        }
    };
    let literals = [
        F32.map(|bits| {
            let value = f32::from_bits(bits);
            let payload = u64::from(bits & 0x7f_ffff);
            let sign = value.is_sign_negative();
            literal(value.is_nan(), sign, payload, value.into())
        }),
        F64.map(|bits| {
            let value = f64::from_bits(bits);
            let sign = value.is_sign_negative();
            literal(value.is_nan(), sign, bits & ((1 << 52) - 1), value)
        }),
    ];
    let mut funcs = String::new();
    let conversions = [
        ("f32.demote_f64", "f64", "(f32.demote_f64 (local.get 0))"),
        ("f64.promote_f32", "f32", "(f64.promote_f32 (local.get 0))"),
    ];
    let mut add = |name: &str, operand: &str, body: &str| {
        let literals = &literals[usize::from(operand.starts_with("f64"))];
        let lanes = match operand {
            "f32x4" => 4,
            "f64x2" => 2,
            _ => 1,
        };
        for (i, first) in literals.iter().enumerate() {
            let constant = |literal: &str| match lanes {
                1 => format!("({operand}.const {literal})"),
                _ => format!(
                    "(v128.const {operand}{})",
                    format!(" {literal}").repeat(lanes)
                ),
            };
            let second = &literals[(i + 3) % literals.len()];
            let body = body
                .replace("(local.get 0)", &constant(first))
                .replace("(local.get 1)", &constant(second));
            let result = if lanes > 1 { "v128" } else { &name[..3] };
            funcs += &format!("(func (export \"{name} {i}\") (result {result}) {body})\n");
        }
    };
    for (name, body) in SCALAR {
        for ty in ["f32", "f64", "f32x4", "f64x2"] {
            let body = body.replace("T.", &format!("{ty}."));
            add(&format!("{ty}.{name}"), ty, &body);
        }
    }
    for (name, operand, body) in conversions {
        add(name, operand, body);
    }
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
    results_of(&module(), settings, operands)
}

/// What every function of a module gives for all operands.
fn results_of<const N: usize>(
    module: &str,
    settings: &Settings,
    operands: fn(&str) -> Vec<[Val; N]>,
) -> Vec<(String, Vec<u128>)> {
    let engine = Engine::new(settings).expect("an engine");
    let module = engine.compile(module.as_bytes()).expect("it is valid");
    let program = Linker::new(&engine)
        .program(&module)
        .expect("it imports nothing");
    let region = sandbox::region(&engine, 1, &Limits::default());
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
                .map(|args| bits(&returned(instance.run(&name, args)))[0].1)
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
            let settings = Settings::default().with_opt_level(opt_level).with_cpu(cpu);
            // Relaxed SIMD is fast in one and deterministic in the other.
            for settings in [
                settings.clone().with_nan_canonicalization(true),
                settings.deterministic(),
            ] {
                for (name, found) in results(&settings) {
                    let odd = found.iter().position(|value| has_other_nan(&name, *value));
                    let pair = odd.map(|at| bits(&operands(&name)[at]));
                    assert_eq!(pair, None, "{name} {settings:?}");
                }
            }
        }
    }
}

#[test]
fn what_the_compiler_computes_is_canonical_too() {
    let of = |level| {
        let settings = Settings::default().with_opt_level(level).deterministic();
        results_of(&module_of_constants(), &settings, |_| vec![[]])
    };
    let first = of(OptLevel::None);
    assert_eq!(of(OptLevel::Speed), first);
    for (name, found) in first {
        assert!(!has_other_nan(&name, found[0]), "{name} {:#x}", found[0]);
    }
}

/// What the specification says of bits alone is not arithmetic.
#[test]
fn instructions_that_move_or_choose_bits_keep_every_nan() {
    const SIGN: u64 = 1 << 63;
    type Expected = fn(u64, u64) -> u64;
    // As lanes of 64 bits, the sign's place being the same in the lanes of 32 that are made of them.
    let exact: [(&str, &str, Expected); 6] = [
        ("abs", "(T.abs (local.get 0))", |a, _| a & !SIGN),
        ("neg", "(T.neg (local.get 0))", |a, _| a ^ SIGN),
        (
            "copysign",
            "(T.copysign (local.get 0) (local.get 1))",
            |a, b| a & !SIGN | b & SIGN,
        ),
        (
            "select",
            "(select (local.get 0) (local.get 1) (i32.const 1))",
            |a, _| a,
        ),
        ("pmin", "(T.pmin (local.get 0) (local.get 1))", |a, b| {
            let less = f64::from_bits(b) < f64::from_bits(a);
            if less { b } else { a }
        }),
        ("pmax", "(T.pmax (local.get 0) (local.get 1))", |a, b| {
            let less = f64::from_bits(a) < f64::from_bits(b);
            if less { b } else { a }
        }),
    ];
    let mut funcs = String::new();
    for (name, body, _) in &exact {
        let lanes = match *name {
            "copysign" => &["f64"][..],
            "pmin" | "pmax" => &["f64x2"],
            _ => &["f64", "f64x2"],
        };
        for ty in lanes {
            let value = if *ty == "f64" { "f64" } else { "v128" };
            let body = body.replace("T.", &format!("{ty}."));
            funcs += &format!(
                "(func (export \"{ty}.{name}\") (param {value} {value}) (result {value}) {body})\n"
            );
        }
    }
    let module = format!("(module {funcs})");
    for level in [OptLevel::None, OptLevel::Speed] {
        let settings = Settings::default().with_opt_level(level).deterministic();
        for (name, found) in results_of(&module, &settings, operands) {
            let (ty, op) = name.split_once('.').expect("a type and a name");
            let (.., expected) = exact
                .iter()
                .find(|(name, ..)| *name == op)
                .expect("it is one");
            for (args, found) in operands(&name).iter().zip(found) {
                let args = [bits(&args[..1])[0].1, bits(&args[1..])[0].1];
                let lane = |at: u32| {
                    let [a, b] = args.map(|arg| (arg >> at) as u64);
                    u128::from(expected(a, b)) << at
                };
                let expected = if ty == "f64" {
                    lane(0)
                } else {
                    lane(0) | lane(64)
                };
                assert_eq!(found, expected, "{name} {args:x?}");
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

/// Loops that make NaNs and infinities of what they made before, and keep all bits in a sum.
const PROGRAMS: &str = r#"(module
    (memory 1)
    (global $seed (mut i64) (i64.const 88172645463325252))
    (func $next (result i64) (local $x i64)
        (local.set $x (i64.xor (global.get $seed) (i64.shl (global.get $seed) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (global.set $seed (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (global.get $seed))
    (func $vector (result v128)
        (i64x2.replace_lane 1 (i64x2.splat (call $next)) (call $next)))
    (func $mix (param $sum i64) (param $bits i64) (result i64)
        (i64.add (i64.rotl (local.get $sum) (i64.const 5)) (local.get $bits)))

    (func (export "f64") (result i64) (local $n i32) (local $a f64) (local $b f64) (local $sum i64)
        (loop $again
            (local.set $b (f64.reinterpret_i64 (call $next)))
            (local.set $a (f64.min (f64.sqrt (local.get $b)) (f64.sub (local.get $a) (local.get $b))))
            (local.set $a (f64.div (local.get $a) (f64.mul (local.get $b) (local.get $b))))
            (local.set $a (f64.max (f64.promote_f32 (f32.demote_f64 (local.get $a))) (local.get $b)))
            (f64.store (i32.const 8) (f64.neg (f64.nearest (local.get $a))))
            (local.set $sum (call $mix (local.get $sum) (i64.load (i32.const 8))))
            (br_if $again (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))
        (local.get $sum))

    (func (export "f32x4") (result i64) (local $n i32) (local $a v128) (local $b v128) (local $sum i64)
        (loop $again
            (local.set $b (call $vector))
            (local.set $a (f32x4.relaxed_madd (local.get $a) (local.get $b) (call $vector)))
            (local.set $a (f32x4.relaxed_nmadd (local.get $b) (local.get $a) (f32x4.sqrt (call $vector))))
            (local.set $a (f32x4.relaxed_max (local.get $a) (f32x4.relaxed_min (local.get $b) (call $vector))))
            (local.set $b (i8x16.relaxed_swizzle (local.get $a) (call $vector)))
            (local.set $b (i32x4.relaxed_dot_i8x16_i7x16_add_s
                (local.get $b) (call $vector) (i32x4.relaxed_trunc_f32x4_s (local.get $a))))
            (local.set $b (i16x8.relaxed_q15mulr_s (local.get $b)
                (i32x4.relaxed_laneselect (local.get $a) (local.get $b) (call $vector))))
            (local.set $sum (call $mix (local.get $sum) (i64x2.extract_lane 0 (local.get $a))))
            (local.set $sum (call $mix (local.get $sum) (i64x2.extract_lane 1 (local.get $a))))
            (local.set $sum (call $mix (local.get $sum) (i64x2.extract_lane 1 (local.get $b))))
            (br_if $again (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))
        (local.get $sum))

    (func (export "f64x2") (result i64) (local $n i32) (local $a v128) (local $sum i64)
        (loop $again
            (local.set $a (f64x2.relaxed_madd (local.get $a) (call $vector) (f64x2.floor (call $vector))))
            (local.set $a (f64x2.pmin (call $vector) (f64x2.add (local.get $a) (call $vector))))
            (local.set $a (f64x2.promote_low_f32x4 (f32x4.demote_f64x2_zero (local.get $a))))
            (local.set $a (f64x2.div (local.get $a) (f64x2.abs (call $vector))))
            (local.set $sum (call $mix (local.get $sum) (i64x2.extract_lane 0 (local.get $a))))
            (local.set $sum (call $mix (local.get $sum) (i64x2.extract_lane 1 (local.get $a))))
            (br_if $again (i32.lt_u
                (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))
        (local.get $sum)))"#;

#[test]
fn programs_compute_the_same_bits_everywhere_in_the_deterministic_profile() {
    let of = |cpu, level| {
        let settings = Settings::default().with_cpu(cpu).with_opt_level(level);
        results_of(PROGRAMS, &settings.deterministic(), |_| vec![[]])
    };
    let first = of(Cpu::Baseline, OptLevel::None);
    assert_eq!(first.len(), 3);
    for cpu in [Cpu::Baseline, Cpu::Host] {
        for level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
            assert_eq!(of(cpu, level), first, "{cpu:?} {level:?}");
        }
    }
}
