//! From an offset in a Wasm file to source lines, by the module's own DWARF.
//!
//! DWARF comes from whoever made the module and is not validated: what can't be read of it names no
//! line. It is read when a line is first asked for, and kept with the module.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use addr2line::Context;
use gimli::{Dwarf, EndianArcSlice, Error, LittleEndian, SectionId};

/// Frames of one instruction that are told at most: inlining nests, and who made the DWARF says how deep.
const MAX_INLINED: usize = 64;

/// A place in the source of a guest, as its DWARF has it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SourceLine {
    /// The function, where the DWARF names one. For an inlined function it is not that of the frame.
    pub func_name: Option<String>,
    /// The file.
    pub file: Option<String>,
    /// The line, counted from 1.
    pub line: Option<u32>,
    /// The column, counted from 1.
    pub column: Option<u32>,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.func_name {
            write!(f, "{name} ")?;
        }
        write!(f, "at {}", self.file.as_deref().unwrap_or("<unknown file>"))?;
        for number in [self.line, self.column].into_iter().flatten() {
            write!(f, ":{number}")?;
        }
        Ok(())
    }
}

/// The DWARF of a module, read.
pub(crate) struct Lines(Mutex<Context<EndianArcSlice<LittleEndian>>>);

impl Lines {
    /// Reads the index of the DWARF in these sections; `None` if there is none that can be read.
    pub(crate) fn read<'a>(section: impl Fn(&str) -> &'a [u8]) -> Option<Self> {
        let load = |id: SectionId| {
            let bytes: Arc<[u8]> = section(id.name()).into();
            Ok::<_, Error>(EndianArcSlice::new(bytes, LittleEndian))
        };
        let context = Context::from_dwarf(Dwarf::load(load).ok()?).ok()?;
        Some(Self(Mutex::new(context)))
    }

    /// Places in the source of the instruction at an offset of the code section, innermost first: those of
    /// functions inlined there, then that of the function itself.
    pub(crate) fn find(&self, offset: u64) -> Vec<SourceLine> {
        // Whoever panicked with the lock held left caches that are filled entry by entry.
        let context = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut frames) = context.find_frames(offset).skip_all_loads() else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let func_name = frame
                .function
                .as_ref()
                .and_then(|name| name.raw_name().ok())
                .map(|name| format!("{:#}", rustc_demangle::demangle(name.as_ref())));
            let location = frame.location;
            let place = location.as_ref();
            lines.push(SourceLine {
                func_name,
                file: place.and_then(|place| place.file).map(str::to_owned),
                line: place.and_then(|place| place.line),
                column: place.and_then(|place| place.column),
            });
            if lines.len() == MAX_INLINED {
                break;
            }
        }
        lines
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_names_no_line() {
        assert!(Lines::read(|_| &[]).is_none_or(|lines| lines.find(0).is_empty()));
        let noise: Vec<u8> = (0..4096_u32)
            .map(|i| (i.wrapping_mul(2_654_435) >> 7) as u8)
            .collect();
        assert!(Lines::read(|_| &noise).is_none_or(|lines| lines.find(17).is_empty()));
    }
}
