//! `fd_readdir`: the entries of a directory, as many as the guest's buffer holds, the last one cut
//! where the buffer ends. A buffer that is not filled to the brim means the end.
//!
//! A cookie is a position in the listing. The listing is read when a guest begins at cookie 0 and
//! kept with the descriptor, so that a guest that removes what it lists misses nothing and sees
//! nothing twice; `.` and `..` come first.

use crate::ctx::WasiCtx;
use crate::errno::Errno;
use crate::fd_table::{OpenDir, Target};
use crate::p1::layout::{FileType, Rights, dirent};
use crate::p1::memory::{self, Memory};
use rustix::fs::{AtFlags, Dir as HostDir, Mode, OFlags, fstat, openat, statat};

/// One entry of a listing.
#[derive(Debug)]
pub(crate) struct Entry {
    name: Box<str>,
    ino: u64,
    filetype: FileType,
}

pub(crate) fn fd_readdir(
    ctx: &mut WasiCtx,
    bytes: &mut dyn Memory,
    fd: u32,
    buf: u32,
    buf_len: u32,
    cookie: u64,
    bufused: u32,
) -> Result<(), Errno> {
    memory::range(bytes, bufused, 4)?;
    let descriptor = ctx.fds.get_mut(fd)?;
    if !matches!(descriptor.target, Target::Dir(_)) {
        return Err(Errno::Notdir);
    }
    descriptor.require(Rights::FD_READDIR)?;
    let Target::Dir(open) = &mut descriptor.target else {
        return Err(Errno::Notdir);
    };
    let room = memory::range(bytes, buf, buf_len.into())?.len();
    if cookie == 0 || open.listing.is_none() {
        open.listing = Some(list(open)?);
    }
    let listing = open.listing.as_deref().unwrap_or_default();
    let first = usize::try_from(cookie)
        .unwrap_or(usize::MAX)
        .min(listing.len());
    let out = fill(room, &listing[first..], first as u64);
    memory::write(bytes, buf, &out)?;
    // At most the buffer's length, which came as 32 bits.
    memory::write_u32(bytes, bufused, out.len() as u32)
}

/// The bytes of entries, the first of which has position `at`, up to the length of the guest's buffer.
fn fill(room: usize, entries: &[Entry], at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (next, entry) in (at + 1..).zip(entries) {
        // Host names have at most 255 bytes, 765 once invalid ones are replaced.
        let head = dirent(next, entry.ino, entry.name.len() as u32, entry.filetype);
        for part in [&head[..], entry.name.as_bytes()] {
            let len = part.len().min(room - out.len());
            out.extend_from_slice(&part[..len]);
        }
        if out.len() == room {
            break;
        }
    }
    out
}

/// Reads the whole directory. Names that are not UTF-8 are listed with their bad bytes replaced:
/// the guest sees that something is there, though it can't name it.
fn list(open: &OpenDir) -> Result<Vec<Entry>, Errno> {
    let own = fstat(&open.dir)?.st_ino;
    // The parent may lie outside of what the guest may see, so it gets the directory's own number.
    // Not 0: libc takes that as "unknown" and asks for `..`, which a preopened directory refuses.
    let dots = [".", ".."].map(|name| Entry {
        name: name.into(),
        ino: own,
        filetype: FileType::Directory,
    });
    let mut listing = Vec::from(dots);
    // Opened anew, so that the position is its own and what was opened only to be searched is refused.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host = openat(&open.dir, c".", flags, Mode::empty())?;
    for entry in HostDir::new(host)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let filetype = match entry.file_type() {
            // Some file systems don't say; the entry may be gone by now, which is no error either.
            rustix::fs::FileType::Unknown => {
                match statat(&open.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => rustix::fs::FileType::from_raw_mode(stat.st_mode).into(),
                    Err(_) => FileType::Unknown,
                }
            }
            known => known.into(),
        };
        let name = String::from_utf8_lossy(name.to_bytes()).into();
        listing.push(Entry {
            name,
            ino: entry.ino(),
            filetype,
        });
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p1::harness::Guest;
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStrExt;

    /// Lists descriptor 3 the way libc does: through a buffer of `buf_len` bytes, taking whole
    /// entries and going on from the cookie of the last.
    fn list_through(guest: &mut Guest, buf_len: u32) -> Vec<(String, u8)> {
        let (buf, used_at) = (1024, 0);
        let mut cookie = 0;
        let mut found = Vec::new();
        loop {
            fd_readdir(
                &mut guest.ctx,
                &mut guest.bytes,
                3,
                buf,
                buf_len,
                cookie,
                used_at,
            )
            .unwrap();
            let used = memory::read_u32(&guest.bytes, used_at).unwrap();
            let mut at = 0;
            let before = found.len();
            while at + 24 <= used {
                let entry = buf + at;
                let name_len = memory::read_u32(&guest.bytes, entry + 16).unwrap();
                if at + 24 + name_len > used {
                    break;
                }
                let name = memory::copy(&guest.bytes, entry + 24, name_len).unwrap();
                let filetype = memory::read_u8(&guest.bytes, entry + 20).unwrap();
                found.push((String::from_utf8(name.to_vec()).unwrap(), filetype));
                cookie = memory::read_u64(&guest.bytes, entry).unwrap();
                at += 24 + name_len;
            }
            if used < buf_len {
                return found;
            }
            assert!(
                found.len() > before,
                "a buffer of {buf_len} bytes makes no progress"
            );
        }
    }

    fn populated() -> Guest {
        let guest = Guest::new();
        guest.host_write("one", "1");
        guest.host_write("a-rather-long-name-for-a-file", "2");
        std::fs::create_dir(guest.host("sub")).unwrap();
        std::os::unix::fs::symlink("one", guest.host("link")).unwrap();
        guest
    }

    #[test]
    fn small_buffers_see_what_large_ones_see() {
        let mut guest = populated();
        let whole = list_through(&mut guest, 8192);
        assert_eq!(whole[0], (".".to_owned(), 3));
        assert_eq!(whole[1], ("..".to_owned(), 3));
        let by_name: BTreeMap<_, _> = whole.iter().cloned().collect();
        assert_eq!(by_name["one"], 4);
        assert_eq!(by_name["sub"], 3);
        assert_eq!(by_name["link"], 7);
        assert_eq!(by_name.len(), 6);
        for buf_len in [53, 54, 64, 100, 150] {
            assert_eq!(
                list_through(&mut guest, buf_len),
                whole,
                "through {buf_len} bytes"
            );
        }
    }

    #[test]
    fn an_entry_that_does_not_fit_is_cut_where_the_buffer_ends() {
        let mut guest = populated();
        let mut read = |len, cookie| {
            guest.bytes[1024..1124].fill(0xee);
            fd_readdir(&mut guest.ctx, &mut guest.bytes, 3, 1024, len, cookie, 0).unwrap();
            let used = memory::read_u32(&guest.bytes, 0).unwrap();
            (used, guest.bytes[1024..1124].to_vec())
        };
        let (used, whole) = read(100, 0);
        assert_eq!(used, 100, "four entries and more do not fit in 100 bytes");
        for len in [0, 1, 23, 24, 25, 40, 50, 52] {
            let (used, cut) = read(len, 0);
            assert_eq!(used, len, "filled to the brim");
            let len = len as usize;
            assert_eq!(cut[..len], whole[..len]);
            assert!(
                cut[len..].iter().all(|byte| *byte == 0xee),
                "nothing past the buffer"
            );
        }
        let (used, _) = read(100, 6);
        assert_eq!(used, 0, "nothing after the last");
        let (used, _) = read(100, u64::MAX);
        assert_eq!(used, 0, "nor after a cookie that was never given");
    }

    #[test]
    fn a_listing_stays_as_it_was_until_begun_anew() {
        let mut guest = populated();
        let whole = list_through(&mut guest, 8192);
        std::fs::remove_file(guest.host("one")).unwrap();
        fd_readdir(&mut guest.ctx, &mut guest.bytes, 3, 1024, 8192, 2, 0).unwrap();
        let rest: u32 = whole[2..]
            .iter()
            .map(|(name, _)| 24 + name.len() as u32)
            .sum();
        assert_eq!(memory::read_u32(&guest.bytes, 0), Ok(rest));
        assert_eq!(list_through(&mut guest, 8192).len(), 5);
    }

    #[test]
    fn a_listing_can_begin_in_the_middle() {
        let mut guest = populated();
        fd_readdir(&mut guest.ctx, &mut guest.bytes, 3, 1024, 8192, 1, 0).unwrap();
        let name = memory::copy(&guest.bytes, 1024 + 24, 2).unwrap();
        assert_eq!(name, b"..");
    }

    #[test]
    fn names_that_are_not_utf8_are_shown_as_far_as_they_are() {
        let mut guest = Guest::new();
        let odd = std::ffi::OsStr::from_bytes(b"a\xffb");
        std::fs::write(guest.host(odd), "").unwrap();
        assert_eq!(list_through(&mut guest, 256)[2].0, "a\u{fffd}b");
    }

    #[test]
    fn only_directories_are_listed_and_only_into_memory() {
        let mut guest = populated();
        let bytes = &mut guest.bytes;
        assert_eq!(
            fd_readdir(&mut guest.ctx, bytes, 1, 0, 64, 0, 0),
            Err(Errno::Notdir)
        );
        assert_eq!(
            fd_readdir(&mut guest.ctx, bytes, 9, 0, 64, 0, 0),
            Err(Errno::Badf)
        );
        let end = bytes.len() as u32;
        assert_eq!(
            fd_readdir(&mut guest.ctx, bytes, 3, end - 8, 9, 0, 0),
            Err(Errno::Fault)
        );
        assert_eq!(
            fd_readdir(&mut guest.ctx, bytes, 3, 0, u32::MAX, 0, 0),
            Err(Errno::Fault)
        );
        assert_eq!(
            fd_readdir(&mut guest.ctx, bytes, 3, 0, 64, 0, end - 3),
            Err(Errno::Fault)
        );
    }
}
