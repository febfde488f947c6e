//! Suspending a guest: what a host function says when it wants to, and what comes back.
//!
//! ```text
//!  from the middle    vmctx.yield_*()        frames of the host function wait on a fiber (`suspending_func`)
//!  as a return value  Ok(Yield::..)          no frame waits; a value or a closure says how to go on (`func`)
//! ```
//!
//! Either way whoever ran the guest gets [`RunResult::Yielded`](crate::RunResult::Yielded), and the guest's
//! stack waits until [`Instance::resume`](crate::Instance::resume). What is not here: the switch of stacks
//! (`vm/fiber.rs`), and how the guest goes on (`vm/resume.rs`).

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::panic::resume_unwind;

use crate::error::Error;
use crate::host::error::{HostError, TerminationDetails};
use crate::host::func::WasmResults;
use crate::host::vmctx::Vmctx;
use crate::instance::store::Store;
use crate::vm::fiber::Wake;

/// The most results that a typed host function has.
pub(crate) const MOST_RESULTS: usize = 8;

/// Results of a typed host function, as bits.
pub(crate) type Bits = [u64; MOST_RESULTS];

/// What a host function that suspended its guest is given when the guest is resumed.
pub(crate) type Answer = Option<Box<dyn Any>>;

/// What a suspended guest handed out: a value, or nothing.
#[derive(Default)]
pub struct YieldedVal(Option<Box<dyn Any + Send>>);

impl YieldedVal {
    /// A value.
    pub(crate) fn new<A: Any + Send>(val: A) -> Self {
        Self(Some(Box::new(val)))
    }

    /// A value that is in its box.
    pub(crate) fn of<A: Any + Send>(val: Box<A>) -> Self {
        Self(Some(val))
    }

    /// Whether the guest handed out nothing. A value of type `()` is something.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the guest handed out a value.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the guest handed out a value of this type.
    pub fn is<A: Any>(&self) -> bool {
        self.downcast_ref::<A>().is_some()
    }

    /// The value, if it is of this type.
    pub fn downcast_ref<A: Any>(&self) -> Option<&A> {
        self.0.as_deref()?.downcast_ref()
    }

    /// The value, if it is of this type.
    ///
    /// # Errors
    ///
    /// Itself, if not.
    pub fn downcast<A: Any>(self) -> Result<Box<A>, Self> {
        match self.0.map(<Box<dyn Any + Send>>::downcast) {
            Some(Ok(val)) => Ok(val),
            Some(Err(other)) => Err(Self(Some(other))),
            None => Err(Self(None)),
        }
    }
}

impl fmt::Debug for YieldedVal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() {
            "YieldedVal(Some(..))"
        } else {
            "YieldedVal(None)"
        })
    }
}

/// The type that a suspended guest wants to be resumed with; nothing, if it wants none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Expects(Option<(TypeId, &'static str)>);

impl Expects {
    fn a<R: Any>() -> Self {
        Self(Some((TypeId::of::<R>(), type_name::<R>())))
    }

    /// Checks what the guest is to be resumed with.
    pub(crate) fn check(&self, answer: &Answer) -> Result<(), Error> {
        match (self.0, answer) {
            (None, None) => Ok(()),
            (Some((id, _)), Some(val)) if (**val).type_id() == id => Ok(()),
            (None, Some(_)) => Err(Error::InvalidArgument(
                "the guest expects no value; resume it without one",
            )),
            (Some(_), None) => Err(Error::InvalidArgument(
                "the guest expects a value; resume it with one",
            )),
            (Some((_, expected)), Some(_)) => Err(Error::ResumeType { expected }),
        }
    }
}

/// How a typed host function ends: with results, or by suspending its guest.
#[derive(Debug)]
pub enum Flow<T> {
    /// It returns.
    Return(T),
    /// It suspends the guest.
    Yield(Yield<T>),
}

impl<T> From<Yield<T>> for Flow<T> {
    fn from(suspended: Yield<T>) -> Self {
        Self::Yield(suspended)
    }
}

/// Suspends the guest as the return value of a host function: nothing of the host waits, and the instance
/// can be resumed on any thread.
///
/// ```
/// # use selvedge_runtime::{Flow, Vmctx, Yield};
/// // Asks the embedder for a number, and adds one to it.
/// let ask = |_: &Vmctx<'_>| -> Flow<i32> {
///     Yield::expecting(|_: &Vmctx<'_>, n: i32| Ok(Flow::Return(n + 1)))
///         .with_val("a number, please")
///         .into()
/// };
/// # let _ = ask;
/// ```
pub struct Yield<T> {
    val: YieldedVal,
    expects: Expects,
    next: Next<T>,
}

/// Says how the host function ends, once the guest is resumed.
type Call<T> = dyn FnOnce(&Vmctx<'_>, Answer) -> Result<Flow<T>, HostError> + Send;

enum Next<T> {
    Return(T),
    Call(Box<Call<T>>),
}

impl<T: WasmResults> Yield<T> {
    /// Suspends the guest until [`Instance::resume`](crate::Instance::resume); the host function returns
    /// these results then.
    pub fn returning(results: T) -> Self {
        Self {
            val: YieldedVal::default(),
            expects: Expects::default(),
            next: Next::Return(results),
        }
    }

    /// Suspends the guest until [`Instance::resume`](crate::Instance::resume); the closure says then how the
    /// host function ends.
    pub fn then(
        next: impl FnOnce(&Vmctx<'_>) -> Result<Flow<T>, HostError> + Send + 'static,
    ) -> Self {
        Self {
            val: YieldedVal::default(),
            expects: Expects::default(),
            next: Next::Call(Box::new(|vmctx, _| next(vmctx))),
        }
    }

    /// Suspends the guest until [`Instance::resume_with_val`](crate::Instance::resume_with_val) gives a value
    /// of type `R`; the closure says then how the host function ends.
    pub fn expecting<R: Any>(
        next: impl FnOnce(&Vmctx<'_>, R) -> Result<Flow<T>, HostError> + Send + 'static,
    ) -> Self {
        Self {
            val: YieldedVal::default(),
            expects: Expects::a::<R>(),
            next: Next::Call(Box::new(|vmctx, answer| next(vmctx, typed(answer)?))),
        }
    }

    /// Hands a value to whoever runs the guest.
    #[must_use]
    pub fn with_val<A: Any + Send>(mut self, val: A) -> Self {
        self.val = YieldedVal::new(val);
        self
    }

    /// The word that the host function returns in a register, and what is handed out, if the host function has
    /// nothing else left to do.
    ///
    /// # Errors
    ///
    /// Itself, if it has.
    #[inline]
    pub(crate) fn into_word(self) -> Result<(u64, YieldedVal), Self> {
        match self.next {
            Next::Return(results) if T::COUNT <= 1 => Ok((to_word(results), self.val)),
            _ => Err(self),
        }
    }

    /// Forgets the type of the results.
    pub(crate) fn erased(self) -> (YieldedVal, Expects, Erased) {
        let next = match self.next {
            Next::Return(results) => Erased::Return(Results::of(results)),
            Next::Call(next) => Erased::Call(Box::new(move |vmctx, answer| {
                Ok(match next(vmctx, answer)? {
                    Flow::Return(results) => ErasedFlow::Return(Results::of(results)),
                    Flow::Yield(suspended) => ErasedFlow::Yield(suspended.erased()),
                })
            })),
        };
        (self.val, self.expects, next)
    }
}

impl<T> fmt::Debug for Yield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yield")
            .field("val", &self.val)
            .field("expects", &self.expects)
            .finish_non_exhaustive()
    }
}

/// How a host function that suspended its guest by returning goes on.
pub(crate) enum Erased {
    /// With these results.
    Return(Results),
    /// As a closure says.
    Call(ErasedCall),
}

/// The closure of [`Erased::Call`].
pub(crate) type ErasedCall =
    Box<dyn FnOnce(&Vmctx<'_>, Answer) -> Result<ErasedFlow, HostError> + Send>;

/// A [`Flow`] whose results are bits.
pub(crate) enum ErasedFlow {
    Return(Results),
    Yield((YieldedVal, Expects, Erased)),
}

/// Results that wait for the guest: few words, since they are moved several times.
pub(crate) enum Results {
    /// None, or one.
    One(u64),
    Many(Box<Bits>),
}

impl Results {
    pub(crate) fn of<T: WasmResults>(results: T) -> Self {
        if T::COUNT > 1 {
            return Self::Many(Box::new(to_bits(results)));
        }
        Self::One(to_word(results))
    }

    /// The results as bits, as many as there are.
    pub(crate) fn bits(&self) -> &[u64] {
        match self {
            Self::One(bits) => std::slice::from_ref(bits),
            Self::Many(bits) => &**bits,
        }
    }
}

/// The one result as bits, or 0 if there is none.
#[inline]
fn to_word<T: WasmResults>(results: T) -> u64 {
    let mut word = 0;
    results.store(&mut |_, value| word = value);
    word
}

/// Results as bits.
pub(crate) fn to_bits<T: WasmResults>(results: T) -> Bits {
    let mut bits = Bits::default();
    results.store(&mut |i, value| bits[i] = value);
    bits
}

/// The value that a resumed guest was given. Its type was checked when it was given.
fn typed<R: Any>(answer: Answer) -> Result<R, HostError> {
    answer
        .and_then(|val| val.downcast().ok())
        .map(|val| *val)
        .ok_or(HostError::Terminate(TerminationDetails::YieldTypeMismatch))
}

/// The payload that unwinds the frames of a suspended host function which nobody will resume.
struct Unwound;

impl Vmctx<'_> {
    /// Suspends the guest in the middle of this host function, until [`Instance::resume`]. Whoever ran the guest
    /// gets [`RunResult::Yielded`] without a value.
    ///
    /// If the instance is dropped or reset instead, this unwinds the host function's frames.
    ///
    /// # Errors
    ///
    /// [`Error::YieldRefused`] if the host function is not registered with
    /// [`Linker::suspending_func`](crate::Linker::suspending_func), if it was entered from another host
    /// function's call into the guest, while a panic unwinds, or inside of
    /// [`catch_traps`](crate::traphandlers::catch_traps); [`TerminationDetails::BorrowError`] while memory or an
    /// embedder context is borrowed.
    ///
    /// [`Instance::resume`]: crate::Instance::resume
    /// [`RunResult::Yielded`]: crate::RunResult::Yielded
    pub fn yield_(&self) -> Result<(), HostError> {
        self.suspend(YieldedVal::default(), Expects::default())
            .map(drop)
    }

    /// As [`Vmctx::yield_`], and hands out a value.
    ///
    /// # Errors
    ///
    /// As [`Vmctx::yield_`].
    pub fn yield_val<A: Any + Send>(&self, val: A) -> Result<(), HostError> {
        self.suspend(YieldedVal::new(val), Expects::default())
            .map(drop)
    }

    /// Suspends the guest as [`Vmctx::yield_`] does, until
    /// [`Instance::resume_with_val`](crate::Instance::resume_with_val) gives a value of type `R`.
    ///
    /// # Errors
    ///
    /// As [`Vmctx::yield_`].
    pub fn yield_expecting_val<R: Any>(&self) -> Result<R, HostError> {
        typed(self.suspend(YieldedVal::default(), Expects::a::<R>())?)
    }

    /// As [`Vmctx::yield_expecting_val`], and hands out a value.
    ///
    /// # Errors
    ///
    /// As [`Vmctx::yield_`].
    pub fn yield_val_expecting_val<A: Any + Send, R: Any>(&self, val: A) -> Result<R, HostError> {
        typed(self.suspend(YieldedVal::new(val), Expects::a::<R>())?)
    }

    fn suspend(&self, val: YieldedVal, expects: Expects) -> Result<Answer, HostError> {
        let Some(yielder) = self.yielder() else {
            return Err(refused(
                "the host function is not defined with `suspending_func`",
            ));
        };
        if self.store().suspension.unwinding() {
            // Its frames are being unwound and somebody caught that.
            resume_unwind(Box::new(Unwound));
        }
        if std::thread::panicking() {
            return Err(refused("a panic is unwinding"));
        }
        if crate::traphandlers::scopes() != self.store().suspension.scopes() {
            return Err(refused("`catch_traps` is running"));
        }
        self.store().check_suspendable()?;
        self.store().suspension.ask(val, expects);
        // No reference to the store is held here: the embedder may have it mutably meanwhile.
        match yielder.suspend() {
            Wake::GoOn => Ok(self.store().suspension.take_answer()),
            Wake::Unwind => resume_unwind(Box::new(Unwound)),
        }
    }
}

impl Store {
    /// Whether the guest can be suspended by a host function that is running.
    #[inline]
    pub(crate) fn check_suspendable(&self) -> Result<(), HostError> {
        match self.depth.get() {
            1 if !self.under_host.get() => {}
            0 => return Err(refused("no guest called the host function")),
            _ => {
                return Err(refused(
                    "another host function waits for the guest that called this one",
                ));
            }
        }
        let borrowed = |what| Err(HostError::Terminate(TerminationDetails::BorrowError(what)));
        if self
            .members
            .iter()
            .any(|member| member.memory_is_borrowed())
        {
            return borrowed("heap");
        }
        if self.embed.is_borrowed() {
            return borrowed("embed_ctx");
        }
        Ok(())
    }
}

#[cold]
fn refused(why: &'static str) -> HostError {
    HostError::from(Error::YieldRefused(why))
}
