//! Settings that change generated code. They are part of an artifact's identity: code made with
//! other tunables than the engine's is refused, unless it promises more than the engine asks.

use serde::{Deserialize, Serialize};

/// How hard the compiler tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum OptLevel {
    /// Compile fast.
    None,
    /// Make fast code.
    #[default]
    Speed,
    /// Make fast code and prefer short code where speed is equal.
    SpeedAndSize,
}

/// Whether generated code counts what it executes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Metering {
    /// It does not.
    #[default]
    None,
    /// It counts fuel, in the pinned register.
    Fuel {
        /// Checksum of what each instruction costs: counts of different tables don't compare.
        costs: u64,
    },
}

/// What generated code assumes of the runtime.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Tunables {
    /// Bytes reserved from the base of memory 0 before the guard.
    pub memory_reservation_len: u64,
    /// Bytes of guard behind the reservation; accesses with a smaller constant offset go unchecked.
    pub memory_guard_len: u64,
    /// Bytes of guard at the low end of every guest stack; frames above it are probed.
    pub stack_guard_len: u32,
    /// Whether code counts what it executes.
    pub metering: Metering,
    /// Whether code compares every address with the length of its memory. It then relies on neither reservation
    /// nor guard, however long they are; if not, it leaves to them what they can do.
    pub explicit_bounds: bool,
    /// Whether the parts of a context lie side by side, so that what the guest may write to can't be kept apart from
    /// what it only reads. For dense regions alone.
    pub compact_contexts: bool,
    /// Whether every NaN that arithmetic makes is the canonical one, positive and without a payload. If not,
    /// it is what the CPU gives.
    pub nan_canonicalization: bool,
    /// Whether the instructions of relaxed SIMD give the same results on every CPU: those of the
    /// specification's deterministic profile. If not, they give what the CPU does fastest of what the
    /// specification allows.
    pub relaxed_simd_deterministic: bool,
}

impl Tunables {
    /// Whether code counts fuel.
    pub const fn counts_fuel(&self) -> bool {
        matches!(self.metering, Metering::Fuel { .. })
    }

    /// Whether an engine that asks for others can run code made with these. It must assume the same of the
    /// runtime, or nothing where the engine asks for something; what it promises of bounds and floats may be
    /// more than is asked for, not less.
    pub fn serve(&self, asked: &Self) -> bool {
        let promised = |has: bool, asked: bool| has || !asked;
        // Code that checks its addresses runs with any reservation.
        let around = if self.explicit_bounds { asked } else { self };
        promised(self.explicit_bounds, asked.explicit_bounds)
            && promised(self.nan_canonicalization, asked.nan_canonicalization)
            && promised(
                self.relaxed_simd_deterministic,
                asked.relaxed_simd_deterministic,
            )
            && Self {
                memory_reservation_len: around.memory_reservation_len,
                memory_guard_len: around.memory_guard_len,
                explicit_bounds: asked.explicit_bounds,
                nan_canonicalization: asked.nan_canonicalization,
                relaxed_simd_deterministic: asked.relaxed_simd_deterministic,
                ..*self
            } == *asked
    }
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            memory_reservation_len: 4 << 30,
            memory_guard_len: 2 << 30,
            stack_guard_len: 64 << 10,
            metering: Metering::None,
            explicit_bounds: false,
            compact_contexts: false,
            nan_canonicalization: false,
            relaxed_simd_deterministic: false,
        }
    }
}
