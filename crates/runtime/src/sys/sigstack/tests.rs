//! Tests of alternate signal stacks, each on a thread of its own.

use super::*;
use crate::sys::fork::{self, Outcome};
use std::thread;

fn current() -> (usize, usize, bool) {
    let stack = exchange(None).unwrap();
    (
        stack.ss_sp.addr(),
        stack.ss_size,
        stack.ss_flags & libc::SS_DISABLE == 0,
    )
}

fn on_a_new_thread(body: impl FnOnce() + Send + 'static) {
    thread::spawn(body).join().unwrap();
}

#[test]
fn a_new_thread_gets_a_stack_that_is_long_enough_and_keeps_it() {
    on_a_new_thread(|| {
        ensure().unwrap();
        let stack = current();
        assert!(stack.2 && stack.1 >= KEPT_LEN, "{stack:?}");
        ensure().unwrap();
        assert_eq!(current(), stack);
    });
}

#[test]
fn a_long_enough_stack_of_somebody_else_is_kept() {
    on_a_new_thread(|| {
        let foreign = Reservation::reserve(KEPT_LEN).unwrap();
        foreign.protect_read_write(0, KEPT_LEN).unwrap();
        let before = exchange(Some(&libc::stack_t {
            ss_sp: foreign.base().cast(),
            ss_flags: 0,
            ss_size: KEPT_LEN,
        }))
        .unwrap();
        ensure().unwrap();
        assert_eq!(current(), (foreign.addr(), KEPT_LEN, true));
        assert!(OWN.with(|own| own.borrow().is_none()));
        exchange(Some(&before)).unwrap();
    });
}

#[test]
fn a_removed_stack_is_disabled() {
    on_a_new_thread(|| {
        let stack = SignalStack::install().unwrap();
        assert_eq!(current(), (stack.start, OWN_LEN, true));
        drop(stack);
        assert!(!current().2);
    });
}

#[test]
fn a_stack_that_somebody_put_in_place_of_ours_stays() {
    on_a_new_thread(|| {
        let ours = SignalStack::install().unwrap();
        let theirs = SignalStack::install().unwrap();
        drop(ours);
        assert_eq!(current(), (theirs.start, OWN_LEN, true));
    });
}

#[test]
fn the_stack_of_a_thread_is_unmapped_when_it_ends() {
    let outcome = fork::run(|| {
        fork::set_default(libc::SIGSEGV);
        let thread = thread::spawn(|| {
            ensure().unwrap();
            current().0
        });
        let start = ptr::with_exposed_provenance::<u8>(thread.join().unwrap());
        // SAFETY: none; the child is to die of this.
        unsafe { start.read_volatile() };
        0
    });
    assert_eq!(outcome, Outcome::Killed(libc::SIGSEGV));
}

#[test]
fn a_thread_local_that_dies_late_gets_an_answer_and_no_panic() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            // An error when the stack's own thread-local is gone already, which depends on who came
            // first.
            let _ = ensure();
        }
    }
    thread_local! {
        static BEFORE: Late = const { Late };
        static AFTER: Late = const { Late };
    }
    on_a_new_thread(|| {
        BEFORE.with(|_| ());
        ensure().unwrap();
        AFTER.with(|_| ());
    });
}
