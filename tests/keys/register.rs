//! The register that says which keys a thread may use: what hosts and guests have in it, on every way in and out.
//!
//! What is unsafe here: to read and write the register, to get a key, to give memory to the kernel by its address, and to
//! fork.
#![allow(
    unsafe_code,
    reason = "the register has no safe form; see the file's head"
)]

use std::arch::asm;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use selvedge::{InstanceHandle, Val};
use selvedge_tests::children;
use selvedge_tests::sandbox::{fault, returned_i32};

use crate::guests::{self, OWN, WAYS, base, check_way};
use crate::pages::mappings;

/// The register of this thread. There must be keys.
fn read() -> u32 {
    let value: u32;
    // SAFETY: the tests ask for a region with keys first, so the processor has the register.
    unsafe {
        asm!("rdpkru", out("eax") value, in("ecx") 0, out("edx") _, options(nostack));
    }
    value
}

fn write(value: u32) {
    // SAFETY: as above; key 0 stays as it is.
    unsafe {
        asm!("wrpkru", in("eax") value, in("ecx") 0, in("edx") 0, options(nostack));
    }
}

/// What a thread that began before there were keys has.
const NEW: u32 = 0x5555_5554;

/// Whether the kernel gets at a byte for this thread, to read it and to write it as it is. It is asked to copy, so
/// that nothing is raised.
fn reaches(addr: usize) -> (bool, bool) {
    let (out, input) = std::io::pipe().unwrap();
    // SAFETY: the kernel checks the address, and answers with an error if it can't be read.
    let read = unsafe { libc::write(input.as_raw_fd(), addr as *const _, 1) } == 1;
    if !read {
        let byte = [0u8];
        // SAFETY: a byte of ours.
        let written = unsafe { libc::write(input.as_raw_fd(), byte.as_ptr().cast(), 1) };
        assert_eq!(written, 1);
    }
    // SAFETY: as for the read. The byte is the one that was there; where it could not be read, it can't be written either.
    let written = unsafe { libc::read(out.as_raw_fd(), addr as *mut _, 1) } == 1;
    (read, written)
}

/// Runs a body with another value of the register.
fn with<R>(value: u32, body: impl FnOnce() -> R) -> R {
    let before = read();
    write(value);
    let result = body();
    write(before);
    result
}

/// The key of a page.
fn key_of(addr: usize) -> u32 {
    let found = mappings();
    let mapping = found.iter().find(|(range, ..)| range.contains(&addr));
    mapping.expect("it is mapped").2
}

/// Addresses of a slot that are mapped, and whether they can be written: context, globals, memory.
fn places(base: usize) -> Vec<(usize, bool)> {
    let found = mappings();
    let mut places = vec![(base, true), (base + 65_535, true), (base - 8, false)];
    let read_only = found.iter().find(|(range, ..)| range.end == base).unwrap();
    places.extend([(read_only.0.start, false), (read_only.0.start - 8, true)]);
    places
}

#[test]
fn with_a_guests_register_nothing_of_other_slots_is_to_be_had_above_or_below() {
    let Some(sandbox) = guests::sandbox(20) else {
        return;
    };
    let street = guests::street(&sandbox, 20);
    let bases: Vec<usize> = street.iter().map(base).collect();
    let all: Vec<Vec<(usize, bool)>> = bases.iter().map(|&base| places(base)).collect();
    for &own in &bases {
        let reach = own - (2 << 30)..own + (6 << 30);
        let key = key_of(own);
        let told: Vec<(usize, usize, bool, (bool, bool))> = with(!(3 | 3 << (2 * key)), || {
            let slots = bases.iter().zip(&all);
            slots
                .flat_map(|(&base, places)| {
                    places
                        .iter()
                        .map(move |&(addr, writable)| (base, addr, writable, reaches(addr)))
                })
                .collect()
        });
        let mut refused = 0;
        for (base, addr, writable, reached) in told {
            if base == own {
                assert_eq!(reached, (true, writable), "{addr:x} of {base:x}");
            } else if reach.contains(&addr) {
                assert_eq!(reached, (false, false), "{addr:x} of {base:x} from {own:x}");
                refused += 1;
            } else if key_of(base) == key {
                // It could be used, but is too far away.
                assert!(reached.0);
            }
        }
        assert!(refused > 10);
    }
}

/// Checks that the host's register is the same before, inside and behind a run.
#[derive(Clone, Default)]
struct Watch {
    expected: Arc<AtomicU32>,
    looked: Arc<AtomicU32>,
}

impl Watch {
    fn look(&self) {
        assert_eq!(read(), self.expected.load(Relaxed));
        self.looked.fetch_add(1, Relaxed);
    }

    /// Runs something on this thread, whose register it takes for what is right.
    #[track_caller]
    fn over<R>(&self, body: impl FnOnce() -> R) -> R {
        self.expected.store(read(), Relaxed);
        let result = body();
        assert_eq!(read(), self.expected.load(Relaxed));
        result
    }
}

/// Bits of a key that is not the runtime's, in a process of its own in which the runtime has not all of them.
fn foreign_bits() -> u32 {
    // SAFETY: no pointers.
    let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
    3 << (2 * u32::try_from(key).expect("not all keys are taken"))
}

#[test]
fn the_host_has_its_register_in_host_functions_and_behind_every_run() {
    if guests::sandbox(1).is_some() {
        children::check_ends("register::child", "kept", 0);
    }
}

fn kept() {
    let watch = Watch::default();
    let look = watch.clone();
    let sandbox = guests::sandbox_with(2, 4, move || look.look()).unwrap();
    let mut street = guests::street(&sandbox, 2);
    let guest = &mut street[0];
    guest.set_catch_panics(true);
    let zero = [Val::I32(0)];
    let foreign = foreign_bits();
    for others in [0, foreign & 0x5555_5555, foreign & 0xaaaa_aaaa, foreign] {
        write(others);
        for way in WAYS {
            watch.over(|| assert_eq!(returned_i32(guest.run(way, &zero)), OWN));
        }
        for ending in ["fails", "panics", "throws", "traps", "deep"] {
            watch.over(|| assert!(guest.run(ending, &zero).is_err()));
            watch.over(|| guest.reset().unwrap());
        }
        for way in ["yields", "waits"] {
            watch.over(|| assert!(guest.run(way, &zero).unwrap().is_yielded()));
            watch.over(|| assert_eq!(returned_i32(guest.resume()), OWN));
        }
        let switch = guest.kill_switch();
        let killer = thread::spawn(move || switch.terminate());
        watch.over(|| assert!(guest.run("for_ever", &zero).is_err()));
        assert!(killer.join().unwrap().is_ok());
        guest.reset().unwrap();
        let slice = Duration::from_micros(100);
        let mut result = watch.over(|| guest.run_for(slice, "spins", &zero));
        for _ in 0..10 {
            if matches!(&result, Ok(result) if result.is_preempted()) {
                result = watch.over(|| guest.resume_for(slice));
            }
        }
        if guest.is_preempted() {
            result = watch.over(|| guest.resume());
        }
        assert_eq!(returned_i32(result), OWN);
        assert_eq!(read(), others);
    }
    assert!(watch.looked.load(Relaxed) > 20);
}

#[test]
fn a_host_function_may_change_the_register_for_good() {
    if guests::sandbox(1).is_some() {
        children::check_ends("register::child", "changed", 0);
    }
}

fn changed() {
    let bits = Arc::new(AtomicU32::new(0));
    let change = bits.clone();
    // What a library does that lets its thread use a key of its own, or not.
    let change = move || write(read() ^ change.load(Relaxed));
    let sandbox = guests::sandbox_with(2, 4, change).unwrap();
    let mut street = guests::street(&sandbox, 2);
    let distance = (base(&street[1]) - base(&street[0])) as i32;
    let foreign = foreign_bits();
    bits.store(foreign, Relaxed);
    for way in ["seen", "many", "catches", "indirect"] {
        write(0);
        let guest = &mut street[0];
        let mut runs = 0;
        check_way(way, distance, |way, at| {
            guest.reset().unwrap();
            let result = guest.run(way, &[Val::I32(at)]);
            runs += 1;
            let expected = if runs % 2 == 1 { foreign } else { 0 };
            assert_eq!(read(), expected, "{way}");
            result
        });
    }
}

#[test]
fn threads_that_can_use_no_key_are_let_use_those_of_guests_when_they_need_them() {
    let Some(sandbox) = guests::sandbox(4) else {
        return;
    };
    let program = sandbox.program(guests::GUEST);
    let make = || sandbox.region.new_instance(&program).unwrap();
    let new = |body: &(dyn Fn() + Sync)| {
        thread::scope(|scope| {
            scope.spawn(|| {
                write(NEW);
                body();
                // Keys that are not the runtime's are as they were.
                assert_eq!(read() & 3, 0);
            });
        });
    };
    new(&|| drop(make()));
    new(&|| {
        let mut guest = make();
        write(NEW);
        assert_eq!(returned_i32(guest.run("seen", &[Val::I32(0)])), OWN);
        write(NEW);
        assert_eq!(guest.heap().unwrap()[0], 1);
        write(NEW);
        guest.heap_mut().unwrap()[0] = 9;
        write(NEW);
        guest.reset().unwrap();
        write(NEW);
        assert_eq!(guest.fork().unwrap().heap().unwrap()[0], 1);
        write(NEW);
        assert!(guest.snapshot().is_ok());
        write(NEW);
        guest.grow_memory(2).unwrap();
        write(NEW);
        assert!(guest.run("traps", &[Val::I32(0)]).is_err());
        write(NEW);
        drop(guest);
        write(NEW);
        assert_eq!(make().heap().unwrap()[0], 1);
    });
    // A slice that was lent to a thread: the handler of SIGSEGV finds it.
    let mut guest = make();
    let heap = guest.heap().unwrap();
    let bytes: &[u8] = &heap;
    new(&|| {
        write(NEW);
        assert_eq!(bytes[..4], OWN.to_le_bytes());
        assert_eq!(read() & 3 << (2 * key_of(bytes.as_ptr().addr())), 0);
    });
    drop(heap);
    let mut heap = guest.heap_mut().unwrap();
    let (left, right) = heap.split_at_mut(30_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            write(NEW);
            left.fill(5);
        });
        write(NEW);
        right.fill(6);
    });
    drop(heap);
    assert_eq!(
        returned_i32(guest.run("load", &[Val::I32(29_998)])),
        0x0606_0505
    );
}

#[test]
fn a_guest_is_refused_what_its_thread_could_use() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let mut street = guests::street(&sandbox, 2);
    let distance = (base(&street[1]) - base(&street[0])) as i32;
    // Whatever the host may do.
    for register in [0, NEW] {
        write(register);
        let guest = &mut street[0];
        let told = fault(guest.run("load", &[Val::I32(distance)]));
        assert_eq!(told.code, selvedge::TrapCode::HeapOutOfBounds);
        guest.reset().unwrap();
    }
    write(0);
}

#[test]
fn parent_and_child_of_a_fork_go_on_with_their_keys() {
    if guests::sandbox(1).is_some() {
        children::check_ends("register::child", "fork", 0);
    }
}

/// In a process of its own, which has no other threads.
#[test]
fn child() {
    match children::case().as_deref() {
        Some("fork") => fork(),
        Some("kept") => kept(),
        Some("changed") => changed(),
        _ => {}
    }
}

fn fork() {
    let sandbox = guests::sandbox(3).unwrap();
    let mut street = guests::street(&sandbox, 2);
    let distance = (base(&street[1]) - base(&street[0])) as i32;
    let mut waiting = sandbox
        .region
        .new_instance(&sandbox.program(guests::GUEST))
        .unwrap();
    assert!(waiting.run("yields", &[Val::I32(0)]).unwrap().is_yielded());
    let check = |street: &mut [InstanceHandle]| {
        for way in WAYS {
            let guest = &mut street[0];
            check_way(way, distance, |way, at| {
                guest.reset().unwrap();
                guest.run(way, &[Val::I32(at)])
            });
        }
    };
    // SAFETY: the harness waits for this thread, and no other one has a lock that the child takes.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    check(&mut street);
    assert_eq!(returned_i32(waiting.resume()), OWN);
    if pid == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(7) };
    }
    let mut status = 0;
    // SAFETY: a status to be filled.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    assert!(
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7,
        "{status:#x}"
    );
}
