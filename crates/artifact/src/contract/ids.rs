//! Index newtypes: a function index is never mistaken for a type index.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub struct $name(u32);

        impl $name {
            /// Makes the index from its number.
            pub const fn new(index: u32) -> Self {
                Self(index)
            }
            /// The index as Wasm and generated code see it.
            pub const fn as_u32(self) -> u32 {
                self.0
            }
            /// The index for use with slices.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A type of the type section.
    TypeIdx
    /// A function, imported ones first.
    FuncIdx
    /// A function with a body in this module, counted from the first such.
    DefinedFuncIdx
    /// A table, imported ones first.
    TableIdx
    /// A memory, imported ones first.
    MemoryIdx
    /// A global, imported ones first.
    GlobalIdx
    /// A tag, imported ones first.
    TagIdx
    /// A data segment.
    DataIdx
    /// An element segment.
    ElemIdx
    /// A distinct machine-level signature of a module: types that are passed alike share one.
    SigIdx
}
