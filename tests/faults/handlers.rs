//! The public side of trap handling: catching, raising, an embedder's own handler, lengths of stacks.
//!
//! What is unsafe here: vouching for handlers, the system calls that they make, and the misdeeds that
//! they are shown.
#![allow(
    unsafe_code,
    reason = "an embedder's trap handler is unsafe to vouch for; see the file's head"
)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use selvedge::traphandlers::{self, TrapHandler, VMConfig, catch_traps};
use selvedge::{InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::children;
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32)))
    (memory 1)
    (func (export "call") (param i32) (call $f (local.get 0)))
    (func (export "store") (i32.store (i32.const 65536) (i32.const 7)))
    (func (export "trap") unreachable)
    (func $deep (export "deep") (call $deep) (call $deep))
    (func $down (export "down") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))))"#;

fn guest(func: impl Fn(&Vmctx<'_>, i32) + Send + Sync + 'static) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox.instance(GUEST)
}

#[test]
fn what_a_host_function_raises_is_what_it_could_have_returned() {
    let mut guest = guest(|_, n| match n {
        0 => traphandlers::raise_user_trap("no more"),
        1 => traphandlers::raise_lib_trap(TrapCode::NullReference),
        2 => traphandlers::resume_panic(Box::new(17_u8)),
        _ => {}
    });
    for _ in 0..100 {
        match guest.run("call", &[Val::I32(0)]) {
            Err(RuntimeError::HostFunction(error)) => assert_eq!(error.to_string(), "no more"),
            other => panic!("{other:?}"),
        }
        let trapped = fault(guest.run("call", &[Val::I32(1)]));
        assert_eq!(trapped.code, TrapCode::NullReference);
        assert_eq!(trapped.backtrace.frames.len(), 1);
        let payload = catch_unwind(AssertUnwindSafe(|| guest.run("call", &[Val::I32(2)])));
        assert_eq!(payload.unwrap_err().downcast_ref(), Some(&17_u8));
        guest.reset().unwrap();
        guest.run("call", &[Val::I32(3)]).unwrap();
    }
}

#[test]
fn what_is_raised_runs_the_destructors_of_the_host_and_passes_guests_one_by_one() {
    struct Count;
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    impl Drop for Count {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Relaxed);
        }
    }
    let mut guest = guest(|vmctx, n| {
        let _count = Count;
        if n == 0 {
            traphandlers::raise_user_trap("at the bottom");
        }
        if let Err(error) = vmctx.call_export("call", &[Val::I32(n - 1)]) {
            traphandlers::raise_user_trap(error);
        }
    });
    let error = guest.run("call", &[Val::I32(20)]).unwrap_err();
    assert_eq!(error.to_string(), "a host function failed: at the bottom");
    assert_eq!(DROPPED.load(Relaxed), 21);
}

#[test]
fn catch_traps_catches_what_is_raised_in_its_closure_and_gives_back_what_it_returns() {
    let config = VMConfig::new();
    assert_eq!(catch_traps(None, &config, || 5).unwrap(), 5);
    let error = catch_traps(None, &config, || traphandlers::raise_user_trap("no")).unwrap_err();
    assert!(matches!(error, RuntimeError::HostFunction(_)), "{error}");
    let trapped = fault(catch_traps(None, &config, || {
        traphandlers::raise_lib_trap(TrapCode::Unreachable)
    }));
    assert_eq!(trapped.code, TrapCode::Unreachable);
    let panic = catch_unwind(|| catch_traps(None, &VMConfig::new(), || panic!("a panic")));
    assert_eq!(panic.unwrap_err().downcast_ref(), Some(&"a panic"));
    let mut guest = guest(|_, _| {});
    let inner = catch_traps(None, &config, || fault(guest.run("trap", &[])).code);
    assert_eq!(inner.unwrap(), TrapCode::Unreachable);
}

#[test]
fn host_code_runs_on_the_hosts_stack() {
    let mut guest = guest(|vmctx, n| {
        let inside = traphandlers::on_host_stack(|| n + 1);
        assert_eq!(inside, n + 1);
        if n > 0 {
            vmctx.call_export("call", &[Val::I32(n - 1)]).unwrap();
        }
    });
    guest.run("call", &[Val::I32(5)]).unwrap();
}

/// The greatest depth that the guest's stack holds.
fn depth(guest: &mut InstanceHandle) -> i32 {
    let (mut fits, mut overflows) = (0, 1 << 20);
    while fits + 1 < overflows {
        let middle = (fits + overflows) / 2;
        match guest.run("down", &[Val::I32(middle)]) {
            Ok(_) => fits = middle,
            Err(error) => {
                assert_eq!(fault::<()>(Err(error)).code, TrapCode::StackOverflow);
                overflows = middle;
            }
        }
    }
    fits
}

#[test]
fn x_10_stacks_change_their_length_while_others_are_cached_and_in_use() {
    let mut guest = guest(|_, _| {});
    let mut at = |len: usize| {
        let config = VMConfig::new().with_stack_size(len);
        catch_traps(None, &config, || depth(&mut guest)).unwrap()
    };
    let page = 4096;
    let (small, large) = (at(64 << 10), at(1 << 20));
    assert!(large > 15 * small, "{small} {large}");
    for len in [64 << 10, 1 << 20, 64 << 10] {
        let expected = if len == 1 << 20 { large } else { small };
        assert_eq!(at(len), expected, "a length gives the same room each time");
        assert_eq!(at(len - 1), expected, "lengths are rounded up to a page");
    }
    assert!(at((64 << 10) + 1) > small);
    assert_eq!(at((64 << 10) + 1), at((64 << 10) + page));
    // Clamped, not refused.
    assert_eq!(at(0), at(16 << 10));
    // While a guest of one length waits, another of another length runs.
    let mut inner = self::guest(|_, _| {});
    let found = Cell::new(0);
    catch_traps(None, &VMConfig::new().with_stack_size(1 << 20), || {
        let config = VMConfig::new().with_stack_size(64 << 10);
        found.set(catch_traps(None, &config, || depth(&mut inner)).unwrap());
        assert_eq!(depth(&mut inner), large, "the outer length holds again");
    })
    .unwrap();
    assert_eq!(found.get(), small);
    traphandlers::drain_stack_pool();
    assert_eq!(at(64 << 10), small);
}

#[test]
fn the_default_length_is_clamped_and_reaches_later_limits() {
    children::check_ends("handlers::child", "default length", 0);
}

#[test]
fn x_07_a_custom_handler_that_mends_the_cause_lets_the_guest_go_on() {
    children::check_ends("handlers::child", "mends", 0);
}

#[test]
fn x_07_a_custom_handler_that_lies_is_asked_again_and_harms_nothing() {
    children::check_ends("handlers::child", "lies", 0);
}

#[test]
fn x_07_a_custom_handler_sees_the_faults_of_host_code() {
    children::check_ends("handlers::child", "host code", 0);
}

#[test]
fn x_07_a_custom_handler_that_faults_is_not_shown_its_own_fault() {
    children::check_dies("handlers::child", "handler faults", libc::SIGSEGV);
}

#[test]
fn a_custom_handler_is_asked_only_inside_its_scope() {
    children::check_ends("handlers::child", "scope", 0);
}

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// Runs with a handler that counts how often it is asked.
fn with_handler<R>(
    handler: impl Fn(&libc::siginfo_t, &mut libc::ucontext_t) -> bool + Send + Sync,
    run: impl FnOnce() -> R,
) -> R {
    let counting = |_: i32, info: *const libc::siginfo_t, context: *mut libc::ucontext_t| {
        ASKED.fetch_add(1, Relaxed);
        // SAFETY: both are the kernel's and valid during the call.
        unsafe { handler(&*info, &mut *context) }
    };
    // SAFETY: the handlers of this file touch atomics and make system calls.
    let vouched = unsafe { TrapHandler::new(&counting) };
    catch_traps(Some(vouched), &VMConfig::new(), run).unwrap()
}

/// Not a test of its own: the body of the children. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    let mut guest = guest(|_, _| skip_a_fault());
    match case.as_str() {
        "default length" => {
            assert_eq!(traphandlers::get_stack_size(), 1 << 20);
            for (asked, set) in [
                (0, 16 << 10),
                (usize::MAX, traphandlers::MAX_STACK_SIZE),
                (300_000, 300_000),
            ] {
                traphandlers::set_stack_size(asked);
                assert_eq!(traphandlers::get_stack_size(), set);
                assert_eq!(Limits::default().stack_len, set);
            }
            // An instance that is there already keeps what it was made with.
            assert_eq!(
                depth(&mut guest),
                depth(&mut self::guest_with_stack(1 << 20))
            );
        }
        "mends" => {
            let mend = |info: &libc::siginfo_t, _: &mut libc::ucontext_t| {
                // SAFETY: a fault of an access has an address; making its page accessible hurts nobody.
                unsafe {
                    let page = info.si_addr().map_addr(|addr| addr & !4095);
                    libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_WRITE) == 0
                }
            };
            with_handler(mend, || guest.run("store", &[]).unwrap());
            assert_eq!(ASKED.load(Relaxed), 1);
            // The same access needs no help any more; another kind of trap is still one.
            guest.run("store", &[]).unwrap();
            assert_eq!(fault(guest.run("trap", &[])).code, TrapCode::Unreachable);
        }
        "lies" => {
            let lie = |_: &libc::siginfo_t, _: &mut libc::ucontext_t| {
                !ASKED.load(Relaxed).is_multiple_of(1000)
            };
            for name in ["store", "trap", "deep"] {
                with_handler(lie, || fault(guest.run(name, &[])));
            }
            assert_eq!(ASKED.load(Relaxed), 3000);
            assert_eq!(returned_i32(guest.run("down", &[Val::I32(3)])), 3);
        }
        "host code" => {
            // The instruction that reads null is two bytes long.
            let skip = |_: &libc::siginfo_t, context: &mut libc::ucontext_t| {
                context.uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
                true
            };
            with_handler(skip, || guest.run("call", &[Val::I32(0)]).unwrap());
            with_handler(skip, skip_a_fault);
            assert_eq!(ASKED.load(Relaxed), 2);
        }
        "handler faults" => {
            let faulty = |_: &libc::siginfo_t, _: &mut libc::ucontext_t| {
                skip_a_fault();
                true
            };
            with_handler(faulty, || fault(guest.run("trap", &[])));
        }
        "scope" => {
            let no = |_: &libc::siginfo_t, _: &mut libc::ucontext_t| false;
            fault(guest.run("trap", &[]));
            assert_eq!(ASKED.load(Relaxed), 0);
            with_handler(no, || {
                with_handler(no, || fault(guest.run("trap", &[])));
                assert_eq!(ASKED.load(Relaxed), 1, "the innermost alone is asked");
                fault(guest.run("store", &[]));
                std::thread::scope(|scope| {
                    scope.spawn(|| fault(self::guest(|_, _| {}).run("trap", &[])));
                });
                assert_eq!(ASKED.load(Relaxed), 2, "other threads are not its business");
            });
            let unwound = catch_unwind(AssertUnwindSafe(|| with_handler(no, || panic!("out"))));
            assert!(unwound.is_err());
            fault(guest.run("trap", &[]));
            assert_eq!(ASKED.load(Relaxed), 2);
        }
        other => panic!("there is no case {other:?}"),
    }
}

fn guest_with_stack(len: usize) -> InstanceHandle {
    let mut limits = Limits::default();
    limits.stack_len = len;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, _: i32| {})
        .unwrap();
    sandbox.instance(GUEST)
}

/// Reads null, in an instruction of two bytes (`mov eax, [rax]`).
fn skip_a_fault() {
    // SAFETY: none; this must fault, unless a handler moves on.
    unsafe { std::arch::asm!("mov eax, [rax]", inout("rax") 0_usize => _) }
}
