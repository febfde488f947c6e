//! Room R1, x86-64: code that has something in every register, to try whether it survives being suspended.
//!
//! It loads all registers, flags and vector registers from a table, executes `ud2`, where the signal handler
//! suspends it, and, when it goes on, stores them all in another table. One function for each width of vector
//! registers; each is called as a trampoline by `enter`.
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::arch::naked_asm;
use core::mem::offset_of;

use super::places::mark;
use crate::stop::words::PREEMPT;
use crate::vm::context::VMRuntimeLimits;

/// What the registers hold: vector registers, general ones but rsp and rbx, flags, mask registers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C)]
pub(crate) struct Contents {
    pub(crate) vectors: [u8; 64 * 32],
    /// rax, rcx, rdx, rsi, rdi, rbp, r8 to r15.
    pub(crate) general: [u64; 14],
    pub(crate) flags: u64,
    pub(crate) masks: [u16; 8],
}

// The assembly has these offsets in figures.
const _: () = assert!(offset_of!(Contents, vectors) == 0);
const _: () = assert!(offset_of!(Contents, general) == 2048);
const _: () = assert!(offset_of!(Contents, flags) == 2160);
const _: () = assert!(offset_of!(Contents, masks) == 2168);

/// The two tables.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Probe {
    pub(crate) given: Contents,
    pub(crate) found: Contents,
}

/// Widths of vector registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Width {
    /// 16 of 16 bytes.
    Sse,
    /// 16 of 32 bytes.
    Avx,
    /// 32 of 64 bytes, and 7 masks.
    Avx512,
}

impl Width {
    /// The widths that this processor has.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let widths = [
            (Self::Sse, true),
            (Self::Avx, std::arch::is_x86_feature_detected!("avx")),
            (Self::Avx512, std::arch::is_x86_feature_detected!("avx512f")),
        ];
        widths
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(width, _)| width)
    }

    /// How many bytes of `vectors`, and how many masks, it has.
    pub(crate) fn covers(self) -> (usize, usize) {
        match self {
            Self::Sse => (16 * 16, 0),
            Self::Avx => (32 * 16, 0),
            Self::Avx512 => (64 * 32, 7),
        }
    }

    /// The code, as `enter` wants a trampoline: `(vmctx, address of a Probe, arguments)`.
    pub(crate) fn code(self) -> usize {
        match self {
            Self::Sse => probe_sse as *const () as usize,
            Self::Avx => probe_avx as *const () as usize,
            Self::Avx512 => probe_avx512 as *const () as usize,
        }
    }
}

macro_rules! probe {
    ($name:ident, $label:literal, load: [$($load:literal),*], store: [$($store:literal),*]) => {
        /// # Safety
        ///
        /// Entered by `enter` as a trampoline, with the address of a `Probe` in place of a body.
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "push rbp",
                "push rbx",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "push rsi",
                // The guest asks for it itself: nobody else need be there.
                "or dword ptr [rbx + {interrupt}], {preempt}",
                $($load,)*
                "mov rax, [rsi + {given} + 2048]",
                "mov rcx, [rsi + {given} + 2056]",
                "mov rdx, [rsi + {given} + 2064]",
                "mov rdi, [rsi + {given} + 2080]",
                "mov rbp, [rsi + {given} + 2088]",
                "mov r8, [rsi + {given} + 2096]",
                "mov r9, [rsi + {given} + 2104]",
                "mov r10, [rsi + {given} + 2112]",
                "mov r11, [rsi + {given} + 2120]",
                "mov r12, [rsi + {given} + 2128]",
                "mov r13, [rsi + {given} + 2136]",
                "mov r14, [rsi + {given} + 2144]",
                "mov r15, [rsi + {given} + 2152]",
                "push qword ptr [rsi + {given} + 2160]",
                "popfq",
                "mov rsi, [rsi + {given} + 2072]",
                mark!($label, "_stop"),
                "ud2",
                "push rsi",
                "mov rsi, [rsp + 8]",
                "pushfq",
                "pop qword ptr [rsi + {found} + 2160]",
                "pop qword ptr [rsi + {found} + 2072]",
                "mov [rsi + {found} + 2048], rax",
                "mov [rsi + {found} + 2056], rcx",
                "mov [rsi + {found} + 2064], rdx",
                "mov [rsi + {found} + 2080], rdi",
                "mov [rsi + {found} + 2088], rbp",
                "mov [rsi + {found} + 2096], r8",
                "mov [rsi + {found} + 2104], r9",
                "mov [rsi + {found} + 2112], r10",
                "mov [rsi + {found} + 2120], r11",
                "mov [rsi + {found} + 2128], r12",
                "mov [rsi + {found} + 2136], r13",
                "mov [rsi + {found} + 2144], r14",
                "mov [rsi + {found} + 2152], r15",
                "cld",
                $($store,)*
                "pop rsi",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbx",
                "pop rbp",
                "ret",
                interrupt = const offset_of!(VMRuntimeLimits, interrupt),
                preempt = const PREEMPT,
                given = const offset_of!(Probe, given),
                found = const offset_of!(Probe, found),
            )
        }
    };
}

probe!(
    probe_sse,
    "probe_sse",
    load: [".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nmovups xmm\\n, [rsi + {given} + 16 * \\n]\n.endr"],
    store: [".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nmovups [rsi + {found} + 16 * \\n], xmm\\n\n.endr"]
);

probe!(
    probe_avx,
    "probe_avx",
    load: [".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovups ymm\\n, [rsi + {given} + 32 * \\n]\n.endr"],
    store: [
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\nvmovups [rsi + {found} + 32 * \\n], ymm\\n\n.endr",
        "vzeroupper"
    ]
);

probe!(
    probe_avx512,
    "probe_avx512",
    load: [
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\nvmovups zmm\\n, [rsi + {given} + 64 * \\n]\n.endr",
        ".irp n,1,2,3,4,5,6,7\nkmovw k\\n, word ptr [rsi + {given} + 2168 + 2 * \\n]\n.endr"
    ],
    store: [
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\nvmovups [rsi + {found} + 64 * \\n], zmm\\n\n.endr",
        ".irp n,1,2,3,4,5,6,7\nkmovw word ptr [rsi + {found} + 2168 + 2 * \\n], k\\n\n.endr",
        "vzeroupper"
    ]
);
