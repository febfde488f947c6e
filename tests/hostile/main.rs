//! Hostile input: whatever bytes come in as a module or an artifact, the answer is a module that can be
//! used or one clear error, and the region goes on serving others.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod artifacts;
mod binary;
mod bit_flips;
mod claims;
mod not_wasm;
mod shapes;
mod snapshot_artifacts;
mod truncation;

use selvedge::{CompileError, Engine, Error, Limits, OptLevel, Region, Settings};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

/// Modules that together use everything that is supported.
const MODULES: &[&str] = &[
    r#"(module $m (import "env" "f" (func $f (param i32 i64) (result f32))) (import "env" "g" (func $g))
        (memory (export "memory") 1 10) (data (i32.const 8) "some data") (data $p "passive")
        (table $t (export "t") 4 8 funcref) (table $e 2 externref)
        (elem (i32.const 1) func $f $h) (elem $q funcref (ref.func $h) (ref.null func)) (elem declare func $g)
        (global $n (mut i64) (i64.const 5)) (global (export "c") f64 (f64.const 1.5))
        (func $h (export "h") (param i32) (result i32) (local i64 f32)
            (block $b (result i32)
                (loop $l
                    (br_if $l (i32.eqz (local.get 0)))
                    (drop (br_if $b (i32.const 3) (i32.const 0)))
                    (br_table $l $l $l (local.get 0)))
                unreachable))
        (func (export "bulk")
            (memory.init $p (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $p)
            (memory.copy (i32.const 0) (i32.const 4) (i32.const 8))
            (memory.fill (i32.const 0) (i32.const 4) (i32.const 8))
            (table.init $t $q (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $q)
            (table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 2))
            (drop (table.grow $t (ref.null func) (i32.const 1))) (table.fill $t (i32.const 0) (ref.func $g) (i32.const 1)))
        (func (export "multi") (param i32) (result i32 f64)
            (call_indirect $t (param i32) (result i32) (local.get 0) (i32.const 2))
            (select (result f64) (f64.const 1) (f64.const 2) (i32.const 1)))
        (tag $x (export "x") (param i32)) (global $exn (mut exnref) (ref.null exn))
        (func (export "catches") (param i32) (result i32)
            (block $all (result exnref)
                (block $one (result i32)
                    (try_table (catch $x $one) (catch_all_ref $all)
                        (drop (call $h (local.get 0))) (throw $x (local.get 0)))
                    unreachable)
                return)
            (global.set $exn) (throw_ref (global.get $exn)))
        (start $g))"#,
    r#"(module (memory 1)
        (func (export "floats") (param f32 f64 i32 i64) (result f64)
            (f64.add (f64.promote_f32 (f32.copysign (local.get 0) (f32.nearest (local.get 0))))
                (f64.add (f64.convert_i64_u (i64.trunc_sat_f64_s (local.get 1)))
                    (f64.min (f64.sqrt (local.get 1)) (f64.convert_i32_s (i32.trunc_f32_u (local.get 0)))))))
        (func (export "ints") (param i32 i64) (result i64)
            (i64.rotl (i64.extend8_s (i64.popcnt (local.get 1)))
                (i64.extend_i32_u (i32.clz (i32.rem_s (local.get 0) (i32.wrap_i64 (local.get 1)))))))
        (func (export "memory") (param i32)
            (i64.store32 offset=4 (local.get 0) (i64.load16_s align=1 (local.get 0)))
            (i32.store8 offset=65535 (local.get 0) (i32.load8_u offset=0xffffffff (local.get 0)))
            (drop (memory.grow (memory.size)))))"#,
];

/// An engine, and a region with a well-behaved neighbour's program.
struct Host {
    sandbox: Sandbox,
    neighbour: selvedge::Program,
}

impl Host {
    fn new() -> Self {
        Self::with(OptLevel::None)
    }

    fn with(opt_level: OptLevel) -> Self {
        let settings = Settings::default()
            .with_opt_level(opt_level)
            .with_parallel_compilation(false);
        let engine = Engine::new(&settings).expect("an engine can be made");
        let sandbox = Sandbox {
            region: Region::new(&engine, 2, &Limits::default()).expect("there is address space"),
            linker: selvedge::Linker::new(&engine),
            engine,
        };
        let neighbour = sandbox.program(
            r#"(module (memory 1) (func (export "run") (result i32)
                (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 42)))
                (i32.load (i32.const 0))))"#,
        );
        Self { sandbox, neighbour }
    }

    /// Compiles and, if that succeeds, instantiates; runs nothing. Every error must be a clear one.
    fn feed(&self, bytes: &[u8]) -> Result<(), String> {
        let module = match self.sandbox.engine.compile(bytes) {
            Ok(module) => module,
            Err(error) => {
                assert_clear(&error);
                return Err(error.to_string());
            }
        };
        let mut linker = self.sandbox.linker.clone();
        linker
            .define_unknown_imports_as_traps(&module)
            .map_err(|e| e.to_string())?;
        let program = linker.program(&module).map_err(|e| e.to_string())?;
        self.sandbox
            .region
            .new_instance(&program)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    /// Feeds what must be refused when it is compiled; the message.
    fn refused(&self, bytes: &[u8]) -> String {
        match self.sandbox.engine.compile(bytes) {
            Err(error) => {
                assert_clear(&error);
                error.to_string()
            }
            Ok(_) => panic!("a module of {} bytes was to be refused", bytes.len()),
        }
    }

    /// The region still serves its neighbour.
    fn assert_usable(&self) {
        assert_eq!(self.sandbox.region.used_slots(), 0);
        let instance = self.sandbox.region.new_instance(&self.neighbour);
        let mut instance = instance.expect("a slot is free");
        assert_eq!(returned_i32(instance.run("run", &[])), 42);
    }
}

/// An error about input says what and where, in one line, and is not an excuse of the compiler's.
fn assert_clear(error: &Error) {
    let message = error.to_string();
    assert!(!message.is_empty());
    match error {
        Error::NotWasm { .. } | Error::Component | Error::AlreadyCompiled => {}
        // The text format's errors show the place.
        Error::Text(_) => return,
        Error::Compile(CompileError::Invalid { .. } | CompileError::Unsupported { .. }) => {
            assert!(message.contains("at offset 0x"), "{message}");
        }
        Error::Compile(CompileError::LimitExceeded { .. } | CompileError::ContextTooLarge(_)) => {}
        other => panic!("not an error about the input: {other:?}"),
    }
    assert!(!message.contains('\n'), "{message}");
}
