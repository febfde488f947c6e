//! Which free slot an instance gets.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// Which of a region's free slots an instance gets; see
/// [`InstanceBuilder::with_alloc_strategy`](crate::InstanceBuilder::with_alloc_strategy).
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum AllocStrategy {
    /// One of the last few that this thread gave back and that ran the same program, or else one that was not
    /// used for long: the fastest.
    #[default]
    Recent,
    /// Any slot, so that a guest can't tell what will lie beside it.
    Random,
    /// What a function answers that is given the count of free slots, at least 1: a number below it. Others
    /// count modulo it. For tests that want the same order again, which they get on one thread. The region is locked meanwhile, so the
    /// function must neither make nor drop an instance of it.
    Chosen(Arc<dyn Fn(u32) -> u32 + Send + Sync>),
}

impl AllocStrategy {
    /// A position in a list of so many free slots; `None` if there are none.
    pub(super) fn choose(&self, count: usize) -> Option<usize> {
        let count = u32::try_from(count).ok().filter(|&count| count > 0)?;
        let chosen = match self {
            Self::Recent => u64::from(count - 1),
            // Every `RandomState` has other keys.
            Self::Random => RandomState::new().build_hasher().finish() % u64::from(count),
            Self::Chosen(choose) => u64::from(choose(count) % count),
        };
        Some(chosen as usize)
    }
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
