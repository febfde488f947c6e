//! The signal handler's part: gathers the facts, asks `fault::classify`, applies the decision.
//!
//! Runs on the alternate signal stack. No allocation, no lock, no formatting (I-7).
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use selvedge_artifact::pcmap::TrapTable;
use selvedge_artifact::traps::TrapCode;

use super::activation::{Activation, Ending, TrapRecord};
use super::custom_handler;
use super::on_interrupt::{self, at_stop, on_interrupt, out_of_fuel};
use super::signal_handler::{SignalBehavior, SignalFacts};
use crate::arch::places;
use crate::code::registry;
use crate::error::Error;
use crate::fault::classify::{Decision, Facts, Kind, Place, classify};
use crate::fault::fatal::Handlers;
use crate::sys::signal::{self, Action, SignalInfo};
use crate::sys::{keys, mmap};

/// Installs the handler, once a process.
pub(crate) fn install() -> Result<(), Error> {
    signal::install(on_signal).map_err(Error::system("install the trap handler"))
}

/// Takes the handler out again; false if somebody has installed one above it.
pub(crate) fn uninstall() -> Result<bool, Error> {
    signal::uninstall().map_err(Error::system("remove the trap handler"))
}

fn on_signal(info: &SignalInfo) -> Action {
    // The kernel starts handlers without keys, and gives the thread back what it had when they return.
    keys::open();
    if is_host_without_key(info) {
        return Action::Resume;
    }
    if info.signum == signal::interrupt_signal() {
        return on_interrupt(info);
    }
    if info.signum == libc::SIGILL
        && let Some(action) = at_stop(info)
    {
        return action;
    }
    if custom_handler::handles(info) {
        return Action::Resume;
    }
    let kind = match (info.signum, info.code) {
        // Memory that has failed is nobody's trap, wherever it was.
        (libc::SIGBUS, libc::BUS_MCEERR_AR | libc::BUS_MCEERR_AO) => return Action::Forward,
        (libc::SIGSEGV | libc::SIGBUS, _) => Kind::Access,
        (libc::SIGFPE, _) => Kind::Arithmetic,
        (libc::SIGILL, _) => Kind::Illegal,
        _ => return Action::Forward,
    };
    Activation::with_current(|activation| decide(info, kind, activation)).unwrap_or(Action::Forward)
}

/// Whether host code has met a guest's page on a thread that could not use its key. Now it can (I-82).
fn is_host_without_key(info: &SignalInfo) -> bool {
    let is_refused = info.signum == libc::SIGSEGV && info.code == keys::REFUSED;
    if !is_refused
        || registry::lookup(info.pc, |_| ()).is_some()
        || places::place(info.pc).is_some()
    {
        return false;
    }
    // SAFETY: both are what the kernel gave to the running handler.
    unsafe { keys::open_for_host(info.info, info.context) }
}

fn decide(info: &SignalInfo, kind: Kind, activation: &Activation) -> Action {
    let code = registry::lookup(info.pc, |entry| {
        let offset = (info.pc - entry.start) as u32;
        // SAFETY: the module that registered the entry owns the table, and unregisters before it frees
        // it (I-4).
        let traps = unsafe { core::slice::from_raw_parts(entry.traps, entry.traps_len) };
        TrapTable::new(traps).and_then(|table| table.lookup(offset))
    });
    let (stack, guard) = (&activation.bounds().usable, &activation.bounds().guard);
    let facts = Facts {
        kind,
        raised: info.code > 0,
        running: true,
        in_code: code.is_some(),
        on_guest_stack: stack.contains(&info.sp)
            || info.sp == stack.end
            || guard.contains(&info.sp),
        stack_left: (info.sp as isize).wrapping_sub(stack.start as isize),
        table: code.flatten(),
        place: place(info, activation),
    };
    let decision = classify(&facts);
    let handlers = activation.store().known_extras();
    let handlers = handlers.map(|extras| &extras.handlers);
    if facts.is_of_guest() {
        let shown = SignalFacts {
            trapcode: match decision {
                Decision::Trap(code) => Some(code),
                Decision::Forward | Decision::Lend => None,
            },
            signum: info.signum,
            code: info.code,
            pc: info.pc,
            address: info.fault_addr,
        };
        let said = handlers.map_or(SignalBehavior::Default, |handlers| {
            handlers.signal.ask(&shown)
        });
        match said {
            SignalBehavior::Default => {}
            SignalBehavior::Continue => return Action::Resume,
            SignalBehavior::Terminate => {
                return leave(info, activation, Ending::Terminate(shown.trapcode));
            }
        }
    }
    match decision {
        Decision::Forward if facts.is_of_guest() && handlers.is_some_and(Handlers::has_fatal) => {
            leave(info, activation, Ending::Fatal(info.signum))
        }
        Decision::Forward => Action::Forward,
        Decision::Lend => lend_reserve(info, activation),
        Decision::Trap(TrapCode::OutOfFuel) => out_of_fuel(info, activation)
            .unwrap_or_else(|| leave(info, activation, Ending::Trap(TrapCode::OutOfFuel))),
        Decision::Trap(code) => leave(info, activation, Ending::Trap(code)),
    }
}

/// Has the guest left for the host's stack.
fn leave(info: &SignalInfo, activation: &Activation, ending: Ending) -> Action {
    let record = TrapRecord {
        ending,
        pc: info.pc,
        fp: info.fp,
        pinned: info.pinned as u64,
        addr: info.fault_addr,
    };
    activation.trap.set(Some(record));
    on_interrupt::leave(info, activation)
}

/// Gives a signal handler that runs on the guest's stack some room below its end.
fn lend_reserve(info: &SignalInfo, activation: &Activation) -> Action {
    let bounds = activation.bounds();
    let Some(loan) = bounds.next_loan(fault_addr(info)) else {
        return Action::Forward;
    };
    // SAFETY: the reserve is of the stack that the activation holds, and the guest, whose overflow is to
    // fault, waits for the handler; what it may use of it afterwards ends above a whole guard (I-10).
    if !unsafe { mmap::open_in_handler(&loan) } {
        return Action::Forward;
    }
    bounds.set_lent(&loan);
    Action::Resume
}

/// The faulting address, if the kernel gives a usable one: not of a non-canonical access, nor of a signal
/// that could not be delivered.
fn fault_addr(info: &SignalInfo) -> Option<usize> {
    const SI_KERNEL: i32 = 0x80;
    info.fault_addr.filter(|_| info.code != SI_KERNEL)
}

/// Where the faulting address lies.
fn place(info: &SignalInfo, activation: &Activation) -> Place {
    let Some(addr) = fault_addr(info) else {
        return Place::Unknown;
    };
    let bounds = activation.bounds();
    if bounds.reserve.contains(&addr) {
        return Place::Reserve;
    }
    if bounds.guard.contains(&addr) {
        return Place::StackGuard;
    }
    // SAFETY: the list belongs to the store whose guest this thread is running; it does not change
    // while a guest runs, since linking needs exclusive access to the instance.
    let memories = unsafe { &*activation.memories };
    if memories.iter().any(|range| range.contains(&addr)) {
        Place::Memory
    } else {
        Place::Elsewhere
    }
}
