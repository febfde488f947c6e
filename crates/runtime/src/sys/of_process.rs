//! A value of which each process has one of its own: the child of a fork makes another when it first asks.
//!
//! ```text
//!  parent   current --> value of fork 0
//!  child    current --> value of fork 1, made of what the parent's was at the fork
//!                       value of fork 0: stays where it is, for ever
//! ```
//!
//! For what has locks: a thread that held one at the fork is not in the child, so nobody would ever unlock it there. No
//! lock is taken for a fork, and the parent notices nothing. That there was a fork is seen as in `sys/thread.rs`.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::thread;

/// One value for each process.
pub(crate) struct OfProcess<T> {
    /// Of the process that asked last: this one, or a parent of it. Made by `Box::into_raw`, and changed in a child
    /// only.
    current: AtomicPtr<Value<T>>,
    _values: PhantomData<Value<T>>,
}

struct Value<T> {
    /// The forks that there were between the first process and the one that it is of.
    forks: u64,
    value: T,
}

fn boxed<T>(value: T) -> *mut Value<T> {
    let forks = thread::forks();
    Box::into_raw(Box::new(Value { forks, value }))
}

impl<T> OfProcess<T> {
    /// The value of this process.
    pub(crate) fn new(value: T) -> Self {
        Self {
            current: AtomicPtr::new(boxed(value)),
            _values: PhantomData,
        }
    }

    /// The value of this process. In a child that has none yet, `make` makes it of its parent's, in which locks may be
    /// held by nobody. Of several threads that do so at once, one is listened to.
    pub(crate) fn get(&self, make: impl FnOnce(&T) -> T) -> &T {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: made by `boxed`, and not freed before `self` is dropped (I-90).
        let value = unsafe { &*current };
        if value.forks == thread::forks() {
            return &value.value;
        }
        self.renew(current, make(&value.value))
    }

    #[cold]
    fn renew(&self, parents: *mut Value<T>, value: T) -> &T {
        let own = boxed(value);
        let done = self
            .current
            .compare_exchange(parents, own, Ordering::AcqRel, Ordering::Acquire);
        let current = match done {
            Ok(_) => own,
            Err(other) => {
                // SAFETY: made above, and nobody has it.
                drop(unsafe { Box::from_raw(own) });
                other
            }
        };
        // SAFETY: as in `get`.
        &unsafe { &*current }.value
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        // SAFETY: made by `boxed`; nobody borrows it any more. Those of parents are left where they are.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}

// SAFETY: it owns a `T` and lends it to any thread, as a `Box` that can be shared does.
unsafe impl<T: Send + Sync> Send for OfProcess<T> {}
// SAFETY: as above; `get` moves a `T` that one thread has made to the others.
unsafe impl<T: Send + Sync> Sync for OfProcess<T> {}

impl<T> fmt::Debug for OfProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfProcess").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::ptr;
    use std::sync::Mutex;

    use super::*;
    use crate::sys::fork::{self, Outcome};

    /// Of the parent's, whose lock may be held.
    fn made(parents: &Mutex<u32>) -> Mutex<u32> {
        Mutex::new(parents.try_lock().map_or(100, |value| *value + 10))
    }

    fn value(of: &OfProcess<Mutex<u32>>) -> u32 {
        *of.get(made).lock().unwrap()
    }

    #[test]
    fn a_child_has_a_value_of_its_own_and_so_has_its_child() {
        thread::watch_forks().unwrap();
        let of = OfProcess::new(Mutex::new(1));
        assert_eq!(value(&of), 1);
        let child = fork::run(|| {
            assert_eq!(value(&of), 11);
            *of.get(made).lock().unwrap() = 2;
            assert_eq!(value(&of), 2);
            let grandchild = fork::run(|| {
                assert_eq!(value(&of), 12);
                0
            });
            assert_eq!(grandchild, Outcome::Exited(0));
            assert_eq!(value(&of), 2);
            drop(of);
            0
        });
        assert_eq!(child, Outcome::Exited(0));
    }

    #[test]
    fn a_lock_that_is_held_at_the_fork_is_not_in_the_way() {
        thread::watch_forks().unwrap();
        let of = OfProcess::new(Mutex::new(1));
        let held = of.get(made).lock().unwrap();
        let child = fork::run(|| {
            assert_eq!(value(&of), 100);
            // Whichever thread comes first: all have the same one.
            std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(|| ptr::from_ref(of.get(made)).addr()));
                let addrs = threads.map(|thread| thread.join().unwrap());
                assert_eq!(addrs, [ptr::from_ref(of.get(made)).addr(); 4]);
            });
            0
        });
        assert_eq!(child, Outcome::Exited(0));
        drop(held);
        assert_eq!(value(&of), 1);
    }

    #[test]
    fn threads_of_a_child_that_ask_at_once_get_the_same_value() {
        thread::watch_forks().unwrap();
        let of = OfProcess::new(Mutex::new(1));
        let child = fork::run(|| {
            let together = std::sync::Barrier::new(4);
            let addr = || {
                together.wait();
                ptr::from_ref(of.get(made)).addr()
            };
            std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(addr));
                let addrs = threads.map(|thread| thread.join().unwrap());
                assert_eq!(addrs, [addrs[0]; 4]);
            });
            assert_eq!(value(&of), 11);
            0
        });
        assert_eq!(child, Outcome::Exited(0));
    }
}
