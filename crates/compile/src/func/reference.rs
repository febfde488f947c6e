//! `ref.null`, `ref.is_null`, `ref.as_non_null`, `ref.func`.
//!
//! A reference is an `i64`: a pointer to a `VMFuncRef` or a handle, zero being null.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::traps::TrapCode;
use wasmparser::Operator;

use super::Translation;
use crate::env::{POINTER, trap_code};

impl Translation<'_, '_> {
    pub(super) fn reference(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::RefNull { .. } => {
                let null = self.b.ins().iconst(POINTER, 0);
                self.push(null);
            }
            Operator::RefIsNull => {
                let value = self.pop();
                let is_null = match self.never_null {
                    true => self.b.ins().iconst(types::I8, 0),
                    false => self.b.ins().icmp_imm_u(IntCC::Equal, value, 0),
                };
                self.push(is_null);
            }
            Operator::RefFunc { function_index } => {
                let func = self.u32_const(function_index);
                let call = self.call_builtin(Builtin::RefFunc, &[func]);
                let value = self.b.inst_results(call)[0];
                self.push(value);
            }
            Operator::RefAsNonNull => {
                let value = self.pop();
                self.trap_if_null(value, TrapCode::NullReference);
                self.push(value);
            }
            _ => return false,
        }
        true
    }

    /// Traps if the reference that was on top is null, unless its type says that it is not. A load through it
    /// would tell as well, but faults near address zero are the host's: the check is a comparison that the
    /// processor fuses with its branch.
    pub(super) fn trap_if_null(&mut self, reference: Value, code: TrapCode) {
        if self.never_null {
            return;
        }
        self.b.ins().trapz(reference, trap_code(code));
    }
}
