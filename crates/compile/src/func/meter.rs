//! Counting fuel: where units are added, where the sum is looked at.
//!
//! The count stands in the pinned register all the time that guest code runs: negative while some is left,
//! and counted up. What straight code costs is summed up here and added once, where control parts or
//! joins, and before anything that could look at the count:
//!
//! ```text
//!   i32.load   local.get   i32.add   br_if $loop       pending: 1 2 3 4
//!                                    count += 4; trap if count >= 0; branch
//! ```
//!
//! The sum is looked at before calls and throws and before branches back, which every guest that goes on for
//! long comes by. The check is a trap: it keeps no register busy, and costs a comparison and a branch that is
//! not taken. A guest that was given more fuel goes on behind it, at an offset which the fuel map names.
//!
//! An instruction that traps in the middle of straight code leaves its units uncounted; the fuel map has
//! them, or the way to the libcall that traps adds them, so the count is exact even then. Nothing here depends on what the optimiser does: sums are made
//! of Wasm instructions, and the order of additions and traps is kept by the code generator.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use wasmparser::Operator;

use super::Translation;
use super::stack::FrameKind;
use crate::env::check_fuel;
use crate::fuel_costs::FuelCosts;

/// Units that one instruction on a range may cost: the sum of this and a count stays far from overflow.
const MAX_LEN_UNITS: i64 = 1 << 62;

/// The fuel of one function.
pub(super) struct Meter<'m> {
    costs: Option<&'m FuelCosts>,
    /// Units of straight code that are not added yet.
    pending: u32,
    /// Wasm offsets of instructions, and the units pending after each, its own included.
    residuals: &'m mut Vec<(u32, u32)>,
}

impl<'m> Meter<'m> {
    pub(super) fn new(costs: Option<&'m FuelCosts>, residuals: &'m mut Vec<(u32, u32)>) -> Self {
        residuals.clear();
        Self {
            costs,
            pending: 0,
            residuals,
        }
    }
}

/// What becomes of the pending units before an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charge {
    /// They stay pending.
    No,
    /// They are added.
    Add,
    /// They are added, and the sum is looked at.
    AddAndCheck,
}

impl Translation<'_, '_> {
    /// Counts an instruction that is about to be translated, in reachable code.
    pub(super) fn meter(&mut self, op: &Operator<'_>, offset: u64) {
        let Some(costs) = self.meter.costs else {
            return;
        };
        let cost = costs.of(op);
        // A block of so many units would be longer than a module can be, unless the table is absurd.
        self.meter.pending = self.meter.pending.saturating_add(cost);
        match self.charge_before(op) {
            Charge::No => self.meter_trap(offset),
            Charge::Add => self.charge(false),
            Charge::AddAndCheck => self.charge(true),
        }
    }

    /// Notes what a trap at this instruction has to add.
    fn meter_trap(&mut self, offset: u64) {
        if let (Ok(offset), 1..) = (u32::try_from(offset), self.meter.pending) {
            self.meter.residuals.push((offset, self.meter.pending));
        }
    }

    fn charge_before(&self, op: &Operator<'_>) -> Charge {
        let branch = |depth: u32| {
            let frame = &self.control[self.frame_at(depth)];
            match frame.kind {
                FrameKind::Loop { .. } => Charge::AddAndCheck,
                _ => Charge::Add,
            }
        };
        match op {
            Operator::Br { relative_depth }
            | Operator::BrIf { relative_depth }
            | Operator::BrOnNull { relative_depth }
            | Operator::BrOnNonNull { relative_depth } => branch(*relative_depth),
            Operator::BrTable { targets } => {
                let depths = targets.targets().flatten().chain([targets.default()]);
                let back = depths.into_iter().any(|d| branch(d) == Charge::AddAndCheck);
                if back {
                    Charge::AddAndCheck
                } else {
                    Charge::Add
                }
            }
            Operator::Call { .. }
            | Operator::CallIndirect { .. }
            | Operator::CallRef { .. }
            | Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::ReturnCall { .. }
            | Operator::ReturnCallIndirect { .. }
            | Operator::ReturnCallRef { .. } => Charge::AddAndCheck,
            // These end a block without a branch when nothing else leads to their end.
            Operator::End => {
                let frame = &self.control[self.control.len() - 1];
                match frame.kind {
                    FrameKind::Block | FrameKind::Loop { .. } if frame.end.is_none() => Charge::No,
                    _ => Charge::Add,
                }
            }
            Operator::Block { .. } => Charge::No,
            op if stays_in_straight_code(op) => Charge::No,
            _ => Charge::Add,
        }
    }

    /// Adds what is pending, and looks at the sum if that is asked for.
    pub(super) fn charge(&mut self, check: bool) {
        let pending = std::mem::take(&mut self.meter.pending);
        if pending == 0 && !check {
            return;
        }
        let mut count = self.b.ins().get_pinned_reg(types::I64);
        if pending > 0 {
            count = self.b.ins().iadd_imm_u(count, i64::from(pending));
            self.b.ins().set_pinned_reg(count);
        }
        if check {
            check_fuel(&mut self.b, count);
        }
    }

    /// Adds what is pending on a way that does not come back: to a libcall that traps in the middle of straight
    /// code, and finds the count in the limits, where the fuel map does not help. The other way has it pending
    /// still.
    pub(super) fn charge_before_trapping(&mut self) {
        if self.meter.costs.is_some() && self.meter.pending > 0 {
            let count = self.b.ins().get_pinned_reg(types::I64);
            let pending = i64::from(self.meter.pending);
            let count = self.b.ins().iadd_imm_u(count, pending);
            self.b.ins().set_pinned_reg(count);
        }
    }

    /// Adds what the length of a range costs, a unit for 2^`log2` begun, and looks at the sum. What is
    /// pending was added before.
    pub(super) fn charge_len(&mut self, len: Value, log2: u8) {
        if self.meter.costs.is_none() {
            return;
        }
        let mut units = match self.b.func.dfg.value_type(len) {
            types::I64 => len,
            _ => self.b.ins().uextend(types::I64, len),
        };
        if log2 > 0 {
            // A length whose top bits are set is far out of bounds: it may lose its last unit.
            let whole = self.b.ins().ushr_imm_u(units, i64::from(log2));
            let rest = self.b.ins().band_imm_u(units, (1 << log2) - 1);
            let begun = self.b.ins().icmp_imm_u(IntCC::NotEqual, rest, 0);
            let begun = self.b.ins().uextend(types::I64, begun);
            units = self.b.ins().iadd(whole, begun);
        }
        let most = self.b.ins().iconst(types::I64, MAX_LEN_UNITS);
        let units = self.b.ins().umin(units, most);
        let count = self.b.ins().get_pinned_reg(types::I64);
        let count = self.b.ins().iadd(count, units);
        self.b.ins().set_pinned_reg(count);
        check_fuel(&mut self.b, count);
    }
}

/// Whether an operator neither branches nor calls anything, so that what comes before it and what comes
/// behind it run equally often and nobody can look at the count in between.
fn stays_in_straight_code(op: &Operator<'_>) -> bool {
    use Operator as O;
    match op {
        // Bulk operations and operations on tables are libcalls, which may fail; so is growing.
        O::MemoryGrow { .. }
        | O::MemoryCopy { .. }
        | O::MemoryFill { .. }
        | O::MemoryInit { .. }
        | O::DataDrop { .. }
        | O::TableGet { .. }
        | O::TableSet { .. }
        | O::TableGrow { .. }
        | O::TableFill { .. }
        | O::TableCopy { .. }
        | O::TableInit { .. }
        | O::ElemDrop { .. }
        | O::TableSize { .. }
        | O::RefFunc { .. }
        | O::MemoryAtomicNotify { .. }
        | O::MemoryAtomicWait32 { .. }
        | O::MemoryAtomicWait64 { .. } => false,
        // Control; a block that does nothing but trap may be joined with the branch to it, so its units are added.
        O::Unreachable
        | O::Loop { .. }
        | O::If { .. }
        | O::Else
        | O::Return
        | O::TryTable { .. } => false,
        _ => true,
    }
}
