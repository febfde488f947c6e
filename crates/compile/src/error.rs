//! Why a module is not compiled, one variant a reason.

use thiserror::Error;

use crate::proposals::Proposal;

/// A module could not be compiled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a valid module.
    #[error("invalid module: {message} (at offset {offset:#x})")]
    Invalid {
        /// The rule that is broken.
        message: String,
        /// Byte offset in the Wasm file.
        offset: u64,
    },
    /// The module uses a feature that Selvedge does not compile.
    #[error("unsupported feature: {feature} (at offset {offset:#x}); build the module without it")]
    Unsupported {
        /// The feature or the operator.
        feature: String,
        /// Byte offset in the Wasm file.
        offset: u64,
    },
    /// The module uses a proposal that the settings turn off.
    #[error(
        "the module uses the proposal {proposal}, which is turned off (at offset {offset:#x}); turn it on, or build the module without it"
    )]
    Disabled {
        /// The proposal.
        proposal: Proposal,
        /// Byte offset in the Wasm file.
        offset: u64,
    },
    /// The module is valid, but larger in some respect than can be compiled.
    #[error("limit exceeded: {found} {what}; {limit} is the most")]
    LimitExceeded {
        /// What is counted.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The code generator gave up on a function.
    #[error("code for {func} could not be generated: {message}")]
    Codegen {
        /// The function or trampoline.
        func: String,
        /// Why.
        message: String,
    },
    /// No function of that index or name has code.
    #[error(
        "the module defines no function `{name}`; give a function index or a name from the name section"
    )]
    NoSuchFunction {
        /// What was asked for.
        name: String,
    },
    /// The settings ask for what the code generator or this machine cannot give.
    #[error("settings cannot be used: {0}")]
    Settings(String),
    /// The system gives no thread to compile on.
    #[error("no thread could be started to compile on")]
    Thread(#[source] std::io::Error),
    /// The module needs more context than the artifact's format allows.
    #[error(transparent)]
    ContextTooLarge(#[from] selvedge_artifact::vmoffsets::ContextTooLarge),
    /// The artifact could not be written.
    #[error(transparent)]
    Artifact(#[from] selvedge_artifact::Error),
}

impl Error {
    /// An [`Error::Invalid`].
    pub(crate) fn invalid(message: impl Into<String>, offset: u64) -> Self {
        Self::Invalid {
            message: message.into(),
            offset,
        }
    }

    /// An [`Error::Unsupported`].
    pub(crate) fn unsupported(feature: impl Into<String>, offset: u64) -> Self {
        Self::Unsupported {
            feature: feature.into(),
            offset,
        }
    }

    /// What to say of a feature that the validator was told to refuse.
    fn missing(feature: wasmparser::WasmFeatures, offset: u64) -> Self {
        match Proposal::of_flags(feature) {
            Some(proposal) if proposal.is_built() => Self::Disabled { proposal, offset },
            Some(proposal) => Self::unsupported(proposal.name(), offset),
            None => Self::unsupported(feature_name(feature), offset),
        }
    }

    /// An [`Error::Codegen`].
    pub(crate) fn codegen(func: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Codegen {
            func: func.into(),
            message: message.into(),
        }
    }
}

impl From<wasmparser::Error> for Error {
    fn from(error: wasmparser::Error) -> Self {
        // Bits that no finished standard gives a meaning are malformed, whatever a draft may do with them.
        // So are tags with results.
        let draft = wasmparser::WasmFeatures::SHARED_EVERYTHING_THREADS;
        let missing = error
            .missing_wasm_feature()
            .filter(|feature| *feature != draft)
            .filter(|_| !error.message().contains("non-empty tag result type"));
        // Of these the validator does not say what is missing.
        let missing = missing.or(match error.message() {
            "multiple memories" => Some(wasmparser::WasmFeatures::MULTI_MEMORY),
            "multiple tables" => Some(wasmparser::WasmFeatures::REFERENCE_TYPES),
            _ => None,
        });
        match missing {
            Some(feature) => Self::missing(feature, error.offset()),
            None => Self::invalid(error.message(), error.offset()),
        }
    }
}

/// A feature by the name of its proposal: `SIMD` is `simd`, `TAIL_CALL` is `tail-call`.
fn feature_name(feature: wasmparser::WasmFeatures) -> String {
    if feature == wasmparser::WasmFeatures::LEGACY_EXCEPTIONS {
        return "legacy-exceptions, the draft before exceptions of the standard (clang emits those with \
                -mllvm -wasm-use-legacy-eh=false)"
            .to_owned();
    }
    // Some flags contain others; the widest one that is named is the proposal itself.
    let names: Vec<String> = feature
        .iter_names()
        .map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"))
        .collect();
    names.join(", ")
}
