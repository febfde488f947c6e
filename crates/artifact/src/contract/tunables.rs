//! Settings that change generated code. They are part of an artifact's identity: code made with
//! other tunables than the engine's is refused.

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
}

impl Tunables {
    /// Whether code counts fuel.
    pub const fn counts_fuel(&self) -> bool {
        matches!(self.metering, Metering::Fuel { .. })
    }
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            memory_reservation_len: 4 << 30,
            memory_guard_len: 2 << 30,
            stack_guard_len: 64 << 10,
            metering: Metering::None,
        }
    }
}
