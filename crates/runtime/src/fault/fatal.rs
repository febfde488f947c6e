//! Faults of a guest that no guest should be able to cause, and who is told of them.
//!
//! A guest's instruction has hit memory that is not the guest's, or at a place where nothing may fault. Either the
//! compiler has made a mistake, or memory that the runtime relies on was changed, so it is no trap: without
//! a handler here the signal goes to whoever handled it before, which by default ends the process.

use std::ffi::c_int;
use std::fmt;

use crate::fault::details::WasmBacktrace;
use crate::instance::Instance;
use crate::vm::signal_handler::SignalHandler;

/// A fault of a guest that is no trap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FatalFault {
    /// The number of the signal.
    pub signum: c_int,
    /// The address of the instruction.
    pub pc: usize,
    /// The address that could not be accessed, if the kernel tells one.
    pub address: Option<usize>,
    /// Where the guest was, innermost frame first.
    pub backtrace: WasmBacktrace,
}

impl fmt::Display for FatalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fatal fault of a guest: signal {} at {:#x}",
            self.signum, self.pc
        )?;
        if let Some(address) = self.address {
            write!(f, ", access to {address:#x}")?;
        }
        if !self.backtrace.frames.is_empty() {
            write!(f, "\n{}", self.backtrace)?;
        }
        Ok(())
    }
}

/// A handler for [`Instance::set_fatal_handler`].
pub(crate) type FatalHandler = fn(&FatalFault) -> !;

/// A handler for [`Instance::set_c_fatal_handler`].
pub(crate) type CFatalHandler = extern "C" fn(&FatalFault);

/// Who is told of an instance's signals and fatal faults.
#[derive(Debug, Default)]
pub(crate) struct Handlers {
    pub(crate) signal: SignalHandler,
    fatal: Option<FatalHandler>,
    c_fatal: Option<CFatalHandler>,
}

impl Handlers {
    /// Whether a fatal fault is told to anybody here.
    pub(crate) fn has_fatal(&self) -> bool {
        self.fatal.is_some() || self.c_fatal.is_some()
    }

    /// A fatal fault with those who are to be told.
    pub(crate) fn fatal(&self, fault: FatalFault) -> Fatal {
        let (fatal, c_fatal) = (self.fatal, self.c_fatal);
        Fatal {
            fault,
            fatal,
            c_fatal,
        }
    }
}

/// A fatal fault, to be told on the stack of whoever ran the guest.
#[derive(Debug)]
pub(crate) struct Fatal {
    fault: FatalFault,
    fatal: Option<FatalHandler>,
    c_fatal: Option<CFatalHandler>,
}

impl Fatal {
    /// Tells it; nothing goes on from here but a panic of the handler.
    pub(crate) fn tell(&self) -> ! {
        if let Some(handler) = self.c_fatal {
            handler(&self.fault);
        }
        match self.fatal {
            Some(handler) => handler(&self.fault),
            None => std::process::abort(),
        }
    }
}

impl Instance {
    /// Has signals shown to a handler that an instruction of this instance's guests has raised: traps that the
    /// processor finds, and faults that would be fatal. It says whether the guest goes on, is ended, or
    /// whether things take their course. Traps that the runtime finds without a signal are not shown, nor are
    /// signals that somebody has sent or host code has raised. The handler stays through resets.
    ///
    /// An older runtime gave it the instance, which nobody may look at while its guest runs; here it gets plain
    /// facts.
    pub fn set_signal_handler(&mut self, handler: SignalHandler) {
        self.store.extras_mut().handlers.signal = handler;
    }

    /// Has a function called at a fatal fault: a guest's instruction raised a signal that is no trap. The guest
    /// has been left by then, the function runs on the stack of whoever ran it and need not be
    /// async-signal-safe. If it panics, its panic goes on in the caller of the guest, and the instance is
    /// terminated; what the fault says of the rest of the process is for the handler to judge.
    ///
    /// Without one, and without [`Instance::set_c_fatal_handler`], the signal goes to whoever handled it before
    /// the runtime did, which by default ends the process.
    pub fn set_fatal_handler(&mut self, handler: fn(&FatalFault) -> !) {
        self.store.extras_mut().handlers.fatal = Some(handler);
    }

    /// As [`Instance::set_fatal_handler`], with a function of C, to which a [`FatalFault`] is an opaque pointer
    /// that is good for the time of the call. If it returns, the other handler is called, and the process is
    /// aborted if there is none.
    pub fn set_c_fatal_handler(&mut self, handler: extern "C" fn(&FatalFault)) {
        self.store.extras_mut().handlers.c_fatal = Some(handler);
    }
}
