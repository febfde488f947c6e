//! The page size of this machine, and lengths that are whole numbers of pages.
//!
//! Not here: the pages of WebAssembly memories, which are 64 KiB whatever the machine has.

/// Bytes in one page of this machine. The value is read once per process; later calls are one load.
#[inline]
pub(crate) fn page_len() -> usize {
    rustix::param::page_size()
}

/// A number of bytes that is a multiple of the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PageLen(usize);

impl PageLen {
    /// The smallest whole number of pages that holds `bytes`, or `None` when that exceeds the
    /// address space.
    #[inline]
    pub(crate) fn round_up(bytes: usize) -> Option<Self> {
        bytes.checked_next_multiple_of(page_len()).map(Self)
    }

    /// The length in bytes.
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_power_of_two_of_at_least_4_kib() {
        assert!(page_len().is_power_of_two());
        assert!(page_len() >= 4096);
    }

    #[test]
    fn lengths_are_rounded_up_to_whole_pages() {
        let page = page_len();
        assert_eq!(PageLen::round_up(0), Some(PageLen(0)));
        assert_eq!(PageLen::round_up(1).map(PageLen::get), Some(page));
        assert_eq!(PageLen::round_up(page).map(PageLen::get), Some(page));
        assert_eq!(
            PageLen::round_up(page + 1).map(PageLen::get),
            Some(2 * page)
        );
    }

    #[test]
    fn a_length_beyond_the_address_space_is_none() {
        assert_eq!(PageLen::round_up(usize::MAX), None);
        assert_eq!(PageLen::round_up(usize::MAX - page_len() + 2), None);
        let last = usize::MAX - page_len() + 1;
        assert_eq!(PageLen::round_up(last).map(PageLen::get), Some(last));
    }
}
