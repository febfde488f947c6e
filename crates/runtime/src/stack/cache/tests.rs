//! Tests of the caches. Those that look at what comes back from where have a cache and a pool of
//! their own, as other tests of the same process use the global ones.

use super::*;
use crate::stack::KEPT_LEN;
use crate::stack::tests::{read, write};
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
fn a_thread_keeps_a_few_and_sends_the_oldest_to_the_pool() {
    own_caches!();
    let len = 35 * page_len();
    let stacks: Vec<_> = (0..HELD + 2).map(|_| acquire(len).unwrap()).collect();
    let limits: Vec<_> = stacks.iter().map(|stack| stack.limit()).collect();
    stacks.into_iter().for_each(release);
    assert_eq!(OWN_POOL.stacks.lock().unwrap().len(), 2);
    // The last that was released comes first, those of the pool last.
    let again: Vec<_> = (0..HELD + 2).map(|_| acquire(len).unwrap()).collect();
    let again: Vec<_> = again.iter().map(|stack| stack.limit()).collect();
    let mut expected: Vec<_> = limits[2..].iter().rev().copied().collect();
    expected.extend([limits[1], limits[0]]);
    assert_eq!(again, expected);
}

#[test]
fn stacks_of_several_lengths_are_kept_side_by_side() {
    own_caches!();
    let lens = [35, 36, 37, 38].map(|pages| pages * page_len());
    let stacks = lens.map(|len| acquire(len).unwrap());
    let limits = stacks.each_ref().map(|stack| stack.limit());
    stacks.into_iter().for_each(release);
    for _ in 0..3 {
        for (len, limit) in lens.into_iter().zip(limits) {
            let stack = acquire(len).unwrap();
            assert_eq!(stack.limit(), limit);
            release(stack);
        }
    }
    assert!(OWN_POOL.stacks.lock().unwrap().is_empty());
}

#[test]
fn guests_that_call_others_take_and_give_the_same_stacks_without_the_pool() {
    own_caches!();
    let len = 39 * page_len();
    let nested = || {
        let mut stacks: Vec<_> = (0..HELD).map(|_| acquire(len).unwrap()).collect();
        let limits: Vec<_> = stacks.iter().map(|stack| stack.limit()).collect();
        while let Some(stack) = stacks.pop() {
            release(stack);
        }
        limits
    };
    let first = nested();
    for _ in 0..10 {
        assert_eq!(nested(), first);
    }
    assert!(OWN_POOL.stacks.lock().unwrap().is_empty());
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

/// Has a stack touched as by a guest that goes down to its limit, or not below what is kept.
fn touch(stack: &Stack, deep: bool) {
    let lowest = if deep {
        stack.limit()
    } else {
        stack.top() - KEPT_LEN
    };
    let mut at = stack.top() - 8;
    while at >= lowest {
        write(at, 1);
        at -= GUARD_LEN;
    }
}

#[test]
fn what_lies_deep_is_given_back_after_an_overflow() {
    // The caches of the process, for the path that overflowed guests take.
    let stack = super::acquire(1 << 20).unwrap();
    let (deep, high) = (stack.limit(), stack.top() - page_len());
    write(deep, 1);
    write(high, 1);
    release_overflowed(stack);
    assert!(!is_resident(deep) && is_resident(high));
}

#[test]
fn what_lies_deep_is_given_back_when_no_guest_has_been_there_for_a_while() {
    own_caches!();
    const LEN: usize = 1 << 20;
    let (mut deep, mut high) = (0, 0);
    let mut call = |is_deep| {
        let stack = acquire(LEN).unwrap();
        (deep, high) = (stack.limit(), stack.top() - page_len());
        touch(&stack, is_deep);
        if is_deep {
            write(stack.limit(), 1);
        }
        release(stack);
        (is_resident(deep), is_resident(high))
    };
    for round in 0..3 {
        assert_eq!(call(true), (true, true), "the next guest may be as deep");
        let mut calls = 1;
        while call(false) == (true, true) {
            calls += 1;
        }
        assert_eq!(call(false), (false, true));
        // The first look gives all back. Later it takes two, to see that it was deep and is not any more.
        let expected = if round == 0 {
            1..PERIOD
        } else {
            PERIOD..2 * PERIOD
        };
        assert!(expected.contains(&calls), "{calls}");
    }
}

#[test]
fn of_a_stack_that_is_used_deep_again_and_again_nothing_is_given_back() {
    own_caches!();
    let call = |is_deep: bool| {
        let stack = acquire(1 << 20).unwrap();
        touch(&stack, is_deep);
        // Not where it is touched.
        let deep = stack.limit() + 8;
        release(stack);
        deep
    };
    let mut deep = 0;
    for _ in 0..PERIOD {
        deep = call(true);
    }
    write(deep, 5);
    for n in 0..5 * PERIOD {
        call(n.is_multiple_of(PERIOD / 2));
    }
    // It would read as zero if it had been given back once.
    assert_eq!(read(deep), 5);
}

#[test]
fn all_stacks_of_a_thread_are_looked_at() {
    own_caches!();
    let nested = |deep: bool| {
        let stacks: Vec<_> = (0..HELD).map(|_| acquire(1 << 20).unwrap()).collect();
        let deepest: Vec<_> = stacks.iter().map(|stack| stack.limit()).collect();
        for stack in stacks.into_iter().rev() {
            touch(&stack, deep);
            if deep {
                write(stack.limit(), 1);
            }
            release(stack);
        }
        deepest
    };
    let deepest = nested(true);
    assert!(deepest.iter().all(|&at| is_resident(at)));
    for _ in 0..2 * PERIOD {
        // One level only: the others wait.
        release(acquire(1 << 20).unwrap());
    }
    assert!(!deepest.iter().any(|&at| is_resident(at)));
    // In use together, in turns.
    nested(true);
    for _ in 0..2 * PERIOD {
        nested(false);
    }
    assert!(!deepest.iter().any(|&at| is_resident(at)));
}

#[test]
fn draining_unmaps_the_threads_stack_and_the_pools() {
    own_caches!();
    let stacks: Vec<_> = (0..HELD + 4)
        .map(|_| acquire(60 * page_len()).unwrap())
        .collect();
    stacks.into_iter().for_each(release);
    assert_eq!(OWN_POOL.stacks.lock().unwrap().len(), 4);
    drain(&OWN_CACHE, &OWN_POOL);
    assert!(OWN_POOL.stacks.lock().unwrap().is_empty());
    let held = OWN_CACHE.with(StackCache::take_all);
    assert!(held.iter().all(Option::is_none));
    release(acquire(60 * page_len()).unwrap());
}
