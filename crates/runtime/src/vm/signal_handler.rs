//! A handler of the embedder's for the faults of one instance, and the facts that it gets.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use core::ffi::c_int;
use core::fmt;

use selvedge_artifact::traps::TrapCode;

/// What is to become of a signal that a guest has caused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SignalBehavior {
    /// What becomes of it without a handler: a trap is a fault of the guest, anything else is fatal.
    #[default]
    Default,
    /// The guest goes on at the same instruction, which faults again if nothing was mended.
    Continue,
    /// The guest is ended with [`TerminationDetails::Signal`](crate::TerminationDetails::Signal).
    Terminate,
}

/// What is known of a signal that an instruction of a guest has raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SignalFacts {
    /// The trap that it is; `None` if it is none, and so fatal.
    pub trapcode: Option<TrapCode>,
    /// The number of the signal.
    pub signum: c_int,
    /// What the kernel says of its reason, `si_code`.
    pub code: c_int,
    /// The address of the instruction.
    pub pc: usize,
    /// The address that could not be accessed, if the kernel tells one.
    pub address: Option<usize>,
}

/// A handler for [`Instance::set_signal_handler`](crate::Instance::set_signal_handler) that somebody has vouched
/// for. The default one answers [`SignalBehavior::Default`].
#[derive(Default)]
pub struct SignalHandler(Option<Box<Function>>);

type Function = dyn Fn(&SignalFacts) -> SignalBehavior + Send + Sync;

impl SignalHandler {
    /// Vouches for a handler. If it panics, the process aborts: nothing can be unwound there.
    ///
    /// # Safety
    ///
    /// - The function runs in a signal handler, on the thread's signal stack. The interrupted code is a guest's,
    ///   which holds no lock; other threads may hold any. It calls nothing that is not async-signal-safe: it
    ///   does not allocate, lock or format, and it does not panic on purpose.
    /// - It changes no page but of the guest's own memories, whose length it keeps as the runtime knows it, and
    ///   opens none of a stack's guard.
    /// - It answers [`SignalBehavior::Continue`] only if the guest may go on as if the instruction had not been
    ///   tried yet.
    pub unsafe fn new<H>(handler: H) -> Self
    where
        H: Fn(&SignalFacts) -> SignalBehavior + Send + Sync + 'static,
    {
        Self(Some(Box::new(handler)))
    }

    /// What it answers. Called in the signal handler: a panic meets a frame that can't be unwound, which
    /// aborts.
    pub(crate) fn ask(&self, facts: &SignalFacts) -> SignalBehavior {
        self.0
            .as_ref()
            .map_or(SignalBehavior::Default, |handler| handler(facts))
    }
}

impl fmt::Debug for SignalHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.is_some() { ".." } else { "default" };
        write!(f, "SignalHandler({what})")
    }
}
