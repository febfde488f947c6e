//! The functions of preview 1 that are not built yet. They are linked, so that programs which
//! import them without calling them run; when called they return `ENOSYS`. This is the whole list.

/// Calls the given macro with each function and the types of its parameters.
macro_rules! absent_functions {
    ($each:ident) => {
        $each! {
            proc_raise(signal: u32);
            sock_accept(fd: u32, flags: u32, accepted: u32);
            sock_recv(fd: u32, data: u32, count: u32, flags: u32, len: u32, out_flags: u32);
            sock_send(fd: u32, data: u32, count: u32, flags: u32, len: u32);
            sock_shutdown(fd: u32, how: u32);
        }
    };
}

pub(crate) use absent_functions;
