//! Where a memory access goes, and when it needs a check.
//!
//! A 32-bit index reaches at most 4 GiB beyond the base. As long as that, the constant offset and the
//! access itself stay within reservation and guard, the hardware does the check. Other accesses
//! compare with the length first, and the address they use is null where the comparison fails,
//! so that a mispredicted branch reads nothing.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::vmfields::{vm_context_header, vm_memory_definition};
use selvedge_artifact::vmoffsets::VMOffsets;
use wasmparser::{MemArg, MemArgTarget};

use super::Translation;
use crate::env::{POINTER, Region, heap_flags};
use crate::error::Error;

/// Where an access goes.
pub(super) struct Place {
    pub base: Value,
    pub offset: i32,
    pub flags: MemFlagsData,
}

impl Translation<'_, '_> {
    /// Pops the index of an access of `len` bytes and makes its address.
    pub(super) fn place(&mut self, arg: &MemArg, len: u32, offset: u64) -> Result<Place, Error> {
        let MemArgTarget::Memory(memory) = arg.target else {
            return Err(Error::unsupported(
                "an access to a garbage-collected array",
                offset,
            ));
        };
        let memory = self.memory_idx(memory, offset)?;
        let index = self.pop_index();
        let base = self.memory_base(memory);
        let flags = heap_flags(self.b.func);
        match i32::try_from(arg.offset) {
            Ok(constant) if self.guarded(arg.offset, len) => {
                let base = self.b.ins().iadd(base, index);
                Ok(Place {
                    base,
                    offset: constant,
                    flags,
                })
            }
            _ => {
                let base = self.checked_address(memory, base, index, arg.offset, len);
                Ok(Place {
                    base,
                    offset: 0,
                    flags,
                })
            }
        }
    }

    /// Whether reservation and guard catch every access of `len` bytes at this constant offset.
    fn guarded(&self, constant: u64, len: u32) -> bool {
        let tunables = self.env.tunables;
        let end = u64::from(u32::MAX)
            .checked_add(constant)
            .and_then(|e| e.checked_add(len.into()));
        let mapped = tunables
            .memory_reservation_len
            .saturating_add(tunables.memory_guard_len);
        end.is_some_and(|end| end <= mapped)
    }

    fn checked_address(
        &mut self,
        memory: MemoryIdx,
        base: Value,
        index: Value,
        constant: u64,
        len: u32,
    ) -> Value {
        // Index and constant are below 2^32, so no sum here wraps.
        let memory_len = self.memory_len(memory);
        let start = self.add_const(index, constant);
        let end = self.add_const(start, len.into());
        let outside = self
            .b
            .ins()
            .icmp(IntCC::UnsignedGreaterThan, end, memory_len);
        self.trap_if(outside, TrapCode::HeapOutOfBounds);
        let addr = self.b.ins().iadd(base, start);
        let null = self.b.ins().iconst(POINTER, 0);
        self.b.ins().select_spectre_guard(outside, null, addr)
    }

    fn add_const(&mut self, value: Value, constant: u64) -> Value {
        let constant = self.b.ins().iconst(types::I64, constant.cast_signed());
        self.b.ins().iadd(value, constant)
    }

    /// Checks that a memory is one that an instance can reach: an imported one, or memory 0.
    pub(super) fn memory_idx(&self, memory: u32, offset: u64) -> Result<MemoryIdx, Error> {
        if memory < self.env.info.imported.memories || memory == 0 {
            Ok(MemoryIdx::new(memory))
        } else {
            Err(Error::unsupported("more than one memory", offset))
        }
    }

    fn is_own(&self, memory: MemoryIdx) -> bool {
        memory.as_u32() >= self.env.info.imported.memories
    }

    /// The address of byte 0.
    fn memory_base(&mut self, memory: MemoryIdx) -> Value {
        if self.is_own(memory) {
            return self.vmctx;
        }
        let definition = self.context_pointer(self.env.offsets.imported_memory(memory));
        let flags = Region::Context.trusted(self.b.func);
        let offset = vm_memory_definition::OFFSETS.base.cast_signed();
        self.b.ins().load(POINTER, flags, definition, offset)
    }

    /// The accessible bytes.
    pub(super) fn memory_len(&mut self, memory: MemoryIdx) -> Value {
        let (base, offset) = if self.is_own(memory) {
            (
                self.vmctx,
                VMOffsets::header(vm_context_header::OFFSETS.memory0_len),
            )
        } else {
            let definition = self.context_pointer(self.env.offsets.imported_memory(memory));
            (definition, vm_memory_definition::OFFSETS.len.cast_signed())
        };
        let flags = Region::Context.trusted(self.b.func);
        self.b.ins().load(types::I64, flags, base, offset)
    }
}
