//! `unsafe` stands only in its rooms, each block under a `// SAFETY:` comment, and each invariant
//! that a comment cites is in `SAFETY.md`.
//!
//! This counts the word in the source, so it also sees macros and code that `cfg` leaves out; the
//! lints of the workspace, which see only what is compiled, stand beside it.

use std::collections::BTreeMap;

use crate::Finding;
use crate::lexer::{Kind, Token, tokens};
use crate::rules::{RULES_PATH, RoomsRules};
use crate::tree::{Tree, matches_any};

const RULE: &str = "rooms";

/// Checks every Rust file, and the document that numbers the invariants.
pub(crate) fn check(tree: &Tree, rules: &RoomsRules) -> Vec<Finding> {
    let mut findings = Vec::new();
    let invariants = invariants(tree, rules, &mut findings);
    for (path, text) in tree.texts() {
        if path.ends_with(".rs") && !matches_any(&rules.outside, path) {
            check_source(path, text, rules, &invariants, &mut findings);
        }
        if path.ends_with(".md") {
            for (index, line) in text.lines().enumerate() {
                cited(path, index + 1, line, rules, &invariants, &mut findings);
            }
        }
    }
    for listed in rules.listed.iter().chain(&rules.declaring) {
        let message = if tree.text(&listed.path).is_none() {
            "names no file, take it out of the list"
        } else if listed.why.trim().is_empty() {
            "gives no reason, say why it cannot do without"
        } else {
            continue;
        };
        let message = format!("the exception for unsafe in {} {message}", listed.path);
        findings.push(Finding::new(RULES_PATH, 1, RULE, message));
    }
    findings
}

/// Number of each invariant -> its line in the safety document. A room without a heading there, and
/// a number given twice, are findings.
fn invariants(
    tree: &Tree,
    rules: &RoomsRules,
    findings: &mut Vec<Finding>,
) -> BTreeMap<u32, usize> {
    let mut defined = BTreeMap::new();
    let Some(text) = tree.text(&rules.safety) else {
        let message = "the document of rooms and invariants is missing, write it";
        findings.push(Finding::new(&rules.safety, 1, RULE, message));
        return defined;
    };
    for (index, line) in text.lines().enumerate() {
        // Prose that happens to begin a line with a citation defines nothing.
        if !line.starts_with(['#', '-', '*', '|']) {
            continue;
        }
        let start = line.trim_start_matches(['#', '-', '*', '|', ' ']);
        let Some((number, rest)) = invariant_at(start) else {
            continue;
        };
        if !rest.starts_with([':', '*', ' ', '|']) {
            continue;
        }
        if let Some(first) = defined.insert(number, index + 1) {
            let message =
                format!("I-{number} is defined on line {first} too, give it a new number");
            findings.push(Finding::new(&rules.safety, index + 1, RULE, message));
        }
    }
    for room in rules.rooms.keys() {
        let headed = text.lines().any(|line| {
            line.strip_prefix('#')
                .map(|line| line.trim_start_matches(['#', ' ']))
                .and_then(|title| title.strip_prefix(room.as_str()))
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
        });
        if !headed {
            let message =
                format!("room {room} has no heading here, say what it wraps and why it is sound");
            findings.push(Finding::new(&rules.safety, 1, RULE, message));
        }
    }
    defined
}

/// The number behind `I-`, and what follows it.
fn invariant_at(text: &str) -> Option<(u32, &str)> {
    let after = text.strip_prefix("I-")?;
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    let (digits, rest) = after.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// Every `I-<n>` in `text` must be an invariant.
fn cited(
    path: &str,
    line: usize,
    text: &str,
    rules: &RoomsRules,
    invariants: &BTreeMap<u32, usize>,
    findings: &mut Vec<Finding>,
) {
    for (at, _) in text.match_indices("I-") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_') {
            continue;
        }
        let Some((number, _)) = invariant_at(&text[at..]) else {
            continue;
        };
        if !invariants.contains_key(&number) {
            let message = format!(
                "I-{number} is not in {}, define it or cite another",
                rules.safety
            );
            findings.push(Finding::new(path, line, RULE, message));
        }
    }
}

/// One Rust file: the word, the comments above it, the citations, and `forbid` in a crate root.
fn check_source(
    path: &str,
    text: &str,
    rules: &RoomsRules,
    invariants: &BTreeMap<u32, usize>,
    findings: &mut Vec<Finding>,
) {
    let tokens = tokens(text);
    let room = rules
        .rooms
        .iter()
        .find(|(_, globs)| matches_any(globs, path))
        .map(|(room, _)| room);
    let listed = rules.listed.iter().any(|listed| listed.path == path);
    let declaring = rules.declaring.iter().any(|listed| listed.path == path);
    for (at, token) in tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.is_word("unsafe"))
    {
        let next = tokens[at + 1..]
            .iter()
            .find(|token| token.kind != Kind::Comment);
        if room.is_none() && !listed {
            let message = match (declaring, next) {
                (true, Some(next)) if next.is_word("fn") => continue,
                (true, _) => "unsafe that is no unsafe fn outside a room, move it into one",
                (false, _) => "unsafe outside a room, move it into one or do without",
            };
            findings.push(Finding::new(path, token.line, RULE, message));
            continue;
        }
        if next.is_some_and(|next| next.is_punct("{") || next.is_word("impl"))
            && let Some(message) = unexplained(&tokens, at)
        {
            findings.push(Finding::new(path, token.line, RULE, message));
        }
    }
    for comment in tokens.iter().filter(|token| token.kind == Kind::Comment) {
        for (index, line) in comment.text.lines().enumerate() {
            cited(
                path,
                comment.line + index,
                line,
                rules,
                invariants,
                findings,
            );
        }
    }
    if matches_any(&rules.roots, path) && !has_room(path, rules) && !forbids_unsafe(&tokens) {
        let message = "a crate without a room, begin it with #![forbid(unsafe_code)]";
        findings.push(Finding::new(path, 1, RULE, message));
    }
}

/// Whether the crate of the root `path` has a room, or a file that declares an `unsafe fn`.
fn has_room(path: &str, rules: &RoomsRules) -> bool {
    let Some((package, _)) = path.rsplit_once("/src/") else {
        return false;
    };
    let folder = format!("{package}/");
    let declaring = rules.declaring.iter().map(|listed| &listed.path);
    rules
        .rooms
        .values()
        .flatten()
        .chain(declaring)
        .any(|path| path.starts_with(&folder))
}

/// Whether `#![forbid(.. unsafe_code ..)]` is among the tokens.
fn forbids_unsafe(tokens: &[Token<'_>]) -> bool {
    let code: Vec<_> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .collect();
    code.windows(5).enumerate().any(|(at, window)| {
        let opens = window[0].is_punct("#")
            && window[1].is_punct("!")
            && window[2].is_punct("[")
            && window[3].is_word("forbid")
            && window[4].is_punct("(");
        opens
            && code[at + 5..]
                .iter()
                .take_while(|token| !token.is_punct(")"))
                .any(|token| token.is_word("unsafe_code"))
    })
}

/// Why the `unsafe` at `at` is not explained; `None` if it is.
///
/// An explanation is a comment with `SAFETY:` in the statement of the block, before the word, or in
/// the unbroken comment lines above that statement.
fn unexplained(tokens: &[Token<'_>], at: usize) -> Option<&'static str> {
    let border = statement_border(tokens, at);
    let before = &tokens[border.map_or(0, |border| border + 1)..at];
    // What stands behind the end of the last statement, on its line, belongs to that statement.
    let border_line = border.map_or(0, |border| tokens[border].last_line());
    let own = tokens[at].line;
    let mut comments: Vec<_> = before
        .iter()
        .filter(|token| token.kind == Kind::Comment)
        .filter(|token| token.line > border_line || token.line == own)
        .collect();
    // Comments that an empty line parts from the statement are about something else.
    let mut floor = before
        .iter()
        .find(|token| token.kind != Kind::Comment)
        .map_or(own, |first| first.line);
    comments.reverse();
    comments.retain(|comment| {
        let near = comment.last_line() + 1 >= floor;
        if near {
            floor = floor.min(comment.line);
        }
        near
    });
    comments.reverse();
    let Some(at) = comments
        .iter()
        .position(|comment| comment.text.contains("SAFETY:"))
    else {
        return Some("no SAFETY comment directly above, say why this holds here");
    };
    let said = comments[at]
        .text
        .split_once("SAFETY:")
        .map_or("", |(_, said)| said);
    let said = said.trim().trim_end_matches("*/").trim_end();
    if said.to_ascii_lowercase().starts_with("todo") {
        return Some("SAFETY: todo is a debt and not a reason, say why this holds here");
    }
    if said.is_empty() && comments.get(at + 1).is_none() {
        return Some("an empty SAFETY comment, say why this holds here");
    }
    None
}

/// Whether code goes on in a later line than that of the token `at`. A comma that ends its line parts
/// arms or fields; one within a line may part generic arguments or the parameters of a closure.
fn ends_line(tokens: &[Token<'_>], at: usize) -> bool {
    tokens[at + 1..]
        .iter()
        .find(|token| token.kind != Kind::Comment)
        .is_none_or(|next| next.line > tokens[at].line)
}

/// The token that ends what stands before the statement around `at`: a `;`, a `{`, the `}` of
/// another statement, or the comma between two arms or fields.
fn statement_border(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    // Bracketed groups that end before `at` are stepped over; a bracket that is still open there is
    // stepped out of, since `f(a, unsafe { .. })` is explained above `f`.
    let mut closed = Vec::new();
    let mut comma = None;
    for (index, token) in tokens[..at].iter().enumerate().rev() {
        if token.kind != Kind::Punct {
            continue;
        }
        match token.text {
            ")" | "]" => closed.push(token.text),
            "}" if closed.is_empty() => return Some(comma.unwrap_or(index)),
            "}" => closed.push("}"),
            "(" | "[" | "{" if closed.pop().is_some() => {}
            // An open parenthesis: the commas met so far parted its arguments.
            "(" | "[" => comma = None,
            "{" => return Some(comma.unwrap_or(index)),
            ";" if closed.is_empty() => return Some(comma.unwrap_or(index)),
            "," if closed.is_empty() && comma.is_none() && ends_line(tokens, index) => {
                comma = Some(index);
            }
            _ => {}
        }
    }
    comma
}

#[cfg(test)]
mod tests;
