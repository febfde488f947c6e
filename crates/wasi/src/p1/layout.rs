//! The structures and flag words of preview 1 as the guest sees them: numbers, and bytes at fixed
//! offsets. Only shapes, no behaviour. Numbers are little-endian.

use crate::errno::Errno;
use crate::p1::memory::{self, Memory};
use rustix::fs::FileType as HostFileType;

/// Makes a word of flags whose unknown bits are refused.
macro_rules! flags {
    ($(#[$doc:meta])* $name:ident($word:ty) { $($flag:ident = $bit:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $name(pub(crate) $word);

        #[allow(dead_code, reason = "a table: not every word needs every row and every method")]
        impl $name {
            $(pub(crate) const $flag: $name = $name(1 << $bit);)*
            const KNOWN: $word = $(1 << $bit)|*;

            /// The word a guest passed (flags narrower than 32 bits are passed as 32), if it says
            /// nothing that is not known here.
            pub(crate) fn from_guest(word: impl Into<u64>) -> Result<$name, Errno> {
                let word = <$word>::try_from(word.into()).map_err(|_| Errno::Inval)?;
                if word & !Self::KNOWN != 0 {
                    return Err(Errno::Inval);
                }
                Ok($name(word))
            }

            pub(crate) const fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }
            pub(crate) const fn intersects(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }
            pub(crate) const fn union(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }
            pub(crate) const fn without(self, other: $name) -> $name {
                $name(self.0 & !other.0)
            }
        }
    };
}

flags! {
    /// What a descriptor may be used for.
    Rights(u64) {
        FD_DATASYNC = 0,
        FD_READ = 1,
        FD_SEEK = 2,
        FD_FDSTAT_SET_FLAGS = 3,
        FD_SYNC = 4,
        FD_TELL = 5,
        FD_WRITE = 6,
        FD_ADVISE = 7,
        FD_ALLOCATE = 8,
        PATH_CREATE_DIRECTORY = 9,
        PATH_CREATE_FILE = 10,
        PATH_LINK_SOURCE = 11,
        PATH_LINK_TARGET = 12,
        PATH_OPEN = 13,
        FD_READDIR = 14,
        PATH_READLINK = 15,
        PATH_RENAME_SOURCE = 16,
        PATH_RENAME_TARGET = 17,
        PATH_FILESTAT_GET = 18,
        PATH_FILESTAT_SET_SIZE = 19,
        PATH_FILESTAT_SET_TIMES = 20,
        FD_FILESTAT_GET = 21,
        FD_FILESTAT_SET_SIZE = 22,
        FD_FILESTAT_SET_TIMES = 23,
        PATH_SYMLINK = 24,
        PATH_REMOVE_DIRECTORY = 25,
        PATH_UNLINK_FILE = 26,
        POLL_FD_READWRITE = 27,
        SOCK_SHUTDOWN = 28,
        SOCK_ACCEPT = 29,
    }
}

flags! {
    /// How a descriptor behaves (`fdflags`).
    FdFlags(u16) { APPEND = 0, DSYNC = 1, NONBLOCK = 2, RSYNC = 3, SYNC = 4, }
}

flags! {
    /// How `path_open` opens (`oflags`).
    OFlags(u16) { CREAT = 0, DIRECTORY = 1, EXCL = 2, TRUNC = 3, }
}

flags! {
    /// How the last part of a path is resolved (`lookupflags`).
    LookupFlags(u32) { SYMLINK_FOLLOW = 0, }
}

flags! {
    /// Which times to set, and to what (`fstflags`).
    FstFlags(u16) { ATIM = 0, ATIM_NOW = 1, MTIM = 2, MTIM_NOW = 3, }
}

flags! {
    /// How the timeout of a clock subscription is meant (`subclockflags`).
    SubclockFlags(u16) { ABSTIME = 0, }
}

/// The kind of a file or descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FileType {
    /// None of the others: pipes, which preview 1 has no number for, among them.
    Unknown = 0,
    BlockDevice = 1,
    CharacterDevice = 2,
    Directory = 3,
    RegularFile = 4,
    SocketStream = 6,
    SymbolicLink = 7,
}

impl From<HostFileType> for FileType {
    fn from(host: HostFileType) -> FileType {
        match host {
            HostFileType::RegularFile => FileType::RegularFile,
            HostFileType::Directory => FileType::Directory,
            HostFileType::Symlink => FileType::SymbolicLink,
            HostFileType::CharacterDevice => FileType::CharacterDevice,
            HostFileType::BlockDevice => FileType::BlockDevice,
            // Whether it carries datagrams is not in the mode, and no guest can ask more of it.
            HostFileType::Socket => FileType::SocketStream,
            HostFileType::Fifo | HostFileType::Unknown => FileType::Unknown,
        }
    }
}

/// Bytes of a `filestat`.
pub(crate) const FILESTAT_LEN: u32 = 64;

/// The attributes of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filestat {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) filetype: FileType,
    pub(crate) nlink: u64,
    pub(crate) size: u64,
    pub(crate) atim: u64,
    pub(crate) mtim: u64,
    pub(crate) ctim: u64,
}

impl Filestat {
    /// What is said of a descriptor that no host file stands behind.
    pub(crate) const NOTHING: Filestat = Filestat {
        dev: 0,
        ino: 0,
        filetype: FileType::Unknown,
        nlink: 1,
        size: 0,
        atim: 0,
        mtim: 0,
        ctim: 0,
    };

    pub(crate) fn to_bytes(self) -> [u8; FILESTAT_LEN as usize] {
        let mut bytes = [0; FILESTAT_LEN as usize];
        bytes[0..8].copy_from_slice(&self.dev.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ino.to_le_bytes());
        bytes[16] = self.filetype as u8;
        bytes[24..32].copy_from_slice(&self.nlink.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.size.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.atim.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.mtim.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.ctim.to_le_bytes());
        bytes
    }
}

/// A `fdstat`: 24 bytes.
pub(crate) fn fdstat(
    filetype: FileType,
    flags: FdFlags,
    base: Rights,
    inheriting: Rights,
) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0] = filetype as u8;
    bytes[2..4].copy_from_slice(&flags.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&base.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&inheriting.0.to_le_bytes());
    bytes
}

/// A `prestat` of a directory: 8 bytes, tag 0 and the length of its name.
pub(crate) fn prestat_dir(name_len: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[4..8].copy_from_slice(&name_len.to_le_bytes());
    bytes
}

/// A `dirent` without the name that follows it: 24 bytes.
pub(crate) fn dirent(next: u64, ino: u64, name_len: u32, filetype: FileType) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[0..8].copy_from_slice(&next.to_le_bytes());
    bytes[8..16].copy_from_slice(&ino.to_le_bytes());
    bytes[16..20].copy_from_slice(&name_len.to_le_bytes());
    bytes[20] = filetype as u8;
    bytes
}

/// Bytes of a `subscription`.
pub(crate) const SUBSCRIPTION_LEN: u32 = 48;

/// What a guest waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) userdata: u64,
    pub(crate) kind: SubscriptionKind,
}

/// One of the three things to wait for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SubscriptionKind {
    Clock {
        id: u32,
        timeout: u64,
        flags: SubclockFlags,
    },
    FdRead {
        fd: u32,
    },
    FdWrite {
        fd: u32,
    },
}

impl SubscriptionKind {
    /// The tag, which is also the type of the event that answers it.
    pub(crate) const fn tag(self) -> u8 {
        match self {
            SubscriptionKind::Clock { .. } => 0,
            SubscriptionKind::FdRead { .. } => 1,
            SubscriptionKind::FdWrite { .. } => 2,
        }
    }
}

impl Subscription {
    /// Reads the one at `addr`. Its `precision` is not looked at: waits are as exact as they can be.
    pub(crate) fn read(bytes: &dyn Memory, addr: u32) -> Result<Subscription, Errno> {
        memory::range(bytes, addr, SUBSCRIPTION_LEN.into())?;
        let userdata = memory::read_u64(bytes, addr)?;
        let kind = match memory::read_u8(bytes, memory::offset(addr, 8)?)? {
            0 => SubscriptionKind::Clock {
                id: memory::read_u32(bytes, memory::offset(addr, 16)?)?,
                timeout: memory::read_u64(bytes, memory::offset(addr, 24)?)?,
                flags: SubclockFlags::from_guest(memory::read_u16(
                    bytes,
                    memory::offset(addr, 40)?,
                )?)?,
            },
            1 => SubscriptionKind::FdRead {
                fd: memory::read_u32(bytes, memory::offset(addr, 16)?)?,
            },
            2 => SubscriptionKind::FdWrite {
                fd: memory::read_u32(bytes, memory::offset(addr, 16)?)?,
            },
            _ => return Err(Errno::Inval),
        };
        Ok(Subscription { userdata, kind })
    }
}

/// Bytes of an `event`.
pub(crate) const EVENT_LEN: u32 = 32;

/// Something that came to pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) userdata: u64,
    pub(crate) error: Option<Errno>,
    /// The tag of the subscription.
    pub(crate) tag: u8,
    /// Bytes that can be read at once; 0 for the other kinds.
    pub(crate) nbytes: u64,
    pub(crate) hangup: bool,
}

impl Event {
    pub(crate) fn to_bytes(self) -> [u8; EVENT_LEN as usize] {
        let mut bytes = [0; EVENT_LEN as usize];
        bytes[0..8].copy_from_slice(&self.userdata.to_le_bytes());
        let error = self.error.map_or(0, Errno::number);
        bytes[8..10].copy_from_slice(&error.to_le_bytes());
        bytes[10] = self.tag;
        bytes[16..24].copy_from_slice(&self.nbytes.to_le_bytes());
        bytes[24..26].copy_from_slice(&u16::from(self.hangup).to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_flags_are_refused() {
        assert_eq!(
            OFlags::from_guest(0b1001u32),
            Ok(OFlags::CREAT.union(OFlags::TRUNC))
        );
        assert_eq!(OFlags::from_guest(0b1_0000u32), Err(Errno::Inval));
        assert_eq!(
            OFlags::from_guest(0x1_0001u32),
            Err(Errno::Inval),
            "past the 16 bits"
        );
        assert_eq!(LookupFlags::from_guest(2u32), Err(Errno::Inval));
        assert_eq!(Rights::KNOWN, (1 << 30) - 1);
    }

    #[test]
    fn fields_stand_at_the_offsets_of_the_specification() {
        let stat = Filestat {
            dev: 1,
            ino: 2,
            filetype: FileType::RegularFile,
            nlink: 3,
            size: 4,
            atim: 5,
            mtim: 6,
            ctim: 7,
        };
        let bytes = stat.to_bytes();
        for (at, value) in [
            (0, 1),
            (8, 2),
            (16, 4),
            (24, 3),
            (32, 4),
            (40, 5),
            (48, 6),
            (56, 7),
        ] {
            assert_eq!(memory::read_u64(&bytes, at), Ok(value), "offset {at}");
        }

        let bytes = dirent(9, 8, 7, FileType::Directory);
        assert_eq!(memory::read_u64(&bytes, 0), Ok(9));
        assert_eq!(memory::read_u64(&bytes, 8), Ok(8));
        assert_eq!(memory::read_u32(&bytes, 16), Ok(7));
        assert_eq!(bytes[20], 3);

        let event = Event {
            userdata: 1,
            error: Some(Errno::Badf),
            tag: 2,
            nbytes: 3,
            hangup: true,
        };
        let bytes = event.to_bytes();
        assert_eq!(memory::read_u64(&bytes, 0), Ok(1));
        assert_eq!(memory::read_u16(&bytes, 8), Ok(8));
        assert_eq!(bytes[10], 2);
        assert_eq!(memory::read_u64(&bytes, 16), Ok(3));
        assert_eq!(memory::read_u16(&bytes, 24), Ok(1));
    }

    #[test]
    fn a_subscription_with_an_unknown_tag_or_flag_is_refused() {
        let mut bytes = [0u8; 48];
        assert!(Subscription::read(&bytes, 0).is_ok());
        bytes[40] = 2;
        assert_eq!(Subscription::read(&bytes, 0).unwrap_err(), Errno::Inval);
        bytes[40] = 0;
        bytes[8] = 3;
        assert_eq!(Subscription::read(&bytes, 0).unwrap_err(), Errno::Inval);
        assert_eq!(Subscription::read(&bytes, 1).unwrap_err(), Errno::Fault);
    }
}
