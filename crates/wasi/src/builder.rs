//! Making a [`WasiCtx`]. This is the only place that uses the host's ambient authority: it opens
//! host paths and reads the host's environment because the embedder asks for it. What is built can
//! reach only what was given here.

use crate::blocking::Alarm;
use crate::ctx::{Strings, WasiCtx};
use crate::error::Error;
use crate::fd_table::{Descriptor, FdTable};
use crate::stdio::{Input, Output, Stream};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a guest may do below a preopened directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DirPerms {
    /// List and read, nothing else: attempts to change anything fail with `EROFS`.
    Read,
    /// Everything: create, write, rename, remove.
    #[default]
    Mutate,
}

/// Collects what a guest gets. A new one gives nothing: no arguments, no environment, no
/// directories, input that is at its end and output that goes nowhere.
///
/// ```
/// use selvedge_wasi::{WasiCtxBuilder, WritePipe};
///
/// let stdout = WritePipe::new();
/// let mut builder = WasiCtxBuilder::new();
/// builder.arg("hello").args(["--loud"]).env("LANG", "C").stdout(stdout.clone());
/// let ctx = builder.build()?;
/// # drop(ctx);
/// # Ok::<(), selvedge_wasi::Error>(())
/// ```
#[derive(Debug)]
pub struct WasiCtxBuilder {
    args: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    stdin: Input,
    stdout: Output,
    stderr: Output,
    preopens: Vec<Preopen>,
    max_descriptors: usize,
}

#[derive(Debug)]
struct Preopen {
    dir: Dir,
    name: String,
    perms: DirPerms,
}

/// Enough for real programs, and no more than what many hosts allow one process.
const MAX_DESCRIPTORS: usize = 1024;

impl Default for WasiCtxBuilder {
    fn default() -> WasiCtxBuilder {
        WasiCtxBuilder::new()
    }
}

impl WasiCtxBuilder {
    /// Nothing given yet.
    pub fn new() -> WasiCtxBuilder {
        WasiCtxBuilder {
            args: Vec::new(),
            env: Vec::new(),
            stdin: Input::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            preopens: Vec::new(),
            max_descriptors: MAX_DESCRIPTORS,
        }
    }

    /// Adds an argument. The first is the program's name.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().as_bytes().to_vec());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets an environment variable; a later value of the same one replaces the earlier.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let key = key.as_ref().as_bytes().to_vec();
        let value = value.as_ref().as_bytes().to_vec();
        match self.env.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.env.push((key, value)),
        }
        self
    }

    /// Sets environment variables.
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Gives the guest the host's environment, as it is now. Entries whose names no program could
    /// ask for, which some hosts have, are left out.
    pub fn inherit_env(&mut self) -> &mut Self {
        self.envs(std::env::vars_os().filter(|(key, _)| !key.as_bytes().contains(&b'=')))
    }

    /// Where descriptor 0 comes from: an [`Input`], a [`ReadPipe`](crate::ReadPipe) or a
    /// [`File`](std::fs::File).
    pub fn stdin(&mut self, input: impl Into<Input>) -> &mut Self {
        self.stdin = input.into();
        self
    }

    /// Where descriptor 1 goes: an [`Output`], a [`WritePipe`](crate::WritePipe) or a
    /// [`File`](std::fs::File).
    pub fn stdout(&mut self, output: impl Into<Output>) -> &mut Self {
        self.stdout = output.into();
        self
    }

    /// Where descriptor 2 goes.
    pub fn stderr(&mut self, output: impl Into<Output>) -> &mut Self {
        self.stderr = output.into();
        self
    }

    /// Gives the guest the host's own standard input, output and error.
    pub fn inherit_stdio(&mut self) -> &mut Self {
        self.stdin(Input::Inherit)
            .stdout(Output::Inherit)
            .stderr(Output::Inherit)
    }

    /// Gives the guest everything below `host_path`, which it sees as `guest_path`, to read and to
    /// change. Directories get the descriptors from 3 on, in the order they are given.
    ///
    /// # Errors
    ///
    /// If the directory cannot be opened, or `guest_path` is empty or holds a NUL byte.
    pub fn preopened_dir(
        &mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl Into<String>,
    ) -> Result<&mut Self, Error> {
        self.preopened_dir_with(host_path, guest_path, DirPerms::Mutate)
    }

    /// The same with less than everything allowed.
    ///
    /// # Errors
    ///
    /// As [`WasiCtxBuilder::preopened_dir`].
    pub fn preopened_dir_with(
        &mut self,
        host_path: impl AsRef<Path>,
        guest_path: impl Into<String>,
        perms: DirPerms,
    ) -> Result<&mut Self, Error> {
        let name = guest_path.into();
        if name.is_empty() || name.contains('\0') {
            return Err(Error::BadGuestPath { path: name });
        }
        let path = host_path.as_ref();
        let dir = open_host_dir(path).map_err(|source| Error::OpenPreopen {
            path: path.to_owned(),
            source,
        })?;
        self.preopens.push(Preopen { dir, name, perms });
        Ok(self)
    }

    /// How many descriptors the guest may have open at a time, its streams and directories among
    /// them. Each is a descriptor of the host too. 1024 if not set.
    pub fn max_descriptors(&mut self, max: usize) -> &mut Self {
        self.max_descriptors = max;
        self
    }

    /// Makes the context. The builder is as new afterwards.
    ///
    /// # Errors
    ///
    /// If an argument or environment variable can't be passed on, or the directories need more
    /// descriptors than are allowed.
    pub fn build(&mut self) -> Result<WasiCtx, Error> {
        let parts = std::mem::take(self);
        let args = join_args(&parts.args)?;
        let environ = join_env(&parts.env)?;
        let streams = [
            Stream::Stdin(parts.stdin),
            Stream::Stdout(parts.stdout),
            Stream::Stderr(parts.stderr),
        ];
        let too_many = Error::TooManyPreopens {
            count: parts.preopens.len(),
            max: parts.max_descriptors,
        };
        if parts.max_descriptors < streams.len() + parts.preopens.len() {
            return Err(too_many);
        }
        let mut fds = FdTable::new(parts.max_descriptors);
        let streams = streams.into_iter().map(Descriptor::stream);
        let preopens = parts.preopens.into_iter().map(|preopen| {
            Descriptor::preopen(preopen.dir, preopen.name, preopen.perms == DirPerms::Mutate)
        });
        for descriptor in streams.chain(preopens) {
            fds.insert(descriptor).expect("room was checked above");
        }
        Ok(WasiCtx {
            args,
            environ,
            fds,
            alarm: Alarm::default(),
        })
    }
}

/// Opened to be read, so that it can be synchronised and its times set; where the host allows only
/// to search it, that is what the guest gets too.
fn open_host_dir(path: &Path) -> io::Result<Dir> {
    let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, read, Mode::empty()) {
        Ok(fd) => Ok(Dir::from(fd)),
        Err(Errno::ACCESS) => Dir::open_ambient_dir(path, ambient_authority()),
        Err(error) => Err(error.into()),
    }
}

fn join_args(args: &[Vec<u8>]) -> Result<Strings, Error> {
    if let Some(idx) = args.iter().position(|arg| arg.contains(&0)) {
        return Err(Error::NulInArgument { idx });
    }
    Strings::new(args).map_err(|len| too_long("arguments", len))
}

fn join_env(env: &[(Vec<u8>, Vec<u8>)]) -> Result<Strings, Error> {
    let mut joined = Vec::with_capacity(env.len());
    for (key, value) in env {
        let name = || String::from_utf8_lossy(key).into_owned();
        if key.is_empty() || key.contains(&b'=') || key.contains(&0) {
            return Err(Error::BadEnvironmentKey { key: name() });
        }
        if value.contains(&0) {
            return Err(Error::NulInEnvironment { key: name() });
        }
        joined.push([key, &b"="[..], value].concat());
    }
    Strings::new(&joined).map_err(|len| too_long("environment variables", len))
}

fn too_long(what: &'static str, len: usize) -> Error {
    Error::TooLong {
        what,
        len,
        max: Strings::MAX_LEN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_that_c_cannot_hold_are_refused() {
        let error = WasiCtxBuilder::new()
            .arg("ok")
            .arg("a\0b")
            .build()
            .unwrap_err();
        assert!(matches!(error, Error::NulInArgument { idx: 1 }), "{error}");
        for key in ["", "A=B", "A\0"] {
            let error = WasiCtxBuilder::new().env(key, "v").build().unwrap_err();
            assert!(matches!(error, Error::BadEnvironmentKey { .. }), "{error}");
        }
        let error = WasiCtxBuilder::new().env("A", "v\0").build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the value of environment variable \"A\" holds a NUL byte; remove it"
        );
    }

    #[test]
    fn a_later_value_replaces_the_earlier() {
        let ctx = WasiCtxBuilder::new()
            .envs([("A", "1"), ("B", "2=3")])
            .env("A", "4")
            .build()
            .unwrap();
        assert_eq!(ctx.environ.bytes(), b"A=4\0B=2=3\0");
    }

    #[test]
    fn host_directories_must_be_there_and_guest_paths_must_be_paths() {
        let tmp = tempfile::tempdir().unwrap();
        let mut builder = WasiCtxBuilder::new();
        let error = builder
            .preopened_dir(tmp.path().join("none"), "/")
            .unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        std::fs::write(tmp.path().join("file"), "x").unwrap();
        assert!(builder.preopened_dir(tmp.path().join("file"), "/").is_err());
        for bad in ["", "a\0b"] {
            let error = builder.preopened_dir(tmp.path(), bad).unwrap_err();
            assert!(matches!(error, Error::BadGuestPath { .. }), "{error}");
        }
        builder.preopened_dir(tmp.path(), ".").unwrap();
        assert_eq!(builder.build().unwrap().fds.free(), Ok(4));
    }

    #[test]
    fn directories_must_fit_in_the_table() {
        let tmp = tempfile::tempdir().unwrap();
        let mut builder = WasiCtxBuilder::new();
        builder
            .preopened_dir(tmp.path(), "/")
            .unwrap()
            .max_descriptors(3);
        let error = builder.build().unwrap_err();
        assert!(
            matches!(error, Error::TooManyPreopens { count: 1, max: 3 }),
            "{error}"
        );
        assert!(
            WasiCtxBuilder::new().max_descriptors(2).build().is_err(),
            "nor the streams"
        );
    }
}
