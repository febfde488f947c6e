//! The C++ guest.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::program::{Guest, text, with_data};

/// What `index` prints of a text.
fn indexed(text: &str) -> String {
    let mut index: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = line.split(|c: char| !c.is_ascii_alphabetic());
        for word in words.filter(|word| !word.is_empty()) {
            let lines = index.entry(word.to_ascii_lowercase()).or_default();
            if lines.last() != Some(&number) {
                lines.push(number);
            }
        }
    }
    let mut repeated: Vec<_> = index.iter().filter(|(_, lines)| lines.len() > 1).collect();
    repeated.sort_by_key(|(_, lines)| Reverse(lines.len()));
    let long = index.keys().filter(|word| word.len() >= 8).count();
    let mut out = format!(
        "all: {} words\nrepeated: {} words\nlong: {long} words\n",
        index.len(),
        repeated.len()
    );
    for (word, lines) in repeated {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        out += &format!("{word}: {}\n", lines.join(" "));
    }
    out
}

#[test]
fn index_lists_the_lines_of_each_word() {
    let expected = indexed(&text());
    assert!(expected.starts_with("all: 36 words\n"));
    for guest in Guest::at_all_levels("cpp/index.wasm") {
        assert_eq!(
            guest.run(&["/data/selvedge.txt"], "", with_data).output(),
            expected
        );
        assert_eq!(guest.run(&[], &text(), |_| {}).output(), expected);
    }
}

#[test]
fn index_takes_a_long_text() {
    let guest = Guest::new("cpp/index.wasm", selvedge::OptLevel::Speed);
    let long = text().repeat(300);
    assert_eq!(guest.run(&[], &long, |_| {}).output(), indexed(&long));
}

#[test]
fn index_fails_without_its_file() {
    let guest = Guest::new("cpp/index.wasm", selvedge::OptLevel::Speed);
    let ended = guest.run(&["/nowhere"], "", with_data);
    assert!(matches!(ended.code, Ok(1)));
    assert_eq!(ended.stderr, "index: cannot read /nowhere\n");
}
