//! Conversions between numeric types, and their traps.
//!
//! A float that is no integer of the type traps by itself: Cranelift gives a NaN and a value out of
//! range codes of their own.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, types};
use wasmparser::Operator;

use super::Translation;

impl Translation<'_, '_> {
    pub(super) fn convert(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use types::{F32, F64, I8, I16, I32, I64};
        match op {
            O::I32WrapI64 => self.unary(|ins, a| ins.ireduce(I32, a)),
            O::I64ExtendI32S => self.unary(|ins, a| ins.sextend(I64, a)),
            O::I64ExtendI32U => {
                let value = self.pop_index();
                self.push(value);
            }
            O::I32Extend8S => self.sign_extend(I8, I32),
            O::I32Extend16S => self.sign_extend(I16, I32),
            O::I64Extend8S => self.sign_extend(I8, I64),
            O::I64Extend16S => self.sign_extend(I16, I64),
            O::I64Extend32S => self.sign_extend(I32, I64),

            O::I32TruncF32S | O::I32TruncF64S => self.unary(|ins, a| ins.fcvt_to_sint(I32, a)),
            O::I32TruncF32U | O::I32TruncF64U => self.unary(|ins, a| ins.fcvt_to_uint(I32, a)),
            O::I64TruncF32S | O::I64TruncF64S => self.unary(|ins, a| ins.fcvt_to_sint(I64, a)),
            O::I64TruncF32U | O::I64TruncF64U => self.unary(|ins, a| ins.fcvt_to_uint(I64, a)),
            O::I32TruncSatF32S | O::I32TruncSatF64S => {
                self.unary(|ins, a| ins.fcvt_to_sint_sat(I32, a));
            }
            O::I32TruncSatF32U | O::I32TruncSatF64U => {
                self.unary(|ins, a| ins.fcvt_to_uint_sat(I32, a));
            }
            O::I64TruncSatF32S | O::I64TruncSatF64S => {
                self.unary(|ins, a| ins.fcvt_to_sint_sat(I64, a));
            }
            O::I64TruncSatF32U | O::I64TruncSatF64U => {
                self.unary(|ins, a| ins.fcvt_to_uint_sat(I64, a));
            }

            O::F32ConvertI32S | O::F32ConvertI64S => {
                self.unary(|ins, a| ins.fcvt_from_sint(F32, a));
            }
            O::F32ConvertI32U | O::F32ConvertI64U => {
                self.unary(|ins, a| ins.fcvt_from_uint(F32, a));
            }
            O::F64ConvertI32S | O::F64ConvertI64S => {
                self.unary(|ins, a| ins.fcvt_from_sint(F64, a));
            }
            O::F64ConvertI32U | O::F64ConvertI64U => {
                self.unary(|ins, a| ins.fcvt_from_uint(F64, a));
            }
            O::F32DemoteF64 => self.unary(|ins, a| ins.fdemote(F32, a)),
            O::F64PromoteF32 => self.unary(|ins, a| ins.fpromote(F64, a)),

            O::I32ReinterpretF32 => self.reinterpret(I32),
            O::I64ReinterpretF64 => self.reinterpret(I64),
            O::F32ReinterpretI32 => self.reinterpret(F32),
            O::F64ReinterpretI64 => self.reinterpret(F64),
            _ => return false,
        }
        true
    }

    /// Takes the low part of an operand as a signed number.
    fn sign_extend(&mut self, part: Type, ty: Type) {
        let value = self.pop();
        let part = self.b.ins().ireduce(part, value);
        let value = self.b.ins().sextend(ty, part);
        self.push(value);
    }

    fn reinterpret(&mut self, ty: Type) {
        self.unary(|ins, a| ins.bitcast(ty, MemFlagsData::new(), a));
    }
}
