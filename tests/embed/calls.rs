//! Calls from the host to the guest: typed and untyped, every scalar type, many parameters and
//! results, and what is refused.

use selvedge::{
    ExternType, FuncType, RuntimeError, TypedFunc, Val, ValType, Vmctx, WasmParams, WasmResults,
};
use selvedge_tests::sandbox::{Sandbox, bits, returned, returned_i32};

/// An identity function of each scalar type.
const IDENTITIES: &str = r#"(module
    (func (export "i32") (param i32) (result i32) (local.get 0))
    (func (export "i64") (param i64) (result i64) (local.get 0))
    (func (export "f32") (param f32) (result f32) (local.get 0))
    (func (export "f64") (param f64) (result f64) (local.get 0))
    (func (export "nothing")))"#;

#[test]
fn each_scalar_type_goes_in_and_comes_out_unchanged() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(IDENTITIES);
    // Quiet and signalling NaNs, both zeros, denormals and infinities, as bits.
    let floats32 = [
        0,
        1 << 31,
        1,
        0x7f80_0000,
        0x7fa0_0001,
        0xffc1_2345,
        0x3f80_0000,
    ];
    let floats64 = [
        0,
        1 << 63,
        1,
        0x7ff0 << 48,
        (0x7ff4 << 48) | 1,
        (0xfff8 << 48) | 0xabc,
        1023 << 52,
    ];
    let values = [i32::MIN, -1, 0, 1, i32::MAX]
        .map(Val::I32)
        .into_iter()
        .chain([i64::MIN, -1, 0, 1, i64::MAX].map(Val::I64))
        .chain(floats32.map(|bits| Val::F32(f32::from_bits(bits))))
        .chain(floats64.map(|bits| Val::F64(f64::from_bits(bits))));
    for value in values {
        let given = std::slice::from_ref(&value);
        let result = returned(instance.run(&value.ty().to_string(), given));
        assert_eq!(bits(&result), bits(given));
    }
    assert!(returned(instance.run("nothing", &[])).is_empty());
}

#[test]
fn typed_functions_take_signed_and_unsigned_integers_and_floats() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(IDENTITIES);
    macro_rules! check {
        ($($export:literal $ty:ty: $($value:expr),*;)*) => {$(
            let func: TypedFunc<($ty,), $ty> = instance.typed_func($export).unwrap();
            let same: TypedFunc<$ty, $ty> = instance.typed_func($export).unwrap();
            for value in [$($value),*] {
                let out = func.call(&mut instance, (value,)).unwrap();
                assert_eq!(out.to_ne_bytes(), value.to_ne_bytes());
                let out = same.call(&mut instance, value).unwrap();
                assert_eq!(out.to_ne_bytes(), value.to_ne_bytes());
            }
        )*};
    }
    check! {
        "i32" i32: i32::MIN, -1, 0, i32::MAX;
        "i32" u32: 0, 1 << 31, u32::MAX;
        "i64" i64: i64::MIN, -1, 0, i64::MAX;
        "i64" u64: 0, 1 << 63, u64::MAX;
        "f32" f32: -0.0, f32::MIN_POSITIVE, f32::from_bits(0x7fa0_0001);
        "f64" f64: -0.0, f64::NEG_INFINITY, f64::from_bits((0x7ff4 << 48) | 1);
    }
    let nothing: TypedFunc<(), ()> = instance.typed_func("nothing").unwrap();
    nothing.call(&mut instance, ()).unwrap();
}

#[test]
fn typed_and_untyped_results_convert_alike() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(IDENTITIES);
    let ret = instance
        .run("i32", &[Val::I32(-2)])
        .unwrap()
        .unwrap_returned();
    assert_eq!(i32::from(&ret), -2);
    assert_eq!(u32::from(&ret), u32::MAX - 1);
    assert_eq!(
        u64::from(&ret),
        u64::from(u32::MAX - 1),
        "integers are zero-extended"
    );
    assert!(bool::from(ret));
    let ret = instance
        .run("f64", &[Val::F64(1.5)])
        .unwrap()
        .returned()
        .unwrap();
    assert_eq!(f64::from(ret), 1.5);
    let ret = instance.run("nothing", &[]).unwrap().unwrap_returned();
    assert_eq!(u64::from(ret), 0);
}

/// A module with a function `f` that folds its parameters into one `i64`: `h = h * 31 + bits(param)`.
fn folding(params: &[ValType]) -> String {
    let mut body = "(i64.const 7)".to_owned();
    for (i, ty) in params.iter().enumerate() {
        let bits = match ty {
            ValType::I32 => format!("(i64.extend_i32_u (local.get {i}))"),
            ValType::I64 => format!("(local.get {i})"),
            ValType::F32 => format!("(i64.extend_i32_u (i32.reinterpret_f32 (local.get {i})))"),
            _ => format!("(i64.reinterpret_f64 (local.get {i}))"),
        };
        body = format!("(i64.add (i64.mul {body} (i64.const 31)) {bits})");
    }
    let list: Vec<String> = params.iter().map(ToString::to_string).collect();
    format!(
        "(module (func (export \"f\") (param {}) (result i64) {body}))",
        list.join(" ")
    )
}

/// What the function of [`folding`] gives.
fn folded(bits: &[u64]) -> u64 {
    bits.iter().fold(7, |hash: u64, &bits| {
        hash.wrapping_mul(31).wrapping_add(bits)
    })
}

fn check_fold<P: WasmParams>(params: P, bits: &[u64]) {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&folding(P::types()));
    let func: TypedFunc<P, u64> = instance.typed_func("f").unwrap();
    assert_eq!(func.call(&mut instance, params).unwrap(), folded(bits));
}

#[test]
fn typed_calls_pass_up_to_sixteen_parameters_of_any_mix() {
    check_fold((1, 2, 3, 4, 5), &[1, 2, 3, 4, 5]);
    check_fold(
        (1u64, 2u64, 3u64, 4u64, 5u64, 6u64, 7u64),
        &[1, 2, 3, 4, 5, 6, 7],
    );
    check_fold(
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, -1),
        &[
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            9,
            10,
            11,
            12,
            13,
            14,
            15,
            u64::from(u32::MAX),
        ],
    );
    let floats = (
        0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5,
    );
    let bits: Vec<u64> = (0..16u8).map(|i| (f64::from(i) + 0.5).to_bits()).collect();
    check_fold(floats, &bits);
    check_fold(
        (
            1, 2.5f32, 3i64, 4.5f64, 5u32, 6.5f32, 7u64, 8.5f64, 9, 10.5f32, 11i64, 12.5f64, 13,
            14.5f32, 15i64, 16.5f64,
        ),
        &[
            1,
            2.5f32.to_bits().into(),
            3,
            4.5f64.to_bits(),
            5,
            6.5f32.to_bits().into(),
            7,
            8.5f64.to_bits(),
            9,
            10.5f32.to_bits().into(),
            11,
            12.5f64.to_bits(),
            13,
            14.5f32.to_bits().into(),
            15,
            16.5f64.to_bits(),
        ],
    );
}

/// Calls a function that returns constants of these types: 1, 2, 3, ...
fn constants<R: WasmResults>() -> R {
    let types = R::types();
    let list: Vec<String> = types.iter().map(ToString::to_string).collect();
    let body: Vec<String> = (1..)
        .zip(types)
        .map(|(i, ty)| format!("({ty}.const {i})"))
        .collect();
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&format!(
        "(module (func (export \"f\") (result {}) {}))",
        list.join(" "),
        body.join(" ")
    ));
    let func: TypedFunc<(), R> = instance.typed_func("f").unwrap();
    func.call(&mut instance, ()).unwrap()
}

#[test]
fn typed_calls_return_up_to_eight_results_of_any_mix() {
    assert_eq!(constants::<(i32, i64)>(), (1, 2));
    assert_eq!(constants::<(f32, f64, u32)>(), (1.0, 2.0, 3));
    assert_eq!(constants::<(u64, u64, u64, u64)>(), (1, 2, 3, 4));
    assert_eq!(
        constants::<(i32, f32, i64, f64, i32)>(),
        (1, 2.0, 3, 4.0, 5)
    );
    assert_eq!(
        constants::<(f64, f64, f64, f64, f64, f64)>(),
        (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    );
    assert_eq!(
        constants::<(i32, i32, i32, i32, i32, i32, f32)>(),
        (1, 2, 3, 4, 5, 6, 7.0)
    );
    assert_eq!(
        constants::<(i32, i64, f32, f64, u32, u64, f32, f64)>(),
        (1, 2, 3.0, 4.0, 5, 6, 7.0, 8.0)
    );
}

#[test]
fn untyped_calls_pass_and_return_hundreds_of_values() {
    const COUNT: usize = 500;
    let list = "i32 f64 ".repeat(COUNT / 2);
    let body: String = (0..COUNT).map(|i| format!("(local.get {i})")).collect();
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&format!(
        "(module (func (export \"f\") (param {list}) (result {list}) {body}))"
    ));
    let args: Vec<Val> = (0..COUNT as i32)
        .map(|i| {
            if i % 2 == 0 {
                Val::I32(i)
            } else {
                Val::F64(i.into())
            }
        })
        .collect();
    assert_eq!(bits(&returned(instance.run("f", &args))), bits(&args));
}

#[test]
fn a_name_that_is_not_exported_is_an_error_that_lists_what_is() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(IDENTITIES);
    let error = instance.run("f16", &[]).unwrap_err();
    assert!(
        matches!(&error, RuntimeError::UnknownExport { name, exports }
        if name == "f16" && exports.len() == 5)
    );
    assert!(error.to_string().contains("\"f32\""), "{error}");
    let error = instance.typed_func::<(), ()>("").unwrap_err();
    assert!(matches!(error, RuntimeError::UnknownExport { .. }));
}

#[test]
fn an_export_of_another_kind_is_not_called() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory (export "m") 1) (table (export "t") 1 funcref)
            (global (export "g") i32 (i32.const 1)) (func (export "f")))"#,
    );
    for (name, kind) in [("m", "memory"), ("t", "table"), ("g", "global")] {
        let error = instance.run(name, &[]).unwrap_err();
        assert!(
            matches!(error, RuntimeError::ExportKind { expected: "function", found, .. } if found == kind)
        );
        assert!(instance.typed_func::<(), ()>(name).is_err());
    }
    for error in [
        instance.global("f").unwrap_err(),
        instance.table_len("f").unwrap_err(),
    ] {
        assert!(matches!(
            error,
            RuntimeError::ExportKind {
                found: "function",
                ..
            }
        ));
    }
}

#[test]
fn arguments_of_other_types_or_counts_are_refused_before_the_guest_runs() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (global $ran (export "ran") (mut i32) (i32.const 0))
            (func (export "f") (param i32 f64) (global.set $ran (i32.const 1))))"#,
    );
    let wrong: [&[Val]; 5] = [
        &[],
        &[Val::I32(1)],
        &[Val::I64(1), Val::F64(1.0)],
        &[Val::F64(1.0), Val::I32(1)],
        &[Val::I32(1), Val::F64(1.0), Val::I32(1)],
    ];
    for args in wrong {
        let error = instance.run("f", args).unwrap_err();
        assert!(
            matches!(error, RuntimeError::TypeMismatch { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("(i32, f64)"), "{error}");
    }
    assert_eq!(instance.global("ran").unwrap().i32(), Some(0));
}

#[test]
fn a_typed_view_of_another_type_is_refused_with_both_types() {
    let sandbox = Sandbox::new();
    let instance = sandbox.instance(IDENTITIES);
    let error = instance.typed_func::<i64, i32>("i32").unwrap_err();
    assert_eq!(
        error.to_string(),
        "type mismatch: the function is (i32) -> (i32), got (i64) -> (i32)"
    );
    assert!(instance.typed_func::<i32, ()>("i32").is_err());
    assert!(instance.typed_func::<(), i32>("i32").is_err());
    assert!(instance.typed_func::<(i32, i32), i32>("i32").is_err());
    assert!(instance.typed_func::<i32, (i32, i32)>("i32").is_err());
    assert!(instance.typed_func::<f32, f32>("i32").is_err());
}

#[test]
fn a_typed_function_belongs_to_its_instance() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(IDENTITIES);
    let mut first = sandbox.region.new_instance(&program).unwrap();
    let mut second = sandbox.region.new_instance(&program).unwrap();
    let func = first.typed_func::<i32, i32>("i32").unwrap();
    assert_eq!(func.call(&mut first, 1).unwrap(), 1);
    let refused = func.call(&mut second, 1).unwrap_err();
    assert!(matches!(refused, RuntimeError::ForeignReference));
    // Also when a new instance of the same program has taken the slot.
    drop(first);
    let mut third = sandbox.region.new_instance(&program).unwrap();
    let refused = func.call(&mut third, 1).unwrap_err();
    assert!(matches!(refused, RuntimeError::ForeignReference));
}

#[test]
fn a_host_function_that_is_exported_again_is_called_directly() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "add", |_: &Vmctx<'_>, a: i32, b: i64, c: f64| {
            (f64::from(a) + c, b + 1)
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "add" (func $add (param i32 i64 f64) (result f64 i64)))
            (export "sum" (func $add)))"#,
    );
    let args = [Val::I32(1), Val::I64(41), Val::F64(0.5)];
    assert_eq!(
        bits(&returned(instance.run("sum", &args))),
        bits(&[Val::F64(1.5), Val::I64(42)])
    );
    let func: TypedFunc<(i32, i64, f64), (f64, i64)> = instance.typed_func("sum").unwrap();
    assert_eq!(func.call(&mut instance, (2, 9, 0.25)).unwrap(), (2.25, 10));
}

#[test]
fn functions_are_run_by_their_place_in_a_table() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (table 4 funcref) (table 1 externref)
            (elem (i32.const 1) func $double $name)
            (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
            (func $name (result i64) (i64.const 5)))"#,
    );
    assert_eq!(
        returned_i32(instance.run_func_idx(0, 1, &[Val::I32(21)])),
        42
    );
    let result = returned(instance.run_func_idx(0, 2, &[]));
    assert_eq!(bits(&result), bits(&[Val::I64(5)]));
    for (table, index) in [(0, 0), (0, 3), (0, 4), (0, u32::MAX), (1, 0), (2, 0)] {
        let error = instance.run_func_idx(table, index, &[]).unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
    }
    let error = instance.run_func_idx(0, 1, &[Val::I64(1)]).unwrap_err();
    assert!(matches!(error, RuntimeError::TypeMismatch { .. }));
}

#[test]
fn a_module_says_what_it_imports_and_exports() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, _: i32| {})
        .unwrap();
    let module = sandbox.module(
        r#"(module $m (import "h" "f" (func (param i32)))
            (memory (export "m") 1 3) (func (export "g") (result f32) (f32.const 0)))"#,
    );
    assert_eq!(module.name(), Some("m"));
    assert!(!module.has_start());
    let imports: Vec<_> = module.imports().collect();
    assert_eq!((imports[0].module, imports[0].name), ("h", "f"));
    assert_eq!(
        imports[0].ty,
        ExternType::Func(FuncType::new([ValType::I32], []))
    );
    let exports: Vec<_> = module
        .exports()
        .map(|e| (e.name, e.ty.to_string()))
        .collect();
    assert_eq!(
        exports,
        [
            ("m", "memory of 1 to 3 pages".to_owned()),
            ("g", "function () -> (f32)".to_owned())
        ]
    );
    assert_eq!(module.export_type("x"), None);
}
