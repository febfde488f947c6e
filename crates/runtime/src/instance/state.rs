//! The life of an instance: its states, and what may be done in each.
//!
//! ```text
//!              run_start             yield, preempt
//!  NotStarted ----------> (runs) --------------> Yielded, Preempted
//!                          ^  |  <--------------
//!              run         |  |      resume
//!  Ready ------------------+  +--> Ready        it returned
//!  Faulted ----------------'  +--> Faulted      it trapped, or a host function failed
//!                             '--> Terminated   a host function ended it or panicked, or a kill switch did
//!
//!  any --reset--> NotStarted or Ready
//! ```
//!
//! While it runs, the instance is borrowed by the call that runs it, so nobody can ask. The table of calls
//! and states is below; `tests/embed/states.rs` reads it and walks every cell.
//!
//! | call | NotStarted | Ready | Yielded | Preempted | Faulted | Terminated |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | `run` | InstanceNeedsStart | runs | InvalidArgument | InvalidArgument | runs | InvalidArgument |
//! | `run_func_idx` | InstanceNeedsStart | runs | InvalidArgument | InvalidArgument | runs | InvalidArgument |
//! | `run_func` | InstanceNeedsStart | runs | InvalidArgument | InvalidArgument | runs | InvalidArgument |
//! | `TypedFunc::call` | InstanceNeedsStart | runs | InvalidArgument | InvalidArgument | runs | InvalidArgument |
//! | `run_start`, there is one | runs | StartAlreadyRun | StartAlreadyRun | StartAlreadyRun | StartAlreadyRun | StartAlreadyRun |
//! | `run_start`, there is none | - | nothing | nothing | nothing | nothing | nothing |
//! | `resume` | InvalidArgument | InvalidArgument | runs | runs | InvalidArgument | InvalidArgument |
//! | `resume_with_val` | InvalidArgument | InvalidArgument | runs | InvalidArgument | InvalidArgument | InvalidArgument |
//! | `link` | links | links | InvalidArgument | InvalidArgument | links | InvalidArgument |
//! | `reset` | resets | resets | resets | resets | resets | resets |
//! | changing memories, tables, globals | allowed | allowed | allowed | InstancePreempted | allowed | allowed |
//! | everything else | allowed | allowed | allowed | allowed | allowed | allowed |
//!
//! `runs` of `resume` is for the right value; a wrong one is an error that leaves the instance as it is. A
//! guest that trapped may be run again without a reset: its memory is as it left it, and whether that makes
//! sense only its author knows. One that was ended from outside may not. A guest that was preempted stands
//! between any two instructions, and may have lengths and values in registers: it is looked at, and not changed.

use crate::error::Error;

/// Where an instance is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// It has a start function that has not run.
    NotStarted,
    /// It can be run.
    Ready,
    /// It is suspended, by a host function.
    Yielded,
    /// It is suspended, from outside.
    Preempted,
    /// It trapped.
    Faulted,
    /// It was ended.
    Terminated,
}

impl State {
    /// The state of an instance that has run nothing.
    pub(crate) fn initial(has_start: bool) -> Self {
        if has_start {
            Self::NotStarted
        } else {
            Self::Ready
        }
    }

    /// Whether a function may be run.
    #[inline]
    pub(crate) fn check_run(self) -> Result<(), Error> {
        if self == Self::Ready {
            return Ok(());
        }
        self.check_run_cold()
    }

    #[cold]
    fn check_run_cold(self) -> Result<(), Error> {
        match self {
            Self::NotStarted => Err(Error::InstanceNeedsStart),
            Self::Ready | Self::Faulted => Ok(()),
            Self::Yielded | Self::Preempted => Err(YIELDED),
            Self::Terminated => Err(TERMINATED),
        }
    }

    /// Whether the start function, of which there is one, may be run.
    pub(crate) fn check_start(self) -> Result<(), Error> {
        if self == Self::NotStarted {
            Ok(())
        } else {
            Err(Error::StartAlreadyRun)
        }
    }

    /// Whether the instance may be resumed.
    pub(crate) fn check_resume(self) -> Result<(), Error> {
        if matches!(self, Self::Yielded | Self::Preempted) {
            Ok(())
        } else {
            Err(Error::InvalidArgument(
                "the instance is not suspended, so it can't be resumed",
            ))
        }
    }

    /// Whether another module may be linked.
    pub(crate) fn check_link(self) -> Result<(), Error> {
        match self {
            Self::NotStarted | Self::Ready | Self::Faulted => Ok(()),
            Self::Yielded | Self::Preempted => Err(YIELDED),
            Self::Terminated => Err(TERMINATED),
        }
    }

    /// Whether memories, tables and globals may be changed by the embedder.
    pub(crate) fn check_change(self) -> Result<(), Error> {
        if self == Self::Preempted {
            return Err(Error::InstancePreempted);
        }
        Ok(())
    }
}

const YIELDED: Error =
    Error::InvalidArgument("the instance is suspended; resume it, or reset it first");
const TERMINATED: Error =
    Error::InvalidArgument("the instance was terminated; reset it before it runs again");
