//! Every race has its row in `races.md`, and every test that is named there is there.

use std::fs;
use std::path::Path;

/// Whether there is a test of that name in one of these files.
fn is_test(files: &[String], name: &str) -> bool {
    let head = format!("fn {name}(");
    files.iter().any(|text| {
        text.split_once(&head)
            .is_some_and(|(before, _)| before.trim_end().ends_with("#[test]"))
    })
}

#[test]
fn every_race_has_a_test_that_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "stop/races.rs",
        "stop/kill.rs",
        "stop/parked.rs",
        "stop/awaiting.rs",
        "embed/kills.rs",
        "../crates/runtime/src/stop/words/models.rs",
        "../crates/runtime/src/stop/task/models.rs",
        "../crates/runtime/src/stop/verdicts.rs",
        "../crates/runtime/src/stop/decide.rs",
    ]
    .map(|file| fs::read_to_string(here.join(file)).unwrap());
    let table = fs::read_to_string(here.join("stop/races.md")).unwrap();
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    let mut number = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells[1].parse() != Ok(number + 1) {
            assert!(["race", "---"].contains(&cells[1]), "{row}");
            continue;
        }
        number += 1;
        let named: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || cells[4].starts_with("n/a: "), "{row}");
        for name in named {
            assert!(
                is_test(&files, name),
                "races.md names {name}, which is no test"
            );
        }
    }
    assert_eq!(number, 30);
}
