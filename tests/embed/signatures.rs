//! Random signatures, both ways: the host calls a guest function, which passes its arguments to a host
//! function, whose results it returns. Every value must arrive as it was sent, in its place.

use std::sync::{Arc, Mutex};

use selvedge::{FuncType, TypedFunc, Val, ValType, Vmctx, WasmParams};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{Sandbox, bits, returned};

const SCALARS: [ValType; 4] = [ValType::I32, ValType::I64, ValType::F32, ValType::F64];

fn random_types(random: &mut Random, max: usize, of: &[ValType]) -> Vec<ValType> {
    let count = random.below(max + 1);
    (0..count).map(|_| random.pick(of)).collect()
}

fn random_val(random: &mut Random, ty: ValType) -> Val {
    let bits = random.bits();
    match ty {
        ValType::I32 => Val::I32(bits as i32),
        ValType::I64 => Val::I64(bits as i64),
        ValType::F32 => Val::F32(f32::from_bits(bits as u32)),
        _ => Val::F64(f64::from_bits(bits)),
    }
}

fn random_vals(random: &mut Random, types: &[ValType]) -> Vec<Val> {
    types.iter().map(|&ty| random_val(random, ty)).collect()
}

fn list(keyword: &str, types: &[ValType]) -> String {
    let names: String = types.iter().map(|ty| format!(" {ty}")).collect();
    format!("({keyword}{names})")
}

/// What a host function got, and what it is to return.
#[derive(Debug, Default)]
struct Exchange {
    got: Vec<Val>,
    give: Vec<Val>,
}

/// Runs `count` signatures with at most these many parameters and results.
fn check(seed: u64, count: usize, max_params: usize, max_results: usize, of: &[ValType]) {
    let mut random = Random::new(seed);
    let mut sandbox = Sandbox::new();
    let types: Vec<FuncType> = (0..count)
        .map(|_| {
            FuncType::new(
                random_types(&mut random, max_params, of),
                random_types(&mut random, max_results, of),
            )
        })
        .collect();
    let exchange = Arc::new(Mutex::new(Exchange::default()));
    let mut imports = String::new();
    let mut funcs = String::new();
    for (i, ty) in types.iter().enumerate() {
        let exchange = exchange.clone();
        let host = move |_: &Vmctx<'_>, params: &[Val], results: &mut [Val]| {
            let mut exchange = exchange.lock().unwrap();
            exchange.got = params.to_vec();
            results.clone_from_slice(&exchange.give);
            Ok(())
        };
        sandbox
            .linker
            .func_new("h", &i.to_string(), ty.clone(), host)
            .unwrap();
        let signature = format!(
            "{} {}",
            list("param", &ty.params),
            list("result", &ty.results)
        );
        imports += &format!("(import \"h\" \"{i}\" (func $h{i} {signature}))\n");
        let args: String = (0..ty.params.len())
            .map(|p| format!("(local.get {p})"))
            .collect();
        funcs += &format!("(func (export \"{i}\") {signature} (call $h{i} {args}))\n");
        // Through a second function, so that guest-to-guest calls are in between.
        funcs += &format!(
            "(func (export \"{i} twice\") {signature} (call {} {args}))\n",
            count + 2 * i
        );
    }
    let mut instance = sandbox.instance(&format!("(module {imports} {funcs})"));
    for (i, ty) in types.iter().enumerate() {
        for name in [i.to_string(), format!("{i} twice")] {
            let args = random_vals(&mut random, &ty.params);
            let give = random_vals(&mut random, &ty.results);
            exchange.lock().unwrap().give.clone_from(&give);
            let result = returned(instance.run(&name, &args));
            assert_eq!(
                bits(&exchange.lock().unwrap().got),
                bits(&args),
                "{ty}, arguments"
            );
            assert_eq!(bits(&result), bits(&give), "{ty}, results");
        }
    }
}

#[test]
fn values_of_random_signatures_arrive_both_ways() {
    check(1, 60, 16, 8, &SCALARS);
}

#[test]
fn values_of_short_signatures_arrive_both_ways() {
    check(2, 60, 5, 2, &SCALARS);
}

#[test]
fn values_of_signatures_of_one_kind_arrive_both_ways() {
    check(3, 24, 20, 12, &[ValType::I32]);
    check(4, 24, 20, 12, &[ValType::I64]);
    check(5, 24, 20, 12, &[ValType::F32, ValType::F64]);
}

#[test]
fn values_of_long_signatures_arrive_both_ways() {
    check(6, 6, 300, 300, &SCALARS);
}

/// Defines a host function with typed parameters, calls it from the guest with `1, 2, 3, ...`, and
/// checks what it got by a sum with weights.
macro_rules! typed_host {
    ($($var:ident: $ty:ty = $n:literal),*) => {{
        let mut sandbox = Sandbox::new();
        sandbox
            .linker
            .func("h", "f", |_: &Vmctx<'_>, $($var: $ty),*| -> f64 {
                0.0 $(+ $var as f64 * f64::from(1u32 << $n))*
            })
            .unwrap();
        let ty = FuncType::new(<($($ty,)*) as WasmParams>::types().iter().copied(), [ValType::F64]);
        let consts: String = ty.params.iter().zip(1..).map(|(ty, n)| format!("({ty}.const {n})")).collect();
        let mut instance = sandbox.instance(&format!(
            "(module (import \"h\" \"f\" (func $f {} (result f64)))
                (func (export \"f\") (result f64) (call $f {consts})))",
            list("param", &ty.params),
        ));
        let func: TypedFunc<(), f64> = instance.typed_func("f").unwrap();
        let expected: f64 = 0.0 $(+ f64::from($n + 1) * f64::from(1u32 << $n))*;
        assert_eq!(func.call(&mut instance, ()).unwrap(), expected, "{ty}");
    }};
}

#[test]
fn typed_host_functions_take_arguments_in_registers_and_beyond() {
    typed_host!();
    typed_host!(a: i32 = 0);
    typed_host!(a: i64 = 0, b: i32 = 1, c: u32 = 2, d: u64 = 3);
    typed_host!(a: i64 = 0, b: i32 = 1, c: u32 = 2, d: u64 = 3, e: i32 = 4);
    typed_host!(a: f32 = 0, b: f64 = 1, c: f32 = 2, d: f64 = 3, e: f32 = 4, f: f64 = 5, g: f32 = 6, h: f64 = 7);
    typed_host!(a: f32 = 0, b: f64 = 1, c: f32 = 2, d: f64 = 3, e: f32 = 4, f: f64 = 5, g: f32 = 6, h: f64 = 7, i: f32 = 8);
    typed_host!(a: i32 = 0, b: f64 = 1, c: i32 = 2, d: f64 = 3, e: i32 = 4, f: f64 = 5, g: i32 = 6, h: f64 = 7, i: f64 = 8, j: f64 = 9, k: f64 = 10, l: f64 = 11);
    typed_host!(a: i32 = 0, b: f64 = 1, c: i64 = 2, d: f32 = 3, e: i32 = 4, f: f64 = 5, g: i64 = 6, h: f32 = 7, i: i32 = 8, j: f64 = 9, k: i64 = 10, l: f32 = 11, m: i32 = 12, n: f64 = 13, o: i64 = 14, p: f32 = 15);
    typed_host!(a: u64 = 0, b: u64 = 1, c: u64 = 2, d: u64 = 3, e: u64 = 4, f: u64 = 5, g: u64 = 6, h: u64 = 7, i: u64 = 8, j: u64 = 9, k: u64 = 10, l: u64 = 11, m: u64 = 12, n: u64 = 13, o: u64 = 14, p: u64 = 15);
}

#[test]
fn typed_host_functions_return_up_to_eight_results() {
    let mut sandbox = Sandbox::new();
    let linker = &mut sandbox.linker;
    linker.func("h", "0", |_: &Vmctx<'_>, _: i32| {}).unwrap();
    linker
        .func("h", "1", |_: &Vmctx<'_>, n: i32| f64::from(n))
        .unwrap();
    linker
        .func("h", "2", |_: &Vmctx<'_>, n: i32| (n + 1, f64::from(n + 2)))
        .unwrap();
    linker
        .func("h", "8", |_: &Vmctx<'_>, n: i32| {
            let f = n as f32;
            (
                n,
                i64::from(n),
                f,
                f64::from(n),
                n as u32,
                n as u64,
                f,
                f64::from(n),
            )
        })
        .unwrap();
    let eight = "i32 i64 f32 f64 i32 i64 f32 f64";
    let mut instance = sandbox.instance(&format!(
        r#"(module
            (import "h" "0" (func $0 (param i32)))
            (import "h" "1" (func $1 (param i32) (result f64)))
            (import "h" "2" (func $2 (param i32) (result i32 f64)))
            (import "h" "8" (func $8 (param i32) (result {eight})))
            (func (export "0") (call $0 (i32.const 5)))
            (func (export "1") (result f64) (call $1 (i32.const 5)))
            (func (export "2") (result i32 f64) (call $2 (i32.const 5)))
            (func (export "8") (result {eight}) (call $8 (i32.const 5))))"#
    ));
    assert!(returned(instance.run("0", &[])).is_empty());
    let result = returned(instance.run("1", &[]));
    assert_eq!(bits(&result), bits(&[Val::F64(5.0)]));
    let result = returned(instance.run("2", &[]));
    assert_eq!(bits(&result), bits(&[Val::I32(6), Val::F64(7.0)]));
    let half = [Val::I32(5), Val::I64(5), Val::F32(5.0), Val::F64(5.0)];
    let result = returned(instance.run("8", &[]));
    assert_eq!(bits(&result), bits(&[half.clone(), half].concat()));
}
