//! Guests' functions as they are entered: every count and type of arguments, one function after the other, and what
//! host functions find around them.

use std::cell::Cell;

use selvedge::{RuntimeError, UntypedRetVal, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, bits, returned, returned_i32};

/// A function of `count` parameters of a type that adds them up.
fn sum(name: &str, ty: &str, count: usize) -> String {
    let params = format!("{ty} ").repeat(count);
    let adds: String = (1..count)
        .map(|i| format!("(local.get {i}) ({ty}.add)"))
        .collect();
    format!("(func (export \"{name}\") (param {params}) (result {ty}) (local.get 0) {adds})")
}

#[test]
fn sums_and_products_of_every_type_come_out_exactly() {
    let functions: String = ["i32", "i64", "f32", "f64"]
        .iter()
        .flat_map(|ty| (1..=20).map(move |count| sum(&format!("{ty}_{count}"), ty, count)))
        .collect();
    let mut instance = Sandbox::new().instance(&format!(
        r#"(module {functions}
            (func (export "mul") (param i64 i64) (result i64) (i64.mul (local.get 0) (local.get 1))))"#
    ));
    type Make = fn(i32) -> Val;
    let make: [(&str, Make); 4] = [
        ("i32", Val::I32),
        ("i64", |n| Val::I64(n.into())),
        ("f32", |n| Val::F32(n as f32 / 4.0)),
        ("f64", |n| Val::F64(f64::from(n) / 8.0)),
    ];
    for (ty, make) in make {
        for count in 1..=20 {
            // Alternating signs, so that a lost or doubled argument shows.
            let terms: Vec<i32> = (0..count)
                .map(|i| if i % 2 == 0 { 3 << i } else { -(1 << i) })
                .collect();
            let args: Vec<Val> = terms.iter().map(|&n| make(n)).collect();
            let found = returned(instance.run(&format!("{ty}_{count}"), &args));
            assert_eq!(
                bits(&found),
                bits(&[make(terms.iter().sum())]),
                "{ty} {count}"
            );
        }
    }
    let product = returned(instance.run("mul", &[Val::I64(-123_456_789), Val::I64(1000)]));
    assert_eq!(bits(&product), bits(&[Val::I64(-123_456_789_000)]));
}

#[test]
fn twenty_arguments_of_mixed_types_give_one_float() {
    let tys = ["i32", "f64", "i64", "f32"];
    let params: String = (0..20).map(|i| format!("{} ", tys[i % 4])).collect();
    let adds: String = (0..20)
        .map(|i| {
            let convert = match tys[i % 4] {
                "i32" => "f64.convert_i32_s",
                "i64" => "f64.convert_i64_s",
                "f32" => "f64.promote_f32",
                _ => "",
            };
            format!("(local.get {i}) {convert} f64.add ")
        })
        .collect();
    let mut instance = Sandbox::new().instance(&format!(
        r#"(module (func (export "f") (param {params}) (result f64) (f64.const 0) {adds}))"#
    ));
    let args: Vec<Val> = (0..20)
        .map(|i| match i % 4 {
            0 => Val::I32(-(1 << i)),
            1 => Val::F64(f64::from(1 << i) + 0.125),
            2 => Val::I64(1 << i),
            _ => Val::F32(0.5),
        })
        .collect();
    let expected: f64 = args
        .iter()
        .map(|arg| match arg {
            Val::I32(v) => f64::from(*v),
            Val::F64(v) => *v,
            Val::I64(v) => *v as f64,
            Val::F32(v) => f64::from(*v),
            other => panic!("{other:?}"),
        })
        .sum();
    let found = returned(instance.run("f", &args));
    assert_eq!(bits(&found), bits(&[Val::F64(expected)]));
}

#[test]
fn two_functions_run_one_after_the_other_in_one_instance() {
    let mut instance = Sandbox::new().instance(
        r#"(module (global $g (mut i32) (i32.const 1))
            (func (export "set") (param i32) (global.set $g (local.get 0)))
            (func (export "get") (result i32) (global.get $g)))"#,
    );
    assert_eq!(returned_i32(instance.run("get", &[])), 1);
    for n in [7, -7, 0] {
        returned(instance.run("set", &[Val::I32(n)]));
        assert_eq!(returned_i32(instance.run("get", &[])), n);
    }
}

#[test]
fn every_rust_scalar_goes_round_through_an_untyped_result() {
    fn check<T: Copy + PartialEq + std::fmt::Debug + Into<Val> + From<UntypedRetVal>>(
        values: &[T],
    ) {
        let mut instance = Sandbox::new().instance(
            r#"(module
                (func (export "i32") (param i32) (result i32) (local.get 0))
                (func (export "i64") (param i64) (result i64) (local.get 0))
                (func (export "f32") (param f32) (result f32) (local.get 0))
                (func (export "f64") (param f64) (result f64) (local.get 0)))"#,
        );
        for &value in values {
            let val: Val = value.into();
            let ty = val.ty().to_string();
            let back = instance.run(&ty, &[val]).unwrap().unwrap_returned();
            assert_eq!(T::from(back), value, "{ty}");
        }
    }
    check(&[0i32, -1, i32::MIN, i32::MAX]);
    check(&[0u32, u32::MAX]);
    check(&[0i64, -1, i64::MIN, i64::MAX]);
    check(&[0u64, u64::MAX]);
    check(&[0f32, -0.5, f32::MAX, f32::INFINITY]);
    check(&[0f64, -0.5, f64::MIN_POSITIVE, f64::NEG_INFINITY]);
}

#[test]
fn results_of_another_type_are_told_by_their_values() {
    // The type of a result is never guessed: it comes with the value.
    let mut instance = Sandbox::new().instance(
        r#"(module (func (export "f") (result f64) (f64.const 2)) (func (export "none")))"#,
    );
    let values = returned(instance.run("f", &[]));
    assert_eq!((values[0].f64(), values[0].i64()), (Some(2.0), None));
    assert!(returned(instance.run("none", &[])).is_empty());
    assert!(matches!(
        instance.typed_func::<(), i64>("f"),
        Err(RuntimeError::TypeMismatch { .. })
    ));
    assert!(instance.typed_func::<(), f64>("none").is_err());
}

#[test]
fn host_functions_with_any_count_of_arguments_allocate_and_see_the_threads_locals() {
    thread_local! {
        static LOCAL: Cell<u32> = const { Cell::new(0) };
    }
    let mut sandbox = Sandbox::new();
    let use_the_host = |_: &Vmctx<'_>| {
        LOCAL.set(LOCAL.get() + 1);
        // Formatting of floats uses aligned vector instructions on the stack.
        let text = format!("{:.3} {:?}", 1.5f64, vec![LOCAL.get(); 100]);
        text.len() as i32
    };
    sandbox
        .linker
        .func("h", "f0", move |v: &Vmctx<'_>| use_the_host(v))
        .unwrap()
        .func("h", "f1", move |v: &Vmctx<'_>, _: i32| use_the_host(v))
        .unwrap()
        .func(
            "h",
            "f6",
            move |v: &Vmctx<'_>, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| use_the_host(v),
        )
        .unwrap()
        .func(
            "h",
            "f7",
            move |v: &Vmctx<'_>, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| {
                use_the_host(v)
            },
        )
        .unwrap();
    let calls: String = [0, 1, 6, 7]
        .iter()
        .map(|n| {
            let args = "(i32.const 1)".repeat(*n);
            format!("(func (export \"f{n}\") (result i32) (call $f{n} {args}))")
        })
        .collect();
    let imports: String = [0, 1, 6, 7]
        .iter()
        .map(|n| {
            let params = "i32 ".repeat(*n);
            format!("(import \"h\" \"f{n}\" (func $f{n} (param {params}) (result i32)))")
        })
        .collect();
    let mut instance = sandbox.instance(&format!("(module {imports} {calls})"));
    for name in ["f0", "f1", "f6", "f7"] {
        let before = LOCAL.get();
        let expected = format!("1.500 {:?}", vec![before + 1; 100]).len();
        assert_eq!(returned_i32(instance.run(name, &[])), expected as i32);
        assert_eq!(LOCAL.get(), before + 1);
    }
}
