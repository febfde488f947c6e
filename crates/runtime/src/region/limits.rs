//! What one instance of a region may use: the knobs, checked once.

use selvedge_artifact::types::MemoryType;

use crate::error::Error;
use crate::region::layout::round_up_to_page;
use crate::stack::size;

/// Limits of every instance of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that one memory may have. Default: 4 GiB, all that a 32-bit memory can have.
    pub memory_len: u64,
    /// Bytes that one memory with 64-bit addresses may have; address space for it is reserved when it
    /// is made. Default: 16 GiB.
    pub memory64_len: u64,
    /// Bytes of the guest's stack, rounded up to a page. Default: 1 MiB, or what
    /// [`set_stack_size`](crate::traphandlers::set_stack_size) has set.
    pub stack_len: usize,
    /// Elements that one table may have. Default: 10,000,000, as other engines allow.
    pub table_elements: u64,
    /// Bytes reserved for globals, fixed tables and the fixed part of the context. Default: 2 MiB.
    pub context_len: usize,
    /// Frames that a backtrace keeps at most; 0 turns backtraces off. Default: 64.
    pub backtrace_frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_len: 4 << 30,
            memory64_len: 16 << 30,
            stack_len: size::get_stack_size(),
            table_elements: 10_000_000,
            context_len: 2 << 20,
            backtrace_frames: crate::fault::details::MAX_FRAMES,
        }
    }
}

impl Limits {
    /// Most stack: beyond this a typo is likelier than a need.
    const MAX_STACK_LEN: usize = 1 << 30;
    /// Least context: the fixed part and a page of globals.
    const MIN_CONTEXT_LEN: usize = 8 << 10;
    /// Most that a 64-bit memory may have: a part of what a process can address.
    const MAX_MEMORY64_LEN: u64 = 1 << 44;
    /// Most context.
    const MAX_CONTEXT_LEN: usize = selvedge_artifact::vmoffsets::CONTEXT_MAX_LEN as usize;

    /// Bytes that a memory of this type may have, and the name of the knob that says so.
    pub(crate) const fn memory_limit(&self, ty: &MemoryType) -> (u64, &'static str) {
        if ty.is_64 {
            (self.memory64_len, "memory64_len")
        } else {
            (self.memory_len, "memory_len")
        }
    }

    /// Checks the limits and rounds what is counted in pages.
    pub(crate) fn checked(&self) -> Result<Self, Error> {
        let within = |what: &str, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Error::InvalidLimits(format!(
                "{what} is {value}, it must be from {min} to {max}"
            )))
        };
        within(
            "stack_len",
            self.stack_len,
            size::MIN_STACK_SIZE,
            Self::MAX_STACK_LEN,
        )?;
        within(
            "context_len",
            self.context_len,
            Self::MIN_CONTEXT_LEN,
            Self::MAX_CONTEXT_LEN,
        )?;
        if self.memory_len > 4 << 30 {
            return Err(Error::InvalidLimits(format!(
                "memory_len is {}, a 32-bit memory has at most {} bytes",
                self.memory_len,
                4u64 << 30
            )));
        }
        if self.memory64_len > Self::MAX_MEMORY64_LEN {
            return Err(Error::InvalidLimits(format!(
                "memory64_len is {}, it must be {} at most",
                self.memory64_len,
                Self::MAX_MEMORY64_LEN
            )));
        }
        Ok(Self {
            stack_len: round_up_to_page(self.stack_len),
            context_len: round_up_to_page(self.context_len),
            ..*self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_nonsense_does_not() {
        let limits = Limits::default();
        limits.checked().unwrap();
        assert!(
            Limits {
                stack_len: 0,
                ..limits
            }
            .checked()
            .is_err()
        );
        assert!(
            Limits {
                stack_len: usize::MAX,
                ..limits
            }
            .checked()
            .is_err()
        );
        assert!(
            Limits {
                context_len: 1,
                ..limits
            }
            .checked()
            .is_err()
        );
        assert!(
            Limits {
                memory_len: u64::MAX,
                ..limits
            }
            .checked()
            .is_err()
        );
        assert!(
            Limits {
                memory64_len: u64::MAX,
                ..limits
            }
            .checked()
            .is_err()
        );
        assert_eq!(
            Limits {
                stack_len: 20_001,
                ..limits
            }
            .checked()
            .unwrap()
            .stack_len
                % 4096,
            0
        );
    }
}
