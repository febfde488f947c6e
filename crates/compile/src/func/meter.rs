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
//! What is pending before an `if` stays so in both of its arms, and what both arms cost at least stays so behind
//! it. What the first arm adds at its end is known when the second ends: until then it is an [`Addition`].
//!
//! The sum is looked at before calls and throws and before branches back, which every guest that goes on for
//! long comes by. The check is a trap: it keeps no register busy, and costs a comparison and a branch that is
//! not taken. A guest that was given more fuel goes on behind it, at an offset which the fuel map names.
//!
//! An instruction that traps in the middle of straight code leaves its units uncounted; the fuel map has
//! them, or the way to the libcall that traps adds them, so the count is exact even then. Nothing here depends
//! on what the optimiser does: sums are made of Wasm instructions, and the order of additions and traps is
//! kept by the code generator.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Imm64;
use cranelift_codegen::ir::{Inst, InstBuilder, InstructionData, Opcode, Value, types};
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

/// Units that the code adds, as long as they may be made fewer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addition {
    /// The count, the units, their sum.
    values: [Value; 3],
    /// What makes the sum the count.
    set: Inst,
    units: u32,
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
    /// They are what the first arm of an `if` has added up to its end.
    FirstArm,
    /// They are what the second has.
    SecondArm,
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
            Charge::FirstArm => self.charge_first_arm(),
            Charge::SecondArm => self.charge_second_arm(),
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
                    // An arm that is left out.
                    FrameKind::If { .. } => Charge::FirstArm,
                    FrameKind::Else => Charge::SecondArm,
                    _ => Charge::Add,
                }
            }
            Operator::Else => Charge::FirstArm,
            Operator::Block { .. } | Operator::If { .. } => Charge::No,
            op if stays_in_straight_code(op) => Charge::No,
            _ => Charge::Add,
        }
    }

    /// Units that are not added yet.
    pub(super) fn pending_fuel(&self) -> u32 {
        self.meter.pending
    }

    /// Goes on in another arm, in front of which so many units were not added.
    pub(super) fn set_pending_fuel(&mut self, pending: u32) {
        self.meter.pending = pending;
    }

    /// Adds what is pending at the end of the first arm of an `if`; to be made fewer when the second ends.
    fn charge_first_arm(&mut self) {
        let units = std::mem::take(&mut self.meter.pending);
        if units == 0 {
            return;
        }
        let count = self.b.ins().get_pinned_reg(types::I64);
        let added = self.b.ins().iconst(types::I64, i64::from(units));
        let sum = self.b.ins().iadd(count, added);
        let set = self.b.ins().set_pinned_reg(sum);
        let top = self.control.len() - 1;
        self.control[top].first_arm = Some(Addition {
            values: [count, added, sum],
            set,
            units,
        });
    }

    /// At the end of the second arm of an `if`, leaves pending what both arms would add, if nothing else leads
    /// behind it, and adds what only this one has.
    pub(super) fn charge_second_arm(&mut self) {
        let frame = self.control[self.control.len() - 1];
        match (frame.first_arm, frame.branches) {
            // The first arm does not come to its end, nor does anything else branch there.
            (None, 0) => {}
            (Some(first), 1) => {
                let both = first.units.min(self.meter.pending);
                self.lessen(first, both);
                self.meter.pending -= both;
                self.charge(false);
                self.meter.pending = both;
            }
            _ => self.charge(false),
        }
    }

    /// Makes an addition that the code has already smaller by so many units.
    fn lessen(&mut self, addition: Addition, by: u32) {
        let func = &mut *self.b.func;
        let left = addition.units - by;
        let [_, units, _] = addition.values;
        if left > 0 {
            if let Some(inst) = func.dfg.value_def(units).inst() {
                func.dfg.insts[inst] = InstructionData::UnaryImm {
                    opcode: Opcode::Iconst,
                    imm: Imm64::new(i64::from(left)),
                };
            }
            return;
        }
        func.layout.remove_inst(addition.set);
        for value in addition.values.into_iter().rev() {
            if let Some(inst) = func.dfg.value_def(value).inst() {
                func.layout.remove_inst(inst);
            }
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
        O::Unreachable | O::Loop { .. } | O::Return | O::TryTable { .. } => false,
        _ => true,
    }
}
