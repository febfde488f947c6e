//! Vectors of 128 bits: a file for each family of operators, and what all of them use.
//!
//! The code generator gives vectors lane types, Wasm does not. An operand keeps the lanes of the
//! instruction that made it; whoever needs others casts it, which costs no machine code. Where
//! values meet (blocks, locals, globals, calls) they have the lanes of [`V128`].

mod convert;
mod float;
mod int;
mod lane;
mod load;
mod relaxed;

#[cfg(test)]
mod tests;

use cranelift_codegen::ir::{
    ConstantData, Endianness, InstBuilder, InstructionData, MemFlagsData, Opcode, Type, Value,
    ValueDef,
};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::Operator;

use super::Translation;
use crate::env::V128;
use crate::error::Error;

impl Translation<'_, '_> {
    pub(super) fn simd(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        Ok(self.vector_load(op, offset)?
            || self.vector_lane(op)
            || self.vector_int(op)
            || self.vector_float(op)
            || self.vector_convert(op)
            || self.vector_bits(op)
            || self.vector_relaxed(op))
    }

    /// Operators that see no lanes.
    fn vector_bits(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        match op {
            O::V128Const { value } => {
                let value = self.v128_const(*value.bytes());
                self.push(value);
            }
            O::V128Not => self.vector_unary(V128, |ins, a| ins.bnot(a)),
            O::V128And => self.vector_commutative(V128, |ins, a, b| ins.band(a, b)),
            O::V128AndNot => self.vector_binary(V128, |ins, a, b| ins.band_not(a, b)),
            O::V128Or => self.vector_commutative(V128, |ins, a, b| ins.bor(a, b)),
            O::V128Xor => self.vector_commutative(V128, |ins, a, b| ins.bxor(a, b)),
            O::V128Bitselect => self.select_bits(),
            O::V128AnyTrue => self.vector_unary(V128, |ins, a| ins.vany_true(a)),
            _ => return false,
        }
        true
    }

    /// `v128.bitselect`. The mask keeps its lanes: one that a comparison made is all ones or all
    /// zeros in each, for which there is a shorter instruction.
    fn select_bits(&mut self) {
        let mask = self.pop_condition();
        let mask = self.before_casts(mask);
        let lanes = self.b.func.dfg.value_type(mask);
        let (first, second) = self.pop_vectors(lanes);
        let value = self.b.ins().bitselect(mask, first, second);
        self.push(value);
    }

    /// A vector constant by its bytes in memory order.
    pub(super) fn v128_const(&mut self, bytes: [u8; 16]) -> Value {
        self.vector_const(V128, bytes)
    }

    fn vector_const(&mut self, lanes: Type, bytes: [u8; 16]) -> Value {
        let data = ConstantData::from(&bytes[..]);
        let constant = self.b.func.dfg.constants.insert(data);
        self.b.ins().vconst(lanes, constant)
    }

    /// Pops a vector with these lanes.
    fn pop_vector(&mut self, lanes: Type) -> Value {
        let value = self.pop_condition();
        self.with_lanes(value, lanes)
    }

    /// Pops the second vector and then the first.
    fn pop_vectors(&mut self, lanes: Type) -> (Value, Value) {
        let second = self.pop_vector(lanes);
        (self.pop_vector(lanes), second)
    }

    /// Replaces one vector by the result of an instruction.
    fn vector_unary(
        &mut self,
        lanes: Type,
        build: impl FnOnce(FuncInstBuilder<'_, '_>, Value) -> Value,
    ) {
        let a = self.pop_vector(lanes);
        let result = build(self.b.ins(), a);
        self.push(result);
    }

    /// Replaces two vectors by the result of an instruction.
    fn vector_binary(
        &mut self,
        lanes: Type,
        build: impl FnOnce(FuncInstBuilder<'_, '_>, Value, Value) -> Value,
    ) {
        let (a, b) = self.pop_vectors(lanes);
        let result = build(self.b.ins(), a, b);
        self.push(result);
    }

    /// The same where the order of the operands does not matter: one that has just been loaded is put
    /// second, where it can become part of the instruction.
    fn vector_commutative(
        &mut self,
        lanes: Type,
        build: impl FnOnce(FuncInstBuilder<'_, '_>, Value, Value) -> Value,
    ) {
        let second = self.pop_vector(lanes);
        let loaded_first =
            self.fresh_load.is_some() && self.fresh_load == self.operands.last().copied();
        let first = self.pop_vector(lanes);
        let result = match loaded_first {
            true => build(self.b.ins(), second, first),
            false => build(self.b.ins(), first, second),
        };
        self.push(result);
    }

    /// The same bits with other lanes.
    pub(super) fn with_lanes(&mut self, value: Value, lanes: Type) -> Value {
        if self.b.func.dfg.value_type(value) == lanes {
            return value;
        }
        // Loaded for this very use: with these lanes from the start the load can become part of the
        // instruction that uses it, from which a cast would part it.
        if self.fresh_load.take_if(|fresh| *fresh == value).is_some() {
            return self.b.func.dfg.replace_result(value, lanes);
        }
        let value = self.before_casts(value);
        if self.b.func.dfg.value_type(value) == lanes {
            return value;
        }
        // Lane 0 has the lowest address.
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(lanes, flags, value)
    }

    /// The vector that a value is a cast of. Casts are only made of what is no cast itself.
    fn before_casts(&self, value: Value) -> Value {
        let dfg = &self.b.func.dfg;
        let ValueDef::Result(inst, _) = dfg.value_def(value) else {
            return value;
        };
        match dfg.insts[inst] {
            InstructionData::LoadNoOffset {
                opcode: Opcode::Bitcast,
                arg,
                ..
            } if dfg.value_type(arg).is_vector() => arg,
            _ => value,
        }
    }
}
