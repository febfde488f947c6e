//! The memory of an instance from its first byte to its last: as it begins, as it grows, and after a reset.

use selvedge::{InstanceHandle, Limits, Region, RuntimeError, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, returned, returned_i32};

const PAGE: usize = 1 << 16;

/// Both ends of the memory read as zeros and can be written.
fn check_ends(instance: &mut InstanceHandle, pages: usize) {
    let mut heap = instance.heap_mut().unwrap();
    assert_eq!(heap.len(), pages * PAGE);
    for end in [0, pages * PAGE - 1] {
        assert_eq!(heap[end], 0);
        heap[end] = 0xa5;
        assert_eq!(heap[end], 0xa5);
    }
}

#[test]
fn a_fresh_heap_has_its_length_and_zeros_at_both_ends() {
    let sandbox = Sandbox::with(1, &Limits::default());
    for pages in [1, 3, 100] {
        // In one slot, one after the other: nothing is left of the former.
        for _ in 0..3 {
            let mut instance = sandbox.instance(&format!("(module (memory {pages}))"));
            check_ends(&mut instance, pages);
        }
    }
}

#[test]
fn a_heap_grows_page_by_page_to_its_maximum_and_each_new_page_is_zero() {
    let mut instance = Sandbox::new().instance("(module (memory 1 3))");
    check_ends(&mut instance, 1);
    for old in 1..3 {
        assert_eq!(instance.grow_memory(1).unwrap() as usize, old);
        let mut heap = instance.heap_mut().unwrap();
        assert_eq!(heap.len(), (old + 1) * PAGE);
        assert_eq!(heap[0], 0xa5, "what was there stays");
        assert!(heap[old * PAGE..].iter().all(|&byte| byte == 0));
        heap[(old + 1) * PAGE - 1] = 1;
    }
    assert!(matches!(
        instance.grow_memory(1),
        Err(RuntimeError::LimitsExceeded { .. })
    ));
    let mut heap = instance.heap_mut().unwrap();
    assert_eq!(
        (heap.len(), heap[0], heap[3 * PAGE - 1]),
        (3 * PAGE, 0xa5, 1)
    );
    heap[1] = 1;
}

#[test]
fn a_reset_makes_a_heap_of_any_length_what_it_was() {
    for (first, max) in [(1usize, 1usize), (1, 3), (2, 40), (0, 2)] {
        let mut instance = Sandbox::new().instance(&format!("(module (memory {first} {max}))"));
        for _ in 0..3 {
            assert_eq!(instance.heap().unwrap().len(), first * PAGE);
            if first > 0 {
                check_ends(&mut instance, first);
            }
            let more = (max - first) as u32;
            assert_eq!(instance.grow_memory(more).unwrap() as usize, first);
            let mut heap = instance.heap_mut().unwrap();
            assert_eq!(heap.len(), max * PAGE);
            heap.fill(0xff);
            drop(heap);
            instance.reset().unwrap();
        }
    }
}

#[test]
fn a_heap_that_begins_with_no_page_grows() {
    let mut instance = Sandbox::new().instance(
        r#"(module (memory 0)
            (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1))))"#,
    );
    assert!(instance.heap().unwrap().is_empty() && instance.heap_u32().unwrap().is_empty());
    assert!(instance.run("store", &[Val::I32(0)]).is_err());
    assert_eq!(instance.grow_memory(1).unwrap(), 0);
    check_ends(&mut instance, 1);
    returned(instance.run("store", &[Val::I32(PAGE as i32 - 1)]));
    assert!(instance.run("store", &[Val::I32(PAGE as i32)]).is_err());
}

#[test]
fn data_stand_at_their_offsets_with_an_empty_page_between() {
    let instance = Sandbox::new().instance(
        r#"(module (memory 1) (data (i32.const 0) "hello from page 0")
            (data (i32.const 8192) "hello from page 2"))"#,
    );
    let heap = instance.heap().unwrap();
    assert_eq!(&heap[..17], b"hello from page 0");
    assert_eq!(&heap[8192..8209], b"hello from page 2");
    assert!(
        heap[17..8192]
            .iter()
            .chain(&heap[8209..])
            .all(|&byte| byte == 0)
    );
}

#[test]
fn a_segment_that_begins_where_the_heap_ends_is_no_silent_loss() {
    let sandbox = Sandbox::new();
    for (offset, text) in [(65536, "x"), (65535, "xy"), (131_072, "x"), (-1, "x")] {
        let program = sandbox.program(&format!(
            r#"(module (memory 1) (data (i32.const {offset}) "{text}"))"#
        ));
        let error = sandbox.region.new_instance(&program).unwrap_err();
        assert!(
            matches!(error, RuntimeError::DataSegmentOutOfBounds),
            "{offset}: {error}"
        );
    }
    assert_eq!(sandbox.region.used_slots(), 0);
    // An empty one there is in order.
    sandbox.instance(r#"(module (memory 1) (data (i32.const 65536) ""))"#);
}

#[test]
fn a_host_function_writes_both_ends_of_its_callers_heap() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |vmctx: &Vmctx<'_>| {
            let mut heap = vmctx.heap_mut()?;
            let last = heap.len() - 1;
            (heap[0], heap[last]) = (4, 5);
            Ok::<_, selvedge::HostError>(())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f)) (memory 1)
            (func (export "run") (result i32) (call $f)
                (i32.add (i32.load8_u (i32.const 0)) (i32.load8_u (i32.const 65535)))))"#,
    );
    assert_eq!(returned_i32(instance.run("run", &[])), 9);
}

const WORKER: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 4)
    (func (export "size") (result i32) (memory.size))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "fill") (param $from i32) (param $len i32) (param $byte i32)
        (memory.fill (local.get $from) (local.get $byte) (local.get $len)))
    (func (export "increment") (param i32)
        (i32.store8 (local.get 0) (i32.add (i32.load8_u (local.get 0)) (i32.const 1))))
    (func (export "passes") (param $at i32) (param $len i32) (param $passes i32) (result i32)
        (local $i i32) (local $sum i32)
        (loop $pass
            (local.set $i (i32.const 0))
            (loop $byte
                (i32.store8 (i32.add (local.get $at) (local.get $i))
                    (i32.rem_u (i32.add (local.get $i) (local.get $passes)) (i32.const 128)))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $byte (i32.lt_u (local.get $i) (local.get $len))))
            (local.set $sum (i32.add (local.get $sum)
                (call $f (i32.load8_u (i32.add (local.get $at) (i32.const 7))))))
            (local.set $passes (i32.sub (local.get $passes) (i32.const 1)))
            (br_if $pass (local.get $passes)))
        (local.get $sum))
    (func (export "compare") (param $a i32) (param $b i32) (result i32) (local $x i32) (local $y i32)
        (loop $next
            (local.set $x (i32.load8_u (local.get $a)))
            (local.set $y (i32.load8_u (local.get $b)))
            (local.set $a (i32.add (local.get $a) (i32.const 1)))
            (local.set $b (i32.add (local.get $b) (i32.const 1)))
            (br_if $next (i32.and (i32.eq (local.get $x) (local.get $y)) (i32.ne (local.get $x) (i32.const 0)))))
        (i32.sub (local.get $x) (local.get $y))))"#;

fn worker() -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, n: i32| n + 1)
        .unwrap();
    sandbox.instance(WORKER)
}

#[test]
fn the_guest_tells_its_size_and_grows() {
    let mut instance = worker();
    assert_eq!(returned_i32(instance.run("size", &[])), 4);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), 4);
    assert_eq!(returned_i32(instance.run("size", &[])), 5);
    assert_eq!(instance.heap().unwrap().len(), 5 * PAGE);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(-1)])), -1);
}

#[test]
fn what_the_guest_grows_lies_above_what_the_host_grew() {
    let mut instance = worker();
    let host = instance.grow_memory(1).unwrap() as usize * PAGE;
    let guest = returned_i32(instance.run("grow", &[Val::I32(4)])) as usize * PAGE;
    assert_eq!((host, guest), (4 * PAGE, 5 * PAGE));
    let int = |n: usize| Val::I32(n as i32);
    returned(instance.run("fill", &[int(guest), int(4 * PAGE), Val::I32(0x5a)]));
    let heap = instance.heap().unwrap();
    assert!(heap[host..guest].iter().all(|&byte| byte == 0));
    assert!(heap[guest..].iter().all(|&byte| byte == 0x5a));
    drop(heap);
    returned(instance.run("increment", &[int(guest)]));
    let heap = instance.heap().unwrap();
    assert_eq!(heap[guest], 0x5b);
    assert!(heap[guest + 1..].iter().all(|&byte| byte == 0x5a));
}

#[test]
fn a_guest_works_long_in_a_page_that_the_host_grew_and_calls_back() {
    let mut instance = worker();
    let at = instance.grow_memory(1).unwrap() as usize * PAGE;
    let args = [Val::I32(at as i32), Val::I32(50_000), Val::I32(100)];
    let sum = returned_i32(instance.run("passes", &args));
    let expected: i32 = (1..=100).map(|pass| (7 + pass) % 128 + 1).sum();
    assert_eq!(sum, expected);
    let heap = instance.heap().unwrap();
    let last: Vec<u8> = (0..50_000).map(|i| ((i + 1) % 128) as u8).collect();
    assert_eq!(heap[at..at + 50_000], last);
    assert!(heap[at + 50_000..].iter().all(|&byte| byte == 0));
}

#[test]
fn the_guest_compares_strings_that_the_host_wrote_into_a_grown_page() {
    let mut instance = worker();
    let at = instance.grow_memory(1).unwrap() as usize * PAGE;
    for (a, b) in [
        ("same", "same"),
        ("later", "earlier"),
        ("short", "shorter"),
        ("longer", "long"),
        ("", ""),
        ("", "x"),
    ] {
        let mut heap = instance.heap_mut().unwrap();
        let second = at + a.len() + 1;
        heap[at..second].copy_from_slice(format!("{a}\0").as_bytes());
        heap[second..second + b.len() + 1].copy_from_slice(format!("{b}\0").as_bytes());
        drop(heap);
        let found =
            returned_i32(instance.run("compare", &[Val::I32(at as i32), Val::I32(second as i32)]));
        assert_eq!(found.signum(), a.cmp(b) as i32, "{a:?} {b:?}");
    }
}

#[test]
fn the_host_grows_a_heap_to_four_gibibytes_and_no_further() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1)
            (func (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 7))))"#,
    );
    assert!(instance.grow_memory(u32::MAX).is_err());
    assert!(instance.grow_memory(65536).is_err(), "one page more");
    assert_eq!(instance.grow_memory(65535).unwrap(), 1);
    assert!(instance.grow_memory(1).is_err());
    assert_eq!(instance.grow_memory(0).unwrap(), 65536);
    returned(instance.run("store", &[Val::I32(-1)]));
    let heap = instance.heap().unwrap();
    assert_eq!((heap.len(), heap[(4 << 30) - 1]), (4 << 30, 7));
    assert!(instance.check_heap(heap.as_ptr(), 4 << 30));
    drop(heap);
    let mut words = instance.heap_u32_mut().unwrap();
    assert_eq!((words.len(), words[(1 << 30) - 1]), (1 << 30, 7 << 24));
    words[(1 << 30) - 1] = 0;
    drop(words);
    instance.reset().unwrap();
    assert_eq!(instance.heap().unwrap().len(), PAGE);
}

#[test]
fn a_growth_by_nothing_is_the_size_and_without_a_memory_an_error() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance("(module (memory 2 2))");
    assert_eq!(instance.grow_memory(0).unwrap(), 2);
    let mut without = sandbox.instance("(module)");
    assert!(without.grow_memory(0).is_err() && without.grow_memory(1).is_err());
}

#[test]
fn a_region_may_go_before_its_instances() {
    let sandbox = Sandbox::new();
    let program = sandbox.program("(module (memory 1 2))");
    let region = Region::new(&sandbox.engine, 2, &Limits::default()).unwrap();
    let mut first = region.new_instance(&program).unwrap();
    let mut second = region.new_instance(&program).unwrap();
    drop((region, program, sandbox));
    check_ends(&mut first, 1);
    drop(first);
    check_ends(&mut second, 1);
    assert_eq!(second.grow_memory(1).unwrap(), 1);
    second.reset().unwrap();
    check_ends(&mut second, 1);
}
