//! Reading tokens: a cursor, lists with commas, and errors that point at a token.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::quote_spanned;

/// What is wrong with an item, and where.
#[derive(Debug)]
pub(crate) struct Problem {
    span: Span,
    message: String,
}

impl Problem {
    pub(crate) fn at(span: Span, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
        }
    }

    /// The error as the compiler shows it.
    pub(crate) fn into_tokens(self) -> TokenStream {
        let message = self.message;
        quote_spanned!(self.span => ::core::compile_error!(#message);)
    }
}

/// Tokens that are read one by one.
pub(crate) struct Cursor {
    tokens: std::iter::Peekable<proc_macro2::token_stream::IntoIter>,
}

impl Cursor {
    pub(crate) fn new(tokens: TokenStream) -> Self {
        Self {
            tokens: tokens.into_iter().peekable(),
        }
    }

    pub(crate) fn peek(&mut self) -> Option<&TokenTree> {
        self.tokens.peek()
    }

    pub(crate) fn next(&mut self) -> Option<TokenTree> {
        self.tokens.next()
    }

    /// Where the next token stands.
    pub(crate) fn span(&mut self) -> Span {
        self.peek().map_or_else(Span::call_site, TokenTree::span)
    }

    pub(crate) fn at_punct(&mut self, punct: char) -> bool {
        self.peek().is_some_and(|token| is_punct(token, punct))
    }

    /// Takes an identifier.
    pub(crate) fn ident(&mut self, what: &str) -> Result<Ident, Problem> {
        let span = self.span();
        match self.next() {
            Some(TokenTree::Ident(ident)) => Ok(ident),
            _ => Err(Problem::at(span, format!("{what} was expected here"))),
        }
    }

    /// Takes a group with these delimiters, if it is next.
    pub(crate) fn group(&mut self, delimiter: Delimiter) -> Option<Group> {
        match self.peek() {
            Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
                let group = group.clone();
                self.next();
                Some(group)
            }
            _ => None,
        }
    }

    /// Takes attributes away.
    pub(crate) fn skip_attributes(&mut self) {
        while self.at_punct('#') {
            self.next();
            self.group(Delimiter::Bracket);
        }
    }

    /// Takes a visibility, which may be nothing.
    pub(crate) fn visibility(&mut self) -> TokenStream {
        let mut tokens = TokenStream::new();
        if matches!(self.peek(), Some(TokenTree::Ident(ident)) if ident == "pub") {
            tokens.extend(self.next());
            tokens.extend(self.group(Delimiter::Parenthesis).map(TokenTree::Group));
        }
        tokens
    }
}

pub(crate) fn is_punct(token: &TokenTree, punct: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == punct)
}

/// The parts between the commas that stand outside of `<` and `>`; none behind the last comma.
pub(crate) fn list(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = Vec::new();
    let mut part: Vec<TokenTree> = Vec::new();
    let mut depth = 0usize;
    for token in tokens {
        let after_minus = part.last().is_some_and(|last| is_punct(last, '-'));
        if is_punct(&token, '<') {
            depth += 1;
        } else if is_punct(&token, '>') && !after_minus {
            depth = depth.saturating_sub(1);
        } else if is_punct(&token, ',') && depth == 0 {
            parts.push(std::mem::take(&mut part));
            continue;
        }
        part.push(token);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// A part of a list, cut at its first single colon.
pub(crate) fn cut_at_colon(part: &[TokenTree]) -> Option<(&[TokenTree], &[TokenTree])> {
    let mut at = 0;
    while at < part.len() {
        if is_punct(&part[at], ':') {
            let double = part.get(at + 1).is_some_and(|next| is_punct(next, ':'));
            if !double {
                return Some((&part[..at], &part[at + 1..]));
            }
            at += 1;
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_at_commas_of_their_own() {
        let count = |text: &str| list(text.parse().unwrap()).len();
        assert_eq!(count(""), 0);
        assert_eq!(count("a: u8,"), 1);
        assert_eq!(count("a: Map<u8, u8>, b: (u8, u8), c: [u8; 2]"), 3);
        assert_eq!(count("f: F<fn(u8) -> u8, u8>, g: u8"), 2);
    }

    #[test]
    fn a_part_is_cut_at_a_single_colon() {
        let cut = |text: &str| {
            let tokens: Vec<_> = text.parse::<TokenStream>().unwrap().into_iter().collect();
            cut_at_colon(&tokens).map(|(a, b)| (a.len(), b.len()))
        };
        assert_eq!(cut("a: b::c"), Some((1, 4)));
        assert_eq!(cut("a::b"), None);
        assert_eq!(cut("self"), None);
    }
}
