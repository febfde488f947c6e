//! What a fault tells beyond its code: which memory at which address, which table at which index, which
//! types.

use selvedge::TrapCode::{self, *};
use selvedge::{FaultDetails, Member, TrapInfo, Val};
use selvedge_tests::sandbox::{Sandbox, fault};

/// A module with two memories of each kind of access, two tables and segments.
fn module(body: &str) -> String {
    format!(
        r#"(module
            (memory $m0 1 4) (memory $m1 2 4) (memory $m64 i64 1 4)
            (table $t0 4 10 funcref) (table $t1 7 funcref) (table $t64 i64 5 funcref)
            (data $d "0123456789") (elem $e funcref (ref.func $f) (ref.func $g))
            (elem (table $t1) (i32.const 1) func $f $g)
            (elem (table $t64) (i64.const 1) func $f $g)
            (func $f) (func $g (param i64) (result i64) (local.get 0))
            (func (export "run") {body}))"#
    )
}

fn run(body: &str) -> FaultDetails {
    let sandbox = Sandbox::new();
    fault(sandbox.instance(&module(body)).run("run", &[]))
}

fn memory(body: &str, index: u32, at: u64, bytes: u64) {
    let fault = run(body);
    assert_eq!(fault.code, HeapOutOfBounds, "{body}");
    match fault.info.as_deref() {
        Some(&TrapInfo::Memory {
            memory,
            address,
            len,
            ..
        }) => assert_eq!((memory, address, len), (index, at, bytes), "{body}"),
        other => panic!("{body}: {other:?}"),
    }
}

fn table(body: &str, code: TrapCode, which: u32, at: u64, elements: u64) {
    let fault = run(body);
    assert_eq!(fault.code, code, "{body}");
    match fault.info.as_deref() {
        Some(&TrapInfo::Table {
            table, index, len, ..
        }) => assert_eq!((table, index, len), (which, at, elements), "{body}"),
        other => panic!("{body}: {other:?}"),
    }
}

const PAGE: u64 = 65536;

#[test]
fn an_access_found_by_the_hardware_names_its_memory_and_the_first_refused_address() {
    memory("(drop (i32.load $m0 (i32.const 70000)))", 0, 70000, PAGE);
    memory(
        "(drop (i32.load $m1 (i32.const 140000)))",
        1,
        140_000,
        2 * PAGE,
    );
    memory(
        "(i64.store $m1 (i32.const 131069) (i64.const 0))",
        1,
        2 * PAGE,
        2 * PAGE,
    );
    memory(
        "(drop (memory.grow $m0 (i32.const 1))) (drop (i32.load8_u $m0 (i32.const -1)))",
        0,
        u32::MAX.into(),
        2 * PAGE,
    );
}

#[test]
fn an_access_found_by_a_check_does_too() {
    memory("(drop (i32.load $m64 (i64.const 70000)))", 2, 70000, PAGE);
    memory("(drop (i64.load $m64 (i64.const 65530)))", 2, PAGE, PAGE);
    memory(
        "(drop (i32.load $m64 offset=8 (i64.const -4)))",
        2,
        u64::MAX,
        PAGE,
    );
    memory(
        "(i32.store8 $m64 offset=1 (i64.const 65535) (i32.const 0))",
        2,
        PAGE,
        PAGE,
    );
    memory(
        "(drop (i32.load $m0 offset=0xfffffff0 (i32.const 0x100)))",
        0,
        (1 << 32) + 0xf0,
        PAGE,
    );
    memory(
        "(drop (v128.load $m1 offset=0xfffffff0 (i32.const -1)))",
        1,
        (1 << 33) - 17,
        2 * PAGE,
    );
}

#[test]
fn bulk_operations_name_the_memory_or_segment_that_was_too_short() {
    memory(
        "(memory.fill $m1 (i32.const 131070) (i32.const 0) (i32.const 9))",
        1,
        2 * PAGE,
        2 * PAGE,
    );
    memory(
        "(memory.copy $m1 $m0 (i32.const 0) (i32.const 65530) (i32.const 7))",
        0,
        PAGE,
        PAGE,
    );
    memory(
        "(memory.copy $m1 $m0 (i32.const 200000) (i32.const 0) (i32.const 7))",
        1,
        200_000,
        2 * PAGE,
    );
    memory(
        "(memory.copy $m0 $m0 (i32.const 0) (i32.const -1) (i32.const -1))",
        0,
        u32::MAX.into(),
        PAGE,
    );
    memory(
        "(memory.init $m64 $d (i64.const -1) (i32.const 0) (i32.const 7))",
        2,
        u64::MAX,
        PAGE,
    );
    for (body, code, expected) in [
        (
            "(memory.init $m0 $d (i32.const 0) (i32.const 5) (i32.const 6))",
            HeapOutOfBounds,
            (0, 10, 10),
        ),
        (
            "(data.drop $d) (memory.init $m0 $d (i32.const 0) (i32.const 3) (i32.const 1))",
            HeapOutOfBounds,
            (0, 3, 0),
        ),
        (
            "(table.init $t0 $e (i32.const 0) (i32.const 1) (i32.const 2))",
            TableOutOfBounds,
            (0, 2, 2),
        ),
    ] {
        let fault = run(body);
        assert_eq!(fault.code, code);
        match fault.info.as_deref() {
            Some(&TrapInfo::Segment {
                segment,
                index,
                len,
                ..
            }) => assert_eq!((segment, index, len), expected, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn table_operations_name_the_table_the_element_and_the_length() {
    let code = TableOutOfBounds;
    table("(drop (table.get $t0 (i32.const 4)))", code, 0, 4, 4);
    table(
        "(drop (table.get $t1 (i32.const -1)))",
        code,
        1,
        u32::MAX.into(),
        7,
    );
    table(
        "(drop (table.get $t64 (i64.const -1)))",
        code,
        2,
        u64::MAX,
        5,
    );
    table(
        "(table.set $t1 (i32.const 8) (ref.null func))",
        code,
        1,
        8,
        7,
    );
    table(
        "(table.fill $t1 (i32.const 5) (ref.null func) (i32.const 3))",
        code,
        1,
        7,
        7,
    );
    table(
        "(table.copy $t0 $t1 (i32.const 0) (i32.const 6) (i32.const 2))",
        code,
        1,
        7,
        7,
    );
    table(
        "(table.copy $t0 $t1 (i32.const 3) (i32.const 0) (i32.const 2))",
        code,
        0,
        4,
        4,
    );
    table(
        "(table.init $t0 $e (i32.const 9) (i32.const 0) (i32.const 1))",
        code,
        0,
        9,
        4,
    );
    table(
        "(drop (table.grow $t0 (ref.null func) (i32.const 2))) (drop (table.get $t0 (i32.const 6)))",
        code,
        0,
        6,
        6,
    );
}

#[test]
fn indirect_calls_name_the_table_the_element_and_both_types() {
    table(
        "(call_indirect $t0 (i32.const 4))",
        UndefinedElement,
        0,
        4,
        4,
    );
    table(
        "(call_indirect $t1 (i32.const -1))",
        UndefinedElement,
        1,
        u32::MAX.into(),
        7,
    );
    table(
        "(call_indirect $t64 (i64.const 0x100000001))",
        UndefinedElement,
        2,
        0x1_0000_0001,
        5,
    );
    let null = run("(call_indirect $t1 (i32.const 5))");
    assert_eq!(null.code, IndirectCallToNull);
    assert!(
        matches!(
            null.info.as_deref(),
            Some(TrapInfo::NullElement {
                table: 1,
                index: 5,
                ..
            })
        ),
        "{null:?}"
    );
    let call = "(drop (call_indirect $t1 (param f32) (result i32) (f32.const 0) (i32.const 2)))";
    let mismatch = run(call);
    assert_eq!(mismatch.code, BadSignature);
    let Some(TrapInfo::Signature {
        table: 1,
        index: 2,
        expected,
        found: Some(found),
        ..
    }) = mismatch.info.as_deref()
    else {
        panic!("{mismatch:?}");
    };
    assert_eq!(expected.to_string(), "(f32) -> (i32)");
    assert_eq!(found.to_string(), "(i64) -> (i64)");
}

#[test]
fn an_overflow_tells_how_long_the_stack_was() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance("(module (func $f (export \"run\") (call $f) (call $f)))");
    let fault = fault(instance.run("run", &[]));
    assert!(matches!(
        fault.info.as_deref(),
        Some(TrapInfo::Stack { len: 0x10_0000, .. })
    ));
    assert!(
        fault
            .to_string()
            .starts_with("guest trapped: call stack exhausted: the guest's stack of 1048576 bytes")
    );
}

#[test]
fn traps_that_say_all_by_their_code_have_no_more_to_tell() {
    for body in [
        "unreachable",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(drop (i32.trunc_f32_s (f32.const nan)))",
    ] {
        assert!(run(body).info.is_none(), "{body}");
    }
}

#[test]
fn an_imported_memory_has_the_index_of_the_module_that_used_it() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1) (memory (export "second") 3)
            (func (export "run") (param i32) (drop (i32.load 1 (local.get 0)))))"#,
    );
    let user = sandbox.module(
        r#"(module (import "main" "second" (memory 1)) (memory 1) (memory 5)
            (func (export "run") (param i32) (drop (i32.load 0 (local.get 0)))))"#,
    );
    instance.set_member_name("main", Member::MAIN).unwrap();
    let linked = instance.link(&sandbox.linker, &user).unwrap();
    let args = [Val::I32(200_000)];
    let by_owner = fault(instance.run("run", &args));
    let by_user = fault(instance.run_member(linked, "run", &args));
    for (fault, index) in [(by_owner, 1), (by_user, 0)] {
        match fault.info.as_deref() {
            Some(&TrapInfo::Memory {
                memory,
                address,
                len,
                ..
            }) => assert_eq!((memory, address, len), (index, 200_000, 3 * PAGE)),
            other => panic!("{other:?}"),
        }
    }
}
