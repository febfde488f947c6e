//! Which free slot an instance gets.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use crate::program::Program;
use crate::region::slot::SlotState;

/// Which of a region's free slots an instance gets; see
/// [`InstanceBuilder::with_alloc_strategy`](crate::InstanceBuilder::with_alloc_strategy).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum AllocStrategy {
    /// The slot that was given back last, or one of the last few that ran the same module: the fastest.
    #[default]
    Recent,
    /// Any slot, so that a guest can't tell what will lie beside it.
    Random,
    /// What a function answers that is given the count of free slots, at least 1: a number below it. Others
    /// count modulo it. For tests that want the same order again. The region is locked meanwhile, so the
    /// function must neither make nor drop an instance of it.
    Chosen(Arc<dyn Fn(u32) -> u32 + Send + Sync>),
}

impl AllocStrategy {
    /// The position of a slot in the list of free ones; `None` if there is none.
    pub(super) fn choose(&self, free: &[SlotState], program: &Program) -> Option<usize> {
        let count = u32::try_from(free.len()).ok().filter(|&count| count > 0)?;
        let chosen = match self {
            Self::Recent => return Some(recent(free, program)),
            // Every `RandomState` has other keys.
            Self::Random => RandomState::new().build_hasher().finish() % u64::from(count),
            Self::Chosen(choose) => u64::from(choose(count) % count),
        };
        Some(chosen as usize)
    }
}

/// A slot that last ran the same module has its pages in place. Only the most recent slots are looked at, so
/// that taking one does not depend on the region's size.
fn recent(free: &[SlotState], program: &Program) -> usize {
    const LOOKED_AT: usize = 8;
    let first = free.len().saturating_sub(LOOKED_AT);
    let mut last = free[first..].iter();
    let warm = last.rposition(|slot| slot.is_ready_for(program));
    warm.map_or(free.len() - 1, |at| first + at)
}

impl fmt::Debug for AllocStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Recent => "Recent",
            Self::Random => "Random",
            Self::Chosen(_) => "Chosen(..)",
        })
    }
}
