//! Stacks that wait for their next use: one per thread, and some for all threads.
//!
//! ```text
//! acquire:  this thread's slot  ->  global pool  ->  map a new one
//! release:  this thread's slot; what was in there -> global pool, trimmed
//!           the oldest stack of a full pool -> unmapped
//! ```
//!
//! A thread that calls one guest after another swaps a stack in and out of its slot, with no atomic
//! operation and no system call. The lengths of usable bytes are compared for equality, guards not
//! counted (D-1): a stack that is a page short, or sixteen times too long, is never handed out.
//! There is no unsafe code in here.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::LocalKey;

use super::{LOW_GUARD_LEN, Stack};
use crate::sys::page::PageLen;

/// Stacks that the pool holds at most.
const POOL_CAPACITY: usize = 64;

/// Stacks of all threads, the longest unused first.
static POOL: Pool = Pool::new(POOL_CAPACITY);

thread_local! {
    static SLOT: Slot = const { Slot::new(&POOL) };
}

/// A stack with exactly `usable_len` usable bytes, rounded up to pages. Its contents are whatever
/// its last user left.
///
/// Stacks travel in boxes: one pointer is moved in and out of the slot, not a structure.
#[inline]
pub(crate) fn acquire(usable_len: usize) -> io::Result<Box<Stack>> {
    acquire_from(&SLOT, &POOL, usable_len)
}

/// Takes back a stack on which nothing runs any more.
#[inline]
pub(crate) fn release(stack: Box<Stack>) {
    release_to(&SLOT, &POOL, stack);
}

#[inline]
fn acquire_from(
    slot: &'static LocalKey<Slot>,
    pool: &Pool,
    usable_len: usize,
) -> io::Result<Box<Stack>> {
    let wanted = PageLen::round_up(usable_len.max(1)).map(PageLen::get);
    // A thread that is ending has no slot any more: guests may still be called from destructors of
    // its thread-locals (D-4).
    if let Ok(Some(stack)) = slot.try_with(|slot| slot.take_if(wanted)) {
        return Ok(stack);
    }
    if let Some(stack) = wanted.and_then(|wanted| pool.take(wanted)) {
        return Ok(stack);
    }
    Stack::new(usable_len, LOW_GUARD_LEN).map(Box::new)
}

#[inline]
fn release_to(slot: &'static LocalKey<Slot>, pool: &Pool, stack: Box<Stack>) {
    let mut stack = Some(stack);
    // Without a slot the closure is not called and the stack is still here.
    let evicted = slot.try_with(|slot| slot.held.replace(stack.take()));
    if let Some(stack) = evicted.unwrap_or_else(|_| stack.take()) {
        pool.put(stack);
    }
}

/// The stack of one thread. When the thread ends, it goes to the pool.
struct Slot {
    held: Cell<Option<Box<Stack>>>,
    pool: &'static Pool,
}

impl Slot {
    const fn new(pool: &'static Pool) -> Self {
        Self {
            held: Cell::new(None),
            pool,
        }
    }

    /// Takes the stack, if it has the wanted length. Another one stays for the next call that wants
    /// it.
    #[inline]
    fn take_if(&self, wanted: Option<usize>) -> Option<Box<Stack>> {
        let held = self.held.take()?;
        if Some(held.usable_len()) == wanted {
            return Some(held);
        }
        self.held.set(Some(held));
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(stack) = self.held.take() {
            self.pool.put(stack);
        }
    }
}

/// A bounded pool of stacks of any lengths.
struct Pool {
    stacks: Mutex<VecDeque<Box<Stack>>>,
    capacity: usize,
}

impl Pool {
    const fn new(capacity: usize) -> Self {
        Self {
            stacks: Mutex::new(VecDeque::new()),
            capacity,
        }
    }

    /// The most recently used stack of exactly `usable_len` bytes: its pages are the likeliest to
    /// be in the cache.
    fn take(&self, usable_len: usize) -> Option<Box<Stack>> {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stacks
            .iter()
            .rposition(|stack| stack.usable_len() == usable_len)?;
        stacks.remove(found)
    }

    /// Keeps a stack, without most of its memory.
    fn put(&self, stack: Box<Stack>) {
        // One that cannot be trimmed is not worth keeping.
        if stack.trim().is_err() {
            return;
        }
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        // When all are of a length that nobody asks for any more, the oldest must go, or the pool
        // would never serve again.
        let oldest = if stacks.len() >= self.capacity {
            stacks.pop_front()
        } else {
            None
        };
        stacks.push_back(stack);
        drop(stacks);
        // Unmapped here, when nobody waits for the lock.
        drop(oldest);
    }
}

#[cfg(test)]
mod tests;
