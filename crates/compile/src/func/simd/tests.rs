//! The shape of vector code where a pattern has a short form. That it computes what it should, and
//! that the verifier accepts every operator, the official suite shows.

use cranelift_codegen::ir::{InstructionData, Opcode, types};

use crate::func::tests::{assembly, count, only};

/// The instructions of a function of two vectors that gives one, without prologue and epilogue.
fn instructions(code: &str) -> Vec<String> {
    let text = assembly(&format!(
        "(module (memory 1) (func (param v128 v128 i32) (result v128) (local v128) {code}))"
    ));
    let (_, body) = text.split_once("block0:").unwrap();
    let (body, _) = body.split_once("movq %rbp, %rsp").unwrap();
    body.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Checks that code is these instructions and copies between registers.
fn assert_code(code: &str, expected: &[&str]) {
    let found = instructions(code);
    let names: Vec<&str> = found
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !matches!(*name, "movdqa" | "movaps" | "movapd" | "movl"))
        .collect();
    assert_eq!(names, expected, "{code}: {found:#?}");
}

const TWO: &str = "(local.get 0) (local.get 1)";

#[test]
fn other_lanes_cost_nothing() {
    assert_code(
        &format!("(i8x16.add (f32x4.add (i32x4.add {TWO}) (local.get 1)) (local.get 0))"),
        &["paddd", "addps", "paddb"],
    );
    assert_code(
        &format!("(local.set 3 (i32x4.add {TWO})) (i32x4.min_s (local.get 0) (local.get 3))"),
        &["paddd", "pminsd"],
    );
    let func = only(
        "(module (func (param v128 v128) (result v128) (local v128)
            (local.set 2 (i32x4.add (local.get 0) (local.get 1)))
            (i32x4.add (local.get 2) (local.get 2))))",
    );
    // The parameters in, the local out, the result out: the local is not cast back.
    assert_eq!(count(&func, Opcode::Bitcast), 4);
}

#[test]
fn common_patterns_are_one_instruction() {
    let two = |op: &str| format!("({op} {TWO})");
    assert_code(&two("v128.andnot"), &["pandn"]);
    assert_code(&two("i32x4.dot_i16x8_s"), &["pmaddwd"]);
    assert_code(&two("f32x4.pmin"), &["minps"]);
    assert_code(&two("f32x4.pmax"), &["maxps"]);
    assert_code(&two("f64x2.pmin"), &["minpd"]);
    assert_code(&two("f64x2.pmax"), &["maxpd"]);
    assert_code(&two("i8x16.avgr_u"), &["pavgb"]);
    assert_code(&two("i16x8.narrow_i32x4_s"), &["packssdw"]);
    assert_code(&two("i16x8.add_sat_s"), &["paddsw"]);
    assert_code("(i16x8.extend_low_i8x16_s (local.get 0))", &["pmovsxbw"]);
    assert_code("(f64x2.convert_low_i32x4_s (local.get 0))", &["cvtdq2pd"]);
    assert_code("(f32x4.sqrt (local.get 0))", &["sqrtps"]);
    assert_code("(i32x4.shl (local.get 0) (i32.const 35))", &["pslld"]);
    assert_code(
        "(i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get 0) (local.get 0))",
        &["pshufd"],
    );
}

#[test]
fn loads_are_one_access() {
    let load = |op: &str| format!("({op} offset=16 (local.get 2))");
    assert_code(&load("v128.load"), &["movdqu"]);
    assert_code(&load("v128.load8x8_u"), &["pmovzxbw"]);
    assert_code(&load("v128.load32_zero"), &["movss"]);
    assert_code(&load("v128.load64_zero"), &["movsd"]);
    assert_code(&load("v128.load32_splat"), &["movss", "shufps"]);
    assert_code(
        "(v128.load16_lane 3 (local.get 2) (local.get 0))",
        &["pinsrw"],
    );
}

#[test]
fn a_selection_by_a_comparison_is_a_blend() {
    let blend = ["pcmpeqd", "pblendvb"];
    let select = "(v128.bitselect (local.get 0) (local.get 1)";
    assert_code(&format!("{select} (i32x4.eq {TWO}))"), &blend);
    // Also if the mask comes out of a local.
    assert_code(
        &format!("(local.set 3 (i32x4.eq {TWO})) {select} (local.get 3))"),
        &blend,
    );
    assert_code(
        &format!("{select} (i32x4.add {TWO}))"),
        &["paddd", "pand", "pandn", "por"],
    );
}

#[test]
fn vectors_in_the_frame_are_aligned() {
    // So many locals and branches that the last locals stand in the frame.
    let branches = "(br_if 0 (local.get 0))".repeat(2000);
    let types = "i32 v128 ".repeat(20_000);
    let func = only(&format!(
        "(module (func (param i32) (local {types})
            (block (local.set 40000 (v128.const i64x2 1 2)) {branches})))"
    ));
    let slot = func.sized_stack_slots.values().next().unwrap();
    assert_eq!(slot.align_shift, 4);
    assert_eq!(slot.size % 16, 0);
    let mut stored = 0;
    for block in func.layout.blocks() {
        for inst in func.layout.block_insts(block) {
            let InstructionData::StackAddr { offset, .. } = func.dfg.insts[inst] else {
                continue;
            };
            let addr = func.dfg.first_result(inst);
            let store = func.layout.next_inst(inst).unwrap();
            let [value, at] = *func.dfg.inst_args(store) else {
                continue;
            };
            assert_eq!(at, addr);
            if func.dfg.value_type(value) == types::I8X16 {
                assert_eq!(i32::from(offset) % 16, 0);
                stored += 1;
            }
        }
    }
    assert!(stored > 1000, "{stored}");
}
