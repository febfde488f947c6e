//! Loads and stores of every width, `memory.size`.
//!
//! Where an access goes is decided in `bounds`; growth and bulk operations are in `bulk`.

use cranelift_codegen::ir::{InstBuilder, Type, types};
use selvedge_artifact::ids::MemoryIdx;
use wasmparser::{MemArg, Operator};

use super::Translation;
use crate::error::Error;

/// How much of a value an access moves, and how a load fills the rest.
#[derive(Clone, Copy)]
enum Width {
    Whole,
    Signed8,
    Unsigned8,
    Signed16,
    Unsigned16,
    Signed32,
    Unsigned32,
}

impl Width {
    fn len(self, ty: Type) -> u32 {
        match self {
            Self::Whole => ty.bytes(),
            Self::Signed8 | Self::Unsigned8 => 1,
            Self::Signed16 | Self::Unsigned16 => 2,
            Self::Signed32 | Self::Unsigned32 => 4,
        }
    }
}

impl Translation<'_, '_> {
    pub(super) fn memory(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        use Operator as O;
        use types::{F32, F64, I32, I64};
        match op {
            O::I32Load { memarg } => self.load(memarg, I32, Width::Whole, offset)?,
            O::I64Load { memarg } => self.load(memarg, I64, Width::Whole, offset)?,
            O::F32Load { memarg } => self.load(memarg, F32, Width::Whole, offset)?,
            O::F64Load { memarg } => self.load(memarg, F64, Width::Whole, offset)?,
            O::I32Load8S { memarg } => self.load(memarg, I32, Width::Signed8, offset)?,
            O::I32Load8U { memarg } => self.load(memarg, I32, Width::Unsigned8, offset)?,
            O::I32Load16S { memarg } => self.load(memarg, I32, Width::Signed16, offset)?,
            O::I32Load16U { memarg } => self.load(memarg, I32, Width::Unsigned16, offset)?,
            O::I64Load8S { memarg } => self.load(memarg, I64, Width::Signed8, offset)?,
            O::I64Load8U { memarg } => self.load(memarg, I64, Width::Unsigned8, offset)?,
            O::I64Load16S { memarg } => self.load(memarg, I64, Width::Signed16, offset)?,
            O::I64Load16U { memarg } => self.load(memarg, I64, Width::Unsigned16, offset)?,
            O::I64Load32S { memarg } => self.load(memarg, I64, Width::Signed32, offset)?,
            O::I64Load32U { memarg } => self.load(memarg, I64, Width::Unsigned32, offset)?,
            O::I32Store { memarg }
            | O::I64Store { memarg }
            | O::F32Store { memarg }
            | O::F64Store { memarg } => self.store(memarg, Width::Whole, offset)?,
            O::I32Store8 { memarg } | O::I64Store8 { memarg } => {
                self.store(memarg, Width::Unsigned8, offset)?;
            }
            O::I32Store16 { memarg } | O::I64Store16 { memarg } => {
                self.store(memarg, Width::Unsigned16, offset)?;
            }
            O::I64Store32 { memarg } => self.store(memarg, Width::Unsigned32, offset)?,
            O::MemorySize { mem } => {
                let ty = self.env.info.memories[*mem as usize];
                let len = self.memory_len(MemoryIdx::new(*mem));
                let pages = self.b.ins().ushr_imm_u(len, i64::from(ty.page_len_log2));
                let pages = match ty.is_64 {
                    true => pages,
                    false => self.b.ins().ireduce(I32, pages),
                };
                self.push(pages);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn load(&mut self, arg: &MemArg, ty: Type, width: Width, offset: u64) -> Result<(), Error> {
        let place = self.place(arg, width.len(ty), offset)?;
        let (flags, addr, constant) = (place.flags, place.base, place.offset);
        let ins = self.b.ins();
        let value = match width {
            Width::Whole => ins.load(ty, flags, addr, constant),
            Width::Signed8 => ins.sload8(ty, flags, addr, constant),
            Width::Unsigned8 => ins.uload8(ty, flags, addr, constant),
            Width::Signed16 => ins.sload16(ty, flags, addr, constant),
            Width::Unsigned16 => ins.uload16(ty, flags, addr, constant),
            Width::Signed32 => ins.sload32(flags, addr, constant),
            Width::Unsigned32 => ins.uload32(flags, addr, constant),
        };
        self.push(value);
        Ok(())
    }

    fn store(&mut self, arg: &MemArg, width: Width, offset: u64) -> Result<(), Error> {
        let value = self.pop();
        let len = width.len(self.b.func.dfg.value_type(value));
        let place = self.place(arg, len, offset)?;
        let (flags, addr, constant) = (place.flags, place.base, place.offset);
        let ins = self.b.ins();
        match width {
            Width::Whole => ins.store(flags, value, addr, constant),
            Width::Signed8 | Width::Unsigned8 => ins.istore8(flags, value, addr, constant),
            Width::Signed16 | Width::Unsigned16 => ins.istore16(flags, value, addr, constant),
            Width::Signed32 | Width::Unsigned32 => ins.istore32(flags, value, addr, constant),
        };
        Ok(())
    }
}
