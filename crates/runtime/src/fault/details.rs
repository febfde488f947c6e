//! What the embedder is told of a fault.

use std::fmt;

use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::FuncType;

use crate::fault::lines::SourceLine;
use crate::module::Module;

/// A guest's fault: why, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FaultDetails {
    /// Why the guest trapped.
    pub code: TrapCode,
    /// What else is known, such as the address that was refused. Boxed: most faults have none, and
    /// libcalls return it.
    pub info: Option<Box<TrapInfo>>,
    /// Where the guest was, innermost frame first.
    pub backtrace: WasmBacktrace,
}

impl FaultDetails {
    /// A fault of which only the reason is known.
    pub(crate) fn new(code: TrapCode) -> Self {
        Self {
            code,
            info: None,
            backtrace: WasmBacktrace::default(),
        }
    }

    /// For an access outside a memory, the first address that was refused.
    pub fn memory_address(&self) -> Option<u64> {
        match self.info.as_deref() {
            Some(TrapInfo::Memory { address, .. }) => Some(*address),
            _ => None,
        }
    }
}

impl fmt::Display for FaultDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest trapped: {}", self.code)?;
        if let Some(info) = &self.info {
            write!(f, ": {info}")?;
        }
        if !self.backtrace.frames.is_empty() {
            write!(f, "\n{}", self.backtrace)?;
        }
        Ok(())
    }
}

/// What is known of a trap beyond its code. Indices are those of the module whose code trapped.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrapInfo {
    /// An access outside a memory.
    #[non_exhaustive]
    Memory {
        /// The memory.
        memory: u32,
        /// The first address that was refused, in bytes; the greatest number if it is greater.
        address: u64,
        /// Bytes that the memory had.
        len: u64,
    },
    /// An access outside a data or element segment; a segment that was dropped has nothing in it.
    #[non_exhaustive]
    Segment {
        /// The segment.
        segment: u32,
        /// The first byte or element that was refused.
        index: u64,
        /// Bytes or elements that the segment had.
        len: u64,
    },
    /// An access outside a table, or a call through an element outside of it.
    #[non_exhaustive]
    Table {
        /// The table.
        table: u32,
        /// The first element that was refused.
        index: u64,
        /// Elements that the table had.
        len: u64,
    },
    /// A call through an element that is null.
    #[non_exhaustive]
    NullElement {
        /// The table.
        table: u32,
        /// The element.
        index: u64,
    },
    /// A call through an element that is a function of another type.
    #[non_exhaustive]
    Signature {
        /// The table.
        table: u32,
        /// The element.
        index: u64,
        /// The type that the call is for.
        expected: FuncType,
        /// The type of the function, if it is known.
        found: Option<FuncType>,
    },
    /// The guest's stack is used up.
    #[non_exhaustive]
    Stack {
        /// Bytes that the stack had.
        len: u64,
    },
    /// In words.
    Other(String),
}

impl fmt::Display for TrapInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory {
                memory,
                address,
                len,
            } => write!(
                f,
                "address {address:#x} of memory {memory}, which has {len:#x} bytes"
            ),
            Self::Segment {
                segment,
                index,
                len,
            } => write!(f, "index {index} of segment {segment}, which has {len}"),
            Self::Table { table, index, len } => {
                write!(f, "element {index} of table {table}, which has {len}")
            }
            Self::NullElement { table, index } => {
                write!(f, "element {index} of table {table} is null")
            }
            Self::Signature {
                table,
                index,
                expected,
                found,
            } => {
                write!(f, "expected {expected}, found ")?;
                match found {
                    Some(found) => write!(f, "{found}")?,
                    None => f.write_str("another type")?,
                }
                write!(f, " in element {index} of table {table}")
            }
            Self::Stack { len } => write!(f, "the guest's stack of {len} bytes is used up"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The guest frames of a stack, innermost first.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct WasmBacktrace {
    /// The frames, up to a limit.
    pub frames: Vec<Frame>,
    /// Frames beyond the limit.
    pub omitted: u64,
}

/// Frames that a backtrace holds at most.
pub(crate) const MAX_FRAMES: usize = 64;

impl fmt::Display for WasmBacktrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wasm backtrace:")?;
        for (i, frame) in self.frames.iter().enumerate() {
            write!(f, "\n{i:5}: {frame}")?;
            for line in frame.source_lines() {
                write!(f, "\n{:18}{line}", "")?;
            }
        }
        if self.omitted > 0 {
            write!(f, "\n       ... {} more frames", self.omitted)?;
        }
        Ok(())
    }
}

/// One guest frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Frame {
    /// The module's own name for itself.
    pub module: Option<String>,
    /// Index of the function in its module.
    pub func_index: u32,
    /// Its name, as the module has it.
    pub func_name: Option<String>,
    /// Offset of the instruction in the Wasm file.
    pub wasm_offset: Option<u32>,
    /// Offset of the instruction in its function's body.
    pub func_offset: Option<u32>,
    /// Position of the member of the instance whose code it is.
    pub(crate) member: u32,
    /// The module, if it knows source lines.
    pub(crate) with_lines: Option<Module>,
}

impl Frame {
    /// Where the instruction stands in the source, innermost inlined function first. Empty unless the
    /// module has DWARF that was kept when it was compiled; that is read the first time, which takes its
    /// time.
    pub fn source_lines(&self) -> Vec<SourceLine> {
        match (&self.with_lines, self.wasm_offset) {
            (Some(module), Some(offset)) => module.source_lines(offset),
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wasm_offset {
            Some(offset) => write!(f, "{offset:#8x} - ")?,
            None => write!(f, "{:>8} - ", "?")?,
        }
        f.write_str(self.module.as_deref().unwrap_or("<module>"))?;
        f.write_str("!")?;
        match &self.func_name {
            Some(name) => write!(f, "{:#}", rustc_demangle::demangle(name)),
            None => write!(f, "<function {}>", self.func_index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_report() {
        let frame = |name: Option<&str>, offset| Frame {
            module: None,
            func_index: 3,
            func_name: name.map(str::to_owned),
            wasm_offset: offset,
            func_offset: None,
            member: 0,
            with_lines: None,
        };
        let fault = FaultDetails {
            code: TrapCode::HeapOutOfBounds,
            info: Some(Box::new(TrapInfo::Memory {
                memory: 1,
                address: 65537,
                len: 65536,
            })),
            backtrace: WasmBacktrace {
                frames: vec![
                    frame(
                        Some("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"),
                        Some(100),
                    ),
                    frame(None, None),
                ],
                omitted: 2,
            },
        };
        let text = fault.to_string();
        assert_eq!(
            text,
            "guest trapped: out of bounds memory access: address 0x10001 of memory 1, which has 0x10000 bytes\n\
             wasm backtrace:\n    0:     0x64 - <module>!core::fmt::Write::write_fmt\n    \
             1:        ? - <module>!<function 3>\n       ... 2 more frames"
        );
    }
}
