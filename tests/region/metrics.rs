//! What a region tells of itself.

use selvedge::{Limits, Region, RegionMetrics, RegionOptions, Val, WhenFull};
use selvedge_tests::sandbox::{Sandbox, returned};

const WAT: &str = r#"(module (memory PAGES) (data (i32.const 0) "data")
    (func (export "fill") (param i32) (memory.fill (i32.const 8192) (i32.const 1) (local.get 0))))"#;

fn region(sandbox: &Sandbox, change: impl FnOnce(&mut RegionOptions)) -> Region {
    let mut options = RegionOptions::default();
    change(&mut options);
    Region::with_options(&sandbox.engine, 3, &Limits::default(), &options).unwrap()
}

/// Makes instances that fill so many bytes.
fn run(sandbox: &Sandbox, region: &Region, pages: u32, bytes: i32, count: u64) -> RegionMetrics {
    let program = sandbox.program(&WAT.replace("PAGES", &pages.to_string()));
    for _ in 0..count {
        let mut instance = region.new_instance(&program).unwrap();
        returned(instance.run("fill", &[Val::I32(bytes)]));
    }
    region.metrics()
}

#[test]
fn slots_and_instances_are_counted() {
    let sandbox = Sandbox::new();
    let region = region(&sandbox, |_| {});
    let metrics = region.metrics();
    assert_eq!((metrics.capacity, metrics.used, metrics.free), (3, 0, 3));
    assert_eq!((metrics.taken, metrics.ever_used), (0, 0));
    let program = sandbox.program("(module (memory 1))");
    let held: Vec<_> = (0..2)
        .map(|_| region.new_instance(&program).unwrap())
        .collect();
    let metrics = region.metrics();
    assert_eq!((metrics.used, metrics.free, metrics.ever_used), (2, 1, 2));
    drop(held);
    for _ in 0..5 {
        region.new_instance(&program).unwrap();
    }
    let metrics = region.metrics();
    assert_eq!((metrics.used, metrics.free, metrics.ever_used), (0, 3, 2));
    assert_eq!((metrics.taken, metrics.taken_ready), (7, 5));
    assert_eq!((metrics.waited, metrics.outside), (0, 0));
}

#[test]
fn resets_are_counted_by_their_kind() {
    let sandbox = Sandbox::new();
    let small = run(&sandbox, &region(&sandbox, |_| {}), 1, 100, 10);
    assert_eq!((small.resets.compared, small.taken), (10, 10));
    let none = region(&sandbox, |_| {});
    none.new_instance(&sandbox.program("(module)")).unwrap();
    assert_eq!(none.metrics().resets.nothing, 1);
    let back = run(
        &sandbox,
        &region(&sandbox, |options| options.keep_resident_len = 0),
        20,
        100,
        4,
    );
    assert_eq!(back.resets.given_back, 4);
    let large = run(&sandbox, &region(&sandbox, |_| {}), 20, 100, 4);
    let partly = run(
        &sandbox,
        &region(&sandbox, |options| options.keep_resident_len = 8192),
        20,
        500_000,
        4,
    );
    if large.resident_len.is_some() {
        assert_eq!(large.resets.written_back, 4);
        assert_eq!(partly.resets.partly, 4);
    } else {
        assert_eq!((large.resets.given_back, partly.resets.given_back), (4, 4));
    }
    assert!(large.reset_time.is_zero());
    // Resets of an instance count when it is dropped.
    let region = region(&sandbox, |options| options.measure_resets = true);
    let program = sandbox.program("(module (memory 1))");
    let mut instance = region.new_instance(&program).unwrap();
    // However coarse the clock is.
    for _ in 0..999 {
        instance.reset().unwrap();
    }
    drop(instance);
    assert_eq!(region.metrics().resets.compared, 1000);
    assert!(!region.metrics().reset_time.is_zero());
}

#[test]
fn bytes_in_memory_are_what_guests_wrote_and_slots_keep() {
    let sandbox = Sandbox::new();
    let region = region(&sandbox, |options| options.keep_resident_len = 100 << 10);
    let Some(before) = region.metrics().resident_len else {
        return;
    };
    let program = sandbox.program(&WAT.replace("PAGES", "20"));
    let mut instance = region.new_instance(&program).unwrap();
    let idle = region.metrics().resident_len.unwrap();
    // Its context, and nothing of its memory.
    assert!((before..=before + 4096).contains(&idle), "{before} {idle}");
    returned(instance.run("fill", &[Val::I32(500_000)]));
    let filled = region.metrics().resident_len.unwrap();
    assert!(
        (idle + 500_000..idle + 520_000).contains(&filled),
        "{idle} {filled}"
    );
    drop(instance);
    let kept = region.metrics().resident_len.unwrap();
    assert!(
        (idle + (90 << 10)..=idle + (100 << 10)).contains(&kept),
        "{idle} {kept}"
    );
}

#[test]
fn instances_that_wait_or_lie_outside_are_counted() {
    let sandbox = Sandbox::new();
    let program = sandbox.program("(module)");
    let outside = region(&sandbox, |options| options.when_full = WhenFull::Outside);
    let held: Vec<_> = (0..5)
        .map(|_| outside.new_instance(&program).unwrap())
        .collect();
    assert_eq!(outside.metrics().outside, 2);
    drop(held);
    let waiting = region(&sandbox, |options| {
        options.when_full = WhenFull::Wait(std::time::Duration::ZERO);
    });
    let held: Vec<_> = (0..3)
        .map(|_| waiting.new_instance(&program).unwrap())
        .collect();
    assert!(waiting.new_instance(&program).is_err());
    assert_eq!(waiting.metrics().waited, 1);
    drop(held);
}
