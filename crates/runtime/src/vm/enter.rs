//! Host to guest and back: a stack, an activation, and what to make of how the guest was left.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use selvedge_artifact::traps::TrapCode;

use super::activation::{Activation, Outcome, TrapRecord};
use super::backtrace::{self, Start};
use super::context::ArraySlot;
use crate::arch;
use crate::error::Error;
use crate::fault::details::TrapInfo;
use crate::host::error::HostError;
use crate::instance::store::Store;
use crate::stack::Bounds;
use crate::sys::thread;
use crate::traphandlers::{lazy_per_thread_init, on_wasm_stack, resume_panic};

/// Room that the host's stack must have for a guest to be entered: host functions run there.
const HOST_STACK_ROOM: usize = 128 << 10;

/// Room that a guest's stack must have for a nested entry. `arch::enter` pushes the return address
/// itself, at a pc that is not the guest's: a fault there would be the host's. From the trampoline on a
/// fault is an overflow like any other.
const ENTRY_ROOM: usize = 16;

/// A guest function as `arch::enter` needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    vmctx: usize,
    trampoline: usize,
    body: usize,
}

impl Entry {
    /// Names a function of the instance at `vmctx`.
    ///
    /// # Safety
    ///
    /// - `body` is a function of the module of the instance at `vmctx`.
    /// - `trampoline` is the host-to-guest trampoline of its signature.
    pub(crate) unsafe fn new(vmctx: usize, trampoline: usize, body: usize) -> Self {
        Self {
            vmctx,
            trampoline,
            body,
        }
    }

    /// Calls the function. `slots` hold the arguments, and after success the results.
    ///
    /// # Errors
    ///
    /// Why the guest was left, if it did not return. A panic of a host function goes on from here.
    ///
    /// # Safety
    ///
    /// - The function is of a member of `store`.
    /// - `slots` has as many slots as its signature needs, typed as it says.
    #[inline]
    pub(crate) unsafe fn call(&self, store: &Store, slots: &mut [ArraySlot]) -> Result<(), Error> {
        lazy_per_thread_init()?;
        if thread::stack_left(arch::stack_pointer()).is_some_and(|left| left < HOST_STACK_ROOM) {
            return Err(stack_short(store));
        }
        if store.depth.get() > 0 {
            // SAFETY: passed on from the caller.
            return unsafe { self.call_nested(store, slots) };
        }
        let result = on_wasm_stack(store.region_limits.stack_len, |stack| {
            store.limits.set_stack_limit(stack.limit());
            // SAFETY: the top of a stack that nothing else uses; the rest is passed on from the caller.
            unsafe { self.enter(store, stack.bounds(), stack.top(), slots) }
        });
        result.map_err(Stopped::into_error)
    }

    /// An entry while an outer one waits for the host function that is calling: the guest goes on below
    /// the frames that wait.
    ///
    /// # Safety
    ///
    /// As [`Entry::call`].
    #[cold]
    unsafe fn call_nested(&self, store: &Store, slots: &mut [ArraySlot]) -> Result<(), Error> {
        // Only a host function can hold a slice of memory here: the outermost call has the instance to
        // itself.
        if store
            .members
            .iter()
            .any(|member| member.memory_is_borrowed())
        {
            return Err(Error::MemoryBorrowed);
        }
        // SAFETY: an outer entry of this store, whose frame is below ours on the host's stack, published the
        // bounds of the stack that it holds until it returns.
        let bounds = unsafe { &*store.running.get() };
        let outer = store.limits.exit();
        let guest_sp = outer.fp & !15;
        if guest_sp.saturating_sub(bounds.usable.start) < ENTRY_ROOM {
            return Err(stack_short(store));
        }
        store.waiting.borrow_mut().push(outer);
        // SAFETY: everything above `outer.fp` on this stack waits, everything below it is free; the rest is
        // passed on from the caller.
        let result = unsafe { self.enter(store, bounds, guest_sp, slots) };
        store.waiting.borrow_mut().pop();
        store.limits.restore(outer);
        store.running.set(bounds);
        result.map_err(Stopped::into_error)
    }

    /// Enters the guest on a stack.
    ///
    /// # Safety
    ///
    /// - As [`Entry::call`].
    /// - `guest_sp` is 16-byte aligned and lies in `bounds`, which are those of a guest stack that is free
    ///   below it.
    #[inline]
    unsafe fn enter(
        &self,
        store: &Store,
        bounds: &Bounds,
        guest_sp: usize,
        slots: &mut [ArraySlot],
    ) -> Result<(), Stopped> {
        let memories = store.memories.as_slice();
        let activation = Activation::new(store, store.limits.as_ptr(), bounds, memories);
        store.running.set(bounds);
        store.depth.update(|depth| depth + 1);
        let left = activation.publish(|| {
            // SAFETY: the limits are the store's, which the context at `vmctx` names; trampoline and body
            // belong together by the contract of `new`, the slots and the stack by that of this function.
            unsafe {
                arch::enter(
                    store.limits.as_ptr(),
                    self.vmctx,
                    self.trampoline,
                    self.body,
                    slots.as_mut_ptr(),
                    guest_sp,
                )
            }
        });
        let result = if left == 0 {
            Ok(())
        } else {
            Err(stopped(store, &activation))
        };
        store.depth.update(|depth| depth - 1);
        store.running.set(core::ptr::null());
        result
    }
}

#[cold]
fn stack_short(store: &Store) -> Error {
    let detail = "too many host functions and guests call each other".to_owned();
    store.fault(
        TrapCode::StackOverflow,
        Some(Box::new(TrapInfo::Other(detail))),
        &[],
    )
}

/// How a guest was stopped.
pub(crate) enum Stopped {
    Error(Error),
    Panic(Box<dyn std::any::Any + Send>),
}

impl Stopped {
    /// Whether the guest has used up its stack.
    #[cold]
    pub(crate) fn is_overflow(&self) -> bool {
        matches!(self, Self::Error(Error::RuntimeFault(fault)) if fault.code == TrapCode::StackOverflow)
    }

    /// The error; a panic goes on from here, on the stack of whoever called the guest, now that
    /// everything is in order again.
    #[cold]
    fn into_error(self) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Panic(payload) => resume_panic(payload),
        }
    }
}

/// Makes an error of why the guest was left, while its frames are still there to be walked.
#[cold]
fn stopped(store: &Store, activation: &Activation) -> Stopped {
    let exit = store.limits.exit();
    let outcome = store.take_outcome();
    if let Some(trap) = activation.trap.take() {
        let start = Start {
            pc: trap.pc,
            fp: trap.fp,
            is_return: false,
            entry_sp: exit.entry_sp,
        };
        if store.counts_fuel() {
            let uncounted = store.uncounted_fuel(trap.code, trap.pc);
            store.limits.set_fuel(trap.pinned.cast_signed() + uncounted);
        }
        let pcs = frames(store, activation, start);
        let info = trap_info(store, activation, &trap);
        return Stopped::Error(store.fault(trap.code, info, &pcs));
    }
    // The frame that `exit.fp` names is the trampoline's: it holds the guest's frame pointer, and the
    // return address above it is `exit.pc`.
    let fp = exit.fp;
    let pcs = || {
        let start = Start {
            pc: exit.pc,
            fp: saved_fp(activation, fp),
            is_return: true,
            entry_sp: exit.entry_sp,
        };
        frames(store, activation, start)
    };
    let fault = |code, detail| store.fault(code, detail, &pcs());
    match outcome {
        Some(Outcome::Panic(payload)) => Stopped::Panic(payload),
        Some(Outcome::Trap(code, detail)) => Stopped::Error(fault(code, detail)),
        Some(Outcome::Host(HostError::Trap(code))) => Stopped::Error(fault(code, None)),
        Some(Outcome::Host(HostError::Terminate(details))) => {
            Stopped::Error(Error::RuntimeTerminated(details))
        }
        Some(Outcome::Host(HostError::Error(error))) => Stopped::Error(host_error(error)),
        Some(Outcome::Host(HostError::Exception(exception))) => {
            Stopped::Error(store.uncaught(*exception, &pcs()))
        }
        Some(Outcome::Exception(exn)) => {
            Stopped::Error(store.uncaught(store.exception_of(&exn), &pcs()))
        }
        None => Stopped::Error(Error::InvalidArgument(
            "the guest was left without a reason",
        )),
    }
}

/// What is known of a trap that the signal handler found.
fn trap_info(store: &Store, activation: &Activation, trap: &TrapRecord) -> Option<Box<TrapInfo>> {
    match trap.code {
        TrapCode::StackOverflow => Some(Box::new(TrapInfo::Stack {
            len: activation.bounds().usable.len() as u64,
        })),
        TrapCode::HeapOutOfBounds => store.memory_info(trap.pc, trap.addr?),
        _ => None,
    }
}

/// An error of the runtime that passed through a host function comes out as itself.
pub(crate) fn host_error(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::HostFunction(error),
    }
}

/// The guest's frame pointer that the trampoline's frame at `fp` saved.
pub(super) fn saved_fp(activation: &Activation, fp: usize) -> usize {
    if !activation.bounds().usable.contains(&fp) || !fp.is_multiple_of(8) {
        return 0;
    }
    // SAFETY: the word lies in the guest's stack, which is mapped while the activation lives.
    unsafe { *(fp as *const usize) }
}

/// Addresses in the guest's frames, innermost first, through all entries of the store.
fn frames(store: &Store, activation: &Activation, start: Start) -> Vec<usize> {
    let mut pcs = Vec::new();
    if store.region_limits.backtrace_frames == 0 {
        return pcs;
    }
    // SAFETY: the stack is the store's own, held until this entry is done; the guest was stopped at
    // `start` and nothing has run on its stack since.
    unsafe { backtrace::walk(&activation.bounds().usable, start, |pc| pcs.push(pc)) };
    for outer in store.waiting.borrow().iter().rev() {
        let start = Start {
            pc: outer.pc,
            fp: saved_fp(activation, outer.fp),
            is_return: true,
            entry_sp: outer.entry_sp,
        };
        // SAFETY: as above; outer frames lie higher on the same stack and wait.
        unsafe { backtrace::walk(&activation.bounds().usable, start, |pc| pcs.push(pc)) };
    }
    pcs
}
