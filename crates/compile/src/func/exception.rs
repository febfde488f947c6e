//! `try_table`, `throw`, `throw_ref`.
//!
//! A call that stands in a `try_table` ends its block with two kinds of successors: the next block,
//! and a landing pad for each clause around it. Which pad, if any, is the runtime's choice, from a table
//! beside the code; a call that returns has paid nothing. To a pad the runtime gives the address of the
//! exception's values, as in an argument array, and a reference to the exception if the clause wants
//! one. A pad loads the values and branches to the clause's label.
//!
//! All registers are lost on the way to a pad, so what it needs stands in the frame; so does `vmctx`,
//! by which the runtime knows whose tags the clauses mean.

use cranelift_codegen::ir::{
    Block, BlockArg, BlockCall, ExceptionTableData, ExceptionTableItem, ExceptionTag, InstBuilder,
    MemFlagsData, SigRef, StackSlotData, StackSlotKind, types,
};
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::catches::Catch;
use selvedge_artifact::ids::TagIdx;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::{ARRAY_SLOT_LEN, FuncType, ValType};
use wasmparser::{Operator, TryTable};

use super::call::{Called, Target};
use super::stack::{Frame, FrameKind};
use super::{MAX_HANDLERS, Translation};
use crate::env::{POINTER, Region, ir_type, trap_code};
use crate::error::Error;

/// A `try_table` whose end has not come.
pub(super) struct Try {
    pads: Vec<Pad>,
    /// Whether a call has these pads as successors.
    used: bool,
}

/// The landing pad of one clause.
struct Pad {
    catch: Catch,
    /// The frame to whose label it branches.
    frame: usize,
    block: Block,
}

impl<'m> Translation<'_, 'm> {
    pub(super) fn exception(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        match op {
            Operator::TryTable { try_table } => self.open_try(try_table, offset)?,
            Operator::Throw { tag_index } => self.throw(TagIdx::new(*tag_index)),
            Operator::ThrowRef => {
                let exn = self.pop();
                self.call_thrower(Builtin::ThrowRef, &[exn]);
                self.never_returns();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tag_type(&self, tag: TagIdx) -> &'m FuncType {
        self.env.info.tag_type(tag)
    }

    fn open_try(&mut self, table: &TryTable, offset: u64) -> Result<(), Error> {
        let (params, results) = self.block_types(table.ty, offset)?;
        let base = self.operands.len() - params.len();
        let mut kind = FrameKind::Block;
        if !table.catches.is_empty() {
            kind = FrameKind::Try;
            let pads = table.catches.iter().map(|clause| self.pad(*clause));
            let pads = pads.collect();
            self.tries.push(Try { pads, used: false });
        }
        self.control.push(Frame::new(kind, params, results, base));
        Ok(())
    }

    /// A pad for a clause; labels of clauses are counted from outside the `try_table`.
    fn pad(&mut self, clause: wasmparser::Catch) -> Pad {
        use wasmparser::Catch::{All, AllRef, One, OneRef};
        let (tag, by_ref, label) = match clause {
            One { tag, label } => (Some(tag), false, label),
            OneRef { tag, label } => (Some(tag), true, label),
            All { label } => (None, false, label),
            AllRef { label } => (None, true, label),
        };
        let block = self.b.create_block();
        for _ in 0..2 {
            self.b.append_block_param(block, POINTER);
        }
        Pad {
            catch: Catch { tag, by_ref },
            frame: self.frame_at(label),
            block,
        }
    }

    /// Emits the pads of the `try_table` that ends, whose frame is on top. Code that falls out of it
    /// goes on behind them.
    pub(super) fn end_try(&mut self, top: usize) {
        let ended = self.tries.pop();
        let Some(ended) = ended.filter(|ended| ended.used) else {
            return;
        };
        if self.reachable {
            let (end, count) = self.label(top);
            self.jump_to(end, count);
            self.reachable = false;
        }
        for pad in ended.pads {
            self.land(&pad);
        }
    }

    fn land(&mut self, pad: &Pad) {
        self.b.set_cold_block(pad.block);
        self.b.seal_block(pad.block);
        self.b.switch_to_block(pad.block);
        let height = self.operands.len();
        let [values, exn] = *self.b.block_params(pad.block) else {
            unreachable!("a pad has two parameters");
        };
        if let Some(tag) = pad.catch.tag {
            let ty = self.tag_type(TagIdx::new(tag));
            for (slot, &ty) in ty.params.iter().enumerate() {
                let flags = MemFlagsData::trusted();
                let offset = slot_offset(slot).cast_signed();
                let value = self.b.ins().load(ir_type(ty), flags, values, offset);
                self.declare(value, ty);
                self.push(value);
            }
        }
        if pad.catch.by_ref {
            self.declare(exn, ValType::EXNREF);
            self.push(exn);
        }
        if pad.frame == 0 {
            self.return_values(self.operands.len() - height);
        } else {
            let (target, count) = self.label(pad.frame);
            self.jump_to(target, count);
        }
        self.operands.truncate(height);
    }

    /// Calls, with the collected arguments, something that may throw to a `try_table` around.
    pub(super) fn try_call(&mut self, sig: SigRef, target: Target) -> Called {
        let next = self.b.create_block();
        let results: Vec<_> = self.b.func.dfg.signatures[sig].returns.clone();
        for result in &results {
            self.b.append_block_param(next, result.value_type);
        }
        let results = (0..results.len() as u32).map(BlockArg::TryCallRet);
        let dfg = &mut self.b.func.dfg;
        let normal = BlockCall::new(next, results, &mut dfg.value_lists);
        let mut items = vec![ExceptionTableItem::Context(self.vmctx)];
        'handlers: for around in self.tries.iter_mut().rev() {
            around.used = true;
            for pad in &around.pads {
                let tag = ExceptionTag::from_u32(pad.catch.to_u32());
                let given = [BlockArg::TryCallExn(0), BlockArg::TryCallExn(1)];
                let call = BlockCall::new(pad.block, given, &mut dfg.value_lists);
                items.push(ExceptionTableItem::Tag(tag, call));
                self.handlers += 1;
                // What stands behind a handler of everything is never asked; and beyond the limit the
                // function is refused.
                if pad.catch.tag.is_none() || self.handlers > MAX_HANDLERS {
                    break 'handlers;
                }
            }
        }
        let table = ExceptionTableData::new(sig, normal, items);
        let table = dfg.exception_tables.push(table);
        match target {
            Target::Func(func) => self.b.ins().try_call(func, self.call_args, table),
            Target::Code(code) => self.b.ins().try_call_indirect(code, self.call_args, table),
        };
        self.b.seal_block(next);
        self.b.switch_to_block(next);
        Called::Block(next)
    }

    fn throw(&mut self, tag: TagIdx) {
        let count = self.tag_type(tag).params.len();
        let start = self.settle(count);
        let values = if count == 0 {
            self.b.ins().iconst(POINTER, 0)
        } else {
            let slot = self.thrown_slot(slot_offset(count));
            let addr = self.b.ins().stack_addr(POINTER, slot, 0);
            let flags = Region::Locals.trusted(self.b.func);
            for (slot, at) in (start..self.operands.len()).enumerate() {
                let offset = slot_offset(slot).cast_signed();
                self.b.ins().store(flags, self.operands[at], addr, offset);
            }
            addr
        };
        self.operands.truncate(start);
        let tag = self.b.ins().iconst(types::I32, i64::from(tag.as_u32()));
        self.call_thrower(Builtin::Throw, &[tag, values]);
        self.never_returns();
    }

    /// The place of thrown values in the frame, of a length at least: all that a function throws
    /// stands there, since only one exception is thrown at a time.
    fn thrown_slot(&mut self, len: u32) -> cranelift_codegen::ir::StackSlot {
        let align = ARRAY_SLOT_LEN.trailing_zeros() as u8;
        let slot = *self.thrown.get_or_insert_with(|| {
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 0, align);
            self.b.create_sized_stack_slot(data)
        });
        let data = &mut self.b.func.sized_stack_slots[slot];
        data.size = data.size.max(len);
        slot
    }

    /// Ends the block after a call that does not return.
    fn never_returns(&mut self) {
        self.b.ins().trap(trap_code(TrapCode::Unreachable));
        self.reachable = false;
    }
}

/// Tags have a thousand parameters at most.
fn slot_offset(slot: usize) -> u32 {
    slot as u32 * ARRAY_SLOT_LEN
}
