//! The table of what may be turned on in the modules of a differential run, by the proposals' names.
//! What WebAssembly 2.0 has without SIMD is always on. Only what Wasmtime runs, too, can stand here; what a
//! standard leaves open must be settled alike on both sides, as relaxed SIMD is by its deterministic
//! profile.

use anyhow::{Context, Result};
use wasm_smith::Config;

/// The proposal that the generator has only together with garbage collection: `observe` puts its
/// instructions in.
pub(crate) const FUNCTION_REFERENCES: &str = "function-references";

/// The proposal whose instructions `observe` keeps from waiting for ever.
pub(crate) const THREADS: &str = "threads";

/// A proposal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feature {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// Whether it is on if no features are named: Selvedge has it.
    pub(crate) by_default: bool,
    /// Lets the generator use it.
    pub(crate) enable: fn(&mut Config),
}

/// Every feature there is.
pub(crate) fn features() -> &'static [Feature] {
    &[
        Feature {
            name: "extended-const",
            by_default: true,
            enable: |config| config.extended_const_enabled = true,
        },
        Feature {
            name: "simd",
            by_default: true,
            enable: |config| config.simd_enabled = true,
        },
        Feature {
            name: "relaxed-simd",
            by_default: true,
            enable: |config| {
                config.simd_enabled = true;
                config.relaxed_simd_enabled = true;
            },
        },
        Feature {
            name: "tail-call",
            by_default: true,
            enable: |config| config.tail_call_enabled = true,
        },
        Feature {
            name: "multi-memory",
            by_default: true,
            enable: |config| config.max_memories = 4,
        },
        Feature {
            name: "wide-arithmetic",
            by_default: true,
            enable: |config| config.wide_arithmetic_enabled = true,
        },
        Feature {
            name: "memory64",
            by_default: true,
            enable: |config| config.memory64_enabled = true,
        },
        Feature {
            name: "custom-page-sizes",
            by_default: true,
            enable: |config| config.custom_page_sizes_enabled = true,
        },
        Feature {
            name: "exception-handling",
            by_default: true,
            enable: |config| config.exceptions_enabled = true,
        },
        Feature {
            name: THREADS,
            by_default: true,
            enable: |config| config.threads_enabled = true,
        },
        Feature {
            name: FUNCTION_REFERENCES,
            by_default: true,
            enable: |_| {},
        },
    ]
}

/// The features of a list such as `simd,tail-call`; all for `all`, those that Selvedge has without a list.
pub(crate) fn parse(list: Option<&str>) -> Result<Vec<Feature>> {
    let all = features().iter().copied();
    let Some(list) = list else {
        return Ok(all.filter(|feature| feature.by_default).collect());
    };
    if list == "all" {
        return Ok(all.collect());
    }
    let named = list.split(',').filter(|name| !name.is_empty());
    named
        .map(|name| {
            let names = || {
                features()
                    .iter()
                    .map(|f| f.name)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let found = features().iter().find(|feature| feature.name == name);
            found.copied().with_context(|| {
                format!("there is no feature `{name}`; there are: all, {}", names())
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_features_and_unknown_names_are_refused() {
        assert_eq!(parse(Some("all")).unwrap().len(), features().len());
        let names: Vec<_> = parse(Some("simd,memory64"))
            .unwrap()
            .iter()
            .map(|f| f.name)
            .collect();
        assert_eq!(names, ["simd", "memory64"]);
        assert!(parse(Some("")).unwrap().is_empty());
        assert!(
            parse(Some("smid"))
                .unwrap_err()
                .to_string()
                .contains("simd")
        );
    }
}
