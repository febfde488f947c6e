//! One function: from Wasm operators to Cranelift IR.
//!
//! [`FuncTranslator`] validates and translates in one pass. A family of operators is a file that
//! adds a method to [`Translation`]; the method says whether it knows an operator. Operands live
//! on a value stack and labels on a control stack (`stack`), so the depth of nesting costs heap, not
//! native stack. Code that can't be reached is validated and otherwise skipped.
//!
//! Nothing here knows machine code, trampolines, or the sections around the code.

mod atomic;
mod bounds;
mod bulk;
mod call;
mod control;
mod convert;
mod exception;
mod memory;
mod meter;
mod numeric;
mod reference;
mod simd;
mod stack;
mod table;
mod variable;

#[cfg(test)]
mod tests;

use cranelift_codegen::ir::{self, BlockArg, SourceLoc, Value};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use selvedge_artifact::ids::DefinedFuncIdx;
use selvedge_artifact::types::ValType;
use wasmparser::{FuncValidator, FunctionBody, Operator, OperatorsReader, ValidatorResources};

use crate::env::{ModuleEnv, NS_FUNC, guest_signature};
use crate::error::Error;
use crate::operators;
use call::Callees;
use exception::Try;
use meter::Meter;
use stack::Frame;
use variable::Local;

/// IR instructions, and IR values, that one function may have. The register allocator refuses
/// functions with more than 2^21 registers; the bound stops hostile ones before they fill memory.
const MAX_ENTITIES: usize = 1 << 22;
/// Values that the blocks and branches of one function may pass on together. A branch of two bytes
/// can carry a thousand, so the length of the body bounds them only loosely.
const MAX_PASSED_VALUES: usize = 1 << 24;
/// Entries that the `br_table`s of one function may have together. An entry is a byte of Wasm, and
/// 700 bytes of the code generator's memory (100 000 entries took 70 MB).
const MAX_TABLE_ENTRIES: usize = 1 << 20;
/// Handlers of exceptions that the calls of one function may have together. Each is an edge to a landing
/// pad, and a call in so many nested blocks has as many.
const MAX_HANDLERS: usize = 1 << 17;

/// Translates functions one after the other and keeps its allocations between them.
#[derive(Default)]
pub(crate) struct FuncTranslator {
    context: FunctionBuilderContext,
    operands: Vec<Value>,
    locals: Vec<Local>,
    call_args: Vec<Value>,
    branch_args: Vec<BlockArg>,
    /// Of the function translated last: Wasm offsets of instructions, and the units of fuel that a trap
    /// there has to add, rising.
    pub(crate) fuel_residuals: Vec<(u32, u32)>,
}

impl FuncTranslator {
    /// Validates a body and translates it to `out`, which must be empty.
    pub(crate) fn translate(
        &mut self,
        env: &ModuleEnv<'_>,
        func: DefinedFuncIdx,
        body: &FunctionBody<'_>,
        validator: &mut FuncValidator<ValidatorResources>,
        out: &mut ir::Function,
    ) -> Result<(), Error> {
        self.operands.clear();
        self.locals.clear();
        let result = self.translate_body(env, func, body, validator, out);
        if result.is_err() {
            // A builder that was not finalised leaves its context half filled.
            self.context = FunctionBuilderContext::new();
        }
        result
    }

    fn translate_body(
        &mut self,
        env: &ModuleEnv<'_>,
        func: DefinedFuncIdx,
        body: &FunctionBody<'_>,
        validator: &mut FuncValidator<ValidatorResources>,
        out: &mut ir::Function,
    ) -> Result<(), Error> {
        let ty = env.info.func_type(env.info.func_idx(func));
        out.name = ir::UserFuncName::user(NS_FUNC, func.as_u32());
        out.signature = guest_signature(ty);

        let mut builder = FunctionBuilder::new(out, &mut self.context);
        builder.set_srcloc(source_loc(body.range().start));
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        builder.seal_block(entry);
        let vmctx = builder.block_params(entry)[0];

        let mut translation = Translation {
            env,
            b: builder,
            vmctx,
            operands: &mut self.operands,
            locals: &mut self.locals,
            control: vec![Frame::func(&ty.results)],
            tries: Vec::new(),
            thrown: None,
            reachable: true,
            never_null: false,
            dead_depth: 0,
            callees: Callees::default(),
            meter: Meter::new(env.fuel, &mut self.fuel_residuals),
            call_args: &mut self.call_args,
            branch_args: &mut self.branch_args,
            fresh_load: None,
            passed_values: 0,
            table_entries: 0,
            handlers: 0,
        };
        translation.run(entry, &ty.params, body, validator)?;
        let Translation { b, .. } = translation;
        b.finalize(env.pointer_frontend);
        Ok(())
    }
}

/// The state of the translation of one function.
struct Translation<'f, 'm> {
    env: &'m ModuleEnv<'m>,
    b: FunctionBuilder<'f>,
    vmctx: Value,
    /// The value stack. An operand of IR type `i8` is a Wasm `i32` that is 0 or 1: the result of a
    /// comparison, widened only when something other than a condition asks for it. A `v128` has the
    /// lanes that its maker gave it, until something asks for others or for none.
    operands: &'f mut Vec<Value>,
    locals: &'f mut Vec<Local>,
    /// The control stack: frames that were entered by reachable code.
    control: Vec<Frame<'m>>,
    /// The `try_table`s among them that catch something.
    tries: Vec<Try>,
    /// Where the values of an exception stand while it is thrown.
    thrown: Option<ir::StackSlot>,
    /// Whether the next operator can be reached.
    reachable: bool,
    /// Whether the operand on top is, by its type, a reference that is not null.
    never_null: bool,
    /// Blocks opened in unreachable code since `reachable` became false.
    dead_depth: usize,
    callees: Callees,
    meter: Meter<'f>,
    /// Scratch space for the arguments of a call.
    call_args: &'f mut Vec<Value>,
    /// Scratch space for the arguments of a branch.
    branch_args: &'f mut Vec<BlockArg>,
    /// The latest vector that was loaded and not used: its lanes may still be chosen.
    fresh_load: Option<Value>,
    /// Values that blocks and branches pass on, so far.
    passed_values: usize,
    /// Entries of `br_table`s so far.
    table_entries: usize,
    /// Handlers of calls so far.
    handlers: usize,
}

impl Translation<'_, '_> {
    fn run(
        &mut self,
        entry: ir::Block,
        params: &[ValType],
        body: &FunctionBody<'_>,
        validator: &mut FuncValidator<ValidatorResources>,
    ) -> Result<(), Error> {
        let mut reader = body.get_binary_reader();
        reader.set_features(*validator.features());
        self.declare_locals(entry, params, &mut reader, validator)?;
        let mut operators = OperatorsReader::new(reader);
        while !operators.eof() {
            let (op, offset) = operators.read_with_offset()?;
            self.never_null = refers(validator);
            validator.op(offset, &op)?;
            self.b.set_srcloc(source_loc(offset));
            self.operator(&op, offset)?;
            self.check_limits()?;
        }
        operators.finish()?;
        Ok(())
    }

    fn operator(&mut self, op: &Operator<'_>, offset: u64) -> Result<(), Error> {
        if !self.reachable {
            return self.skip(op);
        }
        self.meter(op, offset);
        let known = self.variable(op)
            || self.numeric(op)
            || self.memory(op, offset)?
            || self.control(op, offset)?
            || self.exception(op, offset)?
            || self.call(op)
            || self.convert(op)
            || self.reference(op)
            || self.table(op)
            || self.bulk(op)
            || self.atomic(op, offset)?
            || self.simd(op, offset)?;
        if known {
            Ok(())
        } else {
            Err(Error::unsupported(operators::proposal(op), offset))
        }
    }

    /// Refuses functions that would take too much memory to compile.
    fn check_limits(&self) -> Result<(), Error> {
        let dfg = &self.b.func.dfg;
        let entities = dfg.num_insts().max(dfg.num_values());
        let counts = [
            (
                "instructions or values in one function",
                entities,
                MAX_ENTITIES,
            ),
            (
                "values passed on by the blocks and branches of one function",
                self.passed_values,
                MAX_PASSED_VALUES,
            ),
            (
                "entries of branch tables in one function",
                self.table_entries,
                MAX_TABLE_ENTRIES,
            ),
            (
                "handlers around the calls of one function",
                self.handlers,
                MAX_HANDLERS,
            ),
        ];
        match counts.into_iter().find(|(_, found, limit)| found > limit) {
            None => Ok(()),
            Some((what, found, limit)) => Err(Error::LimitExceeded {
                what,
                found: found as u64,
                limit: limit as u64,
            }),
        }
    }
}

/// Whether the operand on top is a reference that its type says is not null.
fn refers(validator: &FuncValidator<ValidatorResources>) -> bool {
    match validator.get_operand_type(0) {
        Some(Some(wasmparser::ValType::Ref(ty))) => !ty.is_nullable(),
        _ => false,
    }
}

/// The place of an operator in the Wasm file. Offsets beyond 32 bits have none.
fn source_loc(offset: u64) -> SourceLoc {
    u32::try_from(offset).map_or_else(|_| SourceLoc::default(), SourceLoc::new)
}
