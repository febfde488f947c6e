//! A guest that is suspended: what waits with it, and how it goes on or is given up.
//!
//! ```text
//!  run ---> guest ---> host function: yield      Store::suspension   how the host function goes on
//!  <--- Yielded <--- leave                       Store::parked       the guest's stack, its slots
//!                                                Store::yielded      what it handed out
//!
//!  resume ---> host function goes on ---> arch::resume ---> guest ---> ...
//!         |                          '--> fails: a request, which arch::resume obeys
//!         '--> suspends again: likewise
//! ```
//!
//! While it waits, `depth` is 0, `running` is null, the limits keep the guest's exit, and the state of the
//! store is `Yielded`, in which nothing else enters the guest.
//!
//! Programs yield often, so the way out and in again is short where a host function has nothing left to do but to
//! return a word: nothing that waits is moved then, it is changed where it is.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::cell::{Cell, OnceCell, RefCell};
use core::ops::Range;
use core::ptr;
use std::fmt;

use selvedge_artifact::ids::FuncIdx;
use selvedge_artifact::traps::TrapCode;

use super::activation::{Activation, Outcome};
use super::backtrace::{self, Start};
use super::callee::results_of;
use super::context::ArraySlot;
use super::enter::{Stopped, check_host_stack, load_slots, over, stopped};
use super::fiber::{Fiber, Wake};
use crate::arch::{self, capture, places};
use crate::error::Error;
use crate::fault::details::WasmBacktrace;
use crate::host::error::HostError;
use crate::host::func::WasmResults;
use crate::host::suspend::{
    Answer, Bits, Erased, ErasedCall, ErasedFlow, Expects, Results, Yield, YieldedVal,
};
use crate::host::vmctx::Vmctx;
use crate::instance::record::Record;
use crate::instance::state::State;
use crate::instance::store::Store;
use crate::stack::{Stack, cache};
use crate::sys::thread;
use crate::traphandlers::{host_boundary, lazy_per_thread_init, scopes};
use crate::value::Val;

/// What the guest left behind when it was suspended.
pub(crate) struct Parked {
    /// Its stack, with its frames.
    stack: Box<Stack>,
    /// Address of the slots of its entry, on that stack.
    slots: usize,
    /// The function that was called: position of its member, and index there.
    called: Option<(usize, FuncIdx)>,
}

impl Parked {
    pub(super) fn new(stack: Box<Stack>, slots: usize) -> Self {
        Self {
            stack,
            slots,
            called: None,
        }
    }

    pub(super) fn set_called(&mut self, called: (usize, FuncIdx)) {
        self.called = Some(called);
    }
}

/// How a host function that suspended its guest goes on.
enum Continuation {
    Results(Results),
    Call(ErasedCall),
}

/// A host function that has suspended its guest in the middle: its frames wait on a fiber.
struct OnFiber {
    fiber: Fiber,
    expects: Expects,
    /// Who called it.
    caller: *const Record,
    /// Where its results belong.
    place: Place,
}

/// A host function that has suspended its guest by what it returned.
struct Waiting {
    continuation: Continuation,
    expects: Expects,
    /// Who called it.
    caller: *const Record,
    /// Where its results belong.
    place: Place,
}

/// Where the results of a host function belong.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// In a register.
    Register,
    /// In that many slots on the guest's stack.
    Slots(*mut ArraySlot, usize),
}

impl Place {
    /// Puts results where they belong; what a register is to hold.
    fn put(self, bits: &[u64]) -> u64 {
        match self {
            Self::Register => return bits[0],
            Self::Slots(slots, count) => {
                for (i, &value) in bits.iter().take(count).enumerate() {
                    // SAFETY: the slots are on the guest's stack, in the frame that waits for the host
                    // function, and as many as it has results.
                    unsafe { *slots.add(i) = ArraySlot::new(value) };
                }
            }
        }
        0
    }
}

/// The part of a store that deals with suspended host functions.
#[derive(Default)]
pub(crate) struct Suspension {
    /// What the host function returns in a register when the guest is resumed without a value, if that is all that
    /// it has left to do.
    returns: Cell<Option<u64>>,
    /// What there is if it has more to do, once one had.
    more: OnceCell<Box<More>>,
}

/// The part of a store that deals with suspended host functions that have more to do than to return a word.
#[derive(Default)]
struct More {
    /// How one goes on, if no frames of it wait.
    waiting: Cell<Option<Waiting>>,
    /// Its frames, if they wait. They are not moved from slice to slice, and borrowed while one runs: a host function
    /// that is called meanwhile can't suspend the guest.
    on_fiber: RefCell<Option<OnFiber>>,
    /// What a host function on a fiber hands out with the slice that it ends.
    asked: Cell<Option<(YieldedVal, Expects)>>,
    answer: Cell<Answer>,
    /// Results of a host function that is done on its fiber.
    results: Cell<Bits>,
    /// `catch_traps` around the slice that runs.
    scopes: Cell<u32>,
    unwinding: Cell<bool>,
    /// Whether a task was told to who may end the guest.
    is_task_known: Cell<bool>,
}

impl Suspension {
    /// Whether the frames of a suspended host function are being unwound.
    pub(crate) fn unwinding(&self) -> bool {
        self.more.get().is_some_and(|more| more.unwinding.get())
    }

    /// Notes whether a task is known to who may end the guest; whether one was.
    pub(crate) fn set_task_known(&self, known: bool) -> bool {
        match self.more.get() {
            None if !known => false,
            _ => self.more().is_task_known.replace(known),
        }
    }

    /// How many `catch_traps` were around the slice that runs when it began.
    pub(crate) fn scopes(&self) -> u32 {
        self.more.get().map_or(0, |more| more.scopes.get())
    }

    /// Says what the slice that is about to end hands out.
    pub(crate) fn ask(&self, val: YieldedVal, expects: Expects) {
        self.more().asked.set(Some((val, expects)));
    }

    /// Takes what the guest was resumed with.
    pub(crate) fn take_answer(&self) -> Answer {
        self.more().answer.take()
    }

    /// Keeps the results of a host function that is done on its fiber.
    pub(super) fn set_results(&self, bits: Bits) {
        self.more().results.set(bits);
    }

    /// The results of a host function that is done on its fiber.
    pub(super) fn results(&self) -> Bits {
        self.more().results.get()
    }

    /// Makes it what it is for a new instance.
    pub(crate) fn renew(&mut self) {
        self.returns.set(None);
        if let Some(more) = self.more.get_mut() {
            **more = More::default();
        }
    }

    fn more(&self) -> &More {
        self.more.get_or_init(Box::default)
    }

    /// Takes the frames of a host function that wait, if there are any.
    fn take_fiber(&self) -> Option<OnFiber> {
        self.more.get()?.on_fiber.take()
    }

    /// Whether frames of a host function wait for which something holds.
    fn has_fiber(&self, which: impl FnOnce(&OnFiber) -> bool) -> bool {
        let on_fiber = self.more.get().map(|more| more.on_fiber.borrow());
        on_fiber.is_some_and(|on_fiber| on_fiber.as_ref().is_some_and(which))
    }

    /// Forgets how a host function goes on of which no frames wait.
    fn forget(&self) {
        self.returns.set(None);
        if let Some(more) = self.more.get() {
            drop(more.waiting.take());
        }
    }
}

/// Has the guest of a host function left, because the host function says so by what it returns.
#[inline]
pub(super) fn park<T: WasmResults>(caller: &Record, place: Place, suspended: Yield<T>) {
    let store = caller.store();
    if let Err(error) = store.check_suspendable() {
        store.raise(Outcome::Host(error));
        return;
    }
    let suspended = match place {
        Place::Register => suspended.into_word(),
        Place::Slots(..) => Err(suspended),
    };
    match suspended {
        Ok((word, val)) => {
            store.suspension.returns.set(Some(word));
            store.raise_yield(val);
        }
        Err(suspended) => park_erased(caller, place, suspended.erased()),
    }
}

/// As [`park`], when it has been checked that the guest can be suspended.
#[cold]
fn park_erased(caller: &Record, place: Place, (val, expects, next): (YieldedVal, Expects, Erased)) {
    let continuation = match next {
        Erased::Return(results) => Continuation::Results(results),
        Erased::Call(call) => Continuation::Call(call),
    };
    let store = caller.store();
    store.suspension.more().waiting.set(Some(Waiting {
        continuation,
        expects,
        caller,
        place,
    }));
    store.raise_yield(val);
}

/// Runs the first slice of a host function on a fiber; whether it has returned. If not, a request is there.
///
/// # Safety
///
/// - `root` does not unwind.
/// - `caller` is the record that the calling instance's context names.
pub(super) unsafe fn start_fiber(
    caller: &Record,
    place: Place,
    root: impl FnOnce(&super::fiber::Yielder) + 'static,
) -> bool {
    let store = caller.store();
    let more = store.suspension.more();
    let outer = more.scopes.replace(scopes());
    // SAFETY: passed on from the caller.
    let fiber = unsafe { Fiber::start(root) };
    more.scopes.set(outer);
    match fiber {
        Ok(None) => !store.is_raised(),
        Ok(Some(fiber)) => {
            let (val, expects) = more.asked.take().unwrap_or_default();
            *more.on_fiber.borrow_mut() = Some(OnFiber {
                fiber,
                expects,
                caller,
                place,
            });
            store.raise_yield(val);
            false
        }
        Err(error) => {
            let error = Error::system("map a stack for a host function")(error);
            store.raise(Outcome::Host(HostError::from(error)));
            false
        }
    }
}

const NOT_SUSPENDED: Error = Error::InvalidArgument("the guest is not suspended");

/// Lets the suspended guest of a store go on; the values that it returns.
///
/// # Errors
///
/// Those of [`Instance::resume_with_val`](crate::Instance::resume_with_val). What was given and does not fit
/// changes nothing.
pub(crate) fn resume(store: &Store, answer: Answer) -> Result<Vec<Val>, Error> {
    lazy_per_thread_init()?;
    check_host_stack(store)?;
    if let Some(result) = store.suspension.returns.get() {
        Expects::default().check(&answer)?;
        if let Some(parked) = store.parked.take() {
            store.suspension.returns.set(None);
            return go_on_yielded(store, parked, || result);
        }
    }
    if store.state.get() == State::Preempted {
        return go_on_preempted(store, &answer);
    }
    let Some(more) = store.suspension.more.get() else {
        return Err(NOT_SUSPENDED);
    };
    if let Some(on_fiber) = &*more.on_fiber.borrow() {
        on_fiber.fits(&answer)?;
    } else {
        return resume_waiting(store, more, answer);
    }
    match store.parked.take() {
        Some(parked) => go_on_yielded(store, parked, || go_on_fiber(store, more, answer)),
        None => Err(NOT_SUSPENDED),
    }
}

/// Lets a guest go on whose host function has more to do than to return a word.
#[inline(never)]
fn resume_waiting(store: &Store, more: &More, answer: Answer) -> Result<Vec<Val>, Error> {
    let (Some(waiting), Some(parked)) = (more.waiting.take(), store.parked.take()) else {
        return Err(NOT_SUSPENDED);
    };
    if let Err(error) = waiting.expects.check(&answer) {
        more.waiting.set(Some(waiting));
        store.parked.set(Some(parked));
        return Err(error);
    }
    go_on_yielded(store, parked, || go_on(store, waiting, answer))
}

/// Lets a guest go on that a host function has suspended; `result` finishes the host function.
#[inline]
fn go_on_yielded(
    store: &Store,
    parked: Parked,
    result: impl FnOnce() -> u64,
) -> Result<Vec<Val>, Error> {
    store.yielded.set(None);
    on_stack(store, parked, || {
        store.limits.words().begin(thread::os_id());
        let result = result();
        if store.counts_fuel() {
            store.limits.park_fuel();
        }
        // SAFETY: the guest was left by the request of the host function that has just gone on; its stack
        // was kept as it was, entries since have put back what they changed. A failure of the host function
        // is a request, and then no result is looked at.
        arch::float_mode::plain(|| unsafe {
            let control = store.limits.control();
            if store.keyed {
                arch::resume_keyed(control, result)
            } else {
                arch::resume(control, result)
            }
        })
    })
}

/// Lets a guest go on that was suspended between two instructions.
#[inline(never)]
fn go_on_preempted(store: &Store, answer: &Answer) -> Result<Vec<Val>, Error> {
    Expects::default().check(answer)?;
    let Some(parked) = store.parked.take() else {
        return Err(NOT_SUSPENDED);
    };
    store.is_out_of_fuel.set(false);
    if store.counts_fuel() {
        // It may have been given more.
        store.room.set_pinned(store.limits.fuel().cast_unsigned());
    }
    on_stack(store, parked, || {
        store.limits.words().begin_again(thread::os_id());
        // SAFETY: the guest was left by the signal handler, which has put its state there; its stack was kept as it
        // was.
        arch::float_mode::plain(|| unsafe {
            let (control, registers) = (store.limits.control(), store.room.registers());
            if store.keyed {
                capture::go_on_keyed(control, registers)
            } else {
                capture::go_on(control, registers)
            }
        })
    })
}

/// Lets a guest go on, on the stack that was kept for it.
#[inline]
fn on_stack(store: &Store, parked: Parked, go_on: impl FnOnce() -> u64) -> Result<Vec<Val>, Error> {
    store.state.set(State::Ready);
    let bounds = parked.stack.bounds();
    let activation = Activation::new(
        store,
        store.limits.as_ptr(),
        bounds,
        store.memories.as_slice(),
    );
    store.running.set(bounds);
    store.depth.set(1);
    let left = activation.publish(go_on);
    if left != 0 && !activation.was_stopped() && store.take_yield() {
        store.state.set(State::Yielded);
        store.limits.words().suspend();
        store.depth.set(0);
        store.running.set(ptr::null());
        store.parked.set(Some(parked));
        return Err(Error::InstanceYielded);
    }
    finish(store, &activation, parked, left)
}

/// What the guest comes to that has been left on the stack that was kept for it.
#[inline(never)]
fn finish(
    store: &Store,
    activation: &Activation,
    parked: Parked,
    left: u64,
) -> Result<Vec<Val>, Error> {
    let mut result = if left == 0 {
        Ok(parked.results(store))
    } else {
        Err(stopped(store, activation))
    };
    over(store, &mut result);
    store.depth.set(0);
    store.running.set(ptr::null());
    match &result {
        Err(stopped) if stopped.keeps_stack() => store.parked.set(Some(parked)),
        Err(stopped) if stopped.is_overflow() => cache::release_overflowed(parked.stack),
        _ => cache::release(parked.stack),
    }
    result.map_err(Stopped::into_error)
}

impl Parked {
    /// The results that the guest left in its slots.
    fn results(&self, store: &Store) -> Vec<Val> {
        let Some(called) = self.called else {
            return Vec::new();
        };
        let types = results_of(store, called);
        // SAFETY: the slots of the entry are as many as the function has results; the guest has returned.
        load_slots(unsafe { slots_at(self.slots, types.len()) }, types, store)
    }
}

/// The slots at an address.
///
/// # Safety
///
/// - There are `count` initialised slots on a guest stack whose guest does not run.
unsafe fn slots_at<'a>(addr: usize, count: usize) -> &'a [ArraySlot] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(addr), count) }
}

impl OnFiber {
    /// Whether the guest can be resumed here and with this.
    fn fits(&self, answer: &Answer) -> Result<(), Error> {
        if self.fiber.is_of_this_thread() {
            self.expects.check(answer)
        } else {
            Err(Error::OtherThread)
        }
    }

    /// Leaves the frames of a host function, and what they may have lent to other threads, where they are for
    /// ever (I-50).
    fn leak(self) {
        // SAFETY: the store, and with it the record, lives while this runs.
        core::mem::forget(unsafe { &*self.caller }.keep_imports());
        // A fiber that is not done is never dropped.
    }
}

/// Lets the frames of a host function go on; its result, if that is to be in a register.
fn go_on_fiber(store: &Store, suspension: &More, answer: Answer) -> u64 {
    let mut slot = suspension.on_fiber.borrow_mut();
    let Some(on_fiber) = &mut *slot else { return 0 };
    suspension.answer.set(answer);
    let outer = suspension.scopes.replace(scopes());
    let done = on_fiber.fiber.slice(Wake::GoOn);
    suspension.scopes.set(outer);
    if !done {
        let (val, expects) = suspension.asked.take().unwrap_or_default();
        on_fiber.expects = expects;
        store.raise_yield(val);
        return 0;
    }
    let place = on_fiber.place;
    *slot = None;
    // If it failed, or suspended the guest by its return value, a request is there.
    place.put(&suspension.results.get())
}

/// Lets the host function go on; its result, if that is to be in a register.
fn go_on(store: &Store, waiting: Waiting, answer: Answer) -> u64 {
    let Waiting {
        continuation,
        caller,
        place,
        ..
    } = waiting;
    match continuation {
        Continuation::Results(results) => place.put(results.bits()),
        Continuation::Call(call) => {
            // SAFETY: the record was the caller's when the guest was suspended; records never leave their
            // store.
            let caller = unsafe { &*caller };
            match host_boundary(|| call(&Vmctx::new(caller), answer)) {
                Ok(Ok(ErasedFlow::Return(results))) => return place.put(results.bits()),
                Ok(Ok(ErasedFlow::Yield(suspended))) => match store.check_suspendable() {
                    Ok(()) => park_erased(caller, place, suspended),
                    Err(error) => store.raise(Outcome::Host(error)),
                },
                Ok(Err(error)) => store.raise(Outcome::Host(error)),
                Err(reason) => store.raise(reason.into()),
            }
            0
        }
    }
}

/// Gives up a suspended guest: the frames of its suspending host function are unwound, its own stack is
/// released. Without a suspended guest it does nothing.
///
/// # Errors
///
/// [`Error::OtherThread`] if there are frames of another thread. Nothing is changed then.
pub(crate) fn abandon(store: &Store) -> Result<(), Error> {
    if is_of_other_thread(store) {
        return Err(Error::OtherThread);
    }
    store.forget_task();
    let on_fiber = store.suspension.take_fiber();
    // Suspended from outside, or by what it returned, a host function has no frames that wait.
    store.suspension.forget();
    store.yielded.set(None);
    let parked = store.parked.take();
    if let Some(mut on_fiber) = on_fiber {
        // Destructors of its frames may call the guest, as the host function might have.
        let bounds = parked
            .as_ref()
            .map(|parked| ptr::from_ref(parked.stack.bounds()));
        store.running.set(bounds.unwrap_or(ptr::null()));
        store.depth.set(1);
        let done = unwind(store, &mut on_fiber.fiber);
        store.depth.set(0);
        store.running.set(ptr::null());
        if !done {
            on_fiber.leak();
        }
    }
    if let Some(parked) = parked {
        cache::release(parked.stack);
    }
    Ok(())
}

/// Whether frames of another thread wait.
fn is_of_other_thread(store: &Store) -> bool {
    let is_other = |on_fiber: &OnFiber| !on_fiber.fiber.is_of_this_thread();
    store.suspension.has_fiber(is_other)
}

/// Unwinds the frames of a fiber; whether that can be done.
fn unwind(store: &Store, fiber: &mut Fiber) -> bool {
    if cfg!(panic = "abort") {
        return false;
    }
    let more = store.suspension.more();
    more.unwinding.set(true);
    let done = fiber.slice(Wake::Unwind);
    more.unwinding.set(false);
    // What it says at last is nobody's business any more: the guest is given up.
    drop(store.take_outcome());
    store.suspension.forget();
    store.yielded.set(None);
    done
}

/// Has a guest trap that is suspended between two instructions; the trap.
pub(crate) fn trap(store: &Store, code: TrapCode) -> Error {
    let backtrace = backtrace(store);
    if let Some(parked) = store.parked.take() {
        cache::release(parked.stack);
    }
    store.state.set(State::Faulted);
    store.limits.words().end();
    store.fault_at(code, backtrace)
}

/// Gives up a suspended guest whose store is about to be dropped, wherever.
pub(crate) fn abandon_for_good(store: &Store) {
    if abandon(store).is_ok() {
        return;
    }
    // Frames of another thread: they can't be unwound here, and what they own must stay.
    if let Some(on_fiber) = store.suspension.take_fiber() {
        on_fiber.leak();
    }
}

/// Whether frames of a host function wait, which can go on on one thread only.
pub(crate) fn is_bound(store: &Store) -> bool {
    store.suspension.has_fiber(|_| true)
}

/// Where a suspended guest stands; nothing if it is not suspended.
pub(crate) fn backtrace(store: &Store) -> WasmBacktrace {
    let Some(parked) = store.parked.take() else {
        return WasmBacktrace::default();
    };
    let stack = parked.stack.bounds().usable.clone();
    let exit = store.limits.exit();
    let start = if store.state.get() == State::Preempted {
        store
            .room
            .stopped()
            .and_then(|stopped| interrupted_at(&stack, &stopped, exit.entry_sp))
    } else {
        // The frame that `exit.fp` names is the trampoline's.
        words_at(&stack, exit.fp).map(|[fp, _]| Start {
            pc: exit.pc,
            fp,
            is_return: true,
            entry_sp: exit.entry_sp,
        })
    };
    let mut pcs = Vec::new();
    if let Some(start) = start {
        // SAFETY: the stack is kept, the guest was stopped there and does not run.
        unsafe { backtrace::walk(&stack, start, |pc| pcs.push(pc)) };
    }
    store.parked.set(Some(parked));
    store.backtrace(&pcs)
}

/// Where the guests of a store stand that wait for the host function that asks, innermost first.
pub(crate) fn backtrace_of_callers(store: &Store) -> WasmBacktrace {
    // SAFETY: while a guest of the store waits, its entry keeps the bounds of the stack that it holds.
    let Some(bounds) = (unsafe { store.running.get().as_ref() }) else {
        return WasmBacktrace::default();
    };
    let stack = &bounds.usable;
    let mut pcs = Vec::new();
    let outer = store.waiting.borrow();
    for exit in [store.limits.exit()].iter().chain(outer.iter().rev()) {
        let start = words_at(stack, exit.fp).map(|[fp, _]| Start {
            pc: exit.pc,
            fp,
            is_return: true,
            entry_sp: exit.entry_sp,
        });
        if let Some(start) = start {
            // SAFETY: the guest waits at this exit, so its frames lie on the stack and nothing runs on them.
            unsafe { backtrace::walk(stack, start, |pc| pcs.push(pc)) };
        }
    }
    store.backtrace(&pcs)
}

/// Where the walk of a guest begins that was stopped between two instructions.
pub(super) fn interrupted_at(
    stack: &Range<usize>,
    stopped: &capture::Stopped,
    entry_sp: usize,
) -> Option<Start> {
    let start = |pc, fp, is_return| Start {
        pc,
        fp,
        is_return,
        entry_sp,
    };
    match places::place(stopped.pc) {
        None => Some(start(stopped.pc, stopped.fp, false)),
        Some(_) => match places::frame_at(stopped.pc) {
            places::Frame::None => None,
            places::Frame::Pad => Some(start(stopped.r11, stopped.fp, false)),
            places::Frame::Returned => Some(start(stopped.r11, stopped.fp, true)),
            places::Frame::Saved => words_at(stack, stopped.sp).map(|[fp, pc]| start(pc, fp, true)),
            places::Frame::Return => {
                words_at(stack, stopped.sp).map(|[pc, _]| start(pc, stopped.fp, true))
            }
        },
    }
}

/// Two words of the stack of a guest that does not run.
fn words_at(stack: &Range<usize>, addr: usize) -> Option<[usize; 2]> {
    let end = addr.checked_add(16)?;
    if !addr.is_multiple_of(8) || addr < stack.start || end > stack.end {
        return None;
    }
    // SAFETY: both words lie in the stack, which the caller has kept mapped.
    Some(unsafe { *(addr as *const [usize; 2]) })
}

impl fmt::Debug for Suspension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspension").finish_non_exhaustive()
    }
}
