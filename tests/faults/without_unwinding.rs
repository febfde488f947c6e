//! A build with `panic = "abort"`: a program that has the runtime and no compiler is built so, in a folder of
//! its own, and runs an artifact that is compiled here.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use selvedge::{Engine, Settings};

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (import "h" "wait" (func $wait))
    (memory 1)
    (func (export "run") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "wait") (call $wait))
    (func (export "load") (drop (i32.load (i32.const 65536))))
    (func $deep (export "deep") (call $deep) (call $deep))
    (func (export "ok") (result i32) (i32.const 42)))"#;

/// Builds the program; its path.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../abort");
    // What it depends on was built for this program already, so nothing is to be fetched. Without
    // optimisation it is there soonest.
    let built = Command::new(cargo)
        .args(["build", "--locked", "--offline", "-p", "selvedge-runtime"])
        .args(["--example", "without_unwinding", "--target-dir"])
        .arg(&target)
        .args(["--config", "profile.dev.panic=\"abort\""])
        .args(["--config", "profile.dev.opt-level=0"])
        .args(["--config", "profile.dev.package.\"*\".opt-level=0"])
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target.join("debug/examples/without_unwinding")
}

#[test]
fn x_06_traps_errors_and_terminations_work_without_unwinding() {
    let program = build();
    let folder = tempfile::tempdir().unwrap();
    let artifact = folder.path().join("guest.sva");
    let engine = Engine::new(&Settings::default()).unwrap();
    std::fs::write(&artifact, engine.precompile(GUEST.as_bytes()).unwrap()).unwrap();

    let run = |what: &str| -> Output {
        let mut command = Command::new(&program);
        // No core file is left in the tree.
        command.current_dir(folder.path()).arg(&artifact).arg(what);
        command.output().unwrap()
    };
    let works = run("");
    assert!(works.status.success(), "{works:?}");
    // A panic has nowhere to go, and does not get as far as the guest's frames.
    let panics = run("panic");
    assert_eq!(panics.status.signal(), Some(libc::SIGABRT), "{panics:?}");
    let said = String::from_utf8_lossy(&panics.stderr);
    assert!(said.contains("in a host function"), "{said}");
}
