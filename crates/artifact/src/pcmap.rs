//! Maps from code offsets: the trap table, the address map, the fuel map.
//!
//! All are sorted arrays in the artifact, read in place: the trap table from within a signal
//! handler, so its lookup neither allocates nor locks nor panics.
//!
//! ```text
//! trap table   | count: u32 | code offset: u32 * count | trap code: u8 * count  |
//! address map  | count: u32 | code offset: u32 * count | Wasm offset: u32 * count |
//! fuel map     | count: u32 | code offset: u32 * count | value: u32 * count |
//! ```

use crate::contract::traps::TrapCode;

/// Wasm offset of code that stands for no instruction.
pub const NO_WASM_OFFSET: u32 = u32::MAX;

/// Encodes a trap table. Offsets must rise strictly.
pub fn encode_traps(traps: &[(u32, TrapCode)]) -> Vec<u8> {
    debug_assert!(traps.is_sorted_by(|a, b| a.0 < b.0));
    let mut bytes = encode_offsets(traps.iter().map(|t| t.0));
    bytes.extend(traps.iter().map(|t| t.1.as_u8()));
    bytes
}

/// Encodes an address map. Offsets must rise strictly; an entry holds up to the next one.
pub fn encode_addresses(addresses: &[(u32, u32)]) -> Vec<u8> {
    encode_words(addresses)
}

/// Encodes a fuel map. Offsets must rise strictly.
pub fn encode_fuel(points: &[(u32, u32)]) -> Vec<u8> {
    encode_words(points)
}

fn encode_words(entries: &[(u32, u32)]) -> Vec<u8> {
    debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
    let mut bytes = encode_offsets(entries.iter().map(|e| e.0));
    bytes.extend(entries.iter().flat_map(|e| e.1.to_le_bytes()));
    bytes
}

fn encode_offsets(offsets: impl ExactSizeIterator<Item = u32>) -> Vec<u8> {
    let mut bytes = (offsets.len() as u32).to_le_bytes().to_vec();
    bytes.extend(offsets.flat_map(u32::to_le_bytes));
    bytes
}

/// A sorted array of offsets followed by an array of values.
#[derive(Clone, Copy, Debug)]
struct Table<'a> {
    offsets: &'a [[u8; 4]],
    values: &'a [u8],
}

impl<'a> Table<'a> {
    fn new(bytes: &'a [u8], value_len: usize) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let (offsets, values) = rest.split_at_checked(count.checked_mul(4)?)?;
        if values.len() != count.checked_mul(value_len)? {
            return None;
        }
        Some(Self {
            offsets: offsets.as_chunks::<4>().0,
            values,
        })
    }

    /// Position of the last entry at or before an offset.
    fn position(&self, offset: u32) -> Option<usize> {
        self.offsets
            .partition_point(|o| u32::from_le_bytes(*o) <= offset)
            .checked_sub(1)
    }

    fn offset(&self, position: usize) -> u32 {
        self.offsets
            .get(position)
            .map_or(u32::MAX, |o| u32::from_le_bytes(*o))
    }
}

/// The trap table, read in place.
#[derive(Clone, Copy, Debug)]
pub struct TrapTable<'a>(Table<'a>);

impl<'a> TrapTable<'a> {
    /// Views encoded bytes; `None` if their length is not what their count says.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Table::new(bytes, 1).map(Self)
    }

    /// The code of the trapping instruction at exactly this offset of the text.
    pub fn lookup(&self, offset: u32) -> Option<TrapCode> {
        let position = self.0.position(offset)?;
        if self.0.offset(position) != offset {
            return None;
        }
        TrapCode::from_u8(*self.0.values.get(position)?)
    }
}

/// The address map, read in place.
#[derive(Clone, Copy, Debug)]
pub struct AddressMap<'a>(Table<'a>);

impl<'a> AddressMap<'a> {
    /// Views encoded bytes; `None` if their length is not what their count says.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Table::new(bytes, 4).map(Self)
    }

    /// Offset in the Wasm file of the instruction whose code contains this offset of the text.
    pub fn lookup(&self, offset: u32) -> Option<u32> {
        let position = self.0.position(offset)?;
        let value = self.0.values.as_chunks::<4>().0.get(position)?;
        Some(u32::from_le_bytes(*value)).filter(|&wasm| wasm != NO_WASM_OFFSET)
    }
}

/// The fuel map, read in place: what the pinned register leaves out at an instruction that trapped.
#[derive(Clone, Copy, Debug)]
pub struct FuelMap<'a>(Table<'a>);

impl<'a> FuelMap<'a> {
    /// Views encoded bytes; `None` if their length is not what their count says.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        Table::new(bytes, 4).map(Self)
    }

    /// The value of the trapping instruction at exactly this offset of the text: for a check of the
    /// fuel the offset at which a guest that was given more goes on, for any other the units that its
    /// block has executed and not counted yet.
    pub fn lookup(&self, offset: u32) -> Option<u32> {
        let position = self.0.position(offset)?;
        if self.0.offset(position) != offset {
            return None;
        }
        let value = self.0.values.as_chunks::<4>().0.get(position)?;
        Some(u32::from_le_bytes(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_is_found_at_its_offset_only() {
        let bytes = encode_fuel(&[(4, 7), (9, 1)]);
        let map = FuelMap::new(&bytes).unwrap();
        assert_eq!(map.lookup(3), None);
        assert_eq!(map.lookup(4), Some(7));
        assert_eq!(map.lookup(5), None);
        assert_eq!(map.lookup(9), Some(1));
    }

    #[test]
    fn traps_are_found_at_their_offset_only() {
        let bytes = encode_traps(&[(4, TrapCode::Unreachable), (9, TrapCode::HeapOutOfBounds)]);
        let table = TrapTable::new(&bytes).unwrap();
        assert_eq!(table.lookup(3), None);
        assert_eq!(table.lookup(4), Some(TrapCode::Unreachable));
        assert_eq!(table.lookup(5), None);
        assert_eq!(table.lookup(9), Some(TrapCode::HeapOutOfBounds));
        assert_eq!(table.lookup(u32::MAX), None);
    }

    #[test]
    fn addresses_hold_up_to_the_next_entry() {
        let bytes = encode_addresses(&[(0, 100), (8, NO_WASM_OFFSET), (12, 120)]);
        let map = AddressMap::new(&bytes).unwrap();
        assert_eq!(map.lookup(7), Some(100));
        assert_eq!(map.lookup(8), None);
        assert_eq!(map.lookup(1000), Some(120));
    }

    #[test]
    fn lying_counts_are_refused() {
        assert!(TrapTable::new(&[]).is_none());
        assert!(TrapTable::new(&u32::MAX.to_le_bytes()).is_none());
        let mut bytes = encode_traps(&[(4, TrapCode::Unreachable)]);
        bytes.push(0);
        assert!(TrapTable::new(&bytes).is_none());
        assert!(
            TrapTable::new(&encode_traps(&[]))
                .unwrap()
                .lookup(0)
                .is_none()
        );
    }
}
