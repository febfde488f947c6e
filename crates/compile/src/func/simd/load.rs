//! Loads and stores of vectors, and of single lanes.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FuncInstBuilder;
use wasmparser::{MemArg, Operator};

use crate::env::V128;
use crate::error::Error;
use crate::func::Translation;

/// Bytes of a vector.
const VECTOR_LEN: u32 = 16;
/// Bytes that a load that widens its lanes reads.
const HALF_LEN: u32 = 8;

impl Translation<'_, '_> {
    pub(super) fn vector_load(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        use Operator as O;
        use types::{I8X16, I16X8, I32X4, I64X2};
        match op {
            O::V128Load { memarg } => {
                let place = self.place(memarg, VECTOR_LEN, offset)?;
                let value = self
                    .b
                    .ins()
                    .load(V128, place.flags, place.base, place.offset);
                self.fresh_load = Some(value);
                self.push(value);
            }
            O::V128Store { memarg } => {
                // Whatever lanes it has: the bytes are the same.
                let value = self.pop_condition();
                let place = self.place(memarg, VECTOR_LEN, offset)?;
                self.b
                    .ins()
                    .store(place.flags, value, place.base, place.offset);
            }

            O::V128Load8x8S { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.sload8x8(f, p, at))?;
            }
            O::V128Load8x8U { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.uload8x8(f, p, at))?;
            }
            O::V128Load16x4S { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.sload16x4(f, p, at))?;
            }
            O::V128Load16x4U { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.uload16x4(f, p, at))?;
            }
            O::V128Load32x2S { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.sload32x2(f, p, at))?;
            }
            O::V128Load32x2U { memarg } => {
                self.load_wider(memarg, offset, |ins, f, p, at| ins.uload32x2(f, p, at))?;
            }

            O::V128Load8Splat { memarg } => self.load_splat(memarg, I8X16, offset)?,
            O::V128Load16Splat { memarg } => self.load_splat(memarg, I16X8, offset)?,
            O::V128Load32Splat { memarg } => self.load_splat(memarg, I32X4, offset)?,
            O::V128Load64Splat { memarg } => self.load_splat(memarg, I64X2, offset)?,
            O::V128Load32Zero { memarg } => self.load_zero(memarg, I32X4, offset)?,
            O::V128Load64Zero { memarg } => self.load_zero(memarg, I64X2, offset)?,

            O::V128Load8Lane { memarg, lane } => self.load_lane(memarg, *lane, I8X16, offset)?,
            O::V128Load16Lane { memarg, lane } => self.load_lane(memarg, *lane, I16X8, offset)?,
            O::V128Load32Lane { memarg, lane } => self.load_lane(memarg, *lane, I32X4, offset)?,
            O::V128Load64Lane { memarg, lane } => self.load_lane(memarg, *lane, I64X2, offset)?,
            O::V128Store8Lane { memarg, lane } => self.store_lane(memarg, *lane, I8X16, offset)?,
            O::V128Store16Lane { memarg, lane } => self.store_lane(memarg, *lane, I16X8, offset)?,
            O::V128Store32Lane { memarg, lane } => self.store_lane(memarg, *lane, I32X4, offset)?,
            O::V128Store64Lane { memarg, lane } => self.store_lane(memarg, *lane, I64X2, offset)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Loads half a vector and doubles the width of its lanes.
    fn load_wider(
        &mut self,
        arg: &MemArg,
        offset: u64,
        load: impl FnOnce(FuncInstBuilder<'_, '_>, MemFlagsData, Value, i32) -> Value,
    ) -> Result<(), Error> {
        let place = self.place(arg, HALF_LEN, offset)?;
        let value = load(self.b.ins(), place.flags, place.base, place.offset);
        self.push(value);
        Ok(())
    }

    /// Loads the value of one lane.
    fn load_scalar(&mut self, arg: &MemArg, lanes: Type, offset: u64) -> Result<Value, Error> {
        let ty = lanes.lane_type();
        let place = self.place(arg, ty.bytes(), offset)?;
        let ins = self.b.ins();
        Ok(ins.load(ty, place.flags, place.base, place.offset))
    }

    fn load_splat(&mut self, arg: &MemArg, lanes: Type, offset: u64) -> Result<(), Error> {
        let scalar = self.load_scalar(arg, lanes, offset)?;
        let value = self.b.ins().splat(lanes, scalar);
        self.push(value);
        Ok(())
    }

    fn load_zero(&mut self, arg: &MemArg, lanes: Type, offset: u64) -> Result<(), Error> {
        let scalar = self.load_scalar(arg, lanes, offset)?;
        let value = self.b.ins().scalar_to_vector(lanes, scalar);
        self.push(value);
        Ok(())
    }

    fn load_lane(&mut self, arg: &MemArg, lane: u8, lanes: Type, offset: u64) -> Result<(), Error> {
        let vector = self.pop_vector(lanes);
        let scalar = self.load_scalar(arg, lanes, offset)?;
        let value = self.b.ins().insertlane(vector, scalar, lane);
        self.push(value);
        Ok(())
    }

    fn store_lane(
        &mut self,
        arg: &MemArg,
        lane: u8,
        lanes: Type,
        offset: u64,
    ) -> Result<(), Error> {
        let vector = self.pop_vector(lanes);
        let place = self.place(arg, lanes.lane_type().bytes(), offset)?;
        let scalar = self.b.ins().extractlane(vector, lane);
        let ins = self.b.ins();
        ins.store(place.flags, scalar, place.base, place.offset);
        Ok(())
    }
}
