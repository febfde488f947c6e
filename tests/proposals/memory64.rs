//! Memories and tables with 64-bit indices: nothing of an index is cut off or wraps, and a memory may
//! be longer than 4 GiB.

use selvedge::{InstanceHandle, Limits, RuntimeError, TrapCode, Val};
use selvedge_tests::sandbox::{Sandbox, bits, fault, returned};

const MEMORY: &str = "(module
    (memory (export \"memory\") i64 1 0x20000)
    (data (i64.const 0xfffc) \"last\")
    (data $passive \"passive\")
    (func (export \"load\") (param i64) (result i32) (i32.load (local.get 0)))
    (func (export \"load_at_8\") (param i64) (result i32) (i32.load offset=8 (local.get 0)))
    (func (export \"load_far\") (param i64) (result i32)
        (i32.load offset=0x100000000 (local.get 0)))
    (func (export \"load_farthest\") (param i64) (result i32)
        (i32.load offset=0xffffffffffffffff (local.get 0)))
    (func (export \"store\") (param i64 i32) (i32.store (local.get 0) (local.get 1)))
    (func (export \"copy\") (param i64 i64 i64)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"fill\") (param i64 i64)
        (memory.fill (local.get 0) (i32.const 1) (local.get 1)))
    (func (export \"init\") (param i64)
        (memory.init $passive (local.get 0) (i32.const 0) (i32.const 7)))
    (func (export \"size\") (result i64) (memory.size))
    (func (export \"grow\") (param i64) (result i64) (memory.grow (local.get 0))))";

fn run(instance: &mut InstanceHandle, name: &str, args: &[Val]) -> i64 {
    match returned(instance.run(name, args))[..] {
        [Val::I64(value)] => value,
        [Val::I32(value)] => value.into(),
        ref other => panic!("{name} gave {other:?}"),
    }
}

#[test]
fn no_sum_of_index_and_offset_wraps() {
    let mut instance = Sandbox::new().instance(MEMORY);
    let last = i64::from(i32::from_le_bytes(*b"last"));
    assert_eq!(run(&mut instance, "load", &[Val::I64(0xfffc)]), last);
    assert_eq!(run(&mut instance, "load_at_8", &[Val::I64(0xfff4)]), last);
    let outside = [
        ("load", 0xfffd),
        ("load", 0x1_0000_0000),
        ("load", i64::MAX),
        ("load", i64::MIN),
        ("load", -1),
        ("load", -4),
        ("load_at_8", 0xfff5),
        ("load_at_8", -8),
        ("load_at_8", -12),
        ("load_far", 0),
        ("load_far", -0x1_0000_0000),
        ("load_farthest", 0),
        ("load_farthest", 1),
        ("load_farthest", -1),
    ];
    for (name, at) in outside {
        let fault = fault(instance.run(name, &[Val::I64(at)]));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name} {at:#x}");
    }
    let outside: [(&str, &[i64]); 6] = [
        ("copy", &[0, 1, 0x10000]),
        ("copy", &[-1, 0, 2]),
        ("copy", &[0, 0x1_0000_0000, 1]),
        ("fill", &[1, -1]),
        ("fill", &[0x1_0000_0000, 0]),
        ("init", &[0xfffa]),
    ];
    for (name, args) in outside {
        let args: Vec<Val> = args.iter().map(|&n| Val::I64(n)).collect();
        let fault = fault(instance.run(name, &args));
        assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name} {args:?}");
    }
    instance.run("init", &[Val::I64(0xfff9)]).unwrap();
    assert_eq!(instance.heap().unwrap()[0xfff9..], *b"passive");
}

#[test]
fn a_memory_may_be_longer_than_32_bits_reach() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(MEMORY);
    let pages = 0x1_8000;
    assert_eq!(run(&mut instance, "grow", &[Val::I64(pages - 1)]), 1);
    assert_eq!(run(&mut instance, "size", &[]), pages);
    let end = pages << 16;
    instance
        .run("store", &[Val::I64(end - 4), Val::I32(77)])
        .unwrap();
    assert_eq!(run(&mut instance, "load", &[Val::I64(end - 4)]), 77);
    let far = end - 4 - 0x1_0000_0000;
    assert_eq!(run(&mut instance, "load_far", &[Val::I64(far)]), 77);
    assert_eq!(run(&mut instance, "load", &[Val::I64(far)]), 0);
    let args = [10, end - 4, 4].map(Val::I64);
    instance.run("copy", &args).unwrap();
    assert_eq!(run(&mut instance, "load", &[Val::I64(10)]), 77);
    assert_eq!(instance.heap().unwrap().len() as i64, end);
    assert_eq!(run(&mut instance, "grow", &[Val::I64(-1)]), -1);
    assert_eq!(run(&mut instance, "grow", &[Val::I64(0x1_0000_0000)]), -1);

    let mut limits = Limits::default();
    limits.memory64_len = 3 << 16;
    let mut instance = Sandbox::with(1, &limits).instance(MEMORY);
    assert_eq!(run(&mut instance, "grow", &[Val::I64(3)]), -1);
    assert_eq!(run(&mut instance, "grow", &[Val::I64(2)]), 1);
}

#[test]
fn copies_between_widths_take_the_narrower_length() {
    let mut instance = Sandbox::new().instance(
        "(module
            (memory $narrow (export \"narrow\") 1)
            (memory $wide (export \"wide\") i64 1)
            (data (memory $narrow) (i32.const 0) \"narrow\")
            (func (export \"there\")
                (memory.copy $wide $narrow (i64.const 100) (i32.const 0) (i32.const 6)))
            (func (export \"back\")
                (memory.copy $narrow $wide (i32.const 50) (i64.const 100) (i32.const 6))))",
    );
    instance.run("there", &[]).unwrap();
    instance.run("back", &[]).unwrap();
    assert_eq!(instance.memory("wide").unwrap()[99..107], *b"\0narrow\0");
    assert_eq!(instance.memory("narrow").unwrap()[49..57], *b"\0narrow\0");
}

/// Tables inside and outside the context, fixed and growing.
#[test]
fn a_table_index_is_not_cut_to_32_bits() {
    for limits in ["3 3", "3 100", "3", "3 100000"] {
        let mut instance = Sandbox::new().instance(&format!(
            "(module
                (type $t (func (result i32)))
                (table $t (export \"table\") i64 {limits} funcref)
                (elem (i64.const 0) $one $two)
                (elem $passive func $two $one)
                (func $one (result i32) (i32.const 1))
                (func $two (result i32) (i32.const 2))
                (func (export \"call\") (param i64) (result i32)
                    (call_indirect (type $t) (local.get 0)))
                (func (export \"tail\") (param i64) (result i32)
                    (return_call_indirect (type $t) (local.get 0)))
                (func (export \"null\") (param i64) (result i32)
                    (ref.is_null (table.get (local.get 0))))
                (func (export \"init\") (param i64)
                    (table.init $t $passive (local.get 0) (i32.const 0) (i32.const 2)))
                (func (export \"copy\") (param i64 i64 i64)
                    (table.copy (local.get 0) (local.get 1) (local.get 2)))
                (func (export \"fill\") (param i64 i64)
                    (table.fill (local.get 0) (ref.func $one) (local.get 1)))
                (func (export \"set\") (param i64) (table.set (local.get 0) (ref.null func)))
                (func (export \"size\") (result i64) (table.size))
                (func (export \"grow\") (param i64) (result i64)
                    (table.grow (ref.func $two) (local.get 0))))"
        ));
        for name in ["call", "tail"] {
            assert_eq!(run(&mut instance, name, &[Val::I64(0)]), 1);
            assert_eq!(run(&mut instance, name, &[Val::I64(1)]), 2);
            for at in [3, 0x1_0000_0000, 0x1_0000_0001, -1, i64::MIN] {
                let fault = fault(instance.run(name, &[Val::I64(at)]));
                assert_eq!(fault.code, TrapCode::UndefinedElement, "{name} {at:#x}");
            }
            let fault = fault(instance.run(name, &[Val::I64(2)]));
            assert_eq!(fault.code, TrapCode::IndirectCallToNull);
        }
        let outside: [(&str, &[i64]); 6] = [
            ("null", &[0x1_0000_0000]),
            ("set", &[0x1_0000_0000]),
            ("init", &[0x1_0000_0000]),
            ("copy", &[0x1_0000_0000, 0, 1]),
            ("copy", &[0, 0, 0x1_0000_0000]),
            ("fill", &[0, 0x1_0000_0001]),
        ];
        for (name, args) in outside {
            let args: Vec<Val> = args.iter().map(|&n| Val::I64(n)).collect();
            let fault = fault(instance.run(name, &args));
            assert_eq!(fault.code, TrapCode::TableOutOfBounds, "{name} {args:?}");
        }
        instance.run("init", &[Val::I64(1)]).unwrap();
        assert_eq!(run(&mut instance, "call", &[Val::I64(2)]), 1);
        instance.run("copy", &[0, 1, 2].map(Val::I64)).unwrap();
        assert_eq!(run(&mut instance, "call", &[Val::I64(0)]), 2);
        instance.run("set", &[Val::I64(0)]).unwrap();
        assert_eq!(run(&mut instance, "null", &[Val::I64(0)]), 1);
        instance.run("fill", &[0, 3].map(Val::I64)).unwrap();
        assert_eq!(run(&mut instance, "call", &[Val::I64(0)]), 1);
        assert_eq!(run(&mut instance, "grow", &[Val::I64(0x1_0000_0000)]), -1);
        assert_eq!(run(&mut instance, "grow", &[Val::I64(-1)]), -1);
        let grown = run(&mut instance, "grow", &[Val::I64(2)]);
        let (former, len) = if limits == "3 3" { (-1, 3) } else { (3, 5) };
        assert_eq!((grown, run(&mut instance, "size", &[])), (former, len));
        if former == 3 {
            assert_eq!(run(&mut instance, "call", &[Val::I64(4)]), 2);
        }
    }
}

#[test]
fn narrow_and_wide_imports_do_not_stand_for_each_other() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance("(module)");
    let owner = sandbox.module(
        "(module (memory (export \"memory\") i64 1) (memory (export \"narrow\") 1)
            (data (memory 0) (i64.const 8) \"seen\")
            (table (export \"table\") i64 1 funcref))",
    );
    let owner = instance.link(&sandbox.linker, &owner).unwrap();
    instance.set_member_name("owner", owner).unwrap();
    let refused = [
        ("memory", "(memory 1)"),
        ("narrow", "(memory i64 1)"),
        ("table", "(table 1 funcref)"),
    ];
    for (name, ty) in refused {
        let module = sandbox.module(&format!("(module (import \"owner\" \"{name}\" {ty}))"));
        let error = instance.link(&sandbox.linker, &module).unwrap_err();
        assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
    }
    let user = sandbox.module(
        "(module (import \"owner\" \"memory\" (memory i64 1))
            (func (export \"load\") (param i64) (result i32) (i32.load (local.get 0))))",
    );
    let user = instance.link(&sandbox.linker, &user).unwrap();
    let found = returned(instance.run_member(user, "load", &[Val::I64(8)]));
    let expected = Val::I32(i32::from_le_bytes(*b"seen"));
    assert_eq!(bits(&found), bits(&[expected]));
    let fault = fault(instance.run_member(user, "load", &[Val::I64(-8)]));
    assert_eq!(fault.code, TrapCode::HeapOutOfBounds);
}
