//! Faults of the host itself: they are never reported as a guest's and reach whoever handled them
//! before Selvedge came. Each case runs in a child process, which is this test program again.
//!
//! What is unsafe here is the misdeed itself: reading through a bad pointer, installing a handler.
#![allow(
    unsafe_code,
    reason = "only unsafe code can fault; see the file's head"
)]
#![allow(
    clippy::print_stdout,
    reason = "children tell their parent how it went"
)]

use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::ptr;

use rustix::process::{Signal, getpid, kill_process};
use selvedge::{InstanceHandle, RuntimeError, Vmctx};
use selvedge_tests::children;
use selvedge_tests::sandbox::{Sandbox, fault};

/// What a child prints when its host function's fault was reported as an error.
const REPORTED: &str = "the fault was reported as an error";
/// How a handler of ours ends the process.
const CHAINED: i32 = 42;

const CHILD: &str = "crash::child";

/// Runs a case in a child.
fn run(case: &str) -> Output {
    children::run(CHILD, case)
}

/// The child of a case dies of a signal and reports nothing.
fn check_dies(case: &str, signal: i32) {
    let output = children::check_dies(CHILD, case, signal);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains(REPORTED), "{case}: {text}");
}

/// The child of a case comes to its end.
fn check_ends(case: &str, code: i32) {
    children::check_ends(CHILD, case, code);
}

const SIGILL: i32 = 4;
const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

#[test]
fn a_null_dereference_in_a_host_function_kills_the_process() {
    check_dies("null", SIGSEGV);
}

#[test]
fn a_null_dereference_in_a_nested_host_function_kills_the_process() {
    check_dies("nested null", SIGSEGV);
}

#[test]
fn a_host_function_that_reads_beyond_the_guests_memory_kills_the_process() {
    check_dies("beyond memory", SIGSEGV);
}

#[test]
fn a_host_that_faults_after_a_guest_trapped_kills_the_process() {
    check_dies("after a trap", SIGSEGV);
}

#[test]
fn an_illegal_instruction_of_the_host_kills_the_process() {
    check_dies("illegal", SIGILL);
}

#[test]
fn a_host_function_that_exhausts_its_own_stack_is_told_so_by_rust() {
    let output = run("host overflow");
    assert_eq!(output.status.signal(), Some(SIGABRT), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("has overflowed its stack"), "{text}");
}

#[test]
fn a_signal_that_is_sent_to_the_process_kills_it() {
    check_dies("sent", SIGSEGV);
}

#[test]
fn a_handler_that_was_there_before_gets_the_hosts_faults() {
    check_ends("chained", CHAINED);
}

#[test]
fn a_handler_that_was_there_before_does_not_get_the_guests_faults() {
    check_ends("not chained", 0);
}

#[test]
fn a_fault_that_was_ignored_before_kills_the_process() {
    check_dies("ignored", SIGSEGV);
}

#[test]
fn the_trap_handler_can_be_removed_and_installed_again() {
    check_ends("removed", 0);
}

#[test]
fn without_the_trap_handler_a_trap_kills_the_process() {
    check_dies("trap without handler", SIGILL);
}

#[test]
fn the_trap_handler_stays_when_another_stands_above_it() {
    check_ends("handler above", 0);
}

/// Not a test of its own: the body of the children. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    match case.as_str() {
        "null" => in_host_function(|_| read_null()),
        "nested null" => in_host_function(|vmctx| {
            fault(vmctx.call_export("trap", &[]));
            if vmctx.call_export("nothing", &[]).is_ok() {
                read_null();
            }
        }),
        "beyond memory" => in_host_function(|vmctx| {
            let heap = vmctx.heap().unwrap();
            // SAFETY: none; this must fault.
            let byte = unsafe { heap.as_ptr().wrapping_add(heap.len()).read_volatile() };
            println!("read {byte}");
        }),
        "after a trap" => {
            fault(guest(|_| {}).run("trap", &[]));
            read_null();
        }
        "illegal" => in_host_function(|_| {
            // SAFETY: none; this must fault.
            unsafe { std::arch::asm!("ud2") }
        }),
        "host overflow" => in_host_function(|_| {
            println!("{}", recurse(1));
        }),
        "sent" => {
            // Rust's own handler passes over the first signal that is sent; without it there is none.
            install(libc::SIG_DFL);
            in_host_function(|_| kill_process(getpid(), Signal::SEGV).unwrap());
        }
        "chained" => {
            install(exiting_handler as *const () as usize);
            in_host_function(|_| read_null());
        }
        "not chained" => {
            install(exiting_handler as *const () as usize);
            let mut guest = guest(|_| {});
            for _ in 0..100 {
                fault(guest.run("trap", &[]));
                fault(guest.run("load", &[]));
                fault(guest.run("deep", &[]));
            }
        }
        "ignored" => {
            install(libc::SIG_IGN);
            in_host_function(|_| read_null());
        }
        "removed" => {
            fault(guest(|_| {}).run("trap", &[]));
            assert!(selvedge_runtime::Engine::remove_trap_handler().unwrap());
            assert!(
                selvedge_runtime::Engine::remove_trap_handler().unwrap(),
                "nothing is left to remove"
            );
            fault(guest(|_| {}).run("trap", &[]));
        }
        "trap without handler" => {
            let mut guest = guest(|_| {});
            assert!(selvedge_runtime::Engine::remove_trap_handler().unwrap());
            drop(guest.run("trap", &[]));
        }
        "handler above" => {
            let mut guest = guest(|_| {});
            install(exiting_handler as *const () as usize);
            assert!(!selvedge_runtime::Engine::remove_trap_handler().unwrap());
            // Ours is still there, below: the one above would have to pass faults on.
            install(libc::SIG_DFL);
            drop(guest.run("nothing", &[]));
        }
        other => panic!("there is no case {other:?}"),
    }
}

/// A guest with a host function `h.f`.
fn guest(func: impl Fn(&Vmctx<'_>) + Send + Sync + 'static) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox.instance(
        r#"(module (import "h" "f" (func $f)) (memory 1)
            (func (export "run") (call $f)) (func (export "nothing"))
            (func (export "trap") unreachable) (func (export "load") (drop (i32.load (i32.const 65536))))
            (func $deep (export "deep") (call $deep) (call $deep)))"#,
    )
}

/// Calls a host function from a guest, and tells if its misdeed came out as an error.
fn in_host_function(func: impl Fn(&Vmctx<'_>) + Send + Sync + 'static) {
    match guest(func).run("run", &[]) {
        Err(RuntimeError::RuntimeFault(_)) => println!("{REPORTED}"),
        other => println!("nothing happened: {other:?}"),
    }
}

fn read_null() {
    // SAFETY: none; this must fault.
    let value = unsafe { ptr::null::<u64>().wrapping_add(1).read_volatile() };
    println!("read {value}");
}

/// Needs more stack with each call, and can't be turned into a loop.
fn recurse(n: u64) -> u64 {
    let large = std::hint::black_box([n; 100]);
    if n == 0 {
        0
    } else {
        recurse(n + 1) + large[50]
    }
}

/// Installs a handler of SIGSEGV.
fn install(handler: usize) {
    // SAFETY: zero is a value of every field.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the disposition is whole, the former one is not asked for.
    let result = unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

extern "C" fn exiting_handler(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: may be called in a handler.
    unsafe { libc::_exit(CHAINED) }
}
