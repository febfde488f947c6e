//! The operators by number, from the parser's own list, so that none can be forgotten: their names, and
//! the proposals that brought them.

use wasmparser::Operator;

macro_rules! operators {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        /// Numbers of the operators.
        #[allow(clippy::enum_variant_names, reason = "the names are the parser's")]
        #[derive(Clone, Copy)]
        enum Number {
            $($op,)*
        }

        /// Names of the operators by number, as the parser writes them.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($op)),*];

        /// The proposals by the operator's number, as the parser writes them.
        const PROPOSALS: &[&str] = &[$(stringify!($proposal)),*];

        /// The number of an operator; `None` for one that the list lacks.
        pub(crate) fn number(op: &Operator<'_>) -> Option<usize> {
            match op {
                $(Operator::$op { .. } => Some(Number::$op as usize),)*
                _ => None,
            }
        }
    };
}
wasmparser::for_each_operator!(operators);

/// The proposal that an operator is of, as the text of errors has it.
pub(crate) fn proposal(op: &Operator<'_>) -> String {
    match number(op) {
        Some(number) => PROPOSALS[number].replace('_', "-"),
        None => "an unknown operator".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_have_their_names_and_proposals() {
        let load = Operator::RefI31;
        assert_eq!(NAMES[number(&load).unwrap()], "RefI31");
        assert_eq!(proposal(&load), "gc");
        assert_eq!(proposal(&Operator::I32Add), "mvp");
        assert_eq!(NAMES.len(), PROPOSALS.len());
    }
}
