//! Phrases that comments and documents do without, and markers that need an issue number.
//!
//! Code is not read, and neither are spans in backticks and fenced blocks: there a forbidden phrase
//! may be quoted.

use crate::Finding;
use crate::lexer::{Kind, tokens};
use crate::markdown::parted;
use crate::rules::WordsRules;
use crate::tree::{Tree, matches_any};

const RULE: &str = "words";

/// Checks the prose of every file.
pub(crate) fn check(tree: &Tree, rules: &WordsRules) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        if !matches_any(&rules.read, path) || matches_any(&rules.exempt, path) {
            continue;
        }
        for (line, prose) in prose(path, text) {
            for message in check_line(&prose, rules) {
                findings.push(Finding::new(path, line, RULE, message));
            }
        }
    }
    findings
}

/// What is wrong with one line of prose.
fn check_line(prose: &str, rules: &WordsRules) -> Vec<String> {
    let mut messages = Vec::new();
    let lower = prose.to_lowercase();
    for forbidden in &rules.forbidden {
        if has_phrase(&lower, &forbidden.phrase.to_lowercase()) {
            messages.push(format!("{:?}, {}", forbidden.phrase, forbidden.instead));
        }
    }
    for marker in &rules.markers {
        if has_phrase(prose, marker) && !has_issue(prose) {
            messages.push(format!(
                "{marker} without an issue, write its number (#12) beside it"
            ));
        }
    }
    let end = prose.trim_end();
    if end
        .strip_suffix('!')
        .is_some_and(|text| text.ends_with(|c: char| c.is_ascii_lowercase()))
    {
        messages.push("an exclamation mark, end the sentence with a full stop".to_owned());
    }
    messages
}

/// Whether `phrase` is in `text`, not as a part of a longer word.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(phrase).any(|(at, _)| {
        !text[..at].ends_with(in_word) && !text[at + phrase.len()..].starts_with(in_word)
    })
}

/// Whether `#` and a digit are in `text`.
fn has_issue(text: &str) -> bool {
    text.match_indices('#')
        .any(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()))
}

/// The lines of `text` that are prose, without code.
fn prose(path: &str, text: &str) -> Vec<(usize, String)> {
    let mut reader = Reader::default();
    let numbered = || {
        text.lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    };
    let marked = |reader: &mut Reader, mark: &str| {
        for (number, line) in numbered() {
            if let Some(comment) = line.trim_start().strip_prefix(mark) {
                reader.line(number, comment);
            }
        }
    };
    match path.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "md" => numbered().for_each(|(number, line)| reader.line(number, line)),
        "rs" => {
            for token in tokens(text)
                .iter()
                .filter(|token| token.kind == Kind::Comment)
            {
                for (index, line) in token.text.lines().enumerate() {
                    let line = line.trim_start_matches(['/', '!', '*', ' ']);
                    reader.line(token.line + index, line.trim_end_matches("*/"));
                }
            }
        }
        "wat" => marked(&mut reader, ";;"),
        _ => marked(&mut reader, "#"),
    }
    reader.prose
}

/// Gathers prose from consecutive lines, leaving out fenced blocks and spans in backticks.
#[derive(Default)]
struct Reader {
    prose: Vec<(usize, String)>,
    last: usize,
    fenced: bool,
}

impl Reader {
    fn line(&mut self, number: usize, text: &str) {
        // A fence does not reach over code into the next comment.
        if number > self.last + 1 {
            self.fenced = false;
        }
        self.last = number;
        if text.trim_start().starts_with("```") {
            self.fenced = !self.fenced;
        } else if !self.fenced {
            self.prose.push((number, parted(text).1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Forbidden;

    fn found(path: &str, text: &str) -> Vec<String> {
        let phrase = |phrase: &str| Forbidden {
            phrase: phrase.into(),
            instead: "drop it".into(),
        };
        let rules = WordsRules {
            read: vec!["**".into()],
            exempt: vec!["quoted.md".into()],
            forbidden: vec![phrase("obviously"), phrase("keep in sync")],
            markers: vec!["TODO".into()],
        };
        check(&Tree::of(&[(path, text)]), &rules)
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

    #[track_caller]
    fn passes(path: &str, text: &str) {
        assert_eq!(found(path, text), [""; 0]);
    }

    #[test]
    fn a_forbidden_phrase_is_found_in_comments_and_documents() {
        finds(
            "a.rs",
            "fn f() {}\n/// Obviously so.\n",
            "a.rs:2: words: \"obviously\", drop it",
        );
        finds("a.rs", "/* one\n * keep in sync with b */", "a.rs:2:");
        finds("a.md", "# A\n\nThis is obviously so.\n", "a.md:3:");
        finds("a.sh", "#!/bin/sh\n  # keep in sync\n", "a.sh:2:");
        finds("a.wat", "(module) \n;; obviously\n", "a.wat:2:");
    }

    #[test]
    fn code_and_quotations_may_have_it() {
        passes("a.rs", "let obviously = \"// obviously\"; // fine\n");
        passes(
            "a.md",
            "The word `obviously` is out.\n\n```\nobviously\n```\n",
        );
        passes("a.rs", "/// ```\n/// obviously();\n/// ```\n");
        passes("a.sh", "echo obviously\n");
        passes("a.md", "unobviously");
        passes("quoted.md", "obviously");
    }

    #[test]
    fn a_fence_that_is_never_closed_ends_with_its_comment() {
        finds(
            "a.rs",
            "/// ```\n/// x\nfn f() {}\n// obviously\n",
            "a.rs:4:",
        );
    }

    #[test]
    fn a_marker_needs_an_issue() {
        finds("a.rs", "// TODO: later\n", "TODO without an issue");
        passes("a.rs", "// TODO(#12): later\n");
        passes("a.rs", "// the TODOS of others\n");
        passes("a.md", "A `TODO` has a number.\n");
    }

    #[test]
    fn nobody_is_shouted_at() {
        finds("a.rs", "// it works!\n", "an exclamation mark");
        finds("a.rs", "// it works!  \n", "an exclamation mark");
        passes("a.rs", "// calls `assert!`\n// 0 != 1, N! and (a!)\n");
    }
}
