//! Model checks of the pool that all threads share: a stack has one owner, and none gets lost.

use super::*;
use crate::primitive::{Arc, AtomicUsize, Ordering, model};
use crate::sys::page::page_len;
use loom::thread;

fn stack() -> Box<Stack> {
    Box::new(Stack::new(page_len(), page_len()).unwrap())
}

fn len(pool: &Pool) -> usize {
    pool.stacks.lock().unwrap().len()
}

/// Takes the stack, if it is there, uses it and puts it back.
fn borrow(pool: &Pool, users: &AtomicUsize) -> bool {
    let Some(stack) = pool.take(page_len()) else {
        return false;
    };
    assert_eq!(users.fetch_add(1, Ordering::Relaxed), 0);
    users.fetch_sub(1, Ordering::Relaxed);
    pool.put(stack);
    true
}

#[test]
fn loom_one_stack_is_used_by_one_thread_at_a_time() {
    model(|| {
        let shared = Arc::new((Pool::new(2), AtomicUsize::new(0)));
        shared.0.put(stack());
        let other = thread::spawn({
            let shared = shared.clone();
            move || borrow(&shared.0, &shared.1)
        });
        let mine = borrow(&shared.0, &shared.1);
        assert!(other.join().unwrap() || mine, "there was one");
        assert_eq!(len(&shared.0), 1);
        assert!(borrow(&shared.0, &shared.1));
    });
}

#[test]
fn loom_a_full_pool_stays_within_its_bound() {
    model(|| {
        let pool = Arc::new(Pool::new(1));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let pool = pool.clone();
                thread::spawn(move || pool.put(stack()))
            })
            .collect();
        let taken = pool.take(page_len());
        for other in others {
            other.join().unwrap();
        }
        // The second to be put drives the first out; both may have come before the one was taken.
        let left = len(&pool);
        assert!(left <= 1 && (left == 1 || taken.is_some()), "{left}");
    });
}

#[test]
fn loom_draining_leaves_to_others_what_they_have() {
    model(|| {
        let shared = Arc::new((Pool::new(2), AtomicUsize::new(0)));
        shared.0.put(stack());
        let other = thread::spawn({
            let shared = shared.clone();
            move || borrow(&shared.0, &shared.1)
        });
        shared.0.drain();
        let drained_before = !other.join().unwrap();
        assert!(len(&shared.0) <= 1);
        if drained_before {
            assert_eq!(len(&shared.0), 0);
        }
    });
}
