//! Runs the built binary and keeps what it said; files for it to work on.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Checks that it ended well, silent on stderr, with this on stdout.
    #[track_caller]
    pub(crate) fn prints(&self, stdout: &str) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stdout, stdout, "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
    }

    /// Checks that it ended with this code, silent on stdout, with one error that says all this.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert_eq!(self.stderr.matches("error:").count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for part in says {
            assert!(self.stderr.contains(part), "{part:?} is not in {self:?}");
        }
    }
}

/// The binary, with an environment that holds nothing of the test's own.
pub(crate) fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn selvedge<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    Run::of(command(args).output().unwrap())
}

/// Runs it to its end with this on its standard input.
pub(crate) fn selvedge_with_stdin<A: AsRef<OsStr>>(
    args: impl IntoIterator<Item = A>,
    stdin: &[u8],
) -> Run {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&stdin));
    let run = Run::of(child.wait_with_output().unwrap());
    // A program that ends without reading all of its input is not this writer's concern.
    let _ = writer.join().unwrap();
    run
}

/// Runs it with a standard output that nobody reads any more.
pub(crate) fn selvedge_with_closed_stdout<A: AsRef<OsStr>>(
    args: impl IntoIterator<Item = A>,
) -> Run {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command(args)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Run::of(child.wait_with_output().unwrap())
}

/// A guest of `tests/guests`.
pub(crate) fn guest(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/guests")
        .join(name)
}

/// The guest that says hello.
pub(crate) fn hello_wat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/hello.wat")
}

/// A folder that goes away with the test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file into it.
    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// Names of what is in it, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}
