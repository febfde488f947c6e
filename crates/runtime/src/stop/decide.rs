//! What becomes of a thread that was interrupted: a pure function over plain facts.

/// Where the interrupted thread was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum At {
    /// In guest code.
    Guest,
    /// On the last instructions before guest code, on the guest's stack.
    Door,
    /// At the instruction behind a test that has found something.
    Stop,
    /// Where registers are loaded for a guest that goes on.
    GoingOn,
    /// In the assembly around guests, elsewhere.
    Inside,
    /// In code of others.
    Elsewhere,
}

/// The facts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) at: At,
    /// The end of the run is wanted.
    pub(crate) kill: bool,
    /// The guest is to trap: its epoch deadline is reached.
    pub(crate) expire: bool,
    /// The guest is to be suspended.
    pub(crate) preempt: bool,
    /// Where it stands it can be suspended: no host function waits for it, and there is room to keep it in.
    pub(crate) can_wait: bool,
    /// The thread has its own reason to leave the guest, which it is about to find.
    pub(crate) raised: bool,
    /// The guest's thread says that it is in the guest.
    pub(crate) in_guest: bool,
    /// The stack pointer is in the guest's stack.
    pub(crate) on_guest_stack: bool,
    /// The stack pointer is in the stack of signal handlers.
    pub(crate) on_signal_stack: bool,
}

/// The decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// Nothing: there is nothing to do, or the thread will find it on its way.
    Ignore,
    /// The guest ends here.
    Kill,
    /// The guest traps here: its epoch deadline is reached.
    Expire,
    /// The guest is suspended here.
    Suspend,
    /// The registers are loaded from the beginning, after another test.
    Again,
    /// The guest goes on although something was found.
    Pass,
    /// The thread is in a signal handler above the guest: again when that is done.
    Later,
}

/// Decides.
pub(crate) fn decide(facts: &Facts) -> Decision {
    let wanted = facts.kill || facts.expire || facts.preempt;
    match facts.at {
        At::Stop if facts.kill => Decision::Kill,
        At::Stop if facts.expire => Decision::Expire,
        At::Stop if facts.preempt && facts.can_wait => Decision::Suspend,
        At::Stop => Decision::Pass,
        _ if !wanted => Decision::Ignore,
        At::Door if facts.raised => Decision::Ignore,
        At::Guest | At::Door if !facts.on_guest_stack => Decision::Ignore,
        At::Guest | At::Door if facts.kill => Decision::Kill,
        At::Guest | At::Door if facts.expire => Decision::Expire,
        At::Guest | At::Door if facts.can_wait => Decision::Suspend,
        At::Guest | At::Door | At::Inside => Decision::Ignore,
        At::GoingOn => Decision::Again,
        At::Elsewhere if facts.in_guest && (facts.on_guest_stack || facts.on_signal_stack) => {
            Decision::Later
        }
        At::Elsewhere => Decision::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Facts = Facts {
        at: At::Guest,
        kill: true,
        expire: false,
        preempt: false,
        can_wait: true,
        raised: false,
        in_guest: true,
        on_guest_stack: true,
        on_signal_stack: false,
    };

    #[test]
    fn the_table_of_decisions() {
        use Decision as D;
        //           place          kill        expire     preempt, can wait  preempt, can't
        let table = [
            (At::Guest, D::Kill, D::Expire, D::Suspend, D::Ignore),
            (At::Door, D::Kill, D::Expire, D::Suspend, D::Ignore),
            (At::Stop, D::Kill, D::Expire, D::Suspend, D::Pass),
            (At::GoingOn, D::Again, D::Again, D::Again, D::Again),
            (At::Inside, D::Ignore, D::Ignore, D::Ignore, D::Ignore),
            (At::Elsewhere, D::Later, D::Later, D::Later, D::Later),
        ];
        for (at, kill, expire, suspend, stuck) in table {
            let killed = Facts { at, ..GUEST };
            let preempted = Facts {
                kill: false,
                preempt: true,
                ..killed
            };
            let nested = Facts {
                can_wait: false,
                ..preempted
            };
            assert_eq!(decide(&killed), kill, "{at:?}");
            assert_eq!(decide(&preempted), suspend, "{at:?}");
            assert_eq!(decide(&nested), stuck, "{at:?}");
            let both = Facts {
                expire: true,
                preempt: true,
                ..killed
            };
            assert_eq!(decide(&both), kill, "an end is final: {at:?}");
            for (preempt, can_wait) in [(false, true), (true, true), (false, false)] {
                let expired = Facts {
                    kill: false,
                    expire: true,
                    preempt,
                    can_wait,
                    ..killed
                };
                assert_eq!(decide(&expired), expire, "{at:?}");
            }
            let nothing = Facts {
                kill: false,
                ..killed
            };
            let calm = if at == At::Stop { D::Pass } else { D::Ignore };
            assert_eq!(decide(&nothing), calm, "{at:?}");
        }
    }

    #[test]
    fn a_thread_with_a_reason_of_its_own_is_let_on_to_find_it() {
        let raised = Facts {
            at: At::Door,
            raised: true,
            ..GUEST
        };
        assert_eq!(decide(&raised), Decision::Ignore);
    }

    #[test]
    fn handlers_above_a_guest_are_waited_for_and_host_code_is_not() {
        let handler = Facts {
            at: At::Elsewhere,
            ..GUEST
        };
        assert_eq!(decide(&handler), Decision::Later);
        let on_signal_stack = Facts {
            on_guest_stack: false,
            on_signal_stack: true,
            ..handler
        };
        assert_eq!(decide(&on_signal_stack), Decision::Later);
        let host = Facts {
            on_guest_stack: false,
            ..handler
        };
        assert_eq!(decide(&host), Decision::Ignore);
        let in_hostcall = Facts {
            in_guest: false,
            ..on_signal_stack
        };
        assert_eq!(decide(&in_hostcall), Decision::Ignore);
        let not_its_stack = Facts {
            on_guest_stack: false,
            ..GUEST
        };
        assert_eq!(decide(&not_its_stack), Decision::Ignore);
    }
}
