//! What each instruction costs in fuel: the table, its names, its default.
//!
//! Where fuel is counted and checked is `func/meter.rs`.

use wasmparser::Operator;

use crate::error::Error;
use crate::operators::{NAMES, number};

/// Operators that are free unless asked otherwise: they stand for no work of their own.
const FREE: [&str; 9] = [
    "Nop",
    "Drop",
    "Block",
    "Loop",
    "Else",
    "End",
    "Return",
    "TryTable",
    "Unreachable",
];

/// What each instruction costs in fuel.
///
/// By default an instruction costs one unit; `nop`, `drop`, `block`, `loop`, `else`, `end`, `return`,
/// `try_table` and `unreachable` cost none. What works on a range costs more by its length, whatever the table says; see
/// [`FuelCosts::PER_LEN`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FuelCosts {
    units: Vec<u32>,
}

impl FuelCosts {
    /// What the length of a range costs: a unit for so many bytes begun of `memory.copy`, `memory.fill` and
    /// `memory.init`. Instructions on ranges of tables cost a unit for each element, growing costs one
    /// for each page or element asked for.
    pub const PER_LEN: u32 = 1 << Self::PER_LEN_LOG2;

    pub(crate) const PER_LEN_LOG2: u8 = 3;

    /// Sets what an instruction costs. It is named as in the text format; dots and underscores may be left
    /// out, as in `i32.add`, `i32_add`, `I32Add`.
    ///
    /// # Errors
    ///
    /// If there is no such instruction.
    pub fn set(&mut self, instruction: &str, units: u32) -> Result<(), Error> {
        let number = find(instruction).ok_or_else(|| unknown(instruction))?;
        self.units[number] = units;
        Ok(())
    }

    /// What an instruction costs, named as for [`FuelCosts::set`].
    ///
    /// # Errors
    ///
    /// If there is no such instruction.
    pub fn get(&self, instruction: &str) -> Result<u32, Error> {
        find(instruction)
            .map(|number| self.units[number])
            .ok_or_else(|| unknown(instruction))
    }

    /// Sets what every instruction costs that costs anything by now.
    pub fn set_all(&mut self, units: u32) {
        for cost in self.units.iter_mut().filter(|cost| **cost > 0) {
            *cost = units;
        }
    }

    /// A checksum of the table: code that was made with different ones counts differently.
    pub fn checksum(&self) -> u64 {
        // FNV-1a, which is short and the same everywhere; nobody gains by a collision but confusion.
        let bytes = self.units.iter().flat_map(|cost| cost.to_le_bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    pub(crate) fn of(&self, op: &Operator<'_>) -> u32 {
        // An operator that the list lacks is refused by the translator in any case.
        number(op).map_or(0, |number| self.units[number])
    }
}

impl Default for FuelCosts {
    fn default() -> Self {
        let cost = |name: &&str| u32::from(!FREE.contains(name));
        Self {
            units: NAMES.iter().map(cost).collect(),
        }
    }
}

/// The number of an instruction by its name, which is compared without case, dots and underscores.
fn find(instruction: &str) -> Option<usize> {
    let wanted = folded(instruction);
    NAMES.iter().position(|name| folded(name) == wanted)
}

fn folded(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn unknown(instruction: &str) -> Error {
    Error::Settings(format!(
        "there is no instruction {instruction}; name it as in the text format, as i32.add"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_text_format_and_of_the_parser_are_known() {
        let mut costs = FuelCosts::default();
        for (name, cost) in [
            ("i32.add", 1),
            ("i64.atomic.rmw8.add_u", 1),
            ("i32x4.relaxed_trunc_f32x4_s", 1),
            ("local.get", 1),
            ("br_table", 1),
            ("LocalGet", 1),
            ("nop", 0),
            ("unreachable", 0),
        ] {
            assert_eq!(costs.get(name).unwrap(), cost, "{name}");
        }
        costs.set("i32.div_u", 20).unwrap();
        assert_eq!(costs.of(&Operator::I32DivU), 20);
        assert_eq!(costs.of(&Operator::I32DivS), 1);
        let error = costs.set("i32.ad", 1).unwrap_err();
        assert!(error.to_string().contains("i32.ad;"), "{error}");
    }

    #[test]
    fn the_names_are_distinct_when_folded() {
        let mut names: Vec<_> = NAMES.iter().map(|name| folded(name)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }

    #[test]
    fn tables_that_differ_have_different_checksums() {
        let plain = FuelCosts::default();
        let mut other = plain.clone();
        other.set("call", 2).unwrap();
        assert_ne!(plain.checksum(), other.checksum());
        other.set("call", 1).unwrap();
        assert_eq!(plain.checksum(), other.checksum());
        other.set_all(3);
        assert_eq!(
            (other.get("call").unwrap(), other.get("nop").unwrap()),
            (3, 0)
        );
    }
}
