//! Globals and tables by name, and references that go from host to guest and back.

use std::sync::Arc;

use selvedge::{ExternRef, Func, FuncType, HostError, RuntimeError, Val, ValType, Vmctx};
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned, returned_i32};

#[test]
fn globals_of_every_scalar_type_are_read_and_written() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (global (export "i32") (mut i32) (i32.const -1)) (global (export "i64") (mut i64) (i64.const -2))
            (global (export "f32") (mut f32) (f32.const nan:0x200001)) (global (export "f64") (mut f64) (f64.const -0))
            (func (export "get") (result i32 i64 f32 f64)
                (global.get 0) (global.get 1) (global.get 2) (global.get 3))
            (func (export "set") (param i32 i64 f32 f64)
                (global.set 0 (local.get 0)) (global.set 1 (local.get 1))
                (global.set 2 (local.get 2)) (global.set 3 (local.get 3))))"#,
    );
    let initial = [
        Val::I32(-1),
        Val::I64(-2),
        Val::F32(f32::from_bits(0x7fa0_0001)),
        Val::F64(-0.0),
    ];
    let names = ["i32", "i64", "f32", "f64"];
    let read = |instance: &selvedge::Instance| names.map(|name| instance.global(name).unwrap());
    assert_eq!(bits(&read(&instance)), bits(&initial));
    assert_eq!(bits(&returned(instance.run("get", &[]))), bits(&initial));
    let by_host = [Val::I32(5), Val::I64(1 << 40), Val::F32(1.5), Val::F64(2.5)];
    for (name, value) in names.iter().zip(&by_host) {
        instance.set_global(name, value).unwrap();
    }
    assert_eq!(bits(&returned(instance.run("get", &[]))), bits(&by_host));
    let by_guest = [Val::I32(6), Val::I64(7), Val::F32(8.0), Val::F64(9.0)];
    returned(instance.run("set", &by_guest));
    assert_eq!(bits(&read(&instance)), bits(&by_guest));
}

#[test]
fn constant_globals_and_values_of_other_types_are_refused() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (global (export "const") i32 (i32.const 1))
            (global (export "mut") (mut i32) (i32.const 1)))"#,
    );
    let error = instance.set_global("const", &Val::I32(2)).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
    let error = instance.set_global("mut", &Val::I64(2)).unwrap_err();
    assert!(matches!(
        error,
        RuntimeError::ValueType {
            expected: ValType::I32,
            found: ValType::I64
        }
    ));
    let error = instance.global("absent").unwrap_err();
    assert!(matches!(error, RuntimeError::UnknownExport { .. }));
    assert_eq!(instance.global("const").unwrap().i32(), Some(1));
    assert_eq!(instance.global("mut").unwrap().i32(), Some(1));
}

#[test]
fn globals_are_made_of_extended_constants() {
    let sandbox = Sandbox::new();
    let instance = sandbox.instance(
        r#"(module
            (global (export "b") i32 (i32.add (i32.mul (i32.const 6) (i32.const 7)) (i32.const 1)))
            (global (export "c") i64 (i64.sub (i64.const 0) (i64.const 1))))"#,
    );
    assert_eq!(instance.global("b").unwrap().i32(), Some(43));
    assert_eq!(instance.global("c").unwrap().i64(), Some(-1));
}

/// Tables in both places (a small maximum stands in the context), and functions to put there.
const TABLES: &str = r#"(module
    (type $op (func (param i32) (result i32)))
    (table $t (export "t") 4 10 funcref) (table $big (export "big") 2 funcref)
    (table $e (export "e") 2 externref)
    (elem (i32.const 0) func $double)
    (func $double (export "double") (type $op) (i32.mul (local.get 0) (i32.const 2)))
    (func $triple (export "triple") (type $op) (i32.mul (local.get 0) (i32.const 3)))
    (func (export "other") (result i64) (i64.const 5))
    (func (export "call") (param i32 i32) (result i32)
        (call_indirect $t (type $op) (local.get 1) (local.get 0)))
    (func (export "call big") (param i32 i32) (result i32)
        (call_indirect $big (type $op) (local.get 1) (local.get 0)))
    (func (export "func") (param i32) (result funcref) (table.get $t (local.get 0)))
    (func (export "triple ref") (result funcref) (ref.func $triple))
    (func (export "set") (param i32 funcref) (table.set $t (local.get 0) (local.get 1)))
    (func (export "grow") (param i32 funcref) (result i32)
        (table.grow $t (local.get 1) (local.get 0)))
    (func (export "grow big") (param i32 funcref) (result i32)
        (table.grow $big (local.get 1) (local.get 0)))
    (func (export "same") (param externref) (result externref) (local.get 0))
    (func (export "is null") (param externref) (result i32) (ref.is_null (local.get 0)))
    (func (export "keep") (param i32 externref) (table.set $e (local.get 0) (local.get 1)))
    (func (export "kept") (param i32) (result externref) (table.get $e (local.get 0))))"#;

/// The function in a value.
fn func(values: &[Val]) -> Option<Func> {
    match values {
        [Val::FuncRef(func)] => *func,
        other => panic!("one funcref was expected, not {other:?}"),
    }
}

#[test]
fn function_references_go_to_the_host_and_back() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(TABLES);
    let triple = func(&returned(instance.run("triple ref", &[]))).unwrap();
    assert_eq!(returned_i32(instance.run_func(triple, &[Val::I32(5)])), 15);
    let again = func(&returned(instance.run("triple ref", &[]))).unwrap();
    assert_eq!(triple, again, "a function is one reference");
    let double = func(&returned(instance.run("func", &[Val::I32(0)]))).unwrap();
    assert_ne!(double, triple);
    assert_eq!(func(&returned(instance.run("func", &[Val::I32(1)]))), None);
    returned(instance.run("set", &[Val::I32(3), Val::FuncRef(Some(triple))]));
    assert_eq!(
        returned_i32(instance.run("call", &[Val::I32(3), Val::I32(7)])),
        21
    );
    returned(instance.run("set", &[Val::I32(3), Val::FuncRef(None)]));
    fault(instance.run("call", &[Val::I32(3), Val::I32(7)]));
    let error = instance.run_func(double, &[]).unwrap_err();
    assert!(matches!(error, RuntimeError::TypeMismatch { .. }));
}

#[test]
fn the_host_reads_and_fills_function_tables() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(TABLES);
    let Some(Val::FuncRef(Some(double))) = instance.table_get("t", 0).unwrap() else {
        panic!("element 0 is a function")
    };
    let triple = func(&returned(instance.run("triple ref", &[])));
    for (table, call) in [("t", "call"), ("big", "call big")] {
        instance
            .table_set(table, 1, &Val::FuncRef(Some(double)))
            .unwrap();
        assert_eq!(
            returned_i32(instance.run(call, &[Val::I32(1), Val::I32(4)])),
            8
        );
        instance.table_set(table, 1, &Val::FuncRef(triple)).unwrap();
        assert_eq!(
            returned_i32(instance.run(call, &[Val::I32(1), Val::I32(4)])),
            12
        );
        let read = instance.table_get(table, 1).unwrap().unwrap();
        assert_eq!(func(&[read]), triple);
        instance.table_set(table, 1, &Val::FuncRef(None)).unwrap();
        fault(instance.run(call, &[Val::I32(1), Val::I32(4)]));
    }
    assert_eq!(instance.table_len("t").unwrap(), 4);
    assert!(instance.table_get("t", 4).unwrap().is_none());
    assert!(instance.table_get("t", u64::MAX).unwrap().is_none());
    for index in [4, u64::from(u32::MAX), u64::MAX] {
        let error = instance
            .table_set("t", index, &Val::FuncRef(None))
            .unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidArgument(_)), "{error}");
    }
    let error = instance
        .table_set("t", 0, &Val::ExternRef(None))
        .unwrap_err();
    assert!(matches!(error, RuntimeError::ValueType { .. }));
}

#[test]
fn tables_that_the_guest_grew_are_seen_by_the_host_and_by_indirect_calls() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(TABLES);
    let triple = Val::FuncRef(func(&returned(instance.run("triple ref", &[]))));
    for (table, grow, call, len) in [("t", "grow", "call", 4), ("big", "grow big", "call big", 2)] {
        assert_eq!(
            returned_i32(instance.run(grow, &[Val::I32(6), triple.clone()])),
            len
        );
        assert_eq!(instance.table_len(table).unwrap(), len as u64 + 6);
        let args = [Val::I32(len + 5), Val::I32(2)];
        assert_eq!(returned_i32(instance.run(call, &args)), 6);
        fault(instance.run(call, &[Val::I32(len + 6), Val::I32(2)]));
    }
    // Its own maximum is 10.
    assert_eq!(
        returned_i32(instance.run("grow", &[Val::I32(1), triple])),
        -1
    );
}

#[test]
fn host_objects_are_the_same_when_they_come_back() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(TABLES);
    let object = ExternRef::new("a host object".to_owned());
    let value = Val::ExternRef(Some(object.clone()));
    let back = |values: Vec<Val>| match values.as_slice() {
        [Val::ExternRef(object)] => object.clone(),
        other => panic!("{other:?}"),
    };
    let same = back(returned(instance.run("same", std::slice::from_ref(&value)))).unwrap();
    assert!(same.same(&object));
    assert_eq!(same.downcast_ref::<String>().unwrap(), "a host object");
    assert!(same.downcast_ref::<u32>().is_none());
    assert!(back(returned(instance.run("same", &[Val::ExternRef(None)]))).is_none());
    assert_eq!(
        returned_i32(instance.run("is null", &[Val::ExternRef(None)])),
        1
    );
    assert_eq!(
        returned_i32(instance.run("is null", std::slice::from_ref(&value))),
        0
    );
    returned(instance.run("keep", &[Val::I32(1), value.clone()]));
    let kept = back(returned(instance.run("kept", &[Val::I32(1)]))).unwrap();
    assert!(kept.same(&object));
    assert!(back(returned(instance.run("kept", &[Val::I32(0)]))).is_none());
    instance.table_set("e", 0, &value).unwrap();
    let kept = back(returned(instance.run("kept", &[Val::I32(0)]))).unwrap();
    assert!(kept.same(&object));
}

#[test]
fn host_objects_live_until_the_instance_goes() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(TABLES);
    let counted = Arc::new(());
    let value = Val::ExternRef(Some(ExternRef::new(counted.clone())));
    returned(instance.run("keep", &[Val::I32(0), value]));
    assert_eq!(Arc::strong_count(&counted), 2);
    drop(instance);
    assert_eq!(Arc::strong_count(&counted), 1);
}

#[test]
fn references_of_another_instance_are_refused_wherever_they_are_given() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(TABLES);
    let mut owner = sandbox.region.new_instance(&program).unwrap();
    let mut other = sandbox.region.new_instance(&program).unwrap();
    let foreign = func(&returned(owner.run("triple ref", &[]))).unwrap();
    let value = Val::FuncRef(Some(foreign));
    let refused = [
        other.run("set", &[Val::I32(0), value.clone()]).map(drop),
        other.run_func(foreign, &[Val::I32(1)]).map(drop),
        other.table_set("t", 0, &value),
    ];
    for result in refused {
        assert!(matches!(result, Err(RuntimeError::ForeignReference)));
    }
    // Also after its owner is gone and another instance stands in the same slot.
    drop(owner);
    let mut heir = sandbox.region.new_instance(&program).unwrap();
    let refused = heir.run_func(foreign, &[Val::I32(1)]).unwrap_err();
    assert!(matches!(refused, RuntimeError::ForeignReference));
}

#[test]
fn references_stand_in_globals() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(
        r#"(module (global (export "f") (mut funcref) (ref.func $five)) (global (export "e") (mut externref) (ref.null extern))
            (table $t 1 funcref)
            (func $five (export "five") (result i32) (i32.const 5)) (func $six (result i32) (i32.const 6))
            (elem declare func $six)
            (func (export "six") (global.set 0 (ref.func $six)))
            (func (export "call") (result i32)
                (table.set $t (i32.const 0) (global.get 0)) (call_indirect $t (result i32) (i32.const 0))))"#,
    );
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    let mut other = sandbox.region.new_instance(&program).unwrap();
    let five = instance.global("f").unwrap();
    returned(instance.run("six", &[]));
    assert_eq!(returned_i32(instance.run("call", &[])), 6);
    instance.set_global("f", &five).unwrap();
    assert_eq!(returned_i32(instance.run("call", &[])), 5);
    let refused = other.set_global("f", &five).unwrap_err();
    assert!(matches!(refused, RuntimeError::ForeignReference));
    let object = ExternRef::new(1u8);
    instance
        .set_global("e", &Val::ExternRef(Some(object.clone())))
        .unwrap();
    let Val::ExternRef(Some(found)) = instance.global("e").unwrap() else {
        panic!("an object was put there")
    };
    assert!(found.same(&object));
}

/// A guest that passes a function and an object to the host.
const PASSING: &str = r#"(module
    (import "h" "apply" (func $apply (param funcref i32) (result i32)))
    (import "h" "choose" (func $choose (param i32) (result funcref)))
    (import "h" "describe" (func $describe (param externref) (result i32)))
    (table $t (export "t") 3 funcref) (elem declare func $next $trap)
    (elem $t (i32.const 1) func $next $trap)
    (func $next (export "next") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
    (func $trap (param i32) (result i32) unreachable)
    (func (export "apply") (param i32) (result i32) (call $apply (table.get $t (local.get 0)) (i32.const 41)))
    (func (export "choose") (param i32) (result i32)
        (table.set $t (i32.const 0) (call $choose (local.get 0)))
        (call_indirect $t (param i32) (result i32) (i32.const 1) (i32.const 0)))
    (func (export "describe") (param externref) (result i32) (call $describe (local.get 0))))"#;

#[test]
fn a_host_function_calls_a_function_that_the_guest_passed() {
    let mut sandbox = Sandbox::new();
    let linker = &mut sandbox.linker;
    let apply = FuncType::new([ValType::FUNCREF, ValType::I32], [ValType::I32]);
    let calling = |vmctx: &Vmctx<'_>, params: &[Val], results: &mut [Val]| {
        let Val::FuncRef(Some(func)) = params[0] else {
            results[0] = Val::I32(-1);
            return Ok(());
        };
        results.clone_from_slice(&vmctx.call_func(func, &params[1..])?);
        Ok(())
    };
    linker.func_new("h", "apply", apply, calling).unwrap();
    let choose = FuncType::new([ValType::I32], [ValType::FUNCREF]);
    let choosing = |_: &Vmctx<'_>, _: &[Val], _: &mut [Val]| Ok(());
    linker.func_new("h", "choose", choose, choosing).unwrap();
    let describe = FuncType::new([ValType::EXTERNREF], [ValType::I32]);
    let describing = |_: &Vmctx<'_>, params: &[Val], results: &mut [Val]| {
        let Val::ExternRef(Some(object)) = &params[0] else {
            return Err(HostError::new("nothing"));
        };
        let text = object
            .downcast_ref::<String>()
            .ok_or_else(|| HostError::new("no text"))?;
        results[0] = Val::I32(text.len() as i32);
        Ok(())
    };
    linker
        .func_new("h", "describe", describe, describing)
        .unwrap();
    let mut instance = sandbox.instance(PASSING);
    assert_eq!(returned_i32(instance.run("apply", &[Val::I32(0)])), -1);
    assert_eq!(returned_i32(instance.run("apply", &[Val::I32(1)])), 42);
    fault(instance.run("apply", &[Val::I32(2)]));
    let object = Val::ExternRef(Some(ExternRef::new("four".to_owned())));
    assert_eq!(returned_i32(instance.run("describe", &[object])), 4);
    let number = Val::ExternRef(Some(ExternRef::new(5u8)));
    assert!(instance.run("describe", &[number]).is_err());
    // The host's choice is null: the guest traps where it calls it.
    fault(instance.run("choose", &[Val::I32(0)]));
}

#[test]
fn a_host_function_in_a_table_is_called_like_any_other() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "few", |_: &Vmctx<'_>, n: i32| n + 1)
        .unwrap()
        .func(
            "h",
            "many",
            |_: &Vmctx<'_>, a: i32, b: i32, c: i32, d: i32, e: i32| (a + b + c + d, e),
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module
            (import "h" "few" (func $few (param i32) (result i32)))
            (import "h" "many" (func $many (param i32 i32 i32 i32 i32) (result i32 i32)))
            (table (export "t") funcref (elem $few $many))
            (func (export "few") (result i32)
                (call_indirect (param i32) (result i32) (i32.const 6) (i32.const 0)))
            (func (export "many") (result i32 i32)
                (call_indirect (param i32 i32 i32 i32 i32) (result i32 i32)
                    (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i32.const 1)))
            (func (export "mismatch") (result i32)
                (call_indirect (param i64) (result i32) (i64.const 6) (i32.const 0))))"#,
    );
    assert_eq!(returned_i32(instance.run("few", &[])), 7);
    let result = returned(instance.run("many", &[]));
    assert_eq!(bits(&result), bits(&[Val::I32(10), Val::I32(5)]));
    let fault = fault(instance.run("mismatch", &[]));
    assert_eq!(
        fault.info.unwrap().to_string(),
        "expected (i64) -> (i32), found (i32) -> (i32) in element 0 of table 0"
    );
    let func = func(&[instance.table_get("t", 0).unwrap().unwrap()]).unwrap();
    assert_eq!(returned_i32(instance.run_func(func, &[Val::I32(1)])), 2);
    assert_eq!(returned_i32(instance.run_func_idx(0, 0, &[Val::I32(2)])), 3);
}
