//! Table access and bulk operations on tables.
//!
//! All but `table.size` of an own table are builtins: they handle references of every kind, and
//! keep the entries in the form that `call_indirect` reads.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use selvedge_artifact::builtins::Builtin;
use selvedge_artifact::ids::TableIdx;
use wasmparser::Operator;

use super::Translation;

impl Translation<'_, '_> {
    pub(super) fn table(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::TableSize { table } => {
                let is_64 = self.table_is_64(table);
                let len = match self.env.offsets.table(TableIdx::new(table)) {
                    Some(definition) => self.table_len(definition, is_64),
                    None => {
                        let table = self.u32_const(table);
                        self.call_for_count(Builtin::TableSize, &[table], is_64)
                    }
                };
                self.push(len);
            }
            Operator::TableGet { table } => {
                let elem = self.env.info.tables[table as usize].elem;
                let index = self.pop_index_of(self.table_is_64(table));
                let table = self.u32_const(table);
                let call = self.call_builtin(Builtin::TableGet, &[table, index]);
                let value = self.b.inst_results(call)[0];
                self.declare(value, elem);
                self.push(value);
            }
            Operator::TableSet { table } => {
                let value = self.pop();
                let index = self.pop_index_of(self.table_is_64(table));
                let table = self.u32_const(table);
                self.call_builtin(Builtin::TableSet, &[table, index, value]);
            }
            Operator::TableGrow { table } => {
                let is_64 = self.table_is_64(table);
                let delta = self.pop_index_of(is_64);
                self.charge_len(delta, 0);
                let init = self.pop();
                let table = self.u32_const(table);
                let args = [table, delta, init];
                let former = self.call_for_count(Builtin::TableGrow, &args, is_64);
                self.push(former);
            }
            Operator::TableFill { table } => {
                let is_64 = self.table_is_64(table);
                let len = self.pop_index_of(is_64);
                self.charge_len(len, 0);
                let value = self.pop();
                let dst = self.pop_index_of(is_64);
                let table = self.u32_const(table);
                self.call_builtin(Builtin::TableFill, &[table, dst, value, len]);
            }
            Operator::TableCopy {
                dst_table,
                src_table,
            } => {
                let (to_64, from_64) = (self.table_is_64(dst_table), self.table_is_64(src_table));
                let len = self.pop_index_of(to_64 && from_64);
                self.charge_len(len, 0);
                let src = self.pop_index_of(from_64);
                let dst = self.pop_index_of(to_64);
                let tables = self.pair(dst_table, src_table);
                self.call_builtin(Builtin::TableCopy, &[tables, dst, src, len]);
            }
            Operator::TableInit { elem_index, table } => {
                let (src, len) = self.pop2();
                self.charge_len(len, 0);
                let dst = self.pop_index_of(self.table_is_64(table));
                let table_elem = self.pair(table, elem_index);
                self.call_builtin(Builtin::TableInit, &[table_elem, dst, src, len]);
            }
            Operator::ElemDrop { elem_index } => {
                let elem = self.u32_const(elem_index);
                self.call_builtin(Builtin::ElemDrop, &[elem]);
            }
            _ => return false,
        }
        true
    }

    fn table_is_64(&self, table: u32) -> bool {
        self.env.info.tables[table as usize].is_64
    }

    /// Calls a builtin whose `i64` result is a count or -1, and takes it as an `i32` unless counts of
    /// this memory or table are 64 bits wide.
    pub(super) fn call_for_count(
        &mut self,
        builtin: Builtin,
        args: &[Value],
        is_64: bool,
    ) -> Value {
        let call = self.call_builtin(builtin, args);
        let count = self.b.inst_results(call)[0];
        match is_64 {
            true => count,
            false => self.b.ins().ireduce(types::I32, count),
        }
    }

    /// An index as an argument of a builtin.
    pub(super) fn u32_const(&mut self, value: u32) -> Value {
        self.b.ins().iconst(types::I32, i64::from(value))
    }
}
