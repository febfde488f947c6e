//! Registers in the context that a signal handler is given: reading where the thread was, and
//! setting where it goes on.
//!
//! The kernel restores the context when the handler returns, so changing it here is a jump with the
//! stack of our choice. Nothing is pushed on any stack for it. What is not here: whether to do so
//! (`vm/on_signal.rs`).
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use libc::{
    REG_EFL, REG_R15, REG_RAX, REG_RBP, REG_RBX, REG_RDI, REG_RIP, REG_RSI, REG_RSP, greg_t,
    ucontext_t,
};

/// The direction flag: set, it makes string instructions run downwards. The ABI wants it clear in
/// all compiled code.
const DIRECTION_FLAG: greg_t = 1 << 10;

/// Where a thread is sent by a signal handler, and with what. Every other register stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Regs {
    /// Next instruction.
    pub(crate) pc: usize,
    /// Stack pointer there.
    pub(crate) sp: usize,
    /// First argument of a C function (`rdi`).
    pub(crate) arg0: usize,
    /// The second one (`rsi`).
    pub(crate) arg1: usize,
    /// `rbx`, which C functions preserve.
    pub(crate) rbx: usize,
    /// `rax`, where C functions return their result.
    pub(crate) rax: usize,
}

/// The (pc, sp, fp, pinned register) at which the signal struck.
///
/// # Safety
///
/// - `context` points to a context that can be read.
pub(crate) unsafe fn read(context: *const ucontext_t) -> (usize, usize, usize, usize) {
    // SAFETY: the caller's promise. The place is not turned into a reference to the whole context,
    // of which the kernel fills only a part.
    let gregs = unsafe { &(*context).uc_mcontext.gregs };
    let [pc, sp, fp, pinned] =
        [REG_RIP, REG_RSP, REG_RBP, REG_R15].map(|register| gregs[register as usize] as usize);
    (pc, sp, fp, pinned)
}

/// Makes the thread go on with `regs` when the handler returns, with the direction flag clear.
///
/// # Safety
///
/// - `context` points to a context that can be read and written.
/// - Code at `regs.pc` expects to be entered with these registers and that stack, from any
///   instruction of the interrupted code.
pub(crate) unsafe fn redirect(context: *mut ucontext_t, regs: &Regs) {
    // SAFETY: the caller's promise; the context belongs to the running handler alone.
    let gregs = unsafe { &mut (*context).uc_mcontext.gregs };
    gregs[REG_RIP as usize] = regs.pc as greg_t;
    gregs[REG_RSP as usize] = regs.sp as greg_t;
    gregs[REG_RDI as usize] = regs.arg0 as greg_t;
    gregs[REG_RSI as usize] = regs.arg1 as greg_t;
    gregs[REG_RBX as usize] = regs.rbx as greg_t;
    gregs[REG_RAX as usize] = regs.rax as greg_t;
    gregs[REG_EFL as usize] &= !DIRECTION_FLAG;
}

/// Makes the thread go on at another instruction with all else as it was.
///
/// # Safety
///
/// As [`redirect`].
pub(crate) unsafe fn jump(context: *mut ucontext_t, pc: usize) {
    // SAFETY: the caller's promise; the context belongs to the running handler alone.
    unsafe { (*context).uc_mcontext.gregs[REG_RIP as usize] = pc as greg_t };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered_context() -> ucontext_t {
        // SAFETY: a context is plain integers and pointers, for which all bits zero is a value.
        let mut context: ucontext_t = unsafe { std::mem::zeroed() };
        for (number, register) in context.uc_mcontext.gregs.iter_mut().enumerate() {
            *register = 0x1000 + number as greg_t;
        }
        context
    }

    #[test]
    fn the_registers_that_matter_are_read_from_their_registers() {
        let context = numbered_context();
        // SAFETY: a context of our own.
        let read = unsafe { read(&context) };
        assert_eq!(read, (0x1000 + 16, 0x1000 + 15, 0x1000 + 10, 0x1000 + 7));
    }

    #[test]
    fn a_redirect_sets_six_registers_and_clears_the_direction_flag() {
        let mut context = numbered_context();
        context.uc_mcontext.gregs[REG_EFL as usize] = 0x0ed7;
        let before = context.uc_mcontext.gregs;
        let regs = Regs {
            pc: 1,
            sp: 2,
            arg0: 3,
            arg1: 5,
            rbx: 4,
            rax: usize::MAX,
        };
        // SAFETY: a context of our own, which is never resumed.
        unsafe { redirect(&mut context, &regs) };
        let mut expected = before;
        for (register, value) in [
            (REG_RIP, 1),
            (REG_RSP, 2),
            (REG_RDI, 3),
            (REG_RSI, 5),
            (REG_RBX, 4),
            (REG_RAX, -1),
        ] {
            expected[register as usize] = value;
        }
        expected[REG_EFL as usize] = 0x0ad7;
        assert_eq!(context.uc_mcontext.gregs, expected);
    }
}
