//! `args_*` and `environ_*`: the strings a program starts with. Both come as an array of addresses
//! and one buffer of bytes, whose sizes the guest asks for first.

use crate::ctx::{Strings, WasiCtx};
use crate::errno::Errno;
use crate::p1::memory::{self, Memory};

pub(crate) fn args_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    argv: u32,
    argv_buf: u32,
) -> Result<(), Errno> {
    write_strings(&ctx.args, bytes, argv, argv_buf)
}

pub(crate) fn args_sizes_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    argc: u32,
    argv_buf_len: u32,
) -> Result<(), Errno> {
    write_sizes(&ctx.args, bytes, argc, argv_buf_len)
}

pub(crate) fn environ_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    environ: u32,
    environ_buf: u32,
) -> Result<(), Errno> {
    write_strings(&ctx.environ, bytes, environ, environ_buf)
}

pub(crate) fn environ_sizes_get(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    count: u32,
    environ_buf_len: u32,
) -> Result<(), Errno> {
    write_sizes(&ctx.environ, bytes, count, environ_buf_len)
}

fn write_sizes(
    strings: &Strings,
    bytes: &mut dyn Memory,
    count: u32,
    len: u32,
) -> Result<(), Errno> {
    memory::write_u32(bytes, count, strings.count())?;
    memory::write_u32(bytes, len, strings.len())
}

fn write_strings(
    strings: &Strings,
    bytes: &mut dyn Memory,
    array: u32,
    buf: u32,
) -> Result<(), Errno> {
    memory::write(bytes, buf, strings.bytes())?;
    let mut at = array;
    for start in strings.offsets() {
        memory::write_u32(bytes, at, memory::offset(buf, *start)?)?;
        at = memory::offset(at, 4)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctx() -> WasiCtx {
        WasiCtx::builder()
            .arg("prog")
            .arg("")
            .arg("-x")
            .env("A", "1")
            .build()
            .unwrap()
    }

    #[test]
    fn arguments_arrive_as_c_strings() {
        let mut bytes = vec![0xffu8; 64];
        args_sizes_get(&mut ctx(), &mut bytes, 0, 4).unwrap();
        assert_eq!(memory::read_u32(&bytes, 0), Ok(3));
        assert_eq!(memory::read_u32(&bytes, 4), Ok(9));
        args_get(&mut ctx(), &mut bytes, 8, 32).unwrap();
        let at: Vec<_> = (0..3)
            .map(|n| memory::read_u32(&bytes, 8 + 4 * n).unwrap())
            .collect();
        assert_eq!(at, [32, 37, 38]);
        assert_eq!(&bytes[32..41], b"prog\0\0-x\0");
        assert_eq!(bytes[41], 0xff, "nothing past the end");
    }

    #[test]
    fn environment_variables_arrive_as_pairs() {
        let mut bytes = vec![0u8; 32];
        environ_sizes_get(&mut ctx(), &mut bytes, 0, 4).unwrap();
        assert_eq!((bytes[0], bytes[4]), (1, 4));
        environ_get(&mut ctx(), &mut bytes, 8, 16).unwrap();
        assert_eq!(bytes[8], 16);
        assert_eq!(&bytes[16..20], b"A=1\0");
    }

    #[test]
    fn buffers_that_do_not_fit_are_faults() {
        let mut bytes = vec![0u8; 32];
        assert_eq!(args_get(&mut ctx(), &mut bytes, 0, 24), Err(Errno::Fault));
        assert_eq!(args_get(&mut ctx(), &mut bytes, 24, 0), Err(Errno::Fault));
        assert_eq!(
            args_get(&mut ctx(), &mut bytes, u32::MAX, 0),
            Err(Errno::Fault)
        );
        assert_eq!(
            args_sizes_get(&mut ctx(), &mut bytes, 29, 0),
            Err(Errno::Fault)
        );
    }
}
