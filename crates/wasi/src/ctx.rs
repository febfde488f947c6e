//! What one guest may do: its arguments, its environment, its descriptors. It lives in the instance
//! as an embedder context, is made by `WasiCtxBuilder`, and nothing of the host is reachable but
//! through it. Time and random bytes are the only things that every guest has.

use crate::blocking::Alarm;
use crate::builder::WasiCtxBuilder;
use crate::fd_table::FdTable;

/// The world of one guest. Put it into an instance as an embedder context before running it.
#[derive(Debug)]
pub struct WasiCtx {
    /// The program's name and its arguments.
    pub(crate) args: Strings,
    /// `KEY=VALUE` each.
    pub(crate) environ: Strings,
    pub(crate) fds: FdTable,
    /// Ends its waits.
    pub(crate) alarm: Alarm,
}

impl WasiCtx {
    /// The way to make one.
    pub fn builder() -> WasiCtxBuilder {
        WasiCtxBuilder::new()
    }

    /// The names of the preopened directories, in order, if the guest's descriptors are those that it began with:
    /// nothing, if it has opened, closed or renumbered one. So the state of a guest can be taken, and go on with a
    /// context that has directories of the same names. Positions in streams and rights that the guest gave up are
    /// not looked at.
    pub fn initial_preopens(&self) -> Option<Vec<&str>> {
        self.fds.initial_preopens()
    }
}

/// A list of strings as C programs take them: one after the other, a NUL byte after each.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    /// All of them with their final NULs.
    bytes: Vec<u8>,
    /// Where each begins.
    offsets: Vec<u32>,
}

impl Strings {
    /// The most bytes that all together may have. Far more than kernels allow a program (2 MiB on
    /// Linux), and small enough for every number to be 32 bits wide.
    pub(crate) const MAX_LEN: usize = 64 << 20;

    /// Joins strings that hold no NUL. `Err` is the length they would have.
    pub(crate) fn new(strings: &[Vec<u8>]) -> Result<Strings, usize> {
        let len = strings.iter().map(|string| string.len() + 1).sum();
        if len > Strings::MAX_LEN {
            return Err(len);
        }
        let mut joined = Strings::default();
        for string in strings {
            joined.offsets.push(joined.len());
            joined.bytes.extend_from_slice(string);
            joined.bytes.push(0);
        }
        Ok(joined)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each begins in [`Strings::bytes`].
    pub(crate) fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// Bytes of all, with their NULs.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("at most MAX_LEN, checked when it was made")
    }

    /// How many there are; each takes a byte at least.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.offsets.len()).expect("at most MAX_LEN, checked when it was made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_lie_one_after_the_other() {
        let strings = Strings::new(&[b"ab".to_vec(), Vec::new(), b"c".to_vec()]).unwrap();
        assert_eq!(strings.bytes(), b"ab\0\0c\0");
        assert_eq!(strings.offsets(), [0, 3, 4]);
        assert_eq!((strings.count(), strings.len()), (3, 6));
    }

    #[test]
    fn a_context_can_be_put_into_an_instance_and_sent_with_it() {
        fn embeddable<T: std::any::Any + Send>(_: &T) {}
        embeddable(&WasiCtx::builder().build().unwrap());
    }

    #[test]
    fn too_many_bytes_are_refused() {
        let long = vec![b'x'; Strings::MAX_LEN];
        assert_eq!(Strings::new(&[long]).unwrap_err(), Strings::MAX_LEN + 1);
    }
}
