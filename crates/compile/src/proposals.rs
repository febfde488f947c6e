//! THE table of proposals: their official names, what is built of them, what each needs.
//!
//! A proposal that is built is on unless it is turned off. To build one: give it `true` in the table.

use std::fmt;
use std::str::FromStr;

use wasmparser::WasmFeatures;

use crate::error::Error;

macro_rules! proposals {
    ($($(#[$doc:meta])* $variant:ident $name:literal $built:literal needs [$($need:ident)*] = $($flag:ident)|+;)*) => {
        /// A proposal to WebAssembly beyond its first version.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Proposal {
            $($(#[$doc])* $variant,)*
        }

        impl Proposal {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The official name, as in <https://github.com/WebAssembly/proposals>.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Whether Selvedge has it.
            pub const fn is_built(self) -> bool {
                match self { $(Self::$variant => $built,)* }
            }

            /// The proposals that it stands on: without them it is off, too.
            pub const fn needs(self) -> &'static [Self] {
                match self { $(Self::$variant => &[$(Self::$need),*],)* }
            }

            /// What the parser calls it.
            const fn flags(self) -> WasmFeatures {
                match self { $(Self::$variant => WasmFeatures::empty()$(.union(WasmFeatures::$flag))+,)* }
            }
        }
    };
}

proposals! {
    /// Globals that can be imported and exported though they may change.
    MutableGlobal "mutable-global" true needs [] = MUTABLE_GLOBAL;
    /// Conversions of floats to integers that never trap.
    NontrappingFloatToInt "nontrapping-float-to-int-conversions" true needs [] = SATURATING_FLOAT_TO_INT;
    /// Instructions that extend the sign of a part of an integer.
    SignExtension "sign-extension-ops" true needs [] = SIGN_EXTENSION;
    /// Blocks with parameters; functions and blocks with several results.
    MultiValue "multi-value" true needs [] = MULTI_VALUE;
    /// References as values, several tables, and instructions on tables.
    ReferenceTypes "reference-types" true needs [] = REFERENCE_TYPES;
    /// Instructions on ranges of memories and tables.
    BulkMemory "bulk-memory-operations" true needs [] = BULK_MEMORY;
    /// Vectors of 128 bits.
    Simd "simd" true needs [] = SIMD;
    /// Vector instructions whose results may depend on the CPU.
    RelaxedSimd "relaxed-simd" true needs [Simd] = RELAXED_SIMD;
    /// Calls that leave no frame behind.
    TailCall "tail-call" true needs [] = TAIL_CALL;
    /// Arithmetic in constant expressions.
    ExtendedConst "extended-const" true needs [] = EXTENDED_CONST;
    /// Several memories in a module.
    MultiMemory "multi-memory" true needs [] = MULTI_MEMORY;
    /// Memories and tables with 64-bit indices.
    Memory64 "memory64" true needs [] = MEMORY64;
    /// References to functions of one type.
    FunctionReferences "function-references" true needs [ReferenceTypes] = FUNCTION_REFERENCES;
    /// Exceptions.
    ExceptionHandling "exception-handling" true needs [ReferenceTypes] = EXCEPTIONS;
    /// Shared memories and atomic instructions.
    Threads "threads" true needs [BulkMemory] = THREADS;
    /// Memories with pages of one byte.
    CustomPageSizes "custom-page-sizes" true needs [] = CUSTOM_PAGE_SIZES;
    /// Arithmetic on 128-bit integers.
    WideArithmetic "wide-arithmetic" true needs [] = WIDE_ARITHMETIC;
    /// Garbage collection.
    Gc "gc" false needs [FunctionReferences] = GC;
}

impl Proposal {
    /// The proposal that the parser misses.
    pub(crate) fn of_flags(missing: WasmFeatures) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|proposal| proposal.flags().intersects(missing))
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Proposal {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let known = Self::ALL.iter().find(|proposal| proposal.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|proposal| proposal.name()).collect();
            Error::Settings(format!(
                "there is no proposal {name}; known are {}",
                names.join(", ")
            ))
        })
    }
}

/// Which proposals a module may use. By default it may use all that are built.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Proposals(u32);

const _: () = assert!(Proposal::ALL.len() <= 32);

impl Proposals {
    /// None: the first version of WebAssembly.
    pub const NONE: Self = Self(0);

    /// Turns a proposal on, and those that it needs.
    ///
    /// # Errors
    ///
    /// [`Error::Settings`] if it is not built.
    pub fn enable(&mut self, proposal: Proposal) -> Result<(), Error> {
        if !proposal.is_built() {
            return Err(Error::Settings(format!(
                "the proposal {proposal} can't be turned on, since it is not built yet"
            )));
        }
        self.0 |= 1 << proposal as u8;
        for need in proposal.needs() {
            self.enable(*need)?;
        }
        Ok(())
    }

    /// Turns a proposal off, and those that need it.
    pub fn disable(&mut self, proposal: Proposal) {
        self.0 &= !(1 << proposal as u8);
        for other in Proposal::ALL {
            if other.needs().contains(&proposal) {
                self.disable(*other);
            }
        }
    }

    /// Whether a proposal is on.
    pub const fn is_enabled(self, proposal: Proposal) -> bool {
        self.0 & (1 << proposal as u8) != 0
    }

    /// Those that are on.
    pub fn iter(self) -> impl Iterator<Item = Proposal> {
        Proposal::ALL
            .iter()
            .copied()
            .filter(move |proposal| self.is_enabled(*proposal))
    }

    /// What the sections of a module may use.
    pub(crate) fn module_features(self) -> WasmFeatures {
        let features = self.body_features();
        if self.is_enabled(Proposal::FunctionReferences) {
            // For groups of function types and globals in constant expressions; what else it has is refused
            // by who reads the sections.
            features.union(WasmFeatures::GC)
        } else {
            features
        }
    }

    /// What the bodies of functions may use.
    pub(crate) fn body_features(self) -> WasmFeatures {
        let all = Proposal::ALL
            .iter()
            .fold(WasmFeatures::empty(), |all, p| all.union(p.flags()));
        let base = WasmFeatures::WASM2.difference(all);
        self.iter().fold(base, |on, p| on.union(p.flags()))
    }
}

impl Default for Proposals {
    fn default() -> Self {
        let built = Proposal::ALL.iter().filter(|proposal| proposal.is_built());
        Self(built.fold(0, |bits, proposal| bits | 1 << *proposal as u8))
    }
}

impl fmt::Debug for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(Proposal::name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for &proposal in Proposal::ALL {
            assert_eq!(proposal.name().parse::<Proposal>().unwrap(), proposal);
        }
        let error = "smid".parse::<Proposal>().unwrap_err().to_string();
        assert!(error.contains("smid") && error.contains("simd,"), "{error}");
    }

    #[test]
    fn what_is_needed_goes_on_with_a_proposal_and_takes_it_along_when_it_goes_off() {
        let mut proposals = Proposals::NONE;
        proposals.enable(Proposal::RelaxedSimd).unwrap();
        let on: Vec<_> = proposals.iter().collect();
        assert_eq!(on, [Proposal::Simd, Proposal::RelaxedSimd]);
        proposals.disable(Proposal::Simd);
        assert_eq!(proposals, Proposals::NONE);
        let mut proposals = Proposals::default();
        proposals.disable(Proposal::ReferenceTypes);
        assert!(!proposals.is_enabled(Proposal::FunctionReferences));
        assert!(proposals.is_enabled(Proposal::Simd));
    }

    #[test]
    fn what_is_not_built_is_off_and_stays_off() {
        let mut proposals = Proposals::default();
        for &proposal in Proposal::ALL {
            assert_eq!(
                proposals.is_enabled(proposal),
                proposal.is_built(),
                "{proposal}"
            );
            assert_eq!(
                proposals.enable(proposal).is_ok(),
                proposal.is_built(),
                "{proposal}"
            );
        }
        assert_eq!(proposals, Proposals::default());
    }

    #[test]
    fn the_parser_knows_each_by_flags_of_its_own() {
        for &proposal in Proposal::ALL {
            assert_eq!(Proposal::of_flags(proposal.flags()), Some(proposal));
        }
    }
}
