//! Tests of the registry: what is found, and that nobody sees what is gone, whatever happens at the
//! same time.

use super::*;
use crate::sys::fork::{self, Outcome};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

/// An entry without a module.
fn entry(start: usize, end: usize) -> CodeEntry {
    CodeEntry {
        start,
        end,
        traps: ptr::null(),
        traps_len: 0,
    }
}

/// A registry for one test.
fn registry() -> &'static Registry {
    Box::leak(Box::new(Registry::new()))
}

fn start_at(registry: &Registry, pc: usize) -> Option<usize> {
    registry.lookup(pc, |entry| entry.start)
}

#[test]
fn an_empty_registry_knows_nothing() {
    let registry = registry();
    assert_eq!(start_at(registry, 0), None);
    assert_eq!(start_at(registry, usize::MAX), None);
}

#[test]
fn the_end_of_a_range_is_not_in_it() {
    let registry = registry();
    let ranges = [(100, 200), (200, 300), (400, 500), (0, 50)];
    let registrations: Vec<_> = ranges
        .map(|(start, end)| registry.register(entry(start, end)))
        .into();
    let found = [
        0,
        49,
        50,
        99,
        100,
        199,
        200,
        299,
        300,
        399,
        400,
        499,
        500,
        usize::MAX,
    ]
    .map(|pc| start_at(registry, pc));
    let (a, b, c, d) = (Some(0), Some(100), Some(200), Some(400));
    assert_eq!(
        found,
        [a, a, None, None, b, b, c, c, None, None, d, d, None, None]
    );
    drop(registrations);
    assert!(registry.table.load(Ordering::SeqCst).is_null());
    assert_eq!(start_at(registry, 100), None);
}

#[test]
fn an_unregistered_range_is_gone_and_the_others_stay() {
    let registry = registry();
    let mut registrations: Vec<_> = (0..100)
        .map(|index| registry.register(entry(index * 10, index * 10 + 5)))
        .collect();
    for index in (0..100).rev().step_by(2) {
        drop(registrations.remove(index));
    }
    for index in 0..100 {
        let expected = (index % 2 == 0).then_some(index * 10);
        assert_eq!(start_at(registry, index * 10 + 4), expected);
        assert_eq!(start_at(registry, index * 10 + 5), None);
    }
}

#[test]
fn a_range_without_bytes_holds_no_pc() {
    let registry = registry();
    let _empty = registry.register(entry(100, 100));
    assert_eq!(start_at(registry, 100), None);
    let _code = registry.register(entry(200, 300));
    assert_eq!(start_at(registry, 250), Some(200));
}

#[test]
fn the_registry_of_the_process_finds_what_was_registered() {
    // Addresses that no code has.
    let start = usize::MAX - 1000;
    let registration = register(entry(start, start + 10));
    assert_eq!(lookup(start + 9, |entry| entry.end), Some(start + 10));
    drop(registration);
    assert_eq!(lookup(start + 9, |entry| entry.end), None);
}

#[test]
fn a_reader_does_not_wait_for_a_writer_on_its_own_thread() {
    let registry = registry();
    let _registration = registry.register(entry(100, 200));
    let writer = registry.lock();
    assert_eq!(start_at(registry, 150), Some(100));
    drop(writer);
}

#[test]
fn a_callback_that_panics_blocks_no_writer() {
    let registry = registry();
    let registration = registry.register(entry(100, 200));
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        registry.lookup(150, |_| panic!("as it is meant to"));
    }));
    assert!(result.is_err());
    drop(registration);
    assert_eq!(start_at(registry, 150), None);
}

#[test]
fn lookups_nest() {
    let registry = registry();
    let _one = registry.register(entry(100, 200));
    let _two = registry.register(entry(300, 400));
    let inner = registry.lookup(150, |_| start_at(registry, 350));
    assert_eq!(inner, Some(Some(300)));
}

/// What a module's pointer leads to in the tests below: the start of its range, or what is left of
/// it.
struct Owner(AtomicU64);

const GONE: u64 = u64::MAX;

/// Registers a range `rounds` times, and marks its owner as gone the moment that the registration
/// has been dropped.
fn come_and_go(registry: &'static Registry, start: usize, rounds: usize) {
    for _ in 0..rounds {
        let owner = Box::new(Owner(AtomicU64::new(start as u64)));
        let mut new = entry(start, start + 8);
        new.traps = ptr::from_ref(&*owner).cast();
        let registration = registry.register(new);
        assert_eq!(start_at(registry, start + 7), Some(start));
        drop(registration);
        assert_eq!(start_at(registry, start), None);
        owner.0.store(GONE, Ordering::Relaxed);
    }
}

/// Looks at the owner of whatever is registered at `pc`.
fn look(registry: &Registry, pc: usize) -> bool {
    let seen = registry.lookup(pc, |entry| {
        assert!((entry.start..entry.end).contains(&pc));
        // SAFETY: the owner lives until its entry has been unregistered, which is after this
        // callback (`come_and_go`).
        let owner = unsafe { &*entry.traps.cast::<Owner>() };
        assert_eq!(owner.0.load(Ordering::Relaxed), entry.start as u64);
    });
    seen.is_some()
}

#[test]
fn a_writer_waits_for_readers_in_both_lanes() {
    let registry = registry();
    for lane in [0, 1, 0, 1, 1] {
        let gone = AtomicBool::new(false);
        let registration = registry.register(entry(100, 200));
        let lane = &registry.lanes[lane];
        // As a reader does that read the lane's number some time ago.
        lane.fetch_add(1, Ordering::SeqCst);
        let reader = Reader { lane };
        thread::scope(|scope| {
            let gone = &gone;
            scope.spawn(move || {
                drop(registration);
                gone.store(true, Ordering::SeqCst);
            });
            while !registry.table.load(Ordering::SeqCst).is_null() {
                thread::yield_now();
            }
            // The table is replaced and the reader still has the old one. A writer that does not
            // wait has time to go on, many times over.
            for _ in 0..200 {
                thread::yield_now();
                assert!(!gone.load(Ordering::SeqCst));
            }
            drop(reader);
        });
        assert!(gone.load(Ordering::SeqCst));
    }
}

#[test]
fn no_reader_sees_what_is_gone_while_writers_come_and_go() {
    const ROUNDS: usize = 30_000;
    let registry = registry();
    let permanent = Owner(AtomicU64::new(0x5000));
    let mut always = entry(0x5000, 0x6000);
    always.traps = ptr::from_ref(&permanent).cast();
    let _always = registry.register(always);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers =
            [0x1000, 0x9000].map(|start| scope.spawn(move || come_and_go(registry, start, ROUNDS)));
        for reader in 0..2 {
            let done = &done;
            scope.spawn(move || {
                let mut lookups = 0;
                while lookups < ROUNDS || !done.load(Ordering::Relaxed) {
                    look(registry, 0x1000 + lookups % 8);
                    look(registry, 0x9000 + (lookups + reader) % 8);
                    assert!(
                        look(registry, 0x5000),
                        "what nobody unregisters is always found"
                    );
                    assert!(!look(registry, 0x8fff));
                    lookups += 1;
                }
            });
        }
        let results = writers.map(|writer| writer.join());
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
    assert!(
        registry
            .lanes
            .iter()
            .all(|lane| lane.load(Ordering::SeqCst) == 0)
    );
}

static SIGNALS_SEEN: AtomicU64 = AtomicU64::new(0);
/// Not that of the process, which another test may be writing at the moment of the fork.
static INTERRUPTED: Registry = Registry::new();
const HERE: usize = 0x1000;

extern "C" fn look_up_in_handler(_: std::ffi::c_int) {
    SIGNALS_SEEN.fetch_add(1, Ordering::Relaxed);
    // Whether the range is registered at this moment is up to the interrupted writer; that the
    // answer comes is not.
    look(&INTERRUPTED, HERE);
}

#[test]
fn a_signal_handler_finds_its_way_whatever_it_interrupts() {
    let outcome = fork::run(|| {
        let handler = look_up_in_handler as *const () as usize;
        // SAFETY: the handler looks up, adds to a counter, and nothing else.
        unsafe { libc::signal(libc::SIGUSR1, handler) };
        // SAFETY: no arguments.
        let writer = unsafe { libc::pthread_self() };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the thread waits for this one, so it exists.
                    unsafe { libc::pthread_kill(writer, libc::SIGUSR1) };
                    thread::yield_now();
                }
            });
            while SIGNALS_SEEN.load(Ordering::Relaxed) < 300 {
                come_and_go(&INTERRUPTED, HERE, 10);
            }
            done.store(true, Ordering::Relaxed);
        });
        0
    });
    assert_eq!(outcome, Outcome::Exited(0));
}
