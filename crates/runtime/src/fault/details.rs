//! What the embedder is told of a fault.

use std::fmt;

use selvedge_artifact::traps::TrapCode;

/// A guest's fault: why, and where.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FaultDetails {
    /// Why the guest trapped.
    pub code: TrapCode,
    /// For an access outside a memory the first offset that was refused, if it is known.
    pub memory_offset: Option<u64>,
    /// What else is known, such as the two types of a mismatched call.
    pub detail: Option<String>,
    /// Where the guest was, innermost frame first.
    pub backtrace: WasmBacktrace,
}

impl FaultDetails {
    /// A fault of which only the reason is known.
    pub(crate) fn new(code: TrapCode) -> Self {
        Self {
            code,
            memory_offset: None,
            detail: None,
            backtrace: WasmBacktrace::default(),
        }
    }
}

impl fmt::Display for FaultDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest trapped: {}", self.code)?;
        if let Some(offset) = self.memory_offset {
            write!(f, " at memory offset {offset:#x}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if !self.backtrace.frames.is_empty() {
            write!(f, "\n{}", self.backtrace)?;
        }
        Ok(())
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
        };
        let fault = FaultDetails {
            code: TrapCode::HeapOutOfBounds,
            memory_offset: Some(65536),
            detail: None,
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
            "guest trapped: out of bounds memory access at memory offset 0x10000\n\
             wasm backtrace:\n    0:     0x64 - <module>!core::fmt::Write::write_fmt\n    \
             1:        ? - <module>!<function 3>\n       ... 2 more frames"
        );
    }
}
