//! Room R1, x86-64: a guest that is stopped between any two instructions, and goes on there.
//!
//! The signal handler copies what the kernel has saved of the interrupted thread, general registers, flags and
//! the image of the vector state, to a place that was made ready before. Nothing is pushed on the guest's stack.
//! [`go_on`] loads it all again:
//!
//! ```text
//!  host stack, while registers are loaded        Captured
//!  | return address, rbp, rbx, r12 to r15 |      | rax rbx ... r15 rip flags |
//!  | outer host_sp                        | <- host_sp
//!  +--------------------------------------+      | which parts of the image  |
//!  | ss, rsp, flags, cs, rip              |      | image, as XSAVE writes it |
//!  +--------------------------------------+ <- rsp at `iretq`
//! ```
//!
//! `iretq` is the one instruction that loads pc, flags and stack pointer at once, from memory of our choice.
//! Sources: Intel SDM volume 1 chapter 13 (XSAVE), volume 2 (IRET, XRSTOR); `asm/sigcontext.h` of Linux for the
//! image in a signal frame.
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::arch::naked_asm;
use core::mem::offset_of;

use libc::ucontext_t;

use super::places::mark;
use super::{Control, leave, leave_keyed, phase};
use crate::vm::context::VMRuntimeLimits;

/// Registers in the order in which a signal context has them (`sys/ucontext.h`): the first 17 of it.
const GREGS: usize = 17;

/// What the kernel says of the image at the end of its legacy part (`struct _fpx_sw_bytes`).
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Described {
    magic1: u32,
    extended_len: u32,
    pub(super) features: u64,
    pub(super) image_len: u32,
}

/// What the kernel says of an image that has more than the legacy part.
///
/// # Safety
///
/// - `image` is null or what the kernel has put into a signal frame.
pub(super) unsafe fn described(image: *const u8) -> Option<Described> {
    if image.is_null() {
        return None;
    }
    // SAFETY: the legacy part of 512 bytes is always there.
    let described = unsafe { image.add(DESCRIBED).cast::<Described>().read_unaligned() };
    let is_whole = described.magic1 == MAGIC1 && described.image_len as usize >= XSTATE_BV + 64;
    is_whole.then_some(described)
}

/// Offset of [`Described`] in the image.
const DESCRIBED: usize = 464;
/// `FP_XSTATE_MAGIC1`: the image has more than the legacy part, and is described.
const MAGIC1: u32 = 0x4650_5853;
/// Offset of `XSTATE_BV` in the image: which parts are not in their initial state.
pub(super) const XSTATE_BV: usize = 512;
/// The parts that are not the guest's: protection keys belong to the thread.
const NOT_OURS: u64 = 1 << 9;
/// Tile registers: no guest code uses them, and their 8 KiB are not kept.
const TILES: u64 = 1 << 17 | 1 << 18;

/// 64 bytes of an image, which must be aligned so.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Block([u8; 64]);

/// What the assembly reads.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Registers {
    /// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip.
    gregs: [u64; GREGS],
    flags: u64,
    /// Which parts of the image to load.
    features: u64,
    image: usize,
}

/// Room for the state of a guest that is stopped.
pub(crate) struct Captured {
    registers: Registers,
    image: Box<[Block]>,
}

/// Where a guest was stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped {
    pub(crate) pc: usize,
    pub(crate) sp: usize,
    pub(crate) fp: usize,
    pub(crate) r11: usize,
    /// The pinned register.
    pub(crate) pinned: u64,
}

impl Captured {
    /// Room for the largest image that this processor and kernel make.
    pub(crate) fn new() -> Self {
        let blocks = image_capacity().div_ceil(size_of::<Block>());
        Self {
            registers: Registers::default(),
            image: vec![Block([0; 64]); blocks].into_boxed_slice(),
        }
    }

    /// Where the guest was stopped.
    pub(crate) fn stopped(&self) -> Stopped {
        let greg = |number: i32| self.registers.gregs[number as usize] as usize;
        Stopped {
            pc: greg(libc::REG_RIP),
            sp: greg(libc::REG_RSP),
            fp: greg(libc::REG_RBP),
            r11: greg(libc::REG_R11),
            pinned: self.registers.gregs[libc::REG_R15 as usize],
        }
    }

    /// Sets where the guest goes on.
    pub(crate) fn set_pc(&mut self, pc: usize) {
        self.registers.gregs[libc::REG_RIP as usize] = pc as u64;
    }

    /// Sets the pinned register, in which guests that count fuel have the count.
    pub(crate) fn set_pinned(&mut self, value: u64) {
        self.registers.gregs[libc::REG_R15 as usize] = value;
    }

    /// Copies the state of an interrupted thread, and puts its vector registers into their initial state for
    /// whatever it does next; whether that could be done. Called in a signal handler: no allocation.
    ///
    /// # Safety
    ///
    /// - `context` is what the kernel gave to the running signal handler.
    pub(crate) unsafe fn take(&mut self, context: *mut ucontext_t, pc: usize) -> bool {
        // SAFETY: the caller's promise.
        let mcontext = unsafe { &mut (*context).uc_mcontext };
        let image: *mut u8 = mcontext.fpregs.cast();
        // SAFETY: the caller's promise.
        let Some(described) = (unsafe { described(image) }) else {
            return false;
        };
        let len = described.image_len as usize;
        if len > self.image.len() * size_of::<Block>() {
            return false;
        }
        // SAFETY: the kernel says that the image has so many bytes; `XSTATE_BV` is among them.
        let in_use = unsafe { image.add(XSTATE_BV).cast::<u64>().read_unaligned() };
        if in_use & TILES != 0 {
            return false;
        }
        let copy: *mut u8 = self.image.as_mut_ptr().cast();
        // SAFETY: as above; the copy has room for them.
        unsafe { core::ptr::copy_nonoverlapping(image, copy, len) };
        let gregs = &mcontext.gregs;
        for (kept, &greg) in self.registers.gregs.iter_mut().zip(gregs) {
            *kept = greg as u64;
        }
        self.registers.gregs[libc::REG_RIP as usize] = pc as u64;
        self.registers.flags = gregs[libc::REG_EFL as usize] as u64;
        self.registers.features = described.features & !(NOT_OURS | TILES);
        self.registers.image = copy.addr();
        // SAFETY: as above. The kernel loads initial values for what is not in use; the rounding mode, which is
        // not part of that, is the host's as well as the guest's.
        unsafe {
            image
                .add(XSTATE_BV)
                .cast::<u64>()
                .write_unaligned(in_use & NOT_OURS);
        }
        true
    }

    /// What [`go_on`] wants.
    pub(crate) fn registers(&self) -> usize {
        (&raw const self.registers).addr()
    }
}

impl core::fmt::Debug for Captured {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Captured")
            .field("registers", &self.registers)
            .finish_non_exhaustive()
    }
}

/// Bytes of the largest image: what CPUID leaf 13 says for the features that the system has switched on.
fn image_capacity() -> usize {
    let leaf = core::arch::x86_64::__cpuid_count(13, 0);
    // Without XSAVE the answer is 0, and nothing can be captured.
    (leaf.ebx as usize).max(XSTATE_BV + 64)
}

/// Defines a way to a captured guest.
macro_rules! go_on {
    (
        $(#[$attr:meta])* $name:ident, $label:literal, $leave:ident,
        frame: [$($frame:literal)?], save: [$($save:literal)?], keys: [$($keys:literal)?], $($operand:tt)*
    ) => {
        $(#[$attr])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name(control: *const Control, registers: usize) -> u64 {
            // In: rdi control, rsi registers; the signal handler sends a thread back to `go_on_again` with the same.
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
                "mov dword ptr [rdi + {place}], {in_guest}",
                mark!($label, "_again"),
                "cmp dword ptr [rdi + {interrupt}], 0",
                "jne 2f",
                "mov eax, ss",
                "push rax",
                "push qword ptr [rsi + {greg} + 8 * 15]",
                "push qword ptr [rsi + {flags}]",
                "mov eax, cs",
                "push rax",
                "push qword ptr [rsi + {greg} + 8 * 16]",
                "mov eax, [rsi + {features}]",
                "mov edx, [rsi + {features} + 4]",
                "mov rcx, [rsi + {image}]",
                "xrstor64 [rcx]",
                $($keys,)?
                "mov r8, [rsi + {greg}]",
                "mov r9, [rsi + {greg} + 8]",
                "mov r10, [rsi + {greg} + 8 * 2]",
                "mov r11, [rsi + {greg} + 8 * 3]",
                "mov r12, [rsi + {greg} + 8 * 4]",
                "mov r13, [rsi + {greg} + 8 * 5]",
                "mov r14, [rsi + {greg} + 8 * 6]",
                "mov r15, [rsi + {greg} + 8 * 7]",
                "mov rdi, [rsi + {greg} + 8 * 8]",
                "mov rbp, [rsi + {greg} + 8 * 10]",
                "mov rbx, [rsi + {greg} + 8 * 11]",
                "mov rdx, [rsi + {greg} + 8 * 12]",
                "mov rax, [rsi + {greg} + 8 * 13]",
                "mov rcx, [rsi + {greg} + 8 * 14]",
                "mov rsi, [rsi + {greg} + 8 * 9]",
                "iretq",
                mark!($label, "_gone"),
                "2:",
                "mov rbx, rdi",
                "mov eax, 1",
                "jmp {leave}",
                mark!($label, "_end"),
                host_sp = const offset_of!(VMRuntimeLimits, host_sp),
                interrupt = const offset_of!(VMRuntimeLimits, interrupt),
                place = const offset_of!(Control, place),
                in_guest = const phase::GUEST,
                greg = const offset_of!(Registers, gregs),
                flags = const offset_of!(Registers, flags),
                features = const offset_of!(Registers, features),
                image = const offset_of!(Registers, image),
                leave = sym $leave,
                $($operand)*
            )
        }
    };
}

go_on! {
    /// Lets a captured guest go on. Returns as `enter` does, from the frame that it makes itself; at once, and
    /// with 1, if an interrupt is there. The guest is as it was captured then, and can go on later.
    ///
    /// # Safety
    ///
    /// - `registers` is of a [`Captured`] that has been taken from a guest of the store of `control`, and whose
    ///   stack nothing has run on since.
    /// - An `Activation` for that stack is published on this thread.
    go_on, "go_on", leave, frame: [], save: [], keys: [],
}

go_on! {
    /// As [`go_on`], for a guest whose pages have a key. The register of keys is not of the image: it is the
    /// guest's, on whatever thread it goes on.
    ///
    /// # Safety
    ///
    /// As [`go_on`], of a guest that was entered by a keyed way.
    go_on_keyed, "go_on_keyed", leave_keyed,
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
    host_keys = const offset_of!(Control, keys.host),
    guest_keys = const offset_of!(Control, keys.guest),
    kept_keys = const offset_of!(Control, keys.kept),
}

/// The address at which a thread between the test and the jump begins anew.
pub(crate) fn again(keyed: bool) -> usize {
    if keyed {
        super::places::address!("go_on_keyed_again")
    } else {
        super::places::address!("go_on_again")
    }
}
