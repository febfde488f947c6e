//! Cases that need a process of their own: this test program again, running one test that does nothing
//! unless it finds the name of a case.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use rustix::process::{Resource, Rlimit, setrlimit};

/// The variable that holds the name of a child's case.
const CASE: &str = "SELVEDGE_TEST_CASE";

/// Runs a case of a test, which is named with its module, in a child.
pub(crate) fn run(test: &str, case: &str) -> Output {
    let program = std::env::current_exe().unwrap();
    Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap()
}

/// The child of a case dies of a signal.
pub(crate) fn check_dies(test: &str, case: &str, signal: i32) -> Output {
    let output = run(test, case);
    assert_eq!(output.status.signal(), Some(signal), "{case}: {output:?}");
    output
}

/// The child of a case comes to its end with this exit code.
pub(crate) fn check_ends(test: &str, case: &str, code: i32) -> Output {
    let output = run(test, case);
    assert_eq!(output.status.code(), Some(code), "{case}: {output:?}");
    output
}

/// In a child, the case to run. A child leaves no core file.
pub(crate) fn case() -> Option<String> {
    let case = std::env::var(CASE).ok()?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).unwrap();
    Some(case)
}
