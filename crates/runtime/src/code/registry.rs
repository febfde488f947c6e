//! Which module does this instruction belong to? Asked in signal handlers, hence answered without a
//! lock.
//!
//! ```text
//! TABLE -> | entry | entry | entry |      sorted by start; never changed once it is published
//! readers:  enter a lane, load TABLE, search, call back, leave the lane
//!           (no lock, no allocation, no waiting)
//! writers:  one at a time (mutex): publish a new table, wait until every reader of the old one
//!           has left, free the old one
//! ```
//!
//! **Why the old table can be freed.** A reader adds itself to one of two lanes *before* it loads
//! `TABLE`; a writer looks at the lanes *after* it has replaced `TABLE`. All four operations are
//! sequentially consistent, so there is one order of them that all threads agree on. A reader that
//! got the old table loaded it before the replacement in that order, hence entered before the
//! writer looked, hence the writer sees it and waits. A reader that the writer does not see loads
//! the new table. With only acquire and release, the reader's load could pass its own entry (store,
//! then load of another place), and both could miss each other. The reader leaves with a release,
//! which the writer's look acquires, so the free comes after all its reads.
//!
//! **Why there are two lanes.** With one, a steady stream of readers could keep the count above
//! zero for ever. A writer first waits for the lane that new readers do not use, then sends new
//! readers there, then waits for the other; each holds only readers that had read `CURRENT_LANE`
//! before it changed, and no more come. Both are looked at after the replacement, so it does not
//! matter which one a reader of the old table is in, nor how late it acts on the lane number that
//! it read.
//!
//! **Why nobody waits for ever.** Readers never wait, so a signal handler may look up whatever its
//! thread was doing, even publishing a table with the mutex held: it sees the table before or
//! after, and leaves the lane before the writer goes on. Writers wait for readers on other threads
//! only, for as long as a search and the callback take. The callback must return (or unwind), and
//! must neither register nor unregister. In the child of a `fork`, readers that other threads were
//! at that moment never leave: the child may look up, but should not load or drop modules before
//! `exec`.
#![allow(unsafe_code, reason = "room R4, SAFETY.md")]

use std::ptr;
use std::sync::PoisonError;

use crate::primitive::{
    AtomicPtr, AtomicUsize, Mutex, MutexGuard, Ordering, Witness, const_outside_models, free,
    spin_loop, static_in_models_too, yield_now,
};

/// What is known of one range of code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeEntry {
    /// The address of the first byte.
    pub(crate) start: usize,
    /// The address behind the last byte.
    pub(crate) end: usize,
    /// The encoded trap table, which the module owns. It stays valid until the entry is
    /// unregistered.
    pub(crate) traps: *const u8,
    /// Bytes of the trap table.
    pub(crate) traps_len: usize,
}

// SAFETY: the registry passes the pointers on and never follows them; whoever does proves that it
// may on its thread.
unsafe impl Send for CodeEntry {}
// SAFETY: as above.
unsafe impl Sync for CodeEntry {}

/// The sorted entries of one moment.
struct Table {
    records: Vec<Record>,
    /// Read with the records, and ended with them.
    witness: Witness,
}

#[derive(Clone, Copy)]
struct Record {
    entry: CodeEntry,
    /// Tells entries apart whatever their ranges.
    id: u64,
}

/// A registry of code ranges. There is one for the process; tests make their own.
struct Registry {
    /// The table of now, null for an empty one. Owned by the registry.
    table: AtomicPtr<Table>,
    /// How many readers are in each lane.
    lanes: [AtomicUsize; 2],
    /// The lane that new readers enter.
    current_lane: AtomicUsize,
    /// The id of the next entry. The lock is what makes writers come one at a time.
    next_id: Mutex<u64>,
}

static_in_models_too! {
    static REGISTRY: Registry = Registry::new();
}

/// Makes a range of code known until the returned value is dropped. Ranges do not overlap, as each
/// is mapped by its owner.
pub(crate) fn register(entry: CodeEntry) -> Registration {
    REGISTRY.register(entry)
}

/// Calls `f` with the entry whose range holds `pc`, if there is one. Can be called in a signal
/// handler.
///
/// The entry stays registered while `f` runs. `f` must not register or unregister, and must not
/// block (see the top of this file).
pub(crate) fn lookup<R>(pc: usize, f: impl FnOnce(&CodeEntry) -> R) -> Option<R> {
    REGISTRY.lookup(pc, f)
}

/// Keeps a range of code known. Once it has been dropped no lookup sees the entry any more, not
/// even one that had begun.
#[derive(Debug)]
#[must_use = "the code is unregistered when this is dropped"]
pub(crate) struct Registration {
    registry: &'static Registry,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.unregister(self.id);
    }
}

impl Registry {
    const_outside_models! {
        fn new() -> Self {
            Self {
                table: AtomicPtr::new(ptr::null_mut()),
                lanes: [AtomicUsize::new(0), AtomicUsize::new(0)],
                current_lane: AtomicUsize::new(0),
                next_id: Mutex::new(0),
            }
        }
    }

    fn register(&'static self, entry: CodeEntry) -> Registration {
        let mut next_id = self.lock();
        let id = *next_id;
        *next_id += 1;
        let mut records = self.copy_records(&next_id);
        let position = records.partition_point(|record| record.entry.start < entry.start);
        debug_assert!(
            position
                .checked_sub(1)
                .and_then(|before| records.get(before))
                .is_none_or(|r| r.entry.end <= entry.start)
                && records
                    .get(position)
                    .is_none_or(|r| entry.end <= r.entry.start),
            "ranges of code do not overlap"
        );
        records.insert(position, Record { entry, id });
        self.publish(records, &next_id);
        Registration { registry: self, id }
    }

    fn unregister(&self, id: u64) {
        let writer = self.lock();
        let mut records = self.copy_records(&writer);
        records.retain(|record| record.id != id);
        self.publish(records, &writer);
    }

    fn lookup<R>(&self, pc: usize, f: impl FnOnce(&CodeEntry) -> R) -> Option<R> {
        let _reader = self.enter_lane();
        // SAFETY: a published table is freed only when all readers that may have loaded it have
        // left their lane (see the top of this file), and this one is in its lane until the end of
        // the function.
        let table = unsafe { self.table.load(Ordering::SeqCst).as_ref() }?;
        table.witness.read(|| {
            let records = &table.records;
            let after = records.partition_point(|record| record.entry.start <= pc);
            let record = records.get(after.checked_sub(1)?)?;
            (pc < record.entry.end).then(|| f(&record.entry))
        })
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        // Whoever panicked with the lock held had not published a table yet, so the one in place is
        // whole.
        self.next_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of now, with room for one more.
    fn copy_records(&self, _writer: &MutexGuard<'_, u64>) -> Vec<Record> {
        // SAFETY: only the writer frees tables, and this is the writer.
        let table = unsafe { self.table.load(Ordering::SeqCst).as_ref() };
        let records = table.map_or(&[][..], |table| &table.records);
        let mut copy = Vec::with_capacity(records.len() + 1);
        copy.extend_from_slice(records);
        copy
    }

    /// Replaces the table and returns when no reader has the old one any more.
    fn publish(&self, records: Vec<Record>, _writer: &MutexGuard<'_, u64>) {
        let new = if records.is_empty() {
            ptr::null_mut()
        } else {
            let witness = Witness::default();
            Box::into_raw(Box::new(Table { records, witness }))
        };
        let old = self.table.swap(new, Ordering::SeqCst);
        self.wait_for_readers();
        if !old.is_null() {
            // SAFETY: a table that is not null comes from `Box::into_raw` above, is replaced once,
            // and has no reader any more.
            let old = unsafe { Box::from_raw(old) };
            old.witness.end();
            free(old);
        }
    }

    fn wait_for_readers(&self) {
        let current = self.current_lane.load(Ordering::SeqCst) % 2;
        self.wait_for_lane(1 - current);
        self.current_lane.store(1 - current, Ordering::SeqCst);
        self.wait_for_lane(current);
    }

    fn wait_for_lane(&self, lane: usize) {
        let mut turns = 0_u32;
        while self.lanes[lane].load(Ordering::SeqCst) != 0 {
            // A reader is through in well under a microsecond, unless its thread is not running.
            if turns < 100 {
                spin_loop();
            } else {
                yield_now();
            }
            turns = turns.saturating_add(1);
        }
    }

    fn enter_lane(&self) -> Reader<'_> {
        let lane = &self.lanes[self.current_lane.load(Ordering::SeqCst) % 2];
        lane.fetch_add(1, Ordering::SeqCst);
        Reader { lane }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// A reader in its lane, which it leaves when dropped.
struct Reader<'a> {
    lane: &'a AtomicUsize,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.lane.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
