//! The decision in the signal handler, as a pure function over plain facts.
//!
//! A fault is the guest's only if everything about it says so: an instruction raised it (and nobody sent
//! the signal), this thread runs a guest, the pc is in loaded code, the stack pointer is in the guest's stack, and the address is one that guest code can
//! reach and be refused (R-6 of the design notes on traps). Everything else is the host's own fault
//! and goes to whoever handled such faults before.

use selvedge_artifact::traps::TrapCode;

/// What kind of signal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// SIGSEGV or SIGBUS.
    Access,
    /// SIGFPE.
    Arithmetic,
    /// SIGILL.
    Illegal,
}

/// Where a faulting address lies, as far as the running guest is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the low guard of the guest's stack, but for its reserve.
    StackGuard,
    /// In the reserve of the guest's stack, which is not accessible.
    Reserve,
    /// In the reservation of a memory, its guard included.
    Memory,
    /// Elsewhere.
    Elsewhere,
    /// The kernel gave no address.
    Unknown,
}

/// The facts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The signal.
    pub(crate) kind: Kind,
    /// The kernel raised it for an instruction; nobody sent it.
    pub(crate) raised: bool,
    /// This thread has an activation.
    pub(crate) running: bool,
    /// The pc is in loaded code.
    pub(crate) in_code: bool,
    /// The stack pointer is in the activation's stack or its low guard.
    pub(crate) on_guest_stack: bool,
    /// Bytes between the stack pointer and the end of the stack, negative in the guard.
    pub(crate) stack_left: isize,
    /// What the trap table says of the pc.
    pub(crate) table: Option<TrapCode>,
    /// Where the address lies.
    pub(crate) place: Place,
}

impl Facts {
    /// Whether an instruction of the running guest has raised the signal.
    pub(crate) fn is_of_guest(&self) -> bool {
        self.raised && self.running && self.on_guest_stack && self.in_code
    }
}

/// The decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Not a guest's fault.
    Forward,
    /// A signal handler of somebody else has met the end of the guest's stack: it is lent the reserve
    /// and goes on.
    Lend,
    /// The guest traps, for this reason.
    Trap(TrapCode),
}

/// A signal that could not be delivered because the guest's stack had no room for its frame arrives as
/// a fault without address; this much room is always enough for a frame with the vector state of
/// AVX-512 and AMX.
const SIGNAL_FRAME_ROOM: isize = 16 << 10;

/// Decides.
pub(crate) fn classify(facts: &Facts) -> Decision {
    if !(facts.raised && facts.running && facts.on_guest_stack) {
        return Decision::Forward;
    }
    if !facts.in_code {
        // No code of ours but the guest's runs on a guest's stack (I-2).
        return match (facts.kind, facts.place) {
            (Kind::Access, Place::Reserve) => Decision::Lend,
            // Another signal found no room for its frame below that handler.
            (Kind::Access, Place::Unknown) if facts.stack_left < SIGNAL_FRAME_ROOM => {
                Decision::Lend
            }
            _ => Decision::Forward,
        };
    }
    let trap = Decision::Trap;
    match (facts.kind, facts.place, facts.table) {
        // Any instruction may touch the guard first: a push, a call, a spill. No table entry is needed.
        (Kind::Access, Place::StackGuard | Place::Reserve, _) => trap(TrapCode::StackOverflow),
        (Kind::Access, Place::Memory, Some(code @ TrapCode::HeapOutOfBounds)) => trap(code),
        (Kind::Access, Place::Unknown, _) if facts.stack_left < SIGNAL_FRAME_ROOM => {
            trap(TrapCode::StackOverflow)
        }
        (Kind::Access, ..) => Decision::Forward,
        (
            Kind::Arithmetic,
            _,
            Some(code @ (TrapCode::IntegerDivisionByZero | TrapCode::IntegerOverflow)),
        ) => trap(code),
        (Kind::Arithmetic, ..) => Decision::Forward,
        (Kind::Illegal, _, Some(code)) => trap(code),
        (Kind::Illegal, _, None) => Decision::Forward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Facts = Facts {
        kind: Kind::Access,
        raised: true,
        running: true,
        in_code: true,
        on_guest_stack: true,
        stack_left: 100_000,
        table: None,
        place: Place::Elsewhere,
    };

    #[test]
    fn the_table_of_decisions() {
        use TrapCode as T;
        let trap = Decision::Trap;
        let oob = trap(T::HeapOutOfBounds);
        let memory = Place::Memory;
        let cases = [
            (
                "access to a memory with an entry",
                Kind::Access,
                memory,
                Some(T::HeapOutOfBounds),
                oob,
            ),
            (
                "access to a memory without",
                Kind::Access,
                memory,
                None,
                Decision::Forward,
            ),
            (
                "access to a memory, other entry",
                Kind::Access,
                memory,
                Some(T::Unreachable),
                Decision::Forward,
            ),
            (
                "stack guard",
                Kind::Access,
                Place::StackGuard,
                None,
                trap(T::StackOverflow),
            ),
            (
                "elsewhere with an entry",
                Kind::Access,
                Place::Elsewhere,
                Some(T::HeapOutOfBounds),
                Decision::Forward,
            ),
            (
                "no address, room left",
                Kind::Access,
                Place::Unknown,
                None,
                Decision::Forward,
            ),
            (
                "division",
                Kind::Arithmetic,
                Place::Unknown,
                Some(T::IntegerOverflow),
                trap(T::IntegerOverflow),
            ),
            (
                "division without entry",
                Kind::Arithmetic,
                Place::Unknown,
                None,
                Decision::Forward,
            ),
            (
                "ud2",
                Kind::Illegal,
                Place::Unknown,
                Some(T::Unreachable),
                trap(T::Unreachable),
            ),
            (
                "illegal instruction without entry",
                Kind::Illegal,
                Place::Unknown,
                None,
                Decision::Forward,
            ),
        ];
        for (name, kind, place, table, expected) in cases {
            let facts = Facts {
                kind,
                place,
                table,
                ..GUEST
            };
            assert_eq!(classify(&facts), expected, "{name}");
            for outside in [
                Facts {
                    raised: false,
                    ..facts
                },
                Facts {
                    running: false,
                    ..facts
                },
                Facts {
                    in_code: false,
                    ..facts
                },
                Facts {
                    on_guest_stack: false,
                    ..facts
                },
            ] {
                assert_eq!(classify(&outside), Decision::Forward, "{name}, {outside:?}");
            }
        }
    }

    #[test]
    fn a_foreign_handler_at_the_end_of_the_stack_is_lent_the_reserve_and_nothing_else() {
        let facts = Facts {
            in_code: false,
            place: Place::Reserve,
            ..GUEST
        };
        assert_eq!(classify(&facts), Decision::Lend);
        for place in [
            Place::StackGuard,
            Place::Memory,
            Place::Elsewhere,
            Place::Unknown,
        ] {
            assert_eq!(classify(&Facts { place, ..facts }), Decision::Forward);
        }
        let second_signal = Facts {
            place: Place::Unknown,
            stack_left: 2_000,
            ..facts
        };
        assert_eq!(classify(&second_signal), Decision::Lend);
        let elsewhere = Facts {
            on_guest_stack: false,
            ..facts
        };
        assert_eq!(classify(&elsewhere), Decision::Forward);
        let guest = Facts {
            in_code: true,
            ..facts
        };
        assert_eq!(classify(&guest), Decision::Trap(TrapCode::StackOverflow));
    }

    #[test]
    fn a_lost_signal_near_the_end_of_the_stack_is_an_overflow() {
        let facts = Facts {
            place: Place::Unknown,
            stack_left: 200,
            ..GUEST
        };
        let expected = Decision::Trap(TrapCode::StackOverflow);
        assert_eq!(classify(&facts), expected);
    }
}
