//! What host code raises instead of returning, and the boundary at which it becomes a value.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use selvedge_artifact::traps::TrapCode;

/// Why host code does not go on where it was called.
#[non_exhaustive]
pub enum UnwindReason {
    /// It panicked; what the panic carries.
    Panic(Box<dyn Any + Send>),
    /// It raised an error of its own.
    UserTrap(Box<dyn Error + Send + Sync>),
    /// It raised a trap, as if an instruction of the guest had.
    LibTrap(TrapCode),
}

impl fmt::Debug for UnwindReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(_) => f.write_str("Panic(..)"),
            Self::UserTrap(error) => f.debug_tuple("UserTrap").field(error).finish(),
            Self::LibTrap(code) => f.debug_tuple("LibTrap").field(code).finish(),
        }
    }
}

/// Leaves the host function that is running, or the closure of `catch_traps`, for this reason. The
/// frames of the host up to there are unwound with their destructors; those of the guest that called it
/// are abandoned, and whoever ran the guest gets the reason as an error, or as the same panic.
///
/// Outside of both, it is a panic that reaches the caller as any other does.
pub fn unwind_with(reason: UnwindReason) -> ! {
    match reason {
        UnwindReason::Panic(payload) => resume_unwind(payload),
        // No panic hook runs: nothing has gone wrong.
        raised => resume_unwind(Box::new(raised)),
    }
}

/// Fails the host function that is running with an error of its own, as returning
/// [`HostError::new`](crate::HostError::new) from it does; see [`unwind_with`].
pub fn raise_user_trap(error: impl Into<Box<dyn Error + Send + Sync>>) -> ! {
    unwind_with(UnwindReason::UserTrap(error.into()))
}

/// Has the guest that called the running host function trap, as returning the code from it does; see
/// [`unwind_with`].
pub fn raise_lib_trap(code: TrapCode) -> ! {
    unwind_with(UnwindReason::LibTrap(code))
}

/// Lets a panic that was caught go on, across the guest if there is one. The panic hook is not run
/// again; see [`unwind_with`].
pub fn resume_panic(payload: Box<dyn Any + Send>) -> ! {
    unwind_with(UnwindReason::Panic(payload))
}

/// Runs host code that generated code has called, or the closure of `catch_traps`; nothing unwinds out
/// of here.
#[inline(always)]
pub(crate) fn host_boundary<R>(f: impl FnOnce() -> R) -> Result<R, UnwindReason> {
    catch_unwind(AssertUnwindSafe(f)).map_err(reason)
}

#[cold]
fn reason(payload: Box<dyn Any + Send>) -> UnwindReason {
    match payload.downcast() {
        Ok(raised) => *raised,
        Err(payload) => UnwindReason::Panic(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_arrives_and_destructors_run() {
        struct Count<'a>(&'a std::cell::Cell<u32>);
        impl Drop for Count<'_> {
            fn drop(&mut self) {
                self.0.update(|n| n + 1);
            }
        }
        let dropped = std::cell::Cell::new(0);
        let run = |raise: fn()| {
            host_boundary(|| {
                let _count = Count(&dropped);
                raise();
            })
        };
        let user = run(|| raise_user_trap("no"));
        assert!(matches!(user, Err(UnwindReason::UserTrap(e)) if e.to_string() == "no"));
        let lib = run(|| raise_lib_trap(TrapCode::Unreachable));
        assert!(matches!(
            lib,
            Err(UnwindReason::LibTrap(TrapCode::Unreachable))
        ));
        let panic = run(|| resume_panic(Box::new(5)));
        assert!(
            matches!(panic, Err(UnwindReason::Panic(p)) if *p.downcast_ref::<i32>().unwrap() == 5)
        );
        assert!(run(|| ()).is_ok());
        assert_eq!(dropped.get(), 4);
    }
}
