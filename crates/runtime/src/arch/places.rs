//! What a pc in this room's assembly means for stopping a guest.
//!
//! ```text
//!  enter, resume, guest_to_host:   ... | open: test of `interrupt` ... shut: | ... | stop: ud2 | ...
//!                                        on the guest's stack, like guest     '-> the handler decides
//!                                        code: a guest can be stopped here        as at `open`
//!  go_on:                          ... | again: test ... iretq | ...
//!                                        registers are half loaded: sent back to `again`
//! ```
//!
//! A guest that is stopped between `open` and `shut` goes on there later: the instructions use registers that
//! are kept, the guest's stack, and `Control`, which stays where it is. All names carry the crate's version, so
//! that two versions in one program do not meet.
#![allow(unsafe_code, reason = "room R1, SAFETY.md")]

use core::ops::Range;

/// The name of a place, for the assembler.
macro_rules! symbol {
    ($($name:expr),+) => {
        concat!(
            "selvedge_",
            env!("CARGO_PKG_VERSION_MAJOR"),
            "_",
            env!("CARGO_PKG_VERSION_MINOR"),
            "_",
            env!("CARGO_PKG_VERSION_PATCH"),
            "_",
            $($name),+
        )
    };
}
pub(super) use symbol;

/// Marks a place in assembly.
macro_rules! mark {
    ($($name:expr),+) => {
        concat!(
            ".globl ", $crate::arch::places::symbol!($($name),+), "\n",
            ".hidden ", $crate::arch::places::symbol!($($name),+), "\n",
            $crate::arch::places::symbol!($($name),+), ":"
        )
    };
}
pub(super) use mark;

/// The address of a place.
macro_rules! address {
    ($($name:expr),+) => {{
        let addr: usize;
        // SAFETY: computes an address and touches nothing.
        unsafe {
            core::arch::asm!(
                concat!("lea {}, [rip + ", $crate::arch::places::symbol!($($name),+), "]"),
                out(reg) addr,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        addr
    }};
}
pub(super) use address;

/// What standing at a pc of this room means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// On the last instructions before guest code: as good as guest code.
    Door,
    /// At the `ud2` behind a test that has found something.
    Stop {
        /// The test.
        open: usize,
        /// The instruction behind it, from where the guest is entered all the same.
        past: usize,
    },
    /// Between the test and the jump of `go_on`.
    GoingOn,
    /// Elsewhere in this room, where a test comes or the guest has been left.
    Inside,
}

/// What a pc means; `None` if it is not of this room.
pub(crate) fn place(pc: usize) -> Option<Place> {
    let door = |open: usize, past: usize, shut: usize, stop: usize| {
        if (open..shut).contains(&pc) {
            Some(Place::Door)
        } else {
            (pc == stop).then_some(Place::Stop { open, past })
        }
    };
    macro_rules! doors {
        ($($name:literal),+) => {
            [$((
                address!($name, "_open"),
                address!($name, "_past"),
                address!($name, "_shut"),
                address!($name, "_stop"),
            )),+]
        };
    }
    let doors = doors![
        "enter",
        "call",
        "call_pad",
        "metered",
        "metered_pad",
        "resume",
        "resume_pad",
        "enter_keyed",
        "call_keyed",
        "call_keyed_pad",
        "metered_keyed",
        "metered_keyed_pad",
        "resume_keyed",
        "resume_keyed_pad"
    ];
    if let Some(found) = doors
        .iter()
        .find_map(|&(open, past, shut, stop)| door(open, past, shut, stop))
    {
        return Some(found);
    }
    // The probe is stopped behind its `ud2`, so that its flags are what it has made of them.
    let probes = [
        address!("probe_sse_stop"),
        address!("probe_avx_stop"),
        address!("probe_avx512_stop"),
    ];
    if probes.contains(&pc) {
        let behind = pc + 2;
        return Some(Place::Stop {
            open: behind,
            past: behind,
        });
    }
    let going_on = [
        address!("go_on_again")..address!("go_on_gone"),
        address!("go_on_keyed_again")..address!("go_on_keyed_gone"),
    ];
    if going_on.iter().any(|range| range.contains(&pc)) {
        return Some(Place::GoingOn);
    }
    room()
        .iter()
        .any(|range| range.contains(&pc))
        .then_some(Place::Inside)
}

/// The code of this room that runs on a guest's stack, or just before or after.
fn room() -> [Range<usize>; 12] {
    let [
        enter,
        enter_keyed,
        leave,
        leave_keyed,
        call,
        call_keyed,
        metered,
        metered_keyed,
        resume,
        resume_keyed,
    ] = super::x86_64::starts();
    [
        enter..address!("enter_end"),
        enter_keyed..address!("enter_keyed_end"),
        leave..address!("leave_end"),
        leave_keyed..address!("leave_keyed_end"),
        call..address!("call_end"),
        call_keyed..address!("call_keyed_end"),
        metered..address!("metered_end"),
        metered_keyed..address!("metered_keyed_end"),
        resume..address!("resume_end"),
        resume_keyed..address!("resume_keyed_end"),
        super::capture::go_on as *const () as usize..address!("go_on_end"),
        super::capture::go_on_keyed as *const () as usize..address!("go_on_keyed_end"),
    ]
}

/// How many instructions of a door, beginning with this one, are left until it is passed: whether the frame of
/// the function that returns there is still on the stack.
pub(crate) enum Frame {
    /// The guest has no frame yet.
    None,
    /// `[saved fp, return address]` is at the stack pointer.
    Saved,
    /// The return address is at the stack pointer.
    Return,
    /// The guest goes on at the address in r11, at a landing pad, and its frame is complete.
    Pad,
    /// The guest goes on at the return address in r11, and its frame is complete.
    Returned,
}

/// What is on the guest's stack at the pc of a door.
pub(crate) fn frame_at(pc: usize) -> Frame {
    let within = |open: usize, shut: usize| (open..shut).contains(&pc);
    let entries = [
        (address!("enter_open"), address!("enter_shut")),
        (address!("enter_keyed_open"), address!("enter_keyed_shut")),
    ];
    if entries.into_iter().any(|(open, shut)| within(open, shut)) {
        return Frame::None;
    }
    macro_rules! pads {
        ($($name:literal),+) => {
            [$((address!($name, "_pad_open"), address!($name, "_pad_shut"))),+]
        };
    }
    let mut pads = pads![
        "call",
        "metered",
        "resume",
        "call_keyed",
        "metered_keyed",
        "resume_keyed"
    ]
    .into_iter();
    if pads.any(|(open, shut)| within(open, shut)) {
        return Frame::Pad;
    }
    // `ret` is the last instruction, one byte long, or a pop and a jump of five bytes.
    let mut last = [
        address!("call_shut"),
        address!("metered_shut"),
        address!("call_keyed_shut"),
        address!("metered_keyed_shut"),
    ]
    .into_iter();
    let behind = [address!("resume_shut"), address!("resume_keyed_shut")];
    if last.any(|shut| pc + 1 == shut) || behind.contains(&(pc + 5)) {
        return Frame::Return;
    }
    if behind.contains(&(pc + 3)) {
        return Frame::Returned;
    }
    Frame::Saved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_told_apart() {
        macro_rules! check {
            ($($name:literal),+) => {$(
                let (open, past, shut, stop) = (
                    address!($name, "_open"),
                    address!($name, "_past"),
                    address!($name, "_shut"),
                    address!($name, "_stop"),
                );
                for pc in open..shut {
                    assert_eq!(place(pc), Some(Place::Door), "{} {}", $name, pc - open);
                }
                assert_eq!(place(stop), Some(Place::Stop { open, past }), $name);
                assert!((open + 1..shut).contains(&past), $name);
                assert_eq!(place(open - 1), Some(Place::Inside), $name);
                assert_ne!(place(shut), Some(Place::Door), $name);
            )+};
        }
        check!(
            "enter",
            "call",
            "call_pad",
            "metered",
            "metered_pad",
            "resume",
            "resume_pad",
            "enter_keyed",
            "call_keyed",
            "call_keyed_pad",
            "metered_keyed",
            "metered_keyed_pad",
            "resume_keyed",
            "resume_keyed_pad"
        );
        assert_eq!(place(address!("go_on_again")), Some(Place::GoingOn));
        assert_eq!(place(address!("go_on_gone")), Some(Place::Inside));
        let keyed = address!("go_on_keyed_again");
        assert_eq!(place(keyed), Some(Place::GoingOn));
        let gone = address!("go_on_keyed_gone");
        assert_eq!(place(gone), Some(Place::Inside));
        for range in room() {
            assert!(!range.is_empty() && range.len() < 512, "{range:?}");
            assert!(place(range.start).is_some() && place(range.end - 1).is_some());
        }
        assert_eq!(place(8), None);
        assert_eq!(place(every_place_is_told_apart as *const () as usize), None);
    }

    #[test]
    fn frames_at_doors_are_as_the_assembly_leaves_them() {
        assert!(matches!(frame_at(address!("enter_open")), Frame::None));
        assert!(matches!(frame_at(address!("call_open")), Frame::Saved));
        assert!(matches!(frame_at(address!("call_shut") - 1), Frame::Return));
        assert!(matches!(frame_at(address!("call_shut") - 2), Frame::Saved));
        assert!(matches!(
            frame_at(address!("call_keyed_open")),
            Frame::Saved
        ));
        assert!(matches!(
            frame_at(address!("metered_keyed_shut") - 1),
            Frame::Return
        ));
        assert!(matches!(
            frame_at(address!("enter_keyed_open")),
            Frame::None
        ));
        for resume in [address!("resume_shut"), address!("resume_keyed_shut")] {
            assert!(matches!(frame_at(resume - 3), Frame::Returned));
            assert!(matches!(frame_at(resume - 5), Frame::Return));
            assert!(matches!(frame_at(resume - 6), Frame::Saved));
            // SAFETY: reads code of this room: `pop rbp`, `pop r11`, `jmp r11`.
            let end = unsafe { *((resume - 6) as *const [u8; 6]) };
            assert_eq!(end, [0x5d, 0x41, 0x5b, 0x41, 0xff, 0xe3]);
        }
        assert!(matches!(
            frame_at(address!("call_keyed_pad_open")),
            Frame::Pad
        ));
        assert!(matches!(frame_at(address!("metered_pad_open")), Frame::Pad));
    }
}
