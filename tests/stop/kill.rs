//! Ending guests from outside.

use std::thread;

use selvedge::{KillError, KillSuccess, RuntimeError, TerminationDetails};

use crate::guests;

#[test]
fn a_loop_without_end_is_ended_from_another_thread() {
    let mut instance = guests::instance();
    for name in ["for_ever", "for_ever_calling"] {
        for _ in 0..1_000 {
            let switch = instance.kill_switch();
            let other = thread::spawn(move || switch.terminate());
            let error = instance.run(name, &[]).unwrap_err();
            assert!(
                matches!(
                    error,
                    RuntimeError::RuntimeTerminated(TerminationDetails::Remote)
                ),
                "{error}"
            );
            assert!(instance.is_terminated());
            assert!(other.join().unwrap().is_ok());
            instance.reset().unwrap();
        }
    }
}

#[test]
fn a_switch_is_for_one_run() {
    let mut instance = guests::instance();
    let switch = instance.kill_switch();
    assert_eq!(switch.terminate(), Ok(KillSuccess::Cancelled));
    assert_eq!(switch.clone().terminate(), Err(KillError::NotTerminable));
    assert!(instance.run("for_ever", &[]).is_err());
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
}
