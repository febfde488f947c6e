//! Files that are no modules at all.

use selvedge::{CompileError, Error};

use crate::Host;

#[test]
fn empty_and_foreign_files_are_described() {
    let host = Host::new();
    let cases: &[(&[u8], &str)] = &[
        (b"", "nothing"),
        (b" \n\t ", "nothing"),
        (b"hello, world", "text that begins with \"hello, world\""),
        (b"#!/bin/sh\nexit", "text that begins with \"#!/bin/sh\""),
        (
            b"\x89PNG\r\n\x1a\n",
            "binary data that begins with 89 50 4e 47",
        ),
        (b"\0as", "is not a WebAssembly module"),
        (&[0xff; 1000], "binary data that begins with ff ff"),
        (&[0; 1000], "is not a WebAssembly module"),
    ];
    for (bytes, expected) in cases {
        let message = host.refused(bytes);
        assert!(message.contains(expected), "{message}");
    }
    host.assert_usable();
}

#[test]
fn other_versions_and_components_are_told_apart() {
    let host = Host::new();
    let message = host.refused(b"\0asm\x0d\0\x01\0");
    assert!(message.contains("component"), "{message}");
    for version in [0u8, 2, 3, 255] {
        let message = host.refused(&[0, b'a', b's', b'm', version, 0, 0, 0]);
        assert!(message.contains("version"), "{message}");
    }
    host.feed(b"\0asm\x01\0\0\0").unwrap();
}

#[test]
fn text_with_mistakes_is_refused_with_the_place() {
    let host = Host::new();
    for text in [
        "(module",
        "(module (func i32.ad))",
        "(module (func (call $absent)))",
        "(x)",
        "(module))",
    ] {
        let error = host.sandbox.engine.compile(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Text(_)), "{text}: {error}");
        assert!(error.to_string().contains(":1:"), "{text}: {error}");
    }
    host.assert_usable();
}

#[test]
fn features_that_are_not_built_are_named_with_their_offset() {
    let host = Host::new();
    let cases = [
        ("(module (type (struct)))", "gc"),
        ("(module (type (array i32)))", "gc"),
    ];
    for (text, feature) in cases {
        let error = host.sandbox.engine.compile(text.as_bytes()).unwrap_err();
        assert!(
            matches!(error, Error::Compile(CompileError::Unsupported { .. })),
            "{text}: {error}"
        );
        let message = error.to_string();
        assert!(
            message.contains(feature) && message.contains("at offset 0x"),
            "{text}: {message}"
        );
    }
}

#[test]
fn text_that_nests_deeply_is_refused_or_compiled() {
    let host = Host::new();
    for depth in [100, 100_000] {
        let open = "(block ".repeat(depth);
        let close = ")".repeat(depth);
        drop(host.feed(format!("(module (func {open}{close}))").as_bytes()));
        drop(host.feed("(".repeat(depth).as_bytes()));
        drop(host.feed(format!("(module {}", "(;".repeat(depth)).as_bytes()));
    }
    host.assert_usable();
}
