//! The target: Cranelift's ISA and flags from settings, and the features that code may use.

use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{self, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};

use crate::error::Error;
use crate::settings::{Cpu, Metering, OptLevel, Settings, Tunables};

/// Architecture and system of artifacts.
pub(crate) const TARGET: &str = "x86_64-linux";
/// The same in the notation that Cranelift parses.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// Without these Cranelift would call library functions that an artifact does not carry, or have no
/// code for some vector instruction.
const REQUIRED: [&str; 3] = ["has_ssse3", "has_sse41", "has_popcnt"];
/// Features that Cranelift's levels of x86-64 lack, and the level from which on CPUs have them.
const IMPLIED: [(&str, Cpu); 2] = [("has_avx", Cpu::X86_64V3), ("has_avx512f", Cpu::X86_64V4)];
/// A 32-bit index reaches this far; memory below it is never checked for bounds.
const MIN_RESERVATION_LEN: u64 = 4 << 30;
/// Bytes of a host page.
const PAGE_LEN: u64 = 4096;

/// Blocks up to which registers are allocated with care. The careful allocator takes more than linear
/// time: 100,000 `if`s over one value took it 17 s, the quick one 1.2 s. The largest functions seen in
/// real modules have 20,194 (Ruby 4.0), 10,135 (esbuild) and 5,058 blocks (CPython 3.12). The price is a
/// frame with a slot for nearly every value, which may want more stack than the default.
const CAREFUL_MAX_BLOCKS: usize = 100_000;

/// The ISA, once for each register allocator.
pub(crate) struct Isas {
    careful: OwnedTargetIsa,
    quick: OwnedTargetIsa,
}

impl Isas {
    /// Makes both.
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            careful: isa(settings)?,
            quick: isa_with(settings, "single_pass")?,
        })
    }

    /// The one to use where functions don't matter.
    pub(crate) fn any(&self) -> &dyn TargetIsa {
        &*self.careful
    }

    /// The one to compile a function with: it depends on nothing but the function.
    pub(crate) fn of(&self, func: &Function) -> &dyn TargetIsa {
        if func.dfg.num_blocks() > CAREFUL_MAX_BLOCKS {
            &*self.quick
        } else {
            &*self.careful
        }
    }
}

/// Makes the ISA.
pub(crate) fn isa(settings: &Settings) -> Result<OwnedTargetIsa, Error> {
    isa_with(settings, "backtracking")
}

fn isa_with(settings: &Settings, allocator: &str) -> Result<OwnedTargetIsa, Error> {
    let flags = shared_flags(settings, allocator)?;
    let mut builder = isa::lookup_by_name(TRIPLE).map_err(unusable)?;
    match settings.cpu {
        Cpu::Host => {
            let host = cranelift_native::builder_with_options(false).map_err(unusable)?;
            let (host, target) = (host.triple(), builder.triple());
            if host.architecture != target.architecture
                || host.operating_system != target.operating_system
            {
                return Err(Error::Settings(format!(
                    "artifacts are for {TARGET}, this machine is {host}; choose the baseline CPU"
                )));
            }
            cranelift_native::infer_native_flags(&mut builder).map_err(unusable)?;
        }
        level => {
            // Cranelift has the same names, but its levels leave out what newer features imply.
            builder.enable(level.name()).map_err(unusable)?;
            for (implied, by) in IMPLIED {
                if level >= by {
                    builder.enable(implied).map_err(unusable)?;
                }
            }
        }
    }
    let isa = builder.finish(flags).map_err(unusable)?;
    let features = cpu_features(&*isa);
    for required in REQUIRED {
        if !features.iter().any(|f| f == required) {
            return Err(Error::Settings(format!(
                "the CPU lacks {}, which all code needs",
                required.trim_start_matches("has_")
            )));
        }
    }
    Ok(isa)
}

/// How the instructions of relaxed SIMD choose among the results they may give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RelaxedSimd {
    /// As the deterministic profile prescribes, on every CPU.
    Deterministic,
    /// As the CPU does it fastest.
    Fast {
        /// Whether it multiplies and adds with one rounding.
        fused: bool,
        /// Whether it adds products of bytes to 32-bit lanes in one step.
        byte_dot: bool,
    },
}

/// The choice for an ISA and settings.
pub(crate) fn relaxed_simd(isa: &dyn TargetIsa, settings: &Settings) -> RelaxedSimd {
    if settings.tunables.relaxed_simd_deterministic {
        return RelaxedSimd::Deterministic;
    }
    let features = cpu_features(isa);
    let has = |name: &str| features.iter().any(|feature| feature == name);
    RelaxedSimd::Fast {
        fused: has("has_avx") && has("has_fma"),
        byte_dot: has("has_avx") && has("has_avx_vnni")
            || has("has_avx512vl") && has("has_avx512vnni"),
    }
}

/// CPU features that the code may use, by Cranelift's names (`has_avx2`), sorted.
pub(crate) fn cpu_features(isa: &dyn TargetIsa) -> Vec<String> {
    let mut features: Vec<String> = isa
        .isa_flags()
        .into_iter()
        .filter(|flag| flag.name.starts_with("has_") && flag.as_bool() == Some(true))
        .map(|flag| flag.name.to_owned())
        .collect();
    features.sort_unstable();
    features
}

fn shared_flags(settings: &Settings, allocator: &str) -> Result<settings::Flags, Error> {
    let metering = match &settings.fuel {
        Some(costs) => Metering::Fuel {
            costs: costs.checksum(),
        },
        None => Metering::None,
    };
    if metering != settings.tunables.metering {
        return Err(Error::Settings(
            "the tunables say otherwise about fuel than the settings do; set both with count_fuel"
                .to_owned(),
        ));
    }
    let guard_log2 = stack_guard_log2(&settings.tunables)?.to_string();
    let opt_level = match settings.opt_level {
        OptLevel::None => "none",
        OptLevel::Speed => "speed",
        OptLevel::SpeedAndSize => "speed_and_size",
    };
    let verify = if cfg!(debug_assertions) {
        "true"
    } else {
        "false"
    };
    let flags = [
        ("opt_level", opt_level),
        ("regalloc_algorithm", allocator),
        ("enable_verifier", verify),
        ("enable_alias_analysis", "true"),
        // References between functions are relative to the pc; nothing else is position-dependent.
        ("is_pic", "false"),
        ("use_colocated_libcalls", "true"),
        // More results than registers travel in memory that the caller provides.
        ("enable_multi_ret_implicit_sret", "true"),
        ("unwind_info", "true"),
        // Backtraces of guests follow frame pointers.
        ("preserve_frame_pointers", "true"),
        // A frame that could step over the guard of its stack touches every guard's length of it.
        ("enable_probestack", "true"),
        ("probestack_strategy", "inline"),
        ("probestack_size_log2", &guard_log2),
        ("enable_heap_access_spectre_mitigation", "true"),
        ("enable_table_access_spectre_mitigation", "true"),
        (
            "enable_nan_canonicalization",
            if settings.tunables.nan_canonicalization {
                "true"
            } else {
                "false"
            },
        ),
        // It holds the count of fuel; where none is counted it is a register like any other.
        (
            "enable_pinned_reg",
            if settings.fuel.is_some() {
                "true"
            } else {
                "false"
            },
        ),
    ];
    let mut builder = settings::builder();
    for (name, value) in flags {
        builder.set(name, value).map_err(unusable)?;
    }
    Ok(settings::Flags::new(builder))
}

/// Checks the tunables; the stack guard's length as a power of two.
fn stack_guard_log2(tunables: &Tunables) -> Result<u32, Error> {
    if tunables.memory_reservation_len < MIN_RESERVATION_LEN && !tunables.explicit_bounds {
        return Err(Error::Settings(format!(
            "memory_reservation_len is {:#x}, without explicit_bounds it must be \
             {MIN_RESERVATION_LEN:#x} at least",
            tunables.memory_reservation_len
        )));
    }
    for (name, len) in [
        ("memory_reservation_len", tunables.memory_reservation_len),
        ("memory_guard_len", tunables.memory_guard_len),
    ] {
        if len % PAGE_LEN != 0 {
            return Err(Error::Settings(format!(
                "{name} is {len:#x}, it must be a multiple of {PAGE_LEN:#x}"
            )));
        }
    }
    let guard = tunables.stack_guard_len;
    if !guard.is_power_of_two() || u64::from(guard) < PAGE_LEN {
        return Err(Error::Settings(format!(
            "stack_guard_len is {guard:#x}, it must be a power of two and {PAGE_LEN:#x} at least"
        )));
    }
    Ok(guard.trailing_zeros())
}

fn unusable(error: impl std::fmt::Display) -> Error {
    Error::Settings(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_has_what_all_code_needs_and_no_vectors_beyond_128_bits() {
        let settings = Settings {
            cpu: Cpu::Baseline,
            ..Settings::default()
        };
        let features = cpu_features(&*isa(&settings).unwrap());
        assert!(features.is_sorted());
        assert!(REQUIRED.iter().all(|r| features.iter().any(|f| f == r)));
        assert!(!features.iter().any(|f| f.starts_with("has_avx")));
    }

    #[test]
    fn each_level_has_what_the_one_below_has_and_more() {
        let features = |cpu| {
            let settings = Settings {
                cpu,
                ..Settings::default()
            };
            cpu_features(&*isa(&settings).unwrap())
        };
        let levels = Cpu::ALL[1..].iter().map(|cpu| features(*cpu));
        let levels: Vec<Vec<String>> = levels.collect();
        for pair in levels.windows(2) {
            assert!(pair[0].iter().all(|feature| pair[1].contains(feature)));
            assert!(pair[0].len() < pair[1].len());
        }
        for feature in ["has_avx", "has_avx2", "has_fma"] {
            assert!(levels[1].iter().any(|f| f == feature), "{feature}");
        }
        for cpu in Cpu::ALL {
            assert_eq!(Cpu::from_name(cpu.name()), Some(cpu));
        }
        assert_eq!(Cpu::from_name("x86-64"), None);
    }

    #[test]
    fn the_host_has_at_least_the_baseline() {
        let baseline = Settings {
            cpu: Cpu::Baseline,
            ..Settings::default()
        };
        let host = cpu_features(&*isa(&Settings::default()).unwrap());
        for feature in cpu_features(&*isa(&baseline).unwrap()) {
            assert!(host.contains(&feature), "{feature}");
        }
    }

    #[test]
    fn tunables_that_code_cannot_rely_on_are_refused() {
        let mut settings = Settings::default();
        settings.tunables.stack_guard_len = 3 << 12;
        assert!(matches!(isa(&settings), Err(Error::Settings(_))));
        settings.tunables.stack_guard_len = 1 << 11;
        assert!(matches!(isa(&settings), Err(Error::Settings(_))));
        settings.tunables.stack_guard_len = 1 << 12;
        assert!(isa(&settings).is_ok());
        settings.tunables.memory_reservation_len = 1 << 30;
        assert!(matches!(isa(&settings), Err(Error::Settings(_))));
        settings.tunables.explicit_bounds = true;
        assert!(isa(&settings).is_ok());
    }
}
