//! `house`: reads the tree and says where it breaks a rule of `tools/house/rules.toml`.
//!
//! One finding is one line, `path:line: rule: what is wrong, what to do`, and a closing line counts
//! them; any finding makes the exit code 1, a failure of `house` itself makes it 2. It changes
//! nothing. It is not a linter of Rust: what rustc and clippy can check is in the lint table of the
//! workspace.

#![forbid(unsafe_code)]

mod deps;
mod docs;
mod lexer;
mod lines;
mod markdown;
mod rooms;
mod rules;
mod tree;
mod words;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use rules::Rules;
use tree::Tree;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the root of the tree.
    path: String,
    /// The line, counted from 1.
    line: usize,
    /// The family of rules: `deps`, `rooms`, `lines`, `docs` or `words`.
    rule: &'static str,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}: {}",
            self.path, self.line, self.rule, self.message
        )
    }
}

/// Every finding of every rule, in the order of the files.
fn check() -> Result<Vec<Finding>, String> {
    let root = tree::find_root()?;
    let tree = Tree::load(&root)?;
    let rules = Rules::of(&tree)?;
    let graph = deps::Graph::load(&root)?;
    let mut findings = deps::check(&tree, &rules.deps, &graph);
    findings.extend(rooms::check(&tree, &rules.rooms));
    findings.extend(lines::check(&tree, &rules.lines));
    findings.extend(docs::check(&tree, &rules.docs));
    findings.extend(words::check(&tree, &rules.words));
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// Writes the findings and the closing line. A reader who has gone away is not an error.
fn report(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    match findings.len() {
        0 => writeln!(out, "house: no findings"),
        1 => writeln!(out, "house: 1 finding"),
        count => writeln!(out, "house: {count} findings"),
    }
}

fn main() -> ExitCode {
    match check() {
        Ok(findings) => match report(&mut io::stdout().lock(), &findings) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(2),
            _ if findings.is_empty() => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        },
        Err(message) => {
            // With no standard error to write to, the exit code is all that is left to say it.
            let _ = writeln!(io::stderr(), "house: {message}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_ends_with_a_count() {
        let text = |findings: &[Finding]| {
            let mut out = Vec::new();
            report(&mut out, findings).unwrap();
            String::from_utf8(out).unwrap()
        };
        let two = [3, 4].map(|line| Finding::new("a.rs", line, "lines", "too long, cut it"));
        assert_eq!(text(&[]), "house: no findings\n");
        assert_eq!(
            text(&two[..1]),
            "a.rs:3: lines: too long, cut it\nhouse: 1 finding\n"
        );
        assert!(text(&two).ends_with("house: 2 findings\n"));
    }
}
