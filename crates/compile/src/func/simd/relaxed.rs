//! Relaxed SIMD: instructions whose results the specification leaves open in corner cases.
//!
//! It gives each a list of outcomes, the first of which is the deterministic profile's; an
//! implementation picks one and keeps to it. Picked here, unless the settings ask for the first:
//!
//! ```text
//!  multiply-add   one rounding where the CPU has it, else two
//!  min, max       the second operand if one is NaN or both are zero       (minps),
//!                 as plain ones if NaNs are to be canonical
//!  truncations    signed: the smallest integer if out of range (cvttps2dq); unsigned: saturating
//!  swizzle        the low four bits of an index from 16 to 127            (pshufb)
//!  lane select    by the top bit of each lane of the mask                 (pblendvb)
//!  q15mulr        -1 * -1 is -1                                           (pmulhrsw)
//!  dot products   signed by unsigned bytes                                (pmaddubsw, vpdpbusd)
//! ```

use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use wasmparser::Operator;

use super::int::Widen;
use crate::func::Translation;
use crate::target::RelaxedSimd;

impl Translation<'_, '_> {
    pub(super) fn vector_relaxed(&mut self, op: &Operator<'_>) -> bool {
        if let Some(plain) = plain_form(op) {
            let deterministic = self.env.relaxed_simd == RelaxedSimd::Deterministic;
            if deterministic || !self.fast_form(op) {
                return self.vector_lane(&plain)
                    || self.vector_int(&plain)
                    || self.vector_float(&plain)
                    || self.vector_convert(&plain)
                    || self.vector_bits(&plain);
            }
            return true;
        }
        use Operator as O;
        use types::{F32X4, F64X2};
        match op {
            O::F32x4RelaxedMadd => self.multiply_add(F32X4, false),
            O::F32x4RelaxedNmadd => self.multiply_add(F32X4, true),
            O::F64x2RelaxedMadd => self.multiply_add(F64X2, false),
            O::F64x2RelaxedNmadd => self.multiply_add(F64X2, true),
            O::I16x8RelaxedDotI8x16I7x16S => {
                let (a, b) = self.pop_vectors(types::I8X16);
                let value = self.byte_dot(a, b);
                self.push(value);
            }
            O::I32x4RelaxedDotI8x16I7x16AddS => self.byte_dot_add(),
            _ => return false,
        }
        true
    }

    /// Translates an operator that has a plain form to something shorter, if there is such.
    fn fast_form(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use types::{F32X4, F64X2, I8X16, I16X8, I32X4, I64X2};
        match op {
            O::I8x16RelaxedSwizzle => self.vector_binary(I8X16, |ins, a, b| ins.x86_pshufb(a, b)),
            // The machine's minimum and maximum hand on a NaN as it is.
            O::F32x4RelaxedMin | O::F32x4RelaxedMax | O::F64x2RelaxedMin | O::F64x2RelaxedMax
                if self.env.tunables.nan_canonicalization =>
            {
                return false;
            }
            O::I32x4RelaxedTruncF32x4S => {
                self.vector_unary(F32X4, |ins, a| ins.x86_cvtt2dq(I32X4, a));
            }
            O::I32x4RelaxedTruncF64x2SZero => {
                self.vector_unary(F64X2, |ins, a| ins.x86_cvtt2dq(I64X2, a));
                let zero = self.vector_const(I64X2, [0; 16]);
                self.vector_unary(I64X2, |ins, a| ins.snarrow(a, zero));
            }
            O::I8x16RelaxedLaneselect => self.select_lanes(I8X16),
            O::I16x8RelaxedLaneselect => {
                // There is no blend of 16-bit lanes, so the top bit is spread over both bytes.
                self.vector_unary(I16X8, |ins, mask| ins.sshr_imm_u(mask, 15));
                self.select_lanes(I8X16);
            }
            O::I32x4RelaxedLaneselect => self.select_lanes(I32X4),
            O::I64x2RelaxedLaneselect => self.select_lanes(I64X2),
            O::F32x4RelaxedMin => self.lesser(F32X4),
            O::F32x4RelaxedMax => self.greater(F32X4),
            O::F64x2RelaxedMin => self.lesser(F64X2),
            O::F64x2RelaxedMax => self.greater(F64X2),
            O::I16x8RelaxedQ15mulrS => {
                self.vector_binary(I16X8, |ins, a, b| ins.x86_pmulhrsw(a, b));
            }
            _ => return false,
        }
        true
    }

    fn lesser(&mut self, lanes: Type) {
        let (a, b) = self.pop_vectors(lanes);
        self.push_lesser(a, b);
    }

    fn greater(&mut self, lanes: Type) {
        let (a, b) = self.pop_vectors(lanes);
        self.push_greater(a, b);
    }

    /// Chooses lanes by the top bits of the mask's.
    fn select_lanes(&mut self, lanes: Type) {
        let mask = self.pop_vector(lanes);
        self.vector_binary(lanes, |ins, a, b| ins.blendv(mask, a, b));
    }

    /// `a * b + c`, or `-(a * b) + c`.
    fn multiply_add(&mut self, lanes: Type, negated: bool) {
        let c = self.pop_vector(lanes);
        let (a, b) = self.pop_vectors(lanes);
        let fused = matches!(self.env.relaxed_simd, RelaxedSimd::Fast { fused: true, .. });
        let value = match (fused, negated) {
            (true, true) => {
                let a = self.b.ins().fneg(a);
                self.b.ins().fma(a, b, c)
            }
            (true, false) => self.b.ins().fma(a, b, c),
            (false, true) => {
                let product = self.b.ins().fmul(a, b);
                self.b.ins().fsub(c, product)
            }
            (false, false) => {
                let product = self.b.ins().fmul(a, b);
                self.b.ins().fadd(product, c)
            }
        };
        self.push(value);
    }

    /// Products of bytes, pairs of them added to 16-bit lanes with saturation.
    fn byte_dot(&mut self, a: Value, b: Value) -> Value {
        if self.env.relaxed_simd != RelaxedSimd::Deterministic {
            return self.b.ins().x86_pmaddubsw(a, b);
        }
        // Exact sums of 32 bits, which the narrowing then saturates.
        let [low, high] = [Widen::SignedLow, Widen::SignedHigh].map(|half| {
            let a = self.widened(a, half);
            let b = self.widened(b, half);
            self.dot_product(a, b)
        });
        self.b.ins().snarrow(low, high)
    }

    /// Products of bytes, four each added to a 32-bit lane.
    fn byte_dot_add(&mut self) {
        let c = self.pop_vector(types::I32X4);
        let (a, b) = self.pop_vectors(types::I8X16);
        let sums = if let RelaxedSimd::Fast { byte_dot: true, .. } = self.env.relaxed_simd {
            let low = self.mixed_products(a, b, Widen::SignedLow, Widen::UnsignedLow);
            let high = self.mixed_products(a, b, Widen::SignedHigh, Widen::UnsignedHigh);
            self.b.ins().iadd_pairwise(low, high)
        } else {
            let pairs = self.byte_dot(a, b);
            self.pairs_added(pairs, Widen::SignedLow, Widen::SignedHigh)
        };
        let value = self.b.ins().iadd(sums, c);
        self.push(value);
    }

    /// Products of half of the bytes, pairs of them added: a part of the steps that are `vpdpbusd`
    /// together.
    fn mixed_products(&mut self, a: Value, b: Value, signed: Widen, unsigned: Widen) -> Value {
        let a = self.widened(a, signed);
        let b = self.widened(b, unsigned);
        let products = self.b.ins().imul(a, b);
        self.pairs_added(products, Widen::SignedLow, Widen::SignedHigh)
    }
}

/// The operator of plain SIMD that does what the deterministic profile asks, where there is one.
fn plain_form(op: &Operator<'_>) -> Option<Operator<'static>> {
    use Operator as O;
    Some(match op {
        O::I8x16RelaxedSwizzle => O::I8x16Swizzle,
        O::I32x4RelaxedTruncF32x4S => O::I32x4TruncSatF32x4S,
        O::I32x4RelaxedTruncF32x4U => O::I32x4TruncSatF32x4U,
        O::I32x4RelaxedTruncF64x2SZero => O::I32x4TruncSatF64x2SZero,
        O::I32x4RelaxedTruncF64x2UZero => O::I32x4TruncSatF64x2UZero,
        O::I8x16RelaxedLaneselect
        | O::I16x8RelaxedLaneselect
        | O::I32x4RelaxedLaneselect
        | O::I64x2RelaxedLaneselect => O::V128Bitselect,
        O::F32x4RelaxedMin => O::F32x4Min,
        O::F32x4RelaxedMax => O::F32x4Max,
        O::F64x2RelaxedMin => O::F64x2Min,
        O::F64x2RelaxedMax => O::F64x2Max,
        O::I16x8RelaxedQ15mulrS => O::I16x8Q15MulrSatS,
        _ => return None,
    })
}
