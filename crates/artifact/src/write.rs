//! Metadata and code to an ELF file.

use std::ops::Range;

use object::write::{Object, SectionId, StandardSegment, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

use crate::catches::{self, CallSite};
use crate::contract::traps::TrapCode;
use crate::error::Error;
use crate::header::{self, Identity};
use crate::image::ImageBuilder;
use crate::module::{CodeRange, ModuleInfo};
use crate::pcmap;
use crate::read::{self, Layout};
use crate::state::State;

/// Alignment of sections that are mapped.
pub const SECTION_PAGE_LEN: u64 = 4096;

/// Names of the sections.
pub(crate) mod names {
    pub(crate) const TEXT: &str = ".text";
    pub(crate) const EH_FRAME: &str = ".eh_frame";
    pub(crate) const IMAGE: &str = ".selvedge.image";
    pub(crate) const DATA: &str = ".selvedge.data";
    pub(crate) const TABLES: &str = ".selvedge.tables";
    pub(crate) const TRAPS: &str = ".selvedge.traps";
    pub(crate) const ADDRMAP: &str = ".selvedge.addrmap";
    pub(crate) const FUEL: &str = ".selvedge.fuel";
    pub(crate) const CATCHES: &str = ".selvedge.catches";
    pub(crate) const NAMES: &str = ".selvedge.names";
    pub(crate) const META: &str = ".selvedge.meta";
    pub(crate) const HEADER: &str = ".selvedge.header";
    /// In front of the names of the module's own DWARF sections, which are not about this file's code.
    pub(crate) const DWARF_PREFIX: &str = ".selvedge";
}

/// A symbol of the text.
#[derive(Clone, Debug)]
pub struct CodeSymbol {
    /// Its name.
    pub name: String,
    /// What it names.
    pub range: CodeRange,
}

/// The parts of an artifact.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// Who made the code, for what.
    pub identity: &'a Identity,
    /// Everything but the code.
    pub info: &'a ModuleInfo,
    /// The code, all references inside it resolved.
    pub text: &'a [u8],
    /// Unwind tables whose code addresses are relative to their own place, the tables being placed
    /// at [`eh_frame_distance`] bytes behind the start of the text. Empty if there are none.
    pub eh_frame: &'a [u8],
    /// Pages of memory images.
    pub image: &'a [u8],
    /// Bytes of data segments that are not in the image.
    pub data: &'a [u8],
    /// Initial table entries, 8 bytes each.
    pub tables: &'a [u8],
    /// Code offsets that may trap, rising.
    pub traps: &'a [(u32, TrapCode)],
    /// Code offsets and the Wasm offsets they come from, rising.
    pub addresses: &'a [(u32, u32)],
    /// Code offsets that may trap, and what the count of fuel leaves out there, rising; see
    /// [`FuelMap`](crate::pcmap::FuelMap). Empty if the code does not count.
    pub fuel: &'a [(u32, u32)],
    /// Calls that have handlers of exceptions, by rising return address.
    pub catches: &'a [CallSite],
    /// Function names by function index, rising.
    pub func_names: &'a [(u32, String)],
    /// The module's DWARF sections that are kept, under names of [`DWARF_SECTIONS`](crate::read::DWARF_SECTIONS).
    pub dwarf: &'a [(&'static str, &'a [u8])],
    /// Symbols for debuggers and profilers.
    pub symbols: &'a [CodeSymbol],
}

/// Bytes from the start of the text to the start of the unwind tables.
pub fn eh_frame_distance(text_len: usize) -> u64 {
    (text_len.max(1) as u64).next_multiple_of(SECTION_PAGE_LEN)
}

/// An artifact that this process has just made, of a module or of the state of an instance, and may load without doubt
/// of its origin.
#[derive(Clone, Debug)]
pub struct Compiled {
    bytes: Vec<u8>,
}

impl Compiled {
    /// The artifact's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The artifact's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Writes an artifact. The parts come from the compiler: who calls this with other code vouches for it.
pub fn write(parts: &Parts<'_>) -> Result<Compiled, Error> {
    for (part, len) in [("code", parts.text.len()), ("data", parts.data.len())] {
        if len > i32::MAX as usize {
            return Err(Error::TooLarge {
                part,
                len: len as u64,
                max: i32::MAX as u64,
            });
        }
    }
    let bytes = Sections {
        text: parts.text,
        eh_frame: parts.eh_frame,
        image: parts.image,
        data: parts.data,
        tables: parts.tables,
        traps: &pcmap::encode_traps(parts.traps),
        addresses: &pcmap::encode_addresses(parts.addresses),
        fuel: &pcmap::encode_fuel(parts.fuel),
        catches: &catches::encode(parts.catches),
        names: &postcard::to_stdvec(parts.func_names).map_err(Error::Encode)?,
        meta: &postcard::to_stdvec(parts.info).map_err(Error::Encode)?,
        header: &header::encode(parts.identity)?,
        dwarf: parts.dwarf.to_vec(),
    }
    .assemble(parts.symbols)?;
    Ok(Compiled { bytes })
}

/// Writes an artifact anew as a snapshot: the same code, whose instances begin with this state, and with this in
/// memory 0. `file` was checked by [`read`](crate::read::read), which gave `layout`.
///
/// # Errors
///
/// If the file is not what was checked, or the new one can't be written.
pub fn write_snapshot(
    file: &[u8],
    layout: &Layout,
    state: State,
    memory: ImageBuilder<'_>,
) -> Result<Compiled, Error> {
    let rest = read::rest(file)?;
    let part = |range: &Range<usize>| file.get(range.clone()).ok_or(Error::Inconsistent);
    let mut info = rest.info;
    let (memory_image, image) = memory.build();
    info.memory_image = memory_image;
    info.state = Some(state);
    let dwarf = layout.dwarf.iter();
    let dwarf = dwarf.map(|(name, range)| Ok((*name, part(range)?)));
    Sections {
        text: part(&layout.text)?,
        eh_frame: part(&rest.eh_frame)?,
        image: &image,
        data: part(&layout.data)?,
        tables: part(&layout.tables)?,
        traps: part(&layout.traps)?,
        addresses: part(&layout.addresses)?,
        fuel: part(&layout.fuel)?,
        catches: part(&layout.catches)?,
        names: part(&layout.names)?,
        meta: &postcard::to_stdvec(&info).map_err(Error::Encode)?,
        header: part(&rest.header)?,
        dwarf: dwarf.collect::<Result<_, Error>>()?,
    }
    .assemble(&rest.symbols)
    .map(|bytes| Compiled { bytes })
}

/// The contents of all sections.
struct Sections<'a> {
    text: &'a [u8],
    eh_frame: &'a [u8],
    image: &'a [u8],
    data: &'a [u8],
    tables: &'a [u8],
    traps: &'a [u8],
    addresses: &'a [u8],
    fuel: &'a [u8],
    catches: &'a [u8],
    names: &'a [u8],
    meta: &'a [u8],
    header: &'a [u8],
    dwarf: Vec<(&'static str, &'a [u8])>,
}

impl Sections<'_> {
    /// The file of these sections, sealed.
    fn assemble(&self, symbols: &[CodeSymbol]) -> Result<Vec<u8>, Error> {
        let mut file = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = SectionKind::Text;
        let text = add(&mut file, names::TEXT, text, self.text, SECTION_PAGE_LEN);
        let others = [
            (names::EH_FRAME, self.eh_frame, SECTION_PAGE_LEN),
            (names::IMAGE, self.image, SECTION_PAGE_LEN),
            (names::DATA, self.data, 16),
            (names::TABLES, self.tables, 16),
            (names::TRAPS, self.traps, 16),
            (names::ADDRMAP, self.addresses, 16),
            (names::FUEL, self.fuel, 16),
            (names::CATCHES, self.catches, 16),
            (names::NAMES, self.names, 16),
            (names::META, self.meta, 16),
            (names::HEADER, self.header, 16),
        ];
        for (name, bytes, align) in others {
            add(&mut file, name, SectionKind::ReadOnlyData, bytes, align);
        }
        for (name, bytes) in &self.dwarf {
            let name = format!("{}{name}", names::DWARF_PREFIX);
            add(&mut file, &name, SectionKind::ReadOnlyData, bytes, 1);
        }
        for symbol in symbols {
            file.add_symbol(Symbol {
                name: symbol.name.clone().into_bytes(),
                value: symbol.range.offset.into(),
                size: symbol.range.len.into(),
                kind: SymbolKind::Text,
                scope: SymbolScope::Compilation,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        let mut bytes = file.write().map_err(|e| Error::Elf(e.to_string()))?;
        // The header is found again by its magic at the place that the section table says.
        let at = read::header_range(&bytes)?.start;
        header::seal(&mut bytes, at, self.header.len());
        Ok(bytes)
    }
}

fn add(
    file: &mut Object<'_>,
    name: &str,
    kind: SectionKind,
    bytes: &[u8],
    align: u64,
) -> SectionId {
    let segment = match kind {
        SectionKind::Text => StandardSegment::Text,
        _ => StandardSegment::Data,
    };
    let segment = file.segment_name(segment).to_vec();
    let id = file.add_section(segment, name.as_bytes().to_vec(), kind);
    // One byte keeps an empty section at its place: writers drop alignment of empty ones.
    let bytes = if bytes.is_empty() && align == SECTION_PAGE_LEN {
        &[0]
    } else {
        bytes
    };
    file.append_section_data(id, bytes, align);
    id
}
