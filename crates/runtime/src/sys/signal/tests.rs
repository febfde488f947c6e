//! Tests of the handler. Each happens in a child, as dispositions belong to the whole process.

use super::*;
use crate::code::mapping::CodeMapping;
use crate::stack::Stack;
use crate::sys::fork::{self, Outcome};
use crate::sys::mmap::Reservation;
use crate::sys::page::page_len;
use crate::sys::sigstack;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize};

fn forward(_: &SignalInfo) -> Action {
    Action::Forward
}

/// Touches a page without access.
fn fault() {
    let page = Reservation::reserve(page_len()).unwrap();
    // SAFETY: none; the fault is what the test is about.
    unsafe { page.base().read_volatile() };
}

fn raise(signum: c_int) {
    // SAFETY: sends a signal to the calling thread.
    assert_eq!(unsafe { libc::raise(signum) }, 0);
}

fn exit(code: c_int) -> ! {
    // SAFETY: ends the child; nothing is owed to anybody in it.
    unsafe { libc::_exit(code) }
}

fn set(signum: c_int, address: usize, flags: c_int) {
    let mut disposition = default_disposition();
    disposition.sa_sigaction = address;
    disposition.sa_flags = flags;
    exchange(signum, Some(&disposition)).unwrap();
}

/// How a child ends that starts with `disposition` for all signals, installs `handler` and does
/// `body`.
fn ends(disposition: usize, handler: Handler, body: impl FnOnce()) -> Outcome {
    fork::run(|| {
        for signum in signals() {
            set(signum, disposition, 0);
        }
        install(handler).unwrap();
        body();
        0
    })
}

fn set_errno(value: c_int) {
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: every thread has an `errno`.
    unsafe { errno.write(value) };
}

/// Runs machine code as a function without arguments.
fn call(code: &CodeMapping) {
    // SAFETY: the code of these tests is a function without arguments, or faults.
    let function = unsafe { transmute::<*const u8, unsafe extern "C" fn()>(code.base()) };
    // SAFETY: as above.
    unsafe { function() };
}

const UD2: [u8; 2] = [0x0f, 0x0b];
/// `xor ecx, ecx; mov eax, 1; cdq; idiv ecx`
const DIVIDE_BY_ZERO: [u8; 10] = [0x31, 0xc9, 0xb8, 1, 0, 0, 0, 0x99, 0xf7, 0xf9];

#[test]
fn a_forwarded_fault_ends_the_process_as_it_would_have() {
    for disposition in [libc::SIG_DFL, libc::SIG_IGN] {
        assert_eq!(
            ends(disposition, forward, fault),
            Outcome::Killed(libc::SIGSEGV)
        );
        for (text, signum) in [
            (&UD2[..], libc::SIGILL),
            (&DIVIDE_BY_ZERO[..], libc::SIGFPE),
        ] {
            let outcome = ends(disposition, forward, || {
                call(&CodeMapping::from_bytes(text).unwrap())
            });
            assert_eq!(outcome, Outcome::Killed(signum));
        }
    }
}

#[test]
fn a_forwarded_fault_at_no_canonical_address_ends_the_process() {
    let outcome = ends(libc::SIG_DFL, forward, || {
        let address = ptr::with_exposed_provenance::<u8>(0x8000_0000_0000_0000);
        // SAFETY: none; the fault is what the test is about.
        unsafe { address.read_volatile() };
    });
    assert_eq!(outcome, Outcome::Killed(libc::SIGSEGV));
}

#[test]
fn a_sent_signal_ends_the_process_or_is_ignored_as_it_would_have_been() {
    for signum in signals() {
        // The interrupt signal is one that is ignored by default.
        let by_default = if signum == interrupt_signal() {
            Outcome::Exited(0)
        } else {
            Outcome::Killed(signum)
        };
        assert_eq!(ends(libc::SIG_DFL, forward, || raise(signum)), by_default);
        assert_eq!(
            ends(libc::SIG_IGN, forward, || raise(signum)),
            Outcome::Exited(0)
        );
    }
}

extern "C" fn exit_with_number(signum: c_int) {
    exit(40 + signum);
}

extern "C" fn exit_with_info(signum: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: called with SA_SIGINFO.
    let (pc, ..) = unsafe { regs::read(context.cast()) };
    // SAFETY: called with SA_SIGINFO.
    let told = unsafe { (*info).si_signo };
    exit(if told == signum && pc != 0 { 80 } else { 81 });
}

#[test]
fn a_handler_that_was_there_before_is_called_with_what_it_asked_for() {
    let with_number = exit_with_number as *const () as usize;
    assert_eq!(
        ends(with_number, forward, fault),
        Outcome::Exited(40 + libc::SIGSEGV)
    );
    assert_eq!(
        ends(with_number, forward, || raise(libc::SIGBUS)),
        Outcome::Exited(40 + libc::SIGBUS)
    );
    let outcome = fork::run(|| {
        set(
            libc::SIGSEGV,
            exit_with_info as *const () as usize,
            libc::SA_SIGINFO,
        );
        install(forward).unwrap();
        fault();
        0
    });
    assert_eq!(outcome, Outcome::Exited(80));
}

static CALLS: AtomicI32 = AtomicI32::new(0);

extern "C" fn observe_mask(signum: c_int) {
    let mut mask = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: a set to be filled; nothing is changed.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
    // SAFETY: filled above.
    let mask = unsafe { mask.assume_init() };
    let seen = has(&mask, libc::SIGUSR1) && !has(&mask, libc::SIGUSR2) && has(&mask, signum);
    CALLS.fetch_add(if seen { 1 } else { 100 }, Ordering::Relaxed);
    set_errno(77);
}

#[test]
fn a_chained_handler_sees_its_mask_and_the_interrupted_code_its_own_mask_and_errno() {
    let outcome = fork::run(|| {
        let mut disposition = default_disposition();
        disposition.sa_sigaction = observe_mask as *const () as usize;
        // SAFETY: a set of our own.
        unsafe { libc::sigaddset(&raw mut disposition.sa_mask, libc::SIGUSR1) };
        exchange(libc::SIGFPE, Some(&disposition)).unwrap();
        install(forward).unwrap();
        set_errno(5);
        raise(libc::SIGFPE);
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(5));
        raise(libc::SIGFPE);
        assert_eq!(CALLS.load(Ordering::Relaxed), 2);
        let mut mask = MaybeUninit::<sigset_t>::zeroed();
        // SAFETY: a set to be filled; nothing is changed.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr()) };
        // SAFETY: filled above.
        let mask = unsafe { mask.assume_init() };
        assert!(!has(&mask, libc::SIGUSR1) && !has(&mask, libc::SIGFPE));
        0
    });
    assert_eq!(outcome, Outcome::Exited(0));
}

extern "C" fn count(_: c_int) {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn a_handler_that_was_to_run_once_is_called_once() {
    let outcome = fork::run(|| {
        set(
            libc::SIGFPE,
            count as *const () as usize,
            libc::SA_RESETHAND,
        );
        install(forward).unwrap();
        raise(libc::SIGFPE);
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        raise(libc::SIGFPE);
        0
    });
    assert_eq!(outcome, Outcome::Killed(libc::SIGFPE));
}

#[test]
fn a_fault_tells_its_address_and_a_sent_signal_does_not() {
    static EXPECTED: AtomicUsize = AtomicUsize::new(0);
    fn handler(info: &SignalInfo) -> Action {
        let expected = EXPECTED.load(Ordering::Relaxed);
        let right = match info.signum {
            libc::SIGSEGV => info.fault_addr == Some(expected) && info.code > 0,
            _ => info.fault_addr.is_none() && info.code <= 0,
        };
        if !right || info.pc == 0 || info.sp == 0 {
            exit(90);
        }
        if info.signum == libc::SIGSEGV {
            exit(91)
        } else {
            Action::Forward
        }
    }
    let outcome = ends(libc::SIG_IGN, handler, || {
        raise(libc::SIGBUS);
        let page = Reservation::reserve(page_len()).unwrap();
        EXPECTED.store(page.addr() + 24, Ordering::Relaxed);
        let inside = page.base().wrapping_add(24);
        // SAFETY: none; the fault is what the test is about.
        unsafe { inside.read_volatile() };
    });
    assert_eq!(outcome, Outcome::Exited(91));
}

#[test]
fn an_illegal_instruction_tells_its_pc() {
    static EXPECTED: AtomicUsize = AtomicUsize::new(0);
    fn handler(info: &SignalInfo) -> Action {
        let right = info.signum == libc::SIGILL
            && info.pc == EXPECTED.load(Ordering::Relaxed)
            && info.fault_addr.is_none();
        exit(if right { 92 } else { 93 });
    }
    let outcome = ends(libc::SIG_DFL, handler, || {
        let code = CodeMapping::from_bytes(&UD2).unwrap();
        EXPECTED.store(code.range().start, Ordering::Relaxed);
        call(&code);
    });
    assert_eq!(outcome, Outcome::Exited(92));
}

/// What the handler of the next test goes by.
struct Plan {
    guest: Stack,
    host: Stack,
    endless_calls: CodeMapping,
}

static PLAN: OnceLock<Plan> = OnceLock::new();

#[test]
fn a_redirected_thread_goes_on_where_it_is_sent_and_overflow_is_caught_on_the_signal_stack() {
    fn handler(info: &SignalInfo) -> Action {
        let Some(plan) = PLAN.get() else { exit(94) };
        let (pc, sp, arg0) = match CALLS.fetch_add(1, Ordering::Relaxed) {
            // The first fault is the test's own. The guest calls itself until its stack is full.
            0 => (plan.endless_calls.range().start, plan.guest.top(), 0),
            // Then it struck in the guard, just below the limit, and there is no room left on its
            // stack.
            1 => {
                let struck = info
                    .fault_addr
                    .is_some_and(|addr| plan.guest.bounds().guard.contains(&addr));
                let full = info.sp == plan.guest.limit();
                let there = plan.endless_calls.range().contains(&info.pc);
                let landing = landing as *const () as usize;
                // As after a call: eight bytes below a multiple of sixteen.
                (
                    landing,
                    plan.host.top() - 8,
                    usize::from(struck && full && there),
                )
            }
            _ => exit(95),
        };
        Action::Redirect(Regs {
            pc,
            sp,
            arg0,
            arg1: 0,
            rbx: 0,
            rax: 0,
        })
    }
    extern "C" fn landing(right: usize) -> ! {
        exit(if right == 1 { 96 } else { 97 });
    }
    let outcome = ends(libc::SIG_DFL, handler, || {
        sigstack::ensure().unwrap();
        let plan = Plan {
            guest: Stack::new(1 << 20, 64 << 10).unwrap(),
            host: Stack::new(1 << 16, 64 << 10).unwrap(),
            endless_calls: CodeMapping::from_bytes(&[0xe8, 0xfb, 0xff, 0xff, 0xff]).unwrap(),
        };
        assert!(PLAN.set(plan).is_ok());
        fault();
    });
    assert_eq!(outcome, Outcome::Exited(96));
}

#[test]
fn installing_again_changes_nothing() {
    fn other(_: &SignalInfo) -> Action {
        exit(98);
    }
    let outcome = ends(exit_with_number as *const () as usize, forward, || {
        install(other).unwrap();
        install(forward).unwrap();
        fault();
    });
    assert_eq!(outcome, Outcome::Exited(40 + libc::SIGSEGV));
}

#[test]
fn uninstalling_restores_what_was_there_before() {
    let before = exit_with_number as *const () as usize;
    let outcome = ends(before, forward, || {
        assert!(uninstall().unwrap());
        assert!(uninstall().unwrap());
        for signum in signals() {
            assert_eq!(exchange(signum, None).unwrap().sa_sigaction, before);
        }
        install(forward).unwrap();
        assert!(
            signals()
                .into_iter()
                .all(|signum| is_ours(&exchange(signum, None).unwrap()))
        );
        fault();
    });
    assert_eq!(outcome, Outcome::Exited(40 + libc::SIGSEGV));
}

#[test]
fn a_handler_above_ours_keeps_ours_installed() {
    let outcome = ends(libc::SIG_DFL, forward, || {
        set(libc::SIGFPE, count as *const () as usize, 0);
        assert!(!uninstall().unwrap());
        assert!(is_ours(&exchange(libc::SIGSEGV, None).unwrap()));
        assert!(!is_ours(&exchange(libc::SIGFPE, None).unwrap()));
        raise(libc::SIGFPE);
        assert_eq!(CALLS.load(Ordering::Relaxed), 1);
        exchange(libc::SIGFPE, Some(&our_disposition(libc::SIGFPE))).unwrap();
        assert!(uninstall().unwrap());
    });
    assert_eq!(outcome, Outcome::Exited(0));
}

#[test]
fn our_own_handler_is_never_chained_to_itself() {
    let outcome = ends(exit_with_number as *const () as usize, forward, || {
        assert!(uninstall().unwrap());
        // Somebody who saved the dispositions while we were in them puts them back.
        set(libc::SIGSEGV, our_address(), libc::SA_SIGINFO);
        install(forward).unwrap();
        fault();
    });
    assert_eq!(outcome, Outcome::Exited(40 + libc::SIGSEGV));
}

#[test]
fn a_crash_in_the_handler_reaches_the_owner_before_us() {
    fn crash_once(_: &SignalInfo) -> Action {
        if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
            fault();
        }
        Action::Forward
    }
    let before = exit_with_number as *const () as usize;
    assert_eq!(
        ends(before, crash_once, fault),
        Outcome::Exited(40 + libc::SIGSEGV)
    );
}
