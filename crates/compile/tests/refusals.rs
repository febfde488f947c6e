//! What is refused: features that are not built, broken modules, numbers that lie.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use selvedge_compile::{Error, Settings, compile, validate};
use support::{settings, wasm};

/// The feature and the offset that a module is refused for, by `compile` and `validate` alike.
fn refused_feature(wasm: &[u8]) -> (String, usize) {
    let refused = |error: Error| match error {
        Error::Unsupported { feature, offset } => (feature, offset as usize),
        other => panic!("{other}"),
    };
    let found = refused(compile(wasm, &settings()).unwrap_err());
    assert_eq!(refused(validate(wasm, &settings()).unwrap_err()), found);
    found
}

/// Checks that a module is refused for a feature, at bytes that begin as given.
fn assert_refused(wat: &str, feature: &str, at: &[u8]) {
    let wasm = wasm(wat);
    let (found, offset) = refused_feature(&wasm);
    assert_eq!(found, feature, "{wat}");
    assert!(
        wasm[offset..].starts_with(at),
        "{wat}: {offset:#x}: {:x?}",
        &wasm[offset..]
    );
}

#[test]
fn features_that_are_not_built_are_named_with_their_place() {
    assert_refused(
        "(module (func (drop (ref.i31 (i32.const 0)))))",
        "gc",
        &[0xfb, 0x1c],
    );
    assert_refused("(module (type (struct (field i32))))", "gc", &[]);
    assert_refused("(module (type (array i32)))", "gc", &[]);
    assert_refused("(module (type (sub (func))))", "gc", &[]);
    assert_refused("(module (global (ref null any) (ref.null any)))", "gc", &[]);
    assert_refused(
        "(module (func (block (result eqref) unreachable) drop))",
        "gc",
        &[],
    );
    assert_refused(
        "(module (func (drop (ref.test (ref func) (ref.null func)))))",
        "gc",
        &[0xfb],
    );
    assert_refused("(component)", "component-model", &[]);
}

#[test]
fn refusals_read_as_sentences() {
    let wasm = wasm("(module (func (drop (ref.i31 (i32.const 0)))))");
    let error = compile(&wasm, &settings()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported feature: gc (at offset 0x19); build the module without it"
    );
    let error = compile(b"\0asm\x01\0\0\0\x01\x02\x01\x60", &settings()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid module: unexpected end-of-file (at offset 0xc)"
    );
}

#[test]
fn what_is_no_module_is_invalid() {
    let inputs: [&[u8]; 6] = [
        b"",
        b"\0",
        b"\0asm",
        b"(module)",
        b"hello, world: this is a text file\n",
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
    ];
    for input in inputs {
        assert!(
            matches!(compile(input, &settings()), Err(Error::Invalid { .. })),
            "{input:?}"
        );
        assert!(
            matches!(validate(input, &settings()), Err(Error::Invalid { .. })),
            "{input:?}"
        );
    }
}

#[test]
fn an_invalid_body_is_refused_wherever_it_stands() {
    let good = "(func (result i32) i32.const 1)".repeat(50);
    for parallel in [false, true] {
        let mut settings = settings();
        settings.parallel = parallel;
        let wasm = wasm(&format!(
            "(module {good} (func (result i32) i64.const 1) {good})"
        ));
        let error = compile(&wasm, &settings).unwrap_err();
        let Error::Invalid { message, offset } = &error else {
            panic!("{error}")
        };
        assert!(message.contains("type mismatch"), "{message}");
        assert!(matches!(
            validate(&wasm, &settings),
            Err(Error::Invalid { offset: same, .. }) if same == *offset
        ));
    }
}

/// A module of every kind of section, with constructs of each family of operators.
const REAL: &str = r#"
    (module $real
        (type $binary (func (param i32 i32) (result i32)))
        (import "env" "f" (func $f (type $binary)))
        (import "env" "g" (global $g i32))
        (table $t 4 8 funcref)
        (memory 1 2)
        (global $counter (mut i64) (i64.const 5))
        (export "run" (func $run))
        (export "memory" (memory 0))
        (start $init)
        (elem (i32.const 1) func $run $sum)
        (elem declare func $f)
        (func $init (global.set $counter (i64.extend_i32_u (global.get $g))))
        (func $sum (type $binary) (i32.add (local.get 0) (local.get 1)))
        (func $run (type $binary) (local $i i32) (local f64)
            (block $out
                (loop $again
                    (br_if $out (i32.ge_u (local.get $i) (local.get 0)))
                    (i32.store offset=8 (local.get $i) (i32.load8_s (local.get 1)))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br $again)))
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
            (local.set 3 (f64.convert_i32_s (i32.trunc_sat_f64_s (f64.const 1.5))))
            (drop (table.grow $t (ref.func $f) (i32.const 1)))
            (block (block (br_table 0 1 (local.get 0))))
            (if (result i32) (local.get 0)
                (then (call_indirect (type $binary) (local.get 0) (i32.const 1) (local.get 1)))
                (else (select (call $f (i32.const 1) (i32.const 2)) (i32.const 3) (local.get 1)))))
        (data (i32.const 16) "some bytes")
        (data "passive"))
"#;

#[test]
fn every_prefix_of_a_module_is_refused_or_compiled() {
    let wasm = wasm(REAL);
    compile(&wasm, &settings()).unwrap();
    let mut serial = settings();
    serial.parallel = false;
    let mut compiled = 0;
    for len in 0..wasm.len() {
        compiled += usize::from(compile(&wasm[..len], &serial).is_ok());
    }
    // What is left after a cut is whole only where sections end.
    assert!(compiled < 10, "{compiled}");
}

#[test]
fn every_altered_byte_gives_an_artifact_or_an_error() {
    let wasm = wasm(REAL);
    let mut serial = settings();
    serial.parallel = false;
    for at in 0..wasm.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut altered = wasm.clone();
            altered[at] ^= change;
            // A table or memory may now be large, a count may lie: any outcome but a panic is right.
            if let Err(Error::Codegen { func, message }) = compile(&altered, &serial) {
                panic!("byte {at:#x} ^ {change:#x}: {func}: {message}");
            }
        }
    }
}

/// A number as the longest form of its LEB128 encoding.
fn leb(number: u32) -> [u8; 5] {
    std::array::from_fn(|i| {
        let more = if i < 4 { 0x80 } else { 0 };
        (number >> (7 * i)) as u8 & 0x7f | more
    })
}

#[test]
fn lengths_and_counts_are_only_claims() {
    for section in 0..=13u8 {
        // The section's own length.
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        wasm.push(section);
        wasm.extend(leb(u32::MAX));
        assert!(compile(&wasm, &settings()).is_err(), "section {section}");
        // The count of what is in it.
        for count in [u32::MAX, 1 << 20, 1000] {
            let mut wasm = b"\0asm\x01\0\0\0".to_vec();
            wasm.extend([section, 7]);
            wasm.extend(leb(count));
            wasm.extend([0, 0]);
            // A custom section takes the count for the length of its name.
            assert!(
                compile(&wasm, &settings()).is_err(),
                "section {section}, {count}"
            );
        }
    }
}

#[test]
fn counts_inside_functions_are_only_claims() {
    let module = |body: &[u8]| {
        let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
        wasm.push(body.len() as u8 + 2);
        wasm.push(1);
        wasm.push(body.len() as u8);
        wasm.extend(body);
        wasm
    };
    compile(&module(&[0, 0x0b]), &settings()).unwrap();
    let mut locals = leb(u32::MAX).to_vec();
    locals.extend([0x7f, 0x0b]);
    // A count of local groups, a count of locals in a group, targets of a `br_table`.
    assert!(compile(&module(&locals), &settings()).is_err());
    assert!(compile(&module(&[&[1][..], &locals].concat()), &settings()).is_err());
    let br_table = [&[0, 0x41, 0, 0x0e][..], &leb(u32::MAX - 1), &[0, 0x0b]].concat();
    assert!(compile(&module(&br_table), &settings()).is_err());
}

#[test]
fn deep_nesting_is_compiled() {
    let depth = 20_000;
    let blocks = format!("{}{}", "block ".repeat(depth), "end ".repeat(depth));
    let loops = format!(
        "{}{}",
        "loop local.get 0 if ".repeat(depth / 10),
        "br 1 end end ".repeat(depth / 10)
    );
    let sum = format!(
        "{}{}",
        "local.get 0 ".repeat(depth),
        "i32.add ".repeat(depth - 1)
    );
    let wasm = wasm(&format!(
        "(module (func {blocks}) (func (param i32) {loops})
            (func (param i32) (result i32) {sum}))"
    ));
    compile(&wasm, &Settings::default()).unwrap();
}

#[test]
fn a_huge_br_table_is_compiled() {
    let targets: String = (0..50_000)
        .map(|i| if i % 3 == 0 { "0 " } else { "1 " })
        .collect();
    let wasm = wasm(&format!(
        "(module (func (param i32) (result i32)
            (block (block (br_table {targets} 0 (local.get 0))) (return (i32.const 1)))
            (i32.const 2)))"
    ));
    compile(&wasm, &settings()).unwrap();
}

#[test]
fn a_memory_of_more_than_four_gigabytes_is_invalid() {
    compile(&wasm("(module (memory 65536))"), &settings()).unwrap();
    let mut wasm = wasm("(module (memory 0))");
    // Memory section of one memory without a maximum, of 65537 pages.
    wasm.truncate(8);
    wasm.extend([5, 5, 1, 0, 0x81, 0x80, 0x04]);
    assert!(matches!(
        compile(&wasm, &settings()),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn a_module_that_needs_too_large_a_context_is_refused() {
    let tables = "(table 0 65536 funcref)".repeat(1000);
    let error = compile(&wasm(&format!("(module {tables})")), &settings()).unwrap_err();
    assert!(matches!(error, Error::ContextTooLarge(_)), "{error}");
}

#[test]
fn a_function_that_makes_thousands_of_values_of_a_few_bytes_is_refused() {
    let many = "i64 ".repeat(1000);
    let calls = "call $many ".repeat(200);
    let module = |calls: &str| {
        wasm(&format!(
            "(module (import \"env\" \"many\" (func $many (result {many})))
                (func {calls} unreachable))"
        ))
    };
    compile(&module("call $many"), &settings()).unwrap();
    let error = compile(&module(&calls), &settings()).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
}
