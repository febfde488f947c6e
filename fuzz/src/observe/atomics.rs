//! Keeps atomic instructions within bounds: waits end by themselves, since nobody notifies, and most
//! addresses are small multiples of eight. The generator's addresses are anything, and nearly all would trap.

use std::convert::Infallible;

use anyhow::Result;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{Encode, Instruction, MemArg, ValType};
use wasmparser::{FuncValidator, Operator, WasmModuleResources};

use super::Scratch;

/// Nanoseconds that a wait may last at most, as a mask.
const LONGEST_WAIT: i64 = 0xfff;
/// What is left of an address and of a constant offset: both together lie in the first page.
const KEPT: u32 = 0x3ff8;

/// Shortens the time-out on top if the instruction waits.
pub(super) fn bound_wait(code: &mut Vec<u8>, op: &Operator<'_>) {
    use Operator as O;
    if matches!(
        op,
        O::MemoryAtomicWait32 { .. } | O::MemoryAtomicWait64 { .. }
    ) {
        // No time-out is negative then, which would be none.
        Instruction::I64Const(LONGEST_WAIT).encode(code);
        Instruction::I64And.encode(code);
    }
}

/// The types of what an atomic access takes, from the top to the address, as it is about to be validated;
/// `None` if it is none, or can't be reached.
pub(super) fn operands(
    validator: &FuncValidator<impl WasmModuleResources>,
    op: &Operator<'_>,
) -> Option<Vec<ValType>> {
    let name = format!("{op:?}");
    let name = name.split(' ').next()?;
    if !name.contains("Atomic") || name == "AtomicFence" {
        return None;
    }
    let above = if name.contains("Load") {
        0
    } else if name.contains("Cmpxchg") || name.contains("Wait") {
        2
    } else {
        1
    };
    let frame = validator.get_control_frame(0)?;
    if frame.unreachable || (validator.operand_stack_height() as usize) < frame.height + above + 1 {
        return None;
    }
    let types = (0..=above).map(|depth| match validator.get_operand_type(depth)?? {
        wasmparser::ValType::I32 => Some(ValType::I32),
        wasmparser::ValType::I64 => Some(ValType::I64),
        _ => None,
    });
    types.collect()
}

/// An atomic access, with its address and its constant offset made small multiples of eight.
pub(super) fn tame(
    code: &mut Vec<u8>,
    op: &Operator<'_>,
    operands: &[ValType],
    scratch: &mut Scratch,
) -> Result<()> {
    use Instruction as I;
    let Some((address, above)) = operands.split_last() else {
        return Ok(());
    };
    let places: Vec<u32> = (0..)
        .zip(above)
        .map(|(number, &ty)| scratch.nth(ty, number))
        .collect();
    let mut put = |instruction: I<'_>| instruction.encode(code);
    for &place in &places {
        put(I::LocalSet(place));
    }
    match address {
        ValType::I32 => {
            put(I::I32Const(KEPT.cast_signed()));
            put(I::I32And);
        }
        _ => {
            put(I::I64Const(KEPT.into()));
            put(I::I64And);
        }
    }
    for &place in places.iter().rev() {
        put(I::LocalGet(place));
    }
    bound_wait(code, op);
    Near.instruction(op.clone())?.encode(code);
    Ok(())
}

/// Writes instructions with small constant offsets.
struct Near;

impl Reencode for Near {
    type Error = Infallible;

    fn mem_arg(
        &mut self,
        arg: wasmparser::MemArg,
    ) -> Result<MemArg, wasm_encoder::reencode::Error<Infallible>> {
        let mut near = RoundtripReencoder.mem_arg(arg)?;
        near.offset &= u64::from(KEPT);
        Ok(near)
    }
}
