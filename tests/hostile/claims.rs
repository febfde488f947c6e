//! Numbers that nothing backs: lengths and counts of four thousand million. No memory is taken for what
//! is only claimed.

use crate::Host;
use crate::binary::{
    CODE, DATA, ELEMENT, EXPORT, FUNCTION, GLOBAL, IMPORT, MEMORY, TABLE, TYPE, code, leb, module,
    one_func, section, sized,
};

/// The largest number of 32 bits, in LEB128.
const MAX: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

#[test]
fn sections_that_claim_four_gibibytes_are_refused() {
    let host = Host::new();
    for id in 0..=14 {
        let bytes = module(&[[vec![id], MAX.to_vec()].concat()]);
        host.refused(&bytes);
        let bytes = module(&[[vec![id], MAX.to_vec(), vec![0; 100]].concat()]);
        host.refused(&bytes);
    }
    host.assert_usable();
}

#[test]
fn counts_of_four_thousand_million_are_refused() {
    let host = Host::new();
    for id in [
        TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, ELEMENT, CODE, DATA,
    ] {
        host.refused(&module(&[section(id, &MAX)]));
        host.refused(&module(&[section(
            id,
            &[MAX.to_vec(), vec![0; 50]].concat(),
        )]));
    }
    // Parameters, results, names, bodies, locals, elements, targets, bytes of data.
    let types = |contents: &[u8]| module(&[section(TYPE, &[&[1, 0x60], contents].concat())]);
    host.refused(&types(&MAX));
    host.refused(&types(&[&[0], &MAX[..]].concat()));
    host.refused(&module(&[section(IMPORT, &[&[1], &MAX[..]].concat())]));
    host.refused(&module(&[section(EXPORT, &[&[1], &MAX[..]].concat())]));
    let func = |body: &[u8]| {
        module(&[
            section(TYPE, &[1, 0x60, 0, 0]),
            section(FUNCTION, &[1, 0]),
            section(CODE, &[&[1], body].concat()),
        ])
    };
    host.refused(&func(&MAX));
    host.refused(&one_func(&MAX, &[]));
    host.refused(&one_func(&[&[1], &MAX[..], &[0x7f]].concat(), &[]));
    host.refused(&one_func(&[&[2, 1, 0x7f], &MAX[..], &[0x7e]].concat(), &[]));
    host.refused(&code(&[&[0x41, 0, 0x0e], &MAX[..]].concat()));
    host.refused(&module(&[
        section(MEMORY, &[1, 0, 1]),
        section(DATA, &[&[1, 1], &MAX[..]].concat()),
    ]));
    host.refused(&module(&[
        section(TABLE, &[1, 0x70, 0, 1]),
        section(ELEMENT, &[&[1, 1, 0], &MAX[..]].concat()),
    ]));
    host.assert_usable();
}

#[test]
fn indices_of_four_thousand_million_are_refused() {
    let host = Host::new();
    // call, local.get, local.set, global.get, br, br_if, ref.func, memory.init, table.get, data.drop
    let prefixes: [&[u8]; 10] = [
        &[0x10],
        &[0x20],
        &[0x41, 0, 0x21],
        &[0x23],
        &[0x0c],
        &[0x41, 0, 0x0d],
        &[0xd2],
        &[0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 8],
        &[0x41, 0, 0x25],
        &[0xfc, 9],
    ];
    for prefix in prefixes {
        host.refused(&code(&[prefix, &MAX[..], &[0x1a]].concat()));
    }
    host.refused(&module(&[
        section(TYPE, &[1, 0x60, 0, 0]),
        section(FUNCTION, &[&[1], &MAX[..]].concat()),
    ]));
    host.refused(&module(&[section(8, &MAX)]));
    host.refused(&module(&[section(
        EXPORT,
        &[&[1, 1, b'x', 0], &MAX[..]].concat(),
    )]));
    host.assert_usable();
}

#[test]
fn memories_and_tables_of_any_claimed_length_cost_nothing_until_they_are_made() {
    let host = Host::new();
    // 4 GiB of memory are address space only.
    host.feed(b"(module (memory 65536))").unwrap();
    host.feed(b"(module (memory 0 65536))").unwrap();
    host.refused(b"\0asm\x01\0\0\0\x05\x05\x01\0\x81\x80\x04");
    let error = host
        .feed(b"(module (table 4294967295 funcref))")
        .unwrap_err();
    assert!(error.contains("raise table_elements"), "{error}");
    host.feed(b"(module (table 0 4294967295 funcref))").unwrap();
    // One past what the region gives.
    let error = host
        .feed(b"(module (table 10000001 externref))")
        .unwrap_err();
    assert!(error.contains("10000001 table elements"), "{error}");
    host.feed(b"(module (table 10000000 externref))").unwrap();
    host.assert_usable();
}

#[test]
fn artifacts_of_sparse_segments_stay_small() {
    let host = Host::new();
    for wat in [
        r#"(module (memory 65536) (data (i32.const 0) "a") (data (i32.const -2) "bc"))"#,
        r#"(module (memory 65536) (data (i32.const 0x7fffffff) "a") (data (i32.const 0x3fffffff) "b"))"#,
        r#"(module (table 10000000 funcref) (elem (i32.const 9999999) $f) (func $f))"#,
        r#"(module (memory 65536) (table 10000000 funcref) (func $f)
            (elem (i32.const 0) $f) (elem (i32.const 5000000) $f) (data (i32.const 0) "a"))"#,
    ] {
        let artifact = host.sandbox.engine.precompile(wat.as_bytes()).unwrap();
        assert!(
            artifact.len() < 4 << 20,
            "{} bytes for {wat}",
            artifact.len()
        );
        host.feed(wat.as_bytes()).unwrap();
    }
    host.assert_usable();
}

#[test]
fn a_name_section_that_lies_costs_only_the_names() {
    let host = Host::new();
    let custom = |contents: &[u8]| section(0, &[sized(b"name"), contents.to_vec()].concat());
    let base = code(&[0x01]);
    let damaged = [
        vec![],
        [vec![1], MAX.to_vec()].concat(),
        [vec![1], sized(&MAX)].concat(),
        [vec![1], sized(&[&[1, 0], &MAX[..]].concat())].concat(),
        // An index that no function has.
        [
            vec![1],
            sized(&[vec![1], MAX.to_vec(), sized(b"ghost")].concat()),
        ]
        .concat(),
        // Not UTF-8.
        [vec![1], sized(&[1, 0, 2, 0xff, 0xfe])].concat(),
        vec![0xee; 100],
    ];
    for contents in damaged {
        let bytes = [base.clone(), custom(&contents)].concat();
        host.feed(&bytes).unwrap();
    }
    // A custom section whose own name is longer than it.
    host.refused(&[base, section(0, &leb(200))].concat());
    host.assert_usable();
}
