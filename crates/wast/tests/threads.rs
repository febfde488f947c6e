//! Scripts with threads: they share memories, wait for each other, and what fails in them is counted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use selvedge::Settings;
use selvedge_wast::run;

const PRELUDE: &str = "(module $Mem (memory (export \"shared\") 1 2 shared))";

#[test]
fn a_thread_wakes_another_through_a_shared_memory() {
    let script = format!(
        "{PRELUDE}
        (thread $waiter (shared (module $Mem))
            (register \"mem\" $Mem)
            (module (memory (import \"mem\" \"shared\") 1 2 shared)
                (func (export \"wait\") (result i32)
                    (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))
            ;; Woken, or too late to wait: which of them depends on who comes first.
            (assert_return (invoke \"wait\") (either (i32.const 0) (i32.const 1))))
        (thread $waker (shared (module $Mem))
            (register \"mem\" $Mem)
            (module (memory (import \"mem\" \"shared\") 1 2 shared)
                (func (export \"wake\")
                    (i32.atomic.store (i32.const 0) (i32.const 7))
                    (drop (memory.atomic.notify (i32.const 0) (i32.const 1)))))
            (invoke \"wake\"))
        (wait $waiter)
        (wait $waker)
        (register \"mem\" $Mem)
        (module (memory (import \"mem\" \"shared\") 1 2 shared)
            (func (export \"load\") (result i32) (i32.atomic.load (i32.const 0))))
        (assert_return (invoke \"load\") (i32.const 7))"
    );
    for _ in 0..20 {
        let outcome = run(&script, &Settings::default()).unwrap();
        assert_eq!((outcome.failures, outcome.passed), (Vec::new(), 14));
    }
}

#[test]
fn what_fails_in_a_thread_is_counted_with_its_place() {
    let script = format!(
        "{PRELUDE}
(thread $t (shared (module $Mem))
  (assert_return (invoke \"nothing\")))
(thread $left (module (func unreachable)))
(wait $t)
(wait $t)"
    );
    let outcome = run(&script, &Settings::default()).unwrap();
    let lines: Vec<usize> = outcome
        .failures
        .iter()
        .map(|failure| failure.line)
        .collect();
    assert_eq!(
        (lines, outcome.passed),
        (vec![3, 6], 5),
        "{:?}",
        outcome.failures
    );
}
