//! Everything that the commands tell the user: what went wrong, where, and what to do next. Messages
//! go to stderr; results go to stdout and are not written here.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use selvedge::{
    ArtifactError, CompileError, ExternType, FuncType, Proposal, RuntimeError, ValType,
    WasmBacktrace,
};
use thiserror::Error;

use crate::commands::supervise::Why;
use crate::exit_code::ExitCode;

/// Functions that a message lists at most.
const LISTED: usize = 20;

/// Why a command did not do what it was asked to.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The input could not be read.
    #[error("cannot read {file}: {source}")]
    Read { file: FileName, source: io::Error },
    /// The input is a directory.
    #[error("{0} is a directory, not a module")]
    IsDirectory(FileName),
    /// The input was refused.
    #[error("{file}: {source}")]
    Module {
        file: FileName,
        source: Box<selvedge::Error>,
    },
    /// The text of a module has a mistake; the message shows file and line.
    #[error("{0}")]
    Text(Box<selvedge::Error>),
    /// An import that neither WASI nor a flag provides.
    #[error("{file} imports {module:?} {name:?}, a {ty}, which nothing provides")]
    UnknownImport {
        file: FileName,
        module: String,
        name: String,
        ty: Box<ExternType>,
        no_wasi: bool,
    },
    /// There is nothing to call.
    #[error("{file} exports no function `_start` of type () -> (), so there is nothing to run")]
    NoStart {
        file: FileName,
        funcs: Vec<(String, FuncType)>,
    },
    /// `--invoke` names nothing.
    #[error("{file} exports no function `{name}`")]
    NoSuchExport {
        file: FileName,
        name: String,
        funcs: Vec<(String, FuncType)>,
    },
    /// `--invoke` names something that can't be called.
    #[error("the export {name:?} of {file} is a {ty}; only functions can be called")]
    NotAFunction {
        file: FileName,
        name: String,
        ty: Box<ExternType>,
    },
    /// Too few or too many arguments behind `--invoke`.
    #[error("the function `{name}` is a {ty}: it takes {} arguments, not {found}", ty.params.len())]
    ArgumentCount {
        name: String,
        ty: FuncType,
        found: usize,
    },
    /// An argument that is no value of its type.
    #[error("{text:?} cannot be argument {position} of `{name}`, which is of type {ty}: {reason}")]
    Argument {
        name: String,
        position: usize,
        text: String,
        ty: ValType,
        reason: &'static str,
    },
    /// What the guest is to be given can't be given.
    #[error(transparent)]
    Wasi(#[from] selvedge::wasi::Error),
    /// The module needs more than the flags allow.
    #[error("the module needs {needed} {what}, and may have {given}")]
    Limits {
        what: &'static str,
        needed: u64,
        given: u64,
        knob: &'static str,
    },
    /// The limits make no sense.
    #[error("the limits cannot be used: {}", with_flags(.0))]
    InvalidLimits(String),
    /// The engine could not be made, or the instance.
    #[error(transparent)]
    Engine(#[from] selvedge::Error),
    /// The guest trapped.
    #[error("{0}")]
    Trap(Box<dyn std::error::Error>),
    /// The guest trapped, and its core dump could not be written.
    #[error("{trap}\ncannot write the core dump {}: {source}", path.display())]
    CoreDump {
        trap: String,
        path: PathBuf,
        source: io::Error,
    },
    /// The guest was ended from outside.
    #[error("{}", stopped(*.why, .backtrace.as_deref()))]
    Stopped {
        why: Why,
        backtrace: Option<Box<WasmBacktrace>>,
    },
    /// Ctrl-C could not be caught.
    #[error("cannot catch Ctrl-C: {0}")]
    Signals(io::Error),
    /// A call did not come back, and not because of the guest.
    #[error(transparent)]
    Run(#[from] RuntimeError),
    /// Standard input has no name to derive another from.
    #[error("a module from stdin has no name to write the artifact under")]
    NoOutputName,
    /// The output is the input.
    #[error("{} is the module itself, and would be lost", .0.display())]
    OutputIsInput(PathBuf),
    /// The output could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Results could not be written to stdout.
    #[error("cannot write to stdout: {0}")]
    Stdout(io::Error),
    /// `inspect --asm` of an artifact.
    #[error("{0} is an artifact: the code generator's text can only be shown of a module")]
    DumpOfArtifact(FileName),
    /// A script that is no text.
    #[error("{file} is not text: its byte {at} is not UTF-8")]
    NotText { file: FileName, at: usize },
    /// A script that can't be run at all.
    #[error("{0}")]
    Script(selvedge_wast::Error),
    /// A snapshot of a guest that has ended itself.
    #[error("the guest exited with code {0} before its state could be taken")]
    ExitedBeforeSnapshot(i32),
    /// A snapshot of a guest that holds files open.
    #[error("the guest has opened, closed or renumbered files, which its snapshot would not have")]
    OpenFiles,
    /// A snapshot that can't be taken.
    #[error("cannot take a snapshot: {0}")]
    Snapshot(RuntimeError),
    /// `snapshot` of what has no initialization.
    #[error(
        "{file} has no start function and exports no `_initialize`, so there is nothing to run first"
    )]
    NothingToRunFirst {
        file: FileName,
        funcs: Vec<(String, FuncType)>,
    },
    /// A snapshot that knows other directories.
    #[error("the snapshot was taken with other directories: {}", directories(.0))]
    OtherDirectories(Vec<String>),
    /// Flags that contradict each other.
    #[error("the proposal {0} is turned off, but one that is turned on needs it")]
    ProposalNeeded(Proposal),
    /// `validate` of an artifact.
    #[error(
        "{0} is an artifact: it was valid when it was compiled, and there is no module in it to check"
    )]
    ValidateArtifact(FileName),
}

/// A file as messages name it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum FileName {
    /// A path.
    #[error("`{}`", .0.display())]
    Path(PathBuf),
    /// Standard input.
    #[error("stdin")]
    Stdin,
}

impl FileName {
    /// The name as it was given.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stdin => "stdin".to_owned(),
        }
    }
}

impl Failure {
    /// The guest was ended from outside, and stood there.
    pub(crate) fn stopped(why: Why, backtrace: Option<WasmBacktrace>) -> Self {
        Self::Stopped {
            why,
            backtrace: backtrace.map(Box::new),
        }
    }

    /// With what code the process ends.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Trap(_) | Self::CoreDump { .. } => ExitCode::Trap,
            Self::Stopped { why, .. } => match why {
                Why::TimedOut(_) => ExitCode::TimedOut,
                Why::Interrupted => ExitCode::Interrupted,
            },
            _ => ExitCode::Failure,
        }
    }

    /// What to do next, where the message does not say it.
    fn help(&self) -> Option<String> {
        match self {
            Self::UnknownImport {
                module,
                no_wasi: true,
                ..
            } if module.starts_with("wasi_") => {
                Some("WASI provides it: leave out `--no-wasi`".to_owned())
            }
            Self::UnknownImport { ty, .. } if matches!(**ty, ExternType::Func(_)) => Some(
                "with `--unknown-imports-trap` the program runs until it calls this".to_owned(),
            ),
            Self::UnknownImport { .. } => Some(
                "only functions can be missing: embed Selvedge in a program that provides it"
                    .to_owned(),
            ),
            Self::NoStart { funcs, .. } if funcs.is_empty() => {
                Some("it exports no functions at all".to_owned())
            }
            Self::NoStart { funcs, .. } => Some(format!(
                "call a function with `--invoke`; it exports{}",
                list(funcs)
            )),
            Self::NothingToRunFirst { funcs, .. } if !funcs.is_empty() => Some(format!(
                "name a function with `--after`; it exports{}",
                list(funcs)
            )),
            Self::NothingToRunFirst { .. } => Some("it exports no functions at all".to_owned()),
            Self::OpenFiles => Some(
                "have the initialization close what it opens, or name an earlier function with `--after`"
                    .to_owned(),
            ),
            Self::OtherDirectories(known) => {
                let flags = known.iter().map(|dir| format!(" --dir HOST::{dir}"));
                Some(format!(
                    "give the guest directories of these names in this order:{}",
                    flags.collect::<String>()
                ))
            }
            Self::NoSuchExport { funcs, .. } if funcs.is_empty() => {
                Some("it exports no functions at all".to_owned())
            }
            Self::NoSuchExport { funcs, .. } => Some(format!("it exports{}", list(funcs))),
            Self::Limits { knob, .. } => limit_flag(knob).map(|flag| format!("raise `{flag}`")),
            Self::NoOutputName | Self::OutputIsInput(_) => {
                Some("name another file with `--output`".to_owned())
            }
            Self::DumpOfArtifact(_) => Some(
                "give the module it was compiled from, or use `objdump -d` on the artifact"
                    .to_owned(),
            ),
            Self::ProposalNeeded(proposal) => Some(format!(
                "leave out `--disable {proposal}` or the `--enable` that needs it"
            )),
            Self::Module { source, .. } => match &**source {
                selvedge::Error::Artifact(ArtifactError::OtherTunables { .. })
                | selvedge::Error::Runtime(RuntimeError::Artifact(
                    ArtifactError::OtherTunables { .. },
                )) => Some(
                    "code counts fuel if it was compiled with `--count-fuel`, and then runs with `--fuel` only"
                        .to_owned(),
                ),
                selvedge::Error::Compile(CompileError::Disabled { proposal, .. }) => {
                    Some(format!("`--enable {proposal}` turns it on"))
                }
                _ => None,
            },
            Self::ValidateArtifact(_) => {
                Some("`selvedge inspect` checks and shows an artifact".to_owned())
            }
            _ => None,
        }
    }
}

/// Limits that have a flag of `run`.
const LIMIT_FLAGS: [(&str, &str); 4] = [
    ("total_memory_len", "--max-memory"),
    ("memory64_len", "--max-memory"),
    ("memory_len", "--max-memory"),
    ("stack_len", "--stack-size"),
];

/// The flag of `run` that raises a limit.
fn limit_flag(knob: &str) -> Option<&'static str> {
    LIMIT_FLAGS
        .iter()
        .find(|(name, _)| *name == knob)
        .map(|(_, flag)| *flag)
}

/// A message of the library about limits, with the names that the limits have here.
fn with_flags(message: &str) -> String {
    LIMIT_FLAGS
        .iter()
        .fold(message.to_owned(), |text, (knob, flag)| {
            text.replace(knob, flag)
        })
}

/// Names of directories as a list.
fn directories(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

/// Who ended the guest, and where it stood.
fn stopped(why: Why, backtrace: Option<&WasmBacktrace>) -> String {
    let why = match why {
        Why::TimedOut(time) => format!("the guest was ended: its time, {time:?}, is over"),
        Why::Interrupted => "the guest was ended by Ctrl-C".to_owned(),
    };
    match backtrace {
        Some(backtrace) => format!("{why}\n{backtrace}"),
        None => format!("{why}; it was not in its own code"),
    }
}

/// Functions with their types, a line each.
fn list(funcs: &[(String, FuncType)]) -> String {
    let mut text: String = funcs
        .iter()
        .take(LISTED)
        .map(|(name, ty)| format!("\n  {name}: {ty}"))
        .collect();
    if let Some(more) = funcs.len().checked_sub(LISTED).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}

/// Says why a command failed.
pub(crate) fn failure(failure: &Failure) -> ExitCode {
    line(&format_args!("error: {failure}"));
    if let Some(help) = failure.help() {
        line(&format_args!("help: {help}"));
    }
    failure.exit_code()
}

/// Says which directive of a script failed, as compilers say where an error is.
pub(crate) fn failed_directive(file: &FileName, failure: &selvedge_wast::Failure) {
    line(&format_args!("{}:{failure}", file.plain()));
}

/// Says what was not understood on the command line, or gives the help that was asked for.
pub(crate) fn command_line(answer: &clap::Error) -> ExitCode {
    // Where the answer can't be written there is nobody to read it.
    let _ = answer.print();
    if answer.use_stderr() {
        ExitCode::Usage
    } else {
        ExitCode::Success
    }
}

/// Says what `compile` has written, if somebody watches.
pub(crate) fn compiled(path: &std::path::Path, len: usize, time: Duration) {
    if io::IsTerminal::is_terminal(&io::stderr()) {
        let kib = len.div_ceil(1024);
        let ms = time.as_millis();
        line(&format_args!(
            "wrote {}: {kib} KiB, compiled in {ms} ms",
            path.display()
        ));
    }
}

/// Writes a line to stderr. Where that fails there is nobody left to tell.
fn line(text: &dyn Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        let funcs = |count| -> Vec<_> {
            (0..count)
                .map(|i| (format!("f{i}"), FuncType::default()))
                .collect()
        };
        assert_eq!(list(&funcs(1)), "\n  f0: () -> ()");
        assert!(list(&funcs(LISTED)).ends_with("f19: () -> ()"));
        assert!(list(&funcs(LISTED + 2)).ends_with("and 2 more"));
    }
}
