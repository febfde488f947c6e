//! The value stack and the control stack.
//!
//! Both mirror the ones of validation while code is reachable. Underflow is a bug, not an error:
//! every operator is validated before it gets here.

use cranelift_codegen::ir::{Block, InstBuilder, Value, types};
use selvedge_artifact::types::ValType;

use super::Translation;
use super::meter::Addition;
use crate::env::{V128, ir_type};

/// What opened a frame, with what its end needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameKind {
    /// The function body.
    Func,
    /// `block`.
    Block,
    /// `loop`; branches go to the header.
    Loop {
        /// Where branches go.
        header: Block,
    },
    /// `if`, before its `else`.
    If {
        /// Where control goes if the condition is zero.
        otherwise: Block,
        /// Units of fuel that are pending there.
        pending: u32,
    },
    /// `if`, after its `else`.
    Else,
    /// `try_table` that catches something.
    Try,
}

/// A frame of the control stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'m> {
    pub kind: FrameKind,
    pub params: &'m [ValType],
    pub results: &'m [ValType],
    /// Height of the value stack below the frame's parameters. An `if` keeps a second copy of
    /// its parameters there, under the ones that its first arm uses up, for the second arm.
    pub base: usize,
    /// Where branches to the end go; made by the first one.
    pub end: Option<Block>,
    /// The edge of the latest `br_table` to this frame's label, with what tells that table from
    /// others: the count of entries up to its end.
    pub edge: Option<(usize, Block)>,
    /// Branches to the end, at least; the one of an `if` from the end of its first arm is among them.
    pub branches: u32,
    /// What the end of the first arm of an `if` adds to the count of fuel.
    pub first_arm: Option<Addition>,
}

impl<'m> Frame<'m> {
    /// The frame of the function body.
    pub(super) fn func(results: &'m [ValType]) -> Self {
        Self::new(FrameKind::Func, &[], results, 0)
    }

    /// A frame to which nothing has branched yet.
    pub(super) fn new(
        kind: FrameKind,
        params: &'m [ValType],
        results: &'m [ValType],
        base: usize,
    ) -> Self {
        Self {
            kind,
            params,
            results,
            base,
            end: None,
            edge: None,
            branches: 0,
            first_arm: None,
        }
    }
}

impl<'m> Translation<'_, 'm> {
    pub(super) fn push(&mut self, value: Value) {
        self.operands.push(value);
    }

    /// Pops an operand as it is: a comparison may still be an `i8`, a vector has any lanes.
    pub(super) fn pop_condition(&mut self) -> Value {
        self.operands
            .pop()
            .expect("a validated operator finds its operands")
    }

    /// Pops an operand in the type that Wasm gives it.
    pub(super) fn pop(&mut self) -> Value {
        let value = self.pop_condition();
        self.settled(value)
    }

    /// Pops the second operand and then the first.
    pub(super) fn pop2(&mut self) -> (Value, Value) {
        let second = self.pop();
        (self.pop(), second)
    }

    /// Pops an index, an address or a count, whose type in Wasm is `i64` or `i32`, as 64 bits.
    pub(super) fn pop_index_of(&mut self, is_64: bool) -> Value {
        if is_64 { self.pop() } else { self.pop_index() }
    }

    /// Pops an `i32` that is an index, an address or a count, as 64 bits.
    pub(super) fn pop_index(&mut self) -> Value {
        let index = self.pop_condition();
        self.b.ins().uextend(types::I64, index)
    }

    /// A value in the type that Wasm gives it.
    fn settled(&mut self, value: Value) -> Value {
        let ty = self.b.func.dfg.value_type(value);
        if ty == types::I8 {
            self.b.ins().uextend(types::I32, value)
        } else if ty.is_vector() {
            // Whoever gets it may keep it, so its type is final.
            self.fresh_load.take_if(|fresh| *fresh == value);
            self.with_lanes(value, V128)
        } else {
            value
        }
    }

    /// Puts the topmost operands into the types that Wasm gives them and tells where they start.
    pub(super) fn settle(&mut self, count: usize) -> usize {
        let start = self
            .operands
            .len()
            .checked_sub(count)
            .expect("a validated operator finds its operands");
        for i in start..self.operands.len() {
            self.operands[i] = self.settled(self.operands[i]);
        }
        start
    }

    /// A block that takes values of these types.
    pub(super) fn block_with(&mut self, params: &[ValType]) -> Block {
        let block = self.b.create_block();
        for &ty in params {
            let value = self.b.append_block_param(block, ir_type(ty));
            self.declare(value, ty);
        }
        block
    }

    /// Says of what type a value is: exceptions must be found on the stack by whoever looks for those
    /// that are still referred to, so while a call runs they stand nowhere but in the frame.
    pub(super) fn declare(&mut self, value: Value, ty: ValType) {
        if ty.is_exn_ref() {
            self.b.declare_value_needs_stack_map(value);
        }
    }

    /// Goes on in a block whose predecessors are all known, with its parameters on the stack.
    pub(super) fn continue_in(&mut self, block: Block) {
        self.b.seal_block(block);
        self.b.switch_to_block(block);
        self.operands.extend_from_slice(self.b.block_params(block));
    }

    /// The position on the control stack of the label that many levels up.
    pub(super) fn frame_at(&self, depth: u32) -> usize {
        self.control
            .len()
            .checked_sub(1 + depth as usize)
            .expect("a validated branch has a target")
    }

    /// Where a branch to a frame's label goes, and how many values it carries.
    pub(super) fn label(&mut self, frame: usize) -> (Block, usize) {
        let Frame {
            kind,
            params,
            results,
            end,
            ..
        } = self.control[frame];
        if let FrameKind::Loop { header } = kind {
            return (header, params.len());
        }
        self.control[frame].branches += 1;
        let block = match end {
            Some(block) => block,
            None => {
                let block = self.block_with(results);
                self.control[frame].end = Some(block);
                block
            }
        };
        (block, results.len())
    }
}
