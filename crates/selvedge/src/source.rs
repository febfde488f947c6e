//! What some bytes are, told by how they begin, and the way from text to a Wasm binary. Names of
//! files say nothing here: a `.wasm` file that holds text is text.

use std::borrow::Cow;

use crate::Error;

/// First bytes of a Wasm binary, module or component.
const WASM_MAGIC: &[u8] = b"\0asm";
/// The half of the version field that says "component" instead of "module".
const COMPONENT_LAYER: [u8; 2] = [1, 0];
/// Characters of a text that a message quotes.
const QUOTED_CHARS: usize = 24;
/// Bytes of a binary that a message quotes.
const QUOTED_BYTES: usize = 8;

/// The kinds of file that Selvedge takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Source {
    /// A WebAssembly module in the binary format.
    Wasm,
    /// A WebAssembly module in the text format.
    Text,
    /// What [`Engine::precompile`](crate::Engine::precompile) and `selvedge compile` write.
    Artifact,
}

impl Source {
    /// Tells the kind of a file from its contents. This looks at the beginning only: whether the
    /// rest is in order shows when it is compiled or loaded.
    pub fn of(bytes: &[u8]) -> Result<Self, Error> {
        if let Some(rest) = bytes.strip_prefix(WASM_MAGIC) {
            if rest.get(2..4) == Some(&COMPONENT_LAYER) {
                return Err(Error::Component);
            }
            return Ok(Self::Wasm);
        }
        if selvedge_artifact::read::looks_like_artifact(bytes) {
            return Ok(Self::Artifact);
        }
        if wat::Detect::from_bytes(bytes) == wat::Detect::WasmText {
            return Ok(Self::Text);
        }
        Err(Error::NotWasm {
            found: match std::str::from_utf8(bytes) {
                Ok(text) => describe_text(text),
                Err(_) => describe_bytes(bytes),
            },
        })
    }
}

/// The binary of a module given as binary or as text.
pub(crate) fn to_binary(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    match Source::of(bytes)? {
        Source::Wasm => Ok(Cow::Borrowed(bytes)),
        Source::Artifact => Err(Error::AlreadyCompiled),
        Source::Text => {
            let binary = wat::parse_bytes(bytes)?;
            // The text format has components too.
            Source::of(&binary)?;
            Ok(binary)
        }
    }
}

fn describe_text(text: &str) -> String {
    if text.is_empty() {
        return "nothing at all (0 bytes)".to_owned();
    }
    let text = text.trim_start();
    if text.is_empty() {
        return "nothing but empty space".to_owned();
    }
    let line = text.lines().next().unwrap_or_default();
    let quoted: String = line.chars().take(QUOTED_CHARS).collect();
    format!("text that begins with {quoted:?}")
}

fn describe_bytes(bytes: &[u8]) -> String {
    let quoted: Vec<String> = bytes
        .iter()
        .take(QUOTED_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("binary data that begins with {}", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_told_by_the_contents() {
        assert_eq!(Source::of(b"\0asm\x01\0\0\0").unwrap(), Source::Wasm);
        assert_eq!(Source::of(b"\0asm").unwrap(), Source::Wasm);
        assert_eq!(Source::of(b"\x7fELF").unwrap(), Source::Artifact);
        assert_eq!(Source::of(b" \n(module)").unwrap(), Source::Text);
        assert_eq!(Source::of(b"(func)").unwrap(), Source::Text);
    }

    #[test]
    fn comments_before_a_module_are_passed_over() {
        assert_eq!(Source::of(b";; a\n\t;; b\n(module)").unwrap(), Source::Text);
        assert_eq!(
            Source::of(b"(; a (; b ;) c ;) (module)").unwrap(),
            Source::Text
        );
        assert!(Source::of(b"(; not closed (module)").is_err());
        assert!(Source::of(b";; nothing else").is_err());
    }

    #[test]
    fn what_is_none_of_these_is_described() {
        let message = |bytes: &[u8]| Source::of(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("nothing"), "{}", message(b""));
        assert!(message(b"#include <stdio.h>\nint").contains("\"#include <stdio.h>\""));
        assert!(message(b"\x89PNG\r\n\x1a\n").contains("89 50 4e 47"));
        assert!(message(b"\0asm\x0d\0\x01\0").contains("component"));
    }

    #[test]
    fn components_are_refused_in_both_formats() {
        for bytes in [&b"\0asm\x0d\0\x01\0"[..], b"(component)"] {
            assert!(matches!(to_binary(bytes), Err(Error::Component)));
        }
        assert!(matches!(to_binary(b"\x7fELF"), Err(Error::AlreadyCompiled)));
        assert_eq!(*to_binary(b"(module)").unwrap(), *b"\0asm\x01\0\0\0");
    }
}
