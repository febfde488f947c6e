//! Locals and globals.
//!
//! Locals are SSA variables of the function builder, which keeps a table of locals by blocks. A
//! function with very many of both would make that table, and the values that its branches carry,
//! grow with their product; the locals beyond a bound stand in the stack frame instead. Functions
//! that toolchains emit stay below it: with 1000 locals the bound is at 33 thousand branches.

use cranelift_codegen::ir::{self, InstBuilder, StackSlot, StackSlotData, StackSlotKind, Value};
use cranelift_frontend::Variable;
use selvedge_artifact::ids::GlobalIdx;
use selvedge_artifact::module::ConstOp;
use selvedge_artifact::types::ValType;
use wasmparser::{BinaryReader, FuncValidator, Operator, OperatorsReader, ValidatorResources};

use super::Translation;
use crate::env::{POINTER, Region, ir_type, val_type};
use crate::error::Error;

/// Locals times blocks up to which all locals are SSA variables.
const MAX_SSA_CELLS: u64 = 1 << 25;
/// Bytes that a local takes in the stack frame at least.
const SLOT_LEN: u32 = 8;
/// log2 of the alignment of locals in the stack frame: that of a vector.
const SLOTS_ALIGN_SHIFT: u8 = 4;

/// Where a local is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Local {
    /// An SSA variable.
    Variable(Variable),
    /// A place in the stack frame.
    Slot {
        slot: StackSlot,
        offset: i32,
        ty: ir::Type,
    },
}

/// Where a global is.
struct GlobalPlace {
    base: Value,
    offset: i32,
    flags: ir::MemFlagsData,
    ty: ir::Type,
}

impl Translation<'_, '_> {
    pub(super) fn variable(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::LocalGet { local_index } => {
                let value = self.read_local(local_index);
                self.push(value);
            }
            Operator::LocalSet { local_index } => {
                let value = self.pop();
                self.write_local(local_index, value);
            }
            Operator::LocalTee { local_index } => {
                let value = self.pop();
                self.write_local(local_index, value);
                self.push(value);
            }
            Operator::GlobalGet { global_index } => {
                let value = self.read_global(GlobalIdx::new(global_index));
                self.push(value);
            }
            Operator::GlobalSet { global_index } => {
                let value = self.pop();
                let place = self.global_place(GlobalIdx::new(global_index));
                self.b
                    .ins()
                    .store(place.flags, value, place.base, place.offset);
            }
            _ => return false,
        }
        true
    }

    /// Reads the declarations of locals and gives each its place and its first value. Validation
    /// bounds their number before anything is made for them.
    pub(super) fn declare_locals(
        &mut self,
        entry: ir::Block,
        param_types: &[ValType],
        reader: &mut BinaryReader<'_>,
        validator: &mut FuncValidator<ValidatorResources>,
    ) -> Result<(), Error> {
        let mut groups = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            let offset = reader.original_position();
            let count = reader.read()?;
            let ty: wasmparser::ValType = reader.read()?;
            validator.define_locals(offset, count, ty)?;
            let ty = val_type(ty)
                .ok_or_else(|| Error::unsupported(format!("a local of type {ty}"), offset))?;
            groups.push((count, ty));
        }
        let in_ssa = ssa_locals(validator.len_locals(), reader);
        let params: Vec<Value> = self.b.block_params(entry)[1..].to_vec();
        for (value, ty) in params.into_iter().zip(param_types) {
            self.declare(value, *ty);
            self.declare_local(in_ssa, *ty, value);
        }
        for (count, ty) in groups {
            let zero = self.zero(ty);
            for _ in 0..count {
                self.declare_local(in_ssa, ty, zero);
            }
        }
        Ok(())
    }

    fn declare_local(&mut self, in_ssa: usize, ty: ValType, value: Value) {
        let local = if self.locals.len() < in_ssa {
            let variable = self.b.declare_var(ir_type(ty));
            if ty.is_exn_ref() {
                self.b.declare_var_needs_stack_map(variable);
            }
            Local::Variable(variable)
        } else {
            self.declare_slot(ir_type(ty))
        };
        let index = self.locals.len() as u32;
        self.locals.push(local);
        self.write_local(index, value);
    }

    /// The place after that of the local before, if that is in the frame, too.
    fn declare_slot(&mut self, ty: ir::Type) -> Local {
        let len = ty.bytes().max(SLOT_LEN);
        if let Some(&Local::Slot { slot, .. }) = self.locals.last() {
            let data = &mut self.b.func.sized_stack_slots[slot];
            let offset = data.size.next_multiple_of(len);
            data.size = offset + len;
            let offset = offset.cast_signed();
            return Local::Slot { slot, offset, ty };
        }
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, len, SLOTS_ALIGN_SHIFT);
        Local::Slot {
            slot: self.b.create_sized_stack_slot(data),
            offset: 0,
            ty,
        }
    }

    fn zero(&mut self, ty: ValType) -> Value {
        match ty {
            ValType::F32 => self.b.ins().f32const(0.0),
            ValType::F64 => self.b.ins().f64const(0.0),
            ValType::V128 => self.v128_const([0; 16]),
            _ => self.b.ins().iconst(ir_type(ty), 0),
        }
    }

    fn read_local(&mut self, index: u32) -> Value {
        match self.locals[index as usize] {
            Local::Variable(variable) => self.b.use_var(variable),
            Local::Slot { slot, offset, ty } => {
                let flags = Region::Locals.trusted(self.b.func);
                let addr = self.b.ins().stack_addr(POINTER, slot, offset);
                self.b.ins().load(ty, flags, addr, 0)
            }
        }
    }

    fn write_local(&mut self, index: u32, value: Value) {
        match self.locals[index as usize] {
            Local::Variable(variable) => self.b.def_var(variable, value),
            Local::Slot { slot, offset, .. } => {
                let flags = Region::Locals.trusted(self.b.func);
                let addr = self.b.ins().stack_addr(POINTER, slot, offset);
                self.b.ins().store(flags, value, addr, 0);
            }
        }
    }

    fn read_global(&mut self, global: GlobalIdx) -> Value {
        if let Some(value) = self.folded_global(global) {
            return value;
        }
        let place = self.global_place(global);
        let value = self
            .b
            .ins()
            .load(place.ty, place.flags, place.base, place.offset);
        self.declare(value, self.env.info.globals[global.index()].ty);
        value
    }

    /// The value of an own, immutable global that the module itself spells out.
    fn folded_global(&mut self, global: GlobalIdx) -> Option<Value> {
        let info = self.env.info;
        if info.globals[global.index()].mutable {
            return None;
        }
        let own = global.index().checked_sub(info.imported.globals as usize)?;
        let &[op] = info.global_inits[own].as_slice() else {
            return None;
        };
        Some(match op {
            ConstOp::I32Const(value) => self.i32_const(value),
            ConstOp::I64Const(value) => self.b.ins().iconst(ir::types::I64, value),
            ConstOp::F32Const(bits) => self.f32_const(bits),
            ConstOp::F64Const(bits) => self.f64_const(bits),
            ConstOp::V128Const(bytes) => self.v128_const(bytes),
            ConstOp::RefNull => self.b.ins().iconst(POINTER, 0),
            _ => return None,
        })
    }

    fn global_place(&mut self, global: GlobalIdx) -> GlobalPlace {
        let ty = self.env.info.globals[global.index()];
        let region = Region::of_global(self.env.info, global);
        // An immutable global gets its value before any code of the instance runs.
        let flags = if ty.mutable {
            region.trusted(self.b.func)
        } else {
            region.constant(self.b.func)
        };
        let (base, offset) = match self.env.offsets.global(global) {
            Some(offset) => (self.vmctx, offset),
            None => (
                self.context_pointer(self.env.offsets.imported_global(global)),
                0,
            ),
        };
        GlobalPlace {
            base,
            offset,
            flags,
            ty: ir_type(ty.ty),
        }
    }

    /// Loads a pointer of the context that never changes.
    pub(super) fn context_pointer(&mut self, offset: i32) -> Value {
        let flags = Region::Context.constant(self.b.func);
        self.b.ins().load(POINTER, flags, self.vmctx, offset)
    }
}

/// How many locals of a function may be SSA variables. The body is scanned only if it is so large
/// that not all may; one that does not parse is left to validation.
fn ssa_locals(locals: u32, reader: &BinaryReader<'_>) -> usize {
    let all = locals as usize;
    // Every block takes at least one byte of code.
    if u64::from(locals) * reader.bytes_remaining() as u64 <= MAX_SSA_CELLS {
        return all;
    }
    let mut blocks = 1u64;
    // Handlers of the blocks around an operator: every call has an edge to each of them.
    let mut handlers = 0u64;
    let mut open: Vec<u64> = Vec::new();
    let mut operators = OperatorsReader::new(reader.clone());
    while let Ok(op) = operators.read() {
        match &op {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open.push(0),
            Operator::TryTable { try_table } => {
                let own = try_table.catches.len() as u64;
                handlers += own;
                open.push(own);
            }
            Operator::End => handlers -= open.pop().unwrap_or(0),
            _ => {}
        }
        blocks += match op {
            Operator::TryTable { try_table } => 1 + try_table.catches.len() as u64,
            Operator::Call { .. } | Operator::Throw { .. } | Operator::ThrowRef if handlers > 0 => {
                1 + handlers
            }
            Operator::CallRef { .. } if handlers > 0 => 1 + handlers,
            Operator::CallIndirect { .. } => 3 + 2 * handlers,
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. } => 1,
            Operator::If { .. } => 3,
            Operator::BrTable { targets } => 2 + u64::from(targets.len()),
            _ => 0,
        };
    }
    usize::try_from(MAX_SSA_CELLS / blocks)
        .unwrap_or(all)
        .min(all)
}
