//! What the tests of this folder share: a context with one real directory as descriptor 3, and some
//! guest memory. Only for tests.

use crate::blocking::{self, Alarm, Waits};
use crate::builder::DirPerms;
use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::p1::memory::{self, Memory};
use crate::p1::{fd, fs, io};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Where in the memory the pieces of a call stand. Tests use what lies above for buffers.
const PATH_AT: u32 = 0x100;
const PATH2_AT: u32 = 0x200;
const IOVS_AT: u32 = 0x300;
const RESULT_AT: u32 = 0x3f0;
const DATA_AT: u32 = 0x8000;

pub(crate) const READ: u64 = 1 << 1;
pub(crate) const WRITE: u64 = 1 << 6;
pub(crate) const CREAT: u32 = 1;
pub(crate) const DIRECTORY: u32 = 2;
pub(crate) const EXCL: u32 = 4;
pub(crate) const TRUNC: u32 = 8;
pub(crate) const FOLLOW: u32 = 1;

/// A function that takes a descriptor, a path and nothing else.
type PathCall = fn(&mut WasiCtx, &mut dyn Memory, u32, u32, u32) -> Result<(), Errno>;

/// A guest that nobody ends.
pub(crate) struct Alone;

impl blocking::Guest for Alone {
    fn wait(&self, _wake: Arc<dyn Fn() + Send + Sync>, wait: &mut dyn FnMut()) {
        wait();
    }
}

impl Alone {
    pub(crate) fn waits<'a>(&'a self, alarm: &'a Alarm) -> Waits<'a> {
        Waits { guest: self, alarm }
    }
}

/// A thread that is about to wait for another one.
pub(crate) struct Thread(i32);

impl Thread {
    pub(crate) fn this() -> Thread {
        Thread(rustix::thread::gettid().as_raw_nonzero().get())
    }

    /// Returns once the kernel says that the thread waits for something.
    pub(crate) fn until_it_sleeps(&self) {
        let stat = format!("/proc/self/task/{}/stat", self.0);
        let sleeps = || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('S')
        };
        while !sleeps() {
            std::thread::yield_now();
        }
    }
}

/// A guest that is about to call.
pub(crate) struct Guest {
    pub(crate) ctx: WasiCtx,
    pub(crate) bytes: Vec<u8>,
    tmp: TempDir,
}

impl Guest {
    /// Descriptor 3 is `box` inside a new directory of the host; what lies beside it is outside.
    pub(crate) fn new() -> Guest {
        Guest::with_perms(DirPerms::Mutate)
    }

    pub(crate) fn with_perms(perms: DirPerms) -> Guest {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("box")).unwrap();
        std::fs::write(tmp.path().join("secret"), "secret").unwrap();
        let ctx = WasiCtx::builder()
            .preopened_dir_with(tmp.path().join("box"), "/box", perms)
            .unwrap()
            .build()
            .unwrap();
        Guest {
            ctx,
            bytes: vec![0; 0x10000],
            tmp,
        }
    }

    /// The same directory once more, as the first descriptor of a context of its own.
    pub(crate) fn reopened(&self, perms: DirPerms) -> WasiCtx {
        let mut builder = WasiCtx::builder();
        builder
            .preopened_dir_with(self.tmp.path().join("box"), "/box", perms)
            .unwrap();
        builder.build().unwrap()
    }

    /// The host's path of something in the box.
    pub(crate) fn host(&self, path: impl AsRef<Path>) -> PathBuf {
        self.tmp.path().join("box").join(path)
    }

    pub(crate) fn host_write(&self, path: &str, content: &str) {
        std::fs::write(self.host(path), content).unwrap();
    }

    pub(crate) fn host_read(&self, path: &str) -> String {
        std::fs::read_to_string(self.host(path)).unwrap()
    }

    fn put(&mut self, at: u32, text: &str) -> (u32, u32) {
        memory::write(&mut self.bytes, at, text.as_bytes()).unwrap();
        (at, text.len() as u32)
    }

    fn result(&self) -> u32 {
        memory::read_u32(&self.bytes, RESULT_AT).unwrap()
    }

    /// `path_open` below descriptor 3, following links.
    pub(crate) fn open(&mut self, path: &str, oflags: u32, rights: u64) -> Result<u32, Errno> {
        self.open_with(3, FOLLOW, path, oflags, rights, 0)
    }

    pub(crate) fn open_with(
        &mut self,
        dir: u32,
        lookup: u32,
        path: &str,
        oflags: u32,
        rights: u64,
        fdflags: u32,
    ) -> Result<u32, Errno> {
        let (at, len) = self.put(PATH_AT, path);
        let (ctx, bytes) = (&mut self.ctx, &mut self.bytes);
        fs::path_open(
            &Alone, ctx, bytes, dir, lookup, at, len, oflags, rights, !0, fdflags, RESULT_AT,
        )?;
        Ok(self.result())
    }

    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        fd::fd_close(&mut self.ctx, &mut self.bytes, fd)
    }

    /// Calls such a function on descriptor 3.
    pub(crate) fn on_path(&mut self, call: PathCall, path: &str) -> Result<(), Errno> {
        let (at, len) = self.put(PATH_AT, path);
        call(&mut self.ctx, &mut self.bytes, 3, at, len)
    }

    pub(crate) fn rename(&mut self, old: &str, new: &str) -> Result<(), Errno> {
        let (old, old_len) = self.put(PATH_AT, old);
        let (new, new_len) = self.put(PATH2_AT, new);
        fs::path_rename(
            &mut self.ctx,
            &mut self.bytes,
            3,
            old,
            old_len,
            3,
            new,
            new_len,
        )
    }

    pub(crate) fn link(&mut self, lookup: u32, old: &str, new: &str) -> Result<(), Errno> {
        let (old, old_len) = self.put(PATH_AT, old);
        let (new, new_len) = self.put(PATH2_AT, new);
        fs::path_link(
            &mut self.ctx,
            &mut self.bytes,
            3,
            lookup,
            old,
            old_len,
            3,
            new,
            new_len,
        )
    }

    pub(crate) fn symlink(&mut self, target: &str, path: &str) -> Result<(), Errno> {
        let (target, target_len) = self.put(PATH_AT, target);
        let (at, len) = self.put(PATH2_AT, path);
        fs::path_symlink(
            &mut self.ctx,
            &mut self.bytes,
            target,
            target_len,
            3,
            at,
            len,
        )
    }

    pub(crate) fn readlink(&mut self, path: &str, buf_len: u32) -> Result<String, Errno> {
        let (at, len) = self.put(PATH_AT, path);
        let (ctx, bytes) = (&mut self.ctx, &mut self.bytes);
        fs::path_readlink(ctx, bytes, 3, at, len, DATA_AT, buf_len, RESULT_AT)?;
        let text = memory::copy(&self.bytes, DATA_AT, self.result()).unwrap();
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    /// `path_filestat_get`: the file type and the size.
    pub(crate) fn stat(&mut self, lookup: u32, path: &str) -> Result<(u8, u64), Errno> {
        let (at, len) = self.put(PATH_AT, path);
        fs::path_filestat_get(&mut self.ctx, &mut self.bytes, 3, lookup, at, len, DATA_AT)?;
        let filetype = memory::read_u8(&self.bytes, DATA_AT + 16).unwrap();
        Ok((
            filetype,
            memory::read_u64(&self.bytes, DATA_AT + 32).unwrap(),
        ))
    }

    /// A list of buffers at a fixed place.
    pub(crate) fn put_iovs(&mut self, iovs: &[(u32, u32)]) -> (u32, u32) {
        for (idx, (buf, len)) in iovs.iter().enumerate() {
            let at = IOVS_AT + idx as u32 * 8;
            memory::write_u32(&mut self.bytes, at, *buf).unwrap();
            memory::write_u32(&mut self.bytes, at + 4, *len).unwrap();
        }
        (IOVS_AT, iovs.len() as u32)
    }

    pub(crate) fn readv(&mut self, fd: u32, iovs: &[(u32, u32)]) -> Result<u32, Errno> {
        let (at, count) = self.put_iovs(iovs);
        io::fd_read(
            &Alone,
            &mut self.ctx,
            &mut self.bytes,
            fd,
            at,
            count,
            RESULT_AT,
        )?;
        Ok(self.result())
    }

    pub(crate) fn writev(&mut self, fd: u32, iovs: &[(u32, u32)]) -> Result<u32, Errno> {
        let (at, count) = self.put_iovs(iovs);
        io::fd_write(
            &Alone,
            &mut self.ctx,
            &mut self.bytes,
            fd,
            at,
            count,
            RESULT_AT,
        )?;
        Ok(self.result())
    }

    /// `fd_read` into one buffer.
    pub(crate) fn read(&mut self, fd: u32, len: u32) -> Result<String, Errno> {
        let got = self.readv(fd, &[(DATA_AT, len)])?;
        Ok(self.data(got))
    }

    pub(crate) fn pread(&mut self, fd: u32, len: u32, offset: u64) -> Result<String, Errno> {
        let (at, count) = self.put_iovs(&[(DATA_AT, len)]);
        io::fd_pread(
            &mut self.ctx,
            &mut self.bytes,
            fd,
            at,
            count,
            offset,
            RESULT_AT,
        )?;
        let got = self.result();
        Ok(self.data(got))
    }

    fn data(&self, len: u32) -> String {
        let bytes = memory::copy(&self.bytes, DATA_AT, len).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// `fd_write` from one buffer.
    pub(crate) fn write(&mut self, fd: u32, text: &str) -> Result<u32, Errno> {
        let (at, len) = self.put(DATA_AT, text);
        self.writev(fd, &[(at, len)])
    }

    pub(crate) fn pwrite(&mut self, fd: u32, text: &str, offset: u64) -> Result<u32, Errno> {
        let (at, len) = self.put(DATA_AT, text);
        let (iovs, count) = self.put_iovs(&[(at, len)]);
        io::fd_pwrite(
            &mut self.ctx,
            &mut self.bytes,
            fd,
            iovs,
            count,
            offset,
            RESULT_AT,
        )?;
        Ok(self.result())
    }

    pub(crate) fn seek(&mut self, fd: u32, offset: i64, whence: u32) -> Result<u64, Errno> {
        fd::fd_seek(
            &mut self.ctx,
            &mut self.bytes,
            fd,
            offset,
            whence,
            RESULT_AT,
        )?;
        Ok(memory::read_u64(&self.bytes, RESULT_AT).unwrap())
    }

    pub(crate) fn tell(&mut self, fd: u32) -> Result<u64, Errno> {
        fd::fd_tell(&mut self.ctx, &mut self.bytes, fd, RESULT_AT)?;
        Ok(memory::read_u64(&self.bytes, RESULT_AT).unwrap())
    }

    /// `fd_fdstat_get`: file type, flags, base and inheriting rights.
    pub(crate) fn fdstat(&mut self, fd: u32) -> Result<(u8, u16, u64, u64), Errno> {
        fd::fd_fdstat_get(&mut self.ctx, &mut self.bytes, fd, DATA_AT)?;
        let bytes = &self.bytes;
        Ok((
            memory::read_u8(bytes, DATA_AT).unwrap(),
            memory::read_u16(bytes, DATA_AT + 2).unwrap(),
            memory::read_u64(bytes, DATA_AT + 8).unwrap(),
            memory::read_u64(bytes, DATA_AT + 16).unwrap(),
        ))
    }
}
