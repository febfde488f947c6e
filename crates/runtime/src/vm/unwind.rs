//! From a throw to the landing pad that catches.
//!
//! A guest throws by calling the runtime, or by calling a host function that fails with an exception. Both
//! leave the exception in the store and a request; the trampoline, on its way back, asks [`on_request`]
//! what is to become of it. That walks the frames of this entry by frame pointers, looks up each return
//! address in its module's table of handlers, and compares tags. What is found is data: the trampoline
//! itself makes the jump, when no Rust frame stands on either stack any more.
//!
//! Nothing here runs in a signal handler, and a trap does not come here: it can't be caught.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use selvedge_artifact::catches::{CatchTable, Site};

use super::activation::{Activation, Outcome};
use super::context::ArraySlot;
use super::enter::saved_fp;
use crate::host::error::HostError;
use crate::instance::exceptions::Exn;
use crate::instance::store::Store;
use crate::module::Module;

/// Where the guest goes on, and with what.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Resume {
    /// The landing pad.
    pub(crate) pc: usize,
    /// Stack pointer of its frame.
    pub(crate) sp: usize,
    /// Frame pointer of its frame.
    pub(crate) fp: usize,
    /// Address of the exception's values.
    pub(crate) values: usize,
    /// The reference to the exception, if the handler wants one.
    pub(crate) exn: u64,
}

/// Asked by `guest_to_host` when a request is there: where the guest goes on, or null if it is to be left.
///
/// # Safety
///
/// Called by the trampoline only, for the innermost activation of this thread, whose guest waits at the
/// exit that its limits name.
pub(crate) unsafe extern "C" fn on_request() -> *const Resume {
    Activation::with_current(|activation| {
        let store = activation.store();
        if !store.throws() {
            return ptr::null();
        }
        match catch_unwind(AssertUnwindSafe(|| decide(store, activation))) {
            Ok(Some(resume)) => store.exceptions().resume_at(resume),
            Ok(None) => ptr::null(),
            Err(payload) => {
                store.raise(Outcome::Panic(payload));
                ptr::null()
            }
        }
    })
    .unwrap_or(ptr::null())
}

/// Takes an exception to its handler. Whatever has none, and all other requests, stay with the store.
fn decide(store: &Store, activation: &Activation) -> Option<Resume> {
    let exn = match store.take_outcome()? {
        Outcome::Exception(exn) => exn,
        Outcome::Host(HostError::Exception(exception)) => match store.exn_of(&exception) {
            Ok(exn) => exn,
            Err(error) => {
                store.raise(Outcome::Host(error.into()));
                return None;
            }
        },
        other => {
            store.raise(other);
            return None;
        }
    };
    match catcher(store, activation, &exn) {
        Ok(Some(resume)) => Some(resume),
        Ok(None) => {
            store.raise(Outcome::Exception(exn));
            None
        }
        Err(outcome) => {
            store.raise(outcome);
            None
        }
    }
}

/// The innermost handler of an exception among the frames of the innermost entry, or why the guest must
/// be left instead.
fn catcher(
    store: &Store,
    activation: &Activation,
    exn: &Rc<Exn>,
) -> Result<Option<Resume>, Outcome> {
    let exit = store.limits.exit();
    let stack = &activation.bounds().usable;
    let mut code: Option<(&Module, Option<CatchTable<'_>>)> = None;
    let mut pc = exit.pc;
    let mut fp = saved_fp(activation, exit.fp);
    // The frame of the entry trampoline lies right below `entry_sp`: its return address leads to the host.
    while stack.contains(&fp) && fp.is_multiple_of(8) && fp + 16 <= exit.entry_sp.min(stack.end) {
        if code.is_none_or(|(module, _)| module.text_offset(pc).is_none()) {
            let mut modules = store.members.iter().map(|member| member.module());
            let module = modules.find(|module| module.text_offset(pc).is_some());
            code = module.map(|module| (module, module.catches()));
        }
        let found = code.and_then(|(module, catches)| {
            let site = catches?.lookup(module.text_offset(pc)?)?;
            handler(store, module, stack, &site, fp, exn)
        });
        if let Some((mut resume, by_ref)) = found {
            if by_ref {
                let words = |visit: &mut dyn FnMut(u64)| visit_words(resume.sp..stack.end, visit);
                resume.exn = store
                    .exn_handle(exn.clone(), words)
                    .map_err(|code| Outcome::Trap(code, None))?;
            }
            resume.values = store.exceptions().keep_caught(exn);
            return Ok(Some(resume));
        }
        // SAFETY: both words lie in the mapped stack, as just checked; frames keep the form
        // `[saved fp, return address]`, since generated code preserves frame pointers.
        let (next, return_addr) = unsafe { (*(fp as *const usize), *((fp + 8) as *const usize)) };
        // Stacks grow down, so outer frames lie higher: anything else is not a chain.
        if next <= fp {
            break;
        }
        (pc, fp) = (return_addr, next);
    }
    Ok(None)
}

/// The handler of a frame that catches an exception, and whether it wants a reference.
fn handler(
    store: &Store,
    module: &Module,
    stack: &Range<usize>,
    site: &Site<'_>,
    fp: usize,
    exn: &Exn,
) -> Option<(Resume, bool)> {
    let sp = fp.checked_sub(site.frame_len as usize)?;
    let context = sp + site.context_offset as usize;
    if sp < stack.start || context + 8 > fp || !context.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the word lies in the mapped stack, between a stack pointer inside it and a frame pointer
    // inside it.
    let vmctx = unsafe { *(context as *const usize) };
    let record = store.member_at(vmctx)?;
    let handler = site.handlers().find(|handler| match handler.catch.tag {
        Some(tag) => {
            let tag = record.tags().get(tag as usize);
            tag.is_some_and(|tag| tag.same(&exn.tag))
        }
        None => true,
    })?;
    let resume = Resume {
        pc: module.text_addr(handler.code),
        sp,
        fp,
        ..Resume::default()
    };
    Some((resume, handler.catch.by_ref))
}

/// Visits the words of a part of a guest's stack.
fn visit_words(range: Range<usize>, visit: &mut dyn FnMut(u64)) {
    for at in range.step_by(8) {
        // SAFETY: the range is a part of the mapped stack of the guest that waits, from an aligned address
        // on; nothing writes to it meanwhile.
        visit(unsafe { *(at as *const u64) });
    }
}

/// The values that a guest throws, from where it says that they stand on its stack.
pub(crate) fn thrown_values(store: &Store, addr: usize, count: usize) -> Box<[ArraySlot]> {
    // SAFETY: while a guest of the store calls, its entry keeps the bounds of the stack that it holds.
    let stack = unsafe { store.running.get().as_ref() };
    let len = count * size_of::<ArraySlot>();
    let inside = stack.is_some_and(|stack| {
        let end = addr.checked_add(len);
        addr >= stack.usable.start && end.is_some_and(|end| end <= stack.usable.end)
    });
    if count == 0 || !inside || !addr.is_multiple_of(align_of::<ArraySlot>()) {
        return vec![ArraySlot::default(); count].into();
    }
    // SAFETY: the slots lie in the mapped stack of the guest that waits for this call, as just checked;
    // any bytes are slots.
    unsafe { std::slice::from_raw_parts(addr as *const ArraySlot, count) }.into()
}
