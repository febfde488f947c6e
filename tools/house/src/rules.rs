//! The shape of `rules.toml`. The law itself is in that file; nothing here has a default, so that a
//! rule which is not written down is an error and not a silence.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::tree::Tree;

/// Where the law is, from the root of the tree.
pub(crate) const RULES_PATH: &str = "tools/house/rules.toml";

/// The whole law.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    pub(crate) deps: DepsRules,
    pub(crate) rooms: RoomsRules,
    pub(crate) lines: LinesRules,
    pub(crate) docs: DocsRules,
    pub(crate) words: WordsRules,
}

/// Who may name whom.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DepsRules {
    /// Package -> packages of ours it may name in `[dependencies]` and `[build-dependencies]`; `*` is all.
    pub(crate) edges: BTreeMap<String, Vec<String>>,
    /// Package -> packages of ours it may name in `[dev-dependencies]`, beside those of `edges`.
    pub(crate) dev_edges: BTreeMap<String, Vec<String>>,
    /// The document that names every third-party crate of the workspace.
    pub(crate) rationale: String,
    /// What must not be reachable, however far down.
    pub(crate) unreachable: Vec<Unreachable>,
}

/// One thing that must not be reachable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unreachable {
    /// The package it starts from, or `*` for each of ours.
    pub(crate) from: String,
    /// Package names that must not be met; a trailing `*` stands for any ending.
    pub(crate) to: Vec<String>,
    /// Whether dev- and build-dependencies of our own packages count too.
    pub(crate) all_kinds: bool,
    /// Why, for the message.
    pub(crate) why: String,
}

/// Where `unsafe` may stand, and what must stand above it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsRules {
    /// The document that numbers the invariants.
    pub(crate) safety: String,
    /// Room -> globs of its files.
    pub(crate) rooms: BTreeMap<String, Vec<String>>,
    /// Rust files of which this family says nothing (guests: programs that run inside).
    pub(crate) outside: Vec<String>,
    /// Test files that may use `unsafe`, each with its reason.
    pub(crate) listed: Vec<Listed>,
    /// Files outside the rooms that may declare an `unsafe fn` and hold no unsafe block.
    pub(crate) declaring: Vec<Listed>,
    /// Crate roots that forbid unsafe code, unless their crate has a room.
    pub(crate) roots: Vec<String>,
}

/// A file with a reason to be an exception.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) why: String,
}

/// Length, first line and name of files, and where `cfg` may ask what machine this is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinesRules {
    pub(crate) max: usize,
    /// Extensions of the files that `max` counts.
    pub(crate) counted: Vec<String>,
    /// Files that may be longer.
    pub(crate) exempt: Vec<String>,
    /// Rust files that begin with `//!`.
    pub(crate) headed: Vec<String>,
    /// File names that say nothing.
    pub(crate) nameless: Vec<String>,
    pub(crate) cfg: Vec<CfgRule>,
}

/// One family of `cfg` keys and the only places that may use it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CfgRule {
    pub(crate) keys: Vec<String>,
    /// Files that the rule looks at.
    pub(crate) within: Vec<String>,
    /// Files that may use the keys.
    pub(crate) only: Vec<String>,
}

/// What a document may name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocsRules {
    /// The documents that are read.
    pub(crate) read: Vec<String>,
    /// Top-level folders: a word that begins with one of them is a path.
    pub(crate) folders: Vec<String>,
    /// Endings that make a single name in backticks a file name.
    pub(crate) endings: Vec<String>,
    /// Names and paths that look like files of the tree and are not.
    pub(crate) not_paths: Vec<String>,
}

/// Phrases that comments and documents do without.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WordsRules {
    /// Files that are read.
    pub(crate) read: Vec<String>,
    /// Files that are not, although `read` names them.
    pub(crate) exempt: Vec<String>,
    pub(crate) forbidden: Vec<Forbidden>,
    /// Words that need an issue number (`#12`) on their line.
    pub(crate) markers: Vec<String>,
}

/// A phrase and what to do instead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forbidden {
    pub(crate) phrase: String,
    pub(crate) instead: String,
}

impl Rules {
    /// Reads the law out of the tree.
    pub(crate) fn of(tree: &Tree) -> Result<Self, String> {
        let text = tree.text(RULES_PATH).ok_or_else(|| {
            format!("{RULES_PATH} is not in the tree, restore it from the repository")
        })?;
        toml::from_str(text).map_err(|e| format!("{RULES_PATH} cannot be read: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_in_the_tree_can_be_read() {
        let text = include_str!("../rules.toml");
        let rules = Rules::of(&Tree::of(&[(RULES_PATH, text)])).unwrap();
        assert!(
            rules
                .rooms
                .listed
                .iter()
                .all(|listed| !listed.why.is_empty())
        );
        assert!(rules.deps.edges["selvedge-artifact"].is_empty());
    }

    #[test]
    fn a_key_that_no_rule_has_is_an_error() {
        let text = format!("{}\nsurprise = 1\n", include_str!("../rules.toml"));
        let error = Rules::of(&Tree::of(&[(RULES_PATH, &text)])).unwrap_err();
        assert!(error.contains("surprise"), "{error}");
    }
}
