//! The one thing of Markdown that two families of rules need: where a line is code.
//!
//! Spans that reach over the end of a line are not known.

/// The spans of `line` in backticks, and the line with each of them replaced by an empty pair.
///
/// A backtick without a partner opens nothing and falls away.
pub(crate) fn parted(line: &str) -> (Vec<&str>, String) {
    let mut parts: Vec<&str> = line.split('`').collect();
    // An odd number of backticks leaves the last one without a partner.
    let lone = if parts.len().is_multiple_of(2) {
        parts.pop()
    } else {
        None
    };
    let prose = parts
        .iter()
        .step_by(2)
        .copied()
        .collect::<Vec<_>>()
        .join("``");
    let spans = parts.iter().skip(1).step_by(2).copied().collect();
    (spans, prose + lone.unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_prose_are_parted() {
        assert_eq!(
            parted("a `b` c `d`"),
            (vec!["b", "d"], "a `` c ``".to_owned())
        );
        assert_eq!(parted("plain"), (vec![], "plain".to_owned()));
        assert_eq!(parted(""), (vec![], String::new()));
    }

    #[test]
    fn a_lone_backtick_opens_nothing() {
        assert_eq!(parted("a ` b"), (vec![], "a  b".to_owned()));
        assert_eq!(parted("a `b` c ` d"), (vec!["b"], "a `` c  d".to_owned()));
    }
}
