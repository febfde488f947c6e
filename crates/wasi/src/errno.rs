//! Error numbers of preview 1: one table that gives each its number, its name, and the host errors
//! that become it. Not here: what an embedder is told (`error.rs`); a guest sees only these.

use rustix::io::Errno as Host;
use std::fmt;
use std::io;

/// Generates [`Errno`] and both directions of translation from the rows of the one table.
/// A row: number, variant, name, meaning, and the host errors that become it.
macro_rules! errno_table {
    ($($number:literal $variant:ident $name:literal $meaning:literal [$($host:ident),*])*) => {
        /// Why a preview 1 function did not do what it was asked. Success (0) is not among them:
        /// the functions return `Result<(), Errno>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Errno {
            $(#[doc = $meaning] $variant = $number,)*
        }

        impl Errno {
            /// Every error number, in order.
            pub const ALL: &'static [Errno] = &[$(Errno::$variant),*];

            /// The name in the specification, in upper case and without the leading `E`.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$variant => $name,)* }
            }

            /// What it means, for messages.
            pub const fn meaning(self) -> &'static str {
                match self { $(Errno::$variant => $meaning,)* }
            }

            /// What a guest is told of an error of the host's kernel. A host error that preview 1
            /// has no number for becomes [`Errno::Io`].
            fn from_host(host: Host) -> Errno {
                match host {
                    $($(Host::$host => Errno::$variant,)*)*
                    _ => Errno::Io,
                }
            }
        }
    };
}

errno_table! {
     1 TooBig         "2BIG"           "argument list too long"              [TOOBIG]
     2 Acces          "ACCES"          "permission denied"                   [ACCESS]
     3 Addrinuse      "ADDRINUSE"      "address in use"                      [ADDRINUSE]
     4 Addrnotavail   "ADDRNOTAVAIL"   "address not available"               [ADDRNOTAVAIL]
     5 Afnosupport    "AFNOSUPPORT"    "address family not supported"        [AFNOSUPPORT]
     6 Again          "AGAIN"          "not ready, the call would block"     [AGAIN]
     7 Already        "ALREADY"        "connection already being made"       [ALREADY]
     8 Badf           "BADF"           "bad file descriptor"                 [BADF]
     9 Badmsg         "BADMSG"         "bad message"                         [BADMSG]
    10 Busy           "BUSY"           "device or resource busy"             [BUSY]
    11 Canceled       "CANCELED"       "operation cancelled"                 [CANCELED]
    12 Child          "CHILD"          "no child process"                    [CHILD]
    13 Connaborted    "CONNABORTED"    "connection aborted"                  [CONNABORTED]
    14 Connrefused    "CONNREFUSED"    "connection refused"                  [CONNREFUSED]
    15 Connreset      "CONNRESET"      "connection reset"                    [CONNRESET]
    16 Deadlk         "DEADLK"         "a deadlock would result"             [DEADLK]
    17 Destaddrreq    "DESTADDRREQ"    "destination address required"        [DESTADDRREQ]
    18 Dom            "DOM"            "argument outside the domain"         [DOM]
    19 Dquot          "DQUOT"          "disk quota exceeded"                 [DQUOT]
    20 Exist          "EXIST"          "file exists"                         [EXIST]
    21 Fault          "FAULT"          "bad address"                         [FAULT]
    22 Fbig           "FBIG"           "file too large"                      [FBIG]
    23 Hostunreach    "HOSTUNREACH"    "host unreachable"                    [HOSTUNREACH]
    24 Idrm           "IDRM"           "identifier removed"                  [IDRM]
    25 Ilseq          "ILSEQ"          "not valid UTF-8"                     [ILSEQ]
    26 Inprogress     "INPROGRESS"     "operation in progress"               [INPROGRESS]
    27 Intr           "INTR"           "interrupted"                         [INTR]
    28 Inval          "INVAL"          "invalid argument"                    [INVAL]
    29 Io             "IO"             "input or output error"               [IO]
    30 Isconn         "ISCONN"         "socket already connected"            [ISCONN]
    31 Isdir          "ISDIR"          "is a directory"                      [ISDIR]
    32 Loop           "LOOP"           "too many symbolic links"             [LOOP]
    33 Mfile          "MFILE"          "too many open descriptors"           [MFILE]
    34 Mlink          "MLINK"          "too many hard links"                 [MLINK]
    35 Msgsize        "MSGSIZE"        "message too large"                   [MSGSIZE]
    36 Multihop       "MULTIHOP"       "multihop attempted"                  [MULTIHOP]
    37 Nametoolong    "NAMETOOLONG"    "name too long"                       [NAMETOOLONG]
    38 Netdown        "NETDOWN"        "network down"                        [NETDOWN]
    39 Netreset       "NETRESET"       "connection aborted by the network"   [NETRESET]
    40 Netunreach     "NETUNREACH"     "network unreachable"                 [NETUNREACH]
    41 Nfile          "NFILE"          "too many open files in the system"   [NFILE]
    42 Nobufs         "NOBUFS"         "no buffer space"                     [NOBUFS]
    43 Nodev          "NODEV"          "no such device"                      [NODEV]
    44 Noent          "NOENT"          "no such file or directory"           [NOENT]
    45 Noexec         "NOEXEC"         "not an executable"                   [NOEXEC]
    46 Nolck          "NOLCK"          "no locks available"                  [NOLCK]
    47 Nolink         "NOLINK"         "link severed"                        [NOLINK]
    48 Nomem          "NOMEM"          "not enough memory"                   [NOMEM]
    49 Nomsg          "NOMSG"          "no message of that type"             [NOMSG]
    50 Noprotoopt     "NOPROTOOPT"     "protocol option not available"       [NOPROTOOPT]
    51 Nospc          "NOSPC"          "no space left on the device"         [NOSPC]
    52 Nosys          "NOSYS"          "function not supported"              [NOSYS]
    53 Notconn        "NOTCONN"        "socket not connected"                [NOTCONN]
    54 Notdir         "NOTDIR"         "not a directory"                     [NOTDIR]
    55 Notempty       "NOTEMPTY"       "directory not empty"                 [NOTEMPTY]
    56 Notrecoverable "NOTRECOVERABLE" "state not recoverable"               [NOTRECOVERABLE]
    57 Notsock        "NOTSOCK"        "not a socket"                        [NOTSOCK]
    58 Notsup         "NOTSUP"         "operation not supported"             [NOTSUP]
    59 Notty          "NOTTY"          "not a terminal"                      [NOTTY]
    60 Nxio           "NXIO"           "no such device or address"           [NXIO]
    61 Overflow       "OVERFLOW"       "value too large for its type"        [OVERFLOW]
    62 Ownerdead      "OWNERDEAD"      "previous owner died"                 [OWNERDEAD]
    63 Perm           "PERM"           "operation not permitted"             [PERM]
    64 Pipe           "PIPE"           "broken pipe"                         [PIPE]
    65 Proto          "PROTO"          "protocol error"                      [PROTO]
    66 Protonosupport "PROTONOSUPPORT" "protocol not supported"              [PROTONOSUPPORT]
    67 Prototype      "PROTOTYPE"      "wrong protocol for the socket"       [PROTOTYPE]
    68 Range          "RANGE"          "result too large"                    [RANGE]
    69 Rofs           "ROFS"           "read-only file system"               [ROFS]
    70 Spipe          "SPIPE"          "cannot seek"                         [SPIPE]
    71 Srch           "SRCH"           "no such process"                     [SRCH]
    72 Stale          "STALE"          "stale file handle"                   [STALE]
    73 Timedout       "TIMEDOUT"       "timed out"                           [TIMEDOUT]
    74 Txtbsy         "TXTBSY"         "text file busy"                      [TXTBSY]
    75 Xdev           "XDEV"           "link across devices"                 [XDEV]
    76 Notcapable     "NOTCAPABLE"     "the descriptor lacks the right"      []
}

impl Errno {
    /// The number a guest gets.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.meaning(), self.name())
    }
}

impl std::error::Error for Errno {}

impl From<Host> for Errno {
    fn from(host: Host) -> Errno {
        if host == Host::OPNOTSUPP {
            // Linux gives ENOTSUP and EOPNOTSUPP one number; elsewhere they are two.
            return Errno::Notsup;
        }
        Errno::from_host(host)
    }
}

impl From<io::Error> for Errno {
    /// Errors of the kernel go through the table. Those that `cap-std` makes itself have no kernel
    /// number, only a kind: its refusal to leave a directory is `PermissionDenied`.
    fn from(error: io::Error) -> Errno {
        if let Some(host) = Host::from_io_error(&error) {
            return host.into();
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => Errno::Perm,
            io::ErrorKind::NotFound => Errno::Noent,
            io::ErrorKind::AlreadyExists => Errno::Exist,
            io::ErrorKind::InvalidInput => Errno::Inval,
            io::ErrorKind::InvalidData => Errno::Ilseq,
            io::ErrorKind::NotADirectory => Errno::Notdir,
            io::ErrorKind::IsADirectory => Errno::Isdir,
            io::ErrorKind::Unsupported => Errno::Notsup,
            io::ErrorKind::BrokenPipe => Errno::Pipe,
            io::ErrorKind::WouldBlock => Errno::Again,
            _ => Errno::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_specification_without_gaps() {
        assert_eq!(Errno::ALL.len(), 76);
        for (idx, errno) in Errno::ALL.iter().enumerate() {
            assert_eq!(usize::from(errno.number()), idx + 1, "{}", errno.name());
        }
        // Spot checks against the numbers that libc headers of guests carry.
        assert_eq!(Errno::Badf.number(), 8);
        assert_eq!(Errno::Inval.number(), 28);
        assert_eq!(Errno::Noent.number(), 44);
        assert_eq!(Errno::Nosys.number(), 52);
        assert_eq!(Errno::Notcapable.number(), 76);
    }

    #[test]
    fn names_are_the_variants_in_upper_case() {
        for errno in Errno::ALL {
            if *errno != Errno::TooBig {
                assert_eq!(format!("{errno:?}").to_uppercase(), errno.name());
            }
        }
    }

    #[test]
    fn host_errors_keep_their_meaning() {
        assert_eq!(Errno::from(Host::NOENT), Errno::Noent);
        assert_eq!(Errno::from(Host::ACCESS), Errno::Acces);
        assert_eq!(Errno::from(Host::OPNOTSUPP), Errno::Notsup);
        assert_eq!(Errno::from(Host::WOULDBLOCK), Errno::Again);
        assert_eq!(
            Errno::from(Host::NOMEDIUM),
            Errno::Io,
            "no number of its own"
        );
        assert_eq!(
            Errno::from(io::Error::from(Host::NOTEMPTY)),
            Errno::Notempty
        );
    }

    #[test]
    fn errors_without_a_kernel_number_go_by_their_kind() {
        let escape = io::Error::new(io::ErrorKind::PermissionDenied, "outside");
        assert_eq!(Errno::from(escape), Errno::Perm);
        let odd = io::Error::other("something else");
        assert_eq!(Errno::from(odd), Errno::Io);
    }
}
