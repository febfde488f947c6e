//! What concurrent code is made of: the standard library's primitives or, in model checks, loom's.
//!
//! A model check is a test that loom runs once for every order in which its threads can meet, stale reads
//! included. They are built with `--cfg loom` (`ci/loom.sh`), their names begin with `loom_`, and they stand in
//! `models.rs` beside what they check. Code that is checked so takes its atomics and locks from here.
//!
//! loom takes sequentially consistent accesses for acquire and release only, but knows fences. So here each
//! such access stands between two fences. Where a word is accessed in this way alone, as in what is
//! checked, that comes to the same: there is one order of these accesses that all threads agree on.

#[cfg(not(all(test, loom)))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

#[cfg(all(test, loom))]
pub(crate) use self::models::*;

/// A function that is `const`, but in model checks: nothing of loom's can be made before a model begins.
macro_rules! const_outside_models {
    ($(#[$attribute:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(all(test, loom)))]
        $(#[$attribute])* $vis const fn $($rest)*
        #[cfg(all(test, loom))]
        $(#[$attribute])* $vis fn $($rest)*
    };
}

/// A static, which in model checks is made when it is first used, once for each order that is tried.
macro_rules! static_in_models_too {
    ($(#[$attribute:meta])* static $name:ident: $ty:ty = $init:expr;) => {
        #[cfg(not(all(test, loom)))]
        $(#[$attribute])* static $name: $ty = $init;
        #[cfg(all(test, loom))]
        loom::lazy_static! { $(#[$attribute])* static ref $name: $ty = $init; }
    };
}

pub(crate) use {const_outside_models, static_in_models_too};

/// One side of a barrier that another thread makes all threads execute (`sys::interrupt::barrier`): the compiler
/// keeps the order, and the other thread does the rest. Models have a barrier on each side.
#[inline]
pub(crate) fn light_barrier() {
    #[cfg(not(all(test, loom)))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(all(test, loom))]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Tells model checks of accesses that loom can't see, since they go through pointers: of reads, and of the
/// end of what is read. It has no bytes and does nothing otherwise.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Written at the end: loom finds reads that nothing orders before it.
    #[cfg(all(test, loom))]
    cell: loom::cell::UnsafeCell<()>,
    /// Set at the end. loom lets fences order more than they do, so the cell alone would miss some reads.
    #[cfg(all(test, loom))]
    gone: loom::sync::atomic::AtomicBool,
}

impl Witness {
    /// What it stands for is read, during the call.
    #[inline]
    pub(crate) fn read<R>(&self, f: impl FnOnce() -> R) -> R {
        let result = f();
        #[cfg(all(test, loom))]
        {
            self.cell.with(|_| ());
            assert!(!self.gone.load(Ordering::Relaxed), "read what is gone");
        }
        result
    }

    /// What it stands for goes: nobody may read it any more.
    #[inline]
    pub(crate) fn end(&self) {
        #[cfg(all(test, loom))]
        {
            self.cell.with_mut(|_| ());
            self.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Frees what nobody has a pointer to any more. Model checks keep it, so that who looks at it yet is found
/// and does no harm.
pub(crate) fn free<T>(value: Box<T>) {
    #[cfg(all(test, loom))]
    std::mem::forget(value);
    #[cfg(not(all(test, loom)))]
    drop(value);
}

#[cfg(test)]
#[cfg(loom)]
mod models {
    use loom::sync::atomic::fence;

    pub(crate) use loom::{
        hint::spin_loop,
        sync::atomic::Ordering,
        sync::{Arc, Condvar, Mutex, MutexGuard},
        thread::yield_now,
    };

    /// Puts an access between fences if it is to be sequentially consistent.
    fn ordered<R>(order: Ordering, access: impl FnOnce() -> R) -> R {
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
        let result = access();
        if order == Ordering::SeqCst {
            fence(Ordering::SeqCst);
        }
        result
    }

    macro_rules! atomics {
        ($($name:ident $(<$param:ident>)?, $value:ty: $($op:ident)*;)*) => {$(
            /// loom's, with accesses that are sequentially consistent.
            #[derive(Debug)]
            pub(crate) struct $name $(<$param>)? (loom::sync::atomic::$name $(<$param>)?);

            #[allow(dead_code, reason = "a whole set; what is checked needs a part of it")]
            impl $(<$param>)? $name $(<$param>)? {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    ordered(order, || self.0.load(order))
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    ordered(order, || self.0.store(value, order));
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $value,
                    new: $value,
                    order: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    ordered(order, || self.0.compare_exchange(current, new, order, failure))
                }

                $(pub(crate) fn $op(&self, value: $value, order: Ordering) -> $value {
                    ordered(order, || self.0.$op(value, order))
                })*
            }
        )*};
    }

    atomics! {
        AtomicPtr<T>, *mut T: swap;
        AtomicU32, u32: swap fetch_and fetch_or;
        AtomicU64, u64: swap fetch_add;
        AtomicUsize, usize: swap fetch_add fetch_sub fetch_and fetch_or;
    }

    /// Runs a model in all orders in which a thread is interrupted at most three times where it need not
    /// wait: experience has it that few mistakes need more, and there are too many orders otherwise.
    pub(crate) fn model(f: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(3);
        builder.check(f);
    }

    /// Two threads write one word each and read the other's; whether both may find nothing.
    fn both_miss(order: fn() -> [Ordering; 2]) {
        model(move || {
            let words = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let miss = move |words: &[AtomicUsize; 2], mine: usize| {
                let [store, load] = order();
                words[mine].store(1, store);
                words[1 - mine].load(load) == 0
            };
            let other = loom::thread::spawn({
                let words = words.clone();
                move || miss(&words, 1)
            });
            let missed = miss(&words, 0);
            let other = other.join().unwrap();
            assert!(!(missed && other), "both missed");
        });
    }

    #[test]
    fn loom_knows_sequentially_consistent_accesses() {
        both_miss(|| [Ordering::SeqCst, Ordering::SeqCst]);
    }

    #[test]
    #[should_panic(expected = "both missed")]
    fn loom_finds_what_acquire_and_release_let_pass() {
        both_miss(|| [Ordering::Release, Ordering::Acquire]);
    }
}
