//! What the user may choose about compiling.

pub use selvedge_artifact::tunables::{Metering, OptLevel, Tunables};

use crate::fuel_costs::FuelCosts;
use crate::proposals::Proposals;

/// The CPU that code is made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Cpu {
    /// This machine's, with all that it can.
    #[default]
    Host,
    /// Any x86-64 processor of the second level (`x86-64-v2`): made since about 2009.
    Baseline,
    /// Any x86-64 processor of the third level (`x86-64-v3`), which has AVX2 and FMA.
    X86_64V3,
    /// Any x86-64 processor of the fourth level (`x86-64-v4`), which has 128-bit AVX-512.
    X86_64V4,
}

impl Cpu {
    /// All there are, from the least to the most capable but for this machine's, which is first.
    pub const ALL: [Self; 4] = [Self::Host, Self::Baseline, Self::X86_64V3, Self::X86_64V4];

    /// Its usual name, which is what users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Baseline => "x86-64-v2",
            Self::X86_64V3 => "x86-64-v3",
            Self::X86_64V4 => "x86-64-v4",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cpu| cpu.name() == name)
    }
}

/// Settings of a compilation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// How hard to try.
    pub opt_level: OptLevel,
    /// The CPU to make code for.
    pub cpu: Cpu,
    /// What the code assumes of the runtime, and what it promises of floats.
    pub tunables: Tunables,
    /// Which proposals modules may use.
    pub proposals: Proposals,
    /// What each instruction costs in fuel, if code is to count it. [`Tunables::metering`] says the same to
    /// the runtime; [`Settings::count_fuel`] sets both.
    pub fuel: Option<FuelCosts>,
    /// Whether the module's DWARF sections are kept in the artifact, for backtraces to name source
    /// lines. The code is the same either way.
    pub keep_dwarf: bool,
    /// Whether functions are compiled on several threads. The artifact is the same either way.
    pub parallel: bool,
}

impl Settings {
    /// Has code count fuel.
    pub fn count_fuel(&mut self, costs: FuelCosts) {
        let checksum = costs.checksum();
        self.tunables.metering = Metering::Fuel { costs: checksum };
        self.fuel = Some(costs);
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            opt_level: OptLevel::default(),
            cpu: Cpu::default(),
            tunables: Tunables::default(),
            keep_dwarf: false,
            proposals: Proposals::default(),
            fuel: None,
            parallel: true,
        }
    }
}

/// What [`dump`](crate::dump()) shows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Dump {
    /// Cranelift IR as it is translated, before any optimisation.
    Clif,
    /// The machine code.
    Asm,
}
