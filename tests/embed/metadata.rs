//! What a module says of itself, and that imports which are declared twice are the same thing.

use selvedge::{Module, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

fn imports(module: &Module) -> Vec<String> {
    module
        .imports()
        .map(|import| format!("{}.{}: {}", import.module, import.name, import.ty))
        .collect()
}

fn exports(module: &Module) -> Vec<String> {
    module
        .exports()
        .map(|export| format!("{}: {}", export.name, export.ty))
        .collect()
}

#[test]
fn imports_that_are_exported_again_are_both() {
    let module = Sandbox::new().module(
        r#"(module
            (import "env" "start" (func $start)) (import "env" "add" (func $add (param i32) (result i32)))
            (export "begin" (func $start)) (export "plus" (func $add)) (start $start)
            (func) (func))"#,
    );
    assert_eq!(
        imports(&module),
        [
            "env.start: function () -> ()",
            "env.add: function (i32) -> (i32)"
        ]
    );
    assert_eq!(
        exports(&module),
        ["begin: function () -> ()", "plus: function (i32) -> (i32)"]
    );
    assert!(module.has_start());
}

const DUPLICATES: &str = r#"(module
    (import "env" "f" (func $a (param i32) (result i32)))
    (import "env" "f" (func $b (param i32) (result i32)))
    (import "env" "g" (func $c (param i32) (result i32)))
    (import "env" "f" (func $d (param i32) (result i32)))
    (export "one" (func $a)) (export "two" (func $b)) (export "three" (func $d))
    (export "again" (func $a)) (export "other" (func $c))
    (table 4 funcref) (elem (i32.const 0) $a $b $c $d)
    (func (export "sum") (param i32) (result i32)
        (i32.add (call $a (local.get 0)) (i32.add (call $b (local.get 0)) (call $d (local.get 0)))))
    (func (export "indirect") (param i32) (result i32)
        (call_indirect (param i32) (result i32) (i32.const 5) (local.get 0))))"#;

#[test]
fn an_import_that_is_declared_several_times_is_one_definition() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("env", "f", |_: &Vmctx<'_>, n: i32| n + 1)
        .unwrap()
        .func("env", "g", |_: &Vmctx<'_>, n: i32| n * 100)
        .unwrap();
    let module = sandbox.module(DUPLICATES);
    assert_eq!(
        imports(&module).len(),
        4,
        "each declaration is told, in order"
    );
    assert!(imports(&module)[2].starts_with("env.g"));
    let names: Vec<_> = module
        .exports()
        .map(|export| export.name.to_owned())
        .collect();
    assert_eq!(
        names,
        ["one", "two", "three", "again", "other", "sum", "indirect"]
    );
    let mut instance = sandbox.instance(DUPLICATES);
    for name in ["one", "two", "three", "again"] {
        assert_eq!(
            returned_i32(instance.run(name, &[Val::I32(1)])),
            2,
            "{name}"
        );
    }
    assert_eq!(returned_i32(instance.run("other", &[Val::I32(3)])), 300);
    assert_eq!(returned_i32(instance.run("sum", &[Val::I32(10)])), 33);
    for (index, expected) in [(0, 6), (1, 6), (2, 500), (3, 6)] {
        assert_eq!(
            returned_i32(instance.run("indirect", &[Val::I32(index)])),
            expected
        );
    }
}

#[test]
fn one_global_has_two_names_and_is_one_global() {
    let mut instance = Sandbox::new().instance(
        r#"(module (global $g (mut i32) (i32.const 4)) (export "a" (global $g)) (export "b" (global $g)))"#,
    );
    assert_eq!(exports(instance.module()).len(), 2);
    instance.set_global("a", &Val::I32(9)).unwrap();
    assert_eq!(instance.global("b").unwrap().i32(), Some(9));
    assert_eq!(instance.globals().len(), 1);
}

#[test]
fn memories_tables_and_globals_are_told_as_they_are_declared() {
    let sandbox = Sandbox::new();
    let module = sandbox.module(
        r#"(module (import "m" "g" (global i64)) (import "m" "mem" (memory 6 10)) (import "m" "t" (table 1 funcref)))"#,
    );
    assert_eq!(
        imports(&module),
        [
            "m.g: constant global of type i64",
            "m.mem: memory of 6 to 10 pages",
            "m.t: table of funcref with 1 to any elements"
        ]
    );
    let module = sandbox.module(r#"(module (memory (export "m") 5))"#);
    assert_eq!(exports(&module), ["m: memory of 5 to any pages"]);
    let module = sandbox.module("(module)");
    assert!(imports(&module).is_empty() && exports(&module).is_empty());
    let sparse =
        r#"(module (table (export "t") 6 funcref) (elem (i32.const 1) $f $f $f) (func $f))"#;
    let instance = sandbox.instance(sparse);
    let filled: Vec<bool> = (0..6)
        .map(|i| matches!(instance.table_get("t", i), Ok(Some(Val::FuncRef(Some(_))))))
        .collect();
    assert_eq!(filled, [false, true, true, true, false, false]);
}

#[test]
fn names_that_are_not_ascii_are_names() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("größe", "Ω\u{0}", |_: &Vmctx<'_>| 7)
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "größe" "Ω\00" (func $f (result i32))) (export "✓" (func $f))
            (func (export "") (result i32) (i32.add (call $f) (i32.const 1))))"#,
    );
    assert_eq!(returned_i32(instance.run("✓", &[])), 7);
    assert_eq!(returned_i32(instance.run("", &[])), 8);
}
