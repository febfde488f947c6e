//! Untrusted bytes to checked views: an artifact is refused before any of it is used.

use std::ops::Range;

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol};

use crate::catches::CatchTable;
use crate::error::Error;
use crate::header::{self, Accepts, Identity};
use crate::module::{CodeRange, ModuleInfo, SectionLens};
use crate::pcmap::{AddressMap, FuelMap, TrapTable};
use crate::write::{CodeSymbol, SECTION_PAGE_LEN, names};

/// First bytes of an ELF file.
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Whether bytes could be an artifact: they begin as an ELF file does.
pub fn looks_like_artifact(bytes: &[u8]) -> bool {
    bytes.starts_with(ELF_MAGIC)
}

/// The DWARF sections of a module that backtraces are told by.
pub const DWARF_SECTIONS: [&str; 11] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_aranges",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
    ".debug_types",
];

/// Where the parts of a checked artifact lie in its file.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Code; begins on a page.
    pub text: Range<usize>,
    /// Memory images; begins on a page.
    pub image: Range<usize>,
    /// Data segments.
    pub data: Range<usize>,
    /// Initial table entries.
    pub tables: Range<usize>,
    /// The trap table.
    pub traps: Range<usize>,
    /// The address map.
    pub addresses: Range<usize>,
    /// The fuel map.
    pub fuel: Range<usize>,
    /// Handlers of exceptions.
    pub catches: Range<usize>,
    /// Function names.
    pub names: Range<usize>,
    /// The module's DWARF sections, those that were kept.
    pub dwarf: Vec<(&'static str, Range<usize>)>,
}

/// A checked artifact.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Who made it, for what.
    pub identity: Identity,
    /// Everything but the code.
    pub info: ModuleInfo,
    /// Where the rest is.
    pub layout: Layout,
}

/// Checks an artifact: header first, then every section and every index of the metadata.
pub fn read(file: &[u8], accepts: &Accepts<'_>) -> Result<Artifact, Error> {
    let header = header_range(file)?;
    let identity = header::check(file, header.start, header.len(), accepts)?;
    let elf = parse(file)?;
    let section = |name: &'static str| section_range(&elf, name);
    let layout = Layout {
        text: section(names::TEXT)?,
        image: section(names::IMAGE)?,
        data: section(names::DATA)?,
        tables: section(names::TABLES)?,
        traps: section(names::TRAPS)?,
        addresses: section(names::ADDRMAP)?,
        fuel: section(names::FUEL)?,
        catches: section(names::CATCHES)?,
        names: section(names::NAMES)?,
        dwarf: dwarf(&elf)?,
    };
    for (range, name) in [(&layout.text, names::TEXT), (&layout.image, names::IMAGE)] {
        if !(range.start as u64).is_multiple_of(SECTION_PAGE_LEN) {
            return Err(Error::DamagedSection(name));
        }
    }
    let meta = bytes(file, &section(names::META)?, names::META)?;
    let info: ModuleInfo =
        postcard::from_bytes(meta).map_err(|_| Error::DamagedSection(names::META))?;
    info.check(&SectionLens {
        text: layout.text.len() as u64,
        data: layout.data.len() as u64,
        tables: layout.tables.len() as u64,
        image: layout.image.len() as u64,
    })?;
    TrapTable::new(bytes(file, &layout.traps, names::TRAPS)?)
        .ok_or(Error::DamagedSection(names::TRAPS))?;
    AddressMap::new(bytes(file, &layout.addresses, names::ADDRMAP)?)
        .ok_or(Error::DamagedSection(names::ADDRMAP))?;
    FuelMap::new(bytes(file, &layout.fuel, names::FUEL)?)
        .ok_or(Error::DamagedSection(names::FUEL))?;
    CatchTable::new(bytes(file, &layout.catches, names::CATCHES)?)
        .filter(|table| table.check(layout.text.len() as u64, info.tags.len()))
        .ok_or(Error::DamagedSection(names::CATCHES))?;
    Ok(Artifact {
        identity,
        info,
        layout,
    })
}

/// What a checked artifact has beside what [`read`] tells.
pub(crate) struct Rest {
    /// The metadata as it stands in the file.
    pub(crate) info: ModuleInfo,
    pub(crate) header: Range<usize>,
    pub(crate) eh_frame: Range<usize>,
    pub(crate) symbols: Vec<CodeSymbol>,
}

/// Reads the rest of an artifact that was checked.
pub(crate) fn rest(file: &[u8]) -> Result<Rest, Error> {
    let elf = parse(file)?;
    let meta = bytes(file, &section_range(&elf, names::META)?, names::META)?;
    let info = postcard::from_bytes(meta).map_err(|_| Error::DamagedSection(names::META))?;
    let symbols = elf.symbols().filter_map(|symbol| {
        let range = CodeRange {
            offset: u32::try_from(symbol.address()).ok()?,
            len: u32::try_from(symbol.size()).ok()?,
        };
        let name = symbol.name().ok()?.to_owned();
        symbol.is_definition().then_some(CodeSymbol { name, range })
    });
    Ok(Rest {
        info,
        header: section_range(&elf, names::HEADER)?,
        eh_frame: section_range(&elf, names::EH_FRAME)?,
        symbols: symbols.collect(),
    })
}

/// Where the module's DWARF sections lie.
fn dwarf(elf: &ElfFile64<'_, Endianness>) -> Result<Vec<(&'static str, Range<usize>)>, Error> {
    let mut found = Vec::new();
    for section in elf.sections() {
        let known = section.name().ok().and_then(|name| {
            let name = name.strip_prefix(names::DWARF_PREFIX)?;
            DWARF_SECTIONS.into_iter().find(|known| *known == name)
        });
        let Some(name) = known else { continue };
        let range = section.file_range().and_then(|(start, len)| {
            let end = start.checked_add(len)?;
            (end <= elf.data().len() as u64).then_some(start as usize..end as usize)
        });
        found.push((name, range.ok_or(Error::DamagedSection(name))?));
    }
    Ok(found)
}

/// Decodes the names section. Damage costs only the names.
pub fn func_names(section: &[u8]) -> Vec<(u32, String)> {
    postcard::from_bytes(section).unwrap_or_default()
}

/// Where the header section lies. A file whose end is cut off has lost its section table; what is
/// left of it still says that it was an artifact.
pub(crate) fn header_range(file: &[u8]) -> Result<Range<usize>, Error> {
    if !looks_like_artifact(file) {
        return Err(Error::NotAnArtifact(
            "the file does not begin as an ELF file does",
        ));
    }
    let elf = parse(file)?;
    section_range(&elf, names::HEADER)
        .map_err(|_| Error::NotAnArtifact("the ELF file has no section .selvedge.header"))
}

/// Reads the ELF structure.
fn parse(file: &[u8]) -> Result<ElfFile64<'_, Endianness>, Error> {
    if let Some(expected) = claimed_len(file)
        && expected > file.len() as u64
    {
        return Err(Error::Truncated {
            found: file.len() as u64,
            expected,
        });
    }
    ElfFile64::parse(file).map_err(|_| Error::NotAnArtifact("its ELF structure is damaged"))
}

/// End of the section table, which stands last, as the ELF header gives it (`e_shoff`, `e_shentsize`,
/// `e_shnum`; System V ABI, "ELF header").
fn claimed_len(file: &[u8]) -> Option<u64> {
    let offset = u64::from_le_bytes(*file.get(0x28..)?.first_chunk()?);
    let entry_len = u16::from_le_bytes(*file.get(0x3a..)?.first_chunk()?);
    let count = u16::from_le_bytes(*file.get(0x3c..)?.first_chunk()?);
    offset.checked_add(u64::from(entry_len) * u64::from(count))
}

fn section_range(
    elf: &ElfFile64<'_, Endianness>,
    name: &'static str,
) -> Result<Range<usize>, Error> {
    let (start, len) = elf
        .section_by_name(name)
        .and_then(|section| section.file_range())
        .ok_or(Error::DamagedSection(name))?;
    let end = start.checked_add(len).ok_or(Error::DamagedSection(name))?;
    if end > elf.data().len() as u64 {
        return Err(Error::DamagedSection(name));
    }
    Ok(start as usize..end as usize)
}

fn bytes<'a>(file: &'a [u8], range: &Range<usize>, name: &'static str) -> Result<&'a [u8], Error> {
    file.get(range.clone()).ok_or(Error::DamagedSection(name))
}
