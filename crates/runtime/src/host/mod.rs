//! Host functions: how they are defined, what they see of the guest, how they fail.

pub(crate) mod awaited;
pub(crate) mod error;
pub(crate) mod func;
pub(crate) mod future;
pub(crate) mod guest_ptr;
pub(crate) mod hostcall;
pub(crate) mod linker;
pub(crate) mod shared_memory;
pub(crate) mod suspend;
pub(crate) mod tag;
pub(crate) mod typed_future;
pub(crate) mod vmctx;
