//! What the tests of this crate share: modules from text, artifacts read back.
#![allow(dead_code, reason = "every test binary uses some of it")]

use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol};
use selvedge_artifact::header::Accepts;
use selvedge_artifact::read::{Artifact, read};
use selvedge_compile::{Cpu, Error, Settings, compile};

/// Settings that give the same code on every machine.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.cpu = Cpu::Baseline;
    settings
}

pub(crate) fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

/// A compiled module, checked as an engine would.
pub(crate) struct Compiled {
    pub(crate) bytes: Vec<u8>,
    pub(crate) artifact: Artifact,
}

impl Compiled {
    pub(crate) fn new(wat: &str) -> Self {
        Self::from_wasm(&wasm(wat)).unwrap()
    }

    pub(crate) fn from_wasm(wasm: &[u8]) -> Result<Self, Error> {
        let settings = settings();
        let bytes = compile(wasm, &settings)?.into_bytes();
        let accepts = Accepts {
            target: "x86_64-linux",
            has_feature: |_| true,
            tunables: &settings.tunables,
        };
        let artifact = read(&bytes, &accepts).unwrap();
        Ok(Self { bytes, artifact })
    }

    pub(crate) fn elf(&self) -> ElfFile64<'_, Endianness> {
        ElfFile64::parse(&*self.bytes).unwrap()
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.bytes[self.artifact.layout.text.clone()]
    }

    pub(crate) fn image(&self) -> &[u8] {
        &self.bytes[self.artifact.layout.image.clone()]
    }

    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.artifact.layout.data.clone()]
    }

    /// Entries of all table images, type value and code offset.
    pub(crate) fn table_entries(&self) -> Vec<(u32, u32)> {
        let section = &self.bytes[self.artifact.layout.tables.clone()];
        let entries = section
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| u64::from_le_bytes(*b));
        entries
            .map(|entry| (entry as u32, (entry >> 32) as u32))
            .collect()
    }

    pub(crate) fn section(&self, name: &str) -> Vec<u8> {
        self.elf()
            .section_by_name(name)
            .unwrap()
            .data()
            .unwrap()
            .to_vec()
    }

    /// Names, offsets and lengths of all symbols of the text, in order.
    pub(crate) fn symbols(&self) -> Vec<(String, u64, u64)> {
        let elf = self.elf();
        let named = elf.symbols().filter(|s| s.is_definition());
        let mut symbols: Vec<_> = named
            .map(|s| (s.name().unwrap().to_owned(), s.address(), s.size()))
            .collect();
        symbols.sort_by_key(|symbol| symbol.1);
        symbols
    }
}
