//! `proc_exit` and `sched_yield`. The first is the one function that doesn't return to the guest:
//! it ends the run, and the embedder finds [`Exit`] in the details.

use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::error::Exit;
use crate::p1::memory::Memory;

/// What the run ends with. Guests pass the code as an unsigned number; the bits are kept.
pub(crate) fn proc_exit(code: u32) -> Exit {
    Exit {
        code: code.cast_signed(),
    }
}

/// Lets another thread of the host have its turn.
pub(crate) fn sched_yield(_ctx: &mut WasiCtx, _bytes: &mut dyn Memory) -> Result<(), Errno> {
    std::thread::yield_now();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_keep_their_bits() {
        assert_eq!(proc_exit(3), Exit { code: 3 });
        assert_eq!(proc_exit(u32::MAX), Exit { code: -1 });
    }
}
