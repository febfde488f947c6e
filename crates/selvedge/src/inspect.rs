//! What is in a module or an artifact, for people and tools that look before they run.

use std::ops::Range;

use selvedge_artifact::header::{Accepts, Identity};
use selvedge_artifact::module::ModuleInfo;
use selvedge_artifact::read::{self, Artifact, Layout};
use selvedge_compile::Settings as CompileSettings;
use selvedge_runtime::ExternType;

use crate::Error;
use crate::source::{self, Source};

/// Names of the sections of a Wasm binary by their number.
const WASM_SECTIONS: [&str; 14] = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
];
/// Bytes of magic and version before the first section.
const WASM_HEADER_LEN: usize = 8;

/// What is in a module or an artifact.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Summary {
    /// What was looked at.
    pub source: Source,
    /// Its length in bytes.
    pub len: u64,
    /// Who compiled it and for what, if it is an artifact.
    pub identity: Option<Identity>,
    /// The module's own name for itself.
    pub name: Option<String>,
    /// Count of functions with a body.
    pub funcs: u64,
    /// Bytes of memory that instances begin with, if it is a snapshot.
    pub snapshot_memory_len: Option<u64>,
    /// Imports in order: module, name, type.
    pub imports: Vec<(String, String, ExternType)>,
    /// Exports in order: name, type.
    pub exports: Vec<(String, ExternType)>,
    /// Memories, tables and globals that are the module's own, in this order.
    pub defined: Vec<ExternType>,
    /// Sections of the file in order: name, bytes. For text, those of the binary made of it.
    pub sections: Vec<(String, u64)>,
}

/// Looks into a module or an artifact. What is summed up is valid; nothing is compiled.
pub(crate) fn inspect(bytes: &[u8], settings: &CompileSettings) -> Result<Summary, Error> {
    let source = Source::of(bytes)?;
    let len = bytes.len() as u64;
    let identity = selvedge_compile::identity(settings)?;
    // A look needs no CPU: what an artifact asks of one is part of what is shown.
    let accepts = Accepts {
        target: &identity.target,
        has_feature: |_| true,
        tunables: &settings.tunables,
    };
    if source == Source::Artifact {
        let Artifact {
            identity,
            info,
            layout,
        } = read::read(bytes, &accepts)?;
        let sections = artifact_sections(&layout);
        return Ok(summarise(source, len, Some(identity), &info, sections));
    }
    let binary = source::to_binary(bytes)?;
    let info = selvedge_compile::describe(&binary, settings)?;
    Ok(summarise(source, len, None, &info, wasm_sections(&binary)))
}

fn summarise(
    source: Source,
    len: u64,
    identity: Option<Identity>,
    info: &ModuleInfo,
    sections: Vec<(String, u64)>,
) -> Summary {
    let imports = info.imports.iter().map(|import| {
        (
            import.module.clone(),
            import.name.clone(),
            info.extern_type(import.item),
        )
    });
    let exports = info
        .exports
        .iter()
        .map(|export| (export.name.clone(), info.extern_type(export.item)));
    let imported = &info.imported;
    let memories = info.memories.iter().skip(imported.memories as usize);
    let tables = info.tables.iter().skip(imported.tables as usize);
    let globals = info.globals.iter().skip(imported.globals as usize);
    Summary {
        source,
        len,
        identity,
        name: info.name.clone(),
        funcs: info.funcs.len() as u64 - u64::from(info.imported.funcs),
        snapshot_memory_len: info.state.as_ref().map(|state| state.memory_len),
        imports: imports.collect(),
        exports: exports.collect(),
        defined: memories
            .map(|ty| ExternType::Memory(*ty))
            .chain(tables.map(|ty| ExternType::Table(*ty)))
            .chain(globals.map(|ty| ExternType::Global(*ty)))
            .collect(),
        sections,
    }
}

fn artifact_sections(layout: &Layout) -> Vec<(String, u64)> {
    let section = |name: &str, range: &Range<usize>| (name.to_owned(), range.len() as u64);
    vec![
        section("text", &layout.text),
        section("image", &layout.image),
        section("data", &layout.data),
        section("tables", &layout.tables),
        section("traps", &layout.traps),
        section("address map", &layout.addresses),
        section("fuel map", &layout.fuel),
        section("exception handlers", &layout.catches),
        section("names", &layout.names),
    ]
}

/// The sections of a binary that the compiler has accepted; what follows damage is left out.
fn wasm_sections(binary: &[u8]) -> Vec<(String, u64)> {
    let mut sections = Vec::new();
    let mut rest = binary.get(WASM_HEADER_LEN..).unwrap_or_default();
    while let Some((&id, after_id)) = rest.split_first() {
        let Some((len, contents)) = leb128_u32(after_id) else {
            break;
        };
        let Some((contents, next)) = contents.split_at_checked(len as usize) else {
            break;
        };
        let name = WASM_SECTIONS
            .get(usize::from(id))
            .copied()
            .unwrap_or("unknown");
        let name = match (id, custom_name(contents)) {
            (0, Some(custom)) => format!("{name} {custom:?}"),
            _ => name.to_owned(),
        };
        sections.push((name, u64::from(len)));
        rest = next;
    }
    sections
}

/// The name that a custom section begins with.
fn custom_name(contents: &[u8]) -> Option<&str> {
    let (len, rest) = leb128_u32(contents)?;
    std::str::from_utf8(rest.get(..len as usize)?).ok()
}

/// An unsigned 32-bit number in LEB128, and what follows it.
fn leb128_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_leb128() {
        assert_eq!(leb128_u32(&[0x05, 9]), Some((5, &[9][..])));
        assert_eq!(leb128_u32(&[0xe5, 0x8e, 0x26]), Some((624_485, &[][..])));
        assert_eq!(
            leb128_u32(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Some((u32::MAX, &[][..]))
        );
        assert_eq!(leb128_u32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(leb128_u32(&[0x80]), None);
        assert_eq!(leb128_u32(&[]), None);
    }

    #[test]
    fn sections_are_listed_up_to_the_first_damage() {
        let binary =
            wat::parse_str("(module $m (memory 1) (func) (@custom \"a b\" \"xyz\"))").unwrap();
        let sections = wasm_sections(&binary);
        let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "type",
                "function",
                "memory",
                "code",
                "custom \"a b\"",
                "custom \"name\""
            ]
        );
        assert_eq!(
            wasm_sections(&binary[..binary.len() - 1]).len(),
            sections.len() - 1
        );
        assert!(wasm_sections(b"").is_empty());
    }
}
