//! The table that joins the functions of this folder to the runtime's linker: name, parameters,
//! where it is. All are linked, so any module that imports preview 1 can be instantiated; those that
//! are not built stand in `absent.rs`.

use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::error::Error;
use crate::p1::absent::absent_functions;
use crate::p1::memory::{Memory, Shared};
use crate::p1::{args, clock, fd, fs, io, poll, proc, random, readdir};
use selvedge_runtime::{HostError, Linker, Vmctx};

/// The name that guests import preview 1 by.
const MODULE: &str = "wasi_snapshot_preview1";

/// Calls the given macro with each function that returns an error number: its file, its name, and
/// its parameters after the context and the memory.
macro_rules! functions {
    ($each:ident) => {
        $each! {
            args::args_get(argv: u32, argv_buf: u32);
            args::args_sizes_get(argc: u32, argv_buf_len: u32);
            args::environ_get(environ: u32, environ_buf: u32);
            args::environ_sizes_get(count: u32, environ_buf_len: u32);
            clock::clock_res_get(id: u32, resolution: u32);
            clock::clock_time_get(id: u32, precision: u64, time: u32);
            fd::fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
            fd::fd_allocate(fd: u32, offset: u64, len: u64);
            fd::fd_close(fd: u32);
            fd::fd_datasync(fd: u32);
            fd::fd_fdstat_get(fd: u32, stat: u32);
            fd::fd_fdstat_set_flags(fd: u32, flags: u32);
            fd::fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
            fd::fd_filestat_get(fd: u32, stat: u32);
            fd::fd_filestat_set_size(fd: u32, size: u64);
            fd::fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, fst_flags: u32);
            fd::fd_prestat_dir_name(fd: u32, path: u32, path_len: u32);
            fd::fd_prestat_get(fd: u32, prestat: u32);
            fd::fd_renumber(fd: u32, to: u32);
            fd::fd_seek(fd: u32, offset: i64, whence: u32, new_offset: u32);
            fd::fd_sync(fd: u32);
            fd::fd_tell(fd: u32, offset: u32);
            fs::path_create_directory(fd: u32, path: u32, path_len: u32);
            fs::path_filestat_get(fd: u32, flags: u32, path: u32, path_len: u32, stat: u32);
            fs::path_filestat_set_times(
                fd: u32, flags: u32, path: u32, path_len: u32, atim: u64, mtim: u64, fst_flags: u32
            );
            fs::path_link(
                old_fd: u32, old_flags: u32, old_path: u32, old_path_len: u32,
                new_fd: u32, new_path: u32, new_path_len: u32
            );
            fs::path_readlink(
                fd: u32, path: u32, path_len: u32, buf: u32, buf_len: u32, bufused: u32
            );
            fs::path_remove_directory(fd: u32, path: u32, path_len: u32);
            fs::path_rename(
                fd: u32, old_path: u32, old_path_len: u32,
                new_fd: u32, new_path: u32, new_path_len: u32
            );
            fs::path_symlink(
                old_path: u32, old_path_len: u32, fd: u32, new_path: u32, new_path_len: u32
            );
            fs::path_unlink_file(fd: u32, path: u32, path_len: u32);
            io::fd_pread(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nread: u32);
            io::fd_pwrite(fd: u32, iovs: u32, iovs_len: u32, offset: u64, nwritten: u32);
            proc::sched_yield();
            random::random_get(buf: u32, buf_len: u32);
            readdir::fd_readdir(
                fd: u32, buf: u32, buf_len: u32, cookie: u64, bufused: u32
            );
        }
    };
}

/// The same of the functions that may wait: before the context they take the guest that waits.
macro_rules! waiting_functions {
    ($each:ident) => {
        $each! {
            fs::path_open(
                fd: u32, dirflags: u32, path: u32, path_len: u32, oflags: u32,
                rights_base: u64, rights_inheriting: u64, fdflags: u32, opened_fd: u32
            );
            io::fd_read(fd: u32, iovs: u32, iovs_len: u32, nread: u32);
            io::fd_write(fd: u32, iovs: u32, iovs_len: u32, nwritten: u32);
            poll::poll_oneoff(subscriptions: u32, events: u32, count: u32, event_count: u32);
        }
    };
}

/// Links every function of preview 1. An instance that calls one needs a [`WasiCtx`] among its
/// embedder contexts and a memory; without either the call ends the guest with an error.
///
/// # Errors
///
/// If one of the names is already defined in this linker.
pub fn add_to_linker(linker: &mut Linker) -> Result<(), Error> {
    macro_rules! present {
        ($($family:ident::$name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            linker.func(
                MODULE,
                stringify!($name),
                |vmctx: &Vmctx<'_>, $($arg: $ty),*| -> Result<u32, HostError> {
                    call(vmctx, |ctx, bytes| $family::$name(ctx, bytes, $($arg),*))
                },
            )?;
        )*};
    }
    functions!(present);

    macro_rules! waiting {
        ($($family:ident::$name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            linker.func(
                MODULE,
                stringify!($name),
                |vmctx: &Vmctx<'_>, $($arg: $ty),*| -> Result<u32, HostError> {
                    call(vmctx, |ctx, bytes| $family::$name(vmctx, ctx, bytes, $($arg),*))
                },
            )?;
        )*};
    }
    waiting_functions!(waiting);

    macro_rules! absent {
        ($($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
            linker.func(
                MODULE,
                stringify!($name),
                |_: &Vmctx<'_>, $(_: $ty),*| -> u32 { Errno::Nosys.number().into() },
            )?;
        )*};
    }
    absent_functions!(absent);

    linker.func(
        MODULE,
        "proc_exit",
        |_: &Vmctx<'_>, code: u32| -> Result<(), HostError> {
            Err(HostError::terminate(proc::proc_exit(code)))
        },
    )?;
    Ok(())
}

/// Gets the two things that every function needs and turns its outcome into what the guest gets.
/// Both stay borrowed while the function runs, also while it waits: the guest stands still. A shared memory
/// is not borrowed, only copied from and to, since other guests may write it.
fn call(
    vmctx: &Vmctx<'_>,
    function: impl FnOnce(&mut WasiCtx, &mut dyn Memory) -> Result<(), Errno>,
) -> Result<u32, HostError> {
    let mut ctx = vmctx.embed_ctx_mut::<WasiCtx>()?;
    let outcome = match vmctx.shared_memory() {
        Some(shared) => function(&mut ctx, &mut Shared(shared)),
        None => function(&mut ctx, &mut &mut vmctx.heap_mut()?[..]),
    };
    Ok(match outcome {
        Ok(()) => 0,
        Err(errno) => errno.number().into(),
    })
}

#[cfg(test)]
mod tests;
