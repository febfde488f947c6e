//! Rust source as tokens: enough to tell code from comments, strings and character literals.
//!
//! It is not a parser: it knows nothing of items or expressions, and it accepts text that rustc
//! refuses. Whatever is not closed runs to the end of the file.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or keyword. Raw identifiers (`r#unsafe`) keep their prefix, so they equal no keyword.
    Ident,
    /// `'a`, which is not the beginning of a character literal.
    Lifetime,
    /// A number, string, byte string or character, with its quotes.
    Literal,
    /// One character of punctuation.
    Punct,
    /// A comment with its marks. A block comment is one token, nested ones included.
    Comment,
}

/// A piece of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// The line of its first character, from 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    /// Whether this is the identifier or keyword `word`.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Ident && self.text == word
    }

    /// Whether this is the punctuation `mark`.
    pub(crate) fn is_punct(&self, mark: &str) -> bool {
        self.kind == Kind::Punct && self.text == mark
    }

    /// The line of its last character.
    pub(crate) fn last_line(&self) -> usize {
        self.line + self.text.matches('\n').count()
    }
}

/// Cuts `source` into tokens; white space falls away.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut rest = source;
    let mut line = 1;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (kind, len) = if first.is_whitespace() {
            (None, first.len_utf8())
        } else {
            let (kind, len) = measure(rest, first);
            (Some(kind), len)
        };
        let (text, after) = rest.split_at(len);
        if let Some(kind) = kind {
            tokens.push(Token { kind, text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Kind and length in bytes of the token at the beginning of `text`, which is not white space.
fn measure(text: &str, first: char) -> (Kind, usize) {
    if text.starts_with("//") {
        return (Kind::Comment, text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return (Kind::Comment, block_comment_len(text));
    }
    if first == '"' {
        return (Kind::Literal, quoted_len(text, 0, '"'));
    }
    if first == '\'' {
        return quote(text);
    }
    if first.is_ascii_digit() {
        return (Kind::Literal, number_len(text));
    }
    if first == '_' || first.is_alphabetic() {
        return word(text);
    }
    (Kind::Punct, first.len_utf8())
}

/// A block comment, with the ones nested in it.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// A literal whose opening quote is at `open`, up to its closing quote; a backslash hides the next character.
fn quoted_len(text: &str, open: usize, quote: char) -> usize {
    let mut hidden = false;
    for (at, c) in text[open..].char_indices().skip(1) {
        if hidden {
            hidden = false;
        } else if c == '\\' {
            hidden = true;
        } else if c == quote {
            return open + at + 1;
        }
    }
    text.len()
}

/// `'x'` and `'\n'` are characters; `'x` with no quote behind one character is a lifetime.
fn quote(text: &str) -> (Kind, usize) {
    let mut after = text[1..].chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) => (Kind::Literal, quoted_len(text, 0, '\'')),
        (Some(c), Some('\'')) => (Kind::Literal, 1 + c.len_utf8() + 1),
        (Some(c), _) if c == '_' || c.is_alphabetic() => {
            (Kind::Lifetime, 1 + ident_len(&text[1..]))
        }
        _ => (Kind::Punct, 1),
    }
}

/// `1_000u32`, `0xff`, `1.5e3`: digits, letters, and a point if a digit follows it.
fn number_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let point = bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if bytes[at] != b'_' && !bytes[at].is_ascii_alphanumeric() && !point {
            break;
        }
        at += 1;
    }
    at
}

fn ident_len(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric())
        .unwrap_or(text.len())
}

/// An identifier, or a literal that a prefix opens: `r"`, `b"`, `br#"`, `c"`, `b'`, and `r#name`.
fn word(text: &str) -> (Kind, usize) {
    let len = ident_len(text);
    let (prefix, after) = text.split_at(len);
    let raw = matches!(prefix, "r" | "br" | "cr");
    if raw {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = len + hashes + 1;
            let end = text[body..].find(&close).map(|at| body + at + close.len());
            return (Kind::Literal, end.unwrap_or(text.len()));
        }
        if prefix == "r" && hashes == 1 {
            return (Kind::Ident, len + 1 + ident_len(&after[1..]));
        }
    }
    if matches!(prefix, "b" | "c") && after.starts_with('"') {
        return (Kind::Literal, quoted_len(text, len, '"'));
    }
    if prefix == "b" && after.starts_with('\'') {
        return (Kind::Literal, quoted_len(text, len, '\''));
    }
    (Kind::Ident, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str, kind: Kind) -> Vec<&str> {
        tokens(source)
            .into_iter()
            .filter(|t| t.kind == kind)
            .map(|t| t.text)
            .collect()
    }

    #[test]
    fn nested_block_comments_are_one_token() {
        let source = "a /* x /* unsafe */ still */ b /* open";
        assert_eq!(texts(source, Kind::Ident), ["a", "b"]);
        assert_eq!(
            texts(source, Kind::Comment),
            ["/* x /* unsafe */ still */", "/* open"]
        );
        assert_eq!(texts("/*/ a */ b", Kind::Ident), ["b"]);
        assert_eq!(texts("/* é */ b", Kind::Ident), ["b"]);
    }

    #[test]
    fn line_comments_end_with_the_line() {
        assert_eq!(texts("a // \" unsafe '\nb", Kind::Ident), ["a", "b"]);
        assert_eq!(
            texts("a /// doc\n//! more", Kind::Comment),
            ["/// doc", "//! more"]
        );
    }

    #[test]
    fn strings_hide_their_text_and_escapes_do_not_close_them() {
        assert_eq!(texts(r#"f("a \" unsafe \\") + g"#, Kind::Ident), ["f", "g"]);
        assert_eq!(
            texts(r##"f(b"\"", c"x", b'\'', b'"') g"##, Kind::Ident),
            ["f", "g"]
        );
        assert_eq!(texts("f(\"// no comment\") g", Kind::Comment), [""; 0]);
        assert_eq!(texts("\"never closed", Kind::Literal), ["\"never closed"]);
    }

    #[test]
    fn raw_strings_close_with_their_own_hashes() {
        let source = r####"f(r"\", r#"a " unsafe"#, br##"b "# c"##, cr"x") g"####;
        assert_eq!(texts(source, Kind::Ident), ["f", "g"]);
        assert_eq!(texts(source, Kind::Literal).len(), 4);
    }

    #[test]
    fn raw_identifiers_are_not_keywords() {
        let tokens = tokens("r#unsafe unsafe br");
        assert_eq!(tokens.iter().filter(|t| t.is_word("unsafe")).count(), 1);
        assert_eq!(tokens[0].text, "r#unsafe");
    }

    #[test]
    fn lifetimes_are_not_characters() {
        let source =
            "fn f<'a, 'b>(x: &'a str, c: char) where 'b: 'a { c == 'a' || c == '\\'' || c == ',' }";
        assert_eq!(
            texts(source, Kind::Lifetime),
            ["'a", "'b", "'a", "'b", "'a"]
        );
        assert_eq!(texts(source, Kind::Literal), ["'a'", "'\\''", "','"]);
        assert_eq!(
            texts("'outer: loop { break 'outer }", Kind::Lifetime),
            ["'outer", "'outer"]
        );
        assert_eq!(
            texts(r"'\u{1F600}' 'é' '_' &'_ x", Kind::Literal),
            [r"'\u{1F600}'", "'é'", "'_'"]
        );
        assert_eq!(texts("&'static unsafe", Kind::Ident), ["unsafe"]);
    }

    #[test]
    fn numbers_do_not_swallow_ranges_or_methods() {
        assert_eq!(
            texts("0..10 1.5e3 1.max(2) 0xffu8", Kind::Literal),
            ["0", "10", "1.5e3", "1", "2", "0xffu8"]
        );
        assert_eq!(texts("1.max(2)", Kind::Ident), ["max"]);
    }

    #[test]
    fn lines_are_counted_through_every_kind() {
        let tokens = tokens("/* 1\n2 */ a\n\"x\ny\" b\nr\"\n\" c");
        let line = |text: &str| tokens.iter().find(|t| t.text == text).map(|t| t.line);
        assert_eq!(
            (line("a"), line("b"), line("c")),
            (Some(2), Some(4), Some(6))
        );
        assert_eq!((tokens[0].line, tokens[0].last_line()), (1, 2));
    }
}
