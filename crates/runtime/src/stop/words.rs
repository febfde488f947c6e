//! The words by which other threads stop a guest: a state machine without a lock.
//!
//! ```text
//!  word       who writes                  what
//!  ticket     both, by exchange           which run of the instance it is; whether its end is wanted
//!  interrupt  both                        KILL, PREEMPT, EPOCH, EXPIRED: tested on every way into the guest
//!  place      the thread of the guest     which run, and where it is: GUEST, HOST, SUSPENDED, LEFT
//!  thread     the thread of the guest     the kernel's number of that thread
//!  verdicts   both, under a lock          what became of runs whose kill is under way
//!
//!  kill:   ticket := wanted (exchange)    enter:  place := GUEST        leave:  place := LEFT
//!          interrupt |= KILL                      test interrupt                is it wanted?
//!          barrier on all threads                 go                            next run
//!          where is it?
//!            GUEST            send a signal      Signalled
//!            HOST, SUSPENDED  it will see        Pending
//!            not begun        it will see        Cancelled
//!            LEFT             take it back, unless the guest's thread has taken it for the reason of its end
//! ```
//!
//! **Why no kill is lost.** The guest's thread writes `place` and then reads `interrupt` or `ticket`; whoever
//! kills writes those and then reads `place`. Between the two stands a full barrier on either side: the
//! killer's is [`barrier`](crate::sys::interrupt::barrier), which makes the guest's thread execute one too,
//! wherever it is. So at least one of them sees the other. Where both do, at the end of a run, an exchange of
//! `ticket` decides. The way in and out of a guest has plain loads and stores only.
//!
//! EPOCH and EXPIRED are of the instance and not of a run: they stay until the deadline is changed
//! (`stop/epochs.rs`), so that a guest whose deadline is reached while it does not run finds them when it is entered.
//!
//! **Why none hits another run.** A switch knows its run. A signal that comes late finds an `interrupt` that
//! `ticket` does not confirm, and takes it back.
//!
//! Checked with loom (below), whose fences stand for the barrier.

use super::verdicts::Verdicts;
use crate::arch::phase;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, light_barrier};

/// Bit of `interrupt`: the end of the run is wanted, if `ticket` says so too.
pub(crate) const KILL: u32 = 1;
/// Bit of `interrupt`: the guest is to be suspended.
pub(crate) const PREEMPT: u32 = 2;
/// Bit of `interrupt`: the guest is to be suspended, since its epoch deadline is reached.
pub(crate) const EPOCH: u32 = 4;
/// Bit of `interrupt`: the guest is to trap, since its epoch deadline is reached.
pub(crate) const EXPIRED: u32 = 8;

/// The bits of `interrupt` that are of one run.
const OF_RUN: u32 = KILL | PREEMPT;

/// Bits of `ticket` below the number of the run.
const RUN_SHIFT: u32 = 2;
/// Bit of `ticket`: the end of the run is wanted.
const WANTED: u64 = 1;
/// Bit of `ticket`: the guest is ended because that is wanted. Nobody takes it back from here on.
const TAKEN: u64 = 2;

/// What a kill switch has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillSuccess {
    /// The guest had not begun to run: its next run ends before its first instruction.
    Cancelled,
    /// The guest was running, and is being interrupted.
    Signalled,
    /// The guest waits for a host function, or is suspended: it ends when it would go on.
    Pending,
}

/// Why a kill switch has done nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KillError {
    /// Another switch was first, or the run was just ending by itself.
    #[error("the guest is being ended already, or has just ended by itself")]
    NotTerminable,
    /// The run that the switch was made for is over, or its instance was reset or dropped.
    #[error("the run that the kill switch was made for is over; get a new switch for the next one")]
    Invalid,
}

/// Why the end of a run can't be had.
enum Refused {
    /// Another switch was first, or the run ends by itself.
    NotTerminable,
    /// It was wanted, and the run is over: whether for that is in the verdicts, since there may be other runs by now.
    Over,
    /// It was over before.
    Invalid,
}

/// What other threads want of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// That its run ends.
    pub(crate) kill: bool,
    /// That it traps: its epoch deadline is reached.
    pub(crate) expire: bool,
    /// That it is suspended, for whatever reason.
    pub(crate) suspend: bool,
}

impl Wanted {
    fn of(interrupt: u32) -> Self {
        Self {
            kill: interrupt & KILL != 0,
            expire: interrupt & EXPIRED != 0,
            suspend: interrupt & (PREEMPT | EPOCH) != 0,
        }
    }
}

/// The words of one instance.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) ticket: &'a AtomicU64,
    pub(crate) interrupt: &'a AtomicU32,
    pub(crate) place: &'a AtomicU64,
    pub(crate) thread: &'a AtomicU32,
    pub(crate) verdicts: &'a Verdicts,
}

/// The number of the first run.
pub(crate) const FIRST_TICKET: u64 = 1 << RUN_SHIFT;

fn place(run: u32, phase: u32) -> u64 {
    u64::from(run) << 32 | u64::from(phase)
}

impl Words<'_> {
    /// The run that is, or comes next.
    #[inline]
    pub(crate) fn run(&self) -> u64 {
        self.ticket.load(Ordering::Relaxed) >> RUN_SHIFT
    }

    /// Begins another run. Whoever wants the end of this one and is not seen any more has lost.
    #[inline]
    fn set_ticket(&self, ticket: u64) {
        #[cfg(not(all(test, loom)))]
        self.ticket.store(ticket, Ordering::Release);
        // loom does not know that nothing comes between the two halves of an exchange, and would put a store there.
        #[cfg(all(test, loom))]
        self.ticket.swap(ticket, Ordering::AcqRel);
    }

    #[inline]
    fn set_phase(&self, phase: u32) {
        self.place
            .store(place(self.run() as u32, phase), Ordering::Release);
    }

    /// The guest is about to be entered or to go on, on this thread. From here on the assembly says where it
    /// is.
    #[inline]
    pub(crate) fn begin(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
        self.set_phase(phase::HOST);
    }

    /// A guest that was suspended between two instructions is about to go on, on this thread. Until it does it counts
    /// as suspended: a wish to suspend it once more comes too early.
    pub(crate) fn begin_again(&self, thread: u32) {
        self.thread.store(thread, Ordering::Relaxed);
        self.set_phase(phase::SUSPENDED);
    }

    /// An entry inside of another one is over: the outer one waits for its host function again.
    #[inline]
    pub(crate) fn back_in_host(&self) {
        self.set_phase(phase::HOST);
    }

    /// The guest is suspended. A wish to suspend it is fulfilled.
    #[inline]
    pub(crate) fn suspend(&self) {
        self.set_phase(phase::SUSPENDED);
        light_barrier();
        // Whoever wishes it from here on finds that it is suspended, and takes the wish back.
        if self.interrupt.load(Ordering::Relaxed) & PREEMPT != 0 {
            self.interrupt.fetch_and(!PREEMPT, Ordering::Relaxed);
        }
    }

    /// The run is over; whether somebody wanted its end, and was told that it has it.
    #[inline]
    pub(crate) fn end(&self) -> bool {
        self.set_phase(phase::LEFT);
        light_barrier();
        let ticket = self.ticket.load(Ordering::Relaxed);
        let interrupt = self.interrupt.load(Ordering::Relaxed);
        if ticket & WANTED == 0 && interrupt & OF_RUN == 0 {
            self.set_ticket(ticket + (1 << RUN_SHIFT));
            return false;
        }
        self.end_wanted()
    }

    #[cold]
    fn end_wanted(&self) -> bool {
        self.honour();
        let ticket = self.ticket.load(Ordering::Acquire);
        let killed = ticket & TAKEN != 0;
        let run = ticket >> RUN_SHIFT;
        if killed {
            // Before the next run, so that whoever asks too late finds it.
            self.verdicts.ended(run);
        }
        self.set_ticket((run + 1) << RUN_SHIFT);
        self.interrupt.fetch_and(!OF_RUN, Ordering::AcqRel);
        killed
    }

    /// All switches are void, and the next run is a new one. For when no guest runs. An epoch deadline stays.
    pub(crate) fn renew(&self) {
        self.set_phase(phase::LEFT);
        self.set_ticket((self.run() + 1) << RUN_SHIFT);
        self.interrupt.fetch_and(!OF_RUN, Ordering::AcqRel);
    }

    /// Whether the guest's thread says that it is in the guest.
    pub(crate) fn is_in_guest(&self) -> bool {
        self.place.load(Ordering::Relaxed) as u32 == phase::GUEST
    }

    /// Whether the end of the run is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.ticket.load(Ordering::Acquire) & WANTED != 0
    }

    /// Whether the guest goes no further: the end of the run is wanted, or its epoch deadline has it trap.
    pub(crate) fn is_to_end(&self) -> bool {
        self.is_wanted() || self.interrupt.load(Ordering::Acquire) & EXPIRED != 0
    }

    /// Whether the guest is to be suspended, since its epoch deadline is reached.
    pub(crate) fn is_at_epoch(&self) -> bool {
        self.interrupt.load(Ordering::Acquire) & EPOCH != 0
    }

    /// What is wanted of the guest. What is stale is taken back. Can be called in a signal handler of the guest's
    /// thread.
    pub(crate) fn wanted(&self) -> Wanted {
        let mut interrupt = self.interrupt.load(Ordering::Acquire);
        if interrupt & KILL != 0 && !self.is_wanted() {
            // Of an earlier run; one of this run says so in the ticket first.
            interrupt = self.interrupt.fetch_and(!KILL, Ordering::AcqRel);
            interrupt &= !KILL;
            if self.is_wanted() {
                self.interrupt.fetch_or(KILL, Ordering::AcqRel);
                interrupt |= KILL;
            }
        }
        Wanted::of(interrupt)
    }

    /// If the end of the run is wanted, the guest is ended for that.
    #[cold]
    pub(crate) fn honour(&self) {
        let wanted = self.run() << RUN_SHIFT | WANTED;
        // It fails if it is not wanted, if whoever wanted it has just taken it back, or if this was said before.
        let _ = self.ticket.compare_exchange(
            wanted,
            wanted | TAKEN,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// Takes a wish to suspend the guest back, which can't be fulfilled.
    pub(crate) fn forget_preemption(&self) {
        self.interrupt.fetch_and(!PREEMPT, Ordering::Relaxed);
    }

    /// Ends a run. `barrier` is a full one on every thread of the process, `send` interrupts a thread.
    pub(crate) fn kill(
        &self,
        run: u64,
        barrier: impl FnOnce(),
        send: impl FnOnce(u32),
    ) -> Result<KillSuccess, KillError> {
        let place = self.verdicts.begin(run);
        let said = self.want_end(run, barrier, send);
        let ended = self.verdicts.finish(place);
        match said {
            Err(Refused::Over) if ended => Ok(KillSuccess::Signalled),
            Err(Refused::Over | Refused::NotTerminable) => Err(KillError::NotTerminable),
            Err(Refused::Invalid) => Err(KillError::Invalid),
            Ok(success) => Ok(success),
        }
    }

    fn want_end(
        &self,
        run: u64,
        barrier: impl FnOnce(),
        send: impl FnOnce(u32),
    ) -> Result<KillSuccess, Refused> {
        let (calm, wanted) = (run << RUN_SHIFT, run << RUN_SHIFT | WANTED);
        match self
            .ticket
            .compare_exchange(calm, wanted, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {}
            Err(ticket) if ticket | TAKEN == wanted | TAKEN => {
                return Err(Refused::NotTerminable);
            }
            Err(_) => return Err(Refused::Invalid),
        }
        self.interrupt.fetch_or(KILL, Ordering::AcqRel);
        barrier();
        let at = self.place.load(Ordering::Acquire);
        let (of_run, phase) = ((at >> 32) as u32, at as u32);
        let begun = (of_run.wrapping_sub(run as u32)).cast_signed();
        match phase {
            phase::GUEST if begun == 0 => {
                send(self.thread.load(Ordering::Relaxed));
                Ok(KillSuccess::Signalled)
            }
            phase::HOST | phase::SUSPENDED if begun == 0 => Ok(KillSuccess::Pending),
            _ if begun < 0 => Ok(KillSuccess::Cancelled),
            _ => self.settle(run),
        }
    }

    /// The run was ending when somebody wanted its end: who was first?
    #[cold]
    fn settle(&self, run: u64) -> Result<KillSuccess, Refused> {
        let (calm, wanted) = (run << RUN_SHIFT, run << RUN_SHIFT | WANTED);
        let taken_back =
            self.ticket
                .compare_exchange(wanted, calm, Ordering::AcqRel, Ordering::Acquire);
        match taken_back {
            Err(ticket) if ticket == wanted | TAKEN => Ok(KillSuccess::Signalled),
            Err(_) => Err(Refused::Over),
            Ok(_) => Err(Refused::NotTerminable),
        }
    }

    /// Wants the guest suspended; whether it was running. As [`Words::kill`].
    pub(crate) fn preempt(&self, barrier: impl FnOnce(), send: impl FnOnce(u32)) -> bool {
        let running = |at: u64| matches!(at as u32, phase::GUEST | phase::HOST);
        if !running(self.place.load(Ordering::Acquire)) {
            return false;
        }
        self.interrupt.fetch_or(PREEMPT, Ordering::AcqRel);
        barrier();
        let at = self.place.load(Ordering::Acquire);
        if at as u32 == phase::GUEST {
            send(self.thread.load(Ordering::Relaxed));
        }
        if !running(at) {
            self.interrupt.fetch_and(!PREEMPT, Ordering::AcqRel);
        }
        running(at)
    }

    /// Says that the epoch deadline is reached: `wish` is [`EPOCH`] or [`EXPIRED`]. Behind a barrier on all threads
    /// comes [`Words::interrupt_guest`].
    pub(crate) fn reach_epoch(&self, wish: u32) {
        self.interrupt.fetch_or(wish, Ordering::AcqRel);
    }

    /// Interrupts the guest, if it is in its own code.
    pub(crate) fn interrupt_guest(&self, send: impl FnOnce(u32)) {
        if self.place.load(Ordering::Acquire) as u32 == phase::GUEST {
            send(self.thread.load(Ordering::Relaxed));
        }
    }

    /// The epoch deadline is another one. For when the guest does not run.
    pub(crate) fn forget_epoch(&self) {
        self.interrupt
            .fetch_and(!(EPOCH | EXPIRED), Ordering::AcqRel);
    }

    /// Wants the guest suspended, on its own thread.
    pub(crate) fn preempt_here(&self) {
        self.interrupt.fetch_or(PREEMPT, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[cfg(loom)]
pub(crate) mod models;
