//! What the compiler writes and the runtime reads.
//!
//! This crate holds the *contract*: index types, value types, trap codes, libcalls, and the layout of
//! every structure that generated code touches, each as one table. It also holds the *artifact*: the
//! ELF file that carries a compiled module, its writer and its reader. It contains no compiler and
//! no runtime, and no unsafe code.
//!
//! ```text
//! artifact file (ELF64, relocatable, nothing to relocate)
//! +--------------------------+
//! | ELF header               |
//! | .text                    | page-aligned, position-independent, mapped executable
//! | .eh_frame                | page-aligned, for debuggers and profilers
//! | .selvedge.image          | page-aligned, initial pages of memory 0
//! | .selvedge.data           | bytes of passive and dynamic data segments
//! | .selvedge.tables         | initial table entries
//! | .selvedge.traps          | pc -> trap code
//! | .selvedge.addrmap        | pc -> offset in the Wasm file
//! | .selvedge.catches        | return address of a call -> handlers of exceptions
//! | .selvedge.names          | function names
//! | .selvedge.meta           | types, imports, exports, ... (postcard)
//! | .selvedge.header         | magic, version, target, tunables, length and checksum
//! | .symtab .strtab          | one symbol a function
//! | section headers          |
//! +--------------------------+
//! ```
#![forbid(unsafe_code)]

pub mod catches;
pub mod contract;
mod error;
pub mod header;
pub mod image;
pub mod module;
pub mod pcmap;
pub mod read;
pub mod state;
pub mod write;

pub use contract::{builtins, canon, ids, traps, tunables, types, vmfields, vmoffsets};
pub use error::Error;
