//! `selvedge compile`: a module to an artifact in a file.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::args::CompileArgs;
use crate::commands::input::{self, Input};
use crate::exit_code::ExitCode;
use crate::report::{self, Failure};

/// The ending of artifacts.
const ENDING: &str = "sva";

pub(super) fn run(args: &CompileArgs) -> Result<ExitCode, Failure> {
    let engine = super::engine(&args.compiler, args.count_fuel)?;
    let mut input = Input::open(&args.file)?;
    let name = input.name().clone();
    if input.is_artifact() {
        return Err(input::refused(&name, selvedge::Error::AlreadyCompiled));
    }
    let out = output(args, input.path())?;
    let started = Instant::now();
    let artifact = engine
        .precompile(input.bytes()?)
        .map_err(|error| input::refused(&name, error))?;
    let time = started.elapsed();
    write(&out, &artifact).map_err(|source| Failure::Write {
        path: out.clone(),
        source,
    })?;
    report::compiled(&out, artifact.len(), time);
    Ok(ExitCode::Success)
}

/// Where the artifact goes.
fn output(args: &CompileArgs, input: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let out = match (&args.output, input) {
        (Some(out), _) => out.clone(),
        (None, Some(input)) => input.with_extension(ENDING),
        (None, None) => return Err(Failure::NoOutputName),
    };
    check_output(&out, input)?;
    Ok(out)
}

/// Checks that the output is not the input.
pub(super) fn check_output(out: &Path, input: Option<&PathBuf>) -> Result<(), Failure> {
    let same =
        |input| fs::canonicalize(input).is_ok_and(|i| fs::canonicalize(out).is_ok_and(|o| o == i));
    if input.is_some_and(same) {
        return Err(Failure::OutputIsInput(out.to_owned()));
    }
    Ok(())
}

/// Writes a file so that nobody ever sees half of it: a process that has the old one mapped keeps it,
/// and one that opens it finds the old or the new one. What is no file (a device, a pipe) is written
/// to directly; links are followed.
pub(super) fn write(out: &Path, bytes: &[u8]) -> io::Result<()> {
    let out = match fs::canonicalize(out) {
        Ok(out) => out,
        Err(error) if error.kind() == io::ErrorKind::NotFound => out.to_owned(),
        Err(error) => return Err(error),
    };
    match fs::metadata(&out) {
        Ok(metadata) if !metadata.is_file() => return fs::write(&out, bytes),
        _ => {}
    }
    let temporary = temporary_beside(&out);
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &out));
    if written.is_err() {
        // The first error is the one to tell; a file that was never made can't be removed.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name in the same folder that no other process uses.
fn temporary_beside(out: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    out.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temporary_file_lies_beside_the_output() {
        let temporary = temporary_beside(Path::new("/a/b.sva"));
        assert_eq!(temporary.parent(), Some(Path::new("/a")));
        assert_eq!(
            temporary_beside(Path::new("b.sva")).parent(),
            Some(Path::new(""))
        );
    }
}
