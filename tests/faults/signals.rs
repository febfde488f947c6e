//! Signals of others around guests: handlers before ours, storms, probes, and what the system refuses.
//!
//! What is unsafe here: installing handlers, sending signals, and patching a guest's code.
#![allow(
    unsafe_code,
    reason = "foreign handlers and signals need it; see the file's head"
)]
#![allow(
    clippy::print_stdout,
    reason = "children tell their parent how it went"
)]

use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use selvedge::traphandlers::{TrapHandler, VMConfig, catch_traps};
use selvedge::{InstanceHandle, Limits, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::children;
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};
use selvedge_tests::threads::WhenDone;

const CHILD: &str = "signals::child";
const SIGSEGV: i32 = libc::SIGSEGV;

/// What host code reads to fault.
const WILD: usize = 8;

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32)))
    (memory 1)
    (func (export "call") (param i32) (call $f (local.get 0)))
    (func (export "load") (result i32) (i32.load (i32.const 65536)))
    (func (export "trap") unreachable)
    (func $deep (export "deep") (call $deep) (call $deep))
    (func $down (export "down") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))))"#;

fn guest(stack: usize, func: impl Fn(&Vmctx<'_>, i32) + Send + Sync + 'static) -> InstanceHandle {
    let mut limits = Limits::default();
    limits.stack_len = stack;
    let mut sandbox = Sandbox::with(1, &limits);
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox.instance(GUEST)
}

#[test]
fn x_03_host_faults_reach_the_handler_before_ours_with_their_own_facts() {
    for custom in ["", " custom"] {
        for depth in [1, 2] {
            for (previous, code) in [("one", 41), ("three", 42)] {
                children::check_ends(CHILD, &format!("{previous} {depth}{custom}"), code);
            }
            for previous in ["default", "ignore"] {
                children::check_dies(CHILD, &format!("{previous} {depth}{custom}"), SIGSEGV);
            }
            // The handler returns, the fault comes again, and this time nobody handles it.
            let output = children::check_dies(CHILD, &format!("once {depth}{custom}"), SIGSEGV);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(text.matches("handled once").count(), 1, "{text}");
        }
    }
}

#[test]
fn x_04_a_guest_that_reaches_a_wild_address_ends_the_process() {
    children::check_dies(CHILD, "wild", SIGSEGV);
}

#[test]
fn x_08_storms_of_signals_with_handlers_on_the_signal_stack() {
    children::check_ends(CHILD, "storm onstack", 0);
}

#[test]
fn x_08_storms_of_signals_with_handlers_on_the_guests_stack() {
    children::check_ends(CHILD, "storm", 0);
}

#[test]
fn x_11_what_the_system_refuses_on_the_way_to_a_guest_is_an_error() {
    children::check_ends(CHILD, "no memory", 0);
}

#[test]
fn x_27_a_profiler_that_probes_memory_by_faulting_works_beside_guests() {
    for order in ["probe before", "probe above"] {
        children::check_ends(CHILD, order, 0);
    }
}

#[test]
fn a_fault_on_another_thread_is_not_the_guests_while_one_runs() {
    children::check_ends(CHILD, "other thread three", 42);
    children::check_dies(CHILD, "other thread default", SIGSEGV);
}

/// Not a test of its own: the body of the children. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    match case.as_str() {
        "wild" => wild(),
        "no memory" => no_memory(),
        "storm" => storm(0),
        "storm onstack" => storm(libc::SA_ONSTACK),
        "probe before" => probe(true),
        "probe above" => probe(false),
        case if case.starts_with("other thread ") => {
            install_previous(&case["other thread ".len()..]);
            other_thread();
        }
        case => {
            let mut words = case.split(' ');
            install_previous(words.next().unwrap());
            let depth: i32 = words.next().unwrap().parse().unwrap();
            fault_in_host(depth, words.next().is_some());
        }
    }
}

fn install(signum: i32, handler: usize, flags: i32) {
    // SAFETY: zero is a value of every field.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the disposition is whole, the former one is not asked for.
    let result = unsafe { libc::sigaction(signum, &raw const action, ptr::null_mut()) };
    assert_eq!(result, 0);
}

fn install_previous(kind: &str) {
    let on_stack = libc::SA_ONSTACK;
    match kind {
        "default" => install(SIGSEGV, libc::SIG_DFL, 0),
        "ignore" => install(SIGSEGV, libc::SIG_IGN, 0),
        "one" => install(SIGSEGV, one as *const () as usize, on_stack),
        "three" => install(
            SIGSEGV,
            three as *const () as usize,
            on_stack | libc::SA_SIGINFO,
        ),
        "once" => install(
            SIGSEGV,
            once as *const () as usize,
            on_stack | libc::SA_RESETHAND,
        ),
        other => panic!("{other}"),
    }
}

extern "C" fn one(signum: i32) {
    let code = if signum == SIGSEGV { 41 } else { 1 };
    // SAFETY: may be called in a handler.
    unsafe { libc::_exit(code) }
}

extern "C" fn three(signum: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: both are what the kernel gave.
    let (addr, code, pc) = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        let pc = context.uc_mcontext.gregs[libc::REG_RIP as usize];
        ((*info).si_addr().addr(), (*info).si_code, pc)
    };
    // SEGV_MAPERR is 1.
    let as_raised = signum == SIGSEGV && addr == WILD && code == 1 && pc != 0;
    // SAFETY: may be called in a handler.
    unsafe { libc::_exit(if as_raised { 42 } else { 1 }) }
}

extern "C" fn once(_: i32) {
    let text = b"handled once\n";
    // SAFETY: may be called in a handler; the text is there.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

fn read_wild() {
    // SAFETY: none; this must fault.
    let value = unsafe { ptr::with_exposed_provenance::<u8>(WILD).read_volatile() };
    println!("read {value}");
}

/// Faults in a host function at a depth of entries.
fn fault_in_host(depth: i32, custom: bool) {
    let mut guest = guest(1 << 20, move |vmctx, n| {
        if n == 1 {
            read_wild();
        }
        vmctx.call_export("call", &[Val::I32(n - 1)]).unwrap();
    });
    let mut run = || guest.run("call", &[Val::I32(depth)]).map(drop);
    if !custom {
        panic!("{:?}", run());
    }
    let declines = |_: i32, _: *const libc::siginfo_t, _: *mut libc::ucontext_t| false;
    // SAFETY: a handler that does nothing.
    let handler = unsafe { TrapHandler::new(&declines) };
    panic!("{:?}", catch_traps(Some(handler), &VMConfig::new(), run));
}

/// Patches a load of the guest, which may trap, to one of an address that is nobody's.
fn wild() {
    static PC: AtomicUsize = AtomicUsize::new(0);
    let mut guest = guest(1 << 20, |_, _| {});
    let note = |_: i32, _: *const libc::siginfo_t, context: *mut libc::ucontext_t| {
        // SAFETY: the kernel's context, during the call.
        let pc = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
        PC.store(pc as usize, Relaxed);
        false
    };
    // SAFETY: the handler reads and stores a word.
    let handler = unsafe { TrapHandler::new(&note) };
    let load = || fault(guest.run("load", &[])).code;
    let code = catch_traps(Some(handler), &VMConfig::new(), load).unwrap();
    assert_eq!(code, TrapCode::HeapOutOfBounds);
    // `mov eax, [0x123456789000]`: the opcode and an address of eight bytes.
    let mut instruction = vec![0xa1];
    instruction.extend(0x1234_5678_9000_u64.to_le_bytes());
    let memory = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .unwrap();
    memory
        .write_all_at(&instruction, PC.load(Relaxed) as u64)
        .unwrap();
    println!("{:?}", guest.run("load", &[]));
}

/// A fault on another thread while a guest waits in a host function.
fn other_thread() {
    let mut guest = guest(1 << 20, |_, _| {
        thread::spawn(read_wild).join().unwrap();
    });
    println!("{:?}", guest.run("call", &[Val::I32(0)]));
}

static CAUGHT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    CAUGHT.fetch_add(1, Relaxed);
}

/// Guests run up to and over the end of a small stack while signals of several kinds keep coming.
fn storm(flags: i32) {
    const SIGNALS: [i32; 4] = [libc::SIGALRM, libc::SIGPROF, libc::SIGCHLD, libc::SIGUSR2];
    for signum in SIGNALS {
        install(
            signum,
            count as *const () as usize,
            flags | libc::SA_RESTART,
        );
    }
    let mut guest = guest(16 << 10, |_, _| {});
    // From its first guest on the thread has a signal stack with room for them all. The one that it comes
    // with holds two frames; the kernel ends a process in which a third arrives meanwhile.
    assert_eq!(returned_i32(guest.run("down", &[Val::I32(1)])), 1);
    let done = AtomicBool::new(false);
    // SAFETY: no arguments.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                // A signal of the C library's own, for all threads, when the group is set.
                // SAFETY: no pointers; the group stays what it is.
                unsafe { libc::setgid(libc::getgid()) };
                for signum in SIGNALS {
                    // SAFETY: the thread waits for this one, so it is there.
                    unsafe { libc::pthread_kill(target, signum) };
                }
                thread::yield_now();
            }
        });
        let _done = WhenDone(&done);
        let mut deepest = 0;
        for round in 0.. {
            if CAUGHT.load(Relaxed) > 1_000 && round > 1_250 {
                break;
            }
            let depth = round % 1_200;
            match guest.run("down", &[Val::I32(depth)]) {
                Ok(result) => {
                    assert_eq!(i32::from(result.unwrap_returned()), depth);
                    deepest = deepest.max(depth);
                }
                Err(error) => {
                    let fault = fault::<()>(Err(error));
                    assert_eq!(fault.code, TrapCode::StackOverflow, "{fault}");
                }
            }
            assert_eq!(fault(guest.run("deep", &[])).code, TrapCode::StackOverflow);
            assert_eq!(fault(guest.run("trap", &[])).code, TrapCode::Unreachable);
            let outside = fault(guest.run("load", &[]));
            // Where the frame of a signal finds no room it is an overflow; there is room here.
            assert_eq!(outside.code, TrapCode::HeapOutOfBounds);
        }
        assert!(deepest >= 100, "{deepest}");
    });
    // What the handlers were lent is not the guest's to keep.
    let fault = fault(guest.run("down", &[Val::I32(1_199)]));
    assert_eq!(fault.code, TrapCode::StackOverflow, "{fault}");
}

/// The system has no more memory: for the signal stack, for the guest's, and then it has.
fn no_memory() {
    let mut guest = guest(8 << 20, |_, _| {});
    let used = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        pages * 4096
    };
    let limit = |len: Option<u64>| {
        let limit = libc::rlimit {
            rlim_cur: len.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: libc::RLIM_INFINITY,
        };
        // SAFETY: a limit to be read.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) };
        assert_eq!(set, 0);
    };
    // A new thread has neither stack yet.
    thread::scope(|scope| {
        let checked = scope.spawn(|| {
            let refused = |guest: &mut InstanceHandle, what: &str| {
                for _ in 0..10 {
                    match guest.run("trap", &[]) {
                        Err(RuntimeError::System { what: found, .. }) => assert_eq!(found, what),
                        other => panic!("{other:?}"),
                    }
                }
            };
            limit(Some(used()));
            refused(&mut guest, "make a signal stack");
            limit(Some(used() + (2 << 20)));
            refused(&mut guest, "map a guest stack");
            limit(None);
            assert_eq!(fault(guest.run("trap", &[])).code, TrapCode::Unreachable);
            assert_eq!(returned_i32(guest.run("down", &[Val::I32(9)])), 9);
        });
        checked.join().unwrap();
    });
}

/// Where a probe reads; its handler moves on behind the instruction of two bytes.
static PROBED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn skip_probe(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: both are what the kernel gave.
    unsafe {
        if (*info).si_addr().addr() != WILD {
            libc::_exit(9);
        }
        (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] += 2;
    }
    PROBED.fetch_add(1, Relaxed);
}

/// What stood before the probing handler, when it is installed above ours.
static BELOW: AtomicUsize = AtomicUsize::new(0);

extern "C" fn skip_or_pass_on(signum: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: what the kernel gave.
    if unsafe { (*info).si_addr() }.addr() == WILD {
        return skip_probe(signum, info, context);
    }
    type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
    // SAFETY: the address of the handler that was there, which takes three arguments.
    let below = unsafe { std::mem::transmute::<usize, Handler>(BELOW.load(Relaxed)) };
    below(signum, info, context);
}

/// A profiler's thread reads where it may not and recovers, while guests trap.
fn probe(before: bool) {
    let flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    if before {
        install(SIGSEGV, skip_probe as *const () as usize, flags);
    }
    let mut guest = guest(1 << 20, |_, _| probe_once());
    if !before {
        // SAFETY: zero is a value of every field; a query.
        let current = unsafe {
            let mut current: libc::sigaction = std::mem::zeroed();
            libc::sigaction(SIGSEGV, ptr::null(), &raw mut current);
            current
        };
        BELOW.store(current.sa_sigaction, Relaxed);
        install(
            SIGSEGV,
            skip_or_pass_on as *const () as usize,
            flags | libc::SA_NODEFER,
        );
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let profiler = scope.spawn(|| {
            let mut probes = 0;
            while !done.load(Relaxed) || probes < 1_000 {
                probe_once();
                probes += 1;
            }
            probes
        });
        let over = WhenDone(&done);
        for _ in 0..1_000 {
            assert_eq!(
                fault(guest.run("load", &[])).code,
                TrapCode::HeapOutOfBounds
            );
            assert_eq!(fault(guest.run("deep", &[])).code, TrapCode::StackOverflow);
            assert_eq!(fault(guest.run("trap", &[])).code, TrapCode::Unreachable);
            // In a host function, too.
            guest.run("call", &[Val::I32(0)]).unwrap();
        }
        drop(over);
        assert_eq!(profiler.join().unwrap() + 1_000, PROBED.load(Relaxed));
    });
}

/// Reads where nothing is, in an instruction of two bytes (`mov eax, [rax]`).
fn probe_once() {
    // SAFETY: none; this must fault, and a handler moves on.
    unsafe { std::arch::asm!("mov eax, [rax]", inout("rax") WILD => _) }
}
