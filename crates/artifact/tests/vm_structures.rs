//! `docs/vm-structures.md` says what the table in `contract/vmfields.rs` says: it is made from it.
//!
//! `BLESS=1 cargo test -p selvedge-artifact --test vm_structures` writes it anew.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::path::Path;

use selvedge_artifact::vmoffsets::VMOffsets;
use selvedge_artifact::with_vm_structs;

/// A field as the table has it, and where the offsets of this crate put it.
struct Field {
    name: &'static str,
    ty: &'static str,
    doc: String,
    offset: u32,
}

/// A structure.
struct Structure {
    name: &'static str,
    doc: String,
    fields: Vec<Field>,
    len: u32,
}

macro_rules! list {
    ($($(#[doc = $sdoc:literal])* $name:ident $module:ident {
        $($(#[doc = $doc:literal])* $field:ident : $ty:ident,)*
    })*) => {
        fn structures() -> Vec<Structure> {
            vec![$(Structure {
                name: stringify!($name),
                doc: concat!($($sdoc),*).trim().to_owned(),
                fields: vec![$(Field {
                    name: stringify!($field),
                    ty: stringify!($ty),
                    doc: concat!($($doc),*).trim().to_owned(),
                    offset: selvedge_artifact::vmfields::$module::OFFSETS.$field,
                }),*],
                len: selvedge_artifact::vmfields::$module::OFFSETS.struct_len,
            }),*]
        }
    };
}

with_vm_structs!(list);

/// The structure as a drawing, a line of 16 bytes each, lowest address first.
fn drawing(structure: &Structure) -> String {
    let ends = structure.fields.iter().skip(1).map(|field| field.offset);
    let mut rows: Vec<(u32, String)> = Vec::new();
    for (field, end) in structure.fields.iter().zip(ends.chain([structure.len])) {
        if rows.last().is_none_or(|(row, _)| *row != field.offset / 16) {
            rows.push((field.offset / 16, String::new()));
        }
        // Three characters a byte, the border included.
        let width = (end - field.offset) as usize * 3 - 2;
        let (_, row) = rows.last_mut().unwrap();
        let _ = write!(row, " {:<width$}|", field.name, width = width);
    }
    let mut out = String::new();
    for (row, cells) in rows {
        let _ = writeln!(out, "  {:>3} |{cells}", row * 16);
    }
    out
}

fn document() -> String {
    let mut out = String::from(
        "# What generated code and the runtime share\n\n\
         Made from the table in `crates/artifact/src/contract/vmfields.rs` by the test\n\
         `crates/artifact/tests/vm_structures.rs`, which fails if it is not current. The runtime expands the same\n\
         table to `repr(C)` structures and compares their offsets with these when it is compiled; the compiler\n\
         takes these. `ARCHITECTURE.md` draws where a context lies in its slot. Numbers are bytes; a line of a\n\
         drawing is 16 of them.\n",
    );
    for structure in structures() {
        let _ = write!(
            out,
            "\n## {}\n\n{}\n\n```text\n{}```\n\n",
            structure.name,
            structure.doc,
            drawing(&structure)
        );
        let is_header = structure.name == "VMContextHeader";
        let below = if is_header { " below `vmctx` |" } else { "" };
        let line = if is_header { " --- |" } else { "" };
        let _ = writeln!(
            out,
            "| field | type | at |{below} what it is |\n| --- | --- | --- |{line} --- |"
        );
        for field in &structure.fields {
            let below = if is_header {
                format!(" {} |", VMOffsets::header(field.offset))
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "| `{}` | {} | {} |{below} {} |",
                field.name, field.ty, field.offset, field.doc
            );
        }
    }
    out
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vm-structures.md");
    let expected = document();
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/vm-structures.md is not current: write it with BLESS=1"
    );
}

#[test]
fn no_field_lies_in_another_or_leaves_a_gap() {
    for structure in structures() {
        let mut at = 0;
        for field in &structure.fields {
            assert_eq!(field.offset, at, "{} {}", structure.name, field.name);
            at += if field.ty == "u32" { 4 } else { 8 };
            assert!(!field.doc.is_empty(), "{}", field.name);
        }
        assert_eq!(structure.len, at, "{}", structure.name);
    }
}
