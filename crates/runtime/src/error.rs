//! Everything that can go wrong for an embedder, one enum.

use std::io;

use selvedge_artifact::types::{ExternType, ValType};
use thiserror::Error;

use crate::fault::details::FaultDetails;
use crate::host::error::TerminationDetails;
use crate::host::tag::UncaughtException;

/// An operation of the runtime failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The guest trapped. Its instance can be run again; its memory is as the guest left it.
    #[error("{0}")]
    RuntimeFault(Box<FaultDetails>),
    /// The guest threw an exception and nothing caught it. Its instance can be run again.
    #[error("{0}")]
    UncaughtException(Box<UncaughtException>),
    /// A host function ended the guest. Its instance must be reset before it runs again.
    #[error("the guest was terminated: {0}")]
    RuntimeTerminated(TerminationDetails),
    /// A host function failed with an error of its own.
    #[error("a host function failed: {0}")]
    HostFunction(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An artifact was refused.
    #[error(transparent)]
    Artifact(#[from] selvedge_artifact::Error),
    /// An artifact could not be read.
    #[error("cannot read {path}: {source}")]
    ReadArtifact {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An import has no definition.
    #[error("unknown import: {module}::{name}, a {ty}; define it in the linker")]
    UnknownImport {
        /// Module asked for.
        module: String,
        /// Name asked for.
        name: String,
        /// Type asked for.
        ty: Box<ExternType>,
    },
    /// An import has a definition of another type.
    #[error(
        "incompatible import type: {module}::{name} is to be a {expected}, the definition is a {found}"
    )]
    ImportType {
        /// Module asked for.
        module: String,
        /// Name asked for.
        name: String,
        /// Type asked for.
        expected: Box<ExternType>,
        /// Type of the definition.
        found: Box<ExternType>,
    },
    /// A name is defined twice in a linker.
    #[error(
        "{module}::{name} is already defined in this linker; allow shadowing or use another name"
    )]
    AlreadyDefined {
        /// Module.
        module: String,
        /// Name.
        name: String,
    },
    /// There is no export of this name.
    #[error("there is no export {name:?}; the module exports {}", known_exports(.exports))]
    UnknownExport {
        /// Name asked for.
        name: String,
        /// Names that there are.
        exports: Vec<String>,
    },
    /// The export is of another kind.
    #[error("export {name:?} is a {found}, not a {expected}")]
    ExportKind {
        /// Its name.
        name: String,
        /// Kind asked for.
        expected: &'static str,
        /// Kind it has.
        found: &'static str,
    },
    /// Arguments, results or a typed view do not match the function's type.
    #[error("type mismatch: {what} {expected}, got {found}")]
    TypeMismatch {
        /// What was being matched.
        what: &'static str,
        /// The type of the function.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A value of another type was given for a global or table.
    #[error(
        "type mismatch: a value of type {found} was given where one of type {expected} belongs"
    )]
    ValueType {
        /// Type of the place.
        expected: ValType,
        /// Type of the value.
        found: ValType,
    },
    /// A reference belongs to another instance.
    #[error(
        "the function reference belongs to another instance; references can't be passed between instances"
    )]
    ForeignReference,
    /// The guest's code does not count fuel.
    #[error(
        "the code of this engine does not count fuel; make the engine with settings that have it counted"
    )]
    FuelNotCounted,
    /// The module has a start function that has not run.
    #[error("the module has a start function that has not run yet; call run_start first")]
    InstanceNeedsStart,
    /// The start function suspended the guest. It can be resumed.
    #[error("the start function suspended the guest; resume the instance to finish it")]
    StartYielded,
    /// The guest was suspended in a call that can't say so by its result. It can be resumed with
    /// [`Instance::resume`](crate::Instance::resume); what it handed out is kept for
    /// [`Instance::take_yielded`](crate::Instance::take_yielded).
    #[error("the guest was suspended; resume the instance for its result")]
    InstanceYielded,
    /// The guest was suspended from outside where a result was expected, or something was to be changed that it
    /// may have in registers.
    #[error("the guest was preempted: it can be looked at, and goes on with `resume`")]
    InstancePreempted,
    /// This machine can't do that.
    #[error("{what} is not possible on this machine: {why}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// What is missing.
        why: String,
    },
    /// A run did not return values: it was suspended.
    #[error("the guest did not return; it was suspended")]
    InstanceNotReturned,
    /// A run was not suspended: it returned.
    #[error("the guest was not suspended; it returned")]
    InstanceNotYielded,
    /// A suspended guest was resumed with a value of another type than it expects.
    #[error(
        "the guest expects to be resumed with a value of type {expected}; this one is of another type"
    )]
    ResumeType {
        /// The type that it expects.
        expected: &'static str,
    },
    /// A host function can't suspend its guest where it tried to.
    #[error("the guest can't be suspended here: {0}")]
    YieldRefused(&'static str),
    /// The instance has frames of a suspended host function on another thread.
    #[error(
        "the instance was suspended in the middle of a host function on another thread; resume or reset it there"
    )]
    OtherThread,
    /// The instance has already run its start function.
    #[error("the start function has run already; it runs once")]
    StartAlreadyRun,
    /// All slots are in use.
    #[error(
        "all {capacity} slots of the region are in use; drop an instance or make a larger region"
    )]
    RegionFull {
        /// Slots of the region.
        capacity: u32,
    },
    /// The module needs more than the limits of its region or instance give, or than its own maximum.
    #[error(
        "limits exceeded: {needed} {what} are needed, {given} are given; {}", remedy(.knob)
    )]
    LimitsExceeded {
        /// What is short.
        what: &'static str,
        /// How much is needed.
        needed: u64,
        /// How much there is.
        given: u64,
        /// The field of `Limits` to raise, or `maximum` if the module's own stands against it.
        knob: &'static str,
    },
    /// The limiter of the instance refused to let a memory or table grow, or is busy.
    #[error("the limiter of the instance refused to let {0} grow")]
    GrowthRefused(&'static str),
    /// The limiter of the instance takes its time ([`AsyncLimiter`](crate::AsyncLimiter)), and whoever wants a memory or
    /// table to grow can't wait for it: a guest that is not run as a future, or a host function.
    #[error(
        "the limiter of the instance answers later, and {0} is to grow now; run the guest with `run_async`, and do not grow it in host functions"
    )]
    AsyncRequired(&'static str),
    /// Limits that make no sense.
    #[error("invalid limits: {0}")]
    InvalidLimits(String),
    /// The caller's request is out of range.
    #[error("invalid argument: {0}")]
    InvalidArgument(&'static str),
    /// An active data segment does not fit its memory.
    #[error("out of bounds memory access: a data segment does not fit its memory")]
    DataSegmentOutOfBounds,
    /// An active element segment does not fit its table.
    #[error("out of bounds table access: an element segment does not fit its table")]
    ElemSegmentOutOfBounds,
    /// The parts belong to different engines.
    #[error("the {0} belongs to another engine")]
    OtherEngine(&'static str),
    /// The system refused memory or another resource.
    #[error("the system refused to {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The guest's memory is borrowed in a way that conflicts.
    #[error("the guest's memory is borrowed already")]
    MemoryBorrowed,
    /// A slice was asked for of a memory that other threads may write.
    #[error(
        "the memory is shared between threads, so there is no slice of it; take it as a SharedMemory"
    )]
    MemoryShared,
}

impl Error {
    /// Wraps an error of the system.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// The knob of [`Error::LimitsExceeded`] that is the module's and not the embedder's.
pub(crate) const OWN_MAXIMUM: &str = "maximum";

fn remedy(knob: &str) -> String {
    if knob == OWN_MAXIMUM {
        return "the module declares this maximum itself".to_owned();
    }
    format!("raise {knob} in the limits")
}

fn known_exports(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut list = names
        .iter()
        .take(SHOWN)
        .map(|n| format!("{n:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        list.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stay_small() {
        // Every fallible call returns one of these; a large error is copied on every path.
        assert!(size_of::<Error>() <= 128, "{}", size_of::<Error>());
    }

    #[test]
    fn long_export_lists_are_cut() {
        let names: Vec<String> = (0..20).map(|i| format!("f{i}")).collect();
        assert!(known_exports(&names).ends_with("\"f7\" and 12 more"));
        assert_eq!(known_exports(&[]), "nothing");
    }
}
