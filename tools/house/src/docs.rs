//! What a document names is there: repository paths in backticks and fenced blocks, and the targets
//! of relative links.
//!
//! Only paths are read, not names of functions; rustdoc checks those in the code's own documents.

use crate::Finding;
use crate::markdown::parted;
use crate::rules::DocsRules;
use crate::tree::{Tree, matches, matches_any};

const RULE: &str = "docs";

/// Checks every document that the rules name.
pub(crate) fn check(tree: &Tree, rules: &DocsRules) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .texts()
        .filter(|(path, _)| matches_any(&rules.read, path))
    {
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let (code, prose) = if fenced {
                (vec![line], String::new())
            } else {
                parted(line)
            };
            for span in code {
                for word in named_paths(span, fenced, rules) {
                    if !is_there(tree, path, word) {
                        let message = format!("{word} does not exist, mend the name or the tree");
                        findings.push(Finding::new(path, number, RULE, message));
                    }
                }
            }
            for target in link_targets(&prose) {
                if !link_resolves(tree, path, target) {
                    let message = format!("the link to {target} leads nowhere, mend it");
                    findings.push(Finding::new(path, number, RULE, message));
                }
            }
        }
    }
    findings
}

/// The words of a span of code that name a file or folder of the repository.
fn named_paths<'a>(span: &'a str, fenced: bool, rules: &DocsRules) -> Vec<&'a str> {
    let whole = !fenced && !span.trim().contains(char::is_whitespace);
    span.split_whitespace()
        .map(bare)
        .filter(|word| {
            let path = word.strip_prefix("./").unwrap_or(word);
            // `a/{b,c}` and `a/<name>` are patterns for a reader, not names.
            if path.contains(['{', '<', '$', '…', '=', '|', '(']) || path.contains("..") {
                return false;
            }
            let named = match path.split_once('/') {
                Some((folder, _)) => rules.folders.iter().any(|known| known == folder),
                None => {
                    whole
                        && rules
                            .endings
                            .iter()
                            .any(|ending| is_file_name(path, ending))
                }
            };
            named && !matches_any(&rules.not_paths, path.trim_end_matches('/'))
        })
        .collect()
}

/// `word` without the punctuation around it, and without a `:12` or `::name` behind it.
fn bare(word: &str) -> &str {
    let word = word.trim_start_matches(['"', '\'', '(', '[']);
    let word = word.trim_end_matches(['"', '\'', ')', ']', ',', ';']);
    let word = word.split([':', '#']).next().unwrap_or(word);
    word.trim_end_matches('.')
}

/// Whether `name` is something before `ending`, of the characters of which file names are made.
fn is_file_name(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|stem| {
        !stem.is_empty()
            && stem
                .chars()
                .all(|c| c.is_alphanumeric() || "._-*".contains(c))
    })
}

/// Whether `word`, named in the document `doc`, is in the tree: from the root, beside the document,
/// or, for a single file name, anywhere.
fn is_there(tree: &Tree, doc: &str, word: &str) -> bool {
    let word = word.strip_prefix("./").unwrap_or(word);
    let beside = doc
        .rsplit_once('/')
        .map(|(folder, _)| format!("{folder}/{word}"));
    if word.contains('*') {
        let glob = if word.contains('/') {
            word.to_owned()
        } else {
            format!("**/{word}")
        };
        let below = format!("{glob}/**");
        return tree
            .paths()
            .any(|path| matches(&glob, path) || matches(&below, path));
    }
    tree.has(word)
        || beside.is_some_and(|path| tree.has(&path))
        || (!word.contains('/')
            && tree
                .paths()
                .any(|path| path.rsplit('/').next().is_some_and(|name| name == word)))
}

/// The targets of `[text](target)` and `[name]: target` in `line`, those within the repository.
fn link_targets(line: &str) -> Vec<&str> {
    let inline = line.match_indices("](").filter_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        rest.find(')').map(|end| &rest[..end])
    });
    let reference = line
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]:"))
        .map(|(_, target)| target.trim());
    inline
        .chain(reference)
        .filter_map(|target| target.split_whitespace().next())
        .map(|target| target.trim_matches(['<', '>']))
        .filter(|target| {
            let outside = target.contains("://") || target.starts_with("mailto:");
            !outside && !target.starts_with('#')
        })
        .collect()
}

/// Whether a link in `doc` leads to something in the tree.
fn link_resolves(tree: &Tree, doc: &str, target: &str) -> bool {
    let target = target.split('#').next().unwrap_or(target);
    let (base, target) = match target.strip_prefix('/') {
        Some(from_root) => ("", from_root),
        None => (
            doc.rsplit_once('/').map_or("", |(folder, _)| folder),
            target,
        ),
    };
    let mut folders: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if folders.pop().is_none() => return false,
            ".." => {}
            name => folders.push(name),
        }
    }
    tree.has(&folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(doc: &str, text: &str) -> Vec<String> {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let rules = DocsRules {
            read: strings(&["*.md", "docs/**/*.md"]),
            folders: strings(&["ci", "crates", "guests"]),
            endings: strings(&[".rs", ".md", ".toml", ".sh", ".wat", ".c"]),
            not_paths: strings(&["util.rs", "guests/fetched"]),
        };
        let tree = [
            (doc, text),
            ("ci/docs.sh", ""),
            ("crates/wasi/src/lib.rs", ""),
            ("docs/memory.md", ""),
            ("LICENSE", ""),
        ];
        check(&Tree::of(&tree), &rules)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[track_caller]
    fn finds(text: &str, words: &str) {
        let found = found_in("README.md", text);
        assert!(
            found.len() == 1 && found[0].contains(words),
            "{found:?} should be one with {words:?}"
        );
    }

    #[track_caller]
    fn passes(text: &str) {
        assert_eq!(found_in("README.md", text), [""; 0]);
    }

    #[test]
    fn a_path_in_backticks_exists() {
        passes("`ci/docs.sh`, `ci/`, `./ci/docs.sh`, `crates/wasi/src/lib.rs:12` and `lib.rs`.");
        finds(
            "one\n\nsee `ci/gone.sh`.",
            "README.md:3: docs: ci/gone.sh does not exist",
        );
        finds("`crates/wasi/`, `crates/vm/`", "crates/vm/");
        finds("run `bash ci/gone.sh now`", "ci/gone.sh");
        finds("see `gone.rs`", "gone.rs does not exist");
        finds("see `GONE.md`", "GONE.md");
    }

    #[test]
    fn a_path_in_a_fenced_block_exists() {
        passes("```sh\nbash ci/docs.sh\ncp main.c gone.rs\n```\n");
        finds("```sh\nbash ci/gone.sh\n```\n", "README.md:2:");
    }

    #[test]
    fn what_is_no_path_of_ours_is_left_alone() {
        passes(
            "`and/or`, `memory.grow`, `f.rs()`, `.md`, `util.rs`, `guests/fetched/`, `target/debug`",
        );
        passes("ci/gone.sh in prose, `crates/{a,b}/src`, `crates/<name>`, `a ` b");
    }

    #[test]
    fn a_pattern_matches_something() {
        passes("`ci/*.sh`, `crates/*`, `crates/*/src/*.rs`");
        finds("`ci/*.py`", "ci/*.py");
    }

    #[test]
    fn links_resolve() {
        passes("[a](ci/docs.sh) [b](docs/memory.md#words \"title\") [c](#here) [d](https://x.y/z)");
        passes("[l]: LICENSE\n`[x](gone.md)` is a link\n");
        finds("[a](gone.md)", "the link to gone.md leads nowhere");
        finds("![a](docs/gone.png)", "docs/gone.png");
        finds("[l]: gone.md", "gone.md");
    }

    #[test]
    fn links_start_from_their_document() {
        assert_eq!(
            found_in("docs/a.md", "[a](memory.md) [b](../LICENSE) [c](/LICENSE)"),
            [""; 0]
        );
        assert_eq!(found_in("docs/a.md", "[a](LICENSE)").len(), 1);
        assert_eq!(found_in("docs/a.md", "[a](../../LICENSE)").len(), 1);
        assert_eq!(
            found_in("docs/a.md", "`memory.md` and `ci/docs.sh`"),
            [""; 0]
        );
    }

    #[test]
    fn documents_that_the_rules_do_not_read_are_left_alone() {
        assert_eq!(found_in("guests/README.md", "`ci/gone.sh`"), [""; 0]);
    }
}
