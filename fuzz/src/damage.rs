//! Modules and artifacts that are damaged: the compiler and the artifact's reader must answer, not panic.
//! Nothing of it is run.

use anyhow::{Context, Result};
use selvedge::{CompileError, Engine, Error, OptLevel, Settings, Tunables};
use selvedge_artifact::header::{Accepts, MAGIC};
use selvedge_artifact::read;
use wasmparser::{Validator, WasmFeatures};
use xxhash_rust::xxh3::xxh3_64;

use crate::compare::guarded;
use crate::features::Feature;
use crate::generate::{self, Case};
use crate::random::Random;

/// What became of some bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Accepted,
    Refused,
    /// What must not happen, in words.
    Wrong(String),
}

/// Compiles modules that may be anything.
#[derive(Debug)]
pub(crate) struct Compiling {
    engines: [Engine; 2],
    features: Vec<Feature>,
}

impl Compiling {
    /// With two settings of the compiler.
    pub(crate) fn new(features: Vec<Feature>) -> Result<Self> {
        let settings = Settings::default().with_parallel_compilation(false);
        let quick = settings.clone().with_opt_level(OptLevel::None);
        let engines = [Engine::new(&settings)?, Engine::new(&quick)?];
        Ok(Self { engines, features })
    }

    /// The bytes of a seed.
    pub(crate) fn bytes(&self, seed: u64) -> Result<Vec<u8>> {
        let mut random = Random::new(seed);
        let mut wasm = if random.once_in(2) {
            generate::anything(&mut random)?
        } else {
            Case::of_seed(seed, &self.features)?.wasm
        };
        // Some stay whole.
        for _ in 0..random.below(4) {
            damage(&mut random, &mut wasm, 8);
        }
        Ok(wasm)
    }

    /// Compiles some bytes.
    pub(crate) fn feed(&self, wasm: &[u8]) -> Answer {
        let mut answers =
            self.engines
                .iter()
                .map(|engine| match guarded(|| engine.precompile(wasm)) {
                    Err(panic) => Answer::Wrong(format!("the compiler panicked: {panic}")),
                    Ok(Err(Error::Compile(error @ CompileError::Codegen { .. }))) => {
                        Answer::Wrong(format!("a valid module was given up: {error}"))
                    }
                    Ok(Err(_)) => Answer::Refused,
                    Ok(Ok(_)) => {
                        match Validator::new_with_features(WasmFeatures::all()).validate_all(wasm) {
                            Ok(_) => Answer::Accepted,
                            Err(error) => {
                                Answer::Wrong(format!("an invalid module was compiled: {error}"))
                            }
                        }
                    }
                });
        let first = answers.next().unwrap_or(Answer::Refused);
        match answers.find(|answer| *answer != first) {
            Some(Answer::Wrong(why)) => Answer::Wrong(why),
            Some(other) if !matches!(first, Answer::Wrong(_)) => {
                Answer::Wrong(format!("optimised it is {first:?}, unoptimised {other:?}"))
            }
            _ => first,
        }
    }
}

/// Reads artifacts that may be anything.
#[derive(Debug)]
pub(crate) struct Reading {
    engine: Engine,
    features: Vec<Feature>,
    /// The artifact that is damaged again and again, and the number of seeds that share it.
    kept: Option<(u64, Vec<u8>)>,
}

impl Reading {
    /// Seeds in a row that damage the same artifact: making one takes far longer than reading it.
    const SHARED: u64 = 256;

    /// With artifacts of this engine's.
    pub(crate) fn new(features: Vec<Feature>) -> Result<Self> {
        let settings = Settings::default().with_opt_level(OptLevel::None);
        Ok(Self {
            engine: Engine::new(&settings.with_parallel_compilation(false))?,
            features,
            kept: None,
        })
    }

    /// The bytes of a seed.
    pub(crate) fn bytes(&mut self, seed: u64) -> Result<Vec<u8>> {
        let family = seed / Self::SHARED;
        if self.kept.as_ref().is_none_or(|(of, _)| *of != family) {
            let case = Case::of_seed(family, &self.features)?;
            self.kept = Some((family, self.engine.precompile(&case.wasm)?));
        }
        let (_, whole) = self.kept.as_ref().context("there is an artifact")?;
        let mut bytes = whole.clone();
        let mut random = Random::new(seed);
        let header = bytes.windows(8).position(|window| window == MAGIC);
        // The code is most of the file and is not looked at: half of the damage goes past it.
        let behind_code = whole.len() / 2 + random.below(whole.len() / 2);
        let from = random.pick(&[0, 64, behind_code]);
        for _ in 0..1 + random.below(4) {
            damage(&mut random, &mut bytes, from);
        }
        if !random.once_in(4)
            && let Some(header) = header
        {
            seal(&mut bytes, header);
        }
        Ok(bytes)
    }

    /// Reads some bytes.
    pub(crate) fn feed(&self, bytes: &[u8]) -> Answer {
        let tunables = Tunables::default();
        let accepts = Accepts {
            target: "x86_64-linux",
            has_feature: |_| true,
            tunables: &tunables,
        };
        let read = guarded(|| {
            let artifact = read::read(bytes, &accepts)?;
            let names = bytes.get(artifact.layout.names).unwrap_or_default();
            read::func_names(names);
            Ok::<_, selvedge::ArtifactError>(())
        });
        match read {
            Err(panic) => Answer::Wrong(format!("the reader panicked: {panic}")),
            Ok(Err(_)) => Answer::Refused,
            Ok(Ok(())) => Answer::Accepted,
        }
    }
}

/// Changes some bytes behind a place.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, from: usize) {
    if bytes.len() <= from + 1 {
        return;
    }
    let at = from + random.below(bytes.len() - from);
    let len = 1 + random.below((bytes.len() - at).min(20));
    match random.below(8) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.bits() as u8,
        3 => {
            // A large number in LEB128.
            let number = [0xff, 0xff, 0xff, 0xff, 0x0f];
            for (byte, new) in bytes[at..].iter_mut().zip(number) {
                *byte = new;
            }
        }
        4 => drop(bytes.drain(at..at + len)),
        5 => {
            let again = bytes[at..at + len].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let other = random.below(bytes.len() - len + 1);
            bytes.copy_within(other..other + len, at);
        }
        _ if random.once_in(4) => bytes.truncate(at),
        _ => bytes[at..at + len].fill(random.pick(&[0, 0x7f, 0x80, 0xff])),
    }
}

/// Puts length and checksums right, as far as the header is still there, so that damage gets deeper.
fn seal(bytes: &mut [u8], header: usize) {
    /// Places in the header, see `selvedge_artifact::header`.
    const FILE_LEN: usize = 16;
    const FILE_SUM: usize = 24;
    const HEADER_SUM: usize = 32;
    const IDENTITY: usize = 40;
    let file_len = bytes.len() as u64;
    let Some(fixed) = bytes.get_mut(header..header + IDENTITY) else {
        return;
    };
    let identity_len = fixed[12..16]
        .iter()
        .rev()
        .fold(0, |n, b| n << 8 | usize::from(*b));
    fixed[FILE_LEN..FILE_SUM].copy_from_slice(&file_len.to_le_bytes());
    fixed[FILE_SUM..].fill(0);
    let sum = xxh3_64(bytes);
    bytes[header + FILE_SUM..header + HEADER_SUM].copy_from_slice(&sum.to_le_bytes());
    if let Some(whole) = bytes.get(header..header + IDENTITY + identity_len) {
        let sum = xxh3_64(whole);
        bytes[header + HEADER_SUM..header + IDENTITY].copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_modules_and_artifacts_get_an_answer() {
        let compiling = Compiling::new(Vec::new()).unwrap();
        let mut reading = Reading::new(Vec::new()).unwrap();
        let mut refused = 0;
        for seed in 0..60 {
            for answer in [
                compiling
                    .bytes(seed)
                    .map(|bytes| compiling.feed(&bytes))
                    .unwrap(),
                reading
                    .bytes(seed)
                    .map(|bytes| reading.feed(&bytes))
                    .unwrap(),
            ] {
                assert!(!matches!(answer, Answer::Wrong(_)), "{seed}: {answer:?}");
                refused += u64::from(answer == Answer::Refused);
            }
        }
        assert!(refused > 0);
    }

    #[test]
    fn a_whole_artifact_that_is_sealed_again_is_accepted() {
        let mut reading = Reading::new(Vec::new()).unwrap();
        reading.bytes(0).unwrap();
        let (_, mut whole) = reading.kept.clone().unwrap();
        assert_eq!(reading.feed(&whole), Answer::Accepted);
        let header = whole.windows(8).position(|window| window == MAGIC).unwrap();
        let before = whole.clone();
        seal(&mut whole, header);
        assert!(whole == before);
    }
}
