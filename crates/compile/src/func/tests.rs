//! Translation of small modules, every function of which the verifier must accept, and the shape of
//! the code where the design promises one.

use cranelift_codegen::{Context, verify_function};
use selvedge_artifact::vmoffsets::VMOffsets;
use wasmparser::FuncValidatorAllocations;

use super::*;
use crate::codegen;
use crate::module::Module;
use crate::proposals::Proposals;
use crate::settings::{Cpu, Settings};
use crate::target;

fn settings() -> Settings {
    Settings {
        cpu: Cpu::Baseline,
        ..Settings::default()
    }
}

/// Translates and verifies every function of a module.
fn translate_wasm(wasm: &[u8]) -> Result<Vec<ir::Function>, Error> {
    let settings = settings();
    let isa = target::isa(&settings)?;
    let module = Module::read(wasm, Proposals::default())?;
    let offsets = VMOffsets::new(&module.info, false)?;
    let env = ModuleEnv {
        info: &module.info,
        offsets: &offsets,
        tunables: &settings.tunables,
        fuel: None,
        relaxed_simd: target::relaxed_simd(&*isa, &settings),
        pointer_frontend: isa.frontend_config(),
    };
    let mut translator = FuncTranslator::default();
    let mut funcs = Vec::new();
    for (index, body) in module.bodies.iter().enumerate() {
        let mut validator = body.validator(FuncValidatorAllocations::default());
        let mut func = ir::Function::new();
        let index = DefinedFuncIdx::new(index as u32);
        translator.translate(&env, index, &body.body, &mut validator, &mut func)?;
        if let Err(errors) = verify_function(&func, &*isa) {
            panic!("{errors}\n{func}");
        }
        funcs.push(func);
    }
    Ok(funcs)
}

fn translate(wat: &str) -> Vec<ir::Function> {
    translate_wasm(&wat::parse_str(wat).unwrap()).unwrap()
}

/// The machine code of the last function of a module.
fn assembly(wat: &str) -> String {
    let isa = target::isa(&settings()).unwrap();
    let func = translate(wat).pop().unwrap();
    let mut context = Context::for_function(func);
    codegen::disassemble(&*isa, &mut context, &|| "test".to_owned()).unwrap()
}

/// Instructions of a function that have this opcode.
pub(super) fn count(func: &ir::Function, opcode: ir::Opcode) -> usize {
    let insts = func
        .layout
        .blocks()
        .flat_map(|block| func.layout.block_insts(block));
    insts
        .filter(|&inst| func.dfg.insts[inst].opcode() == opcode)
        .count()
}

pub(super) fn only(wat: &str) -> ir::Function {
    let mut funcs = translate(wat);
    assert_eq!(funcs.len(), 1);
    funcs.remove(0)
}

/// A module whose only function has the type `(i32) -> ()`, this many `i32` locals beside, and this
/// code.
fn with_body(locals: usize, code: &str) -> String {
    let locals = "i32 ".repeat(locals);
    format!("(module (memory 1) (func (param i32) (local {locals}) {code}))")
}

/// One module a family of operators.
const FAMILIES: [&str; 10] = [
    "(module (func (param i32 i64) (result i32)
        (local.get 0) (i32.clz) (i32.ctz) (i32.popcnt) (i32.const -1) (i32.add)
        (local.get 0) (i32.sub) (local.get 0) (i32.mul) (local.get 0) (i32.div_s)
        (local.get 0) (i32.div_u) (local.get 0) (i32.rem_s) (local.get 0) (i32.rem_u)
        (local.get 0) (i32.and) (local.get 0) (i32.or) (local.get 0) (i32.xor)
        (local.get 0) (i32.shl) (local.get 0) (i32.shr_s) (local.get 0) (i32.shr_u)
        (local.get 0) (i32.rotl) (local.get 0) (i32.rotr) (i32.extend8_s) (i32.extend16_s)
        (local.get 1) (i64.clz) (i64.ctz) (i64.popcnt) (i64.const -1) (i64.add)
        (local.get 1) (i64.sub) (local.get 1) (i64.mul) (local.get 1) (i64.div_s)
        (local.get 1) (i64.div_u) (local.get 1) (i64.rem_s) (local.get 1) (i64.rem_u)
        (local.get 1) (i64.and) (local.get 1) (i64.or) (local.get 1) (i64.xor)
        (local.get 1) (i64.shl) (local.get 1) (i64.shr_s) (local.get 1) (i64.shr_u)
        (local.get 1) (i64.rotl) (local.get 1) (i64.rotr)
        (i64.extend8_s) (i64.extend16_s) (i64.extend32_s) (i32.wrap_i64) (i32.add)))",
    "(module (func (param i32 i64 f32 f64) (result i32)
        (i32.eqz (i32.eqz (i64.eqz (local.get 1))))
        (i32.eq (i32.eqz (local.get 0))) (i32.ne (local.get 0)) (i32.lt_s (local.get 0))
        (i32.lt_u (local.get 0)) (i32.gt_s (local.get 0)) (i32.gt_u (local.get 0))
        (i32.le_s (local.get 0)) (i32.le_u (local.get 0)) (i32.ge_s (local.get 0))
        (i32.ge_u (local.get 0))
        (i32.add (i64.eq (local.get 1) (i64.const 1))) (i32.add (i64.ne (local.get 1) (i64.const 1)))
        (i32.add (i64.lt_s (local.get 1) (i64.const 1)))
        (i32.add (i64.lt_u (local.get 1) (i64.const 1)))
        (i32.add (i64.gt_s (local.get 1) (i64.const 1)))
        (i32.add (i64.gt_u (local.get 1) (i64.const 1)))
        (i32.add (i64.le_s (local.get 1) (i64.const 1)))
        (i32.add (i64.le_u (local.get 1) (i64.const 1)))
        (i32.add (i64.ge_s (local.get 1) (i64.const 1)))
        (i32.add (i64.ge_u (local.get 1) (i64.const 1)))
        (i32.add (f32.eq (local.get 2) (f32.const 1))) (i32.add (f32.ne (local.get 2) (f32.const nan)))
        (i32.add (f32.lt (local.get 2) (f32.const 1))) (i32.add (f32.gt (local.get 2) (f32.const 1)))
        (i32.add (f32.le (local.get 2) (f32.const 1))) (i32.add (f32.ge (local.get 2) (f32.const 1)))
        (i32.add (f64.eq (local.get 3) (f64.const 1))) (i32.add (f64.ne (local.get 3) (f64.const 1)))
        (i32.add (f64.lt (local.get 3) (f64.const 1))) (i32.add (f64.gt (local.get 3) (f64.const 1)))
        (i32.add (f64.le (local.get 3) (f64.const 1))) (i32.add (f64.ge (local.get 3) (f64.const 1)))))",
    "(module (func (param f32 f64) (result f64)
        (f32.abs (local.get 0)) (f32.neg) (f32.ceil) (f32.floor) (f32.trunc) (f32.nearest)
        (f32.sqrt) (f32.add (local.get 0)) (f32.sub (local.get 0)) (f32.mul (local.get 0))
        (f32.div (local.get 0)) (f32.min (local.get 0)) (f32.max (local.get 0))
        (f32.copysign (local.get 0)) (f64.promote_f32)
        (f64.abs) (f64.neg) (f64.ceil) (f64.floor) (f64.trunc) (f64.nearest) (f64.sqrt)
        (f64.add (local.get 1)) (f64.sub (local.get 1)) (f64.mul (local.get 1))
        (f64.div (local.get 1)) (f64.min (local.get 1)) (f64.max (local.get 1))
        (f64.copysign (local.get 1)) (f32.demote_f64) (f64.promote_f32)))",
    "(module (func (param i32 i64 f32 f64) (result i64 i32)
        (local.get 2) (i32.trunc_f32_s) (f32.convert_i32_s) (i32.trunc_f32_u) (f32.convert_i32_u)
        (i32.trunc_sat_f32_s) (f64.convert_i32_s) (i32.trunc_f64_s) (f64.convert_i32_u)
        (i32.trunc_f64_u) (f64.convert_i32_u) (i32.trunc_sat_f64_s) (f32.convert_i32_u)
        (i32.trunc_sat_f32_u) (f64.convert_i32_u) (i32.trunc_sat_f64_u) (f32.reinterpret_i32)
        (i32.reinterpret_f32) (i64.extend_i32_s) (f32.convert_i64_s) (i64.trunc_f32_s)
        (f32.convert_i64_u) (i64.trunc_f32_u) (f64.convert_i64_s) (i64.trunc_f64_s)
        (f64.convert_i64_u) (i64.trunc_f64_u) (f64.reinterpret_i64) (i64.trunc_sat_f64_s)
        (f64.reinterpret_i64) (i64.trunc_sat_f64_u) (f32.convert_i64_u) (i64.trunc_sat_f32_s)
        (f32.convert_i64_u) (i64.trunc_sat_f32_u) (i32.wrap_i64) (i64.extend_i32_u)
        (i64.extend_i32_u (i32.eqz (local.get 0))) (i64.add)
        (i32.extend8_s (i64.eqz (local.get 1)))))",
    "(module (memory 1) (data \"x\") (func (param i32)
        (i32.store (local.get 0) (i32.load (local.get 0)))
        (i64.store (local.get 0) (i64.load (local.get 0)))
        (f32.store (local.get 0) (f32.load (local.get 0)))
        (f64.store (local.get 0) (f64.load (local.get 0)))
        (i32.store8 (local.get 0) (i32.load8_s (local.get 0)))
        (i32.store8 (local.get 0) (i32.load8_u (local.get 0)))
        (i32.store16 (local.get 0) (i32.load16_s (local.get 0)))
        (i32.store16 (local.get 0) (i32.load16_u (local.get 0)))
        (i64.store8 (local.get 0) (i64.load8_s (local.get 0)))
        (i64.store8 (local.get 0) (i64.load8_u (local.get 0)))
        (i64.store16 (local.get 0) (i64.load16_s (local.get 0)))
        (i64.store16 (local.get 0) (i64.load16_u (local.get 0)))
        (i64.store32 (local.get 0) (i64.load32_s (local.get 0)))
        (i64.store32 (local.get 0) (i64.load32_u (local.get 0)))
        (i32.store (i32.eqz (local.get 0)) (i32.eqz (local.get 0)))
        (drop (memory.grow (memory.size)))
        (memory.fill (local.get 0) (local.get 0) (local.get 0))
        (memory.copy (local.get 0) (local.get 0) (i32.eqz (local.get 0)))
        (memory.init 0 (local.get 0) (local.get 0) (i32.eqz (local.get 0)))
        (data.drop 0)))",
    "(module (import \"m\" \"t\" (table $i 1 externref)) (table $f 1 funcref) (elem $e func $g)
        (func $g (param i32 externref)
        (table.set $f (local.get 0) (table.get $f (local.get 0)))
        (table.set $i (local.get 0) (table.get $i (local.get 0)))
        (drop (i32.add (table.size $f) (table.size $i)))
        (drop (table.grow $f (ref.func $g) (local.get 0)))
        (table.fill $i (local.get 0) (local.get 1) (ref.is_null (ref.null func)))
        (table.copy $f $f (local.get 0) (local.get 0) (local.get 0))
        (table.init $f $e (local.get 0) (local.get 0) (local.get 0))
        (elem.drop $e)
        (drop (select (result externref) (local.get 1) (ref.null extern)
            (ref.is_null (local.get 1))))))",
    "(module (import \"m\" \"g\" (global $a i64)) (import \"m\" \"h\" (global $b (mut f32)))
        (global $c i32 (i32.const 7)) (global $d (mut f64) (f64.const 7)) (global $e i64 (global.get $a))
        (global $f (mut externref) (ref.null extern)) (global $n funcref (ref.null func))
        (global $x f32 (f32.const nan:0x200000)) (global $y f64 (f64.const -inf))
        (global $z i64 (i64.const -1)) (global $s i32 (i32.add (i32.const 1) (i32.const 2)))
        (func (result i64 f32 i32 f64 i64 externref funcref f32 f64 i64 i32)
        (global.set $b (f32.const 1)) (global.set $d (f64.const 2))
        (global.set $f (ref.null extern))
        (global.get $a) (global.get $b) (global.get $c) (global.get $d) (global.get $e)
        (global.get $f) (global.get $n) (global.get $x) (global.get $y) (global.get $z)
        (global.get $s)))",
    "(module (func (param i32) (result i32) (local i64 f32 f64 funcref externref)
        (block (result i32) (i32.const 9) (loop (param i32) (result i32)
            (br_if 0 (local.tee 0) (i32.lt_s (local.get 0) (i32.const 3)))
            (br_if 1 (i32.eqz (local.get 0)) (i32.eqz (local.get 0)))
            (if (param i32) (result i32) (i32.eqz (local.get 0)) (then (i32.const 1) (i32.add)))
            (if (param i32) (result i32 i32) (local.get 0)
                (then (i32.const 1)) (else (drop) (i32.const 2) (i32.const 3)))
            (br_table 0 1 2 1 (local.get 0))) (drop) (local.get 0))
        (nop) (drop) (return (select (i32.const 1) (i32.const 2) (i64.eqz (local.get 1)))))
        (func (if (i32.const 1) (then (unreachable)) (else (return)))))",
    "(module (import \"m\" \"f\" (func $f (param i32 f32) (result f64)))
        (import \"m\" \"t\" (table $i 1 funcref)) (table $o 1 funcref) (table $s 4 4 funcref)
        (type $t (func (param i32 f32) (result f64)))
        (func $g (type $t) (call $g (local.get 0) (local.get 1)) (drop)
        (call $f (i32.eqz (local.get 0)) (local.get 1)) (drop)
        (call_indirect $i (type $t) (local.get 0) (local.get 1) (local.get 0)) (drop)
        (call_indirect $o (type $t) (i32.eqz (local.get 0)) (local.get 1) (i32.eqz (local.get 0)))
        (drop) (call_indirect $s (type $t) (local.get 0) (local.get 1) (local.get 0))))",
    "(module (func $r (param i64) (result i64 f32 i32 f64 i64 i64 i64 i64 i64 i64 i64)
        (local.get 0) (f32.const 1) (i32.eqz (i32.const 1)) (f64.const 1) (local.get 0)
        (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0) (local.get 0))
        (func (result i64 f32 i32 f64 i64 i64 i64 i64 i64 i64 i64) (call $r (i64.const 1))))",
];

#[test]
fn every_family_passes_the_verifier() {
    for wat in FAMILIES {
        assert!(!translate(wat).is_empty());
    }
}

#[test]
fn unreachable_code_is_skipped_and_arms_become_reachable_again() {
    let func = only(
        "(module (func (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (unreachable)
                    (block (loop (if (i32.const 1) (then (br 2)) (else (nop)))))
                    (i32.add))
                (else (block (br 0) (drop)) (i32.const 1)))
            (block (result i32) (return (i32.const 5)) (block (br_table 0 0 (i32.const 0))) (i32.eqz))
            (i32.mul)))",
    );
    assert_eq!(count(&func, ir::Opcode::Trap), 1);
    assert_eq!(count(&func, ir::Opcode::Return), 1);
    assert_eq!(count(&func, ir::Opcode::Imul), 0);
    assert_eq!(count(&func, ir::Opcode::Icmp), 0);
}

#[test]
fn a_block_without_branches_to_it_costs_nothing() {
    let func = only(
        "(module (func (param i32) (result i32) (i32.const 1)
            (block (param i32) (result i32 i32) (block (nop)) (local.get 0)) (i32.add)))",
    );
    assert_eq!(func.layout.blocks().count(), 1);
}

#[test]
fn conditions_are_used_as_they_are_and_widened_where_they_are_values() {
    let func = only(
        "(module (func (param i32 i32) (result i32)
            (block (br_if 0 (i32.lt_s (local.get 0) (local.get 1)))
                (if (i32.eqz (f32.eq (f32.const 1) (f32.const 2))) (then (return (i32.const 1)))))
            (select (local.get 0) (local.get 1) (i32.eq (local.get 0) (local.get 1)))))",
    );
    assert_eq!(count(&func, ir::Opcode::Uextend), 0);
    let func = only("(module (func (param i32) (result i32) (i32.eqz (local.get 0))))");
    assert_eq!(count(&func, ir::Opcode::Uextend), 1);
}

#[test]
fn a_branch_table_has_one_edge_a_target() {
    let targets: String = (0..3000).map(|i| format!("{} ", i % 3)).collect();
    let func = only(&format!(
        "(module (func (param i32) (result i32)
            (block (result i32) (block (result i32) (block (result i32)
                (i32.eqz (local.get 0)) (br_table {targets} 1 (local.get 0)))
                (i32.const 1) (i32.add)) (i32.const 2) (i32.add))))"
    ));
    assert_eq!(func.dfg.jump_tables.len(), 1);
    // Entry, three edges, three ends.
    assert_eq!(func.layout.blocks().count(), 7);
}

#[test]
fn constants_of_the_module_are_not_loaded() {
    let get = |global: &str| {
        let func = only(&format!(
            "(module (import \"m\" \"g\" (global $i i32)) (global $c i32 (i32.const 7))
                (global $m (mut i32) (i32.const 7)) (global $d i32 (global.get $i))
                (func (result i32) (global.get {global})))"
        ));
        count(&func, ir::Opcode::Load)
    };
    assert_eq!(get("$c"), 0);
    assert_eq!(get("$m"), 1);
    assert_eq!(get("$d"), 1);
    assert_eq!(get("$i"), 2);
}

#[test]
fn only_what_the_guard_cannot_catch_is_checked() {
    let checks = |access: &str| {
        let func = only(&format!("(module (memory 1) (func (param i32) {access}))"));
        let checks = count(&func, ir::Opcode::Brif);
        assert_eq!(checks, count(&func, ir::Opcode::SelectSpectreGuard));
        checks
    };
    assert_eq!(checks("(drop (i32.load8_u (local.get 0)))"), 0);
    assert_eq!(
        checks("(drop (i32.load8_u offset=0x7fffffff (local.get 0)))"),
        0
    );
    assert_eq!(
        checks("(drop (i32.load8_u offset=0x80000000 (local.get 0)))"),
        1
    );
    assert_eq!(
        checks("(i64.store offset=0x7ffffff9 (local.get 0) (i64.const 0))"),
        0
    );
    assert_eq!(
        checks("(i64.store offset=0x7ffffffa (local.get 0) (i64.const 0))"),
        1
    );
    assert_eq!(
        checks("(i64.store offset=0xffffffff (local.get 0) (i64.const 0))"),
        1
    );
}

#[test]
fn every_access_is_checked_where_a_guard_cannot_stand_for_it() {
    let cases = [
        ("i64 1", "i64", "(i32.load (local.get 0))", 1),
        ("i64 1", "i64", "(i32.load offset=0xfffc (local.get 0))", 1),
        // Longer than the memory is at the start: the length is compared, too.
        ("i64 1", "i64", "(i32.load offset=0xfffd (local.get 0))", 2),
        (
            "i64 1",
            "i64",
            "(i32.load offset=0xffffffffffffffff (local.get 0))",
            2,
        ),
        ("4 (pagesize 1)", "i32", "(i32.load (local.get 0))", 1),
        // The end of an access by a 32-bit index is compared itself: it can't wrap.
        ("3 (pagesize 1)", "i32", "(i32.load (local.get 0))", 1),
        (
            "3 (pagesize 1)",
            "i32",
            "(i32.load offset=0xffffffff (local.get 0))",
            1,
        ),
    ];
    for (memory, index, access, comparisons) in cases {
        let func = only(&format!(
            "(module (memory {memory}) (func (param {index}) (drop {access})))"
        ));
        assert_eq!(count(&func, ir::Opcode::Brif), 1, "{access}");
        assert_eq!(count(&func, ir::Opcode::SelectSpectreGuard), 1, "{access}");
        assert_eq!(count(&func, ir::Opcode::Icmp), comparisons, "{access}");
    }
}

#[test]
fn an_imported_memory_is_reached_through_its_definition() {
    let func = only(
        "(module (import \"m\" \"m\" (memory 1)) (func (param i32) (result i32)
            (i32.add (i32.load (local.get 0)) (memory.size))))",
    );
    // The definition twice, its base, its length, the value.
    assert_eq!(count(&func, ir::Opcode::Load), 5);
}

#[test]
fn a_load_is_one_instruction_that_addresses_from_vmctx() {
    let text = assembly(
        "(module (memory 1) (func (param i32) (result i32) (i32.load offset=16 (local.get 0))))",
    );
    assert!(text.contains("movl 0x10(%rdi, %r"), "{text}");
    assert_eq!(text.matches("(%r").count(), 1, "{text}");
}

#[test]
fn an_indirect_call_loads_from_its_table_once() {
    let text = assembly(
        "(module (type $t (func (param i32) (result i32))) (table 10 10 funcref)
            (func (param i32 i32) (result i32)
            (i32.add (call_indirect (type $t) (local.get 0) (local.get 1)) (i32.const 1))))",
    );
    let (body, _cold) = text.split_once("retq").unwrap();
    assert_eq!(body.matches(", %rax, 8), %rax").count(), 1, "{text}");
    assert_eq!(body.matches("call ").count(), 1, "{text}");
    // One branch, on the type.
    assert_eq!(body.matches("; j label").count(), 1, "{text}");
}

#[test]
fn a_direct_call_passes_vmctx_on() {
    let text = assembly(
        "(module (func $f (param i32) (result i32) (local.get 0))
            (func (param i32) (result i32) (i32.add (call $f (local.get 0)) (i32.const 1))))",
    );
    let (_, body) = text.split_once("block0:").unwrap();
    let body: Vec<&str> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert!(
        body[0].starts_with("call") && body[1].starts_with("leal"),
        "{text}"
    );
}

#[test]
fn a_tail_call_leaves_by_a_jump_whoever_is_called() {
    let module = |body: &str| {
        format!(
            "(module (type $t (func (param i32) (result i32)))
                (import \"m\" \"f\" (func $imported (type $t)))
                (table 10 10 funcref)
                (func $own (type $t) (local.get 0))
                (func (type $t) ({body} (i32.eqz (local.get 0)))))"
        )
    };
    for body in ["return_call $own", "return_call $imported"] {
        let text = assembly(&module(body));
        assert_eq!(text.matches("call ").count(), 0, "{text}");
        assert_eq!(text.matches("retq").count(), 0, "{text}");
    }
    let text = assembly(&module("return_call_indirect (type $t) (local.get 0)"));
    // The builtin of the cold path is the only call that comes back.
    assert_eq!(text.matches("call ").count(), 1, "{text}");
    assert_eq!(text.matches("retq").count(), 0, "{text}");
}

#[test]
fn wide_arithmetic_uses_carry_and_the_wide_product() {
    let of = |op: &str, operands: usize| {
        let params = "i64 ".repeat(operands);
        let gets: String = (0..operands).map(|n| format!("(local.get {n})")).collect();
        assembly(&format!(
            "(module (func (param {params}) (result i64 i64) ({op} {gets})))"
        ))
    };
    let cases = [
        ("i64.add128", 4, ["addq", "adcq"]),
        ("i64.sub128", 4, ["subq", "sbbq"]),
        ("i64.mul_wide_s", 2, ["imulq", "ret"]),
        ("i64.mul_wide_u", 2, ["mulq", "ret"]),
    ];
    for (op, operands, expected) in cases {
        let text = of(op, operands);
        for instruction in expected {
            assert_eq!(text.matches(instruction).count(), 1, "{op}: {text}");
        }
    }
}

#[test]
fn large_functions_translate() {
    let nest = |open: &str, core: &str, close: &str| {
        let depth = 10_000;
        with_body(
            0,
            &format!("{} {core} {}", open.repeat(depth), close.repeat(depth)),
        )
    };
    translate(&nest("block ", "(br_if 9999 (local.get 0))", "end "));
    translate(&nest("loop ", "(br_if 9999 (local.get 0))", "end "));
    translate(&nest("local.get 0 if ", "", "end "));
    translate(&nest("local.get 0 if ", "unreachable", "else nop end "));
    let table = "0 1 2 ".repeat(33_334);
    translate(&with_body(
        0,
        &format!("block block (br_table {table} (local.get 0)) end end"),
    ));
    let sets: String = (1..50_000)
        .map(|i| format!("(local.set {i} (local.get {}))", i / 2))
        .collect();
    translate(&with_body(49_999, &sets));
}

#[test]
fn locals_beyond_a_bound_live_in_the_frame() {
    let body = |branches: usize| {
        let branches = "(br_if 0 (local.get 30000))".repeat(branches);
        with_body(
            40_000,
            &format!("(block (local.set 39999 (i32.eqz (local.get 1))) {branches})"),
        )
    };
    assert!(only(&body(10)).sized_stack_slots.is_empty());
    let func = only(&body(2000));
    assert_eq!(func.sized_stack_slots.len(), 1);
    let slots = func.sized_stack_slots.values().next().unwrap().size / 8;
    // 2000 branches, the block and the function's end.
    assert_eq!(u64::from(slots), 40_001 - (1 << 25) / 2002);
}

#[test]
fn what_would_fill_memory_is_refused() {
    let results = "i32 ".repeat(1000);
    let values = "i32.const 0 ".repeat(1000);
    let drops = "drop ".repeat(1000);
    let carried = format!(
        "(module (func (block (result {results}) {values} {}) {drops}))",
        "(br_if 0 (i32.const 0)) ".repeat(17_000)
    );
    let copied = format!(
        "(module (type $t (func (param {results}) (result {results}))) (func {values} {} {} {drops}))",
        "i32.const 0 if (type $t) ".repeat(17_000),
        "end ".repeat(17_000),
    );
    let made = format!(
        "(module (type $t (func (param {results}) (result {results}))) (func {values} {} {drops}))",
        "loop (type $t) end ".repeat(5_000),
    );
    let targets: String = (0..5_000).map(|depth| format!("{depth} ")).collect();
    let fanned_out = format!(
        "(module (type $t (func (result {results}))) (func {} {values} (br_table {targets} 0
            (i32.const 0)) {} {drops}))",
        "block (type $t) ".repeat(5_000),
        "end ".repeat(5_000),
    );
    let table = with_body(
        0,
        &format!("(br_table {} 0 (local.get 0))", "0 ".repeat(1 << 20)),
    );
    for wat in [carried, copied, made, fanned_out, table] {
        let error = translate_wasm(&wat::parse_str(wat).unwrap()).unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
    }
}

/// A module with one function `() -> ()` of these operators.
fn module_of(operators: &[u8]) -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0".to_vec();
    let body_len = operators.len() as u8 + 1;
    wasm.extend([10, body_len + 2, 1, body_len, 0]);
    wasm.extend_from_slice(operators);
    wasm
}

#[test]
fn bodies_that_do_not_end_where_they_should_are_refused() {
    assert_eq!(translate_wasm(&module_of(&[0x01, 0x0b])).unwrap().len(), 1);
    for operators in [
        &[0x0b, 0x0b][..],
        &[0x0b, 0x01],
        &[0x01],
        &[0x02, 0x40, 0x0b],
        &[0x0b, 0x05],
    ] {
        let error = translate_wasm(&module_of(operators)).unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. }),
            "{operators:?}: {error}"
        );
    }
}

#[test]
fn what_is_not_supported_is_named_with_its_place() {
    // `ref.i31` behind a constant.
    let operators = [0x01, 0x41, 0, 0xfb, 0x1c, 0x1a, 0x0b];
    let error = translate_wasm(&module_of(&operators)).unwrap_err();
    let Error::Unsupported { feature, offset } = error else {
        panic!("{error}")
    };
    assert_eq!(feature, "gc");
    assert!((25..30).contains(&offset), "{offset}");
}

#[test]
fn a_translator_can_be_used_after_an_error() {
    let settings = settings();
    let isa = target::isa(&settings).unwrap();
    let mut translator = FuncTranslator::default();
    let good = wat::parse_str("(module (func (param i32) (result i32) (local.get 0)))").unwrap();
    for wasm in [
        &module_of(&[0x02, 0x40, 0x41, 0, 0x0d, 0, 0x6a, 0x0b, 0x0b]),
        &good,
    ] {
        let module = Module::read(wasm, Proposals::default()).unwrap();
        let offsets = VMOffsets::new(&module.info, false).unwrap();
        let env = ModuleEnv {
            info: &module.info,
            offsets: &offsets,
            tunables: &settings.tunables,
            fuel: None,
            relaxed_simd: target::relaxed_simd(&*isa, &settings),
            pointer_frontend: isa.frontend_config(),
        };
        let mut validator = module.bodies[0].validator(FuncValidatorAllocations::default());
        let mut func = ir::Function::new();
        let body = &module.bodies[0].body;
        let index = DefinedFuncIdx::new(0);
        let result = translator.translate(&env, index, body, &mut validator, &mut func);
        assert_eq!(result.is_ok(), wasm == &good);
    }
}

#[test]
fn every_instruction_knows_its_place_in_the_file() {
    let wasm = module_of(&[0x41, 1, 0x45, 0x04, 0x40, 0x00, 0x0b, 0x0b]);
    let func = translate_wasm(&wasm).unwrap().remove(0);
    let trap = func
        .layout
        .blocks()
        .flat_map(|block| func.layout.block_insts(block))
        .find(|&inst| func.dfg.insts[inst].opcode() == ir::Opcode::Trap)
        .unwrap();
    assert_eq!(wasm[func.srcloc(trap).bits() as usize], 0x00);
    assert_eq!(func.srcloc(trap).bits() as usize, wasm.len() - 3);
}
