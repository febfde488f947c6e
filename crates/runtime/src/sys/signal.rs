//! The process-wide handler of SIGSEGV, SIGBUS, SIGFPE, SIGILL and the interrupt signal: install, chain, remove.
//!
//! ```text
//! kernel -> on_signal -> the handler that was installed: what is it?
//!   Redirect: set the registers of the context, return                  (a guest's fault)
//!   Hold:     block the signal in the context and send it again          (later, when a handler returns)
//!   Forward:  a handler was there before -> call it as the kernel would (somebody else's)
//!             default, or ignored -> default disposition, return, fault again, die
//! ```
//!
//! Signals belong to the whole process and we are a guest there ourselves, so what is not ours must
//! reach its owner unchanged: with its mask, its flags and `errno`. What is not here: what makes a
//! signal ours (`vm/on_signal.rs`).
//!
//! Flags: `SA_SIGINFO` for address and context; `SA_ONSTACK` because the interrupted stack may be
//! full; `SA_NODEFER` so that a crash in the handler itself, or in one that it calls, is handled
//! again and reaches the previous owner with its own address. Blocked, such a crash would kill the
//! process without a word from its crash reporter. The mask is empty: a redirect leaves the handler
//! through `sigreturn`, which restores the thread's mask in any case. The interrupt signal is different: it
//! interrupts host code that knows nothing of it, so system calls start again (`SA_RESTART`), and it is blocked
//! in its own handler.
//!
//! In a handler: no allocation, no lock, no formatting (I-7). What it reads is two kinds of
//! pointers, published before the kernel can call it, to things that are never freed.
#![allow(unsafe_code, reason = "room R2, SAFETY.md")]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::{sigaction, siginfo_t, sigset_t, ucontext_t};

use crate::arch::regs;
pub(crate) use crate::arch::regs::Regs;

/// How many signals are handled.
const COUNT: usize = 5;

/// The signals of the processor that a guest can cause, and the one by which threads interrupt each other.
fn signals() -> [c_int; COUNT] {
    [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        interrupt_signal(),
    ]
}

/// The signal by which a thread that runs a guest is interrupted. By default one that is ignored when nobody
/// handles it, of which several count as one, and which the C library does not use.
static INTERRUPT: AtomicI32 = AtomicI32::new(libc::SIGURG);

/// The signal by which a thread that runs a guest is interrupted.
pub(crate) fn interrupt_signal() -> c_int {
    INTERRUPT.load(Ordering::Relaxed)
}

/// Whether a signal can be the one by which threads are interrupted.
pub(crate) fn can_interrupt(signum: c_int) -> bool {
    let (mut known, kept) = (1..=libc::SIGRTMAX(), [libc::SIGKILL, libc::SIGSTOP]);
    let others = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
    ];
    known.any(|other| other == signum)
        && !kept.contains(&signum)
        && !others.contains(&signum)
        // Those that the C library keeps for itself.
        && !(32..libc::SIGRTMIN()).contains(&signum)
}

/// Chooses the signal by which threads are interrupted; false, and nothing is changed, if the handler is
/// installed already.
pub(crate) fn set_interrupt_signal(signum: c_int) -> bool {
    let installed = installed();
    if *installed && signum != interrupt_signal() {
        return false;
    }
    INTERRUPT.store(signum, Ordering::Relaxed);
    true
}

/// A signal, as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignalInfo {
    /// Which signal.
    pub(crate) signum: c_int,
    /// Its `si_code`: positive when the kernel raised it for an instruction, otherwise sent by a
    /// process.
    pub(crate) code: c_int,
    /// The address that could not be accessed. `None` when the signal tells none: SIGFPE, SIGILL,
    /// signals that were sent, and SIGSEGV with `SI_KERNEL` (an address that is not canonical, or a
    /// signal frame that did not fit on the stack).
    pub(crate) fault_addr: Option<usize>,
    /// The instruction at which the signal struck.
    pub(crate) pc: usize,
    /// The stack pointer there.
    pub(crate) sp: usize,
    /// The frame pointer register there.
    pub(crate) fp: usize,
    /// What the kernel says of the signal; valid while the handler runs.
    pub(crate) info: *const siginfo_t,
    /// The thread as it was interrupted; valid while the handler runs.
    pub(crate) context: *mut ucontext_t,
    /// The pinned register, where guests that count fuel have the count.
    pub(crate) pinned: usize,
    /// Whether it is one that we sent, or that a timer of ours did.
    pub(crate) ours: bool,
    /// Whether the stack pointer there is in the thread's alternate stack: a handler was interrupted.
    pub(crate) on_signal_stack: bool,
}

/// What becomes of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is not ours: whoever was there before gets it.
    Forward,
    /// The thread goes on with these registers.
    Redirect(Regs),
    /// The thread goes on with the context as it is.
    Resume,
    /// The thread goes on at this pc, with the context as it is otherwise.
    Jump(usize),
    /// The thread goes on with the context as it is, in which the signal is blocked, and gets the signal again
    /// when it returns from the handler that was interrupted.
    Hold,
}

/// Decides what becomes of a signal. Runs in a signal handler, and so must not allocate, lock or
/// format (I-7).
pub(crate) type Handler = fn(&SignalInfo) -> Action;

/// The handler, null until one is installed. It stays after `uninstall`, as a foreign handler may
/// go on calling us.
static HANDLER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// What each of `signals()` did before we came. A record is never freed once it has been published
/// here.
static PREVIOUS: [AtomicPtr<sigaction>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];

/// Whether our handler is installed. The lock keeps two threads from installing or removing at a
/// time; no handler takes it.
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// The default disposition, for chaining to a handler that was to run once only.
static DEFAULT: Disposition = Disposition(default_disposition());

/// A `sigaction` that is never changed.
struct Disposition(sigaction);

// SAFETY: plain data that nobody writes.
unsafe impl Sync for Disposition {}

/// Installs `handler` for the whole process. While one is installed, further calls change nothing
/// and succeed.
pub(crate) fn install(handler: Handler) -> io::Result<()> {
    let mut installed = installed();
    if *installed {
        return Ok(());
    }
    // Both publications come before the first `sigaction` that lets the kernel call us, so a fault
    // on another thread finds them (D-9). Release, because that thread learns of them only through
    // the kernel.
    for (signum, slot) in signals().into_iter().zip(&PREVIOUS) {
        record(slot, &exchange(signum, None)?);
    }
    HANDLER.store(handler as *mut c_void, Ordering::Release);
    for (index, (signum, slot)) in signals().into_iter().zip(&PREVIOUS).enumerate() {
        match exchange(signum, Some(&our_disposition(signum))) {
            // Again, for the case that somebody else changed it since the query above.
            Ok(previous) => record(slot, &previous),
            Err(error) => {
                for signum in signals().into_iter().take(index) {
                    remove(signum)?;
                }
                return Err(error);
            }
        }
    }
    *installed = true;
    Ok(())
}

/// Gives every signal back to its previous owner, if nobody has installed another handler above
/// ours since; otherwise does nothing and returns false, as that handler may have to call ours.
pub(crate) fn uninstall() -> io::Result<bool> {
    let mut installed = installed();
    if !*installed {
        return Ok(true);
    }
    for signum in signals() {
        if !is_ours(&exchange(signum, None)?) {
            return Ok(false);
        }
    }
    let mut all = true;
    for signum in signals() {
        all &= remove(signum)?;
    }
    // With one left in the chain above a foreign handler, we stay responsible for it.
    *installed = !all;
    Ok(all)
}

fn installed() -> MutexGuard<'static, bool> {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Publishes what was there before us. A record is some 150 bytes and is leaked when it changes,
/// because a handler on another thread may be reading the one that it replaces; it changes only
/// when handlers are installed anew.
fn record(slot: &AtomicPtr<sigaction>, previous: &sigaction) {
    if is_ours(previous) {
        // Somebody restored a state of dispositions in which we were. Recorded, we would chain to
        // ourselves without end.
        return;
    }
    // SAFETY: what is published is never freed nor changed.
    let published = unsafe { slot.load(Ordering::Acquire).as_ref() };
    if published.is_none_or(|published| !is_same(published, previous)) {
        slot.store(Box::leak(Box::new(*previous)), Ordering::Release);
    }
}

/// Restores what `signum` did before us. Returns false and changes nothing if ours is not the
/// handler in place.
fn remove(signum: c_int) -> io::Result<bool> {
    let previous = previous(signum).unwrap_or(&DEFAULT.0);
    let replaced = exchange(signum, Some(previous))?;
    if is_ours(&replaced) {
        return Ok(true);
    }
    exchange(signum, Some(&replaced))?;
    Ok(false)
}

/// What `signum` did before us; `None` before the first installation, or for a signal that we never
/// handle.
fn previous(signum: c_int) -> Option<&'static sigaction> {
    let index = signals().iter().position(|known| *known == signum)?;
    let slot = PREVIOUS.get(index)?;
    // SAFETY: a published record is never freed nor changed, so it can be read by any thread at any
    // time.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

/// Sets the disposition of a signal, if one is given, and returns the one it had. Safe to call in a
/// handler.
fn exchange(signum: c_int, new: Option<&sigaction>) -> io::Result<sigaction> {
    let mut old = MaybeUninit::<sigaction>::zeroed();
    let new = new.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both pointers are valid, or null. A new disposition is ours, whose handler is always
    // there, or one that was in place before and so is the business of whoever made it.
    if unsafe { libc::sigaction(signum, new, old.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a `sigaction` is integers and an optional function, for which zero is a value; and
    // the call has filled it.
    Ok(unsafe { old.assume_init() })
}

const fn default_disposition() -> sigaction {
    // SAFETY: a `sigaction` is integers and an optional function, for which zero is a value.
    let mut disposition: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    disposition.sa_sigaction = libc::SIG_DFL;
    disposition
}

fn our_disposition(signum: c_int) -> sigaction {
    let mut disposition = default_disposition();
    disposition.sa_sigaction = our_address();
    let special = if signum == interrupt_signal() {
        libc::SA_RESTART
    } else {
        libc::SA_NODEFER
    };
    disposition.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | special;
    disposition
}

fn our_address() -> usize {
    on_signal as *const () as usize
}

fn is_ours(disposition: &sigaction) -> bool {
    disposition.sa_sigaction == our_address()
}

fn is_same(one: &sigaction, other: &sigaction) -> bool {
    one.sa_sigaction == other.sa_sigaction
        && one.sa_flags == other.sa_flags
        && (1..=libc::SIGRTMAX())
            .all(|signum| has(&one.sa_mask, signum) == has(&other.sa_mask, signum))
}

fn has(mask: &sigset_t, signum: c_int) -> bool {
    // SAFETY: a set of signals to read; a number that is no signal gives -1.
    unsafe { libc::sigismember(mask, signum) == 1 }
}

/// What the kernel calls.
///
/// # Safety
///
/// - Called by the kernel, or by a handler that passes on what the kernel gave it.
unsafe extern "C" fn on_signal(signum: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the C library gives every thread its own `errno`, in place before the thread runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let saved = unsafe { errno.read() };
    // SAFETY: the caller's promise: for SA_SIGINFO both pointers are valid while the handler runs.
    unsafe { decide(signum, info, context) };
    // SAFETY: as above. The handler interrupted code that may be about to read it (D-10).
    unsafe { errno.write(saved) };
}

/// # Safety
///
/// - `info` and `context` are what the kernel passes to a handler with `SA_SIGINFO`.
unsafe fn decide(signum: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let handler = HANDLER.load(Ordering::Acquire);
    if !handler.is_null() {
        // SAFETY: what is stored, if not null, was a `Handler` (see `install`).
        let handler = unsafe { transmute::<*mut c_void, Handler>(handler) };
        // SAFETY: the caller's promise.
        let facts = unsafe { gather(signum, info, context.cast()) };
        let action = handler(&facts);
        if signum == interrupt_signal() && !facts.ours && action != Action::Forward {
            // Somebody else's all the same.
            // SAFETY: the caller's promise.
            unsafe { forward(signum, info, context) };
        }
        match action {
            Action::Redirect(regs) => {
                // SAFETY: the context is the caller's promise; that code at `regs.pc` can take over
                // here is the handler's (I-3).
                unsafe { regs::redirect(context.cast(), &regs) };
                return;
            }
            Action::Resume => return,
            Action::Jump(pc) => {
                // SAFETY: as above.
                unsafe { regs::jump(context.cast(), pc) };
                return;
            }
            Action::Hold => {
                // SAFETY: the context is the caller's promise, and the running handler's alone.
                unsafe {
                    libc::sigaddset(&raw mut (*context.cast::<ucontext_t>()).uc_sigmask, signum)
                };
                // The thread is this one, so it is there; a queue that is full loses only who sent it.
                let _ = super::interrupt::send(super::thread::os_id());
                return;
            }
            Action::Forward => {}
        }
    }
    // SAFETY: the caller's promise.
    unsafe { forward(signum, info, context) };
}

/// # Safety
///
/// - `info` and `context` are what the kernel passes to a handler with `SA_SIGINFO`.
unsafe fn gather(signum: c_int, info: *const siginfo_t, context: *mut ucontext_t) -> SignalInfo {
    // SAFETY: the caller's promise.
    let told = unsafe { &*info };
    let code = told.si_code;
    // SAFETY: the field is there for all signals, though only for some of them is it an address.
    let addr = unsafe { told.si_addr() }.addr();
    let tells_addr =
        matches!(signum, libc::SIGSEGV | libc::SIGBUS) && code > 0 && code != libc::SI_KERNEL;
    // SAFETY: the caller's promise.
    let (pc, sp, fp, pinned) = unsafe { regs::read(context) };
    SignalInfo {
        signum,
        code,
        fault_addr: tells_addr.then_some(addr),
        pc,
        sp,
        fp,
        info,
        context,
        pinned,
        on_signal_stack: {
            // SAFETY: the caller's promise; the kernel fills the field.
            let stack = unsafe { &(*context).uc_stack };
            let start = stack.ss_sp.addr();
            (start..start.saturating_add(stack.ss_size)).contains(&sp)
        },
        ours: matches!(code, libc::SI_QUEUE | libc::SI_TIMER)
            // SAFETY: with these codes the field is what the sender gave.
            && unsafe { told.si_value() }.sival_ptr.addr() == super::interrupt::cookie(),
    }
}

/// Does what would have happened without us.
///
/// # Safety
///
/// - `info` and `context` are what the kernel passes to a handler with `SA_SIGINFO`.
unsafe fn forward(signum: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the caller's promise.
    let code = unsafe { (*info).si_code };
    // An instruction that faulted is tried again when the handler returns. Nothing is tried again
    // for a signal that was sent, nor for a memory error that the kernel merely found (AO: action
    // optional). SI_KERNEL is in between: the instruction may be an innocent one at which another
    // signal could not be delivered.
    let was_sent = code <= 0 || (signum == libc::SIGBUS && code == libc::BUS_MCEERR_AO);
    let faults_again = !was_sent && code != libc::SI_KERNEL;
    let previous = previous(signum).unwrap_or(&DEFAULT.0);
    match previous.sa_sigaction {
        // For a fault the kernel overrides an ignoring disposition, since ignoring it would spin
        // for ever (D-5).
        libc::SIG_IGN if was_sent => {}
        // Of what an interrupt signal can be, these are ignored by default.
        libc::SIG_DFL
            if was_sent && matches!(signum, libc::SIGURG | libc::SIGCHLD | libc::SIGWINCH) => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the caller's promise.
            unsafe { die_by_default(signum, info, faults_again) };
        }
        // SAFETY: the caller's promise.
        _ => unsafe { call_previous(signum, previous, info, context) },
    }
}

/// Lets the default disposition, which ends the process, take the signal.
///
/// # Safety
///
/// - `info` is what the kernel passes to a handler with `SA_SIGINFO`.
unsafe fn die_by_default(signum: c_int, info: *mut siginfo_t, faults_again: bool) {
    // No answer to a failure is left in here; the fault would be handled, and forwarded, once more.
    let _ = exchange(signum, Some(&DEFAULT.0));
    if faults_again {
        return;
    }
    // The same signal once more, held back until the handler returns and the context's own mask is
    // restored, so that the process is seen to die where it was, and of what it was.
    let mut only = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: a set to be filled.
    unsafe { libc::sigemptyset(only.as_mut_ptr()) };
    // SAFETY: a set that has been filled.
    unsafe { libc::sigaddset(only.as_mut_ptr(), signum) };
    // SAFETY: a set that has been filled; the previous mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, only.as_ptr(), ptr::null_mut()) };
    // SAFETY: no arguments.
    let pid = c_long::from(unsafe { libc::getpid() });
    // SAFETY: no arguments.
    let tid = c_long::from(unsafe { libc::gettid() });
    // SAFETY: the caller's promise about `info`. A process may send itself a signal with any origin
    // in it.
    unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            pid,
            tid,
            c_long::from(signum),
            info,
        )
    };
}

/// Calls the handler that was there before, as the kernel would have: with its mask blocked, and
/// once only if it asked for that.
///
/// # Safety
///
/// - `previous` holds the address of a handler, of the kind that its flags say.
/// - `info` and `context` are what the kernel passes to a handler with `SA_SIGINFO`.
unsafe fn call_previous(
    signum: c_int,
    previous: &sigaction,
    info: *mut siginfo_t,
    context: *mut c_void,
) {
    let index = signals().iter().position(|known| *known == signum);
    if let Some(slot) = index.and_then(|index| PREVIOUS.get(index))
        && previous.sa_flags & libc::SA_RESETHAND != 0
    {
        slot.store(ptr::from_ref(&DEFAULT.0).cast_mut(), Ordering::Release);
    }
    let mut mask = previous.sa_mask;
    if previous.sa_flags & libc::SA_NODEFER == 0 {
        // SAFETY: a set of our own.
        unsafe { libc::sigaddset(&raw mut mask, signum) };
    }
    let mut before = MaybeUninit::<sigset_t>::zeroed();
    // SAFETY: sets to read and to fill.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const mask, before.as_mut_ptr()) };
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        type WithInfo = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
        // SAFETY: the caller's promise: neither default nor ignore, so the address of a function of
        // this type.
        let call = unsafe { transmute::<usize, WithInfo>(previous.sa_sigaction) };
        // SAFETY: the arguments are those of the kernel.
        unsafe { call(signum, info, context) };
    } else {
        type WithNumber = unsafe extern "C" fn(c_int);
        // SAFETY: the caller's promise: neither default nor ignore, so the address of a function of
        // this type.
        let call = unsafe { transmute::<usize, WithNumber>(previous.sa_sigaction) };
        // SAFETY: the argument is that of the kernel.
        unsafe { call(signum) };
    }
    // SAFETY: the set was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
}

#[cfg(test)]
mod tests;
