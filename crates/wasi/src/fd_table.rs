//! The descriptors of one guest: what each leads to and what it may be used for. A new one gets the
//! lowest free number, as C programs expect. Not here: what is done with them (`p1/`).

use crate::errno::Errno;
use crate::p1::layout::{FdFlags, FileType, Rights};
use crate::p1::readdir::Entry;
use crate::stdio::Stream;
use cap_std::fs::Dir;
use rustix::fd::OwnedFd;
use std::io::IsTerminal;

/// One open descriptor.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub(crate) target: Target,
    pub(crate) flags: FdFlags,
    /// What it may be used for. A guest can only take rights away (`fd_fdstat_set_rights`).
    pub(crate) rights: Rights,
    /// What the descriptors opened through it may at most be used for.
    pub(crate) inheriting: Rights,
}

/// What a descriptor leads to.
#[derive(Debug)]
pub(crate) enum Target {
    Stream(Stream),
    File(OpenFile),
    Dir(OpenDir),
}

/// A file that the guest opened: regular, or a device or pipe that lies in a preopened directory.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) fd: OwnedFd,
    pub(crate) filetype: FileType,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Whether the directory it was opened through lets the guest change things.
    pub(crate) mutable: bool,
}

/// A directory, preopened or opened by the guest.
#[derive(Debug)]
pub(crate) struct OpenDir {
    pub(crate) dir: Dir,
    /// The name the guest knows a preopened one by.
    pub(crate) preopen: Option<String>,
    /// Whether the guest may change what is below.
    pub(crate) mutable: bool,
    /// The entries as they were when a listing last began, so that cookies stay good.
    pub(crate) listing: Option<Vec<Entry>>,
}

/// The use of a stream that flows one way.
const STREAM: Rights = Rights::FD_FDSTAT_SET_FLAGS
    .union(Rights::FD_DATASYNC)
    .union(Rights::FD_SYNC)
    .union(Rights::FD_FILESTAT_GET)
    .union(Rights::POLL_FD_READWRITE);

/// The use of a file, reading and writing aside.
const FILE: Rights = STREAM
    .union(Rights::FD_SEEK)
    .union(Rights::FD_TELL)
    .union(Rights::FD_ADVISE)
    .union(Rights::FD_FILESTAT_SET_TIMES);

/// What goes with writing to a file.
const FILE_WRITE: Rights = Rights::FD_WRITE
    .union(Rights::FD_ALLOCATE)
    .union(Rights::FD_FILESTAT_SET_SIZE);

/// The use of a directory. libc compares with what it wants, so this is everything that a directory
/// can be used for; whether the guest may change it is asked of [`OpenDir::mutable`].
const DIR: Rights = Rights::FD_FDSTAT_SET_FLAGS
    .union(Rights::FD_DATASYNC)
    .union(Rights::FD_SYNC)
    .union(Rights::FD_ADVISE)
    .union(Rights::PATH_CREATE_DIRECTORY)
    .union(Rights::PATH_CREATE_FILE)
    .union(Rights::PATH_LINK_SOURCE)
    .union(Rights::PATH_LINK_TARGET)
    .union(Rights::PATH_OPEN)
    .union(Rights::FD_READDIR)
    .union(Rights::PATH_READLINK)
    .union(Rights::PATH_RENAME_SOURCE)
    .union(Rights::PATH_RENAME_TARGET)
    .union(Rights::PATH_FILESTAT_GET)
    .union(Rights::PATH_FILESTAT_SET_SIZE)
    .union(Rights::PATH_FILESTAT_SET_TIMES)
    .union(Rights::FD_FILESTAT_GET)
    .union(Rights::FD_FILESTAT_SET_TIMES)
    .union(Rights::PATH_SYMLINK)
    .union(Rights::PATH_REMOVE_DIRECTORY)
    .union(Rights::PATH_UNLINK_FILE)
    .union(Rights::POLL_FD_READWRITE);

/// What can be inherited: the use of everything that can be opened through a directory.
const INHERITING: Rights = DIR.union(FILE).union(FILE_WRITE).union(Rights::FD_READ);

impl Descriptor {
    /// One of the three standard streams.
    pub(crate) fn stream(stream: Stream) -> Descriptor {
        let way = if stream.is_input() {
            Rights::FD_READ
        } else {
            Rights::FD_WRITE
        };
        Descriptor {
            target: Target::Stream(stream),
            flags: FdFlags::default(),
            rights: STREAM.union(way),
            inheriting: Rights::default(),
        }
    }

    /// A directory that the guest starts with.
    pub(crate) fn preopen(dir: Dir, name: String, mutable: bool) -> Descriptor {
        let open = OpenDir {
            dir,
            preopen: Some(name),
            mutable,
            listing: None,
        };
        Descriptor::dir(open, FdFlags::default(), INHERITING)
    }

    /// A directory opened through one that lets `inheriting` be inherited.
    pub(crate) fn dir(dir: OpenDir, flags: FdFlags, inheriting: Rights) -> Descriptor {
        let rights = Rights(DIR.0 & inheriting.0);
        Descriptor {
            target: Target::Dir(dir),
            flags,
            rights,
            inheriting,
        }
    }

    /// A file opened through a directory that lets `inheriting` be inherited.
    pub(crate) fn file(file: OpenFile, flags: FdFlags, inheriting: Rights) -> Descriptor {
        let mut rights = FILE;
        if file.filetype == FileType::CharacterDevice && file.fd.is_terminal() {
            // libc tells a terminal by this.
            rights = rights.without(Rights::FD_SEEK.union(Rights::FD_TELL));
        }
        if file.readable {
            rights = rights.union(Rights::FD_READ);
        }
        if file.writable {
            rights = rights.union(FILE_WRITE);
        }
        let rights = Rights(rights.0 & inheriting.0);
        Descriptor {
            target: Target::File(file),
            flags,
            rights,
            inheriting: Rights::default(),
        }
    }

    /// Whether it may be used so; `ENOTCAPABLE` if the right was taken away.
    pub(crate) fn require(&self, rights: Rights) -> Result<(), Errno> {
        if self.rights.contains(rights) {
            Ok(())
        } else {
            Err(Errno::Notcapable)
        }
    }
}

/// The descriptors by number.
#[derive(Debug)]
pub(crate) struct FdTable {
    slots: Vec<Option<Descriptor>>,
    max: usize,
}

impl FdTable {
    /// An empty table that never holds more than `max`.
    pub(crate) fn new(max: usize) -> FdTable {
        FdTable {
            slots: Vec::new(),
            max,
        }
    }

    /// The lowest free number, or `EMFILE`. Asked before anything is created on the host.
    pub(crate) fn free(&self) -> Result<u32, Errno> {
        let idx = self
            .slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.slots.len());
        if idx >= self.max {
            return Err(Errno::Mfile);
        }
        u32::try_from(idx).map_err(|_| Errno::Mfile)
    }

    /// Gives it the lowest free number.
    pub(crate) fn insert(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let fd = self.free()?;
        match self.slots.get_mut(fd as usize) {
            Some(slot) => *slot = Some(descriptor),
            None => self.slots.push(Some(descriptor)),
        }
        Ok(fd)
    }

    /// The open descriptor of that number, or `EBADF`.
    pub(crate) fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.slots
            .get(fd as usize)
            .and_then(Option::as_ref)
            .ok_or(Errno::Badf)
    }

    /// The same, to change.
    pub(crate) fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.slots
            .get_mut(fd as usize)
            .and_then(Option::as_mut)
            .ok_or(Errno::Badf)
    }

    /// Takes it out; its number is free again.
    pub(crate) fn remove(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.slots
            .get_mut(fd as usize)
            .and_then(Option::take)
            .ok_or(Errno::Badf)
    }

    /// Puts `from` in the place of `to`, which is closed. Both must be open.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) -> Result<(), Errno> {
        self.get(from)?;
        self.get(to)?;
        if from != to {
            let moved = self.remove(from)?;
            *self.get_mut(to)? = moved;
        }
        Ok(())
    }

    /// The names of preopened directories, if there is nothing else but the three streams, each at its place.
    pub(crate) fn initial_preopens(&self) -> Option<Vec<&str>> {
        let (streams, rest) = self.slots.split_at_checked(3)?;
        let streams_ok = streams.iter().enumerate().all(|(fd, slot)| {
            let target = slot.as_ref().map(|descriptor| &descriptor.target);
            matches!(
                (fd, target),
                (0, Some(Target::Stream(Stream::Stdin(_))))
                    | (1, Some(Target::Stream(Stream::Stdout(_))))
                    | (2, Some(Target::Stream(Stream::Stderr(_))))
            )
        });
        if !streams_ok {
            return None;
        }
        let used = rest
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |at| at + 1);
        let names = rest[..used]
            .iter()
            .map(|slot| match &slot.as_ref()?.target {
                Target::Dir(dir) => dir.preopen.as_deref(),
                _ => None,
            });
        names.collect()
    }

    /// A directory that may be used so. Something that is not one: `ENOTDIR`.
    pub(crate) fn dir(&self, fd: u32, rights: Rights) -> Result<(&OpenDir, Rights), Errno> {
        let descriptor = self.get(fd)?;
        let Target::Dir(dir) = &descriptor.target else {
            return Err(Errno::Notdir);
        };
        descriptor.require(rights)?;
        Ok((dir, descriptor.inheriting))
    }

    /// A directory that the guest may use so and change: otherwise `EROFS`.
    pub(crate) fn mutable_dir(&self, fd: u32, rights: Rights) -> Result<&OpenDir, Errno> {
        let (dir, _) = self.dir(fd, rights)?;
        if dir.mutable {
            Ok(dir)
        } else {
            Err(Errno::Rofs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdio::{Input, Output};

    fn table(max: usize) -> FdTable {
        let mut table = FdTable::new(max);
        for stream in [
            Stream::Stdin(Input::Null),
            Stream::Stdout(Output::Null),
            Stream::Stderr(Output::Null),
        ] {
            table.insert(Descriptor::stream(stream)).unwrap();
        }
        table
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut table = table(8);
        assert_eq!(table.free(), Ok(3));
        table.remove(1).unwrap();
        assert_eq!(
            table.insert(Descriptor::stream(Stream::Stdout(Output::Null))),
            Ok(1)
        );
        assert_eq!(
            table.insert(Descriptor::stream(Stream::Stdout(Output::Null))),
            Ok(3)
        );
    }

    #[test]
    fn numbers_that_are_not_open_are_bad() {
        let mut table = table(8);
        for fd in [3, 8, u32::MAX] {
            assert_eq!(table.get(fd).unwrap_err(), Errno::Badf);
            assert_eq!(table.remove(fd).unwrap_err(), Errno::Badf);
        }
        table.remove(0).unwrap();
        assert_eq!(table.remove(0).unwrap_err(), Errno::Badf, "closed twice");
    }

    #[test]
    fn a_full_table_says_so() {
        let mut table = table(3);
        assert_eq!(table.free(), Err(Errno::Mfile));
        let one_more = Descriptor::stream(Stream::Stdout(Output::Null));
        assert_eq!(table.insert(one_more).unwrap_err(), Errno::Mfile);
    }

    #[test]
    fn the_initial_descriptors_are_told_from_others() {
        let mut table = table(8);
        assert_eq!(table.initial_preopens(), Some(vec![]));
        let dir = || Dir::open_ambient_dir("/", cap_std::ambient_authority()).unwrap();
        let preopen = |name: &str| Descriptor::preopen(dir(), name.to_owned(), true);
        table.insert(preopen("a")).unwrap();
        table.insert(preopen("b")).unwrap();
        assert_eq!(table.initial_preopens(), Some(vec!["a", "b"]));
        let opened = OpenDir {
            dir: dir(),
            preopen: None,
            mutable: true,
            listing: None,
        };
        let opened = Descriptor::dir(opened, FdFlags::default(), INHERITING);
        let fd = table.insert(opened).unwrap();
        assert_eq!(table.initial_preopens(), None);
        table.remove(fd).unwrap();
        assert_eq!(table.initial_preopens(), Some(vec!["a", "b"]));
        table.renumber(2, 1).unwrap();
        assert_eq!(table.initial_preopens(), None);
    }

    #[test]
    fn renumbering_closes_the_target_and_frees_the_source() {
        let mut table = table(8);
        table.renumber(0, 1).unwrap();
        assert!(table.get(0).is_err());
        let Target::Stream(stream) = &table.get(1).unwrap().target else {
            panic!()
        };
        assert!(stream.is_input());
        table.renumber(1, 1).unwrap();
        assert!(table.get(1).is_ok());
        assert_eq!(table.renumber(1, 7), Err(Errno::Badf), "both must be open");
        assert_eq!(table.renumber(7, 1), Err(Errno::Badf));
        assert!(table.get(1).is_ok(), "a refused one changes nothing");
    }
}
