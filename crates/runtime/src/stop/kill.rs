//! Ending a run of a guest from any thread.

use std::fmt;
use std::sync::Arc;

use super::parking::{Interruptible, WaitHook, Wake};
pub use super::words::{KillError, KillSuccess};
use crate::host::vmctx::Vmctx;
use crate::instance::Instance;
use crate::instance::store::Store;
use crate::sys::interrupt;
use crate::vm::limits::LimitsCell;

/// Ends one run of an instance, from any thread: the one that is, or else the next.
///
/// A run that is ended so returns [`TerminationDetails::Remote`](crate::TerminationDetails::Remote), and the
/// instance must be [reset](Instance::reset) before it runs again. Guest code is interrupted wherever it is; a
/// host function is not, and the guest ends when it returns (see [`Vmctx::interrupted`]), but those that wait in
/// the runtime or in WASI return at once, and where a guest waits for a future ([`Awaiting`](crate::Awaiting)) whoever
/// polls the run is woken. If the run ends otherwise meanwhile, by a fault or because a host function says so, that
/// is what its caller gets.
///
/// A switch is for one run. When that is over, or the instance was reset or dropped, it does nothing; it can be
/// kept for ever, and holds a few hundred bytes. A suspended guest is still in its run.
#[derive(Clone)]
pub struct KillSwitch {
    limits: Arc<LimitsCell>,
    wait_hook: Arc<WaitHook>,
    run: u64,
}

impl KillSwitch {
    /// Ends the run. Does not wait for it.
    ///
    /// # Errors
    ///
    /// [`KillError::NotTerminable`] if another switch was first or the run just ends by itself, and
    /// [`KillError::Invalid`] if it is over.
    pub fn terminate(&self) -> Result<KillSuccess, KillError> {
        let done = self.limits.words().kill(self.run, barrier, send);
        if done == Ok(KillSuccess::Pending) {
            self.wait_hook.interrupt(self.run);
        }
        done
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

/// The barrier on all threads. The process is ready for it before an instance is made, and then it can't fail.
pub(crate) fn barrier() {
    let done = interrupt::barrier();
    debug_assert!(done.is_ok(), "the process has registered for it: {done:?}");
}

/// Interrupts a thread. One that has ended has left its guest.
pub(crate) fn send(thread: u32) {
    let _ = interrupt::send(thread);
}

impl Store {
    fn kill_switch(&self) -> KillSwitch {
        KillSwitch {
            limits: self.limits.clone(),
            wait_hook: self.wait_hook().clone(),
            run: self.limits.words().run(),
        }
    }

    /// What a wait needs to know of the guest.
    pub(crate) fn interruptible(&self) -> Interruptible<'_> {
        Interruptible {
            hook: self.wait_hook(),
            words: self.limits.words(),
        }
    }
}

impl Instance {
    /// A switch that ends the run that is, if the guest is suspended, or else the next one.
    pub fn kill_switch(&self) -> KillSwitch {
        self.store.kill_switch()
    }
}

impl Vmctx<'_> {
    /// Whether somebody has ended the guest with a [`KillSwitch`], or it is to trap at an epoch deadline that is
    /// reached: it goes no further than this host function. One that takes long may ask now and then, and return.
    pub fn interrupted(&self) -> bool {
        self.store().limits.words().is_to_end()
    }

    /// A switch that ends the run in which the guest calls this host function.
    pub fn kill_switch(&self) -> KillSwitch {
        self.store().kill_switch()
    }

    /// Waits for something, so that a [`KillSwitch`] ends the wait, and so does an epoch deadline at which the guest
    /// traps: `wake` is called once somebody has used one or the deadline is reached, on that thread, or at once if
    /// that was before; it makes `wait` return. It may also be called when `wait` is just returning.
    pub fn wait_interruptibly<R>(
        &self,
        wake: Arc<dyn Fn() + Send + Sync>,
        wait: impl FnOnce() -> R,
    ) -> R {
        let wake: Wake = wake;
        self.store().interruptible().wait(wake, wait)
    }
}
