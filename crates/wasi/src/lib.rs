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
//! A guest that waits is ended at once by a kill switch: it sleeps, polls, waits for input or for room to write, or for
//! the other end of a named pipe that it opens. What the kernel does not let wait for is not interrupted, and the guest
//! ends when the call returns:
//!
//! - `fd_sync`, `fd_datasync`, and writes to files opened with `SYNC` or `DSYNC`: until the device has written what it
//!   is given, at most what the guest wrote to that file before.
//! - `fd_allocate`, `fd_filestat_set_size`, reads and writes of regular files, and everything about paths: until the file
//!   system is done. One on a network that has gone may take for ever; a guest that is to be ended in any case gets no
//!   directory there.
//! - A standard stream that another process reads or fills, too: it may take what there was between the question
//!   whether there is something and the call. A terminal that takes a part of what it is given and then stops.
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
