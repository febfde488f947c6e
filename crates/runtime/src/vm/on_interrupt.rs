//! The signal handler's part in stopping a guest: gathers the facts, asks `stop::decide`, applies the decision.
//!
//! Runs on the alternate signal stack. No allocation, no lock, no formatting (I-7).
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use super::activation::{Activation, Interrupted};
use super::slice;
use crate::arch::places::{self, Place};
use crate::arch::regs::Regs;
use crate::arch::{self, capture};
use crate::code::registry;
use crate::stop::decide::{At, Decision, Facts, decide};
use crate::sys::signal::{Action, SignalInfo};

/// The interrupt signal has arrived.
pub(crate) fn on_interrupt(info: &SignalInfo) -> Action {
    slice::expire();
    let action = Activation::with_current(|activation| interrupted(info, activation))
        .unwrap_or(Action::Resume);
    match action {
        // Of others: whoever handled it before.
        Action::Resume if !info.ours => Action::Forward,
        action => action,
    }
}

/// An illegal instruction: whether it is one of ours, behind a test that has found something.
pub(crate) fn at_stop(info: &SignalInfo) -> Option<Action> {
    let Some(Place::Stop { .. }) = places::place(info.pc) else {
        return None;
    };
    Activation::with_current(|activation| interrupted(info, activation))
}

fn interrupted(info: &SignalInfo, activation: &Activation) -> Action {
    let store = activation.store();
    let words = store.limits.words();
    let wanted = words.wanted();
    let place = places::place(info.pc);
    let at = match place {
        Some(Place::Door) => At::Door,
        Some(Place::Stop { .. }) => At::Stop,
        Some(Place::GoingOn) => At::GoingOn,
        Some(Place::Inside) => At::Inside,
        None if registry::lookup(info.pc, |_| ()).is_some() => At::Guest,
        None => At::Elsewhere,
    };
    let stack = &activation.bounds().usable;
    let facts = Facts {
        at,
        kill: wanted.kill,
        expire: wanted.expire,
        preempt: wanted.suspend,
        can_wait: store.depth.get() == 1
            && !store.under_host.get()
            && !store.room.as_ptr().is_null(),
        raised: store.limits.leave_requested(),
        in_guest: words.is_in_guest(),
        on_guest_stack: stack.contains(&info.sp)
            || info.sp == stack.end
            || activation.bounds().guard.contains(&info.sp),
        on_signal_stack: info.on_signal_stack,
    };
    // At a stop the guest stands at the test before it.
    let pc = match place {
        Some(Place::Stop { open, .. }) => open,
        _ => info.pc,
    };
    match decide(&facts) {
        Decision::Ignore => Action::Resume,
        Decision::Later => Action::Hold,
        Decision::Pass => {
            if store.room.as_ptr().is_null() {
                words.forget_preemption();
            }
            pass(place)
        }
        Decision::Again => Action::Redirect(Regs {
            pc: capture::again(store.keyed),
            sp: store.limits.host_sp(),
            arg0: store.limits.control().addr(),
            arg1: store.room.registers(),
            rbx: 0,
            rax: 0,
        }),
        Decision::Kill => {
            let pinned = info.pinned as u64;
            activation
                .interrupted
                .set(Some(Interrupted::Killed { pinned }));
            leave(info, activation)
        }
        Decision::Expire => {
            let room = store.room.as_ptr();
            // SAFETY: as for `Decision::Suspend`.
            let kept = !room.is_null() && unsafe { (*room).take(info.context, pc) };
            activation
                .interrupted
                .set(Some(Interrupted::Expired { kept }));
            leave(info, activation)
        }
        Decision::Suspend => {
            // SAFETY: the room is the store's own, and nothing else touches it while the guest is interrupted;
            // the context is the running handler's.
            let taken = unsafe { (*store.room.as_ptr()).take(info.context, pc) };
            if taken {
                activation.interrupted.set(Some(Interrupted::Suspended));
                return leave(info, activation);
            }
            // The processor keeps more than there is room for: better run on than be lost.
            words.forget_preemption();
            pass(place)
        }
    }
}

/// Lets the thread go on, behind a test that has found something.
fn pass(place: Option<Place>) -> Action {
    match place {
        Some(Place::Stop { past, .. }) => Action::Jump(past),
        _ => Action::Resume,
    }
}

/// The guest has found no fuel at a check: it is suspended there, if that is wanted and can be done.
pub(crate) fn out_of_fuel(info: &SignalInfo, activation: &Activation) -> Option<Action> {
    let store = activation.store();
    if !store.waits_for_fuel.get() || store.depth.get() != 1 || store.room.as_ptr().is_null() {
        return None;
    }
    // SAFETY: as for `Decision::Suspend`.
    let taken = unsafe { (*store.room.as_ptr()).take(info.context, info.pc) };
    taken.then(|| {
        activation.interrupted.set(Some(Interrupted::OutOfFuel));
        leave(info, activation)
    })
}

/// Has the thread leave the guest for the host's stack.
pub(super) fn leave(info: &SignalInfo, activation: &Activation) -> Action {
    Action::Redirect(Regs {
        pc: arch::way_out(activation.store().keyed),
        // `leave` loads the host's stack pointer first and uses the stack only then.
        sp: info.sp,
        arg0: 0,
        arg1: 0,
        rbx: activation.limits.addr(),
        rax: 1,
    })
}
