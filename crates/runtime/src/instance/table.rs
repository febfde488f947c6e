//! A table defined by a module of an instance: its entries and their place.
//!
//! Function tables hold `table_entry` values, see `selvedge_artifact::vmfields`; tables of external
//! references hold handles. Entries of a table with a small maximum stand in the context, where
//! generated code finds them without a load; others on the host's heap.

use std::cell::{Cell, OnceCell, RefCell};

use selvedge_artifact::types::TableType;
use selvedge_artifact::vmfields::vm_table_definition;
use selvedge_artifact::vmoffsets::TABLE_ENTRY_LEN;

use crate::error::Error;
use crate::vm::context::Context;

/// Entries that a table on the heap may have room for beyond twice those that it begins with.
const SPARE: usize = 1024;

/// A table of a record.
#[derive(Debug)]
pub(crate) struct OwnTable {
    pub(crate) ty: TableType,
    /// Offset of its `VMTableDefinition` in the context.
    definition: i32,
    entries: RefCell<Entries>,
    /// Whether what it holds is what it begins with.
    state: Cell<State>,
    /// What it begins with, once it has been changed.
    sealed: OnceCell<Box<[u64]>>,
}

/// Whether a table holds what it begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// What it begins with is not known yet.
    Open,
    /// It does.
    Sealed,
    /// It was changed.
    Changed,
}

#[derive(Debug)]
enum Entries {
    /// In the context, at this offset.
    Inline { offset: i32, len: u64 },
    /// On the heap.
    Heap(Vec<u64>),
}

impl OwnTable {
    /// Makes a table of null entries and publishes it. `inline` is the offset of its entries in the
    /// context, if it stands there.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if there is no memory for it.
    pub(crate) fn new(
        ty: TableType,
        context: &Context,
        vmctx: usize,
        definition: i32,
        inline: Option<i32>,
    ) -> Result<Self, Error> {
        let entries = match inline {
            Some(offset) => {
                let capacity = ty.max.unwrap_or(ty.min) as usize;
                context.zero(offset, capacity * TABLE_ENTRY_LEN as usize);
                Entries::Inline {
                    offset,
                    len: ty.min,
                }
            }
            None => {
                let mut entries = Vec::new();
                reserve(&mut entries, ty.min)?;
                entries.resize(ty.min as usize, 0);
                Entries::Heap(entries)
            }
        };
        let table = Self {
            ty,
            definition,
            entries: RefCell::new(entries),
            state: Cell::new(State::Open),
            sealed: OnceCell::new(),
        };
        table.publish(context, vmctx);
        Ok(table)
    }

    /// Takes what the table holds for what it begins with.
    pub(crate) fn seal(&self) {
        self.state.set(State::Sealed);
    }

    /// Notes that the table is about to be changed; the first time, keeps what it begins with.
    fn change(&self, context: &Context) {
        if self.state.get() != State::Sealed {
            return;
        }
        self.state.set(State::Changed);
        self.sealed.get_or_init(|| {
            let mut entries = Vec::with_capacity(self.len() as usize);
            self.visit(context, &mut |entry| entries.push(entry));
            entries.into_boxed_slice()
        });
    }

    /// Makes the table what it was when it was sealed.
    ///
    /// # Errors
    ///
    /// As [`OwnTable::new`]. The table is empty then.
    pub(crate) fn restore(&self, context: &Context, vmctx: usize) -> Result<(), Error> {
        let (State::Changed, Some(sealed)) = (self.state.get(), self.sealed.get()) else {
            return Ok(());
        };
        self.reset(context, vmctx)?;
        self.fill(context, vmctx, sealed)?;
        self.state.set(State::Sealed);
        Ok(())
    }

    /// Makes these the table's entries, which it has room for by its type.
    ///
    /// # Errors
    ///
    /// As [`OwnTable::new`]. The table is empty then.
    pub(crate) fn load(
        &self,
        context: &Context,
        vmctx: usize,
        entries: &[u64],
    ) -> Result<(), Error> {
        self.change(context);
        self.reset(context, vmctx)?;
        self.fill(context, vmctx, entries)
    }

    /// Puts entries into a table that was reset.
    fn fill(&self, context: &Context, vmctx: usize, entries: &[u64]) -> Result<(), Error> {
        match &mut *self.entries.borrow_mut() {
            Entries::Inline { offset, len } => {
                for (at, entry) in (0..).zip(entries) {
                    context.write(entry_offset(*offset, at), *entry);
                }
                *len = entries.len() as u64;
            }
            Entries::Heap(own) => {
                own.clear();
                reserve(own, entries.len() as u64)?;
                own.extend_from_slice(entries);
            }
        }
        self.publish(context, vmctx);
        Ok(())
    }

    /// Makes the table what it was in the beginning: null entries, as many as at first.
    ///
    /// # Errors
    ///
    /// As [`OwnTable::new`]. The table is empty then.
    pub(crate) fn reset(&self, context: &Context, vmctx: usize) -> Result<(), Error> {
        match &mut *self.entries.borrow_mut() {
            Entries::Inline { offset, len } => {
                let capacity = self.ty.max.unwrap_or(self.ty.min) as usize;
                context.zero(*offset, capacity * TABLE_ENTRY_LEN as usize);
                *len = self.ty.min;
            }
            Entries::Heap(entries) => {
                entries.clear();
                let len = self.ty.min as usize;
                if entries.capacity() > 2 * len + SPARE {
                    // What one guest grew is not kept for all who follow.
                    *entries = Vec::new();
                }
                // If there is no room, that is an error and not an abort.
                reserve(entries, self.ty.min)?;
                entries.resize(len, 0);
            }
        }
        self.publish(context, vmctx);
        Ok(())
    }

    /// Writes the table's definition where generated code reads it.
    fn publish(&self, context: &Context, vmctx: usize) {
        let fields = vm_table_definition::OFFSETS;
        let (base, len) = match &mut *self.entries.borrow_mut() {
            Entries::Inline { offset, len } => (vmctx - offset.unsigned_abs() as usize, *len),
            Entries::Heap(entries) => (
                entries.as_mut_ptr().expose_provenance(),
                entries.len() as u64,
            ),
        };
        context.write(self.definition + fields.base as i32, base as u64);
        context.write(self.definition + fields.len as i32, len);
    }

    /// Count of entries.
    pub(crate) fn len(&self) -> u64 {
        match &*self.entries.borrow() {
            Entries::Inline { len, .. } => *len,
            Entries::Heap(entries) => entries.len() as u64,
        }
    }

    /// Whether a range lies inside.
    fn covers(&self, at: u64, count: u64) -> bool {
        at.checked_add(count).is_some_and(|end| end <= self.len())
    }

    /// An entry; `None` outside the table.
    pub(crate) fn get(&self, context: &Context, at: u64) -> Option<u64> {
        if !self.covers(at, 1) {
            return None;
        }
        match &*self.entries.borrow() {
            Entries::Inline { offset, .. } => Some(context.read(entry_offset(*offset, at))),
            Entries::Heap(entries) => entries.get(at as usize).copied(),
        }
    }

    /// A range of entries; `None` outside the table.
    pub(crate) fn read(&self, context: &Context, at: u64, count: u64) -> Option<Vec<u64>> {
        if !self.covers(at, count) {
            return None;
        }
        match &*self.entries.borrow() {
            Entries::Inline { offset, .. } => Some(
                (at..at + count)
                    .map(|i| context.read(entry_offset(*offset, i)))
                    .collect(),
            ),
            Entries::Heap(entries) => entries
                .get(at as usize..(at + count) as usize)
                .map(<[u64]>::to_vec),
        }
    }

    /// Stores entries; `None`, and nothing is stored, outside the table.
    pub(crate) fn write(
        &self,
        context: &Context,
        at: u64,
        values: impl ExactSizeIterator<Item = u64>,
    ) -> Option<()> {
        if !self.covers(at, values.len() as u64) {
            return None;
        }
        self.change(context);
        match &mut *self.entries.borrow_mut() {
            Entries::Inline { offset, .. } => {
                for (i, value) in (at..).zip(values) {
                    context.write(entry_offset(*offset, i), value);
                }
            }
            Entries::Heap(entries) => {
                for (entry, value) in entries.iter_mut().skip(at as usize).zip(values) {
                    *entry = value;
                }
            }
        }
        Some(())
    }

    /// Visits all entries.
    pub(crate) fn visit(&self, context: &Context, visit: &mut dyn FnMut(u64)) {
        match &*self.entries.borrow() {
            Entries::Inline { offset, len } => {
                for at in 0..*len {
                    visit(context.read(entry_offset(*offset, at)));
                }
            }
            Entries::Heap(entries) => entries.iter().for_each(|entry| visit(*entry)),
        }
    }

    /// Copies encoded entries from an artifact to the start of the table.
    pub(crate) fn write_image(&self, context: &Context, bytes: &[u8]) {
        match &mut *self.entries.borrow_mut() {
            Entries::Inline { offset, .. } => context.write_bytes(*offset, bytes),
            Entries::Heap(entries) => {
                for (entry, bytes) in entries.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *entry = u64::from_le_bytes(*bytes);
                }
            }
        }
    }

    /// Elements that its type allows.
    pub(crate) fn max_elements(&self) -> u64 {
        let reach = if self.ty.is_64 {
            u64::MAX
        } else {
            u32::MAX.into()
        };
        self.ty.max.unwrap_or(reach)
    }

    /// Makes the table longer. The length was checked against its maximum and all limits.
    pub(crate) fn grow(
        &self,
        context: &Context,
        vmctx: usize,
        delta: u64,
        value: u64,
    ) -> Result<(), Error> {
        self.change(context);
        let old = self.len();
        match &mut *self.entries.borrow_mut() {
            Entries::Inline { len, .. } => *len = old + delta,
            Entries::Heap(entries) => {
                // The length is within the limit, but the memory may still not be there.
                reserve(entries, delta)?;
                entries.resize((old + delta) as usize, value);
            }
        }
        self.publish(context, vmctx);
        self.write(context, old, std::iter::repeat_n(value, delta as usize))
            .expect("the table is long enough now");
        Ok(())
    }
}

/// Makes room for more entries.
fn reserve(entries: &mut Vec<u64>, count: u64) -> Result<(), Error> {
    entries.try_reserve_exact(count as usize).map_err(|_| {
        let source = std::io::ErrorKind::OutOfMemory.into();
        Error::system("make room in a table of the instance")(source)
    })
}

/// Offset of an entry that was checked to lie in a table of the context.
fn entry_offset(base: i32, at: u64) -> i32 {
    base + at as i32 * TABLE_ENTRY_LEN as i32
}
