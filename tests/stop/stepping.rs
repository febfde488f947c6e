//! A thread that takes one instruction at a time, and does something between two of them.
//!
//! ```text
//!  trap flag set --> instruction --> SIGTRAP --> count --> instruction --> SIGTRAP --> act, and flag cleared --> ...
//! ```
//!
//! What `act` does happens as if another thread had done all of it between two instructions of this one. That is
//! how a race is decided here: not by luck but by a number. A signal that `act` sends to the thread itself is
//! delivered at that very instruction, or so many instructions later as is asked for.
//!
//! What is unsafe here: a signal handler, the flags register, the mask of signals.
#![allow(
    unsafe_code,
    reason = "single-stepping needs a signal handler; see the file's head"
)]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;

/// The trap flag: a trap after every instruction.
const TRAP: i64 = 1 << 8;

/// How far the host's stack reaches below the frame of [`Stepper::run`]; what is further away is a guest's.
const HOST_STACK: u64 = 1 << 20;

/// When to act.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Before which instruction, from 1. One that does not come is none.
    pub(crate) at: u64,
    /// How many instructions later signals are let through.
    pub(crate) delay: u64,
    /// Whether only instructions on a guest's stack count.
    pub(crate) on_guest_stack: bool,
}

struct Stepper<'a> {
    plan: Plan,
    act: &'a dyn Fn(),
    /// An address in the frame of the host.
    anchor: u64,
    taken: Cell<u64>,
    since: Cell<Option<u64>>,
}

thread_local! {
    /// Who is shown every instruction.
    static WATCHER: Cell<Option<&'static dyn Fn(u64)>> = const { Cell::new(None) };
    static STEPPER: Cell<*const Stepper<'static>> = const { Cell::new(ptr::null()) };
}

/// The signals that stepping holds back: all but those that an instruction raises.
fn held_back() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a set to be filled, and then one that is.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for signum in [
            libc::SIGTRAP,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGILL,
            libc::SIGFPE,
        ] {
            libc::sigdelset(set.as_mut_ptr(), signum);
        }
        set.assume_init()
    }
}

extern "C" fn trapped(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel's context, during the call.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    if let Some(see) = WATCHER.get() {
        see(context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned());
        return;
    }
    // SAFETY: published by `step` on this thread, which has not returned.
    let stepper = unsafe { STEPPER.get().as_ref() };
    let sp = context.uc_mcontext.gregs[libc::REG_RSP as usize].cast_unsigned();
    let flags = &mut context.uc_mcontext.gregs[libc::REG_EFL as usize];
    let Some(stepper) = stepper else {
        *flags &= !TRAP;
        return;
    };
    let plan = stepper.plan;
    if let Some(since) = stepper.since.get() {
        stepper.since.set(Some(since + 1));
        if since + 1 == plan.delay {
            *flags &= !TRAP;
            // SAFETY: zero is a value of a set; only the kernel's part of it is read.
            unsafe { libc::sigemptyset(&raw mut context.uc_sigmask) };
        }
        return;
    }
    if plan.on_guest_stack && stepper.anchor.abs_diff(sp) < HOST_STACK {
        return;
    }
    stepper.taken.set(stepper.taken.get() + 1);
    if stepper.taken.get() == plan.at {
        stepper.since.set(Some(0));
        if plan.delay == 0 {
            *flags &= !TRAP;
        } else {
            context.uc_sigmask = held_back();
        }
        (stepper.act)();
    }
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: zero is a value of every field.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = trapped as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        action.sa_mask = held_back();
        // SAFETY: the disposition is whole, the former one is not asked for.
        let result = unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, ptr::null_mut()) };
        assert_eq!(result, 0);
    });
}

/// Runs something one instruction at a time until `act` was called and signals were let through, and then as
/// always; its result, and whether `act` was called.
///
/// The thread must have run a guest before: the handler runs on the stack for signals that it has then.
pub(crate) fn step<R>(plan: Plan, act: &dyn Fn(), run: impl FnOnce() -> R) -> (R, bool) {
    install();
    let anchor = 0_u8;
    let stepper = Stepper {
        plan,
        act,
        anchor: (&raw const anchor).addr() as u64,
        taken: Cell::new(0),
        since: Cell::new(None),
    };
    STEPPER.set((&raw const stepper).cast());
    // SAFETY: sets a flag, for which the handler is there.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let result = run();
    // SAFETY: clears it, and the other flags are the compiler's to spoil.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    STEPPER.set(ptr::null());
    let acted = stepper.since.get().is_some();
    let held_back = held_back();
    // SAFETY: a set that is whole; signals that wait are delivered now.
    let unblocked =
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const held_back, ptr::null_mut()) };
    assert_eq!(unblocked, 0);
    (result, acted)
}

/// Runs something and shows the address of every instruction before it is executed. `see` is called in a signal
/// handler, and so are the instructions that end this: it must not care.
///
/// The thread must have run a guest before, as for [`step`].
pub(crate) fn watch<R>(see: &dyn Fn(u64), run: impl FnOnce() -> R) -> R {
    install();
    // SAFETY: it is taken back before this returns, and nothing here unwinds but a test that fails.
    WATCHER.set(Some(unsafe {
        std::mem::transmute::<&dyn Fn(u64), &'static dyn Fn(u64)>(see)
    }));
    // SAFETY: sets a flag, for which the handler is there. The instruction behind it is the one that nobody sees.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop") };
    let result = run();
    // SAFETY: clears it, and the other flags are the compiler's to spoil.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    WATCHER.set(None);
    result
}

/// Code at an address that a thread is about to execute.
pub(crate) fn code_at(pc: u64, offset: usize) -> u8 {
    // SAFETY: an instruction begins at `pc`, and nobody asks beyond its end.
    unsafe { *std::ptr::with_exposed_provenance::<u8>(pc as usize).add(offset) }
}
