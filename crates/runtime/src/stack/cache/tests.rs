//! Tests of the caches. Those that look at what comes back from where have a slot and a pool of
//! their own, as other tests of the same process use the global ones.

use super::*;
use crate::sys::page::page_len;
use std::sync::mpsc;
use std::thread;

/// Makes `acquire` and `release` go to a slot and a pool of the test's own.
macro_rules! own_caches {
    () => {
        static OWN_POOL: Pool = Pool::new(8);
        thread_local! {
            static OWN_SLOT: Slot = const { Slot::new(&OWN_POOL) };
        }
        fn acquire(usable_len: usize) -> io::Result<Box<Stack>> {
            acquire_from(&OWN_SLOT, &OWN_POOL, usable_len)
        }
        fn release(stack: Box<Stack>) {
            release_to(&OWN_SLOT, &OWN_POOL, stack);
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
    assert!(stack.bounds().guard.len() >= LOW_GUARD_LEN);
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
            let stack = Box::new(Stack::new(len, LOW_GUARD_LEN).unwrap());
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
        // One dies before the slot of this thread and one after it, whichever it is.
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
