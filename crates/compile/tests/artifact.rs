//! The artifact as other tools see it: symbols, references, unwind tables, tables by pc.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use gimli::{BaseAddresses, EhFrame, LittleEndian, UnwindSection};
use object::{Object, ObjectSection};
use selvedge_artifact::pcmap::{AddressMap, TrapTable};
use selvedge_artifact::read::func_names;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::write::eh_frame_distance;
use selvedge_compile::{OptLevel, compile, identity};
use support::{Compiled, settings, wasm};

const MODULE: &str = r#"
    (module $shop
        (import "env" "log" (func $log (param i32)))
        (func $leaf (param i32) (result i32) local.get 0 i32.const 3 i32.mul)
        (func $caller (param i32) (result i32)
            (call $log (local.get 0))
            (call $last (call $leaf (local.get 0))))
        (func $last (param i32) (result i32) (i32.div_u (i32.const 100) (local.get 0)))
        (func unreachable))
"#;

/// Places that `call rel32` instructions of a range of the text lead to. A byte that only looks like
/// one gives a wild place, so callers look for the place they expect.
fn call_targets(text: &[u8], start: u64, len: u64) -> Vec<i64> {
    let range = start as usize..(start + len) as usize;
    let opcodes = range.filter(|at| text[*at] == 0xe8);
    let target = |at: usize| {
        let distance = i32::from_le_bytes(*text.get(at + 1..)?.first_chunk()?);
        Some(at as i64 + 5 + i64::from(distance))
    };
    opcodes.filter_map(target).collect()
}

#[test]
fn functions_have_symbols_and_trampolines_follow_them() {
    let compiled = Compiled::new(MODULE);
    let symbols = compiled.symbols();
    let names: Vec<&str> = symbols.iter().map(|s| &*s.0).collect();
    assert_eq!(
        names[..5],
        [
            "leaf",
            "caller",
            "last",
            "wasm_function_4",
            "host_to_guest_0"
        ]
    );
    assert_eq!(names.len(), 4 + 3 * compiled.artifact.info.sigs.len());
    assert!(
        symbols
            .iter()
            .all(|(_, offset, len)| offset % 16 == 0 && *len > 0)
    );
    assert!(
        symbols
            .windows(2)
            .all(|pair| pair[0].1 + pair[0].2 <= pair[1].1)
    );
    for (range, symbol) in compiled.artifact.info.code.iter().zip(&symbols) {
        assert_eq!(
            (u64::from(range.offset), u64::from(range.len)),
            (symbol.1, symbol.2)
        );
    }
}

#[test]
fn nothing_is_left_to_relocate_and_calls_lead_to_their_functions() {
    let compiled = Compiled::new(MODULE);
    assert!(
        compiled
            .elf()
            .sections()
            .all(|section| section.relocations().next().is_none())
    );
    let symbols = compiled.symbols();
    let place = |name: &str| symbols.iter().find(|s| s.0 == name).unwrap();
    let (_, start, len) = place("caller");
    let targets = call_targets(compiled.text(), *start, *len);
    assert!(targets.contains(&(place("leaf").1 as i64)), "{targets:?}");
    assert!(targets.contains(&(place("last").1 as i64)), "{targets:?}");
}

#[test]
fn unwind_tables_cover_every_symbol() {
    let compiled = Compiled::new(MODULE);
    let section = compiled.section(".eh_frame");
    let text_len = compiled.text().len();
    let sections = compiled.elf();
    let file_place = |name| {
        sections
            .section_by_name(name)
            .unwrap()
            .file_range()
            .unwrap()
            .0
    };
    assert_eq!(
        file_place(".eh_frame") - file_place(".text"),
        eh_frame_distance(text_len)
    );

    let eh_frame = EhFrame::new(&section, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(eh_frame_distance(text_len));
    let mut covered = Vec::new();
    let mut entries = eh_frame.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        if let gimli::CieOrFde::Fde(partial) = entry {
            let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
            covered.push((fde.initial_address(), fde.len()));
        }
    }
    let symbols: Vec<_> = compiled
        .symbols()
        .into_iter()
        .map(|(_, at, len)| (at, len))
        .collect();
    assert_eq!(covered, symbols);
}

#[test]
fn traps_and_addresses_lead_back_to_the_wasm_file() {
    let compiled = Compiled::new(MODULE);
    let layout = &compiled.artifact.layout;
    let traps = TrapTable::new(&compiled.bytes[layout.traps.clone()]).unwrap();
    let addresses = AddressMap::new(&compiled.bytes[layout.addresses.clone()]).unwrap();
    let code_of = |name: &str| {
        let symbol = compiled
            .symbols()
            .into_iter()
            .find(|s| s.0 == name)
            .unwrap();
        symbol.1 as u32..(symbol.1 + symbol.2) as u32
    };
    let found = |name: &str| -> Vec<(u32, TrapCode)> {
        code_of(name)
            .filter_map(|at| Some((at, traps.lookup(at)?)))
            .collect()
    };
    let [(at, TrapCode::Unreachable)] = found("wasm_function_4")[..] else {
        panic!()
    };
    let wasm = wasm(MODULE);
    // The operator `unreachable` is byte 0x00, the body's last but one.
    let wasm_offset = addresses.lookup(at).unwrap() as usize;
    assert_eq!(wasm[wasm_offset..wasm_offset + 2], [0x00, 0x0b]);
    assert!(
        found("last")
            .iter()
            .any(|(_, code)| *code == TrapCode::IntegerDivisionByZero)
    );
    assert!(found("leaf").is_empty());
    // Trampolines stand for no operator.
    assert!(code_of("guest_to_guest_0").all(|at| addresses.lookup(at).is_none()));
}

#[test]
fn serial_and_parallel_compilation_give_the_same_bytes() {
    let funcs: String = (0..200)
        .map(|i| format!("(func (param i32) (result i32) local.get 0 i32.const {i} i32.rotl)"))
        .collect();
    let wasm = wasm(&format!("(module {funcs})"));
    let mut settings = settings();
    let parallel = compile(&wasm, &settings).unwrap().into_bytes();
    settings.parallel = false;
    assert_eq!(compile(&wasm, &settings).unwrap().into_bytes(), parallel);
    assert_eq!(compile(&wasm, &settings).unwrap().into_bytes(), parallel);
    settings.opt_level = OptLevel::None;
    assert_ne!(compile(&wasm, &settings).unwrap().into_bytes(), parallel);
}

#[test]
fn the_artifact_says_what_it_was_made_for() {
    let compiled = Compiled::new(MODULE);
    let found = &compiled.artifact.identity;
    assert_eq!(*found, identity(&settings()).unwrap());
    assert_eq!(found.target, "x86_64-linux");
    assert!(found.cpu_features.contains(&"has_sse41".to_owned()));
}

#[test]
fn names_come_from_the_name_section() {
    let compiled = Compiled::new(MODULE);
    assert_eq!(compiled.artifact.info.name.as_deref(), Some("shop"));
    let names = func_names(&compiled.bytes[compiled.artifact.layout.names.clone()]);
    let names: Vec<_> = names
        .iter()
        .map(|(index, name)| (*index, &**name))
        .collect();
    assert_eq!(names, [(0, "log"), (1, "leaf"), (2, "caller"), (3, "last")]);
}

/// A module of one function with a name section of the given subsections.
fn with_names(subsections: &[u8]) -> Vec<u8> {
    let mut wasm = wasm("(module (func))");
    wasm.extend([0, subsections.len() as u8 + 5, 4]);
    wasm.extend(b"name");
    wasm.extend(subsections);
    wasm
}

#[test]
fn a_damaged_name_section_costs_only_names() {
    let symbols = |subsections: &[u8]| -> Vec<String> {
        let compiled = Compiled::from_wasm(&with_names(subsections)).unwrap();
        compiled
            .symbols()
            .into_iter()
            .map(|symbol| symbol.0)
            .collect()
    };
    // Function names: one entry, index 0.
    assert_eq!(symbols(&[1, 5, 1, 0, 2, b'h', b'i'])[0], "hi");
    // The name claims more bytes than there are, or is no UTF-8, or the count lies.
    assert_eq!(symbols(&[1, 5, 1, 0, 90, b'h', b'i'])[0], "wasm_function_0");
    assert_eq!(symbols(&[1, 5, 1, 0, 2, 0xff, 0xfe])[0], "wasm_function_0");
    assert_eq!(
        symbols(&[1, 9, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 2, b'h', b'i'])[0],
        "hi"
    );
    // A function that does not exist; an empty name; a zero byte.
    assert_eq!(symbols(&[1, 5, 1, 7, 2, b'h', b'i'])[0], "wasm_function_0");
    assert_eq!(symbols(&[1, 3, 1, 0, 0])[0], "wasm_function_0");
    assert_eq!(symbols(&[1, 5, 1, 0, 2, b'h', 0])[0], "h\u{fffd}");
}

#[test]
fn equal_types_share_a_canonical_type_and_like_types_share_trampolines() {
    let info = Compiled::new(
        "(module
            (type (func (param i32)))
            (type (func (param funcref)))
            (type (func (param externref)))
            (type (func (param i32))))",
    )
    .artifact
    .info;
    let canonical: Vec<u32> = info.canonical_types.iter().map(|t| t.as_u32()).collect();
    let sigs: Vec<u32> = info.type_sigs.iter().map(|s| s.as_u32()).collect();
    assert_eq!(canonical, [0, 1, 2, 0]);
    assert_eq!(sigs, [0, 1, 1, 0]);
    assert_eq!(info.sigs.len(), 2);
}

#[test]
fn signatures_with_a_thousand_values_have_trampolines() {
    let params = "i64 f32 ".repeat(500);
    let compiled = Compiled::new(&format!(
        "(module (func (param {params}) (result {params}) {}))",
        (0..1000)
            .map(|i| format!("local.get {i} "))
            .collect::<String>()
    ));
    let sig = &compiled.artifact.info.sigs[0];
    assert!(sig.host_to_guest.len > 0 && sig.guest_to_guest.len > 0);
    assert!(sig.guest_to_host_array.len > 0);
}
