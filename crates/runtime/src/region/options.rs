//! How a region goes about its slots.

/// How a region goes about its slots; see [`Region::with_options`](crate::Region::with_options).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RegionOptions {
    /// Bytes of memory 0 that a slot keeps from one instance to the next: pages that a guest wrote to are
    /// written back and stay in memory up to so many bytes, which takes about a tenth of a microsecond a
    /// page; what is beyond is given back to the system, and costs the next guest more than a microsecond
    /// for each page that it touches again. 0 gives everything back. Default: 2 MiB.
    ///
    /// Now and then a slot gives everything back, so that a page that one guest wrote to is not written back
    /// for ever.
    pub keep_resident_len: usize,
    /// Whether the system is asked which pages a guest wrote to (`PAGEMAP_SCAN`, Linux 6.7 and later), if it can
    /// tell. Otherwise memories of more than 64 KiB are given back to the system as a whole. Default: yes.
    pub find_written_pages: bool,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self {
            keep_resident_len: 2 << 20,
            find_written_pages: true,
        }
    }
}
