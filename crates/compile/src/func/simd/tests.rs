//! The shape of vector code where a pattern has a short form. That it computes what it should, and
//! that the verifier accepts every operator, the official suite shows.

use cranelift_codegen::ir::{InstructionData, Opcode, types};

use crate::func::tests::{count, only};
use crate::target::{self, RelaxedSimd};
use crate::{Cpu, Dump, Settings, dump};

fn baseline() -> Settings {
    Settings {
        cpu: Cpu::Baseline,
        ..Settings::default()
    }
}

fn deterministic(mut settings: Settings) -> Settings {
    settings.tunables.relaxed_simd_deterministic = true;
    settings
}

/// The machine code of the first function of a module.
fn code_of(module: &str, settings: &Settings) -> String {
    let wasm = wat::parse_str(module).unwrap();
    dump(&wasm, settings, Dump::Asm, Some("0")).unwrap()
}

/// The names of the instructions of a function of vectors and an `i32`, without copies between
/// registers, prologue and epilogue.
fn names(code: &str, settings: &Settings) -> Vec<String> {
    let text = code_of(
        &format!(
            "(module (memory 1) (func
                (param v128 v128 i32 v128) (result v128) (local v128) {code}))"
        ),
        settings,
    );
    let (_, body) = text.split_once("block0:").unwrap();
    let (body, _) = body.split_once("movq %rbp, %rsp").unwrap();
    body.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| !matches!(*name, "movdqa" | "movaps" | "movapd" | "movl"))
        .map(str::to_owned)
        .collect()
}

/// Checks that code is these instructions on the oldest CPU.
fn assert_code(code: &str, expected: &[&str]) {
    assert_eq!(names(code, &baseline()), expected, "{code}");
}

const TWO: &str = "(local.get 0) (local.get 1)";

#[test]
fn other_lanes_cost_nothing() {
    assert_code(
        &format!("(i8x16.add (f32x4.add (i32x4.add {TWO}) (local.get 1)) (local.get 0))"),
        &["paddd", "addps", "paddb"],
    );
    assert_code(
        &format!("(local.set 4 (i32x4.add {TWO})) (i32x4.min_s (local.get 0) (local.get 4))"),
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
fn a_load_has_the_lanes_of_its_only_use_and_none_where_it_has_more() {
    let casts = |code: &str| {
        let func = only(&format!(
            "(module (memory 1) (func (param i32 v128) (result v128) (local v128) {code}))"
        ));
        assert_eq!(count(&func, Opcode::Load), 1, "{code}");
        count(&func, Opcode::Bitcast)
    };
    let load = "(v128.load (local.get 0))";
    // Only the other operand and the result are cast.
    assert_eq!(casts(&format!("(i32x4.add (local.get 1) {load})")), 2);
    assert_eq!(casts(&format!("(f64x2.mul {load} (local.get 1))")), 2);
    // The same vector is used as it is, too.
    const ARMS: &str = "(local.get 0) (then i32x4.neg) (else f32x4.neg)";
    let kept = "(f32x4.add (local.get 2) (i32x4.add (local.get 2) (local.get 2)))";
    for way in [
        format!("(local.set 2 {load}) {kept}"),
        format!("(f32x4.neg (local.tee 2 {load})) drop {kept}"),
        format!("(block (result v128) {load} (br_if 0 (local.get 0)) i32x4.neg)"),
        format!("{load} (if (param v128) (result v128) {ARMS})"),
    ] {
        // The verifier checks the types when code is made.
        assert!(casts(&way) > 0, "{way}");
        let module =
            format!("(module (memory 1) (func (param i32 v128) (result v128) (local v128) {way}))");
        assert!(code_of(&module, &baseline()).contains("movdqu"), "{way}");
    }
}

#[test]
fn a_selection_by_a_comparison_is_a_blend() {
    let blend = ["pcmpeqd", "pblendvb"];
    let select = "(v128.bitselect (local.get 0) (local.get 1)";
    assert_code(&format!("{select} (i32x4.eq {TWO}))"), &blend);
    // Also if the mask comes out of a local.
    assert_code(
        &format!("(local.set 4 (i32x4.eq {TWO})) {select} (local.get 4))"),
        &blend,
    );
    assert_code(
        &format!("{select} (i32x4.add {TWO}))"),
        &["paddd", "pand", "pandn", "por"],
    );
}

const THREE: &str = "(local.get 0) (local.get 1) (local.get 3)";

#[test]
fn relaxed_instructions_are_what_the_cpu_has() {
    let two = |op: &str| format!("({op} {TWO})");
    let three = |op: &str| format!("({op} {THREE})");
    assert_code(&two("i8x16.relaxed_swizzle"), &["pshufb"]);
    assert_code(&two("f32x4.relaxed_min"), &["minps"]);
    assert_code(&two("f64x2.relaxed_max"), &["maxpd"]);
    assert_code(&two("i16x8.relaxed_q15mulr_s"), &["pmulhrsw"]);
    assert_code(&two("i16x8.relaxed_dot_i8x16_i7x16_s"), &["pmaddubsw"]);
    assert_code(
        &three("i32x4.relaxed_dot_i8x16_i7x16_add_s"),
        &["pmaddubsw", "pmaddwd", "paddd"],
    );
    assert_code(&three("i8x16.relaxed_laneselect"), &["pblendvb"]);
    assert_code(&three("i16x8.relaxed_laneselect"), &["psraw", "pblendvb"]);
    assert_code(&three("i32x4.relaxed_laneselect"), &["blendvps"]);
    assert_code(&three("i64x2.relaxed_laneselect"), &["blendvpd"]);
    assert_code(&three("f32x4.relaxed_madd"), &["mulps", "addps"]);
    assert_code(&three("f64x2.relaxed_nmadd"), &["mulpd", "subpd"]);
    let one = |op: &str| format!("({op} (local.get 0))");
    assert_code(&one("i32x4.relaxed_trunc_f32x4_s"), &["cvttps2dq"]);
    assert_code(&one("i32x4.relaxed_trunc_f64x2_s_zero"), &["cvttpd2dq"]);
}

#[test]
fn this_cpu_multiplies_and_adds_in_one_step_if_it_can() {
    let settings = Settings::default();
    let isa = target::isa(&settings).unwrap();
    let RelaxedSimd::Fast { fused, byte_dot } = target::relaxed_simd(&*isa, &settings) else {
        panic!("the results are fast ones if nothing else is asked for")
    };
    let has = |op: &str, settings: &Settings, name: &str| {
        let names = names(&format!("({op} {THREE})"), settings);
        names.iter().any(|found| found.starts_with(name))
    };
    let deterministic = deterministic(Settings::default());
    for (op, name) in [
        ("f32x4.relaxed_madd", "vfmadd"),
        ("f64x2.relaxed_madd", "vfmadd"),
        ("f32x4.relaxed_nmadd", "vfnmadd"),
        ("f64x2.relaxed_nmadd", "vfnmadd"),
    ] {
        assert_eq!(has(op, &settings, name), fused, "{op}");
        assert!(!has(op, &deterministic, name), "{op}");
    }
    let dot = "i32x4.relaxed_dot_i8x16_i7x16_add_s";
    assert_eq!(has(dot, &settings, "vpdpbusd"), byte_dot);
    assert!(!has(dot, &deterministic, "vpdpbusd"));
}

#[test]
fn the_deterministic_form_is_that_of_plain_vectors() {
    let deterministic = deterministic(baseline());
    for (relaxed, plain, operands) in [
        ("i8x16.relaxed_swizzle", "i8x16.swizzle", TWO),
        ("f32x4.relaxed_min", "f32x4.min", TWO),
        ("f64x2.relaxed_max", "f64x2.max", TWO),
        ("i16x8.relaxed_q15mulr_s", "i16x8.q15mulr_sat_s", TWO),
        ("i16x8.relaxed_laneselect", "v128.bitselect", THREE),
        (
            "i32x4.relaxed_trunc_f64x2_u_zero",
            "i32x4.trunc_sat_f64x2_u_zero",
            "(local.get 0)",
        ),
    ] {
        let found = names(&format!("({relaxed} {operands})"), &deterministic);
        let expected = names(&format!("({plain} {operands})"), &deterministic);
        assert_eq!(found, expected, "{relaxed}");
    }
    assert_eq!(
        names(&format!("(f32x4.relaxed_madd {THREE})"), &deterministic),
        ["mulps", "addps"]
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
