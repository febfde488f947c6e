//! Threads: instances travel, regions are shared, and a thread's end leaves nothing broken.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use selvedge::{Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};
use selvedge_tests::threads::WhenDone;

const COUNTER: &str = r#"(module
    (import "h" "add" (func $add (param i32 i32) (result i32)))
    (memory 1) (global $n (mut i32) (i32.const 0))
    (func (export "bump") (param i32) (result i32)
        (global.set $n (call $add (global.get $n) (local.get 0)))
        (i32.store (i32.const 100) (global.get $n))
        (i32.load (i32.const 100)))
    (func (export "trap") (result i32) (i32.load (i32.const 65536)))
    (func $deep (export "deep") (call $deep) (call $deep)))"#;

fn sandbox(slots: u32) -> Sandbox {
    let mut sandbox = Sandbox::with(slots, &Limits::default());
    sandbox
        .linker
        .func("h", "add", |_: &Vmctx<'_>, a: i32, b: i32| a + b)
        .unwrap();
    sandbox
}

#[test]
fn an_instance_runs_on_one_thread_after_the_other() {
    let sandbox = sandbox(1);
    let mut instance = sandbox.instance(COUNTER);
    for round in 1..=20 {
        instance = thread::spawn(move || {
            assert_eq!(returned_i32(instance.run("bump", &[Val::I32(1)])), round);
            assert_eq!(
                fault(instance.run("trap", &[])).code,
                TrapCode::HeapOutOfBounds
            );
            instance
        })
        .join()
        .unwrap();
    }
    assert_eq!(returned_i32(instance.run("bump", &[Val::I32(0)])), 20);
}

#[test]
fn an_instance_is_dropped_on_another_thread_than_it_was_made() {
    let sandbox = sandbox(2);
    let program = sandbox.program(COUNTER);
    let (sender, receiver) = mpsc::channel();
    let dropping = thread::spawn(move || {
        let mut count = 0;
        for instance in receiver {
            drop::<selvedge::InstanceHandle>(instance);
            count += 1;
        }
        count
    });
    let mut made = 0;
    while made < 500 {
        match sandbox.region.new_instance(&program) {
            Ok(mut instance) => {
                assert_eq!(returned_i32(instance.run("bump", &[Val::I32(3)])), 3);
                sender.send(instance).unwrap();
                made += 1;
            }
            Err(RuntimeError::RegionFull { .. }) => thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    }
    drop(sender);
    assert_eq!(dropping.join().unwrap(), 500);
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn threads_make_run_and_drop_thousands_of_instances_in_one_region() {
    const THREADS: u32 = 6;
    const ROUNDS: u32 = 800;
    let sandbox = Arc::new(sandbox(8));
    let program = sandbox.program(COUNTER);
    let other = sandbox.program(
        r#"(module (memory 3) (data (i32.const 65536) "\01")
            (func (export "run") (result i32)
                (i32.store8 (i32.const 70000) (i32.const 9))
                (i32.add (i32.load (i32.const 65536)) (i32.load8_u (i32.const 100)))))"#,
    );
    let full = AtomicU32::new(0);
    let done = AtomicU32::new(0);
    let begin = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (sandbox, program, other) = (&sandbox, &program, &other);
            let (begin, full, done) = (&begin, &full, &done);
            scope.spawn(move || {
                let mut random = Random::new(thread.into());
                begin.wait();
                for _ in 0..ROUNDS {
                    let which = random.below(4);
                    let chosen = if which == 0 { other } else { program };
                    let mut instance = match sandbox.region.new_instance(chosen) {
                        Ok(instance) => instance,
                        Err(RuntimeError::RegionFull { .. }) => {
                            full.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    match which {
                        0 => assert_eq!(returned_i32(instance.run("run", &[])), 1),
                        1 => {
                            let code = fault(instance.run("trap", &[])).code;
                            assert_eq!(code, TrapCode::HeapOutOfBounds);
                        }
                        _ => {
                            for n in 1..4 {
                                let given = [Val::I32(1)];
                                assert_eq!(returned_i32(instance.run("bump", &given)), n);
                            }
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    // With fewer threads than slots none is ever refused.
    assert_eq!(full.load(Ordering::Relaxed), 0);
    assert_eq!(done.load(Ordering::Relaxed), THREADS * ROUNDS);
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn threads_that_contend_for_too_few_slots_get_them_or_an_error() {
    let sandbox = sandbox(2);
    let program = sandbox.program(COUNTER);
    let inside = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut left = 100;
                while left > 0 {
                    match sandbox.region.new_instance(&program) {
                        Ok(mut instance) => {
                            assert!(inside.fetch_add(1, Ordering::AcqRel) < 2);
                            assert_eq!(returned_i32(instance.run("bump", &[Val::I32(7)])), 7);
                            inside.fetch_sub(1, Ordering::AcqRel);
                            left -= 1;
                        }
                        Err(RuntimeError::RegionFull { capacity: 2 }) => thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn hundreds_of_short_lived_threads_each_run_guests() {
    let sandbox = sandbox(4);
    let program = sandbox.program(COUNTER);
    for _ in 0..100 {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut instance = sandbox.region.new_instance(&program).unwrap();
                    assert_eq!(returned_i32(instance.run("bump", &[Val::I32(2)])), 2);
                    // Each new thread needs its own signal stack for this.
                    assert_eq!(
                        fault(instance.run("deep", &[])).code,
                        TrapCode::StackOverflow
                    );
                });
            }
        });
    }
    assert_eq!(sandbox.region.used_slots(), 0);
}

#[test]
fn a_guest_runs_in_the_destructor_of_a_thread_local() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<RunOnDrop>> = const { std::cell::RefCell::new(None) };
    }
    struct RunOnDrop(selvedge::InstanceHandle, mpsc::Sender<i32>);
    impl Drop for RunOnDrop {
        fn drop(&mut self) {
            let result = returned_i32(self.0.run("bump", &[Val::I32(11)]));
            self.1.send(result).unwrap();
        }
    }
    let sandbox = sandbox(2);
    let mut instance = sandbox.instance(COUNTER);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        returned(instance.run("bump", &[Val::I32(1)]));
        LAST.set(Some(RunOnDrop(instance, sender)));
    })
    .join()
    .unwrap();
    assert_eq!(receiver.recv().unwrap(), 12);
}

#[test]
fn modules_are_compiled_on_many_threads_at_once() {
    let sandbox = sandbox(16);
    thread::scope(|scope| {
        for thread in 0..8 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for round in 0..10 {
                    let n = thread * 100 + round;
                    let wat =
                        format!("(module (func (export \"f\") (result i32) (i32.const {n})))");
                    let mut instance = sandbox.instance(&wat);
                    assert_eq!(returned_i32(instance.run("f", &[])), n);
                }
            });
        }
    });
}

#[test]
fn guests_trap_on_many_threads_at_once() {
    let sandbox = sandbox(8);
    let program = sandbox.program(COUNTER);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                for round in 1..=200 {
                    let code = fault(instance.run("trap", &[])).code;
                    assert_eq!(code, TrapCode::HeapOutOfBounds);
                    assert_eq!(returned_i32(instance.run("bump", &[Val::I32(1)])), round);
                }
            });
        }
    });
}

#[test]
fn modules_come_and_go_while_guests_trap() {
    // The handler looks for the trapping module in a list that others change meanwhile.
    let sandbox = sandbox(8);
    let program = sandbox.program(COUNTER);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = WhenDone(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..100 {
                        let code = fault(instance.run("trap", &[])).code;
                        assert_eq!(code, TrapCode::HeapOutOfBounds);
                    }
                }
            });
        }
        let mut kept = Vec::new();
        for round in 0..400 {
            let wat =
                format!("(module (func (export \"f\") (drop (i32.const {round})) unreachable))");
            let mut instance = sandbox.instance(&wat);
            assert_eq!(fault(instance.run("f", &[])).code, TrapCode::Unreachable);
            // Some stay for a while, so that places in the list are freed in no order.
            if round % 3 == 0 {
                kept.push(instance.module().clone());
            }
            if kept.len() > 20 {
                kept.swap_remove(round % 20);
            }
        }
    });
}
