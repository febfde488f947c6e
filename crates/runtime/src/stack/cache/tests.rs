//! Tests of the caches. Those that look at what comes back from where have a cache and a pool of
//! their own, as other tests of the same process use the global ones.

use super::*;
use crate::stack::tests::write;
use crate::sys::page::page_len;
use std::sync::mpsc;
use std::thread;

/// Makes `acquire` and `release` go to a cache and a pool of the test's own.
macro_rules! own_caches {
    () => {
        static OWN_POOL: Pool = Pool::new(8);
        thread_local! {
            static OWN_CACHE: StackCache = const { StackCache::new(|| &OWN_POOL) };
        }
        fn acquire(usable_len: usize) -> io::Result<Box<Stack>> {
            acquire_from(&OWN_CACHE, &OWN_POOL, usable_len)
        }
        fn release(stack: Box<Stack>) {
            release_to(&OWN_CACHE, &OWN_POOL, stack);
        }
    };
}

#[test]
fn a_thread_gets_back_the_stack_that_it_released() {
    own_caches!();
    let stack = acquire(10 * page_len()).unwrap();
    let limit = stack.limit();
    release(stack);
    for _ in 0..3 {
        let stack = acquire(10 * page_len()).unwrap();
        assert_eq!(stack.limit(), limit);
        release(stack);
    }
}

#[test]
fn only_exactly_the_wanted_length_is_handed_out() {
    own_caches!();
    thread::spawn(|| {
        let len = 21 * page_len();
        let held = acquire(len).unwrap();
        let limit = held.limit();
        release(held);
        for other in [len - page_len(), len + page_len(), len + 1] {
            let stack = acquire(other).unwrap();
            assert_ne!(stack.limit(), limit);
            assert_eq!(stack.usable_len(), other.next_multiple_of(page_len()));
        }
        // The one that did not fit is still there, and serves all lengths that round up to its own.
        assert_eq!(acquire(len - 1).unwrap().limit(), limit);
    })
    .join()
    .unwrap();
}

#[test]
fn guards_are_long_enough_and_not_counted() {
    let stack = acquire(1).unwrap();
    assert_eq!(stack.usable_len(), page_len());
    assert!(stack.bounds().guard.len() >= GUARD_LEN);
}

#[test]
fn an_absurd_length_is_an_error() {
    assert!(acquire(usize::MAX).is_err());
    assert!(acquire(1 << 60).is_err());
}

#[test]
fn the_stack_of_an_ended_thread_serves_another_one() {
    own_caches!();
    let len = 33 * page_len();
    let limit = thread::spawn(move || {
        let stack = acquire(len).unwrap();
        let limit = stack.limit();
        release(stack);
        limit
    })
    .join()
    .unwrap();
    assert_eq!(acquire(len).unwrap().limit(), limit);
}

#[test]
fn a_second_released_stack_sends_the_first_to_the_pool() {
    own_caches!();
    let len = 35 * page_len();
    let (outer, inner) = (acquire(len).unwrap(), acquire(len).unwrap());
    let limits = (outer.limit(), inner.limit());
    assert_ne!(limits.0, limits.1);
    release(inner);
    release(outer);
    assert_eq!(acquire(len).unwrap().limit(), limits.0);
    // That one was unmapped at the end of the line; the next one comes from the pool.
    assert_eq!(acquire(len).unwrap().limit(), limits.1);
}

#[test]
fn the_caches_of_the_process_hand_out_stacks() {
    let stack = acquire(3 * page_len()).unwrap();
    assert_eq!(stack.usable_len(), 3 * page_len());
    release(stack);
}

#[test]
fn a_full_pool_lets_its_oldest_go() {
    let pool = Pool::new(3);
    let (short, long) = (page_len(), 2 * page_len());
    let limits: Vec<usize> = [short, short, short, long]
        .into_iter()
        .map(|len| {
            let stack = Box::new(Stack::new(len, GUARD_LEN).unwrap());
            let limit = stack.limit();
            pool.put(stack);
            limit
        })
        .collect();
    assert!(pool.take(3 * page_len()).is_none());
    assert_eq!(pool.take(long).map(|stack| stack.limit()), Some(limits[3]));
    let mut left = Vec::new();
    while let Some(stack) = pool.take(short) {
        left.push(stack);
    }
    let left: Vec<usize> = left.iter().map(|stack| stack.limit()).collect();
    assert_eq!(
        left,
        [limits[2], limits[1]],
        "the most recent first, the oldest gone"
    );
}

#[test]
fn stacks_can_be_used_from_dying_thread_locals() {
    own_caches!();
    struct Late(mpsc::Sender<bool>);
    impl Drop for Late {
        fn drop(&mut self) {
            let stack = acquire(40 * page_len());
            let _ = self.0.send(stack.map(release).is_ok());
        }
    }
    thread_local! {
        static BEFORE: Cell<Option<Late>> = const { Cell::new(None) };
        static AFTER: Cell<Option<Late>> = const { Cell::new(None) };
    }
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // One dies before the cache of this thread and one after it, whichever it is.
        BEFORE.set(Some(Late(sender.clone())));
        release(acquire(40 * page_len()).unwrap());
        AFTER.set(Some(Late(sender)));
    })
    .join()
    .unwrap();
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [true, true]);
}

#[test]
fn threads_share_the_pool() {
    own_caches!();
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..500 {
                    let len = (50 + (thread + round) % 3) * page_len();
                    let (one, two) = (acquire(len).unwrap(), acquire(len).unwrap());
                    assert_eq!((one.usable_len(), two.usable_len()), (len, len));
                    assert_ne!(one.limit(), two.limit());
                    release(one);
                    release(two);
                }
            });
        }
    });
    assert!(OWN_POOL.stacks.lock().unwrap().len() <= 8);
}

/// Whether the page at an address has memory behind it.
fn is_resident(addr: usize) -> bool {
    // Each entry of the page map is 8 bytes; bit 63 says that the page is there (proc_pid_pagemap(5)).
    use std::os::unix::fs::FileExt;
    let mut entry = [0; 8];
    let map = std::fs::File::open("/proc/self/pagemap").unwrap();
    map.read_exact_at(&mut entry, (addr / page_len() * 8) as u64)
        .unwrap();
    u64::from_le_bytes(entry) >> 63 == 1
}

#[test]
fn what_lies_deep_is_given_back_after_an_overflow_and_now_and_then() {
    own_caches!();
    let touched = || {
        let stack = acquire(1 << 20).unwrap();
        let (deep, high) = (stack.limit(), stack.top() - page_len());
        for at in [deep, high] {
            write(at, 1);
            assert!(is_resident(at));
        }
        (stack, deep, high)
    };
    let (stack, deep, high) = touched();
    release(stack);
    assert!(is_resident(deep), "the next guest may be as deep");
    for _ in 1..TRIM_PERIOD {
        release(acquire(1 << 20).unwrap());
    }
    assert!(!is_resident(deep) && is_resident(high));
    // The caches of the process, for the path that overflowed guests take.
    let stack = super::acquire(1 << 20).unwrap();
    let (deep, high) = (stack.limit(), stack.top() - page_len());
    write(deep, 1);
    write(high, 1);
    release_overflowed(stack);
    assert!(!is_resident(deep) && is_resident(high));
}

#[test]
fn draining_unmaps_the_threads_stack_and_the_pools() {
    own_caches!();
    let stacks: Vec<_> = (0..5).map(|_| acquire(60 * page_len()).unwrap()).collect();
    stacks.into_iter().for_each(release);
    assert_eq!(OWN_POOL.stacks.lock().unwrap().len(), 4);
    drain(&OWN_CACHE, &OWN_POOL);
    assert!(OWN_POOL.stacks.lock().unwrap().is_empty());
    assert!(OWN_CACHE.with(|cache| cache.held.take()).is_none());
    release(acquire(60 * page_len()).unwrap());
}
