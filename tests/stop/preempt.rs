//! Suspending guests from outside.

use std::thread;
use std::time::Duration;

use selvedge::{RuntimeError, Val};

use crate::guests;

#[test]
fn a_loop_without_end_is_suspended_and_can_be_looked_at() {
    let mut instance = guests::instance();
    let slice = Duration::from_millis(1);
    let result = instance.run_for(slice, "for_ever", &[]).unwrap();
    assert!(result.is_preempted() && instance.is_preempted());
    for _ in 0..10 {
        assert!(instance.resume_for(slice).unwrap().is_preempted());
        assert_eq!(instance.heap().unwrap().len(), 65536);
        assert!(matches!(
            instance.heap_mut(),
            Err(RuntimeError::InstancePreempted)
        ));
        let backtrace = instance.backtrace();
        assert_eq!(backtrace.frames.len(), 1, "{backtrace:?}");
    }
    let moved = thread::spawn(move || {
        assert!(instance.resume_for(slice).unwrap().is_preempted());
        instance
    });
    let mut instance = moved.join().unwrap();
    instance.reset().unwrap();
    assert!(instance.is_ready());
    assert!(
        instance
            .run("integers", &[Val::I64(10)])
            .unwrap()
            .is_returned()
    );
}
