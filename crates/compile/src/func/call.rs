//! Calls and tail calls: direct, imported, indirect; calls to builtins.
//!
//! `call_indirect` on a table of this module, with `code` relative to the start of the text:
//!
//! ```text
//!   entry = table[index], or the context's magic if index >= len     one load
//!   low half of entry == type ? ----------------------------- no --> cold: IndirectCallee(index)
//!        | yes                                                             |
//!   call text + high half of entry (vmctx, ...)             call VMFuncRef.call(it, vmctx, ...)
//!        '---------------------------- join ---------------------------------'
//! ```
//!
//! Bounds need no branch of their own: an index outside reads the magic, which is no type's value,
//! and the builtin tells out of bounds, null and wrong type apart. The choice is a conditional
//! move, so it holds under misprediction, too.
//!
//! A tail call leaves the frame before it jumps, whoever is called: functions of this module, the
//! adapter to another instance (which jumps on in turn), the way to the host (which returns to the
//! caller's caller). The cold path of an indirect one calls the builtin first, from the frame that
//! is about to go. So chains of tail calls of any kind take constant stack.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    Block, BlockArg, ExtFuncData, ExternalName, FuncRef, GlobalValue, GlobalValueData, Inst,
    InstBuilder, MemFlagsData, SigRef, UserExternalName, Value, types,
};
use cranelift_frontend::FunctionBuilder;
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::ids::{DefinedFuncIdx, FuncIdx, TableIdx, TypeIdx};
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::vmfields::{
    ENTRY_FIRST_TYPE, VMCONTEXT_MAGIC, vm_context_header, vm_func_ref, vm_table_definition,
};
use selvedge_artifact::vmoffsets::{TABLE_ENTRY_LEN, VMOffsets};
use wasmparser::Operator;

use super::Translation;
use crate::env::{NS_FUNC, NS_TEXT, POINTER, Region, foreign_signature, guest_signature};

/// log2 of the bytes of a table entry.
const ENTRY_SHIFT: i64 = TABLE_ENTRY_LEN.trailing_zeros() as i64;
/// Position of the code value in a table entry.
const ENTRY_CODE_SHIFT: i64 = 32;
/// Where the code to call stands in a `VMFuncRef`.
const FUNC_REF_CALL: i32 = vm_func_ref::OFFSETS.call.cast_signed();

// The word that stands in for an entry out of bounds must name no type; modules have at most a
// million.
const _: () = assert!(VMCONTEXT_MAGIC as u32 > 1 << 30);

/// What a function has declared so far of those it calls.
#[derive(Default)]
pub(super) struct Callees {
    funcs: HashMap<DefinedFuncIdx, FuncRef>,
    guest_sigs: HashMap<TypeIdx, SigRef>,
    foreign_sigs: HashMap<TypeIdx, SigRef>,
    builtin_sigs: HashMap<Builtin, SigRef>,
    text: Option<GlobalValue>,
}

/// What is called.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A function of this module.
    Func(FuncRef),
    /// Code at an address.
    Code(Value),
}

/// A call that has been emitted: where its results are.
#[derive(Clone, Copy)]
pub(super) enum Called {
    /// At the instruction.
    Inst(Inst),
    /// With the block in which it goes on.
    Block(Block),
}

fn results<'b>(builder: &'b FunctionBuilder<'_>, call: Called) -> &'b [Value] {
    match call {
        Called::Inst(inst) => builder.inst_results(inst),
        Called::Block(block) => builder.block_params(block),
    }
}

/// What the caller does meanwhile.
#[derive(Clone, Copy)]
enum Caller {
    /// It waits for the results.
    Waits,
    /// Its frame is gone before the callee begins, which returns to the caller's caller.
    Leaves,
}

impl Translation<'_, '_> {
    pub(super) fn call(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::Call { function_index } => {
                self.call_func(Caller::Waits, FuncIdx::new(function_index));
            }
            Operator::ReturnCall { function_index } => {
                self.call_func(Caller::Leaves, FuncIdx::new(function_index));
                self.reachable = false;
            }
            Operator::CallIndirect {
                type_index,
                table_index,
            } => {
                let (ty, table) = (TypeIdx::new(type_index), TableIdx::new(table_index));
                self.call_indirect(Caller::Waits, ty, table);
            }
            Operator::ReturnCallIndirect {
                type_index,
                table_index,
            } => {
                let (ty, table) = (TypeIdx::new(type_index), TableIdx::new(table_index));
                self.call_indirect(Caller::Leaves, ty, table);
                self.reachable = false;
            }
            Operator::CallRef { type_index } => {
                self.call_ref(Caller::Waits, TypeIdx::new(type_index));
            }
            Operator::ReturnCallRef { type_index } => {
                self.call_ref(Caller::Leaves, TypeIdx::new(type_index));
                self.reachable = false;
            }
            _ => return false,
        }
        true
    }

    /// Calls what a reference names. Its type is known, so nothing is compared but null.
    fn call_ref(&mut self, caller: Caller, ty: TypeIdx) {
        let reference = self.pop();
        self.trap_if_null(reference, TrapCode::NullFuncReference);
        // The load may not move above the check.
        let found = Region::Context.trusted(self.b.func).with_readonly();
        let ty = self.canonical(ty);
        let call = self.call_foreign(caller, ty, reference, found);
        self.push_results(call, ty);
    }

    fn call_func(&mut self, caller: Caller, func: FuncIdx) {
        let ty = self.canonical(self.env.info.funcs[func.index()]);
        let call = match self.env.info.defined_func(func) {
            Some(defined) => {
                self.collect_call_args(ty, &[self.vmctx]);
                let callee = self.func_ref(defined, ty);
                let sig = self.guest_sig(ty);
                self.call_target(caller, sig, Target::Func(callee))
            }
            None => {
                let imports = self.header_pointer(vm_context_header::OFFSETS.imports);
                let at = func.as_u32() * vm_func_ref::OFFSETS.struct_len;
                let entry = self.b.ins().iadd_imm_u(imports, i64::from(at));
                let constant = Region::Context.constant(self.b.func);
                self.call_foreign(caller, ty, entry, constant)
            }
        };
        self.push_results(call, ty);
    }

    fn call_indirect(&mut self, caller: Caller, ty: TypeIdx, table: TableIdx) {
        let index = self.pop_index_of(self.env.info.tables[table.index()].is_64);
        let ty = self.canonical(ty);
        // The load through what is found in a table may not move: only the builtin makes sure that
        // there is something.
        let found = Region::Context.trusted(self.b.func).with_readonly();
        let Some(definition) = self.env.offsets.table(table) else {
            let callee = self.indirect_callee(ty, table, index);
            let call = self.call_foreign(caller, ty, callee, found);
            return self.push_results(call, ty);
        };
        let entry = self.table_entry(table, definition, index);
        let type_value = self.b.ins().ireduce(types::I32, entry);
        let wanted = i64::from(ENTRY_FIRST_TYPE + ty.as_u32());
        let fits = self.b.ins().icmp_imm_u(IntCC::Equal, type_value, wanted);

        let fast = self.b.create_block();
        let cold = self.b.create_block();
        // Both arms pass the same arguments: what must be widened is widened before they part.
        let args = self.settle(self.env.info.types[ty.index()].params.len());
        self.b.ins().brif(fits, fast, [], cold, []);
        let join = match caller {
            Caller::Waits => Some(self.block_with(&self.env.info.types[ty.index()].results)),
            Caller::Leaves => None,
        };

        self.b.set_cold_block(cold);
        self.b.seal_block(cold);
        self.b.switch_to_block(cold);
        let callee = self.indirect_callee(ty, table, index);
        self.operands.extend_from_within(args..);
        let call = self.call_foreign(caller, ty, callee, found);
        if let Some(join) = join {
            self.jump_with_results(call, join);
        }

        self.b.seal_block(fast);
        self.b.switch_to_block(fast);
        let code = self.b.ins().ushr_imm_u(entry, ENTRY_CODE_SHIFT);
        let text = self.text_start();
        let target = self.b.ins().iadd(text, code);
        self.collect_call_args(ty, &[self.vmctx]);
        let sig = self.guest_sig(ty);
        let call = self.call_target(caller, sig, Target::Code(target));
        if let Some(join) = join {
            self.jump_with_results(call, join);
            self.continue_in(join);
        }
    }

    /// Calls code that may throw, with the collected arguments. Who leaves has no handlers any more.
    fn call_target(&mut self, caller: Caller, sig: SigRef, target: Target) -> Called {
        let ins = self.b.ins();
        Called::Inst(match (caller, target) {
            (Caller::Waits, _) if !self.tries.is_empty() => return self.try_call(sig, target),
            (Caller::Waits, Target::Func(func)) => ins.call(func, self.call_args),
            (Caller::Waits, Target::Code(code)) => ins.call_indirect(sig, code, self.call_args),
            (Caller::Leaves, Target::Func(func)) => ins.return_call(func, self.call_args),
            (Caller::Leaves, Target::Code(code)) => {
                ins.return_call_indirect(sig, code, self.call_args)
            }
        })
    }

    /// Loads the entry at an index of an own table, or the context's magic if there is none.
    fn table_entry(&mut self, table: TableIdx, definition: i32, index: Value) -> Value {
        let ty = self.env.info.tables[table.index()];
        let len = if ty.max == Some(ty.min) {
            self.b.ins().iconst(types::I64, ty.min.cast_signed())
        } else {
            self.table_len(definition, true)
        };
        let inside = self.b.ins().icmp(IntCC::UnsignedLessThan, index, len);
        let magic = VMOffsets::header(vm_context_header::OFFSETS.magic);
        let flags = Region::Tables.trusted(self.b.func);
        match self.env.offsets.inline_table(table) {
            // Both offsets are multiples of 8, so the magic is an element of the table, too.
            Some(start) => {
                let stand_in = i64::from((magic - start) >> ENTRY_SHIFT);
                let stand_in = self.b.ins().iconst(types::I64, stand_in);
                let index = self.b.ins().select_spectre_guard(inside, index, stand_in);
                let at = self.b.ins().ishl_imm_u(index, ENTRY_SHIFT);
                let addr = self.b.ins().iadd(self.vmctx, at);
                self.b.ins().load(types::I64, flags, addr, start)
            }
            None => {
                let context = Region::Context.trusted(self.b.func);
                let base = definition + vm_table_definition::OFFSETS.base.cast_signed();
                let base = self.b.ins().load(POINTER, context, self.vmctx, base);
                let at = self.b.ins().ishl_imm_u(index, ENTRY_SHIFT);
                let addr = self.b.ins().iadd(base, at);
                let stand_in = self.b.ins().iadd_imm_s(self.vmctx, i64::from(magic));
                let addr = self.b.ins().select_spectre_guard(inside, addr, stand_in);
                self.b.ins().load(types::I64, flags, addr, 0)
            }
        }
    }

    /// The elements of an own table, as an `i64` or, which is as good where indices are 32 bits
    /// wide, the low half of it.
    pub(super) fn table_len(&mut self, definition: i32, is_64: bool) -> Value {
        let ty = if is_64 { types::I64 } else { types::I32 };
        let flags = Region::Context.trusted(self.b.func);
        let offset = definition + vm_table_definition::OFFSETS.len.cast_signed();
        self.b.ins().load(ty, flags, self.vmctx, offset)
    }

    /// The `VMFuncRef` behind a table element of that type; does not return if there is none.
    fn indirect_callee(&mut self, ty: TypeIdx, table: TableIdx, index: Value) -> Value {
        let table_type = self.pair(table.as_u32(), ty.as_u32());
        let call = self.call_builtin(Builtin::IndirectCallee, &[table_type, index]);
        self.b.inst_results(call)[0]
    }

    /// Calls through a `VMFuncRef`, which is read with these flags, with the operands on the stack.
    fn call_foreign(
        &mut self,
        caller: Caller,
        ty: TypeIdx,
        entry: Value,
        flags: MemFlagsData,
    ) -> Called {
        self.collect_call_args(ty, &[entry, self.vmctx]);
        let sig = match self.callees.foreign_sigs.get(&ty) {
            Some(&sig) => sig,
            None => {
                let abi = self.env.info.types[ty.index()].abi();
                let sig = self.b.import_signature(foreign_signature(&abi));
                self.callees.foreign_sigs.insert(ty, sig);
                sig
            }
        };
        let code = self.b.ins().load(POINTER, flags, entry, FUNC_REF_CALL);
        self.call_target(caller, sig, Target::Code(code))
    }

    /// Calls a builtin that does not throw. One that fails does not return.
    pub(super) fn call_builtin(&mut self, builtin: Builtin, args: &[Value]) -> Inst {
        let (sig, code) = self.builtin_target(builtin, args);
        self.b.ins().call_indirect(sig, code, self.call_args)
    }

    /// Calls a builtin that throws.
    pub(super) fn call_thrower(&mut self, builtin: Builtin, args: &[Value]) {
        let (sig, code) = self.builtin_target(builtin, args);
        self.call_target(Caller::Waits, sig, Target::Code(code));
    }

    /// The code of a builtin and its signature; collects the arguments.
    fn builtin_target(&mut self, builtin: Builtin, args: &[Value]) -> (SigRef, Value) {
        let sig = match self.callees.builtin_sigs.get(&builtin) {
            Some(&sig) => sig,
            None => {
                let sig = self.b.import_signature(foreign_signature(&builtin.sig()));
                self.callees.builtin_sigs.insert(builtin, sig);
                sig
            }
        };
        let builtins = self.header_pointer(vm_context_header::OFFSETS.builtins);
        let at = i64::from(builtin.index() * vm_func_ref::OFFSETS.struct_len);
        let entry = self.b.ins().iadd_imm_u(builtins, at);
        let flags = Region::Context.constant(self.b.func);
        let code = self.b.ins().load(POINTER, flags, entry, FUNC_REF_CALL);
        self.call_args.clear();
        self.call_args.extend([entry, self.vmctx]);
        self.call_args.extend_from_slice(args);
        (sig, code)
    }

    /// Two indices in one argument.
    pub(super) fn pair(&mut self, high: u32, low: u32) -> Value {
        let pair = u64::from(high) << 32 | u64::from(low);
        self.b.ins().iconst(types::I64, pair.cast_signed())
    }

    fn header_pointer(&mut self, field: u32) -> Value {
        self.context_pointer(VMOffsets::header(field))
    }

    /// The type that stands for all that equal this one.
    fn canonical(&self, ty: TypeIdx) -> TypeIdx {
        self.env.info.canonical_types[ty.index()]
    }

    /// Moves the arguments of a call from the value stack, behind the leading ones.
    fn collect_call_args(&mut self, ty: TypeIdx, leading: &[Value]) {
        let start = self.settle(self.env.info.types[ty.index()].params.len());
        self.call_args.clear();
        self.call_args.extend_from_slice(leading);
        self.call_args.extend(self.operands.drain(start..));
    }

    fn push_results(&mut self, call: Called, ty: TypeIdx) {
        let start = self.operands.len();
        self.operands.extend_from_slice(results(&self.b, call));
        let types = &self.env.info.types[ty.index()].results;
        // A call that leaves has none.
        for (at, ty) in (start..self.operands.len()).zip(types) {
            self.declare(self.operands[at], *ty);
        }
    }

    fn jump_with_results(&mut self, call: Called, join: Block) {
        let results = results(&self.b, call);
        self.passed_values += results.len();
        self.branch_args.clear();
        self.branch_args
            .extend(results.iter().copied().map(BlockArg::Value));
        self.b.ins().jump(join, self.branch_args.iter());
    }

    fn guest_sig(&mut self, ty: TypeIdx) -> SigRef {
        match self.callees.guest_sigs.get(&ty) {
            Some(&sig) => sig,
            None => {
                let signature = guest_signature(&self.env.info.types[ty.index()]);
                let sig = self.b.import_signature(signature);
                self.callees.guest_sigs.insert(ty, sig);
                sig
            }
        }
    }

    fn func_ref(&mut self, func: DefinedFuncIdx, ty: TypeIdx) -> FuncRef {
        if let Some(&func_ref) = self.callees.funcs.get(&func) {
            return func_ref;
        }
        let signature = self.guest_sig(ty);
        let name = self.symbol(NS_FUNC, func.as_u32());
        let data = ExtFuncData {
            name,
            signature,
            colocated: true,
            patchable: false,
        };
        let func_ref = self.b.import_function(data);
        self.callees.funcs.insert(func, func_ref);
        func_ref
    }

    /// The address that the code values of table entries are relative to.
    fn text_start(&mut self) -> Value {
        let text = match self.callees.text {
            Some(text) => text,
            None => {
                let name = self.symbol(NS_TEXT, 0);
                let data = GlobalValueData::Symbol {
                    name,
                    offset: 0.into(),
                    colocated: true,
                    tls: false,
                };
                let text = self.b.create_global_value(data);
                self.callees.text = Some(text);
                text
            }
        };
        self.b.ins().symbol_value(POINTER, text)
    }

    fn symbol(&mut self, namespace: u32, index: u32) -> ExternalName {
        let name = UserExternalName::new(namespace, index);
        ExternalName::user(self.b.func.declare_imported_user_function(name))
    }
}
