//! The table of exception handlers: from the return address of a call to what catches around it.
//!
//! Read in place, when a guest throws, and never before. All numbers are `u32`, little-endian:
//!
//! ```text
//! | site count | handler count |
//! | return address * sites | frame length * sites | context offset * sites | end of handlers * sites |
//! | tag * handlers | handler's code * handlers |
//! ```
//!
//! Return addresses and code are offsets in the text. Return addresses rise strictly, ends of handlers
//! do not fall: the handlers of a site are those from the end of the site before up to its own, the
//! first that matches catches. A frame length is the distance from the stack pointer of a frame, while
//! its call runs, up to its frame pointer; at the context offset above that stack pointer stands the
//! frame's `vmctx`, which tells whose tags are meant.

/// What a handler catches, as its number in the table: an index of a tag, or one of all, and whether
/// the handler wants a reference to the exception.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Catch {
    /// The tag, by its index in the module; `None` catches every exception.
    pub tag: Option<u32>,
    /// Whether the handler is given a reference.
    pub by_ref: bool,
}

/// Bit of a number that stands for [`Catch::by_ref`].
const BY_REF: u32 = 1 << 31;
/// Number of a handler of every exception; with the bit it is still not the highest `u32`, which is no tag
/// to the code generator.
const ALL: u32 = BY_REF - 2;

impl Catch {
    /// The number in the table.
    pub const fn to_u32(self) -> u32 {
        let tag = match self.tag {
            Some(tag) => tag,
            None => ALL,
        };
        if self.by_ref { tag | BY_REF } else { tag }
    }

    /// What a number of the table says.
    pub const fn from_u32(number: u32) -> Self {
        let tag = number & !BY_REF;
        Self {
            tag: if tag == ALL { None } else { Some(tag) },
            by_ref: number & BY_REF != 0,
        }
    }
}

/// A handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handler {
    /// What it catches.
    pub catch: Catch,
    /// Its code.
    pub code: u32,
}

/// A call that has handlers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallSite {
    /// The return address.
    pub pc: u32,
    /// Bytes from the frame's stack pointer to its frame pointer.
    pub frame_len: u32,
    /// Bytes from the frame's stack pointer to its `vmctx`.
    pub context_offset: u32,
    /// Handlers, in the order in which they are asked.
    pub handlers: Vec<Handler>,
}

/// Encodes call sites, which must be sorted by their return addresses.
pub fn encode(sites: &[CallSite]) -> Vec<u8> {
    debug_assert!(sites.is_sorted_by(|a, b| a.pc < b.pc));
    let handlers = || sites.iter().flat_map(|site| &site.handlers);
    let mut end = 0;
    let ends = sites.iter().map(|site| {
        end += site.handlers.len() as u32;
        end
    });
    let mut bytes = Vec::new();
    let words = [sites.len() as u32, handlers().count() as u32]
        .into_iter()
        .chain(sites.iter().map(|site| site.pc))
        .chain(sites.iter().map(|site| site.frame_len))
        .chain(sites.iter().map(|site| site.context_offset))
        .chain(ends)
        .chain(handlers().map(|handler| handler.catch.to_u32()))
        .chain(handlers().map(|handler| handler.code));
    bytes.extend(words.flat_map(u32::to_le_bytes));
    bytes
}

/// The table, read in place.
#[derive(Clone, Copy, Debug)]
pub struct CatchTable<'a> {
    pcs: &'a [[u8; 4]],
    frame_lens: &'a [[u8; 4]],
    context_offsets: &'a [[u8; 4]],
    ends: &'a [[u8; 4]],
    catches: &'a [[u8; 4]],
    codes: &'a [[u8; 4]],
}

/// A frame whose call has handlers.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Bytes from the frame's stack pointer to its frame pointer.
    pub frame_len: u32,
    /// Bytes from the frame's stack pointer to its `vmctx`.
    pub context_offset: u32,
    catches: &'a [[u8; 4]],
    codes: &'a [[u8; 4]],
}

impl Site<'_> {
    /// The handlers, in the order in which they are asked.
    pub fn handlers(&self) -> impl Iterator<Item = Handler> {
        let pairs = self.catches.iter().zip(self.codes);
        pairs.map(|(catch, code)| Handler {
            catch: Catch::from_u32(number(catch)),
            code: number(code),
        })
    }
}

fn number(bytes: &[u8; 4]) -> u32 {
    u32::from_le_bytes(*bytes)
}

impl<'a> CatchTable<'a> {
    /// Views encoded bytes; `None` if their length is not what their counts say.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let ([sites, handlers], mut words) = words.split_first_chunk::<2>()?;
        let (sites, handlers) = (number(sites) as usize, number(handlers) as usize);
        let mut take = |count: usize| {
            let (taken, rest) = words.split_at_checked(count)?;
            words = rest;
            Some(taken)
        };
        let table = Self {
            pcs: take(sites)?,
            frame_lens: take(sites)?,
            context_offsets: take(sites)?,
            ends: take(sites)?,
            catches: take(handlers)?,
            codes: take(handlers)?,
        };
        (rest.is_empty() && words.is_empty()).then_some(table)
    }

    /// Checks order and ranges against the text and the count of tags.
    pub(crate) fn check(&self, text_len: u64, tags: usize) -> bool {
        let in_text = |offset: &[u8; 4]| u64::from(number(offset)) <= text_len;
        let ends = self.ends.iter().map(number);
        let frames = self.frame_lens.iter().zip(self.context_offsets);
        self.pcs.iter().map(number).is_sorted_by(|a, b| a < b)
            && self.pcs.iter().all(in_text)
            && self.codes.iter().all(in_text)
            && ends.is_sorted()
            && self.ends.last().map_or(0, |end| number(end) as usize) == self.catches.len()
            && frames.map(|(len, at)| (number(len), number(at))).all(
                // The context lies inside the frame, below the saved frame pointer.
                |(len, at)| len % 8 == 0 && at % 8 == 0 && at < len,
            )
            && self.catches.iter().all(|catch| {
                Catch::from_u32(number(catch))
                    .tag
                    .is_none_or(|tag| (tag as usize) < tags)
            })
    }

    /// Whether no call has handlers.
    pub fn is_empty(&self) -> bool {
        self.pcs.is_empty()
    }

    /// The call that returns to exactly this offset of the text, if it has handlers.
    pub fn lookup(&self, pc: u32) -> Option<Site<'a>> {
        let at = self.pcs.binary_search_by_key(&pc, number).ok()?;
        let end = number(self.ends.get(at)?) as usize;
        let start = at.checked_sub(1).map_or(Some(0), |before| {
            Some(number(self.ends.get(before)?) as usize)
        })?;
        Some(Site {
            frame_len: number(self.frame_lens.get(at)?),
            context_offset: number(self.context_offsets.get(at)?),
            catches: self.catches.get(start..end)?,
            codes: self.codes.get(start..end)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(tag: Option<u32>, by_ref: bool, code: u32) -> Handler {
        Handler {
            catch: Catch { tag, by_ref },
            code,
        }
    }

    fn sites() -> Vec<CallSite> {
        let site = |pc, handlers| CallSite {
            pc,
            frame_len: 32,
            context_offset: 8,
            handlers,
        };
        vec![
            site(
                10,
                vec![handler(Some(1), false, 40), handler(None, true, 44)],
            ),
            site(20, vec![]),
            site(30, vec![handler(Some(0), true, 48)]),
        ]
    }

    #[test]
    fn handlers_are_found_by_the_return_address_in_their_order() {
        let bytes = encode(&sites());
        let table = CatchTable::new(&bytes).unwrap();
        assert!(table.check(48, 2));
        assert!(!table.is_empty());
        for site in sites() {
            let found = table.lookup(site.pc).unwrap();
            assert_eq!(found.handlers().collect::<Vec<_>>(), site.handlers);
            assert_eq!((found.frame_len, found.context_offset), (32, 8));
        }
        assert!(table.lookup(11).is_none());
        let none = encode(&[]);
        assert!(CatchTable::new(&none).unwrap().is_empty());
    }

    #[test]
    fn every_catch_comes_back_from_its_number() {
        for tag in [None, Some(0), Some(999_999)] {
            for by_ref in [false, true] {
                let catch = Catch { tag, by_ref };
                assert_eq!(Catch::from_u32(catch.to_u32()), catch);
            }
        }
    }

    #[test]
    fn what_contradicts_itself_or_points_outside_is_refused() {
        assert!(CatchTable::new(&[]).is_none());
        assert!(CatchTable::new(&[0xff; 8]).is_none());
        let bytes = encode(&sites());
        assert!(CatchTable::new(&bytes[..bytes.len() - 4]).is_none());
        let longer = [&bytes[..], &[0]].concat();
        assert!(CatchTable::new(&longer).is_none());
        let table = CatchTable::new(&bytes).unwrap();
        assert!(!table.check(47, 2), "code behind the text");
        assert!(!table.check(48, 1), "a tag that there is not");
        // Each word changed by itself: return addresses out of order, a context outside the frame, ends
        // that fall or do not reach the last handler.
        for (word, value) in [(2, 30), (4, 10), (5, 8), (8, 32), (11, 4), (13, 2), (13, 9)] {
            let mut damaged = bytes.clone();
            damaged[word * 4..word * 4 + 4].copy_from_slice(&u32::to_le_bytes(value));
            let table = CatchTable::new(&damaged).unwrap();
            assert!(!table.check(48, 2), "word {word} as {value}");
        }
    }
}
