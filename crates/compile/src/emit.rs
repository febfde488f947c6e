//! Functions to one text, and everything about it to the artifact.
//!
//! ```text
//!  text:  function 0 | function 1 | ... | trampolines of signature 0 | of signature 1 | ...
//! ```
//!
//! Every function begins on a multiple of [`FUNC_ALIGN`]; what lies between traps if it is run.
//! References between functions are distances, filled in here: nothing is left for a loader.

use cranelift_codegen::isa::TargetIsa;
use gimli::write::{Address, CieId, EhFrame, EndianVec, FrameTable};
use selvedge_artifact::catches::CallSite;
use selvedge_artifact::header::Identity;
use selvedge_artifact::ids::SigIdx;
use selvedge_artifact::module::{CodeRange, ModuleInfo, TableImage};
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::vmfields::{ENTRY_FIRST_TYPE, ENTRY_NULL, table_entry};
use selvedge_artifact::write::{CodeSymbol, Compiled, Parts, eh_frame_distance, write};

use crate::codegen::{Code, Target};
use crate::error::Error;
use crate::module::{Module, TableContents};
use crate::trampoline::Kind;

/// Bytes that functions are aligned to.
const FUNC_ALIGN: u32 = 32;
/// Offsets and distances within the text are signed 32-bit numbers.
const MAX_TEXT_LEN: u64 = i32::MAX as u64;
/// Bytes that the tables section can have.
const MAX_TABLES_LEN: u64 = i32::MAX as u64;
/// `int3`, between functions.
const PADDING: u8 = 0xcc;

/// Writes the artifact. `codes` are the functions in order, then the trampolines of each signature.
pub(crate) fn emit(
    mut module: Module<'_>,
    codes: &[Code],
    isa: &dyn TargetIsa,
    identity: &Identity,
) -> Result<Compiled, Error> {
    let text = link(codes)?;
    let (func_ranges, trampolines) = text.ranges.split_at(module.bodies.len());
    module.info.code = func_ranges.to_vec();
    for (sig, ranges) in module
        .info
        .sigs
        .iter_mut()
        .zip(trampolines.as_chunks::<3>().0)
    {
        [
            sig.host_to_guest,
            sig.guest_to_guest,
            sig.guest_to_host_array,
        ] = *ranges;
    }
    let tables = tables(&mut module.info, &module.tables)?;
    let eh_frame = eh_frame(isa, codes, &text.ranges, text.bytes.len())?;
    let artifact = write(&Parts {
        identity,
        info: &module.info,
        text: &text.bytes,
        eh_frame: &eh_frame,
        image: &module.image,
        data: &module.data,
        tables: &tables,
        traps: &text.traps,
        addresses: &text.addresses,
        fuel: &text.fuel,
        catches: &text.catches,
        func_names: &module.func_names,
        dwarf: &module.dwarf,
        symbols: &symbols(&module, &text.ranges),
    })?;
    Ok(artifact)
}

/// The name of a function with a body, in symbols and dumps.
pub(crate) fn func_symbol(module: &Module<'_>, defined: usize) -> String {
    let index = module.info.imported.funcs + defined as u32;
    let position = module.func_names.binary_search_by_key(&index, |(i, _)| *i);
    match position.ok().and_then(|p| module.func_names.get(p)) {
        // The string table of an ELF file ends names with a zero byte.
        Some((_, name)) if !name.is_empty() => name.replace('\0', "\u{fffd}"),
        _ => format!("wasm_function_{index}"),
    }
}

/// The name of a piece of code by its place in the text.
pub(crate) fn symbol(module: &Module<'_>, place: usize) -> String {
    match place.checked_sub(module.bodies.len()) {
        None => func_symbol(module, place),
        Some(trampoline) => {
            let kinds = Kind::ALL.len();
            Kind::ALL[trampoline % kinds].symbol(SigIdx::new((trampoline / kinds) as u32))
        }
    }
}

fn symbols(module: &Module<'_>, ranges: &[CodeRange]) -> Vec<CodeSymbol> {
    let symbols = ranges.iter().enumerate();
    symbols
        .map(|(place, range)| CodeSymbol {
            name: symbol(module, place),
            range: *range,
        })
        .collect()
}

/// All code, linked.
struct Text {
    bytes: Vec<u8>,
    ranges: Vec<CodeRange>,
    traps: Vec<(u32, TrapCode)>,
    addresses: Vec<(u32, u32)>,
    fuel: Vec<(u32, u32)>,
    catches: Vec<CallSite>,
}

fn link(codes: &[Code]) -> Result<Text, Error> {
    let mut ranges = Vec::with_capacity(codes.len());
    let mut end = 0u64;
    for code in codes {
        let offset = end.next_multiple_of(code.align.max(FUNC_ALIGN).into());
        end = offset + code.bytes.len() as u64;
        if end > MAX_TEXT_LEN {
            return Err(Error::LimitExceeded {
                what: "bytes of machine code",
                found: end,
                limit: MAX_TEXT_LEN,
            });
        }
        ranges.push(CodeRange {
            offset: offset as u32,
            len: code.bytes.len() as u32,
        });
    }
    let mut text = Text {
        bytes: vec![PADDING; end as usize],
        ranges,
        traps: Vec::with_capacity(codes.iter().map(|code| code.traps.len()).sum()),
        addresses: Vec::with_capacity(codes.iter().map(|code| code.addresses.len()).sum()),
        fuel: Vec::with_capacity(codes.iter().map(|code| code.fuel.len()).sum()),
        catches: Vec::new(),
    };
    for (place, code) in codes.iter().enumerate() {
        text.place(place, code)?;
    }
    Ok(text)
}

impl Text {
    /// Copies a piece of code to its place and joins its tables to those of the text.
    fn place(&mut self, place: usize, code: &Code) -> Result<(), Error> {
        let base = self.ranges[place].offset;
        let start = base as usize;
        self.bytes[start..start + code.bytes.len()].copy_from_slice(&code.bytes);
        for reference in &code.references {
            let target = match reference.target {
                Target::TextStart => Some(0),
                Target::Func(func) => self
                    .ranges
                    .get(func.index())
                    .map(|range| i64::from(range.offset)),
            };
            let at = start + reference.offset as usize;
            let value =
                target.and_then(|target| i32::try_from(target + reference.addend - at as i64).ok());
            match (value, self.bytes.get_mut(at..at + 4)) {
                (Some(value), Some(field)) => field.copy_from_slice(&value.to_le_bytes()),
                _ => {
                    return Err(Error::codegen(
                        format!("code {place}"),
                        format!("a reference to {:?} cannot be resolved", reference.target),
                    ));
                }
            }
        }
        self.traps.extend(
            code.traps
                .iter()
                .map(|(offset, code)| (base + offset, *code)),
        );
        self.fuel.extend(code.fuel.iter().map(|(offset, value)| {
            // What a check leads to is an offset itself.
            let trap = code.traps.binary_search_by_key(offset, |(at, _)| *at);
            let is_check = trap.is_ok_and(|at| code.traps[at].1 == TrapCode::OutOfFuel);
            let value = if is_check { base + value } else { *value };
            (base + offset, value)
        }));
        for site in &code.catches {
            let mut site = site.clone();
            site.pc += base;
            for handler in &mut site.handlers {
                handler.code += base;
            }
            self.catches.push(site);
        }
        for (offset, wasm) in &code.addresses {
            let offset = base + offset;
            // The end of one function may be the start of the next.
            if self.addresses.last().is_some_and(|last| last.0 == offset) {
                self.addresses.pop();
            }
            if self.addresses.last().is_none_or(|last| last.1 != *wasm) {
                self.addresses.push((offset, *wasm));
            }
        }
        Ok(())
    }
}

/// Encodes table entries and says in `info` where they are.
fn tables(info: &mut ModuleInfo, tables: &[TableContents]) -> Result<Vec<u8>, Error> {
    let mut section = Vec::new();
    for contents in tables {
        let end = section.len() as u64 + contents.funcs.len() as u64 * 8;
        if end > MAX_TABLES_LEN {
            return Err(Error::LimitExceeded {
                what: "bytes of table entries",
                found: end,
                limit: MAX_TABLES_LEN,
            });
        }
        info.table_images.push(TableImage {
            table: contents.table,
            offset: section.len() as u32,
            len: contents.funcs.len() as u32,
        });
        for func in &contents.funcs {
            let entry = func.map_or(table_entry(ENTRY_NULL, 0), |func| {
                let ty = info.funcs[info.func_idx(func).index()];
                let canonical = info.canonical_types[ty.index()].as_u32();
                table_entry(ENTRY_FIRST_TYPE + canonical, info.code[func.index()].offset)
            });
            section.extend_from_slice(&entry.to_le_bytes());
        }
    }
    Ok(section)
}

/// Encodes unwind tables. Addresses in them are relative to where they stand, which is
/// [`eh_frame_distance`] behind the start of the text.
fn eh_frame(
    isa: &dyn TargetIsa,
    codes: &[Code],
    ranges: &[CodeRange],
    text_len: usize,
) -> Result<Vec<u8>, Error> {
    let unwind_error = |e: &dyn std::fmt::Display| Error::codegen("unwind tables", e.to_string());
    let distance = eh_frame_distance(text_len);
    let mut table = FrameTable::default();
    let mut cie: Option<CieId> = None;
    for (code, range) in codes.iter().zip(ranges) {
        let Some(unwind) = &code.unwind else { continue };
        let cie = match cie {
            Some(cie) => cie,
            None => {
                let mut entry = isa
                    .create_systemv_cie()
                    .ok_or_else(|| unwind_error(&"the target has none"))?;
                entry.fde_address_encoding =
                    gimli::DwEhPe(gimli::DW_EH_PE_pcrel.0 | gimli::DW_EH_PE_sdata4.0);
                *cie.insert(table.add_cie(entry))
            }
        };
        let address = u64::from(range.offset).wrapping_sub(distance);
        table.add_fde(cie, unwind.to_fde(Address::Constant(address)));
    }
    let mut section = EhFrame(EndianVec::new(gimli::LittleEndian));
    table
        .write_eh_frame(&mut section)
        .map_err(|e| unwind_error(&e))?;
    let mut bytes = section.0.into_vec();
    // A length of zero ends the tables for those that read them from memory.
    bytes.extend_from_slice(&[0; 4]);
    Ok(bytes)
}
