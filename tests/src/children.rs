//! Cases that need a process of their own: this test program again, running one test that does nothing
//! unless it finds the name of a case.
//!
//! Tests run beside each other in one process, so whatever is the whole process's belongs here: its memory, its
//! mappings, descriptors and threads, its limits, how it handles signals, and its end.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use rustix::process::{Resource, Rlimit, setrlimit};

/// The variable that holds the name of a child's case.
const CASE: &str = "SELVEDGE_TEST_CASE";

/// Runs a case of a test, which is named with its module, in a child.
pub fn run(test: &str, case: &str) -> Output {
    let program = std::env::current_exe().expect("the test program has a name");
    Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .expect("a child can be started")
}

/// The child of a case dies of a signal.
#[track_caller]
pub fn check_dies(test: &str, case: &str, signal: i32) -> Output {
    let output = run(test, case);
    assert_eq!(
        output.status.signal(),
        Some(signal),
        "{}",
        told(case, &output)
    );
    output
}

/// The child of a case comes to its end with this exit code; with 0 its test has run and passed.
#[track_caller]
pub fn check_ends(test: &str, case: &str, code: i32) -> Output {
    let output = run(test, case);
    assert_eq!(output.status.code(), Some(code), "{}", told(case, &output));
    // A name that no test has is a success, too.
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test\n");
    assert!(ran, "no test is named {test}: {}", told(case, &output));
    output
}

/// What a child said, as it said it.
fn told(case: &str, output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    format!("case {case:?}: {}\n{out}\n{err}", output.status)
}

/// In a child, the case to run. A child leaves no core file.
pub fn case() -> Option<String> {
    let case = std::env::var(CASE).ok()?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).expect("a limit can be lowered");
    Some(case)
}
