//! Blocks, branches, `br_table`, `return`, `select`.
//!
//! The end of a block becomes an IR block only if something branches to it; straight code stays
//! one block. Loop headers are sealed at the loop's end, every other block when it is entered.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, BlockCall, InstBuilder, JumpTableData};
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::ValType;
use wasmparser::{BlockType, BrTable, Operator};

use super::Translation;
use super::stack::{Frame, FrameKind};
use crate::env::{trap_code, val_type};
use crate::error::Error;

impl<'m> Translation<'_, 'm> {
    pub(super) fn control(&mut self, op: &Operator<'_>, offset: u64) -> Result<bool, Error> {
        match op {
            Operator::Nop => {}
            Operator::Unreachable => {
                self.b.ins().trap(trap_code(TrapCode::Unreachable));
                self.reachable = false;
            }
            Operator::Drop => {
                self.pop_condition();
            }
            Operator::Select | Operator::TypedSelect { .. } => {
                let condition = self.pop_condition();
                let (first, second) = self.pop2();
                let value = self.b.ins().select(condition, first, second);
                if let Operator::TypedSelect { ty } = op
                    && let Some(ty) = val_type(*ty)
                {
                    self.declare(value, ty);
                }
                self.push(value);
            }
            Operator::Block { blockty } => self.open_block(*blockty, offset)?,
            Operator::Loop { blockty } => self.open_loop(*blockty, offset)?,
            Operator::If { blockty } => self.open_if(*blockty, offset)?,
            Operator::Else => self.else_arm(),
            Operator::End => self.end(),
            Operator::Br { relative_depth } => self.branch(*relative_depth),
            Operator::BrIf { relative_depth } => self.branch_if(*relative_depth),
            Operator::BrOnNull { relative_depth } => self.branch_on_null(*relative_depth),
            Operator::BrOnNonNull { relative_depth } => self.branch_on_non_null(*relative_depth),
            Operator::BrTable { targets } => self.branch_table(targets)?,
            Operator::Return => self.branch_out(),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes an operator in unreachable code: only the nesting of blocks matters.
    pub(super) fn skip(&mut self, op: &Operator<'_>) -> Result<(), Error> {
        match op {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. } => {
                self.dead_depth += 1;
            }
            Operator::Else if self.dead_depth == 0 => self.else_arm(),
            Operator::End if self.dead_depth == 0 => self.end(),
            Operator::End => self.dead_depth -= 1,
            _ => {}
        }
        Ok(())
    }

    /// The parameter and result types of a block.
    pub(super) fn block_types(
        &self,
        ty: BlockType,
        offset: u64,
    ) -> Result<(&'m [ValType], &'m [ValType]), Error> {
        Ok(match ty {
            BlockType::Empty => (&[], &[]),
            BlockType::Type(ty) => (&[], one_type(ty, offset)?),
            BlockType::FuncType(index) => {
                let ty = &self.env.info.types[index as usize];
                (&ty.params, &ty.results)
            }
        })
    }

    fn open_block(&mut self, ty: BlockType, offset: u64) -> Result<(), Error> {
        let (params, results) = self.block_types(ty, offset)?;
        let base = self.operands.len() - params.len();
        self.control
            .push(Frame::new(FrameKind::Block, params, results, base));
        Ok(())
    }

    fn open_loop(&mut self, ty: BlockType, offset: u64) -> Result<(), Error> {
        let (params, results) = self.block_types(ty, offset)?;
        let header = self.block_with(params);
        self.jump_to(header, params.len());
        let base = self.operands.len() - params.len();
        self.operands.truncate(base);
        self.b.switch_to_block(header);
        self.operands.extend_from_slice(self.b.block_params(header));
        self.control.push(Frame::new(
            FrameKind::Loop { header },
            params,
            results,
            base,
        ));
        Ok(())
    }

    fn open_if(&mut self, ty: BlockType, offset: u64) -> Result<(), Error> {
        let (params, results) = self.block_types(ty, offset)?;
        let condition = self.pop_condition();
        let base = self.settle(params.len());
        let then = self.b.create_block();
        let otherwise = self.b.create_block();
        self.b.ins().brif(condition, then, [], otherwise, []);
        self.b.seal_block(otherwise);
        self.passed_values += params.len();
        self.operands.extend_from_within(base..);
        self.continue_in(then);
        self.control.push(Frame::new(
            FrameKind::If {
                otherwise,
                pending: self.pending_fuel(),
            },
            params,
            results,
            base,
        ));
        Ok(())
    }

    fn else_arm(&mut self) {
        let top = self.control.len() - 1;
        let Frame {
            kind: FrameKind::If { otherwise, pending },
            params,
            results,
            base,
            ..
        } = self.control[top]
        else {
            unreachable!("a validated `else` stands in an `if`");
        };
        if self.reachable {
            let (end, count) = self.label(top);
            debug_assert_eq!(count, results.len());
            self.jump_to(end, count);
        }
        self.operands.truncate(base + params.len());
        self.operands.extend_from_within(base..);
        self.b.switch_to_block(otherwise);
        self.control[top].kind = FrameKind::Else;
        self.set_pending_fuel(pending);
        self.reachable = true;
    }

    fn end(&mut self) {
        let top = self.control.len() - 1;
        if let FrameKind::If { .. } = self.control[top].kind {
            // An arm that is left out hands its parameters on as results.
            self.else_arm();
            self.charge_second_arm();
        }
        if self.control[top].kind == FrameKind::Try {
            self.end_try(top);
        }
        let Frame {
            kind,
            results,
            base,
            end,
            ..
        } = self.control[top];
        if let FrameKind::Loop { header } = kind {
            self.b.seal_block(header);
        }
        match (end, self.reachable) {
            (Some(end), reachable) => {
                if reachable {
                    self.jump_to(end, results.len());
                }
                self.operands.truncate(base);
                self.continue_in(end);
                self.reachable = true;
            }
            (None, true) => {
                // Nothing branches here: the results stay where they are, moved down over a saved
                // copy of parameters if there is one.
                let start = self.operands.len() - results.len();
                self.operands.drain(base..start);
            }
            (None, false) => self.operands.truncate(base),
        }
        self.control.pop();
        if kind == FrameKind::Func && self.reachable {
            self.return_values(results.len());
        }
    }

    /// Puts the topmost operands into the list of arguments of a branch.
    fn collect_branch_args(&mut self, count: usize) {
        let start = self.settle(count);
        self.passed_values += count;
        self.branch_args.clear();
        self.branch_args
            .extend(self.operands[start..].iter().copied().map(BlockArg::Value));
    }

    pub(super) fn jump_to(&mut self, block: Block, count: usize) {
        self.collect_branch_args(count);
        self.b.ins().jump(block, self.branch_args.iter());
    }

    pub(super) fn return_values(&mut self, count: usize) {
        let start = self.settle(count);
        self.b.ins().return_(&self.operands[start..]);
        self.reachable = false;
    }

    /// `return`, and any other branch to the function's own label.
    fn branch_out(&mut self) {
        self.return_values(self.control[0].results.len());
    }

    fn branch(&mut self, depth: u32) {
        let frame = self.frame_at(depth);
        if frame == 0 {
            return self.branch_out();
        }
        let (target, count) = self.label(frame);
        self.jump_to(target, count);
        self.reachable = false;
    }

    fn branch_if(&mut self, depth: u32) {
        let condition = self.pop_condition();
        let frame = self.frame_at(depth);
        let (target, count) = self.label(frame);
        self.collect_branch_args(count);
        let next = self.b.create_block();
        self.b
            .ins()
            .brif(condition, target, self.branch_args.iter(), next, []);
        self.continue_in(next);
    }

    /// Takes the branch without the reference if that is null, and goes on with it if not.
    fn branch_on_null(&mut self, depth: u32) {
        if self.never_null {
            return;
        }
        let reference = self.pop();
        let is_null = self.b.ins().icmp_imm_u(IntCC::Equal, reference, 0);
        self.push(is_null);
        self.branch_if(depth);
        self.push(reference);
    }

    /// Takes the branch with the reference if that is not null, and goes on without it if it is.
    fn branch_on_non_null(&mut self, depth: u32) {
        if self.never_null {
            return self.branch(depth);
        }
        let reference = self.pop();
        self.push(reference);
        let not_null = self.b.ins().icmp_imm_u(IntCC::NotEqual, reference, 0);
        self.push(not_null);
        self.branch_if(depth);
        self.pop();
    }

    fn branch_table(&mut self, targets: &BrTable<'_>) -> Result<(), Error> {
        let index = self.pop();
        self.reachable = false;
        if targets.is_empty() {
            self.branch(targets.default());
            return Ok(());
        }
        self.table_entries += 1 + targets.len() as usize;
        self.check_limits()?;
        // All targets take the same number of values; they are widened before the edges part.
        let (_, count) = self.label(self.frame_at(targets.default()));
        self.settle(count);
        // Every distinct target gets one edge block, which passes the values. A table of any
        // length then carries them, and the locals that flow with them, once a target.
        let mut edges: Vec<(Block, usize)> = Vec::new();
        let mut calls = Vec::new();
        for depth in targets.targets() {
            let edge = self.edge_to(depth?, &mut edges);
            calls.push(BlockCall::new(edge, [], &mut self.b.func.dfg.value_lists));
        }
        let default = self.edge_to(targets.default(), &mut edges);
        let default = BlockCall::new(default, [], &mut self.b.func.dfg.value_lists);
        let table = self
            .b
            .create_jump_table(JumpTableData::new(default, &calls));
        self.b.ins().br_table(index, table);
        for (edge, frame) in edges {
            self.b.seal_block(edge);
            self.b.switch_to_block(edge);
            let (target, count) = self.label(frame);
            self.jump_to(target, count);
            // One table can have a million targets of a thousand values each.
            self.check_limits()?;
        }
        Ok(())
    }

    /// The block through which the `br_table` at hand reaches a label.
    fn edge_to(&mut self, depth: u32, edges: &mut Vec<(Block, usize)>) -> Block {
        let frame = self.frame_at(depth);
        match self.control[frame].edge {
            Some((table, edge)) if table == self.table_entries => edge,
            _ => {
                let edge = self.b.create_block();
                self.control[frame].edge = Some((self.table_entries, edge));
                edges.push((edge, frame));
                edge
            }
        }
    }
}

/// A list of one type.
fn one_type(ty: wasmparser::ValType, offset: u64) -> Result<&'static [ValType], Error> {
    Ok(match val_type(ty) {
        Some(ValType::I32) => &[ValType::I32],
        Some(ValType::I64) => &[ValType::I64],
        Some(ValType::F32) => &[ValType::F32],
        Some(ValType::F64) => &[ValType::F64],
        Some(ValType::V128) => &[ValType::V128],
        // Only what travels in the machine matters here, and that is the same for all other references.
        Some(ty) if ty.is_exn_ref() => &[ValType::EXNREF],
        Some(ValType::Ref(_)) => &[ValType::FUNCREF],
        _ => return Err(Error::unsupported("gc", offset)),
    })
}
