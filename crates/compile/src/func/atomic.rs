//! Atomic loads, stores, exchanges and fences; waiting and notifying.
//!
//! Every access is sequentially consistent. Its address must be a multiple of its length, on shared
//! memories and others alike, and is looked at before the bounds. What is narrower than its operand is
//! wrapped on the way to memory and zero-extended on the way back.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AtomicRmwOp, InstBuilder, MemFlagsData, Type, Value, types};
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::traps::TrapCode;
use wasmparser::{MemArg, Operator};

use super::Translation;
use super::bounds::accessed_memory;
use crate::env::{POINTER, trap_code};
use crate::error::Error;

/// An address beyond every memory, and a multiple of every length of an access.
const NOWHERE: i64 = -8;

impl Translation<'_, '_> {
    pub(super) fn atomic(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        use AtomicRmwOp as R;
        use Operator as O;
        use types::{I8, I16, I32, I64};
        match op {
            O::I32AtomicLoad { memarg } => self.atomic_load(memarg, I32, I32, offset)?,
            O::I32AtomicLoad8U { memarg } => self.atomic_load(memarg, I8, I32, offset)?,
            O::I32AtomicLoad16U { memarg } => self.atomic_load(memarg, I16, I32, offset)?,
            O::I64AtomicLoad { memarg } => self.atomic_load(memarg, I64, I64, offset)?,
            O::I64AtomicLoad8U { memarg } => self.atomic_load(memarg, I8, I64, offset)?,
            O::I64AtomicLoad16U { memarg } => self.atomic_load(memarg, I16, I64, offset)?,
            O::I64AtomicLoad32U { memarg } => self.atomic_load(memarg, I32, I64, offset)?,
            O::I32AtomicStore8 { memarg } | O::I64AtomicStore8 { memarg } => {
                self.atomic_store(memarg, I8, offset)?;
            }
            O::I32AtomicStore16 { memarg } | O::I64AtomicStore16 { memarg } => {
                self.atomic_store(memarg, I16, offset)?;
            }
            O::I32AtomicStore { memarg } | O::I64AtomicStore32 { memarg } => {
                self.atomic_store(memarg, I32, offset)?;
            }
            O::I64AtomicStore { memarg } => self.atomic_store(memarg, I64, offset)?,

            O::I32AtomicRmwAdd { memarg } => self.rmw(memarg, R::Add, I32, offset)?,
            O::I64AtomicRmwAdd { memarg } => self.rmw(memarg, R::Add, I64, offset)?,
            O::I32AtomicRmw8AddU { memarg } | O::I64AtomicRmw8AddU { memarg } => {
                self.rmw(memarg, R::Add, I8, offset)?;
            }
            O::I32AtomicRmw16AddU { memarg } | O::I64AtomicRmw16AddU { memarg } => {
                self.rmw(memarg, R::Add, I16, offset)?;
            }
            O::I64AtomicRmw32AddU { memarg } => self.rmw(memarg, R::Add, I32, offset)?,
            O::I32AtomicRmwSub { memarg } => self.rmw(memarg, R::Sub, I32, offset)?,
            O::I64AtomicRmwSub { memarg } => self.rmw(memarg, R::Sub, I64, offset)?,
            O::I32AtomicRmw8SubU { memarg } | O::I64AtomicRmw8SubU { memarg } => {
                self.rmw(memarg, R::Sub, I8, offset)?;
            }
            O::I32AtomicRmw16SubU { memarg } | O::I64AtomicRmw16SubU { memarg } => {
                self.rmw(memarg, R::Sub, I16, offset)?;
            }
            O::I64AtomicRmw32SubU { memarg } => self.rmw(memarg, R::Sub, I32, offset)?,
            O::I32AtomicRmwAnd { memarg } => self.rmw(memarg, R::And, I32, offset)?,
            O::I64AtomicRmwAnd { memarg } => self.rmw(memarg, R::And, I64, offset)?,
            O::I32AtomicRmw8AndU { memarg } | O::I64AtomicRmw8AndU { memarg } => {
                self.rmw(memarg, R::And, I8, offset)?;
            }
            O::I32AtomicRmw16AndU { memarg } | O::I64AtomicRmw16AndU { memarg } => {
                self.rmw(memarg, R::And, I16, offset)?;
            }
            O::I64AtomicRmw32AndU { memarg } => self.rmw(memarg, R::And, I32, offset)?,
            O::I32AtomicRmwOr { memarg } => self.rmw(memarg, R::Or, I32, offset)?,
            O::I64AtomicRmwOr { memarg } => self.rmw(memarg, R::Or, I64, offset)?,
            O::I32AtomicRmw8OrU { memarg } | O::I64AtomicRmw8OrU { memarg } => {
                self.rmw(memarg, R::Or, I8, offset)?;
            }
            O::I32AtomicRmw16OrU { memarg } | O::I64AtomicRmw16OrU { memarg } => {
                self.rmw(memarg, R::Or, I16, offset)?;
            }
            O::I64AtomicRmw32OrU { memarg } => self.rmw(memarg, R::Or, I32, offset)?,
            O::I32AtomicRmwXor { memarg } => self.rmw(memarg, R::Xor, I32, offset)?,
            O::I64AtomicRmwXor { memarg } => self.rmw(memarg, R::Xor, I64, offset)?,
            O::I32AtomicRmw8XorU { memarg } | O::I64AtomicRmw8XorU { memarg } => {
                self.rmw(memarg, R::Xor, I8, offset)?;
            }
            O::I32AtomicRmw16XorU { memarg } | O::I64AtomicRmw16XorU { memarg } => {
                self.rmw(memarg, R::Xor, I16, offset)?;
            }
            O::I64AtomicRmw32XorU { memarg } => self.rmw(memarg, R::Xor, I32, offset)?,
            O::I32AtomicRmwXchg { memarg } => self.rmw(memarg, R::Xchg, I32, offset)?,
            O::I64AtomicRmwXchg { memarg } => self.rmw(memarg, R::Xchg, I64, offset)?,
            O::I32AtomicRmw8XchgU { memarg } | O::I64AtomicRmw8XchgU { memarg } => {
                self.rmw(memarg, R::Xchg, I8, offset)?;
            }
            O::I32AtomicRmw16XchgU { memarg } | O::I64AtomicRmw16XchgU { memarg } => {
                self.rmw(memarg, R::Xchg, I16, offset)?;
            }
            O::I64AtomicRmw32XchgU { memarg } => self.rmw(memarg, R::Xchg, I32, offset)?,

            O::I32AtomicRmwCmpxchg { memarg } => self.cmpxchg(memarg, I32, offset)?,
            O::I64AtomicRmwCmpxchg { memarg } => self.cmpxchg(memarg, I64, offset)?,
            O::I32AtomicRmw8CmpxchgU { memarg } | O::I64AtomicRmw8CmpxchgU { memarg } => {
                self.cmpxchg(memarg, I8, offset)?;
            }
            O::I32AtomicRmw16CmpxchgU { memarg } | O::I64AtomicRmw16CmpxchgU { memarg } => {
                self.cmpxchg(memarg, I16, offset)?;
            }
            O::I64AtomicRmw32CmpxchgU { memarg } => self.cmpxchg(memarg, I32, offset)?,

            O::AtomicFence { .. } => {
                self.b.ins().fence();
            }
            O::MemoryAtomicNotify { memarg } => {
                let count = self.pop();
                let (memory, addr) = self.waiting_place(memarg, offset)?;
                self.call_for_i32(Builtin::AtomicNotify, &[memory, addr, count]);
            }
            O::MemoryAtomicWait32 { memarg } => {
                self.wait(memarg, Builtin::AtomicWait32, offset)?;
            }
            O::MemoryAtomicWait64 { memarg } => {
                self.wait(memarg, Builtin::AtomicWait64, offset)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn atomic_load(
        &mut self,
        arg: &MemArg,
        access: Type,
        result: Type,
        offset: u64,
    ) -> Result<(), Error> {
        let (addr, flags) = self.aligned_place(arg, access, offset)?;
        let value = self.b.ins().atomic_load(access, flags, addr);
        self.push_widened(value, result);
        Ok(())
    }

    fn atomic_store(&mut self, arg: &MemArg, access: Type, offset: u64) -> Result<(), Error> {
        let value = self.pop();
        let value = self.wrapped(value, access);
        let (addr, flags) = self.aligned_place(arg, access, offset)?;
        // An exchange orders as much as a store and a fence behind it, which is what x86-64 would take.
        let exchange = AtomicRmwOp::Xchg;
        self.b
            .ins()
            .atomic_rmw(access, flags, exchange, addr, value);
        Ok(())
    }

    fn rmw(
        &mut self,
        arg: &MemArg,
        op: AtomicRmwOp,
        access: Type,
        offset: u64,
    ) -> Result<(), Error> {
        let operand = self.pop();
        let result = self.b.func.dfg.value_type(operand);
        let operand = self.wrapped(operand, access);
        let (addr, flags) = self.aligned_place(arg, access, offset)?;
        let former = self.b.ins().atomic_rmw(access, flags, op, addr, operand);
        self.push_widened(former, result);
        Ok(())
    }

    fn cmpxchg(&mut self, arg: &MemArg, access: Type, offset: u64) -> Result<(), Error> {
        let (expected, replacement) = self.pop2();
        let result = self.b.func.dfg.value_type(expected);
        let expected = self.wrapped(expected, access);
        let replacement = self.wrapped(replacement, access);
        let (addr, flags) = self.aligned_place(arg, access, offset)?;
        let former = self.b.ins().atomic_cas(flags, addr, expected, replacement);
        self.push_widened(former, result);
        Ok(())
    }

    fn wait(&mut self, arg: &MemArg, builtin: Builtin, offset: u64) -> Result<(), Error> {
        let (expected, timeout) = self.pop2();
        let (memory, addr) = self.waiting_place(arg, offset)?;
        self.call_for_i32(builtin, &[memory, addr, expected, timeout]);
        Ok(())
    }

    fn call_for_i32(&mut self, builtin: Builtin, args: &[Value]) {
        let call = self.call_builtin(builtin, args);
        let result = self.b.inst_results(call)[0];
        self.push(result);
    }

    /// Pops the index of an atomic access, checks alignment and bounds, and makes its address. Atomic
    /// instructions have no room for a constant offset.
    fn aligned_place(
        &mut self,
        arg: &MemArg,
        access: Type,
        offset: u64,
    ) -> Result<(Value, MemFlagsData), Error> {
        let memory = accessed_memory(arg, offset)?;
        let index = self.pop_index_of(self.memory_is_64(memory.as_u32()));
        let len = access.bytes();
        if len > 1 {
            // Bases are multiples of 64 at least, and a sum that wraps is as aligned as its parts make it.
            let rest = arg.offset & u64::from(len - 1);
            let low = match rest {
                0 => index,
                rest => self.b.ins().iadd_imm_u(index, rest.cast_signed()),
            };
            let low = self.b.ins().band_imm_u(low, i64::from(len - 1));
            self.b
                .ins()
                .trapnz(low, trap_code(TrapCode::UnalignedAtomic));
        }
        let place = self.place_of(memory, index, arg.offset, len);
        let addr = match place.offset {
            0 => place.base,
            constant => self.b.ins().iadd_imm_u(place.base, i64::from(constant)),
        };
        Ok((addr, place.flags))
    }

    /// Pops the index of a libcall's address; the memory's number, and the sum of index and offset, which
    /// lies nowhere if it would wrap.
    fn waiting_place(&mut self, arg: &MemArg, offset: u64) -> Result<(Value, Value), Error> {
        let memory: MemoryIdx = accessed_memory(arg, offset)?;
        let is_64 = self.memory_is_64(memory.as_u32());
        let index = self.pop_index_of(is_64);
        let number = self.u32_const(memory.as_u32());
        if arg.offset == 0 {
            return Ok((number, index));
        }
        let constant = self.b.ins().iconst(POINTER, arg.offset.cast_signed());
        let addr = self.b.ins().iadd(index, constant);
        if !is_64 {
            return Ok((number, addr));
        }
        let wraps = self.b.ins().icmp(IntCC::UnsignedLessThan, addr, index);
        let nowhere = self.b.ins().iconst(POINTER, NOWHERE);
        Ok((number, self.b.ins().select(wraps, nowhere, addr)))
    }

    fn wrapped(&mut self, value: Value, access: Type) -> Value {
        if self.b.func.dfg.value_type(value) == access {
            return value;
        }
        self.b.ins().ireduce(access, value)
    }

    /// Pushes what memory held. An `i8` on the value stack would be taken for a comparison's result.
    fn push_widened(&mut self, value: Value, ty: Type) {
        let value = if self.b.func.dfg.value_type(value) == ty {
            value
        } else {
            self.b.ins().uextend(ty, value)
        };
        self.push(value);
    }
}
