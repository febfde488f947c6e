//! Traps as an embedder may handle them: what must be in place before a guest runs, where traps are
//! caught and raised, and how long guest stacks are.
//!
//! ```text
//!  catch_traps ------ f ------ Instance::run ---- on_wasm_stack ---- guest ---- host function
//!   handler, size                |                    stack            |             |
//!      ^                         ^                                     |  on_host_stack: caught here
//!      |                         '---- Err(RuntimeFault) <-- signal ---'             |
//!      '------------ raise_user_trap, raise_lib_trap, resume_panic <-----------------'
//! ```
//!
//! The names are those of an older runtime that ran Rust closures on guest stacks and abandoned them
//! there when something trapped. Here no Rust frame ever stands on a guest stack (I-2), so the same
//! functions need no promise from their callers: what is raised unwinds the host's own frames, with
//! their destructors, up to the host function's entry, and only guest frames are abandoned. What is not
//! here: what makes a signal a guest's fault (`vm/on_signal.rs`, `fault/classify.rs`).
//!
//! In a build with `panic = "abort"` nothing can be raised: there a host function says what it has to
//! say by returning [`Err`](crate::HostError), which works in every build.

mod unwind;

use std::cell::Cell;

use crate::error::Error;
use crate::fault::details::FaultDetails;
use crate::stack::{Stack, cache};
use crate::sys::local::LocalCell;
use crate::sys::{interrupt, signal, sigstack, thread};
use crate::vm::activation::Activation;
use crate::vm::enter::Stopped;
use crate::vm::{host_error, on_signal};

pub use crate::stack::cache::drain_stack_pool;
pub use crate::stack::size::{MAX_STACK_SIZE, VMConfig, get_stack_size, set_stack_size};
pub use crate::vm::custom_handler::{TrapHandler, TrapHandlerFn};
pub(crate) use unwind::host_boundary;
pub use unwind::{UnwindReason, raise_lib_trap, raise_user_trap, resume_panic, unwind_with};

/// Installs the process's handler of SIGSEGV, SIGBUS, SIGFPE, SIGILL and the interrupt signal, above whoever handles them
/// now. While it is installed this does nothing; [`Engine::new`](crate::Engine::new) calls it.
///
/// # Errors
///
/// [`Error::System`] if the system refuses.
pub fn init_traps() -> Result<(), Error> {
    on_signal::install()?;
    thread::watch_forks().map_err(Error::system("watch for forks"))?;
    interrupt::prepare().map_err(Error::system("prepare barriers on other threads"))
}

/// Chooses the signal by which a thread that runs a guest is interrupted, to end or suspend the guest. The
/// default is SIGURG: ignored where nobody handles it, and not used by the C library. Signals of that number
/// that others send go on to whoever handled them before. Each thread that runs guests has it unblocked.
///
/// # Errors
///
/// [`Error::InvalidArgument`] if the handler is installed already (see [`init_traps`]), or if it is no signal
/// that can be chosen: those of the processor, and those that can't be handled.
pub fn set_interrupt_signal(signum: i32) -> Result<(), Error> {
    if !signal::can_interrupt(signum) {
        return Err(Error::InvalidArgument(
            "no signal that could be used to interrupt threads",
        ));
    }
    if signal::set_interrupt_signal(signum) {
        Ok(())
    } else {
        Err(Error::InvalidArgument(
            "the trap handler is installed already",
        ))
    }
}

/// Gives this thread a stack to take signals on, unless it has one of 64 KiB or more. The first call on
/// a thread costs a few system calls, later ones a load; every entry into a guest makes it.
///
/// # Errors
///
/// [`Error::System`] if there is no memory for it, or if the thread is ending.
#[inline]
pub fn lazy_per_thread_init() -> Result<(), Error> {
    sigstack::ensure().map_err(Error::system("make a signal stack"))
}

/// Runs a closure on the caller's stack and catches what is raised in it. Guests that it runs have
/// stacks as `config` says, and `handler`, if there is one, sees the signals of this thread first,
/// those of host code included.
///
/// Traps of guests come back from the calls that ran them, as always; what is caught here is what
/// [`raise_user_trap`] and [`raise_lib_trap`] raise outside of any guest. As with
/// [`catch_unwind`](std::panic::catch_unwind), what the closure was changing may be half done.
///
/// # Errors
///
/// [`Error::HostFunction`] and [`Error::RuntimeFault`] for what was raised; [`Error::System`] if the
/// process or the thread can't be made ready.
///
/// # Panics
///
/// If the closure panics, its panic goes on here.
pub fn catch_traps<R>(
    handler: Option<TrapHandler<'_>>,
    config: &VMConfig,
    f: impl FnOnce() -> R,
) -> Result<R, Error> {
    init_traps()?;
    lazy_per_thread_init()?;
    let _scope = Scope::enter();
    let caught = config.scope(|| match handler {
        Some(handler) => handler.scope(|| host_boundary(f)),
        None => host_boundary(f),
    });
    caught.map_err(|reason| match reason {
        UnwindReason::Panic(payload) => resume_panic(payload),
        UnwindReason::UserTrap(error) => host_error(error),
        UnwindReason::LibTrap(code) => Error::RuntimeFault(Box::new(FaultDetails::new(code))),
    })
}

thread_local! {
    /// How many `catch_traps` this thread is in.
    static SCOPES: Cell<u32> = const { Cell::new(0) };
}

/// How many [`catch_traps`] this thread is in. What they say holds for the thread and until they return, so
/// a host function is not suspended inside of one.
pub(crate) fn scopes() -> u32 {
    SCOPES.load()
}

/// One [`catch_traps`] more, until it is dropped.
struct Scope;

impl Scope {
    fn enter() -> Self {
        SCOPES.set(SCOPES.get() + 1);
        Self
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPES.set(SCOPES.get() - 1);
    }
}

/// Calls a closure with a guest stack of `len` bytes, or as many as this thread asks for, and takes it
/// back, or gives it to `keep` if the guest was suspended. The closure runs on the host's stack; what runs on the guest's is what it enters there.
///
/// # Errors
///
/// [`Error::System`] if no stack can be mapped.
#[inline]
pub(crate) fn on_wasm_stack<R>(
    len: usize,
    run: impl FnOnce(&Stack) -> Result<R, Stopped>,
    keep: impl FnOnce(Box<Stack>),
) -> Result<R, Stopped> {
    let stack = cache::acquire(len).map_err(Error::system("map a guest stack"))?;
    match run(&stack) {
        Ok(result) => {
            cache::release(stack);
            Ok(result)
        }
        Err(stopped) => Err(put_away(stack, stopped, keep)),
    }
}

/// What becomes of the stack of a guest that has not returned.
#[cold]
fn put_away(stack: Box<Stack>, stopped: Stopped, keep: impl FnOnce(Box<Stack>)) -> Stopped {
    if stopped.keeps_stack() {
        keep(stack);
    } else if stopped.is_overflow() {
        cache::release_overflowed(stack);
    } else {
        cache::release(stack);
    }
    stopped
}

/// Runs a closure on the host's stack. All host code runs there, hence in place: what is left of the
/// older meaning, a switch of stacks, is the trampoline's, and a check of it in debug builds.
#[inline(always)]
pub fn on_host_stack<R>(f: impl FnOnce() -> R) -> R {
    debug_assert!(
        !Activation::on_guest_stack(),
        "host code runs on the host's stack (I-2)"
    );
    f()
}
