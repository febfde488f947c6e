//! Lanes by themselves: splats, single lanes taken out and put in, shuffles.

use cranelift_codegen::ir::{ConstantData, InstBuilder, Type, Value, types};
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

            O::I8x16Swizzle => self.vector_binary(I8X16, |ins, a, b| ins.swizzle(a, b)),
            O::I8x16Shuffle { lanes } => {
                let mask = ConstantData::from(&lanes[..]);
                let mask = self.b.func.dfg.immediates.push(mask);
                self.vector_binary(I8X16, |ins, a, b| ins.shuffle(a, b, mask));
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
