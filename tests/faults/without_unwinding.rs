//! A build with `panic = "abort"`: a program that has the runtime and no compiler is built so, in a folder of
//! its own, and runs an artifact that is compiled here. So is a library, which Python loads.

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

/// Builds the program and the library; the folder that they are in.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../abort");
    // What it depends on was built for this program already, so nothing is to be fetched. Without
    // optimisation it is there soonest.
    let built = Command::new(cargo)
        .args(["build", "--locked", "--offline", "-p", "selvedge-runtime"])
        .args(["--example", "without_unwinding", "--example", "embedded"])
        .arg("--target-dir")
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
    target.join("debug/examples")
}

/// The guest's artifact, in a folder of its own.
fn artifact() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.sva");
    let engine = Engine::new(&Settings::default()).unwrap();
    std::fs::write(&path, engine.precompile(GUEST.as_bytes()).unwrap()).unwrap();
    (folder, path)
}

#[test]
fn x_06_traps_errors_and_terminations_work_without_unwinding() {
    let program = build().join("without_unwinding");
    let (folder, artifact) = artifact();
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

/// Python, whose own handler of faults was there first and which takes alarms while guests run and trap on two
/// threads. In the end it faults itself, and its handler is to say so.
const PYTHON: &str = r#"
import ctypes, faulthandler, resource, signal, sys, threading
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.enable()
library, artifact = sys.argv[1:]
run = ctypes.CDLL(library).selvedge_run
alarms = 0
def alarm(*_):
    global alarms
    alarms += 1
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
ended = []
other = threading.Thread(target=lambda: ended.append(run(artifact.encode(), 60)))
other.start()
while alarms < 20 or not ended:
    ended.append(run(artifact.encode(), 4))
other.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(set(ended), flush=True)
faulthandler._sigsegv()
"#;

#[test]
fn x_27_python_with_its_own_handler_of_faults_runs_guests_and_still_reports_its_own() {
    // Rust is all that this project needs; where there is no Python there is nothing to try.
    if Command::new("python3").arg("--version").output().is_err() {
        return;
    }
    let library = build().join("libembedded.so");
    let (_folder, artifact) = artifact();
    let python = Command::new("python3")
        .args(["-c", PYTHON])
        .args([&library, &artifact])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&python.stdout),
        "{42}\n",
        "{python:?}"
    );
    assert_eq!(python.status.signal(), Some(libc::SIGSEGV), "{python:?}");
    let said = String::from_utf8_lossy(&python.stderr);
    assert!(
        said.contains("Fatal Python error: Segmentation fault"),
        "{said}"
    );
}
