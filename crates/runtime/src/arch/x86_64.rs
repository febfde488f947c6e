//! Room R1, x86-64: entering the guest, leaving it, and calling the host from it.
//!
//! The guest's calling convention (Cranelift's `tail`) passes arguments in the registers of the
//! System V convention and keeps the same registers across calls: rbx, rbp, r12 to r15. So a guest
//! frame and a host frame can call each other with nothing but a change of stack between them.
//!
//! ```text
//!  host stack                         guest stack
//!  | frames of the embedder |         | stack top          | <- guest sp given to enter
//!  | return address         |         | return into enter  |
//!  | rbp                    |         | frames of guest    |
//!  | rbx r12 r13 r14 r15    |         | return address     |
//!  | outer host_sp          | <-+     | rbp                | <- last_wasm_exit_fp, rbp during a hostcall
//!  +------------------------+   |     +--------------------+
//!  | limits, padding        |   host_sp
//!  | frames of hostcall     |
//! ```
//!
//! Every way into the guest ends in a test of `interrupt`, on the guest's stack already, so that a thread
//! that stands there can be stopped like one in guest code (`arch/places.rs`). Where the test finds something
//! it executes `ud2`: the signal handler stops the guest there, or sends it back to the test.
//!
//! Each way is there twice: guests whose pages have a protection key take the *keyed* one, on which the register of
//! keys (PKRU) is the guest's own while it runs and the host's otherwise (I-82). The host's stands in `Control`, and
//! that of the entry outside in the frame:
//!
//! ```text
//!  | rbx r12 r13 r14 r15         |
//!  | padding                     |
//!  | host's PKRU of outer entry  |
//!  | outer host_sp               | <- host_sp
//! ```
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64};

use selvedge_artifact::vmfields::vm_context_header;
use selvedge_artifact::vmoffsets::VMOffsets;

use super::phase;
use super::places::mark;
use crate::vm::context::{ArraySlot, VMFuncRef, VMRuntimeLimits};
use crate::vm::limits::LEAVE;
use crate::vm::unwind::Resume;

/// The registers that a call preserves, as the frames of a guest that was left through
/// [`guest_to_host`] had them. rbp is not among them: it is `last_wasm_exit_fp`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct ParkedRegs {
    rbx: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
}

impl ParkedRegs {
    /// Sets the pinned register, in which guests that count fuel have the count.
    pub(crate) fn set_pinned(&mut self, value: u64) {
        self.r15 = value;
    }
}

/// What the assembly here shares with the runtime for one guest: the limits that generated code knows,
/// and behind them what it does not.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    /// Always first: a pointer to it is a pointer to the whole.
    pub(crate) limits: VMRuntimeLimits,
    pub(crate) parked: ParkedRegs,
    /// Where the guest is, in the low half, which the assembly sets; which run it is, in the high half.
    pub(crate) place: AtomicU64,
    /// The rest of what other threads look at (`stop/words.rs`).
    pub(crate) ticket: AtomicU64,
    pub(crate) thread: AtomicU32,
    pub(crate) keys: KeyRegs,
}

/// Registers of protection keys, of guests whose pages have one.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct KeyRegs {
    /// What the thread had when it entered the guest, or when a host function came back last; a word, to be pushed.
    pub(super) host: u64,
    /// What it has while the guest runs.
    pub(crate) guest: u32,
    /// What is kept of the host's: our keys are open there.
    pub(crate) kept: u32,
}

impl KeyRegs {
    /// Of a guest without a key: nothing looks at them.
    pub(crate) const fn none() -> Self {
        Self::of(0, u32::MAX)
    }

    /// Of a guest that is to have `guest`; of the host's bits, `kept` are kept and others are open.
    pub(crate) const fn of(guest: u32, kept: u32) -> Self {
        Self {
            host: 0,
            guest,
            kept,
        }
    }
}

const LIMITS: i32 = VMOffsets::header(vm_context_header::OFFSETS.limits);
const INSTANCE: i32 = VMOffsets::header(vm_context_header::OFFSETS.instance);

/// Defines a way from the host to the guest.
macro_rules! enter {
    ($(#[$attr:meta])* $name:ident, $label:literal, $leave:ident, frame: [$($frame:literal)?], keys: [$($keys:literal)?], $($operand:tt)*) => {
        $(#[$attr])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name(
            limits: *const VMRuntimeLimits,
            vmctx: usize,
            trampoline: usize,
            body: usize,
            args: *mut ArraySlot,
            guest_sp: usize,
        ) -> u64 {
            // In: rdi limits, rsi vmctx, rdx trampoline, rcx body, r8 args, r9 guest sp.
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "push rbx",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                $($frame,)?
                "push qword ptr [rdi + {host_sp}]",
                "mov [rdi + {host_sp}], rsp",
                "mov [rdi + {entry_sp}], r9",
                $($keys,)?
                "mov rbx, rdi", // kept by the guest: the way back finds limits here
                // The pinned register, of guests that count fuel. To others it is one that they preserve.
                "mov r15, [rdi + {fuel}]",
                "mov rdi, rsi",
                "mov rsi, rcx",
                "mov rcx, rdx",
                "mov rdx, r8",
                "mov dword ptr [rbx + {place}], {in_guest}",
                "mov rsp, r9",
                mark!($label, "_open"),
                "cmp dword ptr [rbx + {interrupt}], 0",
                "jne 2f",
                mark!($label, "_past"),
                "call rcx",
                mark!($label, "_shut"),
                "mov [rbx + {fuel}], r15",
                "xor eax, eax",
                "jmp {leave}",
                "2:",
                mark!($label, "_stop"),
                "ud2",
                mark!($label, "_end"),
                place = const offset_of!(Control, place),
                in_guest = const phase::GUEST,
                interrupt = const offset_of!(VMRuntimeLimits, interrupt),
                host_sp = const offset_of!(VMRuntimeLimits, host_sp),
                entry_sp = const offset_of!(VMRuntimeLimits, last_wasm_entry_sp),
                fuel = const offset_of!(VMRuntimeLimits, fuel_consumed),
                leave = sym $leave,
                $($operand)*
            )
        }
    };
}

enter! {
    /// Enters the guest: publishes the host's stack in `limits`, switches to the guest's stack and calls
    /// `trampoline(vmctx, body, args)` in the guest's convention. Returns 0 when the guest returns and 1
    /// when it was left through [`leave`] or by a request.
    ///
    /// # Safety
    ///
    /// - `limits` is the live `VMRuntimeLimits` that the context at `vmctx` points to.
    /// - `trampoline` is the host-to-guest trampoline of the signature of `body`, both in registered code.
    /// - `args` has as many slots as that signature needs, typed as it says.
    /// - `guest_sp` is the 16-byte aligned top of free space on a guest stack that no other frame uses.
    /// - An `Activation` for that stack is published on this thread.
    enter, "enter", leave, frame: [], keys: [],
}

enter! {
    /// As [`enter`], for a guest whose pages have a key.
    ///
    /// # Safety
    ///
    /// As [`enter`]; the processor has keys, and `limits` is of a `Control` with the guest's.
    enter_keyed, "enter_keyed", leave_keyed,
    frame: ["sub rsp, 8
        push qword ptr [rdi + {host_keys}]"],
    keys: ["mov r10, rcx
        mov r11, rdx
        xor ecx, ecx
        rdpkru
        and eax, [rdi + {kept_keys}]
        mov [rdi + {host_keys}], eax
        mov eax, [rdi + {guest_keys}]
        wrpkru
        mov rcx, r10
        mov rdx, r11"],
    host_keys = const offset_of!(Control, keys.host),
    guest_keys = const offset_of!(Control, keys.guest),
    kept_keys = const offset_of!(Control, keys.kept),
}

/// Leaves the guest: the tail of [`enter`], on the host's stack. Not called: `enter` and
/// [`guest_to_host`] jump here, and the signal handler makes an interrupted guest continue here. In: rbx
/// is `limits`, rax what `enter` is to return; no other register matters.
///
/// # Safety
///
/// - rbx points to the limits of the innermost activation of this thread.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn leave() {
    naked_asm!(
        "mov rsp, [rbx + {host_sp}]",
        "pop qword ptr [rbx + {host_sp}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        mark!("leave_end"),
        host_sp = const offset_of!(VMRuntimeLimits, host_sp),
    )
}

/// As [`leave`], for a guest whose pages have a key: the host's register first, with which the stack is the host's
/// business again.
///
/// # Safety
///
/// As [`leave`], of an entry by a keyed way.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn leave_keyed() {
    naked_asm!(
        "mov r11, rax",
        "mov eax, [rbx + {host_keys}]",
        "xor ecx, ecx",
        "xor edx, edx",
        "wrpkru",
        "mov rax, r11",
        "mov rsp, [rbx + {host_sp}]",
        "pop qword ptr [rbx + {host_sp}]",
        "pop qword ptr [rbx + {host_keys}]",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        mark!("leave_keyed_end"),
        host_sp = const offset_of!(VMRuntimeLimits, host_sp),
        host_keys = const offset_of!(Control, keys.host),
    )
}

/// Defines a way from the guest to the host.
macro_rules! guest_to_host {
    (
        $(#[$attr:meta])* $name:ident, $label:literal, $leave:ident,
        out: [$($out:literal)?], host: [$($host:literal)?], ask: [$($ask:literal)?],
        guest: [$($guest:literal)?], back: [$($back:literal)?], $($operand:tt)*
    ) => {
        $(#[$attr])*
        ///
        /// It saves the guest's place in the limits, switches to the host's stack, and calls the body of the
        /// `VMFuncRef` as `body(VMFuncRef, instance, arguments...)`. All arguments are in registers, at most one
        /// result is. On the way back it tests the request word. If a request is there it asks the runtime
        /// (`vm/unwind.rs`), and leaves the guest, or goes on at a landing pad in one of the frames above:
        ///
        /// ```text
        ///  guest stack
        ///  | outer frames             |
        ///  | return address           |
        ///  | rbp                      | <- rbp of the frame that catches
        ///  | what the frame keeps     |
        ///  | outgoing arguments       | <- its rsp while its call ran
        ///  +--------------------------+
        ///  | frames that are dropped  |
        /// ```
        ///
        /// There rax and rdx are the exception's. Every other register but the pinned one is lost; those that
        /// the frame's own caller wants kept stand in the frame, which restores them when it returns.
        ///
        /// A guest may also jump here in a tail call. The return address and the frame pointer that are saved
        /// are then those of the function that waits for the one that left: as good to walk from.
        ///
        /// # Safety
        ///
        /// Called by generated code only, on a guest stack, with a `VMFuncRef` of a host function.
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            // In: rdi VMFuncRef, rsi vmctx, rdx rcx r8 r9 and xmm0 to xmm7 arguments. Out: rax or xmm0.
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "mov r11, [rbp + 8]",
                "mov r10, [rsi + {limits}]",
                "mov rsi, [rsi + {instance}]",
                "mov [r10 + {exit_fp}], rbp",
                "mov [r10 + {exit_pc}], r11",
                $($out,)?
                "mov dword ptr [r10 + {place}], {in_host}",
                "mov rsp, [r10 + {host_sp}]",
                "sub rsp, 16",
                "mov [rsp], r10",
                $($host,)?
                "call qword ptr [rdi + {body}]",
                "mov r10, [rsp]",
                $($guest,)?
                $($back,)?
                "mov dword ptr [r10 + {place}], {in_guest}",
                "mov rsp, rbp", // kept by the host function
                mark!($label, "_open"),
                // Two loads: one of both would have to wait for the store of a host function that suspends.
                "mov r11d, [r10 + {request}]",
                "or r11d, [r10 + {interrupt}]",
                "jne 2f",
                mark!($label, "_past"),
                "pop rbp",
                "ret",
                mark!($label, "_shut"),
                "2:",
                "cmp dword ptr [r10 + {request}], 0",
                "jne 4f",
                mark!($label, "_stop"),
                "ud2",
                "4:",
                "mov dword ptr [r10 + {place}], {in_host}",
                "mov rsp, [r10 + {host_sp}]",
                "cmp dword ptr [r10 + {request}], {leave_only}",
                "je 3f",
                "sub rsp, 16",
                "mov [rsp], r10",
                $($ask,)?
                "call {on_request}",
                "mov r10, [rsp]",
                "test rax, rax",
                "jz 3f",
                $($guest,)?
                $($back,)?
                "mov dword ptr [r10 + {place}], {in_guest}",
                "mov rbp, [rax + {resume_fp}]",
                "mov rsp, [rax + {resume_sp}]",
                "mov rdx, [rax + {resume_exn}]",
                "mov r11, [rax + {resume_pc}]",
                "mov rax, [rax + {resume_values}]",
                mark!($label, "_pad_open"),
                "cmp dword ptr [r10 + {interrupt}], 0",
                "jne 5f",
                mark!($label, "_pad_past"),
                "jmp r11",
                mark!($label, "_pad_shut"),
                "5:",
                mark!($label, "_pad_stop"),
                "ud2",
                "3:",
                // The guest may go on later: see `resume`.
                "mov [r10 + {rbx}], rbx",
                "mov [r10 + {r12}], r12",
                "mov [r10 + {r13}], r13",
                "mov [r10 + {r14}], r14",
                "mov [r10 + {r15}], r15",
                "mov rbx, r10",
                "mov eax, 1",
                // The processor expects the next `ret` to lead back into the guest. It learns here that it does not,
                // and is right again about the one of `leave`, if the guest was let go on by `resume`.
                "lea r11, [rip + 6f]",
                "push r11",
                "ret",
                "6:",
                "jmp {leave}",
                mark!($label, "_end"),
                place = const offset_of!(Control, place),
                in_guest = const phase::GUEST,
                in_host = const phase::HOST,
                interrupt = const offset_of!(VMRuntimeLimits, interrupt),
                on_request = sym crate::vm::unwind::on_request,
                resume_pc = const offset_of!(Resume, pc),
                resume_sp = const offset_of!(Resume, sp),
                resume_fp = const offset_of!(Resume, fp),
                resume_values = const offset_of!(Resume, values),
                resume_exn = const offset_of!(Resume, exn),
                rbx = const offset_of!(Control, parked.rbx),
                r12 = const offset_of!(Control, parked.r12),
                r13 = const offset_of!(Control, parked.r13),
                r14 = const offset_of!(Control, parked.r14),
                r15 = const offset_of!(Control, parked.r15),
                limits = const LIMITS,
                instance = const INSTANCE,
                exit_fp = const offset_of!(VMRuntimeLimits, last_wasm_exit_fp),
                exit_pc = const offset_of!(VMRuntimeLimits, last_wasm_exit_pc),
                host_sp = const offset_of!(VMRuntimeLimits, host_sp),
                request = const offset_of!(VMRuntimeLimits, request),
                leave_only = const LEAVE,
                body = const offset_of!(VMFuncRef, body),
                leave = sym $leave,
                $($operand)*
            )
        }
    };
}

guest_to_host! {
    /// Calls the host from the guest: `guest_to_host(VMFuncRef, caller's vmctx, arguments...)`.
    guest_to_host, "call", leave,
    out: [], host: [], ask: [], guest: [], back: [],
}

guest_to_host! {
    /// As [`guest_to_host`], from a guest that counts fuel: the host finds the count in the limits, and the
    /// guest goes on with what the host made of it.
    guest_to_host_metered, "metered", leave,
    out: ["mov [r10 + {fuel}], r15"],
    host: [], ask: [], guest: [],
    back: ["mov r15, [r10 + {fuel}]"],
    fuel = const offset_of!(VMRuntimeLimits, fuel_consumed),
}

/// Defines a way from a guest whose pages have a key. The host function has the host's register, which it may
/// change for its thread; the result, in rax, stays.
macro_rules! guest_to_host_keyed {
    ($(#[$attr:meta])* $name:ident, $label:literal, out: [$($out:literal)?], back: [$($back:literal)?], $($operand:tt)*) => {
        guest_to_host! {
            $(#[$attr])*
            $name, $label, leave_keyed,
            out: [$($out)?],
            host: ["mov eax, [r10 + {host_keys}]
                mov r10, rcx
                mov r11, rdx
                xor ecx, ecx
                xor edx, edx
                wrpkru
                mov rcx, r10
                mov rdx, r11"],
            ask: ["mov eax, [r10 + {host_keys}]
                xor ecx, ecx
                xor edx, edx
                wrpkru"],
            guest: ["mov r11, rax
                xor ecx, ecx
                rdpkru
                mov [r10 + {host_keys}], eax
                mov eax, [r10 + {guest_keys}]
                wrpkru
                mov rax, r11"],
            back: [$($back)?],
            host_keys = const offset_of!(Control, keys.host),
            guest_keys = const offset_of!(Control, keys.guest),
            $($operand)*
        }
    };
}

guest_to_host_keyed! {
    /// As [`guest_to_host`], from a guest whose pages have a key.
    guest_to_host_keyed, "call_keyed", out: [], back: [],
}

guest_to_host_keyed! {
    /// As [`guest_to_host_metered`], from a guest whose pages have a key.
    guest_to_host_metered_keyed, "metered_keyed",
    out: ["mov [r10 + {fuel}], r15"],
    back: ["mov r15, [r10 + {fuel}]"],
    fuel = const offset_of!(VMRuntimeLimits, fuel_consumed),
}

/// Defines a way from the host to a parked guest.
macro_rules! resume {
    (
        $(#[$attr:meta])* $name:ident, $label:literal, $leave:ident, frame: [$($frame:literal)?],
        save: [$($save:literal)?], keys: [$($keys:literal)?], pad: [$($pad:literal)?], $($operand:tt)*
    ) => {
        $(#[$attr])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name(control: *const Control, result: u64) -> u64 {
            // In: rdi control, rsi result.
            naked_asm!(
                "push rbp",
                "mov rbp, rsp",
                "push rbx",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                $($frame,)?
                "push qword ptr [rdi + {host_sp}]",
                "mov [rdi + {host_sp}], rsp",
                $($save,)?
                "cmp dword ptr [rdi + {request}], 0",
                "jne 2f",
                $($keys,)?
                "mov rax, rsi",
                "movq xmm0, rsi",
                "mov rbx, [rdi + {rbx}]",
                "mov r12, [rdi + {r12}]",
                "mov r13, [rdi + {r13}]",
                "mov r14, [rdi + {r14}]",
                "mov r15, [rdi + {r15}]",
                "mov dword ptr [rdi + {place}], {in_guest}",
                "mov rsp, [rdi + {exit_fp}]",
                mark!($label, "_open"),
                "cmp dword ptr [rdi + {interrupt}], 0",
                "jne 4f",
                mark!($label, "_past"),
                "pop rbp",
                // No `ret`: the processor would expect it to lead to whoever called this.
                "pop r11",
                "jmp r11",
                mark!($label, "_shut"),
                "4:",
                mark!($label, "_stop"),
                "ud2",
                "2:",
                "sub rsp, 16",
                "mov [rsp], rdi",
                "call {on_request}",
                "mov r10, [rsp]",
                "test rax, rax",
                "jz 3f",
                $($pad,)?
                "mov r15, [r10 + {r15}]",
                "mov dword ptr [r10 + {place}], {in_guest}",
                "mov rbp, [rax + {resume_fp}]",
                "mov rsp, [rax + {resume_sp}]",
                "mov rdx, [rax + {resume_exn}]",
                "mov r11, [rax + {resume_pc}]",
                "mov rax, [rax + {resume_values}]",
                mark!($label, "_pad_open"),
                "cmp dword ptr [r10 + {interrupt}], 0",
                "jne 5f",
                mark!($label, "_pad_past"),
                "jmp r11",
                mark!($label, "_pad_shut"),
                "5:",
                mark!($label, "_pad_stop"),
                "ud2",
                "3:",
                "mov rbx, r10",
                "mov eax, 1",
                "jmp {leave}",
                mark!($label, "_end"),
                place = const offset_of!(Control, place),
                in_guest = const phase::GUEST,
                interrupt = const offset_of!(VMRuntimeLimits, interrupt),
                on_request = sym crate::vm::unwind::on_request,
                resume_pc = const offset_of!(Resume, pc),
                resume_sp = const offset_of!(Resume, sp),
                resume_fp = const offset_of!(Resume, fp),
                resume_values = const offset_of!(Resume, values),
                resume_exn = const offset_of!(Resume, exn),
                host_sp = const offset_of!(VMRuntimeLimits, host_sp),
                exit_fp = const offset_of!(VMRuntimeLimits, last_wasm_exit_fp),
                request = const offset_of!(VMRuntimeLimits, request),
                rbx = const offset_of!(Control, parked.rbx),
                r12 = const offset_of!(Control, parked.r12),
                r13 = const offset_of!(Control, parked.r13),
                r14 = const offset_of!(Control, parked.r14),
                r15 = const offset_of!(Control, parked.r15),
                leave = sym $leave,
                $($operand)*
            )
        }
    };
}

resume! {
    /// Lets a parked guest go on: enters the frames of a guest that was left by a request on its way back from
    /// [`guest_to_host`], as if the host function had returned `result` just now. Returns as [`enter`] does,
    /// from the frame that it makes itself: what `enter` left on the host's stack of then is gone.
    ///
    /// ```text
    ///  host stack                         guest stack, as it was left
    ///  | frames of the embedder |         | frames of guest    |
    ///  | return address         |         | return address     |
    ///  | rbp                    |         | rbp                | <- last_wasm_exit_fp: rsp from here on
    ///  | rbx r12 r13 r14 r15    |         +--------------------+
    ///  | outer host_sp          | <- host_sp
    /// ```
    ///
    /// The result is put where both conventions have it, rax and xmm0; results by array are in their slots on the
    /// guest's stack already. A request that is there is obeyed first.
    ///
    /// # Safety
    ///
    /// - `control` is of a guest that was left with 1 through [`guest_to_host`], on a stack that nothing has run on
    ///   since, and with the limits' exit as it was then.
    /// - An `Activation` for that stack is published on this thread.
    /// - `result` is a value of the host function's result type, or the type has no result in a register.
    resume, "resume", leave, frame: [], save: [], keys: [], pad: [],
}

resume! {
    /// As [`resume`], for a guest whose pages have a key. A request is obeyed with the host's register.
    ///
    /// # Safety
    ///
    /// As [`resume`], of a guest that was left by a keyed way.
    resume_keyed, "resume_keyed", leave_keyed,
    frame: ["sub rsp, 8
        push qword ptr [rdi + {host_keys}]"],
    save: ["xor ecx, ecx
        rdpkru
        and eax, [rdi + {kept_keys}]
        mov [rdi + {host_keys}], eax"],
    keys: ["xor ecx, ecx
        xor edx, edx
        mov eax, [rdi + {guest_keys}]
        wrpkru"],
    pad: ["mov r11, rax
        xor ecx, ecx
        xor edx, edx
        mov eax, [r10 + {guest_keys}]
        wrpkru
        mov rax, r11"],
    host_keys = const offset_of!(Control, keys.host),
    guest_keys = const offset_of!(Control, keys.guest),
    kept_keys = const offset_of!(Control, keys.kept),
}

/// The address of the way from the guest to the host, for guests that count fuel or don't, and whose pages have a key
/// or don't.
pub(crate) fn way_to_host(counts_fuel: bool, keyed: bool) -> usize {
    (match (counts_fuel, keyed) {
        (false, false) => guest_to_host as *const (),
        (true, false) => guest_to_host_metered as *const (),
        (false, true) => guest_to_host_keyed as *const (),
        (true, true) => guest_to_host_metered_keyed as *const (),
    }) as usize
}

/// The way for guests whose pages have a key in place of one for others; anything else is given back.
pub(crate) fn keyed_way(way: usize) -> usize {
    let metered = [false, true].into_iter();
    let mut metered = metered.filter(|&metered| way_to_host(metered, false) == way);
    metered
        .next()
        .map_or(way, |metered| way_to_host(metered, true))
}

/// Where a guest is left that was entered by a keyed way or another one: see [`leave`].
pub(crate) fn way_out(keyed: bool) -> usize {
    if keyed {
        leave_keyed as *const () as usize
    } else {
        leave as *const () as usize
    }
}

/// Where the ways begin, each with its keyed one behind it: `enter`, `leave`, two to the host, and `resume`.
pub(super) fn starts() -> [usize; 10] {
    [
        enter as *const () as usize,
        enter_keyed as *const () as usize,
        leave as *const () as usize,
        leave_keyed as *const () as usize,
        guest_to_host as *const () as usize,
        guest_to_host_keyed as *const () as usize,
        guest_to_host_metered as *const () as usize,
        guest_to_host_metered_keyed as *const () as usize,
        resume as *const () as usize,
        resume_keyed as *const () as usize,
    ]
}

/// The stack pointer of the caller, about.
pub(crate) fn stack_pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register and touches nothing else.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

/// Whether this processor has a feature, by the name that artifacts use.
pub(crate) fn cpu_has(feature: &str) -> bool {
    macro_rules! table {
        ($($name:literal => $detect:tt,)*) => {
            match feature {
                $($name => std::arch::is_x86_feature_detected!($detect),)*
                _ => false,
            }
        };
    }
    table! {
        "has_sse3" => "sse3",
        "has_ssse3" => "ssse3",
        "has_cmpxchg16b" => "cmpxchg16b",
        "has_sse41" => "sse4.1",
        "has_sse42" => "sse4.2",
        "has_avx" => "avx",
        "has_avx2" => "avx2",
        "has_fma" => "fma",
        "has_popcnt" => "popcnt",
        "has_bmi1" => "bmi1",
        "has_bmi2" => "bmi2",
        "has_lzcnt" => "lzcnt",
        "has_avx512bitalg" => "avx512bitalg",
        "has_avx512dq" => "avx512dq",
        "has_avx512f" => "avx512f",
        "has_avx512vbmi" => "avx512vbmi",
        "has_avx512vl" => "avx512vl",
        "has_avx512vnni" => "avx512vnni",
        "has_avx_vnni" => "avxvnni",
    }
}
