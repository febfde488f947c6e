//! The file that a command works on: read whole, except for an artifact, which is mapped where it
//! lies.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use selvedge::{Engine, Module, Source};

use crate::load;
use crate::report::{Failure, FileName};

/// How `stdin` is written as a file name.
const STDIN: &str = "-";
/// Bytes that tell an artifact from everything else.
const HEAD_LEN: u64 = 4;

/// A file that was opened.
pub(super) struct Input {
    name: FileName,
    /// The beginning, and all of it once `rest` was read.
    bytes: Vec<u8>,
    rest: Option<Box<dyn Read>>,
}

impl Input {
    /// Opens a file, or stdin if it is `-`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (name, mut reader): (_, Box<dyn Read>) = if path == Path::new(STDIN) {
            (FileName::Stdin, Box::new(io::stdin().lock()))
        } else {
            let name = FileName::Path(path.to_owned());
            match File::open(path) {
                Ok(file) => (name, Box::new(file)),
                Err(source) => return Err(Failure::Read { file: name, source }),
            }
        };
        let mut bytes = Vec::new();
        let head = reader.by_ref().take(HEAD_LEN).read_to_end(&mut bytes);
        head.map_err(|source| unreadable(&name, source))?;
        Ok(Self {
            name,
            bytes,
            rest: Some(reader),
        })
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &FileName {
        &self.name
    }

    /// Its path, if it has one.
    pub(super) fn path(&self) -> Option<&PathBuf> {
        match &self.name {
            FileName::Path(path) => Some(path),
            FileName::Stdin => None,
        }
    }

    /// Whether it is, or claims to be, an artifact.
    pub(super) fn is_artifact(&self) -> bool {
        matches!(Source::of(&self.bytes), Ok(Source::Artifact))
    }

    /// All of its contents.
    pub(super) fn bytes(&mut self) -> Result<&[u8], Failure> {
        if let Some(mut rest) = self.rest.take() {
            let read = rest.read_to_end(&mut self.bytes);
            read.map_err(|source| unreadable(&self.name, source))?;
        }
        Ok(&self.bytes)
    }

    /// Makes it ready to run: compiles a module, loads an artifact.
    pub(super) fn into_module(mut self, engine: &Engine) -> Result<Module, Failure> {
        let name = self.name.clone();
        let module = match (self.is_artifact(), self.path()) {
            (true, Some(path)) => load::file(engine, path).map_err(selvedge::Error::from),
            (true, None) => load::bytes(engine, self.bytes()?).map_err(selvedge::Error::from),
            (false, _) => engine.compile(self.bytes()?),
        };
        module.map_err(|error| refused(&name, error))
    }
}

/// The failure to be told of an input that was refused.
pub(super) fn refused(name: &FileName, error: selvedge::Error) -> Failure {
    let error = match name {
        FileName::Path(path) => error.in_file(path),
        FileName::Stdin => error.in_file("stdin"),
    };
    match error {
        selvedge::Error::Text(_) => Failure::Text(Box::new(error)),
        _ => Failure::Module {
            file: name.clone(),
            source: Box::new(error),
        },
    }
}

fn unreadable(name: &FileName, source: io::Error) -> Failure {
    match source.kind() {
        io::ErrorKind::IsADirectory => Failure::IsDirectory(name.clone()),
        _ => Failure::Read {
            file: name.clone(),
            source,
        },
    }
}
