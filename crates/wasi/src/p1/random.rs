//! `random_get`: bytes of the host's own generator.

use crate::blocking;
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::p1::memory::{self, Memory};
use rustix::rand::{GetRandomFlags, getrandom};

pub(crate) fn random_get(
    _ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    buf: u32,
    buf_len: u32,
) -> Result<(), Errno> {
    let range = memory::range(bytes, buf, buf_len.into())?;
    if let Some(own) = bytes.own() {
        return fill(&mut own[range]);
    }
    let mut piece = [0; 256];
    let mut at = range.start;
    while at < range.end {
        let piece = &mut piece[..(range.end - at).min(256)];
        fill(piece)?;
        bytes.store(at, piece)?;
        at += piece.len();
    }
    Ok(())
}

/// The kernel gives at most 32 MiB at a time, and less when a signal comes.
fn fill(mut rest: &mut [u8]) -> Result<(), Errno> {
    while !rest.is_empty() {
        let len = blocking::retry(|| getrandom(&mut *rest, GetRandomFlags::empty()))?;
        rest = &mut rest[len..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_buffer_is_filled() {
        let mut ctx = WasiCtx::builder().build().unwrap();
        let mut bytes = vec![0u8; 96];
        random_get(&mut ctx, &mut bytes, 16, 64).unwrap();
        assert_eq!(bytes[..16], [0; 16]);
        assert_eq!(bytes[80..], [0; 16]);
        assert_ne!(bytes[16..80], [0; 64], "would take 2^512 tries");
        assert_eq!(random_get(&mut ctx, &mut bytes, 96, 0), Ok(()));
        assert_eq!(random_get(&mut ctx, &mut bytes, 90, 7), Err(Errno::Fault));
    }
}
