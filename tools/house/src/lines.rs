//! The shape of files: their length, their first line, their name, and where `cfg` may ask what
//! machine this is.

use crate::Finding;
use crate::lexer::{Kind, tokens};
use crate::rules::{CfgRule, LinesRules};
use crate::tree::{Tree, matches_any};

const RULE: &str = "lines";

/// Checks every file of the tree.
pub(crate) fn check(tree: &Tree, rules: &LinesRules) -> Vec<Finding> {
    let mut findings: Vec<_> = tree
        .not_utf8()
        .map(|path| Finding::new(path, 1, RULE, "not UTF-8, save it as UTF-8"))
        .collect();
    for path in tree.paths() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if rules.nameless.iter().any(|nameless| nameless == name) {
            let message = format!("{name} names nothing, name the file by the idea in it");
            findings.push(Finding::new(path, 1, RULE, message));
        }
    }
    for (path, text) in tree.texts() {
        let counted = rules
            .counted
            .iter()
            .any(|ending| path.ends_with(ending.as_str()));
        let line_count = text.lines().count();
        if counted && line_count > rules.max && !matches_any(&rules.exempt, path) {
            let message = format!(
                "{line_count} lines, cut it in two at {} or below",
                rules.max
            );
            findings.push(Finding::new(path, rules.max + 1, RULE, message));
        }
        if !path.ends_with(".rs") {
            continue;
        }
        if matches_any(&rules.headed, path) && !text.starts_with("//!") {
            let message = "begin the file with //!, what it is and what it is not";
            findings.push(Finding::new(path, 1, RULE, message));
        }
        for rule in &rules.cfg {
            if matches_any(&rule.within, path) && !matches_any(&rule.only, path) {
                check_cfg(path, text, rule, &mut findings);
            }
        }
    }
    findings
}

/// The keys of `rule` as words of the code: they have no use in Rust but in a `cfg`.
fn check_cfg(path: &str, text: &str, rule: &CfgRule, findings: &mut Vec<Finding>) {
    for token in tokens(text)
        .iter()
        .filter(|token| token.kind == Kind::Ident)
    {
        if rule.keys.iter().any(|key| key == token.text) {
            let message = format!(
                "{} outside {}, move what differs there",
                token.text,
                rule.only.join(", ")
            );
            findings.push(Finding::new(path, token.line, RULE, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> LinesRules {
        LinesRules {
            max: 3,
            counted: vec![".rs".into(), ".md".into()],
            exempt: vec!["CHANGELOG.md".into()],
            headed: vec!["crates/*/src/**/*.rs".into()],
            nameless: vec!["util.rs".into()],
            cfg: vec![CfgRule {
                keys: vec!["target_arch".into()],
                within: vec!["crates/**".into()],
                only: vec!["crates/runtime/src/arch/**".into()],
            }],
        }
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]), &rules())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[track_caller]
    fn finds(path: &str, text: &str, words: &str) {
        let found = found(path, text);
        assert!(
            found.len() == 1 && found[0].contains(words),
            "{found:?} should be one with {words:?}"
        );
    }

    #[test]
    fn a_long_file_is_found_and_an_exempt_one_is_not() {
        assert_eq!(found("docs/a.md", "1\n2\n3\n"), [""; 0]);
        finds("docs/a.md", "1\n2\n3\n4\n", "docs/a.md:4: lines: 4 lines");
        assert_eq!(found("CHANGELOG.md", "1\n2\n3\n4\n"), [""; 0]);
        assert_eq!(found("Cargo.toml", "1\n2\n3\n4\n"), [""; 0]);
    }

    #[test]
    fn a_file_says_what_it_is() {
        assert_eq!(found("crates/a/src/b.rs", "//! what\n"), [""; 0]);
        finds("crates/a/src/b.rs", "// what\n", "begin the file with //!");
        finds("crates/a/src/b.rs", "", "begin the file with //!");
        assert_eq!(found("guests/a.rs", "fn main() {}"), [""; 0]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        finds("crates/a/src/util.rs", "//! what\n", "names nothing");
        assert_eq!(found("crates/a/src/futile.rs", "//! what\n"), [""; 0]);
    }

    #[test]
    fn the_machine_is_asked_only_in_its_room() {
        let text = "//! x\n#[cfg(all(unix, target_arch = \"x86_64\"))]\n";
        finds(
            "crates/a/src/b.rs",
            text,
            "b.rs:2: lines: target_arch outside",
        );
        finds(
            "crates/a/src/b.rs",
            "//! x\nif cfg!(target_arch = \"a\") {}",
            "target_arch",
        );
        assert_eq!(found("crates/runtime/src/arch/mod.rs", text), [""; 0]);
        assert_eq!(
            found("crates/a/src/b.rs", "//! x\n// cfg(target_arch)\n"),
            [""; 0]
        );
    }
}
