//! What ends or holds a guest that would go on by itself: budgets, and other threads; and where guests wait for
//! each other.
//!
//! ```text
//!  fuel       budgets of fuel
//!  parking    where guests wait at an address of a shared memory
//!  task       who polls a run that waits for a future, and how it is woken for the end
//!  words      the words by which other threads stop a guest: a state machine
//!  verdicts   what became of runs whose kill is still under way
//!  decide     what becomes of an interrupted thread: a pure function
//!  kill       KillSwitch: ends a run from any thread
//!  preempt    PreemptSwitch, slices of time: suspends a guest from any thread
//!  epochs     the counter of an engine, and who has a deadline on it
//!  deadline   the epoch deadline of an instance, and what becomes of it then
//!  ticker     EpochTicker: a thread that counts epochs by the clock
//! ```

pub(crate) mod deadline;
pub(crate) mod decide;
pub(crate) mod epochs;
pub(crate) mod fuel;
pub(crate) mod kill;
pub(crate) mod parking;
pub(crate) mod preempt;
pub(crate) mod task;
pub(crate) mod ticker;
pub(crate) mod verdicts;
pub(crate) mod words;
