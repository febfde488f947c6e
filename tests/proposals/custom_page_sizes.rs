//! Memories with pages of one byte end where they say, to the byte.

use selvedge::{ExternType, Limits, RuntimeError, TrapCode, Val};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

const BYTES: &str = "(module
    (memory (export \"memory\") 10 20000 (pagesize 1))
    (data (i32.const 2) \"abcdefgh\")
    (func (export \"load8\") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export \"load64\") (param i32) (result i64) (i64.load (local.get 0)))
    (func (export \"load64_at_8\") (param i32) (result i64) (i64.load offset=8 (local.get 0)))
    (func (export \"store16\") (param i32 i32) (i32.store16 (local.get 0) (local.get 1)))
    (func (export \"fill\") (param i32 i32) (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
    (func (export \"size\") (result i32) (memory.size))
    (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0))))";

#[test]
fn a_memory_of_bytes_ends_at_its_last_byte() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(BYTES);
    let args = |at: i32| [Val::I32(at)];
    assert_eq!(instance.heap().unwrap()[..], *b"\0\0abcdefgh");
    assert_eq!(
        returned_i32(instance.run("load8", &args(9))),
        i32::from(b'h')
    );
    let found = returned(instance.run("load64", &args(2)));
    assert!(matches!(found[..], [Val::I64(v)] if v == i64::from_le_bytes(*b"abcdefgh")));
    let outside = [
        ("load8", 10),
        ("load64", 3),
        ("load64", -8),
        ("load64_at_8", 0),
        ("load8", -1),
    ];
    for (name, at) in outside {
        let fault = fault(instance.run(name, &args(at)));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name} {at}");
    }
    for (name, pair) in [("store16", [9, 0]), ("fill", [5, 6]), ("fill", [11, 0])] {
        let fault = fault(instance.run(name, &pair.map(Val::I32)));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name}");
    }

    assert_eq!(returned_i32(instance.run("grow", &args(6))), 10);
    assert_eq!(returned_i32(instance.run("size", &[])), 16);
    assert!(matches!(
        returned(instance.run("load64_at_8", &args(0)))[..],
        [Val::I64(_)]
    ));
    assert_eq!(
        fault(instance.run("load64_at_8", &args(1))).code,
        TrapCode::HeapOutOfBounds
    );
    // Over pages of the host, and up to the maximum.
    assert_eq!(returned_i32(instance.run("grow", &args(9_984))), 16);
    instance
        .run("fill", &[Val::I32(0), Val::I32(10_000)])
        .unwrap();
    assert_eq!(instance.heap().unwrap()[..], [7; 10_000]);
    assert_eq!(returned_i32(instance.run("grow", &args(10_001))), -1);
    assert_eq!(instance.grow_memory(10_000).unwrap(), 10_000);
    assert_eq!(instance.heap().unwrap()[10_000..], [0; 10_000]);
}

#[test]
fn the_limit_counts_bytes_and_types_must_match() {
    let mut limits = Limits::default();
    limits.memory_len = 15;
    let sandbox = Sandbox::with(4, &limits);
    let mut instance = sandbox.instance(BYTES);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(6)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(5)])), 10);

    let owner = instance
        .link(&sandbox.linker, &sandbox.module(BYTES))
        .unwrap();
    instance.set_member_name("bytes", owner).unwrap();
    let importing = |ty: &str| {
        sandbox.module(&format!(
            "(module (import \"bytes\" \"memory\" (memory {ty})))"
        ))
    };
    instance
        .link(&sandbox.linker, &importing("10 (pagesize 1)"))
        .unwrap();
    let error = instance.link(&sandbox.linker, &importing("0")).unwrap_err();
    match error {
        RuntimeError::ImportType { found, .. } => {
            assert!(matches!(*found, ExternType::Memory(ty) if ty.page_len() == 1));
        }
        other => panic!("{other}"),
    }
}
