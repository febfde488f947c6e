//! `tests/scenarios.md` is whole: every number once, every test and file that it names is there, every reason given.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use selvedge_tests::names::tests;

const TABLE: &str = include_str!("../scenarios.md");

/// Number, scenario and place of each row.
fn rows() -> Vec<[&'static str; 3]> {
    TABLE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .map(|cells| <[&str; 3]>::try_from(cells).unwrap_or_else(|row| panic!("{row:?}")))
        .filter(|[number, ..]| !matches!(*number, "number" | "---"))
        .collect()
}

/// What stands in backticks.
fn quoted(place: &str) -> impl Iterator<Item = &str> {
    place.split('`').skip(1).step_by(2)
}

#[test]
fn every_number_is_there_once_and_says_where_it_is_kept() {
    let mut seen = BTreeMap::new();
    let mut open = 0;
    for [number, what, place] in rows() {
        assert!(
            seen.insert(number, place).is_none(),
            "{number} is there twice"
        );
        assert!(!what.is_empty(), "{number}");
        if place.starts_with("open: ") {
            open += 1;
        } else if let Some(reason) = place.strip_prefix("n/a: ") {
            assert!(reason.split(' ').count() >= 2, "{number}: {reason}");
            // A reason may be that of another number, which has one of its own.
            if let Some(other) = reason.strip_prefix("as ") {
                let other = other.split([';', ',']).next().unwrap();
                let reason = seen
                    .get(other)
                    .unwrap_or_else(|| panic!("{number}: {other}"));
                assert!(
                    reason.starts_with("n/a: ") && !reason.starts_with("n/a: as"),
                    "{number}"
                );
            }
        } else {
            assert!(quoted(place).next().is_some(), "{number}: {place}");
        }
    }
    let expected: Vec<String> = (1..=252)
        .map(|n: u32| n.to_string())
        .chain((1..=22).map(|n| format!("H-{n}")))
        .chain((1..=33).map(|n| format!("U-{n}")))
        .collect();
    for number in &expected {
        assert!(seen.contains_key(number.as_str()), "{number} is missing");
    }
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
    let said = TABLE
        .split("that are open: ")
        .nth(1)
        .and_then(|rest| rest.split('.').next())
        .and_then(|number| number.parse().ok());
    assert_eq!(said, Some(open), "the count of open rows");
}

#[test]
fn every_test_and_file_that_a_scenario_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("..");
    let mut known = HashSet::new();
    for folder in ["tests", "crates"] {
        tests(&root.join(folder), &mut known);
    }
    let mut named = 0;
    for [number, _, place] in rows() {
        for word in quoted(place) {
            if word.contains('/') {
                assert!(root.join(word).exists(), "{number}: {word} is not there");
            } else {
                assert!(known.contains(word), "{number}: {word} is no test");
                named += 1;
            }
        }
    }
    assert!(named > 250, "{named}");
}
