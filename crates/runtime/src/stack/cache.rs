//! Stacks that wait for their next use: a few per thread, and some for all threads.
//!
//! ```text
//! acquire:  this thread's cache  ->  global pool  ->  map a new one
//! release:  this thread's cache; what has no room in there any more -> global pool, trimmed
//!           the oldest stack of a full pool -> unmapped
//! ```
//!
//! A thread that calls one guest after another swaps a stack in and out of its cache, with no atomic
//! operation and no system call; so does one whose guests call others, to a few instances deep. The lengths of usable bytes are compared for equality, guards not
//! counted (D-1): a stack that is a page short, or sixteen times too long, is never handed out.
//!
//! What a guest touched below a mark of 256 KiB is given back to the system: when a stack goes to the
//! pool, when its guest has overflowed it, and otherwise when no guest has been as deep for a while, so that
//! one deep call does not hold its memory for ever (D-7). That is looked at every 8,191 releases on a thread, without
//! asking the system (`Stack::tend`): a stack is given back in part at the first look, and after that only if guests went
//! deep before one look and not before the next. So a thread that does the same again and again, deep or not, makes no
//! system call for its stacks. There is no unsafe code in here.

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

/// Stacks that a thread keeps: for a guest, and for those of other instances that its host functions call.
const HELD: usize = 4;

/// Releases on a thread from one look at its stacks to the next. A look at one reads 68 KiB, a microsecond or two. A prime, so that
/// of stacks that are released in turns none is always in use when the others are looked at.
const PERIOD: u32 = 8191;

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
pub(crate) fn release_overflowed(mut stack: Box<Stack>) {
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
    // A thread that is ending has given its stacks to the pool already.
    let held = cache.try_with(StackCache::take_all);
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

/// The stacks that a thread keeps for its next guests. When the thread ends, they go to the pool.
struct StackCache {
    /// The one that was released last first.
    held: [Cell<Option<Box<Stack>>>; HELD],
    /// Releases until they are looked at.
    left: Cell<u32>,
    /// Gives the pool: in model checks, which begin anew many times, it has no address yet.
    pool: fn() -> &'static Pool,
}

impl StackCache {
    const fn new(pool: fn() -> &'static Pool) -> Self {
        Self {
            held: [const { Cell::new(None) }; HELD],
            left: Cell::new(PERIOD),
            pool,
        }
    }

    /// Keeps a stack; the one for which there is no room any more.
    #[inline]
    fn put(&self, stack: Option<Box<Stack>>) -> Option<Box<Stack>> {
        let former = self.held[0].replace(stack);
        let left = self.left.get() - 1;
        self.left.set(left);
        if former.is_none() && left != 0 {
            return None;
        }
        self.put_next(former, left == 0)
    }

    #[cold]
    fn put_next(&self, mut former: Option<Box<Stack>>, is_over: bool) -> Option<Box<Stack>> {
        for place in &self.held[1..] {
            if former.is_none() {
                break;
            }
            former = place.replace(former);
        }
        if is_over {
            self.left.set(PERIOD);
            for place in &self.held {
                // One that can't be given back in part is not worth keeping.
                let tended = place.take().and_then(|mut stack| {
                    stack.tend().ok()?;
                    Some(stack)
                });
                place.set(tended);
            }
        }
        former
    }

    /// Takes a stack of the wanted length. Others stay for the next call that wants one of theirs.
    #[inline]
    fn take_if(&self, wanted: Option<usize>) -> Option<Box<Stack>> {
        if let Some(held) = self.held[0].take() {
            if Some(held.usable_len()) == wanted {
                return Some(held);
            }
            self.held[0].set(Some(held));
        }
        self.take_next_if(wanted)
    }

    #[cold]
    fn take_next_if(&self, wanted: Option<usize>) -> Option<Box<Stack>> {
        self.held[1..].iter().find_map(|place| {
            let held = place.take()?;
            if Some(held.usable_len()) == wanted {
                return Some(held);
            }
            place.set(Some(held));
            None
        })
    }

    /// Takes them all.
    fn take_all(&self) -> [Option<Box<Stack>>; HELD] {
        self.held.each_ref().map(Cell::take)
    }
}

impl Drop for StackCache {
    fn drop(&mut self) {
        for stack in self.take_all().into_iter().flatten() {
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
    fn put(&self, mut stack: Box<Stack>) {
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
