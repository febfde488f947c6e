//! Keeps atomic instructions within bounds: waits end by themselves, since nobody notifies, and most
//! addresses are small multiples of eight: the generator's are anything, and nearly all would trap. It also
//! makes few but loads and fences, so plain accesses become atomic ones of all kinds.

use std::convert::Infallible;

use anyhow::Result;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{Encode, Instruction, MemArg, ValType};
use wasmparser::{FuncValidator, Operator, WasmModuleResources};

use super::Scratch;
use crate::random::Random;

/// Nanoseconds that a wait may last at most, as a mask.
const LONGEST_WAIT: i64 = 0xfff;
/// What is left of an address and of a constant offset: both together lie in the first page.
const KEPT: u32 = 0x3ff8;

/// An atomic instruction, and log2 of the bytes that it accesses.
type Access = (fn(MemArg) -> Instruction<'static>, u32);

macro_rules! accesses {
    ($($align:literal: $($name:ident)*;)*) => {
        &[$($((Instruction::$name, $align)),*),*]
    };
}

/// The atomic accesses for a type: loads, exchanges of one operand, exchanges of two, stores.
struct Accesses {
    loads: &'static [Access],
    rmws: &'static [Access],
    cmpxchgs: &'static [Access],
    stores: &'static [Access],
}

const OF_I32: Accesses = Accesses {
    loads: accesses! {
        2: I32AtomicLoad;
        0: I32AtomicLoad8U;
        1: I32AtomicLoad16U;
    },
    rmws: accesses! {
        2: I32AtomicRmwAdd I32AtomicRmwSub I32AtomicRmwAnd I32AtomicRmwOr I32AtomicRmwXor I32AtomicRmwXchg;
        0: I32AtomicRmw8AddU I32AtomicRmw8SubU I32AtomicRmw8AndU I32AtomicRmw8OrU I32AtomicRmw8XorU I32AtomicRmw8XchgU;
        1: I32AtomicRmw16AddU I32AtomicRmw16SubU I32AtomicRmw16AndU I32AtomicRmw16OrU I32AtomicRmw16XorU I32AtomicRmw16XchgU;
    },
    cmpxchgs: accesses! {
        2: I32AtomicRmwCmpxchg;
        0: I32AtomicRmw8CmpxchgU;
        1: I32AtomicRmw16CmpxchgU;
    },
    stores: accesses! {
        2: I32AtomicStore;
        0: I32AtomicStore8;
        1: I32AtomicStore16;
    },
};

const OF_I64: Accesses = Accesses {
    loads: accesses! {
        3: I64AtomicLoad;
        0: I64AtomicLoad8U;
        1: I64AtomicLoad16U;
        2: I64AtomicLoad32U;
    },
    rmws: accesses! {
        3: I64AtomicRmwAdd I64AtomicRmwSub I64AtomicRmwAnd I64AtomicRmwOr I64AtomicRmwXor I64AtomicRmwXchg;
        0: I64AtomicRmw8AddU I64AtomicRmw8SubU I64AtomicRmw8AndU I64AtomicRmw8OrU I64AtomicRmw8XorU I64AtomicRmw8XchgU;
        1: I64AtomicRmw16AddU I64AtomicRmw16SubU I64AtomicRmw16AndU I64AtomicRmw16OrU I64AtomicRmw16XorU I64AtomicRmw16XchgU;
        2: I64AtomicRmw32AddU I64AtomicRmw32SubU I64AtomicRmw32AndU I64AtomicRmw32OrU I64AtomicRmw32XorU I64AtomicRmw32XchgU;
    },
    cmpxchgs: accesses! {
        3: I64AtomicRmwCmpxchg;
        0: I64AtomicRmw8CmpxchgU;
        1: I64AtomicRmw16CmpxchgU;
        2: I64AtomicRmw32CmpxchgU;
    },
    stores: accesses! {
        3: I64AtomicStore;
        0: I64AtomicStore8;
        1: I64AtomicStore16;
        2: I64AtomicStore32;
    },
};

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

/// The types of what an atomic access takes, or one that can become atomic, from the top to the address, as it
/// is about to be validated; `None` if it is none, or can't be reached.
pub(super) fn operands(
    validator: &FuncValidator<impl WasmModuleResources>,
    op: &Operator<'_>,
) -> Option<Vec<ValType>> {
    let name = format!("{op:?}");
    let name = name.split(' ').next()?;
    if !(is_plain(op) || name.contains("Atomic")) || name == "AtomicFence" {
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

/// Where a plain access of integers goes, and whether they are of 32 bits.
fn plain(op: &Operator<'_>) -> Option<(wasmparser::MemArg, bool)> {
    use Operator as O;
    match *op {
        O::I32Load { memarg }
        | O::I32Load8S { memarg }
        | O::I32Load8U { memarg }
        | O::I32Load16S { memarg }
        | O::I32Load16U { memarg }
        | O::I32Store { memarg }
        | O::I32Store8 { memarg }
        | O::I32Store16 { memarg } => Some((memarg, true)),
        O::I64Load { memarg }
        | O::I64Load8S { memarg }
        | O::I64Load8U { memarg }
        | O::I64Load16S { memarg }
        | O::I64Load16U { memarg }
        | O::I64Load32S { memarg }
        | O::I64Load32U { memarg }
        | O::I64Store { memarg }
        | O::I64Store8 { memarg }
        | O::I64Store16 { memarg }
        | O::I64Store32 { memarg } => Some((memarg, false)),
        _ => None,
    }
}

/// Whether an access of integers is not atomic.
pub(super) fn is_plain(op: &Operator<'_>) -> bool {
    plain(op).is_some()
}

/// An atomic access of the same type in place of a plain one.
pub(super) fn replace(
    code: &mut Vec<u8>,
    op: &Operator<'_>,
    operands: &[ValType],
    random: &mut Random,
    scratch: &mut Scratch,
) -> Result<()> {
    use Instruction as I;
    let Some((memarg, is_i32)) = plain(op) else {
        return Ok(());
    };
    let accesses = if is_i32 { &OF_I32 } else { &OF_I64 };
    let near = Near.mem_arg(memarg)?;
    let at = |align| MemArg { align, ..near };
    // What memory holds is zero at many places, so that comparisons hold, too.
    let mut bits = || random.pick(&[0, 0, 1, -1, 0x0102_0304_0506_0708_i64]);
    let (first, second) = (bits(), bits());
    let load = operands.len() == 1;
    place(code, operands, scratch);
    if !load {
        let (store, align) = random.pick(accesses.stores);
        store(at(align)).encode(code);
        return Ok(());
    }
    match random.below(if is_i32 { 16 } else { 12 }) {
        0..=1 => {
            let (load, align) = random.pick(accesses.loads);
            load(at(align)).encode(code);
        }
        2..=7 => {
            number(code, is_i32, first);
            let (rmw, align) = random.pick(accesses.rmws);
            rmw(at(align)).encode(code);
        }
        8..=11 => {
            number(code, is_i32, first);
            number(code, is_i32, second);
            let (cmpxchg, align) = random.pick(accesses.cmpxchgs);
            cmpxchg(at(align)).encode(code);
        }
        12..=13 => {
            number(code, true, first);
            I::MemoryAtomicNotify(at(2)).encode(code);
        }
        14 => {
            number(code, true, first);
            I::I64Const(LONGEST_WAIT).encode(code);
            I::MemoryAtomicWait32(at(2)).encode(code);
        }
        _ => {
            number(code, false, first);
            I::I64Const(LONGEST_WAIT).encode(code);
            I::MemoryAtomicWait64(at(3)).encode(code);
        }
    }
    Ok(())
}

fn number(code: &mut Vec<u8>, is_i32: bool, bits: i64) {
    match is_i32 {
        true => Instruction::I32Const(bits as i32).encode(code),
        false => Instruction::I64Const(bits).encode(code),
    }
}

/// An atomic access, with its address and its constant offset made small multiples of eight.
pub(super) fn tame(
    code: &mut Vec<u8>,
    op: &Operator<'_>,
    operands: &[ValType],
    scratch: &mut Scratch,
) -> Result<()> {
    place(code, operands, scratch);
    bound_wait(code, op);
    Near.instruction(op.clone())?.encode(code);
    Ok(())
}

/// Makes the address below some operands a small multiple of eight.
fn place(code: &mut Vec<u8>, operands: &[ValType], scratch: &mut Scratch) {
    use Instruction as I;
    let Some((address, above)) = operands.split_last() else {
        return;
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
