//! `memory.copy`, `memory.fill`, `memory.init`, `memory.grow`, `data.drop`: all builtins.

use selvedge_artifact::builtins::Builtin;
use wasmparser::Operator;

use super::Translation;

impl Translation<'_, '_> {
    pub(super) fn bulk(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::MemoryGrow { mem } => {
                let delta = self.pop_index();
                let memory = self.u32_const(mem);
                let former = self.call_for_i32(Builtin::MemoryGrow, &[memory, delta]);
                self.push(former);
            }
            Operator::MemoryCopy { dst_mem, src_mem } => {
                let len = self.pop_index();
                let src = self.pop_index();
                let dst = self.pop_index();
                let memories = self.pair(dst_mem, src_mem);
                self.call_builtin(Builtin::MemoryCopy, &[memories, dst, src, len]);
            }
            Operator::MemoryFill { mem } => {
                let len = self.pop_index();
                let value = self.pop();
                let dst = self.pop_index();
                let memory = self.u32_const(mem);
                self.call_builtin(Builtin::MemoryFill, &[memory, dst, value, len]);
            }
            Operator::MemoryInit { data_index, mem } => {
                let (src, len) = self.pop2();
                let dst = self.pop_index();
                let memory_data = self.pair(mem, data_index);
                self.call_builtin(Builtin::MemoryInit, &[memory_data, dst, src, len]);
            }
            Operator::DataDrop { data_index } => {
                let data = self.u32_const(data_index);
                self.call_builtin(Builtin::DataDrop, &[data]);
            }
            _ => return false,
        }
        true
    }
}
