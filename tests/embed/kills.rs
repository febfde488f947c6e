//! Kill switches in every moment of an instance's life that a test can hold still. Moments that it can't, between
//! two instructions of the runtime, are those of the model checks in `crates/runtime/src/stop`.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use selvedge::{
    Flow, HostError, InstanceHandle, KillError, KillSuccess, KillSwitch, RunResult, RuntimeError,
    SharedMemory, TerminationDetails, TrapCode, Val, Vmctx, Yield,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "tell" (func $tell (param i32)))
    (import "h" "wait" (func $wait))
    (import "h" "middle" (func $middle))
    (memory 1) (global $n (mut i32) (i32.const 0))
    (func (export "for_ever") (call $tell (i32.const 0)) (loop $l (br $l)))
    (func (export "tell") (param i32) (result i32)
        (call $tell (local.get 0)) (global.set $n (i32.const 1)) (i32.const 5))
    (func (export "wait") (result i32) (call $wait) (global.set $n (i32.const 1)) (i32.const 6))
    (func (export "middle") (result i32) (call $middle) (global.set $n (i32.const 1)) (i32.const 7))
    (func (export "trap") (i32.store (i32.const 65536) (i32.const 0)))
    (func (export "one") (result i32) (i32.const 1))
    (func (export "n") (result i32) (global.get $n)))"#;

/// What another thread and a host function say to each other.
struct Line {
    /// The host function has been reached.
    reached: SyncSender<()>,
    /// The host function may go on.
    go_on: Receiver<()>,
}

/// The other thread's end.
struct Other {
    reached: Mutex<Receiver<()>>,
    go_on: SyncSender<()>,
}

/// How a host function ends that was killed while it ran.
const RETURNS: i32 = 1;
const TERMINATES: i32 = 2;
const PANICS: i32 = 3;
const TRAPS: i32 = 4;
const CALLS_BACK: i32 = 5;

fn world() -> (Sandbox, InstanceHandle, Other) {
    let (reached, was_reached) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel(1);
    let line = Mutex::new(Line {
        reached,
        go_on: may_go_on,
    });
    let mut sandbox = Sandbox::with(1, &selvedge::Limits::default());
    sandbox
        .linker
        .func(
            "h",
            "tell",
            move |vmctx: &Vmctx<'_>, how: i32| -> Result<(), HostError> {
                let line = line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                line.reached.send(()).unwrap();
                if how == 0 {
                    return Ok(());
                }
                line.go_on.recv().unwrap();
                match how {
                    TERMINATES => vmctx.terminate("its own end"),
                    PANICS => panic!("its own panic"),
                    TRAPS => Err(TrapCode::Unreachable.into()),
                    CALLS_BACK => {
                        // The guest is ended already: it does not run for a host function either.
                        assert!(vmctx.call_export("one", &[]).is_err());
                        Ok(())
                    }
                    _ => Ok(()),
                }
            },
        )
        .unwrap()
        .func("h", "wait", |_: &Vmctx<'_>| {
            Flow::from(Yield::returning(()))
        })
        .unwrap()
        .suspending_func("h", "middle", |vmctx: &Vmctx<'_>| vmctx.yield_())
        .unwrap();
    let instance = sandbox.instance(GUEST);
    let other = Other {
        reached: Mutex::new(was_reached),
        go_on,
    };
    (sandbox, instance, other)
}

fn is_remote(result: &Result<RunResult, RuntimeError>) -> bool {
    matches!(
        result,
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
    )
}

/// The instance was ended, nothing behind the end has run, and a reset makes it new.
fn assert_recovers(instance: &mut InstanceHandle) {
    assert!(instance.is_terminated());
    assert!(matches!(
        instance.run("one", &[]),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(0));
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("one", &[])), 1);
    assert_eq!(returned_i32(instance.run("n", &[])), 0);
}

#[test]
fn a_kill_in_the_guest_is_signalled_and_later_switches_are_for_later_runs() {
    let (_sandbox, mut instance, other) = world();
    for _ in 0..20 {
        let (switch, old) = (instance.kill_switch(), instance.kill_switch());
        let result = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                other.reached.lock().unwrap().recv().unwrap();
                switch.terminate()
            });
            let result = instance.run("for_ever", &[]);
            // Which of the two it is depends on whether the host function has returned by then.
            let killed = killer.join().unwrap();
            assert!(matches!(
                killed,
                Ok(KillSuccess::Signalled | KillSuccess::Pending)
            ));
            result
        });
        assert!(is_remote(&result), "{result:?}");
        assert_eq!(old.terminate(), Err(KillError::Invalid));
        assert_recovers(&mut instance);
        let fresh = instance.kill_switch();
        assert_eq!(fresh.terminate(), Ok(KillSuccess::Cancelled));
        assert!(is_remote(&instance.run("one", &[])));
        instance.reset().unwrap();
    }
}

/// Runs `tell`, kills it while the host function waits; what the kill and the run gave.
fn killed_in_a_host_function(
    instance: &mut InstanceHandle,
    other: &Other,
    how: i32,
) -> (
    Result<KillSuccess, KillError>,
    Result<RunResult, RuntimeError>,
) {
    let switch = instance.kill_switch();
    let second = switch.clone();
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            other.reached.lock().unwrap().recv().unwrap();
            let first = switch.terminate();
            assert_eq!(second.terminate(), Err(KillError::NotTerminable));
            other.go_on.send(()).unwrap();
            first
        });
        let result = instance.run("tell", &[Val::I32(how)]);
        (killer.join().unwrap(), result)
    })
}

#[test]
fn a_kill_in_a_host_function_ends_the_guest_when_it_returns() {
    let (_sandbox, mut instance, other) = world();
    for how in [RETURNS, CALLS_BACK] {
        for _ in 0..5 {
            let (killed, result) = killed_in_a_host_function(&mut instance, &other, how);
            assert_eq!(killed, Ok(KillSuccess::Pending));
            assert!(is_remote(&result), "{how}: {result:?}");
            assert_recovers(&mut instance);
        }
    }
}

#[test]
fn a_host_function_that_was_killed_and_ends_its_guest_itself_has_its_own_way() {
    let (_sandbox, mut instance, other) = world();
    instance.set_catch_panics(true);
    for _ in 0..3 {
        let (killed, result) = killed_in_a_host_function(&mut instance, &other, TERMINATES);
        assert_eq!(killed, Ok(KillSuccess::Pending));
        match result {
            Err(RuntimeError::RuntimeTerminated(details)) => {
                let text = details.provided_details().unwrap().downcast_ref::<&str>();
                assert_eq!(text, Some(&"its own end"));
            }
            other => panic!("{other:?}"),
        }
        assert_recovers(&mut instance);
        let (killed, result) = killed_in_a_host_function(&mut instance, &other, PANICS);
        assert_eq!(killed, Ok(KillSuccess::Pending));
        assert!(matches!(
            result,
            Err(RuntimeError::RuntimeTerminated(
                TerminationDetails::OtherPanic(_)
            ))
        ));
        assert_recovers(&mut instance);
        let (killed, result) = killed_in_a_host_function(&mut instance, &other, TRAPS);
        assert_eq!(killed, Ok(KillSuccess::Pending));
        assert_eq!(fault(result).code, TrapCode::Unreachable);
        // The kill went with its run.
        assert_eq!(returned_i32(instance.run("one", &[])), 1);
    }
}

#[test]
fn a_kill_before_the_run_ends_it_before_its_first_instruction() {
    let (_sandbox, mut instance, _other) = world();
    for _ in 0..5 {
        let (switch, second) = (instance.kill_switch(), instance.kill_switch());
        assert_eq!(switch.terminate(), Ok(KillSuccess::Cancelled));
        assert_eq!(second.terminate(), Err(KillError::NotTerminable));
        // Nobody hears of a host function that is called.
        let result = instance.run("tell", &[Val::I32(RETURNS)]);
        assert!(is_remote(&result), "{result:?}");
        assert_eq!(second.terminate(), Err(KillError::Invalid));
        assert_recovers(&mut instance);
    }
}

#[test]
fn a_kill_after_a_return_a_fault_a_reset_or_the_drop_does_nothing() {
    let (sandbox, mut instance, _other) = world();
    let switch = instance.kill_switch();
    assert_eq!(returned_i32(instance.run("one", &[])), 1);
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(returned_i32(instance.run("one", &[])), 1);
    instance.reset().unwrap();

    let switch = instance.kill_switch();
    assert_eq!(
        fault(instance.run("trap", &[])).code,
        TrapCode::HeapOutOfBounds
    );
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(returned_i32(instance.run("one", &[])), 1);

    let switch = instance.kill_switch();
    instance.reset().unwrap();
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(returned_i32(instance.run("one", &[])), 1);

    // One that has been used and is forgotten by a reset.
    let switch = instance.kill_switch();
    assert_eq!(switch.terminate(), Ok(KillSuccess::Cancelled));
    instance.reset().unwrap();
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(returned_i32(instance.run("one", &[])), 1);

    let switch = instance.kill_switch();
    drop(instance);
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    // The next instance of the slot is not the one that was meant.
    let mut next = sandbox.instance(GUEST);
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    assert_eq!(returned_i32(next.run("one", &[])), 1);
}

#[test]
fn a_kill_while_suspended_waits_for_the_guest_to_go_on() {
    let (_sandbox, mut instance, _other) = world();
    for name in ["wait", "middle"] {
        for _ in 0..5 {
            let before = instance.kill_switch();
            assert!(instance.run(name, &[]).unwrap().is_yielded());
            let switch = instance.kill_switch();
            assert_eq!(switch.terminate(), Ok(KillSuccess::Pending), "{name}");
            assert_eq!(before.terminate(), Err(KillError::NotTerminable));
            assert!(instance.is_yielded());
            let result = instance.resume();
            assert!(is_remote(&result), "{name}: {result:?}");
            assert_eq!(switch.terminate(), Err(KillError::Invalid));
            assert_recovers(&mut instance);

            // Given up instead, the kill is forgotten.
            assert!(instance.run(name, &[]).unwrap().is_yielded());
            assert_eq!(instance.kill_switch().terminate(), Ok(KillSuccess::Pending));
            instance.reset().unwrap();
            assert!(instance.is_ready());
            assert_eq!(returned_i32(instance.run("one", &[])), 1);
            instance.reset().unwrap();
        }
    }
}

#[test]
fn switches_go_to_any_thread_and_outlive_everything() {
    const fn sent_and_shared<T: Send + Sync + Clone + 'static>() {}
    const { sent_and_shared::<KillSwitch>() };
    let (sandbox, mut instance, _other) = world();
    let switches: Vec<KillSwitch> = (0..8).map(|_| instance.kill_switch()).collect();
    let switches = Arc::new(switches);
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let switches = switches.clone();
            thread::spawn(move || switches[i].terminate().is_ok())
        })
        .collect();
    let won = threads
        .into_iter()
        .filter(|_| true)
        .map(|t| t.join().unwrap());
    assert_eq!(won.filter(|won| *won).count(), 1, "one of them was first");
    assert!(is_remote(&instance.run("one", &[])));
    drop((instance, sandbox));
    assert!(
        switches
            .iter()
            .all(|s| s.terminate() == Err(KillError::Invalid))
    );
}

#[test]
fn a_start_function_is_cancelled_like_any_run() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (global $g (mut i32) (i32.const 0))
            (func $start (global.set $g (i32.const 1))) (start $start)
            (func (export "get") (result i32) (global.get $g)))"#,
    );
    assert_eq!(
        instance.kill_switch().terminate(),
        Ok(KillSuccess::Cancelled)
    );
    assert!(matches!(
        instance.run_start(),
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
    ));
    assert!(instance.is_terminated());
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(0));
    instance.reset().unwrap();
    assert!(instance.is_not_started());
    instance.run_start().unwrap();
    assert_eq!(returned_i32(instance.run("get", &[])), 1);
}

#[test]
fn a_kill_in_guest_code_is_signalled() {
    let mut sandbox = Sandbox::new();
    let memory = SharedMemory::new(&sandbox.engine, 1, 1).unwrap();
    sandbox.linker.shared_memory("h", "m", &memory).unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "m" (memory 1 1 shared))
            (func (export "loop") (i32.atomic.store (i32.const 8) (i32.const 1)) (loop $l (br $l))))"#,
    );
    for _ in 0..20 {
        let switch = instance.kill_switch();
        let result = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                // Once the guest has stored it is in its loop, or right before it.
                while memory.load_u32(8).unwrap() == 0 {
                    thread::yield_now();
                }
                switch.terminate()
            });
            let result = instance.run("loop", &[]);
            assert_eq!(killer.join().unwrap(), Ok(KillSuccess::Signalled));
            result
        });
        assert!(is_remote(&result), "{result:?}");
        memory.store_u32(8, 0).unwrap();
        instance.reset().unwrap();
    }
}

#[test]
fn a_kill_that_races_with_a_run_says_what_becomes_of_it() {
    let (_sandbox, mut instance, _other) = world();
    let mut ended = [0u32; 2];
    for round in 0..4_000 {
        let (name, traps) = [("one", false), ("trap", true)][round % 2];
        let switch = instance.kill_switch();
        let start = std::sync::Barrier::new(2);
        let (killed, result) = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                start.wait();
                switch.terminate()
            });
            start.wait();
            let result = instance.run(name, &[]);
            (killer.join().unwrap(), result)
        });
        let remote = is_remote(&result);
        ended[usize::from(remote)] += 1;
        match killed {
            // It was first, or never: then the run is what that says.
            Ok(KillSuccess::Cancelled) => assert!(remote, "{name}: {result:?}"),
            Err(_) => assert!(!remote, "{name}: {killed:?}"),
            // A trap that was under way goes before the kill.
            Ok(_) => assert!(remote || traps, "{name}: {killed:?} {result:?}"),
        }
        match result {
            Ok(result) => assert_eq!(i32::from(result.unwrap_returned()), 1),
            Err(_) if remote => {}
            other => assert_eq!(fault(other).code, TrapCode::HeapOutOfBounds),
        }
        // Whatever it was, it went with its run.
        assert_eq!(switch.terminate(), Err(KillError::Invalid));
        instance.reset().unwrap();
        assert_eq!(returned_i32(instance.run("one", &[])), 1);
    }
    assert!(ended[0] + ended[1] == 4_000);
}

#[test]
fn a_kill_of_a_guest_that_was_suspended_from_outside_ends_it_where_it_stands() {
    let (_sandbox, mut instance, other) = world();
    let slice = std::time::Duration::from_millis(1);
    for _ in 0..5 {
        assert!(
            instance
                .run_for(slice, "for_ever", &[])
                .unwrap()
                .is_preempted()
        );
        other.reached.lock().unwrap().recv().unwrap();
        let switch = instance.kill_switch();
        assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
        assert_eq!(
            instance.kill_switch().terminate(),
            Err(KillError::NotTerminable)
        );
        assert!(instance.is_preempted());
        let result = instance.resume();
        assert!(is_remote(&result), "{result:?}");
        assert_eq!(switch.terminate(), Err(KillError::Invalid));
        assert_recovers(&mut instance);
        instance.reset().unwrap();
    }
}

#[test]
fn a_host_function_that_the_host_calls_is_a_run_too() {
    let (reached, was_reached) = sync_channel(1);
    let (go_on, may_go_on) = sync_channel(1);
    let may_go_on = Mutex::new(may_go_on);
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "f",
            move |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
                // Calls before the kill and behind it are parts of one run.
                vmctx.call_export("one", &[])?;
                reached.send(()).unwrap();
                may_go_on.lock().unwrap().recv().unwrap();
                let killed = vmctx.call_export("one", &[]);
                assert_eq!(killed.is_err(), n == 1, "{killed:?}");
                Ok(n)
            },
        )
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32) (result i32))) (export "f" (func $f))
            (global i32 (i32.const 0)) (func (export "one") (result i32) (i32.const 1)))"#,
    );
    let was_reached = Mutex::new(was_reached);
    for kills in [0, 1, 0, 1] {
        let switch = instance.kill_switch();
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                was_reached.lock().unwrap().recv().unwrap();
                if kills == 1 {
                    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
                }
                go_on.send(()).unwrap();
            });
            instance.run("f", &[Val::I32(kills)])
        });
        if kills == 1 {
            assert!(is_remote(&result), "{result:?}");
            assert_recovers_without_state(&mut instance);
        } else {
            assert_eq!(returned_i32(result), 0);
        }
        assert_eq!(switch.terminate(), Err(KillError::Invalid));
        // Before it begins, it is not called at all: nobody is there to let it go on.
        assert_eq!(
            instance.kill_switch().terminate(),
            Ok(KillSuccess::Cancelled)
        );
        assert!(is_remote(&instance.run("f", &[Val::I32(0)])));
        assert_recovers_without_state(&mut instance);
    }
}

fn assert_recovers_without_state(instance: &mut InstanceHandle) {
    assert!(instance.is_terminated() && instance.run("one", &[]).is_err());
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("one", &[])), 1);
}
