//! The table of libcalls: what generated code asks of the runtime.
//!
//! `VMContext` points to an array of `VMFuncRef`, one a builtin, in this order. Generated code calls
//! a builtin as it calls any host function: `call(entry, vmctx, arguments...)`, so all arguments
//! must fit registers (see [`AbiSig::fits_registers`]). Two indices share one `i64` where they
//! otherwise would not: the first in the upper half.

use super::types::{AbiSig, AbiType};

macro_rules! builtins {
    ($($(#[$doc:meta])* $name:ident $method:ident ($($arg:ident : $ty:ident),*) $(-> $ret:ident)?)*) => {
        /// A libcall.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Builtin {
            $($(#[$doc])* $name,)*
        }

        impl Builtin {
            /// Every builtin, in the order of the array.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The builtin's name in symbols and dumps.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($method),)* }
            }

            /// The machine-level signature, without the two context arguments.
            pub fn sig(self) -> AbiSig {
                match self {
                    $(Self::$name => AbiSig {
                        params: vec![$(AbiType::$ty),*],
                        results: vec![$(AbiType::$ret)?],
                    },)*
                }
            }
        }

        /// Calls `$callback!` with the table, for the side that implements the builtins.
        #[macro_export]
        macro_rules! with_builtins {
            ($callback:ident) => {
                $callback! { $($name $method ($($arg : $ty),*) $(-> $ret)?;)* }
            };
        }
    };
}

builtins! {
    /// Grows a memory by `delta` pages; the former count of pages, or -1.
    MemoryGrow memory_grow(memory: I32, delta: I64) -> I64
    /// Copies between memories, `memories` being destination and source.
    MemoryCopy memory_copy(memories: I64, dst: I64, src: I64, len: I64)
    /// Fills a range with a byte.
    MemoryFill memory_fill(memory: I32, dst: I64, value: I32, len: I64)
    /// Copies from a data segment; `memory_data` being memory and segment.
    MemoryInit memory_init(memory_data: I64, dst: I64, src: I32, len: I32)
    /// Traps: an access at `index + offset` was checked and found outside the memory.
    MemoryOutOfBounds memory_out_of_bounds(memory: I32, index: I64, offset: I64)
    /// Drops a data segment.
    DataDrop data_drop(data: I32)
    /// Elements of a table.
    TableSize table_size(table: I32) -> I64
    /// The reference at an index.
    TableGet table_get(table: I32, index: I64) -> I64
    /// Stores a reference at an index.
    TableSet table_set(table: I32, index: I64, value: I64)
    /// Grows a table by `delta` elements; the former count, or -1.
    TableGrow table_grow(table: I32, delta: I64, init: I64) -> I64
    /// Fills a range with a reference.
    TableFill table_fill(table: I32, dst: I64, value: I64, len: I64)
    /// Copies between tables, `tables` being destination and source.
    TableCopy table_copy(tables: I64, dst: I64, src: I64, len: I64)
    /// Copies from an element segment; `table_elem` being table and segment.
    TableInit table_init(table_elem: I64, dst: I64, src: I32, len: I32)
    /// Drops an element segment.
    ElemDrop elem_drop(elem: I32)
    /// The `VMFuncRef` of a function of this instance.
    RefFunc ref_func(func: I32) -> I64
    /// The `VMFuncRef` to call for an element that the inline path of `call_indirect` can't handle:
    /// traps if it is out of bounds, null or of another type. `table_type` is table and type index.
    IndirectCallee indirect_callee(table_type: I64, index: I64) -> I64
    /// Throws an exception of a tag; its values stand on the guest's stack at `values`, a slot each
    /// as in an argument array. Does not return.
    Throw throw(tag: I32, values: I64)
    /// Throws the exception that a reference names; traps if it is null. Does not return.
    ThrowRef throw_ref(exn: I64)
    /// Waits until it is notified at an address that holds an `i32`: 0, or 1 if the word is another, or 2
    /// after `timeout` nanoseconds, if that is not negative.
    AtomicWait32 atomic_wait32(memory: I32, addr: I64, expected: I32, timeout: I64) -> I32
    /// As `AtomicWait32`, for an `i64`.
    AtomicWait64 atomic_wait64(memory: I32, addr: I64, expected: I64, timeout: I64) -> I32
    /// Wakes guests that wait at an address, `count` at most; how many it woke.
    AtomicNotify atomic_notify(memory: I32, addr: I64, count: I32) -> I32
}

impl Builtin {
    /// Position in the array.
    pub const fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_is_callable_in_registers() {
        for (i, b) in Builtin::ALL.iter().enumerate() {
            assert_eq!(b.index() as usize, i);
            assert!(b.sig().fits_registers(), "{}", b.name());
        }
    }
}
