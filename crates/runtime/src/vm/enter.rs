//! Host to guest and back: a stack, an activation, and what to make of how the guest was left.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::types::ValType;

use super::activation::{Activation, Ending, Interrupted, Outcome, TrapRecord};
use super::backtrace::{self, Start};
use super::context::ArraySlot;
use super::resume::{Parked, interrupted_at};
use crate::arch;
use crate::error::Error;
use crate::fault::details::TrapInfo;
use crate::fault::fatal::{Fatal, FatalFault};
use crate::host::error::{HostError, PanicPayload, TerminationDetails};
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::stack::{Bounds, Stack};
use crate::sys::thread;
use crate::traphandlers::{lazy_per_thread_init, on_wasm_stack, resume_panic};
use crate::value::{References, Val};

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

    /// Calls the function. `store_args` puts the arguments into as many slots as were asked for, and
    /// `load_results` takes the results out of them.
    ///
    /// The slots stand on the guest's stack, so that they are still there when a guest that was suspended
    /// returns at last.
    ///
    /// # Errors
    ///
    /// Why the guest was left, if it did not return. A panic of a host function goes on from here.
    ///
    /// # Safety
    ///
    /// - The function is of a member of `store`.
    /// - Its signature needs at most `count` slots, and `store_args` types them as it says.
    #[inline]
    pub(crate) unsafe fn call<R>(
        &self,
        store: &Store,
        count: usize,
        store_args: impl FnOnce(&mut [ArraySlot]),
        load_results: impl FnOnce(&[ArraySlot]) -> R,
    ) -> Result<R, Stopped> {
        lazy_per_thread_init()?;
        check_host_stack(store)?;
        if store.depth.get() > 0 {
            // SAFETY: passed on from the caller.
            return unsafe { self.call_nested(store, count, store_args, load_results) };
        }
        // Then this is a part of the host function's run, and not one of its own.
        let under_host = store.under_host.get();
        if under_host {
            check_unborrowed(store)?;
        }
        store.state.set(State::Ready);
        on_wasm_stack(
            store.region_limits.stack_len,
            |stack| {
                store.limits.set_stack_limit(stack.limit());
                if !under_host {
                    store.limits.words().begin(thread::os_id());
                }
                // SAFETY: the top of a stack that nothing else uses; the rest is passed on from the caller.
                let result = unsafe {
                    self.enter(
                        store,
                        stack.bounds(),
                        stack.top(),
                        count,
                        store_args,
                        load_results,
                    )
                };
                // By value, in registers: nothing here may need the address of a result.
                match result {
                    result if under_host => {
                        store.limits.words().back_in_host();
                        result
                    }
                    Ok(results) if !store.limits.words().end() => Ok(results),
                    Ok(_) => Err(ended(store)),
                    Err(stopped) => Err(not_returned(store, stopped)),
                }
            },
            |stack| park_stack(store, stack, count),
        )
    }

    /// An entry while an outer one waits for the host function that is calling: the guest goes on below
    /// the frames that wait.
    ///
    /// # Safety
    ///
    /// As [`Entry::call`].
    #[cold]
    unsafe fn call_nested<R>(
        &self,
        store: &Store,
        count: usize,
        store_args: impl FnOnce(&mut [ArraySlot]),
        load_results: impl FnOnce(&[ArraySlot]) -> R,
    ) -> Result<R, Stopped> {
        check_unborrowed(store)?;
        // SAFETY: an outer entry of this store, whose frame is below ours on the host's stack, published the
        // bounds of the stack that it holds until it returns.
        let bounds = unsafe { &*store.running.get() };
        let outer = store.limits.exit();
        let guest_sp = outer.fp & !15;
        store.waiting.borrow_mut().push(outer);
        // SAFETY: everything above `outer.fp` on this stack waits, everything below it is free; the rest is
        // passed on from the caller.
        let result =
            unsafe { self.enter(store, bounds, guest_sp, count, store_args, load_results) };
        store.limits.words().back_in_host();
        store.waiting.borrow_mut().pop();
        store.limits.restore(outer);
        store.running.set(bounds);
        if let Err(Stopped::Fatal(_)) = &result {
            // Whatever the host function makes of a panic of the handler, the outer guest does not go on.
            let details = TerminationDetails::Signal;
            store.raise(Outcome::Host(HostError::Terminate(details)));
        }
        result
    }

    /// Enters the guest on a stack.
    ///
    /// # Safety
    ///
    /// - As [`Entry::call`].
    /// - `free` is 16-byte aligned and lies in `bounds`, which are those of a guest stack that is free
    ///   below it.
    #[inline]
    unsafe fn enter<R>(
        &self,
        store: &Store,
        bounds: &Bounds,
        free: usize,
        count: usize,
        store_args: impl FnOnce(&mut [ArraySlot]),
        load_results: impl FnOnce(&[ArraySlot]) -> R,
    ) -> Result<R, Stopped> {
        let guest_sp = slots_below(free, count);
        if guest_sp.saturating_sub(bounds.usable.start) < ENTRY_ROOM {
            return Err(stack_short(store).into());
        }
        let slots: *mut ArraySlot = core::ptr::with_exposed_provenance_mut(guest_sp);
        // SAFETY: mapped memory of the guest's stack, zero or what was there before, that nothing else uses
        // until the guest is entered; slots are plain words.
        store_args(unsafe { core::slice::from_raw_parts_mut(slots, count) });
        let memories = store.memories.as_slice();
        let activation = Activation::new(store, store.limits.as_ptr(), bounds, memories);
        store.running.set(bounds);
        store.depth.update(|depth| depth + 1);
        // SAFETY: the context of a member of the store is mapped (I-1).
        debug_assert!(unsafe { super::context::is_context(self.vmctx) });
        let left = activation.publish(|| {
            // SAFETY: the limits are the store's, which the context at `vmctx` names; trampoline and body
            // belong together by the contract of `new`, the slots and the stack by that of this function. A store is keyed
            // if its limits were made for a key.
            let enter = || unsafe {
                let (limits, vmctx) = (store.limits.as_ptr(), self.vmctx);
                if store.keyed {
                    arch::enter_keyed(limits, vmctx, self.trampoline, self.body, slots, guest_sp)
                } else {
                    arch::enter(limits, vmctx, self.trampoline, self.body, slots, guest_sp)
                }
            };
            arch::float_mode::plain(enter)
        });
        let result = if left == 0 {
            // SAFETY: as above; the guest has returned.
            Ok(load_results(unsafe {
                core::slice::from_raw_parts(slots, count)
            }))
        } else {
            Err(stopped(store, &activation))
        };
        store.depth.update(|depth| depth - 1);
        store.running.set(core::ptr::null());
        result
    }
}

/// Checks that no slice of a memory is out when a host function calls a guest (I-8). Without a host function
/// around it, a call has the instance to itself.
#[cold]
fn check_unborrowed(store: &Store) -> Result<(), Error> {
    let mut members = store.members.iter();
    if members.any(|member| member.memory_is_borrowed()) {
        return Err(Error::MemoryBorrowed);
    }
    Ok(())
}

/// What an outermost entry comes to, now that the guest has been left: whoever ended the run from outside was first, or the
/// run is over.
#[inline(always)]
pub(super) fn over<R>(store: &Store, result: &mut Result<R, Stopped>) {
    match result {
        Ok(_) => {
            if store.limits.words().end() {
                *result = Err(ended(store));
            }
        }
        Err(stopped) => stopped_over(store, stopped),
    }
}

#[cold]
fn not_returned(store: &Store, stopped: Stopped) -> Stopped {
    stopped_over(store, &stopped);
    stopped
}

#[cold]
fn stopped_over(store: &Store, stopped: &Stopped) {
    if stopped.keeps_stack() {
        store.limits.words().suspend();
    } else {
        store.limits.words().end();
    }
}

/// The guest has returned, and its results are nobody's: somebody was told that it has been ended.
#[cold]
pub(super) fn ended(store: &Store) -> Stopped {
    store.state.set(State::Terminated);
    Error::RuntimeTerminated(TerminationDetails::Remote).into()
}

/// Where slots begin that end at an address.
fn slots_below(end: usize, count: usize) -> usize {
    end.saturating_sub(count.saturating_mul(size_of::<ArraySlot>()))
}

/// Keeps the stack of a guest that was suspended.
#[cold]
fn park_stack(store: &Store, stack: Box<Stack>, count: usize) {
    let slots = slots_below(stack.top(), count);
    store.parked.set(Some(Parked::new(stack, slots)));
}

/// Checks that the host's stack has room for host functions.
#[inline]
pub(super) fn check_host_stack(store: &Store) -> Result<(), Error> {
    match thread::stack_left(arch::stack_pointer()) {
        Some(left) if left < HOST_STACK_ROOM => Err(stack_short(store)),
        _ => Ok(()),
    }
}

/// Values in slots.
pub(super) fn load_slots(slots: &[ArraySlot], types: &[ValType], store: &Store) -> Vec<Val> {
    slots
        .iter()
        .zip(types)
        .map(|(&slot, &ty)| store.val_from_slot(slot, ty))
        .collect()
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

/// How a guest was stopped. Small, since results of calls are moved a few times on their way out: an error in them
/// would be stored in parts and loaded whole each time, for which the processor waits.
pub(crate) enum Stopped {
    Error(Box<Error>),
    Panic(Box<dyn std::any::Any + Send>),
    /// By a fault that is no trap.
    Fatal(Box<Fatal>),
    /// It is suspended, and can go on.
    Yielded,
    /// It is suspended between two instructions, and can go on.
    Preempted,
}

impl Stopped {
    /// Whether the guest has used up its stack.
    #[cold]
    pub(crate) fn is_overflow(&self) -> bool {
        matches!(self, Self::Error(error)
            if matches!(&**error, Error::RuntimeFault(fault) if fault.code == TrapCode::StackOverflow))
    }

    /// Whether the guest is suspended, and its stack is to be kept.
    #[cold]
    pub(crate) fn keeps_stack(&self) -> bool {
        matches!(self, Self::Yielded | Self::Preempted)
    }

    /// The state that the instance is left in.
    pub(super) fn state(&self) -> State {
        match self {
            Self::Yielded => State::Yielded,
            Self::Preempted => State::Preempted,
            Self::Panic(_) | Self::Fatal(_) => State::Terminated,
            Self::Error(error) if matches!(**error, Error::RuntimeTerminated(_)) => {
                State::Terminated
            }
            Self::Error(_) => State::Faulted,
        }
    }

    /// The error; a panic goes on from here, on the stack of whoever called the guest, now that
    /// everything is in order again.
    #[cold]
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Error(error) => *error,
            Self::Yielded => Error::InstanceYielded,
            Self::Preempted => Error::InstancePreempted,
            Self::Panic(payload) => resume_panic(payload),
            Self::Fatal(fatal) => fatal.tell(),
        }
    }
}

impl From<Error> for Stopped {
    #[cold]
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

/// Makes an error of why the guest was left, while its frames are still there to be walked. Of an outermost
/// entry it is the end, and says in which state the instance is left.
#[cold]
pub(super) fn stopped(store: &Store, activation: &Activation) -> Stopped {
    let stopped = reason(store, activation);
    if store.depth.get() == 1 {
        store.state.set(stopped.state());
    }
    stopped
}

fn reason(store: &Store, activation: &Activation) -> Stopped {
    let exit = store.limits.exit();
    let yields = store.take_yield();
    let outcome = store.take_outcome();
    if let Some(trap) = activation.trap.take() {
        let start = Start {
            pc: trap.pc,
            fp: trap.fp,
            is_return: false,
            entry_sp: exit.entry_sp,
        };
        if store.counts_fuel() {
            let uncounted = store.uncounted_fuel(trap.ending, trap.pc);
            store.limits.set_fuel(trap.pinned.cast_signed() + uncounted);
        }
        return match trap.ending {
            Ending::Trap(code) => {
                let pcs = frames(store, activation, start);
                let info = trap_info(store, activation, code, &trap);
                Stopped::from(store.fault(code, info, &pcs))
            }
            Ending::Terminate(_) => Error::RuntimeTerminated(TerminationDetails::Signal).into(),
            Ending::Fatal(signum) => {
                let fault = FatalFault {
                    signum,
                    pc: trap.pc,
                    address: trap.addr,
                    backtrace: store.backtrace(&frames(store, activation, start)),
                };
                Stopped::Fatal(Box::new(store.extras().handlers.fatal(fault)))
            }
        };
    }
    match activation.interrupted.take() {
        Some(Interrupted::Suspended) => {
            keep_fuel(store);
            return suspended(store);
        }
        Some(Interrupted::Expired { kept }) => return expired(store, activation, kept),
        Some(Interrupted::OutOfFuel) => {
            keep_fuel(store);
            store.set_deadline_reached(false);
            store.is_out_of_fuel.set(true);
            // It goes on behind the check.
            if let Some(behind) = store.behind_check(store.room.stopped().map_or(0, |at| at.pc)) {
                store.room.set_pc(behind);
                return Stopped::Preempted;
            }
            store.is_out_of_fuel.set(false);
            return Stopped::from(store.fault(TrapCode::OutOfFuel, None, &[]));
        }
        Some(Interrupted::Killed { pinned }) => {
            if store.counts_fuel() {
                store.limits.set_fuel(pinned.cast_signed());
            }
            store.limits.words().honour();
            return Error::RuntimeTerminated(TerminationDetails::Remote).into();
        }
        None if yields => return Stopped::Yielded,
        None => {}
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
        Some(Outcome::Panic(payload))
            if store.catch_panics.get() && store.depth.get() == 1 && !store.under_host.get() =>
        {
            let details = TerminationDetails::OtherPanic(PanicPayload::new(payload));
            Error::RuntimeTerminated(details).into()
        }
        Some(Outcome::Panic(payload)) => Stopped::Panic(payload),
        Some(Outcome::Trap(code, detail)) => Stopped::from(fault(code, detail)),
        Some(Outcome::Host(HostError::Trap(code))) => Stopped::from(fault(code, None)),
        Some(Outcome::Host(HostError::Terminate(details))) => {
            Error::RuntimeTerminated(details).into()
        }
        Some(Outcome::Host(HostError::Error(error))) => Stopped::from(host_error(error)),
        Some(Outcome::Host(HostError::Exception(exception))) => {
            Stopped::from(store.uncaught(*exception, &pcs()))
        }
        Some(Outcome::Exception(exn)) => {
            Stopped::from(store.uncaught(store.exception_of(&exn), &pcs()))
        }
        // It has not gone on: `arch::capture::go_on` found an interrupt first.
        None if store.limits.words().is_wanted() => {
            store.limits.words().honour();
            Error::RuntimeTerminated(TerminationDetails::Remote).into()
        }
        None if store.limits.words().wanted().expire => expired(store, activation, true),
        None => suspended(store),
    }
}

/// The guest is suspended between two instructions, and notes why.
fn suspended(store: &Store) -> Stopped {
    let reached = store.limits.words().is_at_epoch();
    store.set_deadline_reached(reached);
    Stopped::Preempted
}

/// The guest has trapped at its epoch deadline, where the room says, if its state is there.
fn expired(store: &Store, activation: &Activation, kept: bool) -> Stopped {
    let mut pcs = Vec::new();
    if kept {
        keep_fuel(store);
        let entry_sp = store.limits.exit().entry_sp;
        let stack = &activation.bounds().usable;
        let start = store
            .room
            .stopped()
            .and_then(|stopped| interrupted_at(stack, &stopped, entry_sp));
        // Without a frame of its own the guest has just been entered.
        let nowhere = Start {
            pc: 0,
            fp: 0,
            is_return: false,
            entry_sp,
        };
        pcs = frames(store, activation, start.unwrap_or(nowhere));
    }
    Stopped::from(store.fault(TrapCode::EpochDeadline, None, &pcs))
}

/// Has the account of a guest that was suspended between two instructions say what it has counted up to there.
fn keep_fuel(store: &Store) {
    if let Some(stopped) = store.room.stopped().filter(|_| store.counts_fuel()) {
        store.limits.set_fuel(stopped.pinned.cast_signed());
    }
}

/// What is known of a trap that the signal handler found.
fn trap_info(
    store: &Store,
    activation: &Activation,
    code: TrapCode,
    trap: &TrapRecord,
) -> Option<Box<TrapInfo>> {
    match code {
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
