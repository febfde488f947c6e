//! Typed function references: calls through them, what null does, and that the host can't put a reference
//! where one of its type does not belong.

use std::slice::from_ref;

use selvedge::{
    ExternType, FuncType, HeapType, Limits, Linker, RefType, RuntimeError, TrapCode, Val, ValType,
};
use selvedge_tests::sandbox::{self, Sandbox, fault, returned, returned_i32};

/// A module that calls what it is given or has kept.
const CALLER: &str = r#"(module
    (type $unary (func (param i32) (result i32)))
    (type $other (func (result i32)))
    (global $kept (export "kept") (mut (ref null $unary)) (ref.null $unary))
    (global (export "fixed") (ref $unary) (ref.func $double))
    (table (export "typed") 2 10 (ref null $unary))
    (table (export "full") 1 (ref $unary) (ref.func $double))
    (table (export "any") 4 funcref)
    (elem (table 2) (i32.const 0) func $double $answer)
    (elem declare func $triple)
    (func $double (export "double") (type $unary) (i32.mul (local.get 0) (i32.const 2)))
    (func $triple (export "triple") (type $unary) (i32.mul (local.get 0) (i32.const 3)))
    (func $answer (export "answer") (type $other) (i32.const 42))
    (func (export "call") (param $f (ref $unary)) (param i32) (result i32)
        (call_ref $unary (local.get 1) (local.get $f)))
    (func (export "call_null") (param $f (ref null $unary)) (param i32) (result i32)
        (call_ref $unary (local.get 1) (local.get $f)))
    (func (export "call_kept") (param i32) (result i32)
        (call_ref $unary (local.get 0) (global.get $kept)))
    (func (export "tail") (param $f (ref null $unary)) (param i32) (result i32)
        (return_call_ref $unary (local.get 1) (local.get $f)))
    (func (export "or_else") (param $f (ref null $unary)) (result i32)
        (block $null
            (return (call_ref $unary (i32.const 10) (br_on_null $null (local.get $f)))))
        (i32.const -1))
    (func (export "if_there") (param $f (ref null $unary)) (result i32)
        (block $there (result (ref $unary))
            (br_on_non_null $there (local.get $f))
            (return (i32.const -1)))
        (drop) (i32.const 1))
    (func (export "as_non_null") (param (ref null $unary)) (result (ref $unary))
        (ref.as_non_null (local.get 0)))
    (func (export "get_triple") (result (ref $unary)) (ref.func $triple))
    (func (export "set_typed") (param i32 (ref null $unary)) (table.set 0 (local.get 0) (local.get 1)))
    (func (export "indirect") (param i32) (result i32)
        (call_indirect 0 (type $unary) (i32.const 7) (local.get 0)))
    (func (export "grow") (param (ref null $unary)) (result i32)
        (table.grow 0 (local.get 0) (i32.const 3)))
)"#;

fn null() -> Val {
    Val::FuncRef(None)
}

#[test]
fn references_are_called_with_and_without_a_frame_left() {
    let mut instance = Sandbox::new().instance(CALLER);
    let triple = returned(instance.run("get_triple", &[]))[0].clone();
    for name in ["call", "call_null", "tail"] {
        assert_eq!(
            returned_i32(instance.run(name, &[triple.clone(), 5.into()])),
            15
        );
    }
    assert_eq!(returned_i32(instance.run("or_else", from_ref(&triple))), 30);
    assert_eq!(returned_i32(instance.run("or_else", &[null()])), -1);
    assert_eq!(returned_i32(instance.run("if_there", from_ref(&triple))), 1);
    assert_eq!(returned_i32(instance.run("if_there", &[null()])), -1);
    instance.set_global("kept", &triple).unwrap();
    assert_eq!(returned_i32(instance.run("call_kept", &[4.into()])), 12);
    returned(instance.run("set_typed", &[1.into(), triple]));
    assert_eq!(returned_i32(instance.run("indirect", &[1.into()])), 21);
}

#[test]
fn null_is_a_trap_that_says_where() {
    let mut instance = Sandbox::new().instance(CALLER);
    for name in ["call_null", "tail"] {
        let fault = fault(instance.run(name, &[null(), 1.into()]));
        assert_eq!(fault.code, TrapCode::NullFuncReference, "{name}");
        assert_eq!(fault.backtrace.frames[0].func_name.as_deref(), Some(name));
    }
    assert_eq!(
        fault(instance.run("call_kept", &[1.into()])).code,
        TrapCode::NullFuncReference
    );
    assert_eq!(
        fault(instance.run("as_non_null", &[null()])).code,
        TrapCode::NullReference
    );
    assert_eq!(
        fault(instance.run("indirect", &[0.into()])).code,
        TrapCode::IndirectCallToNull
    );
}

/// What the host may not do: the guest calls without looking.
#[test]
fn the_host_cannot_put_a_reference_where_it_does_not_belong() {
    let mut instance = Sandbox::new().instance(CALLER);
    let answer = instance.table_get("any", 1).unwrap().unwrap();
    let double = instance.table_get("any", 0).unwrap().unwrap();
    let refused = |error: RuntimeError| {
        assert!(
            matches!(
                error,
                RuntimeError::ValueType { .. } | RuntimeError::TypeMismatch { .. }
            ),
            "{error}"
        );
    };
    refused(instance.set_global("kept", &answer).unwrap_err());
    refused(
        instance
            .set_global("kept", &Val::ExternRef(None))
            .unwrap_err(),
    );
    refused(instance.table_set("typed", 0, &answer).unwrap_err());
    refused(instance.table_set("full", 0, &null()).unwrap_err());
    refused(
        instance
            .run("call", &[answer.clone(), 1.into()])
            .unwrap_err(),
    );
    refused(instance.run("call", &[null(), 1.into()]).unwrap_err());
    refused(instance.run("call_null", &[answer, 1.into()]).unwrap_err());
    instance.set_global("kept", &double).unwrap();
    instance.set_global("kept", &null()).unwrap();
    instance.table_set("typed", 0, &double).unwrap();
    instance.table_set("full", 0, &double).unwrap();
    assert_eq!(returned_i32(instance.run("indirect", &[0.into()])), 14);
    assert_eq!(returned_i32(instance.run("grow", &[double])), 2);
    assert_eq!(returned_i32(instance.run("indirect", &[4.into()])), 14);
}

#[test]
fn a_reference_of_another_instance_is_refused() {
    let sandbox = Sandbox::new();
    let (mut one, mut other) = (sandbox.instance(CALLER), sandbox.instance(CALLER));
    let triple = returned(one.run("get_triple", &[]))[0].clone();
    let foreign = |error: RuntimeError| {
        assert!(matches!(error, RuntimeError::ForeignReference), "{error}");
    };
    foreign(other.set_global("kept", &triple).unwrap_err());
    foreign(other.table_set("typed", 0, &triple).unwrap_err());
    let error = other.run("call", &[triple, 1.into()]).unwrap_err();
    assert!(
        matches!(
            error,
            RuntimeError::ForeignReference | RuntimeError::TypeMismatch { .. }
        ),
        "{error}"
    );
}

/// Functions of the host and of other members are references like any other, if their type fits.
#[test]
fn references_go_between_linked_modules_and_the_host() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("host", "add_one", |_: &selvedge::Vmctx<'_>, n: i32| n + 1)
        .unwrap();
    let mut instance = sandbox.instance("(module)");
    let member = |instance: &mut selvedge::InstanceHandle, name: &str, wat: &str| {
        let module = sandbox.engine.compile(wat.as_bytes()).unwrap();
        let member = instance.link(&sandbox.linker, &module).unwrap();
        instance.set_member_name(name, member).unwrap();
        member
    };
    member(&mut instance, "caller", CALLER);
    // The types stand at other indices here, and one stands twice.
    let user = member(
        &mut instance,
        "user",
        r#"(module
            (type $other (func (result i32)))
            (type $again (func (param i32) (result i32)))
            (type $unary (func (param i32) (result i32)))
            (import "host" "add_one" (func $add_one (type $unary)))
            (import "caller" "call" (func $call (param (ref $again) i32) (result i32)))
            (import "caller" "tail" (func $tail (param (ref null $unary) i32) (result i32)))
            (import "caller" "get_triple" (func $get (result (ref $unary))))
            (import "caller" "kept" (global $kept (mut (ref null $again))))
            (import "caller" "fixed" (global $fixed (ref null $unary)))
            (import "caller" "typed" (table $typed 2 10 (ref null $again)))
            (elem declare func $add_one $half)
            (func $half (type $again) (i32.div_s (local.get 0) (i32.const 2)))
            (func (export "host_through_guest") (result i32)
                (call $call (ref.func $add_one) (i32.const 41)))
            (func (export "host_in_tail") (result i32)
                (return_call $tail (ref.func $add_one) (i32.const 1)))
            (func (export "mine_through_guest") (result i32)
                (call $call (ref.func $half) (i32.const 10)))
            (func (export "theirs") (result i32)
                (call_ref $again (i32.const 5) (call $get)))
            (func (export "by_global") (result i32)
                (global.set $kept (ref.func $half))
                (i32.add
                    (call_ref $unary (i32.const 100) (global.get $kept))
                    (call_ref $unary (i32.const 100) (global.get $fixed))))
            (func (export "by_table") (result i32)
                (table.set $typed (i32.const 0) (ref.func $add_one))
                (call_indirect $typed (type $unary) (i32.const 1) (i32.const 0)))
        )"#,
    );
    for (name, expected) in [
        ("host_through_guest", 42),
        ("host_in_tail", 2),
        ("mine_through_guest", 5),
        ("theirs", 15),
        ("by_global", 250),
        ("by_table", 2),
    ] {
        assert_eq!(
            returned_i32(instance.run_member(user, name, &[])),
            expected,
            "{name}"
        );
    }
}

#[test]
fn imports_must_have_the_type_that_is_asked_for() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(CALLER);
    instance
        .set_member_name("caller", selvedge::Member::MAIN)
        .unwrap();
    for (import, fits) in [
        (
            "(import \"caller\" \"kept\" (global (mut (ref null $u))))",
            true,
        ),
        ("(import \"caller\" \"kept\" (global (mut funcref)))", false),
        (
            "(import \"caller\" \"kept\" (global (mut (ref $u))))",
            false,
        ),
        ("(import \"caller\" \"fixed\" (global (ref $u)))", true),
        ("(import \"caller\" \"fixed\" (global funcref))", true),
        ("(import \"caller\" \"fixed\" (global (ref $o)))", false),
        (
            "(import \"caller\" \"typed\" (table 2 10 (ref null $u)))",
            true,
        ),
        ("(import \"caller\" \"typed\" (table 2 10 funcref))", false),
        (
            "(import \"caller\" \"call\" (func (param (ref $u) i32) (result i32)))",
            true,
        ),
        (
            "(import \"caller\" \"call\" (func (param (ref null $u) i32) (result i32)))",
            false,
        ),
        (
            "(import \"caller\" \"call\" (func (param (ref $o) i32) (result i32)))",
            false,
        ),
    ] {
        let wat = format!(
            "(module (type $o (func (result i32))) (type $u (func (param i32) (result i32))) {import})"
        );
        let module = sandbox.engine.compile(wat.as_bytes()).unwrap();
        let found = instance.link(&sandbox.linker, &module);
        assert_eq!(found.is_ok(), fits, "{import}: {found:?}");
    }
}

/// A function type that refers to itself is another one than the type that takes it, though both read alike.
#[test]
fn recursive_types_are_told_apart() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        "(module (rec (type $self (func (param (ref null $self)))))
            (type $takes (func (param (ref null $self))))
            (func (export \"self\") (type $self)) (func (export \"takes\") (type $takes)))",
    );
    instance
        .set_member_name("m", selvedge::Member::MAIN)
        .unwrap();
    let types =
        "(rec (type $s (func (param (ref null $s))))) (type $t (func (param (ref null $s))))";
    for (export, ty, fits) in [
        ("self", "$s", true),
        ("self", "$t", false),
        ("takes", "$t", true),
        ("takes", "$s", false),
    ] {
        let wat = format!("(module {types} (import \"m\" \"{export}\" (func (type {ty}))))");
        let module = sandbox.engine.compile(wat.as_bytes()).unwrap();
        assert_eq!(
            instance.link(&sandbox.linker, &module).is_ok(),
            fits,
            "{export} {ty}"
        );
    }
}

#[test]
fn host_functions_take_and_give_typed_references() {
    let mut sandbox = Sandbox::new();
    let module = sandbox
        .engine
        .compile(
            br#"(module
                (type $unary (func (param i32) (result i32)))
                (import "host" "pass" (func $pass (param (ref null $unary)) (result (ref $unary))))
                (elem declare func $inc)
                (func $inc (type $unary) (i32.add (local.get 0) (i32.const 1)))
                (func (export "run") (result i32)
                    (call_ref $unary (i32.const 1) (call $pass (ref.func $inc))))
                (func (export "null") (result i32)
                    (call_ref $unary (i32.const 1) (call $pass (ref.null $unary)))))"#,
        )
        .unwrap();
    let Some(ExternType::Func(ty)) = module.imports().next().map(|import| import.ty) else {
        panic!("it imports a function");
    };
    let reference = |ty: &ValType| match ty {
        ValType::Ref(RefType {
            nullable,
            heap: HeapType::Concrete(_),
        }) => *nullable,
        other => panic!("{other}"),
    };
    assert!(reference(&ty.params[0]) && !reference(&ty.results[0]));
    // A type made by hand has no number of this engine, so it is another type.
    let plain = FuncType::new([ValType::FUNCREF], [ValType::FUNCREF]);
    let mut linker = Linker::new(&sandbox.engine);
    linker
        .func_new("host", "pass", plain, |_, _, _| Ok(()))
        .unwrap();
    assert!(matches!(
        linker.program(&module),
        Err(RuntimeError::ImportType { .. })
    ));

    sandbox
        .linker
        .func_new("host", "pass", ty, |_, args, results| {
            results[0] = args[0].clone();
            Ok(())
        })
        .unwrap();
    let program = sandbox.linker.program(&module).unwrap();
    let region = sandbox::region(&sandbox.engine, 1, &Limits::default());
    let mut instance = region.new_instance(&program).unwrap();
    assert_eq!(returned_i32(instance.run("run", &[])), 2);
    // Null does not have the result's type: the host function is at fault, not the guest.
    let error = instance.run("null", &[]).unwrap_err();
    assert!(
        matches!(error, RuntimeError::TypeMismatch { .. }),
        "{error}"
    );
}

/// As many tail calls by reference as no stack would hold frames for, the last one to a host function.
#[test]
fn a_million_tail_calls_by_reference_take_no_more_stack_than_one() {
    let mut limits = Limits::default();
    limits.stack_len = 16 << 10;
    let mut sandbox = Sandbox::with(2, &limits);
    sandbox
        .linker
        .func("host", "end", |_: &selvedge::Vmctx<'_>, n: i32| n + 7)
        .unwrap();
    let mut instance = sandbox.instance(
        "(module
            (type $unary (func (param i32) (result i32)))
            (import \"host\" \"end\" (func $end (type $unary)))
            (elem declare func $down $end)
            (func $down (export \"down\") (type $unary)
                (if (i32.eqz (local.get 0)) (then
                    (return_call_ref $unary (i32.const 0) (ref.func $end))))
                (return_call_ref $unary (i32.sub (local.get 0) (i32.const 1)) (ref.func $down))))",
    );
    assert_eq!(returned_i32(instance.run("down", &[1_000_000.into()])), 7);
}
