//! Stacks that wait for their next use: one per thread, and some for all threads.
//!
//! ```text
//! acquire:  this thread's cache  ->  global pool  ->  map a new one
//! release:  this thread's cache; what was in there -> global pool, trimmed
//!           the oldest stack of a full pool -> unmapped
//! ```
//!
//! A thread that calls one guest after another swaps a stack in and out of its cache, with no atomic
//! operation and no system call. The lengths of usable bytes are compared for equality, guards not
//! counted (D-1): a stack that is a page short, or sixteen times too long, is never handed out.
//!
//! What a guest touched below a mark of 256 KiB is given back to the system: when a stack goes to the
//! pool, when its guest has overflowed it, and otherwise at every 1,024th release on a thread, so that
//! one deep call does not hold its memory for ever (D-7). There is no unsafe code in here.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::thread::LocalKey;

use super::{GUARD_LEN, Stack, size};
use crate::primitive::{Mutex, const_outside_models, static_in_models_too};
use crate::sys::page::PageLen;

/// Stacks that the pool holds at most.
const POOL_CAPACITY: usize = 64;

static_in_models_too! {
    /// Stacks of all threads, the longest unused first.
    static STACK_POOL: Pool = Pool::new(POOL_CAPACITY);
}

/// Releases on a thread after which what lies deep in its stack is given back. One `madvise` of a
/// range that is not there takes about as long as a hundred releases.
const TRIM_PERIOD: u32 = 1024;

thread_local! {
    static TLS_STACK: StackCache = const { StackCache::new(|| &STACK_POOL) };
    /// Apart from the guests', so that a guest and the host function that it calls don't drive each
    /// other's stack out.
    static TLS_FIBER: StackCache = const { StackCache::new(|| &STACK_POOL) };
}

/// A stack for a host function that may suspend its guest, whatever this thread asks for its guests.
#[inline]
pub(crate) fn acquire_fiber(usable_len: usize) -> io::Result<Box<Stack>> {
    acquire_from(&TLS_FIBER, &STACK_POOL, usable_len)
}

/// Takes back the stack of a host function that is done.
#[inline]
pub(crate) fn release_fiber(stack: Box<Stack>) {
    release_to(&TLS_FIBER, &STACK_POOL, stack);
}

/// A stack with exactly `usable_len` usable bytes, rounded up to pages, or as many as this thread asks
/// for (see [`size::VMConfig`]). Its contents are whatever its last user left.
///
/// Stacks travel in boxes: one pointer is moved in and out of the slot, not a structure.
#[inline]
pub(crate) fn acquire(usable_len: usize) -> io::Result<Box<Stack>> {
    acquire_from(&TLS_STACK, &STACK_POOL, size::wanted(usable_len))
}

/// Takes back a stack on which nothing runs any more.
#[inline]
pub(crate) fn release(stack: Box<Stack>) {
    if stack.bounds().is_lent() && stack.close_reserve().is_err() {
        return;
    }
    release_to(&TLS_STACK, &STACK_POOL, stack);
}

/// Takes back a stack whose guest has overflowed it: all of its pages are there, and most are not
/// needed again soon.
#[cold]
pub(crate) fn release_overflowed(stack: Box<Stack>) {
    if stack.trim().is_ok() {
        release(stack);
    }
}

/// Unmaps the stacks that wait: the calling thread's and those of the pool. Best effort: other threads
/// keep theirs, and what is released meanwhile stays.
pub fn drain_stack_pool() {
    drain(&TLS_FIBER, &STACK_POOL);
    drain(&TLS_STACK, &STACK_POOL);
}

fn drain(cache: &'static LocalKey<StackCache>, pool: &Pool) {
    // A thread that is ending has given its stack to the pool already.
    let held = cache.try_with(|cache| cache.held.take());
    drop(held);
    pool.drain();
}

#[inline]
fn acquire_from(
    cache: &'static LocalKey<StackCache>,
    pool: &Pool,
    usable_len: usize,
) -> io::Result<Box<Stack>> {
    let wanted = PageLen::round_up(usable_len.max(1)).map(PageLen::get);
    // A thread that is ending has no cache any more: guests may still be called from destructors of
    // its thread-locals (D-4).
    if let Ok(Some(stack)) = cache.try_with(|cache| cache.take_if(wanted)) {
        return Ok(stack);
    }
    if let Some(stack) = wanted.and_then(|wanted| pool.take(wanted)) {
        return Ok(stack);
    }
    Stack::new(usable_len, GUARD_LEN).map(Box::new)
}

#[inline]
fn release_to(cache: &'static LocalKey<StackCache>, pool: &Pool, stack: Box<Stack>) {
    let mut stack = Some(stack);
    // Without a cache the closure is not called and the stack is still here.
    let evicted = cache.try_with(|cache| cache.put(stack.take()));
    if let Some(stack) = evicted.unwrap_or_else(|_| stack.take()) {
        pool.put(stack);
    }
}

/// The one stack that a thread keeps for its next guest. When the thread ends, it goes to the pool.
struct StackCache {
    held: Cell<Option<Box<Stack>>>,
    /// Releases so far, wrapping.
    releases: Cell<u32>,
    /// Gives the pool: in model checks, which begin anew many times, it has no address yet.
    pool: fn() -> &'static Pool,
}

impl StackCache {
    const fn new(pool: fn() -> &'static Pool) -> Self {
        Self {
            held: Cell::new(None),
            releases: Cell::new(0),
            pool,
        }
    }

    /// Keeps a stack; the one that was kept before.
    #[inline]
    fn put(&self, stack: Option<Box<Stack>>) -> Option<Box<Stack>> {
        let releases = self.releases.get().wrapping_add(1);
        self.releases.set(releases);
        if releases.is_multiple_of(TRIM_PERIOD) {
            return self.put_trimmed(stack);
        }
        self.held.replace(stack)
    }

    #[cold]
    fn put_trimmed(&self, stack: Option<Box<Stack>>) -> Option<Box<Stack>> {
        self.held
            .replace(stack.filter(|stack| stack.trim().is_ok()))
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

impl Drop for StackCache {
    fn drop(&mut self) {
        if let Some(stack) = self.held.take() {
            (self.pool)().put(stack);
        }
    }
}

/// A bounded pool of stacks of any lengths.
struct Pool {
    stacks: Mutex<VecDeque<Box<Stack>>>,
    capacity: usize,
}

impl Pool {
    const_outside_models! {
        fn new(capacity: usize) -> Self {
            Self {
                stacks: Mutex::new(VecDeque::new()),
                capacity,
            }
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

    /// Unmaps all.
    fn drain(&self) {
        let mut stacks = self.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        let drained = std::mem::take(&mut *stacks);
        drop(stacks);
        // Unmapped here, when nobody waits for the lock.
        drop(drained);
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
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
