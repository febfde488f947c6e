//! Imports: from the linker, and between modules that live in one instance.

use selvedge::{
    Engine, ExternType, InstanceHandle, Linker, Member, RuntimeError, Settings, TypedFunc, Val,
    Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned, returned_i32};

/// An instance whose main module is empty, for others to be linked into.
fn empty(sandbox: &Sandbox) -> InstanceHandle {
    sandbox.instance("(module)")
}

/// Links a module and gives it a name.
fn link(sandbox: &Sandbox, instance: &mut InstanceHandle, name: &str, wat: &str) -> Member {
    let member = instance
        .link(&sandbox.linker, &sandbox.module(wat))
        .unwrap();
    instance.set_member_name(name, member).unwrap();
    member
}

#[test]
fn an_import_without_definition_is_named_with_its_type() {
    let sandbox = Sandbox::new();
    let cases = [
        (
            "(func (param i32 f64) (result i64))",
            "unknown import: env::x, a function (i32, f64) -> (i64); define it in the linker",
        ),
        (
            "(memory 2)",
            "unknown import: env::x, a memory of 2 to any pages; define it in the linker",
        ),
        (
            "(table 1 5 funcref)",
            "unknown import: env::x, a table of funcref with 1 to 5 elements; define it in the linker",
        ),
        (
            "(global (mut i32))",
            "unknown import: env::x, a mutable global of type i32; define it in the linker",
        ),
    ];
    for (import, message) in cases {
        let module = sandbox.module(&format!("(module (import \"env\" \"x\" {import}))"));
        let error = sandbox.linker.program(&module).unwrap_err();
        assert_eq!(error.to_string(), message);
        let error = empty(&sandbox).link(&sandbox.linker, &module).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn an_import_of_another_type_is_named_with_both_types() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("env", "x", |_: &Vmctx<'_>, _: i32| 1i64)
        .unwrap();
    let message = |import: &str| {
        let module = sandbox.module(&format!("(module (import \"env\" \"x\" {import}))"));
        let error = sandbox.linker.program(&module).unwrap_err();
        assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(
        message("(func (param i64) (result i64))"),
        "incompatible import type: env::x is to be a function (i64) -> (i64), \
         the definition is a function (i32) -> (i64)"
    );
    assert_eq!(
        message("(memory 1)"),
        "incompatible import type: env::x is to be a memory of 1 to any pages, \
         the definition is a function (i32) -> (i64)"
    );
    message("(func (param i32))");
    message("(func (param i32 i32) (result i64))");
}

#[test]
fn a_name_is_defined_once_unless_shadowing_is_allowed() {
    let mut sandbox = Sandbox::new();
    let linker = &mut sandbox.linker;
    linker.func("env", "x", |_: &Vmctx<'_>| 1).unwrap();
    let error = linker.func("env", "x", |_: &Vmctx<'_>| 2).unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyDefined { .. }));
    let wat = r#"(module (import "env" "x" (func $x (result i32)))
        (func (export "run") (result i32) (call $x)))"#;
    assert_eq!(returned_i32(sandbox.instance(wat).run("run", &[])), 1);
    sandbox
        .linker
        .allow_shadowing(true)
        .func("env", "x", |_: &Vmctx<'_>| 2)
        .unwrap();
    assert_eq!(returned_i32(sandbox.instance(wat).run("run", &[])), 2);
}

#[test]
fn clones_of_a_linker_share_what_was_defined_and_then_go_their_own_ways() {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("env", "x", |_: &Vmctx<'_>| 1).unwrap();
    let mut clone = sandbox.linker.clone();
    clone.func("env", "y", |_: &Vmctx<'_>| 2).unwrap();
    let module = sandbox.module(
        r#"(module (import "env" "x" (func (result i32))) (import "env" "y" (func (result i32))))"#,
    );
    assert!(clone.program(&module).is_ok());
    assert!(sandbox.linker.program(&module).is_err());
}

#[test]
fn unknown_imports_can_be_made_to_end_the_guest_when_they_are_called() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("env", "known", |_: &Vmctx<'_>| 5)
        .unwrap();
    let module = sandbox.module(
        r#"(module (import "env" "known" (func $known (result i32)))
            (import "env" "unknown" (func $unknown (param i32 f64 i32 i32 i32 i32) (result f32 i64)))
            (func (export "a") (result i32) (call $known))
            (func (export "b") (call $unknown (i32.const 1) (f64.const 2) (i32.const 3)
                (i32.const 4) (i32.const 5) (i32.const 6)) (drop) (drop)))"#,
    );
    sandbox
        .linker
        .define_unknown_imports_as_traps(&module)
        .unwrap();
    let program = sandbox.linker.program(&module).unwrap();
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    assert_eq!(returned_i32(instance.run("a", &[])), 5);
    let error = instance.run("b", &[]).unwrap_err();
    assert!(error.to_string().contains("env::unknown"), "{error}");
    let module = sandbox.module(r#"(module (import "env" "memory" (memory 1)))"#);
    assert!(matches!(
        sandbox.linker.define_unknown_imports_as_traps(&module),
        Err(RuntimeError::UnknownImport { .. })
    ));
}

#[test]
fn parts_of_different_engines_do_not_go_together() {
    let sandbox = Sandbox::new();
    let other = Engine::new(&Settings::default()).unwrap();
    let module = other.compile(b"(module)").unwrap();
    assert!(matches!(
        sandbox.linker.program(&module),
        Err(RuntimeError::OtherEngine(_))
    ));
    let program = Linker::new(&other).program(&module).unwrap();
    assert!(matches!(
        sandbox.region.new_instance(&program),
        Err(RuntimeError::OtherEngine(_))
    ));
    let mut instance = empty(&sandbox);
    for linker in [&sandbox.linker, &Linker::new(&other)] {
        assert!(matches!(
            instance.link(linker, &module),
            Err(RuntimeError::OtherEngine(_))
        ));
    }
}

#[test]
fn modules_call_each_others_functions() {
    let sandbox = Sandbox::new();
    let mut instance = empty(&sandbox);
    let a = link(
        &sandbox,
        &mut instance,
        "a",
        r#"(module (global $n (mut i32) (i32.const 0))
            (func (export "next") (result i32)
                (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
            (func (export "mix") (param i32 f64 i64 f32 i32 i32 i32 i32) (result f64 i64)
                (f64.add (local.get 1) (f64.promote_f32 (local.get 3)))
                (i64.add (local.get 2) (i64.extend_i32_s
                    (i32.add (local.get 0) (i32.mul (local.get 7) (i32.const 100)))))))"#,
    );
    let b = link(
        &sandbox,
        &mut instance,
        "b",
        r#"(module (import "a" "next" (func $next (result i32)))
            (import "a" "mix" (func $mix (param i32 f64 i64 f32 i32 i32 i32 i32) (result f64 i64)))
            (func (export "twice") (result i32) (drop (call $next)) (call $next))
            (func (export "mix") (result f64 i64)
                (call $mix (i32.const 1) (f64.const 2) (i64.const 3) (f32.const 4)
                    (i32.const 5) (i32.const 6) (i32.const 7) (i32.const 8))))"#,
    );
    assert_eq!(returned_i32(instance.run_member(b, "twice", &[])), 2);
    assert_eq!(
        returned_i32(instance.run_member(a, "next", &[])),
        3,
        "one state"
    );
    let mixed = returned(instance.run_member(b, "mix", &[]));
    assert_eq!(bits(&mixed), bits(&[Val::F64(6.0), Val::I64(804)]));
    let typed: TypedFunc<(), i32> = instance.member_typed_func(b, "twice").unwrap();
    assert_eq!(typed.call(&mut instance, ()).unwrap(), 5);
    assert_eq!(instance.member_module(a).unwrap().exports().len(), 2);
}

#[test]
fn modules_share_memories() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory (export "m") 1 5) (data (i32.const 4) "\07\00\00\00")
            (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#,
    );
    instance.set_member_name("main", Member::MAIN).unwrap();
    let user = link(
        &sandbox,
        &mut instance,
        "user",
        r#"(module (memory (import "main" "m") 1) (data (i32.const 8) "\09\00\00\00")
            (func (export "sum") (result i32) (i32.add (i32.load (i32.const 4)) (i32.load (i32.const 8))))
            (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
            (func (export "size") (result i32) (memory.size))
            (func (export "fill") (memory.fill (i32.const 100) (i32.const 1) (i32.const 4)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#,
    );
    assert_eq!(returned_i32(instance.run_member(user, "sum", &[])), 16);
    returned(instance.run_member(user, "store", &[Val::I32(40), Val::I32(41)]));
    returned(instance.run_member(user, "fill", &[]));
    assert_eq!(instance.heap().unwrap()[40], 41);
    assert_eq!(
        returned_i32(instance.run("load", &[Val::I32(100)])),
        0x0101_0101
    );
    // Growth by either is seen by both, and by the host.
    assert_eq!(returned_i32(instance.run_member(user, "grow", &[])), 1);
    assert_eq!(returned_i32(instance.run("grow", &[])), 2);
    assert_eq!(returned_i32(instance.run_member(user, "size", &[])), 3);
    assert_eq!(instance.grow_memory(1).unwrap(), 3);
    let last = 4 * 65536 - 4;
    returned(instance.run_member(user, "store", &[Val::I32(last), Val::I32(3)]));
    assert_eq!(returned_i32(instance.run("load", &[Val::I32(last)])), 3);
    let fault = fault(instance.run_member(user, "store", &[Val::I32(last + 4), Val::I32(3)]));
    assert_eq!(fault.code, selvedge::TrapCode::HeapOutOfBounds);
}

#[test]
fn a_host_function_sees_the_memory_of_the_module_that_calls_it() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "first",
            |vmctx: &Vmctx<'_>| -> Result<i32, selvedge::HostError> { Ok(vmctx.heap()?[0].into()) },
        )
        .unwrap();
    let guest = |byte: u8| {
        format!(
            r#"(module (import "h" "first" (func $first (result i32)))
            (memory 1) (data (i32.const 0) "\{byte:02x}")
            (func (export "run") (result i32) (call $first)))"#
        )
    };
    let mut instance = sandbox.instance(&guest(1));
    let b = link(&sandbox, &mut instance, "b", &guest(2));
    let c = link(&sandbox, &mut instance, "c", &guest(3));
    for (member, byte) in [(Member::MAIN, 1), (b, 2), (c, 3)] {
        assert_eq!(returned_i32(instance.run_member(member, "run", &[])), byte);
    }
}

#[test]
fn modules_share_globals() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (global (export "base") i32 (i32.const 1000)) (global (export "count") (mut i64) (i64.const 5))
            (func (export "get") (result i64) (global.get 1)))"#,
    );
    instance.set_member_name("main", Member::MAIN).unwrap();
    let user = link(
        &sandbox,
        &mut instance,
        "user",
        r#"(module (import "main" "base" (global $base i32)) (import "main" "count" (global $count (mut i64)))
            (global (export "own") i32 (i32.add (global.get $base) (i32.const 1)))
            (export "again" (global $count))
            (func (export "bump") (global.set $count (i64.add (global.get $count) (i64.const 1)))))"#,
    );
    assert_eq!(
        instance.member_global(user, "own").unwrap().i32(),
        Some(1001)
    );
    returned(instance.run_member(user, "bump", &[]));
    assert_eq!(instance.global("count").unwrap().i64(), Some(6));
    instance.set_global("count", &Val::I64(50)).unwrap();
    returned(instance.run_member(user, "bump", &[]));
    assert_eq!(
        bits(&returned(instance.run("get", &[]))),
        bits(&[Val::I64(51)])
    );
    assert_eq!(
        instance.member_global(user, "again").unwrap().i64(),
        Some(51)
    );
    // A constant one is no mutable one, and types are compared.
    for import in [
        "\"base\" (global (mut i32))",
        "\"count\" (global i64)",
        "\"base\" (global i64)",
    ] {
        let module = sandbox.module(&format!("(module (import \"main\" {import}))"));
        let error = instance.link(&sandbox.linker, &module).unwrap_err();
        assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
    }
}

#[test]
fn modules_share_tables_and_call_each_others_functions_through_them() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, n: i32| n + 1000)
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (type $op (func (param i32) (result i32)))
            (table (export "t") 6 8 funcref) (elem (i32.const 0) func $own)
            (global $n i32 (i32.const 1))
            (func $own (type $op) (i32.add (local.get 0) (global.get $n)))
            (func (export "call") (param i32 i32) (result i32)
                (call_indirect (type $op) (local.get 1) (local.get 0))))"#,
    );
    instance.set_member_name("main", Member::MAIN).unwrap();
    let user = link(
        &sandbox,
        &mut instance,
        "user",
        r#"(module (import "h" "f" (func $host (param i32) (result i32)))
            (table $t (import "main" "t") 6 funcref)
            (elem (i32.const 1) func $mine $host $wrong)
            (global $n i32 (i32.const 20))
            (func $mine (param i32) (result i32) (i32.add (local.get 0) (global.get $n)))
            (func $wrong (param i64) (result i32) (i32.const 0))
            (func (export "call") (param i32 i32) (result i32)
                (call_indirect (param i32) (result i32) (local.get 1) (local.get 0)))
            (func (export "grow") (result i32) (table.grow $t (ref.func $mine) (i32.const 2))))"#,
    );
    // Each function runs with its own module's state, whoever calls it.
    for caller in [Member::MAIN, user] {
        for (index, expected) in [(0, 6), (1, 25), (2, 1005)] {
            let args = [Val::I32(index), Val::I32(5)];
            assert_eq!(
                returned_i32(instance.run_member(caller, "call", &args)),
                expected
            );
        }
        let codes = [3, 4, 6].map(|index| {
            let args = [Val::I32(index), Val::I32(5)];
            fault(instance.run_member(caller, "call", &args)).code
        });
        use selvedge::TrapCode::{BadSignature, IndirectCallToNull, UndefinedElement};
        assert_eq!(codes, [BadSignature, IndirectCallToNull, UndefinedElement]);
    }
    assert_eq!(returned_i32(instance.run_member(user, "grow", &[])), 6);
    assert_eq!(instance.table_len("t").unwrap(), 8);
    assert_eq!(
        returned_i32(instance.run("call", &[Val::I32(7), Val::I32(5)])),
        25
    );
    assert_eq!(
        returned_i32(instance.run_func_idx(0, 7, &[Val::I32(1)])),
        21
    );
    assert_eq!(
        returned_i32(instance.run_func_idx(0, 2, &[Val::I32(1)])),
        1001
    );
}

#[test]
fn imports_are_exported_again_and_are_still_the_same() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, n: i32| n + 1)
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func (param i32) (result i32))) (export "f" (func 0))
            (memory (export "m") 1) (table (export "t") 1 funcref)
            (global (export "g") (mut i32) (i32.const 3)))"#,
    );
    instance.set_member_name("0", Member::MAIN).unwrap();
    let again = |from: usize| {
        format!(
            r#"(module (import "{from}" "f" (func (param i32) (result i32)))
                (import "{from}" "m" (memory 1)) (import "{from}" "t" (table 1 funcref))
                (import "{from}" "g" (global (mut i32)))
                (export "f" (func 0)) (export "m" (memory 0)) (export "t" (table 0)) (export "g" (global 0))
                (elem declare func $own)
                (func $own (export "own") (param i32) (result i32)
                    (global.set 0 (i32.add (global.get 0) (i32.const 1)))
                    (i32.store (i32.const 0) (global.get 0))
                    (table.set 0 (i32.const 0) (ref.func $own))
                    (call 0 (local.get 0))))"#
        )
    };
    let members: Vec<Member> = (1..=4)
        .map(|i| link(&sandbox, &mut instance, &i.to_string(), &again(i - 1)))
        .collect();
    let last = members[3];
    assert_eq!(
        returned_i32(instance.run_member(last, "f", &[Val::I32(1)])),
        2
    );
    assert_eq!(
        returned_i32(instance.run_member(last, "own", &[Val::I32(5)])),
        6
    );
    assert_eq!(instance.global("g").unwrap().i32(), Some(4));
    assert_eq!(instance.heap().unwrap()[0], 4);
    assert_eq!(returned_i32(instance.run_func_idx(0, 0, &[Val::I32(5)])), 6);
    assert_eq!(
        instance.member_global(members[0], "g").unwrap().i32(),
        Some(5)
    );
}

#[test]
fn limits_of_memories_and_tables_are_compared_as_they_are_now() {
    let sandbox = Sandbox::new();
    let mut instance =
        sandbox.instance(r#"(module (memory (export "m") 1 4) (table (export "t") 1 4 funcref))"#);
    instance.set_member_name("main", Member::MAIN).unwrap();
    let fits = |instance: &mut InstanceHandle, import: &str| {
        let module = sandbox.module(&format!("(module (import \"main\" {import}))"));
        match instance.link(&sandbox.linker, &module) {
            Ok(_) => true,
            Err(RuntimeError::ImportType { found, .. }) => {
                assert!(matches!(
                    *found,
                    ExternType::Memory(_) | ExternType::Table(_)
                ));
                false
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(!fits(&mut instance, "\"m\" (memory 2)"));
    assert!(!fits(&mut instance, "\"m\" (memory 1 3)"));
    assert!(!fits(&mut instance, "\"t\" (table 2 funcref)"));
    assert!(!fits(&mut instance, "\"t\" (table 1 externref)"));
    instance.grow_memory(1).unwrap();
    assert!(fits(&mut instance, "\"m\" (memory 2 4)"));
    assert!(fits(&mut instance, "\"t\" (table 1 5 funcref)"));
}

#[test]
fn a_start_function_runs_before_anything_else_and_once() {
    let sandbox = Sandbox::new();
    let program = sandbox.program(
        r#"(module (global $n (export "n") (mut i32) (i32.const 0)) (table funcref (elem $get))
            (func $start (global.set $n (i32.add (global.get $n) (i32.const 1)))) (start $start)
            (func $get (export "get") (result i32) (global.get $n)))"#,
    );
    assert!(program.module().has_start());
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    let get: TypedFunc<(), i32> = instance.typed_func("get").unwrap();
    let early = [
        instance.run("get", &[]).map(drop),
        instance.run_func_idx(0, 0, &[]).map(drop),
        get.call(&mut instance, ()).map(drop),
    ];
    for result in early {
        assert!(matches!(result, Err(RuntimeError::InstanceNeedsStart)));
    }
    assert_eq!(instance.global("n").unwrap().i32(), Some(0));
    instance.run_start().unwrap();
    assert_eq!(get.call(&mut instance, ()).unwrap(), 1);
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartAlreadyRun)
    ));
    assert_eq!(returned_i32(instance.run("get", &[])), 1);
    // Each instance has its own.
    let next = sandbox.region.new_instance(&program).unwrap();
    assert_eq!(next.global("n").unwrap().i32(), Some(0));
    // A module without one needs none.
    empty(&sandbox).run_start().unwrap();
}

#[test]
fn a_start_function_that_fails_has_run_and_its_effects_stay() {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", |_: &Vmctx<'_>| ()).unwrap();
    let mut instance = sandbox.instance(
        r#"(module (memory (export "m") 1) (table (export "t") 2 funcref)
            (func (export "load") (result i32) (i32.load (i32.const 0)))
            (func (export "call") (result i32) (call_indirect (result i32) (i32.const 0))))"#,
    );
    instance.set_member_name("main", Member::MAIN).unwrap();
    let module = sandbox.module(
        r#"(module (memory (import "main" "m") 1) (table (import "main" "t") 2 funcref)
            (elem (i32.const 0) func $five) (func $five (result i32) (i32.const 5))
            (func $start (i32.store (i32.const 0) (i32.const 9)) unreachable) (start $start))"#,
    );
    let code = fault(instance.link(&sandbox.linker, &module)).code;
    assert_eq!(code, selvedge::TrapCode::Unreachable);
    assert_eq!(returned_i32(instance.run("load", &[])), 9);
    assert_eq!(returned_i32(instance.run("call", &[])), 5);
    // The same of the instance's own start function.
    let program =
        sandbox.program("(module (func $start unreachable) (start $start) (func (export \"f\")))");
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    fault(instance.run_start());
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::StartAlreadyRun)
    ));
    returned(instance.run("f", &[]));
}

#[test]
fn segments_that_do_not_fit_are_refused_and_those_before_them_stay() {
    let sandbox = Sandbox::new();
    let refused = |wat: &str| {
        sandbox
            .region
            .new_instance(&sandbox.program(wat))
            .unwrap_err()
    };
    let error = refused("(module (memory 1) (data (i32.const 65535) \"ab\"))");
    assert!(matches!(error, RuntimeError::DataSegmentOutOfBounds));
    let error = refused("(module (memory 1) (data (i32.const -1) \"a\"))");
    assert!(matches!(error, RuntimeError::DataSegmentOutOfBounds));
    let error = refused("(module (table 1 funcref) (func $f) (elem (i32.const 1) func $f))");
    assert!(matches!(error, RuntimeError::ElemSegmentOutOfBounds));
    // The slot is given back.
    assert_eq!(sandbox.region.used_slots(), 0);
    let mut instance = sandbox.instance(r#"(module (memory (export "m") 1))"#);
    instance.set_member_name("main", Member::MAIN).unwrap();
    let module = sandbox.module(
        r#"(module (memory (import "main" "m") 1) (data (i32.const 0) "a") (data (i32.const 65536) "b"))"#,
    );
    let error = instance.link(&sandbox.linker, &module).unwrap_err();
    assert!(matches!(error, RuntimeError::DataSegmentOutOfBounds));
    assert_eq!(instance.heap().unwrap()[0], b'a');
}

#[test]
fn an_import_that_fails_to_resolve_takes_no_slot() {
    let sandbox = Sandbox::new();
    let mut instance = empty(&sandbox);
    let module = sandbox.module(r#"(module (import "no" "no" (func)))"#);
    for _ in 0..100 {
        assert!(instance.link(&sandbox.linker, &module).is_err());
    }
    assert_eq!(sandbox.region.used_slots(), 1);
}

#[test]
fn linked_modules_take_slots_and_give_them_back_with_the_instance() {
    let sandbox = Sandbox::new();
    let mut instance = empty(&sandbox);
    let module = sandbox.module("(module (memory 1))");
    for used in 2..=8 {
        instance.link(&sandbox.linker, &module).unwrap();
        assert_eq!(sandbox.region.used_slots(), used);
    }
    let error = instance.link(&sandbox.linker, &module).unwrap_err();
    assert!(matches!(error, RuntimeError::RegionFull { capacity: 8 }));
    drop(instance);
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn a_name_goes_over_to_the_member_that_gets_it_last() {
    let sandbox = Sandbox::new();
    let mut instance = empty(&sandbox);
    let constant = |n: i32| format!("(module (func (export \"f\") (result i32) (i32.const {n})))");
    link(&sandbox, &mut instance, "m", &constant(1));
    let user = r#"(module (import "m" "f" (func $f (result i32)))
        (func (export "run") (result i32) (call $f)))"#;
    let first = link(&sandbox, &mut instance, "user", user);
    link(&sandbox, &mut instance, "m", &constant(2));
    let second = link(&sandbox, &mut instance, "user", user);
    assert_eq!(returned_i32(instance.run_member(first, "run", &[])), 1);
    assert_eq!(returned_i32(instance.run_member(second, "run", &[])), 2);
    // Members of one instance mean nothing to another.
    let mut other = empty(&sandbox);
    assert!(matches!(
        other.run_member(second, "run", &[]),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(other.set_member_name("x", second).is_err());
    assert!(other.member_module(second).is_err());
}

#[test]
fn references_of_one_member_are_good_in_all_members() {
    let sandbox = Sandbox::new();
    let mut instance = empty(&sandbox);
    let owner = link(
        &sandbox,
        &mut instance,
        "a",
        r#"(module (global $n i32 (i32.const 7)) (elem declare func $f)
            (func $f (result i32) (global.get $n))
            (func (export "f") (result funcref) (ref.func $f)))"#,
    );
    let user = link(
        &sandbox,
        &mut instance,
        "b",
        r#"(module (table $t 1 funcref)
            (func (export "call") (param funcref) (result i32)
                (table.set $t (i32.const 0) (local.get 0))
                (call_indirect $t (result i32) (i32.const 0))))"#,
    );
    let reference = returned(instance.run_member(owner, "f", &[]));
    assert_eq!(
        returned_i32(instance.run_member(user, "call", &reference)),
        7
    );
}

#[test]
fn the_host_reaches_every_export_of_every_member_also_while_the_guest_waits() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "wait", |_: &Vmctx<'_>| {
            selvedge::Flow::from(selvedge::Yield::returning(()))
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "wait" (func $wait)) (memory (export "m") 1)
            (func (export "run") (call $wait)))"#,
    );
    let module = sandbox.module(
        r#"(module (memory (export "m") 2) (data (i32.const 0) "member")
            (table (export "t") 3 funcref) (elem (i32.const 1) $two)
            (global (export "g") (mut i32) (i32.const 4)) (global $hidden (mut i64) (i64.const 6))
            (func $two (export "two") (result i32) (i32.const 2))
            (func (export "sum") (result i32)
                (i32.add (global.get 0) (i32.add (i32.wrap_i64 (global.get $hidden)) (i32.load8_u (i32.const 9)))))
            (func (export "indirect") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"#,
    );
    let member = instance.link(&sandbox.linker, &module).unwrap();
    for waits in [false, true] {
        if waits {
            assert!(instance.run("run", &[]).unwrap().is_yielded());
        }
        assert_eq!(
            &instance.member_memory(member, "m").unwrap()[..6],
            b"member"
        );
        instance.member_memory_mut(member, "m").unwrap()[9] = 30;
        assert_eq!(instance.memory("m").unwrap()[9], 0, "another one");
        instance
            .set_member_global(member, "g", &Val::I32(100))
            .unwrap();
        let mut globals = instance.member_globals_mut(member).unwrap();
        globals.set(1, &Val::I64(1000)).unwrap();
        assert_eq!(globals.get(0).unwrap().i32(), Some(100));
        assert_eq!(instance.member_table_len(member, "t").unwrap(), 3);
        let two = instance.member_table_get(member, "t", 1).unwrap().unwrap();
        instance.member_table_set(member, "t", 2, &two).unwrap();
        assert!(instance.member_table_get(member, "t", 3).unwrap().is_none());
        assert!(instance.member_table_set(member, "t", 3, &two).is_err());
        assert!(instance.member_memory(member, "g").is_err());
        assert!(instance.table_len("t").is_err(), "the main module has none");
        if waits {
            instance.resume().unwrap();
        }
        let sum = instance.run_member(member, "sum", &[]);
        assert_eq!(returned_i32(sum), 1130);
        let called = instance.run_member(member, "indirect", &[Val::I32(2)]);
        assert_eq!(returned_i32(called), 2);
    }
}
