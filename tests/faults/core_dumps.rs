//! Core dumps, read back with another parser: what is in them is what the guest had.

use std::collections::BTreeMap;
use std::io;

use selvedge::{FaultDetails, Instance, Member, RuntimeError};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};
use wasmparser::{
    BinaryReader, CoreDumpInstance, CoreDumpInstancesSection, CoreDumpModulesSection,
    CoreDumpSection, CoreDumpStackFrame, CoreDumpStackSection, DataKind, MemoryType, Operator,
    Parser, Payload, Validator, WasmFeatures,
};

/// What stands in a dump.
#[derive(Default)]
struct Dump {
    name: String,
    modules: Vec<String>,
    instances: Vec<CoreDumpInstance>,
    frames: Vec<CoreDumpStackFrame>,
    memories: Vec<MemoryType>,
    /// The operators of each global's value, as text.
    globals: Vec<String>,
    /// By memory, then by address.
    data: BTreeMap<(u32, u64), Vec<u8>>,
}

fn dump(instance: &Instance, fault: Option<&FaultDetails>) -> Dump {
    let mut bytes = Vec::new();
    instance.core_dump(fault, &mut bytes).unwrap();
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(&bytes)
        .unwrap();
    let mut dump = Dump::default();
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    for payload in parser.parse_all(&bytes) {
        match payload.unwrap() {
            Payload::MemorySection(section) => {
                dump.memories = section.into_iter().map(Result::unwrap).collect();
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global.unwrap();
                    assert!(!global.ty.mutable);
                    let mut operators = global.init_expr.get_operators_reader();
                    dump.globals
                        .push(format!("{:?}", operators.read().unwrap()));
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    let data = data.unwrap();
                    let DataKind::Active {
                        memory_index,
                        offset_expr,
                    } = data.kind
                    else {
                        panic!("a passive segment");
                    };
                    let at = match offset_expr.get_operators_reader().read().unwrap() {
                        Operator::I32Const { value } => value.cast_unsigned().into(),
                        Operator::I64Const { value } => value.cast_unsigned(),
                        other => panic!("{other:?}"),
                    };
                    dump.data.insert((memory_index, at), data.data.to_vec());
                }
            }
            Payload::CustomSection(section) => {
                let reader = BinaryReader::new(section.data(), 0);
                match section.name() {
                    "core" => dump.name = CoreDumpSection::new(reader).unwrap().name.to_owned(),
                    "coremodules" => {
                        let section = CoreDumpModulesSection::new(reader).unwrap();
                        dump.modules = section.modules.iter().map(|m| (*m).to_owned()).collect();
                    }
                    "coreinstances" => {
                        dump.instances = CoreDumpInstancesSection::new(reader).unwrap().instances;
                    }
                    "corestack" => {
                        let section = CoreDumpStackSection::new(reader).unwrap();
                        assert_eq!(section.name, "main");
                        dump.frames = section.frames;
                    }
                    other => panic!("{other}"),
                }
            }
            _ => {}
        }
    }
    dump
}

impl Dump {
    /// The byte of a memory at an address.
    fn byte(&self, memory: u32, at: u64) -> u8 {
        let before = self.data.range(..=(memory, at)).next_back();
        match before {
            Some(((of, start), bytes)) if *of == memory => {
                bytes.get((at - start) as usize).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

const GUEST: &str = r#"(module $guest
    (memory (export "m") 2 8)
    (memory $other i64 1 1)
    (global (export "counter") (mut i32) (i32.const 5))
    (global (mut i64) (i64.const -7)) (global f32 (f32.const 1.5)) (global (mut f64) (f64.const -0.25))
    (global v128 (v128.const i64x2 1 2)) (global (mut funcref) (ref.func $inner))
    (global (mut externref) (ref.null extern))
    (data (i32.const 70000) "first page but one")
    (func $inner (param i32)
        (i32.store8 (i32.const 100000) (i32.const 0xaa))
        (i64.store $other (i64.const 65528) (i64.const -1))
        (global.set 0 (i32.const 77))
        (drop (i32.load (local.get 0))))
    (func $outer (export "run") (call $inner (i32.const -4)))
    (func (export "grow") (result i32) (memory.grow 0 (i32.const 3))))"#;

#[test]
fn a_dump_has_memories_globals_and_frames_of_the_fault() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("grow", &[])), 2);
    let fault = fault(instance.run("run", &[]));
    let dump = dump(&instance, Some(&fault));
    assert_eq!(
        (dump.name.as_str(), &dump.modules[..]),
        ("guest", &["guest".to_owned()][..])
    );
    let [instance] = &dump.instances[..] else {
        panic!()
    };
    assert_eq!(instance.module_index, 0);
    assert_eq!(
        (&instance.memories[..], &instance.globals[..]),
        (&[0, 1][..], &[0, 1, 2, 3, 4, 5, 6][..])
    );
    let memories: Vec<_> = dump
        .memories
        .iter()
        .map(|m| (m.initial, m.memory64))
        .collect();
    assert_eq!(memories, [(5, false), (1, true)]);
    assert_eq!((dump.byte(0, 70000), dump.byte(0, 70001)), (b'f', b'i'));
    assert_eq!((dump.byte(0, 100_000), dump.byte(0, 100_001)), (0xaa, 0));
    assert_eq!(
        (
            dump.byte(1, 65527),
            dump.byte(1, 65528),
            dump.byte(1, 65535)
        ),
        (0, 0xff, 0xff)
    );
    let total: usize = dump.data.values().map(Vec::len).sum();
    assert!(total < 65536, "pages of zeros are left out: {total}");
    let expected = [
        "I32Const { value: 77 }",
        "I64Const { value: -7 }",
        "F32Const",
        "F64Const",
        "V128Const",
        "RefNull",
        "RefNull",
    ];
    assert_eq!(dump.globals.len(), expected.len());
    for (found, expected) in dump.globals.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    let frames: Vec<_> = dump
        .frames
        .iter()
        .map(|f| (f.instanceidx, f.funcidx))
        .collect();
    assert_eq!(frames, [(0, 0), (0, 1)]);
    // Relative to the start of the body, at its declaration of locals.
    let wasm = wat::parse_str(GUEST).unwrap();
    let mut starts = Vec::new();
    for payload in Parser::new(0).parse_all(&wasm) {
        if let Payload::CodeSectionEntry(body) = payload.unwrap() {
            starts.push(body.range().start as u32);
        }
    }
    for (frame, told) in dump.frames.iter().zip(&fault.backtrace.frames) {
        let start = starts[frame.funcidx as usize];
        assert_eq!(Some(start + frame.codeoffset), told.wasm_offset);
        assert!(frame.codeoffset > 0);
        assert!(frame.locals.is_empty() && frame.stack.is_empty());
    }
}

#[test]
fn a_dump_of_linked_modules_has_each_memory_once() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module $base (memory (export "m") 1) (global (export "g") (mut i32) (i32.const 1))
            (func (export "run")))"#,
    );
    instance.set_member_name("base", Member::MAIN).unwrap();
    let user = sandbox.module(
        r#"(module $user (import "base" "g" (global $g (mut i32))) (import "base" "m" (memory 1))
            (memory $own 1) (global $mine i64 (i64.const 9))
            (func (export "run") (global.set $g (i32.const 3)) (i32.store 0 (i32.const 8) (i32.const 1))
                (i32.store $own (i32.const 16) (i32.const 2)) unreachable))"#,
    );
    let members = [0, 1].map(|_| instance.link(&sandbox.linker, &user).unwrap());
    let fault = fault(instance.run_member(members[1], "run", &[]));
    let dump = dump(&instance, Some(&fault));
    assert_eq!(dump.modules, ["base", "user", "user"]);
    let shared: Vec<_> = dump
        .instances
        .iter()
        .map(|i| (i.module_index, i.memories.clone(), i.globals.clone()))
        .collect();
    assert_eq!(
        shared,
        [
            (0, vec![0], vec![0]),
            (1, vec![0, 1], vec![0, 1]),
            (2, vec![0, 2], vec![0, 2])
        ]
    );
    assert_eq!((dump.memories.len(), dump.globals.len()), (3, 3));
    assert!(dump.globals[0].contains("value: 3"));
    assert_eq!(
        (dump.byte(0, 8), dump.byte(1, 16), dump.byte(2, 16)),
        (1, 0, 2)
    );
    assert_eq!(dump.frames.len(), 1);
}

#[test]
fn a_dump_needs_no_fault_and_no_memory() {
    let sandbox = Sandbox::new();
    let instance = sandbox.instance("(module (memory (export \"m\") 3) (func (export \"run\")))");
    let dump = dump(&instance, None);
    assert!(dump.frames.is_empty() && dump.data.is_empty());
    assert_eq!(dump.memories[0].initial, 3);
    let none = sandbox.instance("(module (func (export \"run\")))");
    let empty = self::dump(&none, None);
    assert!(empty.memories.is_empty());
    assert_eq!(empty.modules, ["<module>"]);
}

#[test]
fn a_writer_that_fails_is_an_error() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 && !bytes.is_empty() {
                return Err(io::Error::other("full"));
            }
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sandbox = Sandbox::new();
    let instance = sandbox.instance(GUEST);
    let mut whole = Vec::new();
    instance.core_dump(None, &mut whole).unwrap();
    for room in (0..whole.len()).step_by(101) {
        let error = instance.core_dump(None, &mut Full(room)).unwrap_err();
        assert!(matches!(error, RuntimeError::System { .. }), "{error}");
    }
    instance.core_dump(None, &mut Full(whole.len())).unwrap();
}
