//! The tree obeys the rules of the house, so that `cargo test` says so too.

#![forbid(unsafe_code)]

use std::process::Command;

#[test]
fn the_tree_obeys_the_rules() {
    let output = Command::new(env!("CARGO_BIN_EXE_house"))
        .output()
        .expect("house can be started");
    let findings = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "\n{findings}{errors}");
}

#[test]
fn outside_the_repository_it_says_where_to_run() {
    let output = Command::new(env!("CARGO_BIN_EXE_house"))
        .current_dir("/")
        .output()
        .expect("house can be started");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("run inside the repository"), "{errors}");
}
