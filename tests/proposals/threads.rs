//! Shared memories: guests on several threads, the host beside them, waiting and notifying, and what is
//! refused. Where threads race, what is asserted holds for every order.

use std::thread;
use std::time::Duration;

use selvedge::{
    InstanceHandle, Limits, Module, RuntimeError, SharedMemory, TrapCode, Val, WaitResult,
};
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const SHARED: &str = "(module
    (import \"env\" \"memory\" (memory $m 1 4 shared))
    (data $passive \"abcdefgh\")
    (func (export \"count\") (param $rounds i32)
        (loop $again
            (block $taken (loop $spin
                (br_if $taken (i32.eqz
                    (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 0) (i32.const 1))))
                (br $spin)))
            (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
            (i32.atomic.store (i32.const 0) (i32.const 0))
            (drop (i32.atomic.rmw.add (i32.const 16) (i32.const 1)))
            (drop (i64.atomic.rmw8.add_u (i32.const 24) (i64.const 1)))
            (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1))))))
    (func (export \"send\") (param $rounds i32) (local $i i32)
        (loop $again
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (i32.store (i32.const 128) (i32.mul (local.get $i) (i32.const 3)))
            (i32.atomic.store (i32.const 64) (local.get $i))
            (loop $spin (br_if $spin
                (i32.ne (i32.atomic.load (i32.const 192)) (local.get $i))))
            (br_if $again (i32.ne (local.get $i) (local.get $rounds)))))
    (func (export \"receive\") (param $rounds i32) (result i32) (local $i i32) (local $wrong i32)
        (loop $again
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (loop $spin (br_if $spin
                (i32.ne (i32.atomic.load (i32.const 64)) (local.get $i))))
            (local.set $wrong (i32.add (local.get $wrong) (i32.ne
                (i32.load (i32.const 128)) (i32.mul (local.get $i) (i32.const 3)))))
            (i32.atomic.store (i32.const 192) (local.get $i))
            (br_if $again (i32.ne (local.get $i) (local.get $rounds))))
        (local.get $wrong))
    (func (export \"ping\") (param $mine i32) (param $rounds i32)
        (loop $again
            (block $turn (loop $wait
                (br_if $turn (i32.eq (i32.atomic.load (i32.const 256)) (local.get $mine)))
                (drop (memory.atomic.wait32 (i32.const 256)
                    (i32.sub (i32.const 1) (local.get $mine)) (i64.const -1)))
                (br $wait)))
            (i32.atomic.store (i32.const 256) (i32.sub (i32.const 1) (local.get $mine)))
            (drop (memory.atomic.notify (i32.const 256) (i32.const 1)))
            (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1))))))
    (func (export \"wait32\") (param i32 i32 i64) (result i32)
        (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"wait64\") (param i32 i64 i64) (result i32)
        (memory.atomic.wait64 offset=8 (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"notify\") (param i32 i32) (result i32)
        (memory.atomic.notify (local.get 0) (local.get 1)))
    (func (export \"load\") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export \"load_atomic\") (param i32) (result i32) (i32.atomic.load offset=4 (local.get 0)))
    (func (export \"add16\") (param i32) (result i32)
        (i32.atomic.rmw16.add_u offset=1 (local.get 0) (i32.const 1)))
    (func (export \"store64\") (param i32) (i64.atomic.store (local.get 0) (i64.const 1)))
    (func (export \"until_larger\") (param i32) (result i32)
        (loop $spin (br_if $spin (i32.le_u (memory.size) (local.get 0))))
        (i32.store (i32.const 65536) (i32.const 77))
        (memory.size))
    (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export \"fill\") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"copy\") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export \"init\") (param i32 i32 i32)
        (memory.init $passive (local.get 0) (local.get 1) (local.get 2))))";

/// A sandbox whose linker has a shared memory of 1 to 4 pages, and that memory.
fn sandbox() -> (Sandbox, SharedMemory) {
    let mut sandbox = Sandbox::new();
    let memory = SharedMemory::new(&sandbox.engine, 1, 4).expect("there is room");
    sandbox
        .linker
        .shared_memory("env", "memory", &memory)
        .expect("the name is free");
    (sandbox, memory)
}

fn run(instance: &mut InstanceHandle, name: &str, args: &[i32]) -> i32 {
    let args: Vec<Val> = args.iter().map(|&n| Val::I32(n)).collect();
    returned_i32(instance.run(name, &args))
}

fn done(instance: &mut InstanceHandle, name: &str, args: &[i32]) {
    let args: Vec<Val> = args.iter().map(|&n| Val::I32(n)).collect();
    if let Err(error) = instance.run(name, &args) {
        panic!("{name}: {error}");
    }
}

fn trap(instance: &mut InstanceHandle, name: &str, args: &[Val]) -> TrapCode {
    fault(instance.run(name, args)).code
}

#[test]
fn a_lock_in_the_guest_keeps_four_threads_apart() {
    let (sandbox, memory) = sandbox();
    let program = sandbox.program(SHARED);
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut instance = sandbox.region.new_instance(&program).unwrap();
            scope.spawn(move || done(&mut instance, "count", &[5000]));
        }
    });
    assert_eq!(memory.load_u32(0).unwrap(), 0);
    assert_eq!(memory.load_u32(8).unwrap(), 20000);
    assert_eq!(memory.load_u32(16).unwrap(), 20000);
    // One byte wraps and its neighbours stay.
    assert_eq!(memory.load_u64(24).unwrap(), 20000 % 256);
}

#[test]
fn what_was_stored_before_an_atomic_store_is_seen_after_the_load_of_it() {
    let (sandbox, _) = sandbox();
    let program = sandbox.program(SHARED);
    let mut sender = sandbox.region.new_instance(&program).unwrap();
    let mut receiver = sandbox.region.new_instance(&program).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || done(&mut sender, "send", &[500]));
        assert_eq!(run(&mut receiver, "receive", &[500]), 0);
    });
}

#[test]
fn two_guests_wake_each_other_ten_thousand_times() {
    let (sandbox, _) = sandbox();
    let program = sandbox.program(SHARED);
    thread::scope(|scope| {
        for mine in [0, 1] {
            let mut instance = sandbox.region.new_instance(&program).unwrap();
            scope.spawn(move || done(&mut instance, "ping", &[mine, 10_000]));
        }
    });
}

#[test]
fn notifications_are_counted_exactly_between_guests_and_the_host() {
    let (sandbox, memory) = sandbox();
    let program = sandbox.program(SHARED);
    let mut notifier = sandbox.region.new_instance(&program).unwrap();
    thread::scope(|scope| {
        let mut waiters: Vec<_> = (0..3)
            .map(|_| {
                let mut instance = sandbox.region.new_instance(&program).unwrap();
                let args = [Val::I32(512), Val::I32(0), Val::I64(-1)];
                scope.spawn(move || returned_i32(instance.run("wait32", &args)))
            })
            .collect();
        let host = memory.clone();
        waiters.push(
            scope.spawn(move || match host.wait32(512, 0, None).unwrap() {
                WaitResult::Notified => 0,
                other => panic!("{other:?}"),
            }),
        );
        while memory.waiting(512) != 4 {
            thread::yield_now();
        }
        assert_eq!(run(&mut notifier, "notify", &[516, 9]), 0);
        assert_eq!(run(&mut notifier, "notify", &[512, 0]), 0);
        assert_eq!(run(&mut notifier, "notify", &[512, 1]), 1);
        assert_eq!(memory.notify(512, 1).unwrap(), 1);
        assert_eq!(run(&mut notifier, "notify", &[512, -1]), 2);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 0);
        }
        assert_eq!(run(&mut notifier, "notify", &[512, -1]), 0);
    });
}

#[test]
fn waits_end_by_mismatch_and_time_out() {
    let (sandbox, memory) = sandbox();
    let mut instance = sandbox.instance(SHARED);
    let mut wait32 = |expected, timeout| {
        let args = [Val::I32(0), Val::I32(expected), Val::I64(timeout)];
        returned_i32(instance.run("wait32", &args))
    };
    assert_eq!((wait32(1, -1), wait32(0, 0), wait32(0, 1000)), (1, 2, 2));
    memory.store_u64(8, u64::MAX).unwrap();
    let args = |expected| [Val::I32(0), Val::I64(expected), Val::I64(0)];
    assert_eq!(returned_i32(instance.run("wait64", &args(-1))), 2);
    assert_eq!(returned_i32(instance.run("wait64", &args(0))), 1);
    let zero = Some(Duration::ZERO);
    assert_eq!(memory.wait64(8, 5, None).unwrap(), WaitResult::Mismatch);
    assert_eq!(
        memory.wait64(8, u64::MAX, zero).unwrap(),
        WaitResult::TimedOut
    );
}

#[test]
fn growth_is_seen_by_all_who_have_the_memory() {
    let (sandbox, memory) = sandbox();
    let program = sandbox.program(SHARED);
    let mut waiting = sandbox.region.new_instance(&program).unwrap();
    let mut growing = sandbox.region.new_instance(&program).unwrap();
    let outside = [Val::I32(65536)];
    assert_eq!(
        trap(&mut growing, "load", &outside),
        TrapCode::HeapOutOfBounds
    );
    thread::scope(|scope| {
        let seen = scope.spawn(move || run(&mut waiting, "until_larger", &[1]));
        assert_eq!(run(&mut growing, "grow", &[1]), 1);
        assert_eq!(seen.join().unwrap(), 2);
    });
    assert_eq!(run(&mut growing, "load", &[65536]), 77);
    assert_eq!(memory.grow(1).unwrap(), 2);
    assert_eq!(run(&mut growing, "load", &[3 * 65536 - 4]), 0);
    let outside = [Val::I32(3 * 65536 - 3)];
    let fault = fault(growing.run("load", &outside));
    assert_eq!(fault.code, TrapCode::HeapOutOfBounds);
    assert!(fault.to_string().contains("0x30000"), "{fault}");
    assert_eq!(run(&mut growing, "grow", &[2]), -1);
    assert!(matches!(
        memory.grow(2),
        Err(RuntimeError::LimitsExceeded { .. })
    ));
    assert_eq!(memory.size(), 3);
}

#[test]
fn threads_that_grow_at_once_each_get_pages_of_their_own() {
    let sandbox = Sandbox::new();
    for _ in 0..50 {
        let memory = SharedMemory::new(&sandbox.engine, 0, 64).unwrap();
        let mut former: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let memory = memory.clone();
                    scope.spawn(move || (0..16).map(|_| memory.grow(1).unwrap()).collect())
                })
                .collect();
            let results = threads.into_iter().map(|t| t.join().unwrap());
            results.flat_map(|pages: Vec<u64>| pages).collect()
        });
        former.sort_unstable();
        assert_eq!(former, (0..64).collect::<Vec<_>>());
        memory.write(64 * 65536 - 1, &[1]).unwrap();
    }
}

#[test]
fn bulk_operations_work_and_stop_at_the_end() {
    let (sandbox, memory) = sandbox();
    let mut instance = sandbox.instance(SHARED);
    done(&mut instance, "init", &[10, 0, 8]);
    done(&mut instance, "copy", &[12, 10, 8]);
    done(&mut instance, "fill", &[21, 0x7a, 3]);
    let mut found = [0; 16];
    memory.read(9, &mut found).unwrap();
    assert_eq!(&found, b"\0ababcdefgh\0zzz\0");
    for (name, args) in [
        ("init", [65530, 0, 7]),
        ("init", [0, 4, 5]),
        ("copy", [65530, 0, 7]),
        ("copy", [0, 65530, 7]),
        ("fill", [65535, 1, 2]),
    ] {
        let args = args.map(Val::I32);
        assert_eq!(trap(&mut instance, name, &args), TrapCode::HeapOutOfBounds);
    }
    assert_eq!(memory.load_u32(65532).unwrap(), 0);
}

#[test]
fn atomic_accesses_must_be_aligned() {
    let (sandbox, _) = sandbox();
    let mut instance = sandbox.instance(SHARED);
    let at = |n| [Val::I32(n)];
    for (name, bad, good) in [("load_atomic", 2, 4), ("add16", 0, 1), ("store64", 4, 8)] {
        assert_eq!(
            trap(&mut instance, name, &at(bad)),
            TrapCode::UnalignedAtomic
        );
        assert!(instance.run(name, &at(good)).is_ok());
        let outside = trap(&mut instance, name, &at(good + 65528 + 8));
        assert_eq!(outside, TrapCode::HeapOutOfBounds, "{name}");
    }
    let wait = |at| [Val::I32(at), Val::I32(0), Val::I64(0)];
    assert_eq!(
        trap(&mut instance, "wait32", &wait(2)),
        TrapCode::UnalignedAtomic
    );
    assert_eq!(
        trap(&mut instance, "wait32", &wait(65536)),
        TrapCode::HeapOutOfBounds
    );
    let notify = |at| [Val::I32(at), Val::I32(0)];
    assert_eq!(
        trap(&mut instance, "notify", &notify(1)),
        TrapCode::UnalignedAtomic
    );
    assert_eq!(
        trap(&mut instance, "notify", &notify(-4)),
        TrapCode::HeapOutOfBounds
    );
}

#[test]
fn memories_that_are_not_shared_know_atomic_accesses_but_no_waiting() {
    let mut instance = Sandbox::new().instance(
        "(module (memory 1)
            (func (export \"add\") (result i32)
                (i32.atomic.rmw.add (i32.const 4) (i32.const 5)))
            (func (export \"notify\") (result i32)
                (memory.atomic.notify (i32.const 0) (i32.const 1)))
            (func (export \"wait\") (result i32)
                (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
            (func (export \"unaligned\") (result i32) (i32.atomic.load (i32.const 2))))",
    );
    assert_eq!(run(&mut instance, "add", &[]), 0);
    assert_eq!(run(&mut instance, "add", &[]), 5);
    assert_eq!(run(&mut instance, "notify", &[]), 0);
    assert_eq!(
        trap(&mut instance, "wait", &[]),
        TrapCode::ExpectedSharedMemory
    );
    assert_eq!(
        trap(&mut instance, "unaligned", &[]),
        TrapCode::UnalignedAtomic
    );
}

#[test]
fn a_module_may_define_a_shared_memory_which_outlives_it() {
    let sandbox = Sandbox::new();
    let wat = "(module (memory (export \"m\") 1 2 shared) (memory (export \"own\") 1)
        (data (memory 0) (i32.const 8) \"hi\")
        (func (export \"size\") (result i32) (memory.size))
        (func (export \"store\") (param i32) (i32.store offset=100 (local.get 0) (i32.const 7))))";
    let program = sandbox.program(wat);
    let mut instance = sandbox.region.new_instance(&program).unwrap();
    let other = sandbox.region.new_instance(&program).unwrap();
    let memory = instance.shared_memory("m").unwrap();
    assert_eq!(instance.shared_memory("m").unwrap().grow(1).unwrap(), 1);
    assert_eq!(run(&mut instance, "size", &[]), 2);
    done(&mut instance, "store", &[65536]);
    assert_eq!(
        other.shared_memory("m").unwrap().size(),
        1,
        "each has its own"
    );
    assert!(matches!(instance.heap(), Err(RuntimeError::MemoryShared)));
    assert!(matches!(
        instance.heap_mut(),
        Err(RuntimeError::MemoryShared)
    ));
    assert!(matches!(
        instance.memory("m"),
        Err(RuntimeError::MemoryShared)
    ));
    assert!(matches!(
        instance.shared_memory("own"),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(instance.memory("own").is_ok());
    drop((instance, program));
    let mut bytes = [0; 2];
    memory.read(8, &mut bytes).unwrap();
    assert_eq!(&bytes, b"hi");
    assert_eq!(memory.load_u32(65636).unwrap(), 7);
    // The slot is clean for the next.
    let instance = sandbox.instance(wat);
    assert_eq!(
        instance.shared_memory("m").unwrap().load_u32(100).unwrap(),
        0
    );
    drop((instance, sandbox));
    assert_eq!(memory.load_u32(65636).unwrap(), 7);
}

#[test]
fn modules_share_by_linking_inside_an_instance_too() {
    let (sandbox, memory) = sandbox();
    let mut instance = sandbox.instance(
        "(module (import \"env\" \"memory\" (memory 1 4 shared)) (export \"m\" (memory 0)))",
    );
    instance
        .set_member_name("main", selvedge::Member::MAIN)
        .unwrap();
    let member = sandbox.module(
        "(module (import \"main\" \"m\" (memory 1 4 shared)) (memory 1 1 shared)
            (func (export \"put\") (i32.atomic.store (i32.const 40) (i32.const 9))))",
    );
    let member = instance.link(&sandbox.linker, &member).unwrap();
    instance.run_member(member, "put", &[]).unwrap();
    assert_eq!(memory.load_u32(40).unwrap(), 9);
}

#[test]
fn types_that_do_not_match_are_refused() {
    let (mut sandbox, memory) = sandbox();
    let import = |ty: &str| format!("(module (import \"env\" \"memory\" (memory {ty})))");
    for ty in ["1 4", "1", "2 4 shared", "1 3 shared", "i64 1 4 shared"] {
        let module: Module = sandbox.module(&import(ty));
        let error = sandbox.linker.program(&module).unwrap_err();
        assert!(
            matches!(error, RuntimeError::ImportType { .. }),
            "{ty}: {error}"
        );
    }
    // As it is now, not as it was.
    memory.grow(1).unwrap();
    sandbox.program(&import("2 5 shared"));
    let func = sandbox.module("(module (import \"env\" \"memory\" (func)))");
    assert!(sandbox.linker.program(&func).is_err());
    assert!(matches!(
        sandbox.linker.shared_memory("env", "memory", &memory),
        Err(RuntimeError::AlreadyDefined { .. })
    ));
    let other = Sandbox::new();
    assert!(matches!(
        sandbox.linker.shared_memory(
            "env",
            "other",
            &SharedMemory::new(&other.engine, 0, 0).unwrap()
        ),
        Err(RuntimeError::OtherEngine(_))
    ));
    assert!(SharedMemory::new(&sandbox.engine, 2, 1).is_err());
    assert!(SharedMemory::new(&sandbox.engine, 0, 65537).is_err());
    let unbounded = sandbox.engine.compile(b"(module (memory 1 shared))");
    assert!(unbounded.is_err(), "a shared memory needs a maximum");
}

#[test]
fn limits_hold_for_the_shared_memories_that_an_instance_makes() {
    let mut limits = Limits::default();
    limits.memory_len = 2 * 65536;
    let sandbox = Sandbox::with(2, &limits);
    let mut instance = sandbox.instance(
        "(module (memory 1 9 shared) (func (export \"grow\") (result i32)
            (memory.grow (i32.const 1))))",
    );
    assert_eq!(run(&mut instance, "grow", &[]), 1);
    assert_eq!(run(&mut instance, "grow", &[]), -1);
    let program = sandbox.program("(module (memory 3 9 shared))");
    assert!(matches!(
        sandbox.region.new_instance(&program),
        Err(RuntimeError::LimitsExceeded { .. })
    ));
}

#[test]
fn checked_memories_may_be_shared() {
    let mut instance = Sandbox::new().instance(
        "(module (memory (export \"m\") i64 1 3 shared)
            (func (export \"far\") (param i64) (result i32)
                (i32.atomic.load offset=0xfffffffffffffff8 (local.get 0)))
            (func (export \"load\") (param i64) (result i32) (i32.atomic.load (local.get 0)))
            (func (export \"notify\") (param i64) (result i32)
                (memory.atomic.notify offset=16 (local.get 0) (i32.const 1)))
            (func (export \"grow\") (param i64) (result i64) (memory.grow (local.get 0))))",
    );
    let at = |n: i64| [Val::I64(n)];
    let outside = TrapCode::HeapOutOfBounds;
    assert_eq!(returned_i32(instance.run("load", &at(65532))), 0);
    assert_eq!(trap(&mut instance, "load", &at(65536)), outside);
    assert_eq!(trap(&mut instance, "load", &at(-4)), outside);
    assert_eq!(trap(&mut instance, "far", &at(8)), outside);
    assert_eq!(trap(&mut instance, "notify", &at(-16)), outside);
    instance.shared_memory("m").unwrap().grow(1).unwrap();
    assert_eq!(returned_i32(instance.run("load", &at(65536))), 0);
    assert_eq!(instance.shared_memory("m").unwrap().ty().min, 2);
}

#[test]
fn the_host_touches_nothing_outside() {
    let sandbox = Sandbox::new();
    let memory = SharedMemory::new(&sandbox.engine, 1, 1).unwrap();
    assert!(memory.read(65536, &mut [0]).is_err());
    assert!(memory.write(65535, &[1, 2]).is_err());
    assert!(memory.load_u32(2).is_err() && memory.load_u64(65532).is_err());
    assert!(memory.wait32(65536, 0, None).is_err() && memory.notify(3, 1).is_err());
    assert_eq!(memory.compare_exchange_u32(0, 0, 5).unwrap(), 0);
    assert_eq!(memory.compare_exchange_u32(0, 0, 6).unwrap(), 5);
    assert_eq!(memory.compare_exchange_u64(0, 5, 1 << 40).unwrap(), 5);
    assert_eq!(memory.load_u64(0).unwrap(), 1 << 40);
}
