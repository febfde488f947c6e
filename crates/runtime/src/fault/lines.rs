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

/// How deep entries of DWARF may be nested: addr2line follows inlined functions by recursion, on the
/// host's stack. Compilers stay below a hundred.
const MAX_DEPTH: isize = 256;

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
        let dwarf = Dwarf::load(load).ok()?;
        if !is_shallow(&dwarf).ok()? {
            return None;
        }
        let context = Context::from_dwarf(dwarf).ok()?;
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

/// Whether no entry is nested deeper than [`MAX_DEPTH`].
fn is_shallow(dwarf: &Dwarf<EndianArcSlice<LittleEndian>>) -> Result<bool, Error> {
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let abbreviations = dwarf.abbreviations(&header)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        while !entries.is_empty() {
            if entries.next_depth() > MAX_DEPTH {
                return Ok(false);
            }
            if let Some(abbreviation) = entries.read_abbreviation()? {
                entries.skip_attributes(abbreviation.attributes())?;
            }
        }
    }
    Ok(true)
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DWARF of one function with so many functions inlined into each other.
    fn nested(depth: usize) -> [(&'static str, Vec<u8>); 2] {
        // Tag, has children, attributes with their forms (DWARF 4, 7.5.3): low_pc as an address, high_pc
        // as a length of four bytes.
        let mut abbreviations = Vec::new();
        for (code, tag) in [(1, 0x11), (2, 0x2e), (3, 0x1d)] {
            abbreviations.extend([code, tag, 1, 0x11, 0x01, 0x12, 0x06, 0, 0]);
        }
        abbreviations.push(0);
        let range = [0, 0, 0, 0, 100, 0, 0, 0];
        // Version 4, abbreviations at 0, addresses of four bytes.
        let mut unit = vec![4, 0, 0, 0, 0, 0, 4];
        for code in [1, 2].into_iter().chain(std::iter::repeat_n(3, depth)) {
            unit.push(code);
            unit.extend(range);
        }
        unit.extend(std::iter::repeat_n(0, depth + 2));
        let mut info = (unit.len() as u32).to_le_bytes().to_vec();
        info.extend(unit);
        [(".debug_abbrev", abbreviations), (".debug_info", info)]
    }

    #[test]
    fn entries_that_are_nested_without_end_do_not_use_up_the_hosts_stack() {
        let read = |sections: &[(&str, Vec<u8>)]| {
            Lines::read(|name| {
                let section = sections.iter().find(|section| section.0 == name);
                section.map_or(&[][..], |section| &section.1)
            })
        };
        let lines = read(&nested(200)).expect("as deep as compilers go, and further");
        assert_eq!(lines.find(50).len(), MAX_INLINED);
        assert!(read(&nested(1_000_000)).is_none());
    }

    #[test]
    fn nonsense_names_no_line() {
        assert!(Lines::read(|_| &[]).is_none_or(|lines| lines.find(0).is_empty()));
        let noise: Vec<u8> = (0..4096_u32)
            .map(|i| (i.wrapping_mul(2_654_435) >> 7) as u8)
            .collect();
        assert!(Lines::read(|_| &noise).is_none_or(|lines| lines.find(17).is_empty()));
    }
}
