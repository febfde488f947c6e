//! What one instance of a region may use: the knobs, checked once.

use selvedge_artifact::types::MemoryType;
use selvedge_artifact::vmoffsets::TABLE_ENTRY_LEN;

use crate::error::Error;
use crate::module::Module;
use crate::region::layout::round_up_to_page;
use crate::stack::size;

/// Limits of every instance of a region, or of one instance, which gets no more than its region has: see
/// [`InstanceBuilder::with_limits`](crate::InstanceBuilder::with_limits).
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
    /// Bytes reserved for globals, fixed tables and the fixed part of the context, 256 at least; rounded up to pages,
    /// and in dense regions to 64 bytes. Default: 2 MiB.
    pub context_len: usize,
    /// Bytes that all memories and tables of an instance may have together, those of linked modules too; an
    /// element of a table counts as 8 bytes. Default: 32 GiB.
    pub total_memory_len: u64,
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
            total_memory_len: 32 << 30,
            backtrace_frames: crate::fault::details::MAX_FRAMES,
        }
    }
}

impl Limits {
    /// Most stack: beyond this a typo is likelier than a need.
    const MAX_STACK_LEN: usize = 1 << 30;
    /// Least context: the fixed part and a few globals, where they lie side by side.
    const MIN_CONTEXT_LEN: usize = 256;
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

    /// Whether a module may be instantiated beside modules that have so many bytes of memories and tables.
    pub(crate) fn admit(&self, module: &Module, used: u64) -> Result<(), Error> {
        let info = module.info();
        let offsets = module.offsets();
        let exceeded = |what, needed, given, knob| {
            Err(Error::LimitsExceeded {
                what,
                needed,
                given,
                knob,
            })
        };
        let context = offsets.read_only_len() as usize + offsets.writable_len() as usize;
        if context > self.context_len {
            let what = "bytes of context (globals and fixed tables)";
            let (needed, given) = (context as u64, self.context_len as u64);
            return exceeded(what, needed, given, "context_len");
        }
        let mut total = used;
        for memory in &info.memories[info.imported.memories as usize..] {
            let needed = memory.min_len();
            let (given, knob) = self.memory_limit(memory);
            if needed > given {
                return exceeded("bytes of memory", needed, given, knob);
            }
            total = total.saturating_add(needed);
        }
        for table in &info.tables[info.imported.tables as usize..] {
            if table.min > self.table_elements {
                let given = self.table_elements;
                return exceeded("table elements", table.min, given, "table_elements");
            }
            total = total.saturating_add(table_len(table.min));
        }
        self.check_total(total)
    }

    /// Whether an instance may begin with a memory of so many bytes and tables of so many elements.
    pub(crate) fn admit_state(
        &self,
        memory_len: u64,
        tables: impl Iterator<Item = usize>,
    ) -> Result<(), Error> {
        let exceeded = |what, needed, given, knob| {
            Err(Error::LimitsExceeded {
                what,
                needed,
                given,
                knob,
            })
        };
        let mut total = memory_len;
        if total > self.memory_len {
            return exceeded("bytes of memory", total, self.memory_len, "memory_len");
        }
        for len in tables {
            if len as u64 > self.table_elements {
                let given = self.table_elements;
                return exceeded("table elements", len as u64, given, "table_elements");
            }
            total = total.saturating_add(table_len(len as u64));
        }
        self.check_total(total)
    }

    /// Whether memories and tables may have so many bytes together.
    pub(crate) fn check_total(&self, needed: u64) -> Result<(), Error> {
        if needed <= self.total_memory_len {
            return Ok(());
        }
        Err(Error::LimitsExceeded {
            what: "bytes of memories and tables together",
            needed,
            given: self.total_memory_len,
            knob: "total_memory_len",
        })
    }

    /// Limits of one instance: checked, and none above its region's, whose contexts are multiples of a unit.
    pub(crate) fn within(&self, region: &Self, context_unit: usize) -> Result<Self, Error> {
        let limits = self.checked(context_unit)?;
        let knobs = [
            ("memory_len", limits.memory_len, region.memory_len),
            ("memory64_len", limits.memory64_len, region.memory64_len),
            (
                "stack_len",
                limits.stack_len as u64,
                region.stack_len as u64,
            ),
            (
                "table_elements",
                limits.table_elements,
                region.table_elements,
            ),
            (
                "context_len",
                limits.context_len as u64,
                region.context_len as u64,
            ),
            (
                "total_memory_len",
                limits.total_memory_len,
                region.total_memory_len,
            ),
            (
                "backtrace_frames",
                limits.backtrace_frames as u64,
                region.backtrace_frames as u64,
            ),
        ];
        match knobs.iter().find(|(_, asked, given)| asked > given) {
            None => Ok(limits),
            Some((knob, asked, given)) => Err(Error::InvalidLimits(format!(
                "{knob} of the instance is {asked}, its region has {given}; an instance gets no more"
            ))),
        }
    }

    /// Checks the limits and rounds what is counted in pages, and what is a multiple of a unit.
    pub(crate) fn checked(&self, context_unit: usize) -> Result<Self, Error> {
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
            context_len: self.context_len.next_multiple_of(context_unit),
            ..*self
        })
    }
}

/// What the elements of a table count as.
pub(crate) fn table_len(elements: u64) -> u64 {
    elements.saturating_mul(TABLE_ENTRY_LEN.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_nonsense_does_not() {
        let limits = Limits::default();
        limits.checked(4096).unwrap();
        assert!(
            Limits {
                stack_len: 0,
                ..limits
            }
            .checked(4096)
            .is_err()
        );
        assert!(
            Limits {
                stack_len: usize::MAX,
                ..limits
            }
            .checked(4096)
            .is_err()
        );
        assert!(
            Limits {
                context_len: 1,
                ..limits
            }
            .checked(4096)
            .is_err()
        );
        assert!(
            Limits {
                memory_len: u64::MAX,
                ..limits
            }
            .checked(4096)
            .is_err()
        );
        assert!(
            Limits {
                memory64_len: u64::MAX,
                ..limits
            }
            .checked(4096)
            .is_err()
        );
        assert_eq!(
            Limits {
                stack_len: 20_001,
                ..limits
            }
            .checked(4096)
            .unwrap()
            .stack_len
                % 4096,
            0
        );
    }
}
