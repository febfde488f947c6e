//! Every test that `traps.md` names is there.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use selvedge_tests::names::tests;

#[test]
fn every_test_that_the_table_names_is_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = HashSet::new();
    for folder in [".", "../crates"] {
        tests(&here.join(folder), &mut known);
    }
    assert!(known.contains("every_test_that_the_table_names_is_there"));
    let table = fs::read_to_string(here.join("faults/traps.md")).unwrap();
    // A name in code with that many underscores is a test's.
    let named: Vec<&str> = table
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() >= 3 && !word.contains(['/', '.', ':', ' ']))
        .collect();
    assert!(named.len() > 40, "{}", named.len());
    for name in &named {
        assert!(
            known.contains(*name),
            "traps.md names {name}, which is no test"
        );
    }
    let numbered = (1..=14)
        .chain(16..=19)
        .chain(21..=27)
        .map(|n| format!("x_{n:02}_"));
    for prefix in numbered.chain(["x_pool_".to_owned()]) {
        assert!(
            named.iter().any(|name| name.starts_with(&prefix)),
            "{prefix}"
        );
    }
}
