//! Names of tests, for tables that say which test shows what.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// Names of all functions below a folder that are tests.
pub fn tests(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                tests(&path, found);
            }
            continue;
        }
        if path.extension().is_none_or(|ending| ending != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("the sources can be read");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ") {
                if is_test {
                    found.extend(rest.split('(').next().map(str::to_owned));
                }
                is_test = false;
            }
        }
    }
}
