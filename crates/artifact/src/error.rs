//! Why an artifact is refused, one variant a reason.

use thiserror::Error;

/// An artifact could not be written or was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not begin as an artifact does.
    #[error("not a Selvedge artifact: {0}; make one with `selvedge compile`")]
    NotAnArtifact(&'static str),
    /// The header's own checksum or shape is wrong.
    #[error("the artifact's header is damaged; compile the module again")]
    DamagedHeader,
    /// The file is shorter or longer than when it was written.
    #[error("the artifact is truncated: {found} bytes of {expected}; compile the module again")]
    Truncated {
        /// Bytes there are.
        found: u64,
        /// Bytes there were.
        expected: u64,
    },
    /// The file's checksum does not match.
    #[error("the artifact was altered after it was written; compile the module again")]
    Altered,
    /// Another format version.
    #[error(
        "the artifact has format version {found}, this Selvedge reads version {expected}; compile the module again"
    )]
    OtherVersion {
        /// Its version.
        found: u32,
        /// The version that can be read.
        expected: u32,
    },
    /// Another architecture or system.
    #[error(
        "the artifact is for {found}, this machine is {expected}; compile the module here or for this target"
    )]
    OtherTarget {
        /// Its target.
        found: String,
        /// The target that is accepted.
        expected: String,
    },
    /// The code may use CPU features that this machine lacks.
    #[error(
        "the artifact needs CPU features that this machine lacks: {features}; compile the module here"
    )]
    MissingCpuFeatures {
        /// The features, separated by commas.
        features: String,
    },
    /// The code assumes other settings.
    #[error(
        "the artifact was compiled with {found}, the engine has {expected}; compile with the engine's settings"
    )]
    OtherTunables {
        /// Its tunables.
        found: String,
        /// The engine's tunables.
        expected: String,
    },
    /// A section is missing or its contents do not decode.
    #[error("the artifact's section {0} is missing or damaged; compile the module again")]
    DamagedSection(&'static str),
    /// The metadata contradict each other or point outside their sections.
    #[error("the artifact's metadata contradict each other; compile the module again")]
    Inconsistent,
    /// The metadata could not be encoded.
    #[error("module metadata could not be encoded")]
    Encode(#[source] postcard::Error),
    /// The ELF file could not be written.
    #[error("the ELF file could not be written: {0}")]
    Elf(String),
    /// A part of the module is larger than the format can say.
    #[error("the module's {part} is larger than the artifact format allows: {len} bytes of {max}")]
    TooLarge {
        /// What is too large.
        part: &'static str,
        /// Its bytes.
        len: u64,
        /// Bytes allowed.
        max: u64,
    },
}
