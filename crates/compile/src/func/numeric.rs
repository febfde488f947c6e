//! Constants, comparisons, integer and float arithmetic, 128-bit arithmetic in two halves.
//!
//! Integer division traps by itself: Cranelift gives division by zero and overflow codes of their
//! own, and makes the remainder of the smallest integer by -1 zero, as Wasm has it.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::Operator;

use super::Translation;

impl Translation<'_, '_> {
    pub(super) fn numeric(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        match *op {
            O::I32Const { value } => {
                let value = self.i32_const(value);
                self.push(value);
            }
            O::I64Const { value } => {
                let value = self.b.ins().iconst(types::I64, value);
                self.push(value);
            }
            O::F32Const { value } => {
                let value = self.f32_const(value.bits());
                self.push(value);
            }
            O::F64Const { value } => {
                let value = self.f64_const(value.bits());
                self.push(value);
            }

            O::I32Eqz | O::I64Eqz => {
                let value = self.pop_condition();
                let result = self.b.ins().icmp_imm_u(IntCC::Equal, value, 0);
                self.push(result);
            }
            O::I32Eq | O::I64Eq => self.compare(IntCC::Equal),
            O::I32Ne | O::I64Ne => self.compare(IntCC::NotEqual),
            O::I32LtS | O::I64LtS => self.compare(IntCC::SignedLessThan),
            O::I32LtU | O::I64LtU => self.compare(IntCC::UnsignedLessThan),
            O::I32GtS | O::I64GtS => self.compare(IntCC::SignedGreaterThan),
            O::I32GtU | O::I64GtU => self.compare(IntCC::UnsignedGreaterThan),
            O::I32LeS | O::I64LeS => self.compare(IntCC::SignedLessThanOrEqual),
            O::I32LeU | O::I64LeU => self.compare(IntCC::UnsignedLessThanOrEqual),
            O::I32GeS | O::I64GeS => self.compare(IntCC::SignedGreaterThanOrEqual),
            O::I32GeU | O::I64GeU => self.compare(IntCC::UnsignedGreaterThanOrEqual),
            O::F32Eq | O::F64Eq => self.compare_floats(FloatCC::Equal),
            O::F32Ne | O::F64Ne => self.compare_floats(FloatCC::NotEqual),
            O::F32Lt | O::F64Lt => self.compare_floats(FloatCC::LessThan),
            O::F32Gt | O::F64Gt => self.compare_floats(FloatCC::GreaterThan),
            O::F32Le | O::F64Le => self.compare_floats(FloatCC::LessThanOrEqual),
            O::F32Ge | O::F64Ge => self.compare_floats(FloatCC::GreaterThanOrEqual),

            O::I32Clz | O::I64Clz => self.unary(|ins, a| ins.clz(a)),
            O::I32Ctz | O::I64Ctz => self.unary(|ins, a| ins.ctz(a)),
            O::I32Popcnt | O::I64Popcnt => self.unary(|ins, a| ins.popcnt(a)),
            O::I32Add | O::I64Add => self.binary(|ins, a, b| ins.iadd(a, b)),
            O::I32Sub | O::I64Sub => self.binary(|ins, a, b| ins.isub(a, b)),
            O::I32Mul | O::I64Mul => self.binary(|ins, a, b| ins.imul(a, b)),
            O::I32DivS | O::I64DivS => self.binary(|ins, a, b| ins.sdiv(a, b)),
            O::I32DivU | O::I64DivU => self.binary(|ins, a, b| ins.udiv(a, b)),
            O::I32RemS | O::I64RemS => self.binary(|ins, a, b| ins.srem(a, b)),
            O::I32RemU | O::I64RemU => self.binary(|ins, a, b| ins.urem(a, b)),
            O::I32And | O::I64And => self.binary(|ins, a, b| ins.band(a, b)),
            O::I32Or | O::I64Or => self.binary(|ins, a, b| ins.bor(a, b)),
            O::I32Xor | O::I64Xor => self.binary(|ins, a, b| ins.bxor(a, b)),
            O::I32Shl | O::I64Shl => self.binary(|ins, a, b| ins.ishl(a, b)),
            O::I32ShrS | O::I64ShrS => self.binary(|ins, a, b| ins.sshr(a, b)),
            O::I32ShrU | O::I64ShrU => self.binary(|ins, a, b| ins.ushr(a, b)),
            O::I32Rotl | O::I64Rotl => self.binary(|ins, a, b| ins.rotl(a, b)),
            O::I32Rotr | O::I64Rotr => self.binary(|ins, a, b| ins.rotr(a, b)),

            O::I64Add128 => self.wide(|ins, a, b| ins.iadd(a, b)),
            O::I64Sub128 => self.wide(|ins, a, b| ins.isub(a, b)),
            O::I64MulWideS => self.multiply_wide(|ins, a| ins.sextend(types::I128, a)),
            O::I64MulWideU => self.multiply_wide(|ins, a| ins.uextend(types::I128, a)),

            O::F32Abs | O::F64Abs => self.unary(|ins, a| ins.fabs(a)),
            O::F32Neg | O::F64Neg => self.unary(|ins, a| ins.fneg(a)),
            O::F32Ceil | O::F64Ceil => self.unary(|ins, a| ins.ceil(a)),
            O::F32Floor | O::F64Floor => self.unary(|ins, a| ins.floor(a)),
            O::F32Trunc | O::F64Trunc => self.unary(|ins, a| ins.trunc(a)),
            O::F32Nearest | O::F64Nearest => self.unary(|ins, a| ins.nearest(a)),
            O::F32Sqrt | O::F64Sqrt => self.unary(|ins, a| ins.sqrt(a)),
            O::F32Add | O::F64Add => self.binary(|ins, a, b| ins.fadd(a, b)),
            O::F32Sub | O::F64Sub => self.binary(|ins, a, b| ins.fsub(a, b)),
            O::F32Mul | O::F64Mul => self.binary(|ins, a, b| ins.fmul(a, b)),
            O::F32Div | O::F64Div => self.binary(|ins, a, b| ins.fdiv(a, b)),
            O::F32Min | O::F64Min => self.binary(|ins, a, b| ins.fmin(a, b)),
            O::F32Max | O::F64Max => self.binary(|ins, a, b| ins.fmax(a, b)),
            O::F32Copysign | O::F64Copysign => self.binary(|ins, a, b| ins.fcopysign(a, b)),
            _ => return false,
        }
        true
    }

    /// An `i32` constant. Cranelift wants immediates zero-extended from their type's width.
    pub(super) fn i32_const(&mut self, value: i32) -> Value {
        self.b
            .ins()
            .iconst(types::I32, i64::from(value.cast_unsigned()))
    }

    pub(super) fn f32_const(&mut self, bits: u32) -> Value {
        self.b.ins().f32const(Ieee32::with_bits(bits))
    }

    pub(super) fn f64_const(&mut self, bits: u64) -> Value {
        self.b.ins().f64const(Ieee64::with_bits(bits))
    }

    /// Replaces one operand by the result of an instruction.
    pub(super) fn unary(&mut self, build: impl FnOnce(FuncInstBuilder<'_, '_>, Value) -> Value) {
        let a = self.pop();
        let result = build(self.b.ins(), a);
        self.push(result);
    }

    /// Replaces two operands by the result of an instruction.
    pub(super) fn binary(
        &mut self,
        build: impl FnOnce(FuncInstBuilder<'_, '_>, Value, Value) -> Value,
    ) {
        let (a, b) = self.pop2();
        let result = build(self.b.ins(), a, b);
        self.push(result);
    }

    /// Replaces two 128-bit operands, low halves first, by the result of an instruction.
    fn wide(&mut self, build: impl FnOnce(FuncInstBuilder<'_, '_>, Value, Value) -> Value) {
        let (low, high) = self.pop2();
        let b = self.b.ins().iconcat(low, high);
        let (low, high) = self.pop2();
        let a = self.b.ins().iconcat(low, high);
        let result = build(self.b.ins(), a, b);
        self.push_halves(result);
    }

    /// Replaces two operands by their 128-bit product. Cranelift knows the product of two extended
    /// numbers as one instruction.
    fn multiply_wide(&mut self, extend: impl Fn(FuncInstBuilder<'_, '_>, Value) -> Value) {
        let (a, b) = self.pop2();
        let a = extend(self.b.ins(), a);
        let b = extend(self.b.ins(), b);
        let product = self.b.ins().imul(a, b);
        self.push_halves(product);
    }

    fn push_halves(&mut self, wide: Value) {
        let (low, high) = self.b.ins().isplit(wide);
        self.push(low);
        self.push(high);
    }

    fn compare(&mut self, condition: IntCC) {
        self.binary(|ins, a, b| ins.icmp(condition, a, b));
    }

    fn compare_floats(&mut self, condition: FloatCC) {
        self.binary(|ins, a, b| ins.fcmp(condition, a, b));
    }
}
