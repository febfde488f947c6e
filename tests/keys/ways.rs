//! Every way back into a guest, each behind every way out of it: afterwards the guest still reaches its own pages,
//! and none of its neighbour's.

use std::thread;
use std::time::Duration;

use selvedge::{
    Engine, FuelCosts, InstanceHandle, KillSuccess, Linker, Member, RunResult, RuntimeError,
    Settings, TerminationDetails, TrapCode, Val, WhenFull,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

use crate::guests::{self, OWN, WAYS, base, check_refused, check_way};

/// Two neighbours, and how far the second is away from the first.
fn pair(sandbox: &Sandbox) -> (InstanceHandle, InstanceHandle, i32) {
    let mut street = guests::street(sandbox, 2);
    let distance = (base(&street[1]) - base(&street[0])) as i32;
    let second = street.pop().unwrap();
    (street.pop().unwrap(), second, distance)
}

#[test]
fn after_every_way_in_a_guest_has_its_own_pages_alone() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut guest, mut other, distance) = pair(&sandbox);
    for _ in 0..3 {
        for way in WAYS {
            check_way(way, distance, |way, at| {
                guest.reset().unwrap();
                guest.run(way, &[Val::I32(at)])
            });
            // And so has the other.
            assert_eq!(returned_i32(other.run(way, &[Val::I32(0)])), OWN);
        }
    }
}

#[test]
fn a_guest_that_counts_fuel_is_kept_apart_like_others() {
    let engine = Engine::new(&Settings::default().with_fuel(FuelCosts::default())).unwrap();
    let Some(region) = guests::region(&engine, 2, |_| ()) else {
        return;
    };
    let mut linker = Linker::new(&engine);
    guests::add_functions(&mut linker, || ());
    let sandbox = Sandbox {
        engine,
        linker,
        region,
    };
    let (mut guest, _other, distance) = pair(&sandbox);
    for way in WAYS {
        check_way(way, distance, |way, at| {
            guest.reset().unwrap();
            guest.set_fuel(1_000_000).unwrap();
            let result = guest.run(way, &[Val::I32(at)]);
            assert!(guest.fuel().unwrap() < 1_000_000);
            result
        });
    }
    // Without fuel it is suspended, and goes on.
    guest.reset().unwrap();
    guest.set_suspend_on_out_of_fuel(true).unwrap();
    for (at, refused) in [(0, false), (distance, true)] {
        guest.set_fuel(1_000).unwrap();
        assert!(
            guest
                .run("spins", &[Val::I32(at)])
                .unwrap()
                .is_out_of_fuel()
        );
        guest.add_fuel(1 << 40).unwrap();
        let result = guest.resume();
        if refused {
            check_refused(result);
        } else {
            assert_eq!(returned_i32(result), OWN);
        }
    }
}

/// Lets a suspended guest go on, on another thread.
fn resume_elsewhere(
    mut guest: InstanceHandle,
) -> (InstanceHandle, Result<RunResult, RuntimeError>) {
    let other = thread::spawn(move || {
        let result = guest.resume();
        (guest, result)
    });
    other.join().unwrap()
}

#[test]
fn a_guest_that_was_suspended_has_its_own_pages_alone_on_whatever_thread() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut guest, _other, distance) = pair(&sandbox);
    for way in ["yields", "waits"] {
        check_way(way, distance, |way, at| {
            guest.reset().unwrap();
            assert!(guest.run(way, &[Val::I32(at)]).unwrap().is_yielded());
            guest.resume()
        });
    }
    for at in [0, distance] {
        guest.reset().unwrap();
        assert!(guest.run("yields", &[Val::I32(at)]).unwrap().is_yielded());
        let (back, result) = resume_elsewhere(guest);
        guest = back;
        match at {
            0 => assert_eq!(returned_i32(result), OWN),
            _ => check_refused(result),
        }
    }
}

#[test]
fn a_guest_that_was_preempted_has_its_own_pages_alone_on_whatever_thread() {
    if Engine::preemption().is_err() {
        eprintln!("nothing was tested: guests can't be suspended from outside here");
        return;
    }
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut guest, mut other, distance) = pair(&sandbox);
    for at in [0, distance] {
        guest.reset().unwrap();
        let mut result = guest.run_for(Duration::from_micros(200), "spins", &[Val::I32(at)]);
        let mut slices = 0;
        while matches!(&result, Ok(result) if result.is_preempted()) {
            slices += 1;
            // Another guest, of another key, runs in between.
            assert_eq!(returned_i32(other.run("seen", &[Val::I32(0)])), OWN);
            assert_eq!(guest.heap().unwrap()[..4], OWN.to_le_bytes());
            if slices % 4 == 1 {
                (guest, result) = {
                    let slice = Duration::from_micros(200);
                    let moved = thread::spawn(move || {
                        let result = guest.resume_for(slice);
                        (guest, result)
                    });
                    moved.join().unwrap()
                };
            } else if slices > 40 {
                result = guest.resume();
            } else {
                result = guest.resume_for(Duration::from_micros(200));
            }
        }
        match at {
            0 => assert_eq!(returned_i32(result), OWN),
            _ => check_refused(result),
        }
    }
}

#[test]
fn guests_that_are_ended_leave_the_next_run_as_it_should_be() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut guest, _other, distance) = pair(&sandbox);
    guest.set_catch_panics(true);
    let zero = [Val::I32(0)];
    for _ in 0..5 {
        for ending in ["fails", "panics", "throws", "traps", "deep", "kill"] {
            match ending {
                "kill" => {
                    let switch = guest.kill_switch();
                    let killer = thread::spawn(move || switch.terminate());
                    let error = guest.run("for_ever", &zero).unwrap_err();
                    let killed = matches!(
                        error,
                        RuntimeError::RuntimeTerminated(TerminationDetails::Remote)
                    );
                    assert!(killed, "{error}");
                    let told = killer.join().unwrap();
                    assert!(told.is_ok() || told == Ok(KillSuccess::Cancelled));
                }
                "deep" => {
                    let code = fault(guest.run(ending, &zero)).code;
                    assert_eq!(code, TrapCode::StackOverflow);
                }
                _ => assert!(guest.run(ending, &zero).is_err(), "{ending}"),
            }
            check_way("seen", distance, |way, at| {
                guest.reset().unwrap();
                guest.run(way, &[Val::I32(at)])
            });
            guest.reset().unwrap();
        }
    }
}

#[test]
fn an_epoch_deadline_finds_a_guest_with_a_key() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut guest, _other, distance) = pair(&sandbox);
    guest.set_epoch_deadline(1).unwrap();
    sandbox.engine.increment_epoch();
    let code = fault(guest.run("for_ever", &[Val::I32(0)])).code;
    assert_eq!(code, TrapCode::EpochDeadline);
    guest.reset().unwrap();
    guest.clear_epoch_deadline();
    check_way("seen", distance, |way, at| {
        guest.reset().unwrap();
        guest.run(way, &[Val::I32(at)])
    });
}

#[test]
fn two_threads_run_guests_of_two_keys() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let (mut first, mut second, distance) = pair(&sandbox);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                check_way("seen", distance, |way, at| {
                    first.reset().unwrap();
                    first.run(way, &[Val::I32(at)])
                });
            }
        });
        for n in 0..200 {
            assert_eq!(returned_i32(second.run("calls", &[Val::I32(0)])), OWN);
            let byte = Val::I32(n);
            assert_eq!(returned_i32(second.run("fill", &[byte])), 0);
            assert_eq!(second.heap().unwrap()[65_000], n as u8);
        }
    });
}

#[test]
fn linked_modules_lie_where_no_neighbour_reaches_them() {
    let Some(sandbox) = guests::sandbox(4) else {
        return;
    };
    let mut street = guests::street(&sandbox, 4);
    let bases: Vec<usize> = street.iter().map(base).collect();
    let guest = &mut street[0];
    let linked = sandbox.module(
        r#"(module (import "main" "load" (func $load (param i32) (result i32)))
            (import "main" "m" (memory 1)) (import "main" "g" (global $g (mut i32)))
            (import "h" "seen" (func $seen (param i32) (result i32)))
            (memory $own (export "own") 1) (data (memory $own) (i32.const 0) "\09")
            (func (export "both") (param i32) (result i32)
                (drop (call $seen (i32.const 1)))
                (i32.add (i32.load8_u $own (local.get 0)) (call $load (local.get 0))))
            (func (export "set") (global.set $g (i32.const 8)) (i32.store (i32.const 0) (i32.const 5))))"#,
    );
    let used = sandbox.region.used_slots();
    guest.set_member_name("main", Member::MAIN).unwrap();
    let member = guest.link(&sandbox.linker, &linked).unwrap();
    assert_eq!(
        sandbox.region.used_slots(),
        used,
        "it has address space of its own"
    );
    let both =
        |guest: &mut InstanceHandle, at: i32| guest.run_member(member, "both", &[Val::I32(at)]);
    assert_eq!(returned_i32(both(guest, 0)), 9 + OWN);
    check_refused(guest.run("load", &[Val::I32((bases[1] - bases[0]) as i32)]));
    guest.reset().unwrap();
    assert_eq!(returned_i32(both(guest, 0)), 9 + OWN);
    guest.run_member(member, "set", &[]).unwrap();
    assert_eq!(guest.heap().unwrap()[0], 5);
    assert_eq!(guest.global("g").unwrap().i32(), Some(8));
}

#[test]
fn a_full_region_gives_slots_outside_that_need_no_key() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let outside = |options: &mut selvedge::RegionOptions| options.when_full = WhenFull::Outside;
    let Some(region) = guests::region(&engine, 1, outside) else {
        return;
    };
    let mut linker = Linker::new(&engine);
    guests::add_functions(&mut linker, || ());
    let sandbox = Sandbox {
        engine,
        linker,
        region,
    };
    let program = sandbox.program(guests::GUEST);
    let mut instances: Vec<_> = (0..3)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    for _ in 0..2 {
        for instance in &mut instances {
            for way in WAYS {
                assert_eq!(returned_i32(instance.run(way, &[Val::I32(0)])), OWN);
                // No memory is so long.
                check_refused(instance.run(way, &[Val::I32(-65_536)]));
                instance.reset().unwrap();
            }
        }
    }
    assert_eq!(sandbox.region.metrics().outside, 2);
}

#[test]
fn states_and_references_go_from_slot_to_slot() {
    let Some(sandbox) = guests::sandbox(6) else {
        return;
    };
    let (mut guest, _other, _) = pair(&sandbox);
    guest.run("fill", &[Val::I32(9)]).unwrap();
    let snapshot = guest.snapshot().unwrap();
    let mut copies = vec![
        guest.fork().unwrap(),
        sandbox.region.new_instance(&snapshot).unwrap(),
    ];
    // A program of a guest with a key is one for guests without, too.
    let plain = selvedge::Region::new(&sandbox.engine, 1, sandbox.region.limits()).unwrap();
    copies.push(plain.new_instance(&snapshot).unwrap());
    for copy in &mut copies {
        assert_eq!(copy.heap().unwrap()[60_000], 9);
        for way in WAYS {
            assert_eq!(returned_i32(copy.run(way, &[Val::I32(0)])), OWN, "{way}");
        }
    }
}
