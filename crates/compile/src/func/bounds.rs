//! Where a memory access goes, and when it needs a check.
//!
//! A 32-bit index reaches at most 4 GiB beyond the base. As long as that, the constant offset and the
//! access itself stay within reservation and guard, the hardware does the check. Other accesses compare with
//! the length first, and so do all to memories with 64-bit addresses or pages of another length, and all
//! there are with the tunable `explicit_bounds`. The address they use is null where the comparison fails, so
//! that a mispredicted branch reads nothing. A libcall on the cold path tells where it would have gone.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::ids::MemoryIdx;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::vmfields::vm_memory_definition;
use wasmparser::{MemArg, MemArgTarget};

use super::Translation;
use crate::env::{POINTER, Region, heap_flags, trap_code};
use crate::error::Error;

/// Where an access goes.
pub(super) struct Place {
    pub base: Value,
    pub offset: i32,
    pub flags: MemFlagsData,
}

/// The memory that an instruction names.
pub(super) fn accessed_memory(arg: &MemArg, offset: u64) -> Result<MemoryIdx, Error> {
    match arg.target {
        MemArgTarget::Memory(memory) => Ok(MemoryIdx::new(memory)),
        _ => Err(Error::unsupported(
            "an access to a garbage-collected array",
            offset,
        )),
    }
}

impl Translation<'_, '_> {
    /// Pops the index of an access of `len` bytes and makes its address.
    pub(super) fn place(&mut self, arg: &MemArg, len: u32, offset: u64) -> Result<Place, Error> {
        let memory = accessed_memory(arg, offset)?;
        let index = self.pop_index_of(self.env.info.memories[memory.index()].is_64);
        Ok(self.place_of(memory, index, arg.offset, len))
    }

    /// The address of an access of `len` bytes.
    pub(super) fn place_of(
        &mut self,
        memory: MemoryIdx,
        index: Value,
        constant: u64,
        len: u32,
    ) -> Place {
        let ty = self.env.info.memories[memory.index()];
        let base = self.memory_base(memory);
        let flags = heap_flags(self.b.func);
        match i32::try_from(constant) {
            Ok(offset) if ty.is_guarded() && self.guarded(constant, len) => {
                let base = self.b.ins().iadd(base, index);
                Place {
                    base,
                    offset,
                    flags,
                }
            }
            _ => {
                let base = self.checked_address(memory, base, index, constant, len);
                Place {
                    base,
                    offset: 0,
                    flags,
                }
            }
        }
    }

    /// Whether reservation and guard catch every access of `len` bytes at this constant offset.
    fn guarded(&self, constant: u64, len: u32) -> bool {
        let tunables = self.env.tunables;
        if tunables.explicit_bounds {
            return false;
        }
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
        let ty = self.env.info.memories[memory.index()];
        let size = constant.saturating_add(len.into());
        let memory_len = self.memory_len(memory);
        let beyond = IntCC::UnsignedGreaterThan;
        let outside = if ty.is_64 {
            // An access is inside if its index is not beyond the last that is. That one is found by
            // a difference, which cannot wrap once the memory is known to be as long as the access.
            let size_value = self.b.ins().iconst(types::I64, size.cast_signed());
            let last = self.b.ins().isub(memory_len, size_value);
            let outside = self.b.ins().icmp(beyond, index, last);
            if size > ty.min_len() {
                let short = self.b.ins().icmp(beyond, size_value, memory_len);
                self.b.ins().bor(outside, short)
            } else {
                outside
            }
        } else {
            // Index and constant have 32 bits, so the end can't wrap.
            let end = self.add_const(index, size);
            self.b.ins().icmp(beyond, end, memory_len)
        };
        self.trap_if_outside(outside, memory, index, constant);
        let start = self.add_const(index, constant);
        let addr = self.b.ins().iadd(base, start);
        let null = self.b.ins().iconst(POINTER, 0);
        self.b.ins().select_spectre_guard(outside, null, addr)
    }

    /// Traps if an access is outside, and tells the runtime where it would have gone.
    fn trap_if_outside(&mut self, outside: Value, memory: MemoryIdx, index: Value, constant: u64) {
        let (cold, inside) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(outside, cold, [], inside, []);
        self.b.set_cold_block(cold);
        self.b.seal_block(cold);
        self.b.switch_to_block(cold);
        self.charge_before_trapping();
        let memory = self.u32_const(memory.as_u32());
        let constant = self.b.ins().iconst(types::I64, constant.cast_signed());
        self.call_builtin(Builtin::MemoryOutOfBounds, &[memory, index, constant]);
        // The builtin does not return.
        self.b.ins().trap(trap_code(TrapCode::HeapOutOfBounds));
        self.b.seal_block(inside);
        self.b.switch_to_block(inside);
    }

    fn add_const(&mut self, value: Value, constant: u64) -> Value {
        let constant = self.b.ins().iconst(types::I64, constant.cast_signed());
        self.b.ins().iadd(value, constant)
    }

    /// The address of byte 0. It never changes: memories grow in place.
    fn memory_base(&mut self, memory: MemoryIdx) -> Value {
        if memory.index() == 0 && self.env.info.owns_memory0() {
            return self.vmctx;
        }
        let (definition, offset) = self.memory_definition(memory);
        let offset = offset + vm_memory_definition::OFFSETS.base.cast_signed();
        let flags = Region::Context.constant(self.b.func);
        self.b.ins().load(POINTER, flags, definition, offset)
    }

    /// The accessible bytes. Those of a shared memory are a word that other threads may change.
    pub(super) fn memory_len(&mut self, memory: MemoryIdx) -> Value {
        let (definition, offset) = self.memory_definition(memory);
        let offset = offset + vm_memory_definition::OFFSETS.len.cast_signed();
        if self.env.info.memories[memory.index()].shared {
            let at = match self.env.offsets.memory(memory) {
                Some(_) => {
                    let flags = Region::Context.constant(self.b.func);
                    let shared = self.b.ins().load(POINTER, flags, definition, offset);
                    let offset = i64::from(vm_memory_definition::OFFSETS.len);
                    self.b.ins().iadd_imm_u(shared, offset)
                }
                None => self.b.ins().iadd_imm_u(definition, i64::from(offset)),
            };
            let flags = Region::Context.trusted(self.b.func);
            return self.b.ins().atomic_load(types::I64, flags, at);
        }
        let flags = Region::Context.trusted(self.b.func);
        self.b.ins().load(types::I64, flags, definition, offset)
    }

    /// Where the `VMMemoryDefinition` stands: a pointer and an offset from it.
    fn memory_definition(&mut self, memory: MemoryIdx) -> (Value, i32) {
        match self.env.offsets.memory(memory) {
            Some(offset) => (self.vmctx, offset),
            None => {
                let pointer = self.env.offsets.imported_memory(memory);
                (self.context_pointer(pointer), 0)
            }
        }
    }
}
