//! Conversions between integer and float lanes, and between widths of floats.

use cranelift_codegen::ir::{InstBuilder, types};
use wasmparser::Operator;

use super::int::Widen;
use crate::func::Translation;

impl Translation<'_, '_> {
    pub(super) fn vector_convert(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use types::{F32X4, F64X2, I32X4, I64X2};
        match op {
            O::F32x4ConvertI32x4S => {
                self.vector_unary(I32X4, |ins, a| ins.fcvt_from_sint(F32X4, a));
            }
            O::F32x4ConvertI32x4U => {
                self.vector_unary(I32X4, |ins, a| ins.fcvt_from_uint(F32X4, a));
            }
            O::F64x2ConvertLowI32x4S => {
                self.extend(I32X4, Widen::SignedLow);
                self.vector_unary(I64X2, |ins, a| ins.fcvt_from_sint(F64X2, a));
            }
            O::F64x2ConvertLowI32x4U => {
                self.extend(I32X4, Widen::UnsignedLow);
                self.vector_unary(I64X2, |ins, a| ins.fcvt_from_uint(F64X2, a));
            }
            O::I32x4TruncSatF32x4S => {
                self.vector_unary(F32X4, |ins, a| ins.fcvt_to_sint_sat(I32X4, a));
            }
            O::I32x4TruncSatF32x4U => {
                self.vector_unary(F32X4, |ins, a| ins.fcvt_to_uint_sat(I32X4, a));
            }
            O::I32x4TruncSatF64x2SZero => {
                self.vector_unary(F64X2, |ins, a| ins.fcvt_to_sint_sat(I64X2, a));
                let zero = self.vector_const(I64X2, [0; 16]);
                self.vector_unary(I64X2, |ins, a| ins.snarrow(a, zero));
            }
            O::I32x4TruncSatF64x2UZero => {
                self.vector_unary(F64X2, |ins, a| ins.fcvt_to_uint_sat(I64X2, a));
                let zero = self.vector_const(I64X2, [0; 16]);
                self.vector_unary(I64X2, |ins, a| ins.uunarrow(a, zero));
            }
            O::F32x4DemoteF64x2Zero => self.vector_unary(F64X2, |ins, a| ins.fvdemote(a)),
            O::F64x2PromoteLowF32x4 => {
                self.vector_unary(F32X4, |ins, a| ins.fvpromote_low(a));
            }
            _ => return false,
        }
        true
    }
}
