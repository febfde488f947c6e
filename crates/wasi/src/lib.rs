//! WASI preview 1 for Selvedge: the functions of the import module `wasi_snapshot_preview1`, and
//! the world of one guest that they act on.
//!
//! ```text
//!   WasiCtxBuilder --build--> WasiCtx   put into an instance as an embedder context
//!   add_to_linker(&mut linker)          links every function of preview 1, once per linker
//! ```
//!
//! A guest reaches what its [`WasiCtx`] gives it and nothing else. Directories are opened by the
//! builder; every path is resolved below one of them by `cap-std`, so neither `..` nor a symbolic
//! link leads out. Addresses and lengths from a guest are values to check: a wrong one is an error
//! number to the guest, never a fault of the host.
//!
//! A guest that calls `proc_exit` ends its run; the embedder finds [`Exit`] in the details of the
//! termination. What is not built yet (signals, sockets) returns `ENOSYS` and is listed in
//! `p1/absent.rs`.

#![forbid(unsafe_code)]

mod blocking;
mod builder;
mod ctx;
mod errno;
mod error;
mod fd_table;
mod p1;
mod path;
mod stdio;

pub use builder::{DirPerms, WasiCtxBuilder};
pub use ctx::WasiCtx;
pub use errno::Errno;
pub use error::{Error, Exit};
pub use p1::add_to_linker;
pub use stdio::{Input, Output, ReadPipe, WritePipe};
