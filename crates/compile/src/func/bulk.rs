//! `memory.copy`, `memory.fill`, `memory.init`, `memory.grow`, `data.drop`: all builtins.

use selvedge_artifact::builtins::Builtin;
use wasmparser::Operator;

use super::Translation;
use crate::fuel_costs::FuelCosts;

impl Translation<'_, '_> {
    pub(super) fn bulk(&mut self, op: &Operator<'_>) -> bool {
        match *op {
            Operator::MemoryGrow { mem } => {
                let is_64 = self.memory_is_64(mem);
                let delta = self.pop_index_of(is_64);
                self.charge_len(delta, 0);
                let memory = self.u32_const(mem);
                let former = self.call_for_count(Builtin::MemoryGrow, &[memory, delta], is_64);
                self.push(former);
            }
            Operator::MemoryCopy { dst_mem, src_mem } => {
                let (to_64, from_64) = (self.memory_is_64(dst_mem), self.memory_is_64(src_mem));
                let len = self.pop_index_of(to_64 && from_64);
                self.charge_len(len, FuelCosts::PER_LEN_LOG2);
                let src = self.pop_index_of(from_64);
                let dst = self.pop_index_of(to_64);
                let memories = self.pair(dst_mem, src_mem);
                self.call_builtin(Builtin::MemoryCopy, &[memories, dst, src, len]);
            }
            Operator::MemoryFill { mem } => {
                let is_64 = self.memory_is_64(mem);
                let len = self.pop_index_of(is_64);
                self.charge_len(len, FuelCosts::PER_LEN_LOG2);
                let value = self.pop();
                let dst = self.pop_index_of(is_64);
                let memory = self.u32_const(mem);
                self.call_builtin(Builtin::MemoryFill, &[memory, dst, value, len]);
            }
            Operator::MemoryInit { data_index, mem } => {
                let (src, len) = self.pop2();
                self.charge_len(len, FuelCosts::PER_LEN_LOG2);
                let dst = self.pop_index_of(self.memory_is_64(mem));
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

    pub(super) fn memory_is_64(&self, memory: u32) -> bool {
        self.env.info.memories[memory as usize].is_64
    }
}
