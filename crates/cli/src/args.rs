//! The command line: every command and flag, its help, and how its value is read. What the
//! commands do is not here but in `commands/`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use selvedge::{Cpu, Proposal};

/// Words that may stand first on the command line without being a file.
const COMMANDS: [&str; 7] = [
    "run", "compile", "snapshot", "validate", "wast", "inspect", "help",
];
/// Flags of `selvedge` itself; any other flag that stands first belongs to `run`.
const TOP_FLAGS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// What stands below the help of `selvedge`.
const EXIT_CODES: &str = "\
`selvedge FILE ...` is short for `selvedge run FILE ...`.

Exit codes:
  the guest's own  it called proc_exit (a code above 255 becomes 255)
  0    success
  1    a file, the module or the system stood in the way; the message says which
  2    the command line was not understood
  124  the guest was ended because its time (--timeout) was over
  130  Ctrl-C ended the guest; a second one ends the process at once
  134  the guest trapped; the trap and a backtrace are on stderr";

/// Run WebAssembly programs, each in a sandbox of its own
#[derive(Debug, Parser)]
#[command(name = "selvedge", bin_name = "selvedge", version, after_help = EXIT_CODES, arg_required_else_help = true)]
#[command(infer_subcommands = false, propagate_version = false)]
pub(crate) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program: a .wasm or .wat file, or what `selvedge compile` wrote
    Run(RunArgs),
    /// Compile a module to native code ahead of time
    Compile(CompileArgs),
    /// Run a program's initialization once, and write what comes of it as a program that begins there
    Snapshot(SnapshotArgs),
    /// Check that modules are valid and use no feature that is not supported
    Validate(ValidateArgs),
    /// Run scripts in the format of the official test suite, and count what passes
    Wast(WastArgs),
    /// Show what is in a module or an artifact
    Inspect(InspectArgs),
}

/// `selvedge run`
#[derive(Debug, Args)]
#[command(
    override_usage = "selvedge run [FLAGS] FILE [ARGS]...\n       selvedge [FLAGS] FILE [ARGS]..."
)]
pub(crate) struct RunArgs {
    /// Call this exported function; ARGS are its arguments, its results are printed
    #[arg(long, value_name = "EXPORT")]
    pub(crate) invoke: Option<String>,

    /// Stop the guest when it has executed about this many instructions; K, M and G may follow, each 1000 times more
    #[arg(long, value_name = "UNITS", value_parser = parse_units)]
    pub(crate) fuel: Option<u64>,

    /// When the guest is done, say on stderr what it took: instructions (which it counts then, at a few percent
    /// of its speed), time, memory, calls of the host
    #[arg(long)]
    pub(crate) stats: bool,

    /// If the guest traps, write a core dump for debuggers: its memories, globals and frames
    #[arg(long, value_name = "FILE")]
    pub(crate) coredump: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,

    #[command(flatten)]
    pub(crate) compiler: CompilerArgs,

    /// The program (`-` reads it from stdin), and what is passed on to it: flags of `selvedge` stand before FILE
    #[arg(required = true, trailing_var_arg = true, value_names = ["FILE", "ARGS"], num_args = 1..)]
    file_and_args: Vec<OsString>,
}

impl RunArgs {
    /// The program to run.
    pub(crate) fn file(&self) -> &Path {
        self.file_and_args.first().map_or(Path::new(""), Path::new)
    }

    /// What the guest gets behind its name: everything after FILE and an optional `--`.
    pub(crate) fn guest_args(&self) -> &[OsString] {
        let args = self.file_and_args.get(1..).unwrap_or_default();
        match args.split_first() {
            Some((first, rest)) if first == "--" => rest,
            _ => args,
        }
    }
}

/// What every command that runs a guest takes.
#[derive(Debug, Args)]
pub(crate) struct GuestArgs {
    /// Give the guest a directory, named GUEST inside (without it: the same as HOST)
    #[arg(long = "dir", value_name = "HOST[::GUEST]", value_parser = DirMapping::parser())]
    pub(crate) dirs: Vec<DirMapping>,

    /// Set an environment variable of the guest, or pass on the one that is set here
    #[arg(long = "env", value_name = "KEY[=VALUE]", value_parser = EnvVar::parser())]
    pub(crate) env: Vec<EnvVar>,

    /// What the guest sees as its own name (without it: the name of FILE)
    #[arg(long, value_name = "NAME")]
    pub(crate) argv0: Option<OsString>,

    /// Stop the guest's memories and tables from growing above this many bytes together; K, M and G may follow
    /// (without it: 4G for a memory, 16G for one with 64-bit addresses)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_memory: Option<u64>,

    /// Bytes of the guest's stack; K, M and G may follow
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) stack_size: Option<u64>,

    /// End the guest when it has run for this long, as in 500ms, 2s or 1m, and say where it stood
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// Let functions that the module imports and nothing provides trap when they are called
    #[arg(long)]
    pub(crate) unknown_imports_trap: bool,

    /// Do not provide WASI
    #[arg(long, conflicts_with_all = ["dirs", "env", "argv0"])]
    pub(crate) no_wasi: bool,
}

/// `selvedge snapshot`
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// The program: a .wasm or .wat file, or an artifact (`-` reads it from stdin)
    pub(crate) file: PathBuf,

    /// The exported function to run first, without arguments (without it: `_initialize`, if there is one, behind the
    /// module's start function)
    #[arg(long, value_name = "EXPORT")]
    pub(crate) after: Option<String>,

    /// Where to write the artifact, which `selvedge run` takes
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// Have the code count what it executes, for `selvedge run --fuel`
    #[arg(long)]
    pub(crate) count_fuel: bool,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,

    #[command(flatten)]
    pub(crate) compiler: CompilerArgs,
}

/// `selvedge compile`
#[derive(Debug, Args)]
pub(crate) struct CompileArgs {
    /// The module: a .wasm or .wat file (`-` reads it from stdin)
    pub(crate) file: PathBuf,

    /// Where to write the artifact (without it: FILE with the ending .sva)
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,

    /// Have the code count what it executes, for `selvedge run --fuel`
    #[arg(long)]
    pub(crate) count_fuel: bool,

    #[command(flatten)]
    pub(crate) compiler: CompilerArgs,
}

/// `selvedge validate`
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The modules: .wasm or .wat files (`-` reads one from stdin)
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) proposals: ProposalArgs,
}

/// `selvedge wast`
#[derive(Debug, Args)]
pub(crate) struct WastArgs {
    /// The scripts (`-` reads one from stdin)
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) compiler: CompilerArgs,
}

/// `selvedge inspect`
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The module or artifact (`-` reads it from stdin)
    pub(crate) file: PathBuf,

    /// Show the machine code of its functions instead
    #[arg(long, group = "code")]
    pub(crate) asm: bool,

    /// Show the code generator's view of its functions instead
    #[arg(long, group = "code")]
    pub(crate) clif: bool,

    /// Show only this function, by index or by name
    #[arg(long, value_name = "INDEX|NAME", requires = "code")]
    pub(crate) func: Option<String>,

    /// Show code that counts what it executes; for artifacts of `selvedge compile --count-fuel`
    #[arg(long)]
    pub(crate) count_fuel: bool,

    #[command(flatten)]
    pub(crate) compiler: CompilerArgs,
}

/// What every command that compiles takes.
#[derive(Debug, Args)]
pub(crate) struct CompilerArgs {
    /// How hard the compiler tries
    #[arg(short = 'O', long, value_name = "LEVEL", value_enum, default_value_t)]
    pub(crate) opt_level: OptLevel,

    /// The CPU to make code for: this machine's, or any of a level
    #[arg(long, value_name = "CPU", value_parser = cpu_parser(), default_value = Cpu::Host.name())]
    pub(crate) cpu: Cpu,

    /// Keep the module's DWARF, so that backtraces name source lines
    #[arg(short = 'g', long)]
    pub(crate) debug_info: bool,

    /// Compare every address with the length of its memory, where address space without rights around it
    /// would do
    #[arg(long)]
    pub(crate) explicit_bounds: bool,

    /// Make every NaN that arithmetic gives the canonical one
    #[arg(long)]
    pub(crate) canonical_nans: bool,

    /// Make what the guest computes the same on every CPU: canonical NaNs, and relaxed SIMD as the
    /// deterministic profile has it
    #[arg(long)]
    pub(crate) deterministic: bool,

    #[command(flatten)]
    pub(crate) proposals: ProposalArgs,
}

/// What every command that reads modules takes. All proposals that are built are on.
#[derive(Debug, Args)]
pub(crate) struct ProposalArgs {
    /// Let modules use a proposal, and those that it needs, after what `--disable` turns off
    #[arg(long, value_name = "PROPOSAL", value_parser = proposal_parser())]
    pub(crate) enable: Vec<Proposal>,

    /// Refuse modules that use a proposal, or one that needs it
    #[arg(long, value_name = "PROPOSAL", value_parser = proposal_parser())]
    pub(crate) disable: Vec<Proposal>,
}

fn proposal_parser() -> impl TypedValueParser<Value = Proposal> {
    PossibleValuesParser::new(Proposal::ALL.iter().map(|proposal| proposal.name()))
        .try_map(|name| name.parse::<Proposal>())
}

fn cpu_parser() -> impl TypedValueParser<Value = Cpu> {
    PossibleValuesParser::new(Cpu::ALL.map(Cpu::name))
        .map(|name| Cpu::from_name(&name).unwrap_or_default())
}

/// Values of `--opt-level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum OptLevel {
    /// Compile fast
    #[value(alias = "0")]
    None,
    /// Make fast code
    #[default]
    #[value(aliases = ["1", "2", "3"])]
    Speed,
    /// Make fast code, and short code where speed is equal
    #[value(aliases = ["s", "z", "speed-and-size"])]
    Size,
}

/// Value of `--dir`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DirMapping {
    /// The directory on the host.
    pub(crate) host: PathBuf,
    /// Its name in the guest.
    pub(crate) guest: String,
}

impl DirMapping {
    fn parser() -> ValueParser {
        OsStringValueParser::new()
            .try_map(|text| Self::parse(&text))
            .into()
    }

    fn parse(text: &OsStr) -> Result<Self, String> {
        let (host, guest) = split_once(text, b"::").unwrap_or((text, text));
        if host.is_empty() || guest.is_empty() {
            return Err("a directory has no name; write HOST or HOST::GUEST".to_owned());
        }
        match guest.to_str() {
            Some(guest) => Ok(Self {
                host: host.into(),
                guest: guest.to_owned(),
            }),
            None => Err("the guest's name for it is not UTF-8; write HOST::GUEST".to_owned()),
        }
    }
}

/// Value of `--env`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct EnvVar {
    /// Its name.
    pub(crate) key: OsString,
    /// Its value.
    pub(crate) value: OsString,
}

impl EnvVar {
    fn parser() -> ValueParser {
        OsStringValueParser::new()
            .try_map(|text| Self::parse(&text))
            .into()
    }

    fn parse(text: &OsStr) -> Result<Self, String> {
        if let Some((key, value)) = split_once(text, b"=") {
            return Ok(Self {
                key: key.into(),
                value: value.into(),
            });
        }
        match std::env::var_os(text) {
            Some(value) => Ok(Self {
                key: text.into(),
                value,
            }),
            None => {
                let key = text.display();
                Err(format!(
                    "it is not set here; give a value with `--env {key}=VALUE`"
                ))
            }
        }
    }
}

/// What stands before and after the first `separator`.
fn split_once<'a>(text: &'a OsStr, separator: &[u8]) -> Option<(&'a OsStr, &'a OsStr)> {
    let bytes = text.as_bytes();
    let at = bytes
        .windows(separator.len())
        .position(|window| window == separator)?;
    let after = &bytes[at + separator.len()..];
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(after)))
}

/// Reads a count of bytes: digits, and optionally K, M or G (also KB, KiB, ...), each 1024 times more.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err("write a count of bytes as in 65536, 64K, 16M or 2G".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a count of bytes as in 65536, 64K, 16M or 2G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more than 64 bits can count".to_owned())
}

/// Reads a count of units: digits, and optionally K, M or G, each 1000 times more.
fn parse_units(text: &str) -> Result<u64, String> {
    let wrong = || "write a count as in 5000, 20K, 3M or 2G".to_owned();
    let (number, factor) = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'm') => (&text[..text.len() - 1], 1_000_000),
        Some(b'g') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "that is more than 64 bits can count".to_owned())
}

/// Reads a length of time: digits and a unit. It is not nothing.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a length of time as in 500ms, 2s, 1m or 1h".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    match number.parse::<u64>().map_err(|_| wrong())? {
        0 => Err(wrong()),
        number => number
            .checked_mul(factor)
            .map(Duration::from_millis)
            .ok_or_else(|| "that is more than 64 bits can count".to_owned()),
    }
}

/// The command line with `run` put in where it was left out: before a flag that is not of `selvedge`
/// itself, and before what looks like a file. A word that is neither stays as it is, so that a
/// mistyped command is reported as one.
pub(crate) fn with_run_implied(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.get(1).is_some_and(|first| implies_run(first)) {
        args.insert(1, "run".into());
    }
    args
}

fn implies_run(first: &OsStr) -> bool {
    let text = first.to_string_lossy();
    if COMMANDS.contains(&&*text) || TOP_FLAGS.contains(&&*text) {
        return false;
    }
    text.starts_with('-') || text.contains(['.', '/']) || Path::new(first).exists()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<CommandLine, clap::Error> {
        let args = std::iter::once("selvedge")
            .chain(args.iter().copied())
            .map(OsString::from);
        CommandLine::try_parse_from(with_run_implied(args))
    }

    fn parse_run(args: &[&str]) -> RunArgs {
        match parse(args).unwrap().command {
            Command::Run(run) => run,
            other => panic!("not run: {other:?}"),
        }
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn the_list_of_commands_is_whole() {
        for command in CommandLine::command().get_subcommands() {
            assert!(
                COMMANDS.contains(&command.get_name()),
                "{}",
                command.get_name()
            );
        }
    }

    #[test]
    fn what_follows_the_file_is_the_guests() {
        let run = parse_run(&["run", "--dir", ".", "a.wasm", "--dir", "-x", "--", "y"]);
        assert_eq!(run.file(), Path::new("a.wasm"));
        assert_eq!(run.guest_args(), ["--dir", "-x", "--", "y"]);
        assert_eq!(
            run.guest.dirs,
            [DirMapping {
                host: ".".into(),
                guest: ".".into()
            }]
        );
    }

    #[test]
    fn one_leading_separator_is_dropped() {
        assert_eq!(
            parse_run(&["run", "a.wasm", "--", "-x"]).guest_args(),
            ["-x"]
        );
        assert_eq!(
            parse_run(&["run", "a.wasm", "--", "--"]).guest_args(),
            ["--"]
        );
        assert_eq!(
            parse_run(&["run", "--", "a.wasm", "-x"]).guest_args(),
            ["-x"]
        );
        assert!(parse_run(&["run", "a.wasm"]).guest_args().is_empty());
    }

    #[test]
    fn run_may_be_left_out() {
        assert_eq!(parse_run(&["a.wasm", "-x"]).guest_args(), ["-x"]);
        assert_eq!(parse_run(&["--env", "A=1", "a.wasm"]).guest.env.len(), 1);
        assert!(
            parse(&["complie", "a.wasm"])
                .unwrap_err()
                .to_string()
                .contains("'compile'")
        );
    }

    #[test]
    fn an_unknown_flag_is_answered_with_the_nearest_one() {
        let message = parse(&["run", "--invok", "f", "a.wasm"])
            .unwrap_err()
            .to_string();
        assert!(message.contains("--invoke"), "{message}");
    }

    #[test]
    fn directories_have_two_names_or_one() {
        let dir = |text: &str| DirMapping::parse(text.as_ref());
        let mapping = |host: &str, guest: &str| {
            Ok(DirMapping {
                host: host.into(),
                guest: guest.to_owned(),
            })
        };
        assert_eq!(dir("a"), mapping("a", "a"));
        assert_eq!(dir("a::b"), mapping("a", "b"));
        assert_eq!(dir("a::b::c"), mapping("a", "b::c"));
        for wrong in ["::b", "a::", "", "::"] {
            assert!(dir(wrong).is_err(), "{wrong}");
        }
        let latin1 = OsStr::from_bytes(b"\xe9");
        assert!(DirMapping::parse(latin1).is_err());
        assert_eq!(
            DirMapping::parse(OsStr::from_bytes(b"\xe9::a"))
                .unwrap()
                .host,
            latin1
        );
    }

    #[test]
    fn sizes_take_a_suffix() {
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("2g"), Ok(2 << 30));
        for wrong in [
            "",
            "K",
            "-1",
            "1.5G",
            "1T",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_have_a_unit() {
        let millis = |text| parse_duration(text).map(|time| time.as_millis());
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2s"), Ok(2_000));
        assert_eq!(millis("1m"), Ok(60_000));
        assert_eq!(millis("3h"), Ok(10_800_000));
        for wrong in [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "1d",
            "1 s",
            "é",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn cpus_have_the_names_of_levels() {
        let cpu = |flag| parse_run(&["run", flag, "a.wasm"]).compiler.cpu;
        assert_eq!(cpu("--cpu=host"), Cpu::Host);
        assert_eq!(cpu("--cpu=x86-64-v2"), Cpu::Baseline);
        assert_eq!(cpu("--cpu=x86-64-v4"), Cpu::X86_64V4);
        assert_eq!(parse_run(&["run", "a.wasm"]).compiler.cpu, Cpu::Host);
        let message = parse(&["run", "--cpu=z80", "a.wasm"]).unwrap_err();
        assert!(message.to_string().contains("x86-64-v3"), "{message}");
    }

    #[test]
    fn optimisation_levels_have_the_usual_short_names() {
        let level = |flag| parse_run(&["run", flag, "a.wasm"]).compiler.opt_level;
        assert_eq!(level("-O0"), OptLevel::None);
        assert_eq!(level("-O2"), OptLevel::Speed);
        assert_eq!(level("-Os"), OptLevel::Size);
        assert_eq!(level("--opt-level=size"), OptLevel::Size);
        assert!(parse(&["run", "-O9", "a.wasm"]).is_err());
    }
}
