//! What ends a guest of `run` from outside: its time-out, and Ctrl-C.
//!
//! ```text
//!  main thread: waits for the end or the deadline ---.
//!  signal thread: waits for SIGINT -------------------+--> Watch::ask: preempt, or kill what waits in the host
//!  guest thread: Watch::run, for each run of the guest <---'
//! ```
//!
//! The guest has a thread of its own because the kernel gives a signal that is sent to the process to the main
//! thread: so its handler runs on no stack of a guest.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, panic, thread};

use selvedge::{
    InstanceHandle, KillSwitch, PreemptSwitch, RuntimeError, TerminationDetails, WasmBacktrace,
};
use signal_hook::consts::SIGINT;
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::exit_code::ExitCode;
use crate::report::Failure;

/// How often a guest that does not stop is looked at again.
const AGAIN: Duration = Duration::from_millis(1);

/// How often its thread must be found asleep, one time after the other, to be waiting in a host function. Then the
/// guest is ended without a look at where it stands.
const ASLEEP: u32 = 10;

/// Why a guest was ended from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// It ran longer than this.
    TimedOut(Duration),
    /// By Ctrl-C.
    Interrupted,
}

/// How a run failed.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Error(RuntimeError),
    /// From outside. Where it stood is known if that was in its own code.
    Stopped(Why, Option<WasmBacktrace>),
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    changed: Condvar,
    /// Nothing where the machine can't suspend guests.
    preempt: Option<PreemptSwitch>,
}

#[derive(Debug, Default)]
struct State {
    asked: Option<Why>,
    /// Ends the run that is.
    running: Option<KillSwitch>,
    /// What the kernel tells of the guest's thread.
    thread: PathBuf,
    is_over: bool,
}

impl Watch {
    /// Nothing is left half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One run of the guest.
    pub(super) fn run<R>(
        &self,
        instance: &mut InstanceHandle,
        run: impl FnOnce(&mut InstanceHandle) -> Result<R, RuntimeError>,
    ) -> Result<R, Ended> {
        {
            let mut state = self.lock();
            if let Some(why) = state.asked {
                return Err(Ended::Stopped(why, None));
            }
            state.running = Some(instance.kill_switch());
        }
        let result = run(instance);
        let asked = {
            let mut state = self.lock();
            state.running = None;
            state.asked
        };
        self.changed.notify_all();
        match (asked, result) {
            (Some(why), _) if instance.is_preempted() => {
                Err(Ended::Stopped(why, Some(instance.backtrace())))
            }
            (Some(why), Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))) => {
                Err(Ended::Stopped(why, None))
            }
            (_, result) => result.map_err(Ended::Error),
        }
    }

    /// Has the guest ended. The first who asks is who did it.
    fn ask(&self, why: Why) {
        let mut state = self.lock();
        if state.is_over || state.asked.is_some() {
            return;
        }
        state.asked = Some(why);
        let mut asleep = 0;
        while let Some(running) = &state.running {
            asleep = match sleeps(&state.thread) {
                true => asleep + 1,
                false => 0,
            };
            let Some(preempt) = self.preempt.as_ref().filter(|_| asleep < ASLEEP) else {
                // If it ends by itself meanwhile, that is as well.
                let _ = running.terminate();
                return;
            };
            // Again and again, since it may not have begun yet.
            preempt.preempt();
            let waited = self.changed.wait_timeout(state, AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the guest is over, and ends it if that takes longer than it may.
    fn supervise(&self, timeout: Option<Duration>) {
        let started = Instant::now();
        let mut state = self.lock();
        while !state.is_over {
            let left = match timeout {
                Some(timeout) if state.asked.is_none() => timeout.checked_sub(started.elapsed()),
                _ => Some(Duration::MAX),
            };
            state = match (left, timeout) {
                (None | Some(Duration::ZERO), Some(timeout)) => {
                    drop(state);
                    self.ask(Why::TimedOut(timeout));
                    self.lock()
                }
                (Some(left), Some(_)) if left < Duration::MAX => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// Says that the guest is over, also if its thread panics.
struct Over<'a>(&'a Watch);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

/// Does what runs the guest on a thread of its own, while this one and another see to its end.
pub(super) fn supervised<R: Send>(
    instance: &mut InstanceHandle,
    timeout: Option<Duration>,
    guest: impl FnOnce(&Watch, &mut InstanceHandle) -> R + Send,
) -> Result<R, Failure> {
    let watch = Watch {
        state: Mutex::default(),
        changed: Condvar::new(),
        preempt: instance.preempt_switch().ok(),
    };
    let mut signals = interrupts().map_err(Failure::Signals)?;
    let close = signals.handle();
    thread::scope(|scope| {
        scope.spawn(|| {
            if signals.forever().next().is_some() {
                watch.ask(Why::Interrupted);
            }
        });
        let guest = scope.spawn(|| {
            let _over = Over(&watch);
            // Where the kernel tells nothing, the guest counts as one that waits.
            let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
            watch.lock().thread = Path::new("/proc").join(thread).join("stat");
            guest(&watch, instance)
        });
        watch.supervise(timeout);
        close.close();
        Ok(guest
            .join()
            .unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

/// Whether a thread waits for something.
fn sleeps(stat: &Path) -> bool {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    // Behind the name of the thread, which may hold anything.
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('S'))
}

/// Catches the first SIGINT; the second ends the process. Where whoever started it has it ignored, as shells do
/// with what runs in the background, it stays so.
fn interrupts() -> io::Result<Signals> {
    if is_ignored() {
        return Signals::new::<_, i32>([]);
    }
    let second = Arc::new(AtomicBool::new(false));
    let code = ExitCode::Interrupted.code().into();
    flag::register_conditional_shutdown(SIGINT, code, second.clone())?;
    flag::register(SIGINT, second)?;
    Signals::new([SIGINT])
}

fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (SIGINT - 1) & 1 == 1)
}
