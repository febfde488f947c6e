//! Which segments of a module an instance has dropped: a bit for each.

/// The bits of data segments and of element segments.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dropped {
    pub(crate) data: Bits,
    pub(crate) elems: Bits,
}

/// So many bits as there are segments, none of them set at first. Most modules have few segments, which need no
/// allocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Bits {
    Few(u64),
    #[allow(clippy::box_collection, reason = "one word, as the other variant")]
    Many(Box<Vec<u64>>),
}

impl Default for Bits {
    fn default() -> Self {
        Self::Few(0)
    }
}

impl Dropped {
    /// For a module with so many segments of both kinds.
    pub(crate) fn none(data: usize, elems: usize) -> Self {
        Self {
            data: Bits::new(data),
            elems: Bits::new(elems),
        }
    }
}

impl Bits {
    fn new(count: usize) -> Self {
        if count <= 64 {
            Self::Few(0)
        } else {
            Self::Many(Box::new(vec![0; count.div_ceil(64)]))
        }
    }

    fn words(&self) -> &[u64] {
        match self {
            Self::Few(word) => std::slice::from_ref(word),
            Self::Many(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Few(word) => std::slice::from_mut(word),
            Self::Many(words) => words,
        }
    }

    /// Whether the segment at an index is dropped.
    pub(crate) fn get(&self, at: usize) -> bool {
        self.words()[at / 64] >> (at % 64) & 1 != 0
    }

    /// Says whether the segment at an index is dropped.
    pub(crate) fn set(&mut self, at: usize, dropped: bool) {
        let word = &mut self.words_mut()[at / 64];
        *word = *word & !(1 << (at % 64)) | u64::from(dropped) << (at % 64);
    }

    /// No segment is dropped.
    pub(crate) fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    /// Makes them the bits of another value for the same module, in the same place.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words_mut().copy_from_slice(other.words());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_is_its_own_however_many_there_are() {
        for count in [1, 63, 64, 65, 200] {
            let mut bits = Bits::new(count);
            for at in 0..count {
                bits.set(at, true);
                assert!((0..count).all(|i| bits.get(i) == (i == at)), "{count} {at}");
                let mut copy = Bits::new(count);
                copy.copy_from(&bits);
                assert_eq!(copy, bits);
                bits.set(at, false);
            }
            bits.set(count - 1, true);
            bits.clear();
            assert_eq!(bits, Bits::new(count));
        }
    }
}
