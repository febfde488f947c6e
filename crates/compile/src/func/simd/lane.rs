//! Lanes by themselves: splats, single lanes taken out and put in, shuffles.

use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Type, Value, types};
use wasmparser::Operator;

use crate::func::Translation;

impl Translation<'_, '_> {
    pub(super) fn vector_lane(&mut self, op: &Operator<'_>) -> bool {
        use Operator as O;
        use types::{F32X4, F64X2, I8X16, I16X8, I32, I32X4, I64X2};
        match *op {
            O::I8x16Splat => self.splat(I8X16),
            O::I16x8Splat => self.splat(I16X8),
            O::I32x4Splat => self.splat(I32X4),
            O::I64x2Splat => self.splat(I64X2),
            O::F32x4Splat => self.splat(F32X4),
            O::F64x2Splat => self.splat(F64X2),

            O::I8x16ExtractLaneS { lane } => self.extract_signed(I8X16, lane),
            O::I16x8ExtractLaneS { lane } => self.extract_signed(I16X8, lane),
            O::I8x16ExtractLaneU { lane } => self.extract_unsigned(I8X16, lane),
            O::I16x8ExtractLaneU { lane } => self.extract_unsigned(I16X8, lane),
            O::I32x4ExtractLane { lane } => self.extract(I32X4, lane),
            O::I64x2ExtractLane { lane } => self.extract(I64X2, lane),
            O::F32x4ExtractLane { lane } => self.extract(F32X4, lane),
            O::F64x2ExtractLane { lane } => self.extract(F64X2, lane),

            O::I8x16ReplaceLane { lane } => self.replace(I8X16, lane),
            O::I16x8ReplaceLane { lane } => self.replace(I16X8, lane),
            O::I32x4ReplaceLane { lane } => self.replace(I32X4, lane),
            O::I64x2ReplaceLane { lane } => self.replace(I64X2, lane),
            O::F32x4ReplaceLane { lane } => self.replace(F32X4, lane),
            O::F64x2ReplaceLane { lane } => self.replace(F64X2, lane),

            O::I8x16Swizzle => self.swizzle(),
            O::I8x16Shuffle { lanes } => {
                let (a, b) = self.pop_vectors(I8X16);
                self.shuffle(a, b, lanes);
            }

            O::I8x16Bitmask => self.vector_unary(I8X16, |ins, a| ins.vhigh_bits(I32, a)),
            O::I16x8Bitmask => self.vector_unary(I16X8, |ins, a| ins.vhigh_bits(I32, a)),
            O::I32x4Bitmask => self.vector_unary(I32X4, |ins, a| ins.vhigh_bits(I32, a)),
            O::I64x2Bitmask => self.vector_unary(I64X2, |ins, a| ins.vhigh_bits(I32, a)),
            O::I8x16AllTrue => self.vector_unary(I8X16, |ins, a| ins.vall_true(a)),
            O::I16x8AllTrue => self.vector_unary(I16X8, |ins, a| ins.vall_true(a)),
            O::I32x4AllTrue => self.vector_unary(I32X4, |ins, a| ins.vall_true(a)),
            O::I64x2AllTrue => self.vector_unary(I64X2, |ins, a| ins.vall_true(a)),
            _ => return false,
        }
        true
    }

    fn shuffle(&mut self, a: Value, b: Value, lanes: [u8; 16]) {
        let mask = self.b.func.dfg.immediates.push(lanes[..].into());
        let value = self.b.ins().shuffle(a, b, mask);
        self.push(value);
    }

    /// `i8x16.swizzle`. One by a constant is a shuffle, for which there may be a shorter instruction,
    /// or at least needs nothing done to its constant while it runs.
    fn swizzle(&mut self) {
        let (vector, lanes) = self.pop_vectors(types::I8X16);
        let Some(lanes) = self.constant_bytes(lanes) else {
            let value = self.b.ins().swizzle(vector, lanes);
            return self.push(value);
        };
        if lanes.iter().all(|&lane| lane < 16) {
            return self.shuffle(vector, vector, lanes);
        }
        // A lane with the highest bit gives zero.
        let lanes = lanes.map(|lane| if lane < 16 { lane } else { 0x80 });
        let lanes = self.v128_const(lanes);
        let value = self.b.ins().x86_pshufb(vector, lanes);
        self.push(value);
    }

    /// The bytes of a vector that is a constant.
    fn constant_bytes(&self, value: Value) -> Option<[u8; 16]> {
        let dfg = &self.b.func.dfg;
        let inst = dfg.value_def(value).inst()?;
        match dfg.insts[inst] {
            InstructionData::UnaryConst {
                opcode: Opcode::Vconst,
                constant_handle,
            } => dfg
                .constants
                .get(constant_handle)
                .as_slice()
                .try_into()
                .ok(),
            _ => None,
        }
    }

    /// Pops a scalar that is to become a lane: of narrow lanes only the low part counts.
    fn pop_scalar(&mut self, lanes: Type) -> Value {
        let scalar = self.pop();
        let lane = lanes.lane_type();
        if self.b.func.dfg.value_type(scalar) == lane {
            scalar
        } else {
            self.b.ins().ireduce(lane, scalar)
        }
    }

    fn splat(&mut self, lanes: Type) {
        let scalar = self.pop_scalar(lanes);
        let value = self.b.ins().splat(lanes, scalar);
        self.push(value);
    }

    fn replace(&mut self, lanes: Type, lane: u8) {
        let scalar = self.pop_scalar(lanes);
        self.vector_unary(lanes, |ins, a| ins.insertlane(a, scalar, lane));
    }

    fn extract(&mut self, lanes: Type, lane: u8) {
        self.vector_unary(lanes, |ins, a| ins.extractlane(a, lane));
    }

    fn extract_signed(&mut self, lanes: Type, lane: u8) {
        let vector = self.pop_vector(lanes);
        let part = self.b.ins().extractlane(vector, lane);
        let value = self.b.ins().sextend(types::I32, part);
        self.push(value);
    }

    fn extract_unsigned(&mut self, lanes: Type, lane: u8) {
        let vector = self.pop_vector(lanes);
        let part = self.b.ins().extractlane(vector, lane);
        let value = self.b.ins().uextend(types::I32, part);
        self.push(value);
    }
}
