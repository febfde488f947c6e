//! Float lanes: comparisons and arithmetic.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use wasmparser::Operator;

use crate::func::Translation;

impl Translation<'_, '_> {
    pub(super) fn vector_float(&mut self, op: &Operator<'_>) -> bool {
        use FloatCC as C;
        use Operator as O;
        use types::{F32X4, F64X2};
        match op {
            O::F32x4Eq => self.compare_float_lanes(F32X4, C::Equal),
            O::F32x4Ne => self.compare_float_lanes(F32X4, C::NotEqual),
            O::F32x4Lt => self.compare_float_lanes(F32X4, C::LessThan),
            O::F32x4Gt => self.compare_float_lanes(F32X4, C::GreaterThan),
            O::F32x4Le => self.compare_float_lanes(F32X4, C::LessThanOrEqual),
            O::F32x4Ge => self.compare_float_lanes(F32X4, C::GreaterThanOrEqual),
            O::F32x4Ceil => self.vector_unary(F32X4, |ins, a| ins.ceil(a)),
            O::F32x4Floor => self.vector_unary(F32X4, |ins, a| ins.floor(a)),
            O::F32x4Trunc => self.vector_unary(F32X4, |ins, a| ins.trunc(a)),
            O::F32x4Nearest => self.vector_unary(F32X4, |ins, a| ins.nearest(a)),
            O::F32x4Abs => self.vector_unary(F32X4, |ins, a| ins.fabs(a)),
            O::F32x4Neg => self.vector_unary(F32X4, |ins, a| ins.fneg(a)),
            O::F32x4Sqrt => self.vector_unary(F32X4, |ins, a| ins.sqrt(a)),
            O::F32x4Add => self.vector_binary(F32X4, |ins, a, b| ins.fadd(a, b)),
            O::F32x4Sub => self.vector_binary(F32X4, |ins, a, b| ins.fsub(a, b)),
            O::F32x4Mul => self.vector_binary(F32X4, |ins, a, b| ins.fmul(a, b)),
            O::F32x4Div => self.vector_binary(F32X4, |ins, a, b| ins.fdiv(a, b)),
            O::F32x4Min => self.vector_binary(F32X4, |ins, a, b| ins.fmin(a, b)),
            O::F32x4Max => self.vector_binary(F32X4, |ins, a, b| ins.fmax(a, b)),
            O::F32x4PMin => {
                let (a, b) = self.pop_vectors(F32X4);
                self.push_lesser(b, a);
            }
            O::F32x4PMax => {
                let (a, b) = self.pop_vectors(F32X4);
                self.push_greater(b, a);
            }

            O::F64x2Eq => self.compare_float_lanes(F64X2, C::Equal),
            O::F64x2Ne => self.compare_float_lanes(F64X2, C::NotEqual),
            O::F64x2Lt => self.compare_float_lanes(F64X2, C::LessThan),
            O::F64x2Gt => self.compare_float_lanes(F64X2, C::GreaterThan),
            O::F64x2Le => self.compare_float_lanes(F64X2, C::LessThanOrEqual),
            O::F64x2Ge => self.compare_float_lanes(F64X2, C::GreaterThanOrEqual),
            O::F64x2Ceil => self.vector_unary(F64X2, |ins, a| ins.ceil(a)),
            O::F64x2Floor => self.vector_unary(F64X2, |ins, a| ins.floor(a)),
            O::F64x2Trunc => self.vector_unary(F64X2, |ins, a| ins.trunc(a)),
            O::F64x2Nearest => self.vector_unary(F64X2, |ins, a| ins.nearest(a)),
            O::F64x2Abs => self.vector_unary(F64X2, |ins, a| ins.fabs(a)),
            O::F64x2Neg => self.vector_unary(F64X2, |ins, a| ins.fneg(a)),
            O::F64x2Sqrt => self.vector_unary(F64X2, |ins, a| ins.sqrt(a)),
            O::F64x2Add => self.vector_binary(F64X2, |ins, a, b| ins.fadd(a, b)),
            O::F64x2Sub => self.vector_binary(F64X2, |ins, a, b| ins.fsub(a, b)),
            O::F64x2Mul => self.vector_binary(F64X2, |ins, a, b| ins.fmul(a, b)),
            O::F64x2Div => self.vector_binary(F64X2, |ins, a, b| ins.fdiv(a, b)),
            O::F64x2Min => self.vector_binary(F64X2, |ins, a, b| ins.fmin(a, b)),
            O::F64x2Max => self.vector_binary(F64X2, |ins, a, b| ins.fmax(a, b)),
            O::F64x2PMin => {
                let (a, b) = self.pop_vectors(F64X2);
                self.push_lesser(b, a);
            }
            O::F64x2PMax => {
                let (a, b) = self.pop_vectors(F64X2);
                self.push_greater(b, a);
            }
            _ => return false,
        }
        true
    }

    fn compare_float_lanes(&mut self, lanes: Type, condition: FloatCC) {
        self.vector_binary(lanes, |ins, a, b| ins.fcmp(condition, a, b));
    }

    /// Pushes `a < b ? a : b` of each lane: what the machine has as its minimum.
    pub(super) fn push_lesser(&mut self, a: Value, b: Value) {
        let lanes = self.b.func.dfg.value_type(a);
        let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
        let mask = self.with_lanes(less, lanes);
        let value = self.b.ins().bitselect(mask, a, b);
        self.push(value);
    }

    /// Pushes `b < a ? a : b` of each lane: what the machine has as its maximum.
    pub(super) fn push_greater(&mut self, a: Value, b: Value) {
        let lanes = self.b.func.dfg.value_type(a);
        let less = self.b.ins().fcmp(FloatCC::LessThan, b, a);
        let mask = self.with_lanes(less, lanes);
        let value = self.b.ins().bitselect(mask, a, b);
        self.push(value);
    }
}
