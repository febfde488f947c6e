//! Paths as guests give them. A path is relative to a directory descriptor; what it may reach is
//! decided by `cap-std`, which resolves each with the kernel's help (`openat2`) so that neither `..`
//! nor a symbolic link leads out. Here a path is only taken from guest memory and refused early
//! where it could never be right.

use crate::errno::Errno;
use crate::p1::memory::{self, Memory};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path the kernel takes, its final NUL included.
const PATH_MAX: u32 = 4096;

/// Takes a path from guest memory. Not in the memory: `EFAULT`. Too long: `ENAMETOOLONG`. Not
/// UTF-8: `EILSEQ`. With a NUL inside: `EINVAL`. Empty: `ENOENT`. Absolute: `EPERM`, as an escape
/// is, since there is nothing that it could be absolute in.
pub(crate) fn from_guest(bytes: &dyn Memory, addr: u32, len: u32) -> Result<PathBuf, Errno> {
    memory::range(bytes, addr, len.into())?;
    if len >= PATH_MAX {
        return Err(Errno::Nametoolong);
    }
    // A copy is checked: the guest may change what it has given meanwhile.
    let text = String::from_utf8(memory::copy(bytes, addr, len)?).map_err(|_| Errno::Ilseq)?;
    if text.contains('\0') {
        return Err(Errno::Inval);
    }
    if text.is_empty() {
        return Err(Errno::Noent);
    }
    let path = PathBuf::from(text);
    if path.has_root() {
        return Err(Errno::Perm);
    }
    Ok(path)
}

/// Whether it ends in a slash. By POSIX such a path names a directory, and a symbolic link at its
/// end is followed whatever the flags say.
pub(crate) fn names_dir(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// Without the slashes at its end, for calls that take only directories anyway.
pub(crate) fn without_slashes(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_bytes();
    let len = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    Path::new(OsStr::from_bytes(&bytes[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bytes: &[u8]) -> Result<PathBuf, Errno> {
        from_guest(&bytes.to_vec(), 0, u32::try_from(bytes.len()).unwrap())
    }

    #[test]
    fn paths_that_could_never_be_right_are_refused() {
        assert_eq!(take(b""), Err(Errno::Noent));
        assert_eq!(take(b"a\0b"), Err(Errno::Inval));
        assert_eq!(
            take(b"a\0"),
            Err(Errno::Inval),
            "the length counts, not a final NUL"
        );
        assert_eq!(take(b"a\xffb"), Err(Errno::Ilseq));
        assert_eq!(take(b"/etc/passwd"), Err(Errno::Perm));
        assert_eq!(take(b"/"), Err(Errno::Perm));
        assert_eq!(take(&[b'a'; 4096]), Err(Errno::Nametoolong));
        assert_eq!(from_guest(&b"abc".to_vec(), 1, 3), Err(Errno::Fault));
        assert_eq!(
            from_guest(&b"abc".to_vec(), u32::MAX, u32::MAX),
            Err(Errno::Fault)
        );
    }

    #[test]
    fn others_pass_as_they_are() {
        assert_eq!(take(b"a/../b/"), Ok(PathBuf::from("a/../b/")));
        assert_eq!(
            take("naïve/日本".as_bytes()),
            Ok(PathBuf::from("naïve/日本"))
        );
    }

    #[test]
    fn slashes_at_the_end_are_told_and_taken_off() {
        assert!(names_dir(Path::new("a//")) && !names_dir(Path::new("a/b")));
        assert_eq!(without_slashes(Path::new("a/b//")).as_os_str(), "a/b");
        assert_eq!(without_slashes(Path::new("a")).as_os_str(), "a");
    }
}
