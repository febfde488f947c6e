//! Integer lanes: comparisons, arithmetic, shifts, and what makes lanes wider or narrower.
//!
//! Products and sums of widened lanes are spelled out in the steps that the code generator knows to
//! be one instruction together.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::Operator;

use crate::func::Translation;

/// How the halves of a vector become vectors of wider lanes.
#[derive(Clone, Copy)]
pub(super) enum Widen {
    SignedLow,
    SignedHigh,
    UnsignedLow,
    UnsignedHigh,
}

impl Translation<'_, '_> {
    pub(super) fn vector_int(&mut self, op: &Operator<'_>) -> bool {
        self.int_compare(op) || self.int_arithmetic(op) || self.int_width(op)
    }

    fn int_compare(&mut self, op: &Operator<'_>) -> bool {
        use IntCC as C;
        use Operator as O;
        use types::{I8X16, I16X8, I32X4, I64X2};
        match op {
            O::I8x16Eq => self.compare_lanes(I8X16, C::Equal),
            O::I8x16Ne => self.compare_lanes(I8X16, C::NotEqual),
            O::I8x16LtS => self.compare_lanes(I8X16, C::SignedLessThan),
            O::I8x16LtU => self.compare_lanes(I8X16, C::UnsignedLessThan),
            O::I8x16GtS => self.compare_lanes(I8X16, C::SignedGreaterThan),
            O::I8x16GtU => self.compare_lanes(I8X16, C::UnsignedGreaterThan),
            O::I8x16LeS => self.compare_lanes(I8X16, C::SignedLessThanOrEqual),
            O::I8x16LeU => self.compare_lanes(I8X16, C::UnsignedLessThanOrEqual),
            O::I8x16GeS => self.compare_lanes(I8X16, C::SignedGreaterThanOrEqual),
            O::I8x16GeU => self.compare_lanes(I8X16, C::UnsignedGreaterThanOrEqual),

            O::I16x8Eq => self.compare_lanes(I16X8, C::Equal),
            O::I16x8Ne => self.compare_lanes(I16X8, C::NotEqual),
            O::I16x8LtS => self.compare_lanes(I16X8, C::SignedLessThan),
            O::I16x8LtU => self.compare_lanes(I16X8, C::UnsignedLessThan),
            O::I16x8GtS => self.compare_lanes(I16X8, C::SignedGreaterThan),
            O::I16x8GtU => self.compare_lanes(I16X8, C::UnsignedGreaterThan),
            O::I16x8LeS => self.compare_lanes(I16X8, C::SignedLessThanOrEqual),
            O::I16x8LeU => self.compare_lanes(I16X8, C::UnsignedLessThanOrEqual),
            O::I16x8GeS => self.compare_lanes(I16X8, C::SignedGreaterThanOrEqual),
            O::I16x8GeU => self.compare_lanes(I16X8, C::UnsignedGreaterThanOrEqual),

            O::I32x4Eq => self.compare_lanes(I32X4, C::Equal),
            O::I32x4Ne => self.compare_lanes(I32X4, C::NotEqual),
            O::I32x4LtS => self.compare_lanes(I32X4, C::SignedLessThan),
            O::I32x4LtU => self.compare_lanes(I32X4, C::UnsignedLessThan),
            O::I32x4GtS => self.compare_lanes(I32X4, C::SignedGreaterThan),
            O::I32x4GtU => self.compare_lanes(I32X4, C::UnsignedGreaterThan),
            O::I32x4LeS => self.compare_lanes(I32X4, C::SignedLessThanOrEqual),
            O::I32x4LeU => self.compare_lanes(I32X4, C::UnsignedLessThanOrEqual),
            O::I32x4GeS => self.compare_lanes(I32X4, C::SignedGreaterThanOrEqual),
            O::I32x4GeU => self.compare_lanes(I32X4, C::UnsignedGreaterThanOrEqual),

            O::I64x2Eq => self.compare_lanes(I64X2, C::Equal),
            O::I64x2Ne => self.compare_lanes(I64X2, C::NotEqual),
            O::I64x2LtS => self.compare_lanes(I64X2, C::SignedLessThan),
            O::I64x2GtS => self.compare_lanes(I64X2, C::SignedGreaterThan),
            O::I64x2LeS => self.compare_lanes(I64X2, C::SignedLessThanOrEqual),
            O::I64x2GeS => self.compare_lanes(I64X2, C::SignedGreaterThanOrEqual),
            _ => return false,
        }
        true
    }

    fn int_arithmetic(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use types::{I8X16, I16X8, I32X4, I64X2};
        match op {
            O::I8x16Abs => self.vector_unary(I8X16, |ins, a| ins.iabs(a)),
            O::I8x16Neg => self.vector_unary(I8X16, |ins, a| ins.ineg(a)),
            O::I8x16Popcnt => self.vector_unary(I8X16, |ins, a| ins.popcnt(a)),
            O::I8x16Shl => self.shift(I8X16, |ins, a, by| ins.ishl(a, by)),
            O::I8x16ShrS => self.shift(I8X16, |ins, a, by| ins.sshr(a, by)),
            O::I8x16ShrU => self.shift(I8X16, |ins, a, by| ins.ushr(a, by)),
            O::I8x16Add => self.vector_commutative(I8X16, |ins, a, b| ins.iadd(a, b)),
            O::I8x16Sub => self.vector_binary(I8X16, |ins, a, b| ins.isub(a, b)),
            O::I8x16AddSatS => self.vector_commutative(I8X16, |ins, a, b| ins.sadd_sat(a, b)),
            O::I8x16AddSatU => self.vector_commutative(I8X16, |ins, a, b| ins.uadd_sat(a, b)),
            O::I8x16SubSatS => self.vector_binary(I8X16, |ins, a, b| ins.ssub_sat(a, b)),
            O::I8x16SubSatU => self.vector_binary(I8X16, |ins, a, b| ins.usub_sat(a, b)),
            O::I8x16MinS => self.vector_commutative(I8X16, |ins, a, b| ins.smin(a, b)),
            O::I8x16MinU => self.vector_commutative(I8X16, |ins, a, b| ins.umin(a, b)),
            O::I8x16MaxS => self.vector_commutative(I8X16, |ins, a, b| ins.smax(a, b)),
            O::I8x16MaxU => self.vector_commutative(I8X16, |ins, a, b| ins.umax(a, b)),
            O::I8x16AvgrU => self.vector_commutative(I8X16, |ins, a, b| ins.avg_round(a, b)),

            O::I16x8Abs => self.vector_unary(I16X8, |ins, a| ins.iabs(a)),
            O::I16x8Neg => self.vector_unary(I16X8, |ins, a| ins.ineg(a)),
            O::I16x8Shl => self.shift(I16X8, |ins, a, by| ins.ishl(a, by)),
            O::I16x8ShrS => self.shift(I16X8, |ins, a, by| ins.sshr(a, by)),
            O::I16x8ShrU => self.shift(I16X8, |ins, a, by| ins.ushr(a, by)),
            O::I16x8Add => self.vector_commutative(I16X8, |ins, a, b| ins.iadd(a, b)),
            O::I16x8Sub => self.vector_binary(I16X8, |ins, a, b| ins.isub(a, b)),
            O::I16x8Mul => self.vector_commutative(I16X8, |ins, a, b| ins.imul(a, b)),
            O::I16x8AddSatS => self.vector_commutative(I16X8, |ins, a, b| ins.sadd_sat(a, b)),
            O::I16x8AddSatU => self.vector_commutative(I16X8, |ins, a, b| ins.uadd_sat(a, b)),
            O::I16x8SubSatS => self.vector_binary(I16X8, |ins, a, b| ins.ssub_sat(a, b)),
            O::I16x8SubSatU => self.vector_binary(I16X8, |ins, a, b| ins.usub_sat(a, b)),
            O::I16x8MinS => self.vector_commutative(I16X8, |ins, a, b| ins.smin(a, b)),
            O::I16x8MinU => self.vector_commutative(I16X8, |ins, a, b| ins.umin(a, b)),
            O::I16x8MaxS => self.vector_commutative(I16X8, |ins, a, b| ins.smax(a, b)),
            O::I16x8MaxU => self.vector_commutative(I16X8, |ins, a, b| ins.umax(a, b)),
            O::I16x8AvgrU => self.vector_commutative(I16X8, |ins, a, b| ins.avg_round(a, b)),
            O::I16x8Q15MulrSatS => {
                self.vector_commutative(I16X8, |ins, a, b| ins.sqmul_round_sat(a, b))
            }

            O::I32x4Abs => self.vector_unary(I32X4, |ins, a| ins.iabs(a)),
            O::I32x4Neg => self.vector_unary(I32X4, |ins, a| ins.ineg(a)),
            O::I32x4Shl => self.shift(I32X4, |ins, a, by| ins.ishl(a, by)),
            O::I32x4ShrS => self.shift(I32X4, |ins, a, by| ins.sshr(a, by)),
            O::I32x4ShrU => self.shift(I32X4, |ins, a, by| ins.ushr(a, by)),
            O::I32x4Add => self.vector_commutative(I32X4, |ins, a, b| ins.iadd(a, b)),
            O::I32x4Sub => self.vector_binary(I32X4, |ins, a, b| ins.isub(a, b)),
            O::I32x4Mul => self.vector_commutative(I32X4, |ins, a, b| ins.imul(a, b)),
            O::I32x4MinS => self.vector_commutative(I32X4, |ins, a, b| ins.smin(a, b)),
            O::I32x4MinU => self.vector_commutative(I32X4, |ins, a, b| ins.umin(a, b)),
            O::I32x4MaxS => self.vector_commutative(I32X4, |ins, a, b| ins.smax(a, b)),
            O::I32x4MaxU => self.vector_commutative(I32X4, |ins, a, b| ins.umax(a, b)),
            O::I32x4DotI16x8S => self.dot(),

            O::I64x2Abs => self.vector_unary(I64X2, |ins, a| ins.iabs(a)),
            O::I64x2Neg => self.vector_unary(I64X2, |ins, a| ins.ineg(a)),
            O::I64x2Shl => self.shift(I64X2, |ins, a, by| ins.ishl(a, by)),
            O::I64x2ShrS => self.shift(I64X2, |ins, a, by| ins.sshr(a, by)),
            O::I64x2ShrU => self.shift(I64X2, |ins, a, by| ins.ushr(a, by)),
            O::I64x2Add => self.vector_commutative(I64X2, |ins, a, b| ins.iadd(a, b)),
            O::I64x2Sub => self.vector_binary(I64X2, |ins, a, b| ins.isub(a, b)),
            O::I64x2Mul => self.vector_commutative(I64X2, |ins, a, b| ins.imul(a, b)),
            _ => return false,
        }
        true
    }

    fn int_width(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use Widen::{SignedHigh, SignedLow, UnsignedHigh, UnsignedLow};
        use types::{I8X16, I16X8, I32X4};
        match op {
            O::I8x16NarrowI16x8S => self.vector_binary(I16X8, |ins, a, b| ins.snarrow(a, b)),
            O::I8x16NarrowI16x8U => self.vector_binary(I16X8, |ins, a, b| ins.unarrow(a, b)),
            O::I16x8NarrowI32x4S => self.vector_binary(I32X4, |ins, a, b| ins.snarrow(a, b)),
            O::I16x8NarrowI32x4U => self.vector_binary(I32X4, |ins, a, b| ins.unarrow(a, b)),

            O::I16x8ExtendLowI8x16S => self.extend(I8X16, SignedLow),
            O::I16x8ExtendLowI8x16U => self.extend(I8X16, UnsignedLow),
            O::I16x8ExtendHighI8x16S => self.extend(I8X16, SignedHigh),
            O::I16x8ExtendHighI8x16U => self.extend(I8X16, UnsignedHigh),
            O::I32x4ExtendLowI16x8S => self.extend(I16X8, SignedLow),
            O::I32x4ExtendLowI16x8U => self.extend(I16X8, UnsignedLow),
            O::I32x4ExtendHighI16x8S => self.extend(I16X8, SignedHigh),
            O::I32x4ExtendHighI16x8U => self.extend(I16X8, UnsignedHigh),
            O::I64x2ExtendLowI32x4S => self.extend(I32X4, SignedLow),
            O::I64x2ExtendLowI32x4U => self.extend(I32X4, UnsignedLow),
            O::I64x2ExtendHighI32x4S => self.extend(I32X4, SignedHigh),
            O::I64x2ExtendHighI32x4U => self.extend(I32X4, UnsignedHigh),

            O::I16x8ExtMulLowI8x16S => self.extended_product(I8X16, SignedLow),
            O::I16x8ExtMulLowI8x16U => self.extended_product(I8X16, UnsignedLow),
            O::I16x8ExtMulHighI8x16S => self.extended_product(I8X16, SignedHigh),
            O::I16x8ExtMulHighI8x16U => self.extended_product(I8X16, UnsignedHigh),
            O::I32x4ExtMulLowI16x8S => self.extended_product(I16X8, SignedLow),
            O::I32x4ExtMulLowI16x8U => self.extended_product(I16X8, UnsignedLow),
            O::I32x4ExtMulHighI16x8S => self.extended_product(I16X8, SignedHigh),
            O::I32x4ExtMulHighI16x8U => self.extended_product(I16X8, UnsignedHigh),
            O::I64x2ExtMulLowI32x4S => self.extended_product(I32X4, SignedLow),
            O::I64x2ExtMulLowI32x4U => self.extended_product(I32X4, UnsignedLow),
            O::I64x2ExtMulHighI32x4S => self.extended_product(I32X4, SignedHigh),
            O::I64x2ExtMulHighI32x4U => self.extended_product(I32X4, UnsignedHigh),

            O::I16x8ExtAddPairwiseI8x16S => self.add_pairs(I8X16, SignedLow, SignedHigh),
            O::I16x8ExtAddPairwiseI8x16U => self.add_pairs(I8X16, UnsignedLow, UnsignedHigh),
            O::I32x4ExtAddPairwiseI16x8S => self.add_pairs(I16X8, SignedLow, SignedHigh),
            O::I32x4ExtAddPairwiseI16x8U => self.add_pairs(I16X8, UnsignedLow, UnsignedHigh),
            _ => return false,
        }
        true
    }

    fn compare_lanes(&mut self, lanes: Type, condition: IntCC) {
        self.vector_binary(lanes, |ins, a, b| ins.icmp(condition, a, b));
    }

    /// Shifts all lanes by one count, of which the instruction takes the low bits as Wasm does.
    fn shift(
        &mut self,
        lanes: Type,
        build: impl FnOnce(FuncInstBuilder<'_, '_>, Value, Value) -> Value,
    ) {
        let count = self.pop();
        self.vector_unary(lanes, |ins, a| build(ins, a, count));
    }

    /// Half a vector with lanes twice as wide.
    pub(super) fn widened(&mut self, value: Value, how: Widen) -> Value {
        let ins = self.b.ins();
        match how {
            Widen::SignedLow => ins.swiden_low(value),
            Widen::SignedHigh => ins.swiden_high(value),
            Widen::UnsignedLow => ins.uwiden_low(value),
            Widen::UnsignedHigh => ins.uwiden_high(value),
        }
    }

    /// Replaces a vector by half of it with lanes twice as wide.
    pub(super) fn extend(&mut self, lanes: Type, how: Widen) {
        let value = self.pop_vector(lanes);
        let value = self.widened(value, how);
        self.push(value);
    }

    fn extended_product(&mut self, lanes: Type, how: Widen) {
        let (a, b) = self.pop_vectors(lanes);
        let a = self.widened(a, how);
        let b = self.widened(b, how);
        let value = self.b.ins().imul(a, b);
        self.push(value);
    }

    fn add_pairs(&mut self, lanes: Type, low: Widen, high: Widen) {
        let value = self.pop_vector(lanes);
        let value = self.pairs_added(value, low, high);
        self.push(value);
    }

    /// Sums of pairs of lanes, in lanes twice as wide.
    pub(super) fn pairs_added(&mut self, value: Value, low: Widen, high: Widen) -> Value {
        let low = self.widened(value, low);
        let high = self.widened(value, high);
        self.b.ins().iadd_pairwise(low, high)
    }

    /// `i32x4.dot_i16x8_s`
    fn dot(&mut self) {
        let (a, b) = self.pop_vectors(types::I16X8);
        let value = self.dot_product(a, b);
        self.push(value);
    }

    /// Products of signed 16-bit lanes, pairs of them added.
    pub(super) fn dot_product(&mut self, a: Value, b: Value) -> Value {
        let a_low = self.widened(a, Widen::SignedLow);
        let b_low = self.widened(b, Widen::SignedLow);
        let low = self.b.ins().imul(a_low, b_low);
        let a_high = self.widened(a, Widen::SignedHigh);
        let b_high = self.widened(b, Widen::SignedHigh);
        let high = self.b.ins().imul(a_high, b_high);
        self.b.ins().iadd_pairwise(low, high)
    }
}
