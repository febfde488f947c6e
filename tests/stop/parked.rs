//! Guests that end or are suspended in long operations, under a storm of requests, and what is left of those that
//! are dropped while they are suspended.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use selvedge::{
    HostError, InstanceHandle, KillError, KillSuccess, PreemptSwitch, RuntimeError,
    TerminationDetails, Val, Vmctx,
};
use selvedge_tests::children;
use selvedge_tests::held::Held;
use selvedge_tests::sandbox::{Sandbox, returned};
use selvedge_tests::threads::WhenDone;

use crate::guests;

/// A guest that tells the host how far it is, and then does the same for ever.
fn long(body: &str) -> String {
    format!(
        r#"(module
            (import "h" "begins" (func $begins))
            (memory 1024)
            (global $g (mut i64) (i64.const 1))
            (func $deep (param $n i32)
                (if (local.get $n) (then
                    (call $deep (i32.sub (local.get $n) (i32.const 1)))
                    (call $deep (i32.const 0)))))
            (func (export "run") (call $begins) {body}))"#
    )
}

/// Ends a guest again and again, each time somewhere in its endless doing.
fn end_while_it_does(body: &str) {
    let mut sandbox = Sandbox::with(1, &selvedge::Limits::default());
    let (begins, mut begun) = mpsc::channel();
    let tell = move |_: &Vmctx<'_>| begins.send(()).expect("it is in order");
    sandbox
        .linker
        .func("h", "begins", tell)
        .expect("it is in order");
    let mut instance = sandbox.instance(&long(body));
    for round in 0..100_u32 {
        let switch = instance.kill_switch();
        let begun = &mut begun;
        let said = thread::scope(|scope| {
            let said = scope.spawn(move || {
                begun.recv().expect("it is in order");
                for _ in 0..round * 997 {
                    std::hint::spin_loop();
                }
                switch.terminate()
            });
            let error = instance.run("run", &[]).expect_err("it is ended");
            let remote = RuntimeError::RuntimeTerminated(TerminationDetails::Remote);
            assert_eq!(error.to_string(), remote.to_string());
            said.join().expect("it is in order")
        });
        // In the host function still, or in a bulk operation of the host's; or in the guest.
        assert!(
            matches!(said, Ok(KillSuccess::Pending | KillSuccess::Signalled)),
            "{said:?}"
        );
        instance.reset().expect("it is in order");
    }
}

#[test]
fn x_17_a_tight_loop_ends() {
    end_while_it_does("(loop $l (br $l))");
}

#[test]
fn x_17_a_straight_function_without_end_in_sight_ends() {
    let step = "(global.set $g (i64.rotl (i64.add (global.get $g) (i64.const 3)) (i64.const 5)))";
    end_while_it_does(&format!("(loop $l {} (br $l))", step.repeat(5_000)));
}

#[test]
fn x_17_filling_and_copying_much_memory_ends() {
    // 64 MiB at a time.
    end_while_it_does(
        "(loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000))
            (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3ffffff))
            (br $l))",
    );
}

#[test]
fn x_17_growing_memory_again_and_again_ends() {
    // Up to the limit, and then in vain.
    end_while_it_does("(loop $l (drop (memory.grow (i32.const 1))) (br $l))");
}

#[test]
fn x_17_deep_recursion_ends() {
    end_while_it_does("(loop $l (call $deep (i32.const 3000)) (br $l))");
}

/// A guest with a host function that has it suspended: that is where it stands when the host function returns.
fn suspended_by_itself() -> (Sandbox, selvedge::Program) {
    let mut sandbox = Sandbox::with(1, &selvedge::Limits::default());
    let suspend = |vmctx: &Vmctx<'_>| -> Result<(), HostError> {
        assert!(vmctx.get_embed_ctx::<PreemptSwitch>()?.preempt());
        Ok(())
    };
    sandbox
        .linker
        .func("h", "suspend", suspend)
        .expect("it is in order");
    let program = sandbox.program(
        r#"(module
            (import "h" "suspend" (func $suspend))
            (memory (export "heap") 2 4)
            (table (export "table") 3 funcref)
            (global $g (export "g") (mut i64) (i64.const 1))
            (func (export "run") (param $x i64) (result i64)
                (i64.store (i32.const 100) (local.get $x))
                (global.set $g (i64.const 77))
                (call $suspend)
                (i64.add (i64.load (i32.const 100)) (global.get $g))))"#,
    );
    (sandbox, program)
}

fn suspended(sandbox: &Sandbox, program: &selvedge::Program) -> InstanceHandle {
    let mut instance = sandbox
        .region
        .new_instance(program)
        .expect("it is in order");
    let switch = instance.preempt_switch().expect("it is in order");
    instance.insert_embed_ctx(switch);
    let result = instance.run("run", &[Val::I64(5)]).expect("it is in order");
    assert!(result.is_preempted() && instance.is_preempted());
    instance
}

#[test]
fn x_25_a_suspended_guest_is_read_and_not_changed() {
    let (sandbox, program) = suspended_by_itself();
    let mut instance = suspended(&sandbox, &program);
    assert_eq!(instance.heap().unwrap()[100], 5);
    assert_eq!(instance.heap().unwrap().len(), 131_072);
    assert!(matches!(instance.global("g"), Ok(Val::I64(77))));
    assert_eq!(instance.table_len("table").unwrap(), 3);
    assert_eq!(instance.backtrace().frames.len(), 1);

    let none = Val::FuncRef(None);
    let refused = [
        instance.heap_mut().map(drop),
        instance.memory_mut("heap").map(drop),
        instance.grow_memory(1).map(drop),
        instance.set_global("g", &Val::I64(0)),
        instance.globals_mut().set(0, &Val::I64(0)),
        instance.table_set("table", 0, &none),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(RuntimeError::InstancePreempted)),
            "{refused:?}"
        );
    }
    assert!(instance.run("run", &[Val::I64(1)]).is_err());
    assert!(instance.resume_with_val(1_i32).is_err());
    assert!(!instance.preempt_switch().unwrap().preempt());

    assert!(instance.is_preempted());
    assert!(matches!(returned(instance.resume())[..], [Val::I64(82)]));
}

#[test]
fn x_25_suspended_guests_that_are_dropped_leave_nothing() {
    children::check_ends("parked::child", "drops", 0);
}

/// Not a test of its own: the body of the child. Without a case it does nothing.
#[test]
fn child() {
    if children::case().is_none() {
        return;
    }
    let (sandbox, program) = suspended_by_itself();
    let drops = |rounds: usize| {
        for round in 0..rounds {
            let mut instance = suspended(&sandbox, &program);
            assert_eq!(sandbox.region.used_slots(), 1);
            let switch = instance.kill_switch();
            match round % 3 {
                0 => drop(instance),
                1 => {
                    instance.reset().unwrap();
                    assert!(instance.is_ready());
                    assert_eq!(instance.heap().unwrap()[100], 0);
                    drop(instance);
                }
                _ => thread::spawn(move || drop(instance)).join().unwrap(),
            }
            assert_eq!(switch.terminate(), Err(KillError::Invalid));
            assert_eq!(sandbox.region.used_slots(), 0);
        }
    };
    drops(1_000);
    let early = Held::now();
    drops(9_000);
    early.check_flat();
}

#[test]
fn x_24_a_guest_whose_thread_has_ended_is_suspended_and_ended_all_the_same() {
    let (sandbox, program) = suspended_by_itself();
    let mut instance = thread::scope(|scope| {
        let thread = scope.spawn(|| suspended(&sandbox, &program));
        thread.join().unwrap()
    });
    assert!(!instance.preempt_switch().unwrap().preempt());
    let switch = instance.kill_switch();
    assert_eq!(switch.terminate(), Ok(KillSuccess::Pending));
    let error = instance.resume().unwrap_err();
    assert!(matches!(
        error,
        RuntimeError::RuntimeTerminated(TerminationDetails::Remote)
    ));
    assert_eq!(switch.terminate(), Err(KillError::Invalid));
    instance.reset().unwrap();
    let result = instance.run("run", &[Val::I64(5)]).unwrap();
    assert!(result.is_preempted());
}

#[test]
fn x_26_a_storm_of_requests_leaves_room_for_progress() {
    const ROUNDS: i64 = 20_000;
    let mut instance = guests::instance();
    let run = |instance: &mut InstanceHandle, kind: &str| {
        let mut suspended = 0;
        let mut result = instance.run(kind, &[Val::I64(ROUNDS)]);
        while result.as_ref().is_ok_and(selvedge::RunResult::is_preempted) {
            suspended += 1;
            result = instance.resume();
        }
        match returned(result)[..] {
            [Val::I64(sum)] => (sum, suspended),
            ref other => panic!("{other:?}"),
        }
    };
    let expected = guests::KINDS.map(|kind| run(&mut instance, kind).0);
    let switch = instance.preempt_switch().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                switch.preempt();
            }
        });
        let _done = WhenDone(&done);
        let mut total = 0;
        while total < 1_000 {
            for (kind, expected) in guests::KINDS.into_iter().zip(expected) {
                let (sum, suspended) = run(&mut instance, kind);
                assert_eq!(sum, expected, "{kind}");
                total += suspended;
            }
        }
    });
}
