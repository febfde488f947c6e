//! File tests: each `.wat` below `files/` is a test that says itself what is done with it and what comes
//! out. `files/readme.wat` is the manual.
//!
//! Files are found, not listed. `BLESS=1 cargo test -p selvedge-tests --test files` writes what comes out
//! into the files; the difference is then for a person to read.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use selvedge::{
    Cpu, Dump, Engine, Limits, Linker, Module, OptLevel, Region, RuntimeError, Settings, Val,
};

/// Begins a line that says what is done.
const ORDER: &str = ";;! ";
/// Begins a line of what came out.
const OUTPUT: &str = ";;|";
/// The folder of the files, and the only file of it that lies in no folder of a kind.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/files");

fn main() {
    let args = Arguments::from_args();
    let mut paths = Vec::new();
    find(Path::new(FILES), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "there are no files in {FILES}");
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let trials = paths.into_iter().map(|path| {
        let name = path.strip_prefix(FILES).unwrap_or(&path);
        let name = name.display().to_string();
        Trial::test(name, move || check(&path, bless))
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            find(&path, paths);
        } else if path.extension().is_some_and(|ending| ending == "wat") {
            paths.push(path);
        }
    }
}

fn check(path: &Path, bless: bool) -> Result<(), Failed> {
    let text = fs::read_to_string(path)?;
    let orders = Orders::read(path, &text)?;
    let output = orders.carry_out(&text)?;
    let fresh = with_output(&text, &output);
    if fresh == text {
        return Ok(());
    }
    if bless {
        return Ok(fs::write(path, fresh)?);
    }
    let lines = text.lines().zip(fresh.lines());
    let equal = lines.take_while(|(old, new)| old == new).count();
    let from = |text: &str| -> String {
        let lines = text.lines().skip(equal).take(12);
        lines.map(|line| format!("  {line}\n")).collect()
    };
    Err(format!(
        "from line {} on the file has\n{}but this came out\n{}if that is right, write it with BLESS=1",
        equal + 1,
        from(&text),
        from(&fresh)
    )
    .into())
}

/// The file with this output in place of what it has.
fn with_output(text: &str, output: &str) -> String {
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with(OUTPUT))
        .collect();
    let mut fresh = kept.join("\n").trim_end().to_owned();
    fresh.push_str("\n\n");
    for line in output.trim_end().lines() {
        fresh.push_str(format!("{OUTPUT} {line}").trim_end());
        fresh.push('\n');
    }
    fresh
}

/// What is done with a file.
enum Kind {
    Dump(Dump),
    Trap,
}

/// The lines at the top of a file.
struct Orders {
    kind: Kind,
    cpus: Vec<Cpu>,
    opt_level: OptLevel,
    deterministic: bool,
    explicit_bounds: bool,
    funcs: Vec<String>,
    invoke: Vec<String>,
}

impl Orders {
    fn read(path: &Path, text: &str) -> Result<Self, String> {
        let folder = path.parent().and_then(Path::file_name);
        let mut kind = folder.unwrap_or_default().to_string_lossy().into_owned();
        let mut orders = Self {
            kind: Kind::Trap,
            cpus: vec![Cpu::Baseline],
            opt_level: OptLevel::Speed,
            deterministic: false,
            explicit_bounds: false,
            funcs: Vec::new(),
            invoke: Vec::new(),
        };
        for line in text.lines().filter_map(|line| line.strip_prefix(ORDER)) {
            let (key, value) = line.split_once(" = ").ok_or_else(|| {
                format!("`{ORDER}{line}` is not of the form `{ORDER}key = value`")
            })?;
            let wrong = || format!("`{value}` is no value of `{key}`");
            let mut words = value.split_whitespace();
            match key {
                "kind" => kind = value.to_owned(),
                "cpu" => {
                    let cpus = words.map(Cpu::from_name).collect::<Option<Vec<Cpu>>>();
                    orders.cpus = cpus.ok_or_else(wrong)?;
                }
                "opt-level" => {
                    orders.opt_level = match value {
                        "none" => OptLevel::None,
                        "speed" => OptLevel::Speed,
                        "size" => OptLevel::SpeedAndSize,
                        _ => return Err(wrong()),
                    };
                }
                "relaxed-simd" => {
                    orders.deterministic = match value {
                        "fast" => false,
                        "deterministic" => true,
                        _ => return Err(wrong()),
                    };
                }
                "bounds" => {
                    orders.explicit_bounds = match value {
                        "guarded" => false,
                        "explicit" => true,
                        _ => return Err(wrong()),
                    };
                }
                "funcs" => orders.funcs = words.map(str::to_owned).collect(),
                "invoke" => {
                    orders.invoke = words.by_ref().map(str::to_owned).collect();
                }
                _ => return Err(format!("there is no key `{key}`")),
            }
        }
        orders.kind = match kind.as_str() {
            "asm" => Kind::Dump(Dump::Asm),
            "clif" => Kind::Dump(Dump::Clif),
            "trap" => Kind::Trap,
            _ => return Err(format!("there is no kind of files `{kind}`")),
        };
        // What this machine can would be in the output.
        if matches!(orders.kind, Kind::Dump(_)) && orders.cpus.contains(&Cpu::Host) {
            return Err("code is shown for a named CPU only".to_owned());
        }
        Ok(orders)
    }

    /// What comes out, for one CPU after the other.
    fn carry_out(&self, text: &str) -> Result<String, String> {
        let mut outputs = Vec::new();
        for &cpu in &self.cpus {
            let settings = Settings::default()
                .with_cpu(cpu)
                .with_opt_level(self.opt_level)
                .with_relaxed_simd_deterministic(self.deterministic)
                .with_explicit_bounds(self.explicit_bounds)
                .with_parallel_compilation(false);
            let engine = Engine::new(&settings).map_err(|e| e.to_string())?;
            let output = match self.kind {
                Kind::Dump(what) => self.dump(&engine, text, what)?,
                Kind::Trap => self.trap(&engine, text)?,
            };
            outputs.push(match self.kind {
                Kind::Dump(_) => format!("==== {} ====\n{output}", cpu.name()),
                Kind::Trap => output,
            });
        }
        // Code that does what it should does so on every CPU.
        if matches!(self.kind, Kind::Trap) {
            outputs.dedup();
        }
        Ok(outputs.join("\n"))
    }

    fn dump(&self, engine: &Engine, text: &str, what: Dump) -> Result<String, String> {
        let show = |name: Option<&str>| {
            let shown = engine.dump(text.as_bytes(), what, name);
            shown.map_err(|e| e.to_string())
        };
        if self.funcs.is_empty() {
            let all = show(None)?;
            let end = all.find(";; trampoline: ").unwrap_or(all.len());
            return Ok(all[..end].to_owned());
        }
        let shown = self.funcs.iter().map(|name| show(Some(name)));
        Ok(shown.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    fn trap(&self, engine: &Engine, text: &str) -> Result<String, String> {
        let (name, args) = self.invoke.split_first().ok_or("it invokes nothing")?;
        let args: Vec<Val> = args.iter().map(|a| argument(a)).collect::<Result<_, _>>()?;
        let module = engine.compile(text.as_bytes()).map_err(|e| e.to_string())?;
        match run(engine, &module, name, &args) {
            Ok(values) => Ok(format!("returned {values:?}")),
            Err(RuntimeError::RuntimeFault(fault)) => Ok(fault.to_string()),
            Err(other) => Err(other.to_string()),
        }
    }
}

fn run(
    engine: &Engine,
    module: &Module,
    name: &str,
    args: &[Val],
) -> Result<Vec<Val>, RuntimeError> {
    let region = Region::new(engine, 1, &Limits::default())?;
    let mut instance = region.new_instance(&Linker::new(engine).program(module)?)?;
    Ok(instance.run(name, args)?.unwrap_returned().into_values())
}

/// `i32:7`, `i64:-1`, `f64:0.5`.
fn argument(text: &str) -> Result<Val, String> {
    let wrong = || format!("`{text}` is no argument; write i32:7, i64:-1, f32:0.5 or f64:nan");
    let (ty, value) = text.split_once(':').ok_or_else(wrong)?;
    let val = match ty {
        "i32" => value.parse().map(Val::I32).ok(),
        "i64" => value.parse().map(Val::I64).ok(),
        "f32" => value.parse().map(Val::F32).ok(),
        "f64" => value.parse().map(Val::F64).ok(),
        _ => None,
    };
    val.ok_or_else(wrong)
}
