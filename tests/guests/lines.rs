//! Source lines in backtraces, from the DWARF of a Rust guest that is compiled here with debug
//! information.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    Engine, FaultDetails, Limits, Linker, Module, OptLevel, RuntimeError, Settings, SourceLine,
};
use selvedge_tests::sandbox;

use crate::program::folder;

/// Compiles the guest, once a process.
fn lines() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lines.wasm");
        let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2024", "--target=wasm32-wasip1", "-g", "-O", "-o"])
            .arg(&out)
            .arg("rust/lines.rs")
            .current_dir(folder())
            .output()
            .expect("rustc runs");
        assert!(
            output.status.success(),
            "the guest does not build; is the target wasm32-wasip1 installed?\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        out
    })
}

fn run(engine: &Engine, module: &Module) -> FaultDetails {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker).unwrap();
    let program = linker.program(module).unwrap();
    let region = sandbox::region(engine, 1, &Limits::default());
    let instance = region.instance_builder(&program);
    let ctx = WasiCtx::builder().build().unwrap();
    let mut instance = instance.with_embed_ctx(ctx).build().unwrap();
    match instance.run("_start", &[]) {
        Err(RuntimeError::RuntimeFault(fault)) => *fault,
        other => panic!("{other:?}"),
    }
}

/// The line of the source that is marked.
fn marked(name: &str) -> u32 {
    let source = std::fs::read_to_string(folder().join("rust/lines.rs")).unwrap();
    let mark = format!("// line: {name}");
    source
        .lines()
        .position(|line| line.ends_with(&mark))
        .unwrap() as u32
        + 1
}

fn check(line: &SourceLine, func: &str) {
    assert_eq!(line.line, Some(marked(func)), "{line:?}");
    assert!(line.file.as_deref().unwrap().ends_with("rust/lines.rs"));
    assert!(
        line.func_name.as_deref().unwrap().ends_with(func),
        "{line:?}"
    );
    assert!(line.column.is_some());
}

#[test]
fn a_backtrace_names_source_lines_also_of_inlined_functions() {
    for level in [OptLevel::None, OptLevel::Speed] {
        let settings = Settings::default().with_opt_level(level).with_dwarf(true);
        let engine = Engine::new(&settings).unwrap();
        let module = engine.compile_file(lines()).unwrap();
        let fault = run(&engine, &module);
        // The lines can be asked for when instance and module are gone.
        drop(module);
        let frames = &fault.backtrace.frames;
        // The trap itself is in a function of the standard library that is inlined, too.
        let [.., inner, middle] = &frames[0].source_lines()[..] else {
            panic!("{fault}");
        };
        check(inner, "innermost");
        check(middle, "middle");
        let outer = frames[1..].iter().flat_map(|frame| frame.source_lines());
        let main = outer
            .into_iter()
            .find(|line| line.line == Some(marked("main")));
        check(&main.unwrap_or_else(|| panic!("{fault}")), "main");
        let text = fault.to_string();
        let place = format!("rust/lines.rs:{}", marked("innermost"));
        assert!(text.contains(&place), "{text}");
    }
}

#[test]
fn an_artifact_keeps_the_lines_if_it_was_asked_to_and_the_code_is_the_same() {
    let with = Engine::new(&Settings::default().with_dwarf(true)).unwrap();
    let without = Engine::new(&Settings::default()).unwrap();
    let wasm = std::fs::read(lines()).unwrap();
    let (kept, left) = (
        with.precompile(&wasm).unwrap(),
        without.precompile(&wasm).unwrap(),
    );
    assert!(kept.len() > left.len() + 100_000);
    let code = |engine: &Engine| engine.compile(&wasm).unwrap().code_len();
    assert_eq!(code(&with), code(&without));
    let module = with.compile(&wasm).unwrap();
    let fault = run(&with, &module);
    assert!(!fault.backtrace.frames[0].source_lines().is_empty());
    let module = without.compile(&wasm).unwrap();
    let fault = run(&without, &module);
    assert!(fault.backtrace.frames[0].source_lines().is_empty());
    assert!(
        fault.backtrace.frames[0]
            .func_name
            .as_deref()
            .unwrap()
            .contains("middle")
    );
}

#[test]
fn damaged_dwarf_costs_lines_only() {
    let mut wasm = std::fs::read(lines()).unwrap();
    let at = |name: &[u8]| wasm.windows(name.len()).position(|w| w == name).unwrap() + name.len();
    let (info, line) = (at(b".debug_info"), at(b".debug_line"));
    let engine = Engine::new(&Settings::default().with_dwarf(true)).unwrap();
    for (start, step, value) in [
        (info, 7, 0xff),
        (info, 1, 0),
        (line, 5, 0x80),
        (line, 1, 0xff),
    ] {
        let mut damaged = wasm.clone();
        for byte in damaged[start..start + 5000].iter_mut().step_by(step) {
            *byte = value;
        }
        let module = engine.compile(&damaged).unwrap();
        let fault = run(&engine, &module);
        assert!(fault.to_string().contains("out of bounds memory access"));
    }
    // Nothing but a name is left of a section.
    wasm.truncate(info);
    assert!(engine.compile(&wasm).is_err(), "the file itself is cut");
}
