//! Artifacts that are not what they were: truncated, altered, of another version, target or settings.
//! Read here as the runtime reads them before it maps any code; the command line's tests load files.

use std::ops::Range;

use selvedge::{ArtifactError, Engine, Settings, Tunables};
use selvedge_artifact::header::{Accepts, MAGIC};
use selvedge_artifact::read::{self, Artifact};
use selvedge_tests::random::Random;
use xxhash_rust::xxh3::xxh3_64;

use crate::MODULES;

/// Places in the header, from its beginning.
const VERSION: usize = 8;
const FILE_SUM: usize = 24;
const HEADER_SUM: usize = 32;
const IDENTITY: usize = 40;

fn artifact() -> Vec<u8> {
    let engine = Engine::new(&Settings::default()).unwrap();
    engine.precompile(MODULES[0].as_bytes()).unwrap()
}

fn read_as(
    bytes: &[u8],
    target: &str,
    has_feature: fn(&str) -> bool,
    tunables: Tunables,
) -> Result<Artifact, ArtifactError> {
    let accepts = Accepts {
        target,
        has_feature,
        tunables: &tunables,
    };
    read::read(bytes, &accepts)
}

fn check(bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    read_as(bytes, "x86_64-linux", |_| true, Tunables::default())
}

/// The error of what must be refused: one line that says what to do.
fn refused(bytes: &[u8]) -> ArtifactError {
    let error = check(bytes).expect_err("this artifact was to be refused");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert!(message.contains("compile"), "{message}");
    error
}

/// Where the header lies: the magic stands once.
fn header(bytes: &[u8]) -> Range<usize> {
    let at = bytes.windows(8).position(|window| window == MAGIC).unwrap();
    let len = u32::from_le_bytes(*bytes[at + 12..].first_chunk().unwrap());
    at..at + IDENTITY + len as usize
}

#[test]
fn a_whole_artifact_is_read() {
    let bytes = artifact();
    let artifact = check(&bytes).unwrap();
    assert_eq!(artifact.identity.target, "x86_64-linux");
    assert_eq!(artifact.info.name.as_deref(), Some("m"));
    assert!(!artifact.layout.text.is_empty());
}

#[test]
fn an_artifact_that_is_cut_anywhere_is_refused() {
    let bytes = artifact();
    for len in 0..bytes.len() {
        let error = refused(&bytes[..len]);
        match error {
            ArtifactError::Truncated { found, expected } => {
                assert_eq!(found, len as u64);
                assert!(expected > found);
            }
            // Too little is left to tell.
            ArtifactError::NotAnArtifact(_) => assert!(len < 64, "{len}"),
            other => panic!("{len}: {other}"),
        }
    }
}

#[test]
fn an_artifact_with_something_behind_it_is_refused() {
    let mut bytes = artifact();
    let len = bytes.len() as u64;
    for extra in 1..100 {
        bytes.push(0);
        assert!(matches!(
            refused(&bytes),
            ArtifactError::Truncated { found, expected } if found == len + extra && expected == len
        ));
    }
}

#[test]
fn a_flipped_bit_in_the_header_is_found() {
    let bytes = artifact();
    for at in header(&bytes) {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let error = refused(&damaged);
            assert!(
                matches!(error, ArtifactError::DamagedHeader),
                "{at}: {error}"
            );
        }
    }
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let bytes = artifact();
    let mut random = Random::new(1);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 + random.below(255) as u8;
        refused(&damaged);
    }
}

#[test]
fn a_changed_byte_of_the_contents_is_told_as_such() {
    let bytes = artifact();
    let layout = check(&bytes).unwrap().layout;
    for section in [
        layout.text,
        layout.data,
        layout.traps,
        layout.addresses,
        layout.catches,
        layout.names,
    ] {
        for at in section {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(matches!(refused(&damaged), ArtifactError::Altered));
        }
    }
}

/// Gives a file that was altered the checksums that it should have.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let header = header(&bytes);
    let sums = header.start + FILE_SUM..header.start + IDENTITY;
    bytes[sums.clone()].fill(0);
    let file_sum = xxh3_64(&bytes);
    bytes[sums.start..sums.start + 8].copy_from_slice(&file_sum.to_le_bytes());
    let header_sum = xxh3_64(&bytes[header.clone()]);
    bytes[sums.start + 8..sums.end].copy_from_slice(&header_sum.to_le_bytes());
    bytes
}

/// Handlers of exceptions that are out of order or lie outside, in a file that is in order otherwise.
#[test]
fn a_table_of_handlers_that_contradicts_itself_is_refused() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let module = b"(module (tag $e) (func $f) (func (block $h
        (try_table (catch $e $h) (catch_all $h) (call $f) (call $f)))))";
    let bytes = engine.precompile(module).unwrap();
    let table = check(&sealed(bytes.clone())).unwrap().layout.catches;
    let word =
        |at: usize| u32::from_le_bytes(*bytes[table.start + at * 4..].first_chunk().unwrap());
    // | sites, handlers | return addresses | frame lengths | contexts | ends | tags | code |
    assert_eq!(
        (word(0), word(1), table.len()),
        (2, 4, 4 * (2 + 4 * 2 + 2 * 4))
    );
    let first = word(2);
    for (at, value) in [
        (0, 3),
        (0, u32::MAX),
        (1, 3),
        (1, u32::MAX),
        (3, first),
        (3, u32::MAX),
        (4, 0),
        (4, 12),
        (6, word(4)),
        (6, 1),
        (8, 5),
        (9, 3),
        (10, 1),
        (14, u32::MAX),
    ] {
        let mut damaged = bytes.clone();
        let place = table.start + at * 4;
        damaged[place..place + 4].copy_from_slice(&value.to_le_bytes());
        let error = refused(&sealed(damaged));
        assert!(
            matches!(error, ArtifactError::DamagedSection(".selvedge.catches")),
            "word {at} as {value}: {error}"
        );
    }
}

#[test]
fn several_changes_at_once_are_found() {
    let bytes = artifact();
    let mut random = Random::new(2);
    for _ in 0..3000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(20) {
            let at = random.below(damaged.len());
            damaged[at] = damaged[at].wrapping_add(1 + random.below(255) as u8);
        }
        if damaged != bytes {
            assert!(check(&damaged).is_err());
        }
    }
}

#[test]
fn an_artifact_of_another_version_is_refused_with_both_versions() {
    let mut bytes = artifact();
    let header = header(&bytes);
    let version = u32::from_le_bytes(*bytes[header.start + VERSION..].first_chunk().unwrap());
    for other in [0, version + 1, u32::MAX] {
        let at = header.start + VERSION;
        bytes[at..at + 4].copy_from_slice(&other.to_le_bytes());
        // As the other version would have written it: with its own checksum.
        let sum = header.start + HEADER_SUM;
        bytes[sum..sum + 8].fill(0);
        let value = xxh3_64(&bytes[header.clone()]);
        bytes[sum..sum + 8].copy_from_slice(&value.to_le_bytes());
        assert!(matches!(
            refused(&bytes),
            ArtifactError::OtherVersion { found, expected } if found == other && expected == version
        ));
    }
}

#[test]
fn an_artifact_for_another_machine_is_refused_with_what_is_missing() {
    let bytes = artifact();
    let tunables = Tunables::default();
    let error = read_as(&bytes, "aarch64-linux", |_| true, tunables).unwrap_err();
    assert!(matches!(
        &error,
        ArtifactError::OtherTarget { found, expected } if found == "x86_64-linux" && expected == "aarch64-linux"
    ));
    let error = read_as(&bytes, "x86_64-linux", |f| f != "has_sse41", tunables).unwrap_err();
    assert!(matches!(
        &error,
        ArtifactError::MissingCpuFeatures { features } if features == "has_sse41"
    ));
}

#[test]
fn an_artifact_for_other_settings_is_refused() {
    let bytes = artifact();
    let changes: [fn(&mut Tunables); 7] = [
        |t| t.memory_guard_len /= 2,
        |t| t.memory_reservation_len *= 2,
        |t| t.stack_guard_len *= 2,
        |t| t.explicit_bounds = true,
        |t| t.compact_contexts = true,
        |t| t.nan_canonicalization = true,
        |t| t.relaxed_simd_deterministic = true,
    ];
    for change in changes {
        let mut tunables = Tunables::default();
        change(&mut tunables);
        let error = read_as(&bytes, "x86_64-linux", |_| true, tunables).unwrap_err();
        assert!(
            matches!(error, ArtifactError::OtherTunables { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_artifact_that_promises_more_of_floats_than_is_asked_is_accepted() {
    let settings = Settings::default().deterministic();
    let engine = Engine::new(&settings).unwrap();
    let bytes = engine.precompile(MODULES[0].as_bytes()).unwrap();
    for asked in 0..4 {
        let mut tunables = Tunables {
            nan_canonicalization: asked & 1 != 0,
            relaxed_simd_deterministic: asked & 2 != 0,
            ..Tunables::default()
        };
        let artifact = read_as(&bytes, "x86_64-linux", |_| true, tunables).unwrap();
        assert!(artifact.identity.tunables.nan_canonicalization);
        assert!(artifact.identity.tunables.relaxed_simd_deterministic);
        // Nothing else may differ for that.
        tunables.stack_guard_len *= 2;
        let error = read_as(&bytes, "x86_64-linux", |_| true, tunables).unwrap_err();
        assert!(
            matches!(error, ArtifactError::OtherTunables { .. }),
            "{error}"
        );
    }
}

#[test]
fn an_artifact_that_checks_its_addresses_relies_on_no_reservation() {
    let settings = Settings::default().with_explicit_bounds(true);
    let engine = Engine::new(&settings).unwrap();
    let bytes = engine.precompile(MODULES[0].as_bytes()).unwrap();
    let changes: [fn(&mut Tunables); 4] = [
        |_| {},
        |t| t.explicit_bounds = true,
        |t| t.memory_guard_len = 0,
        |t| t.memory_reservation_len = 1 << 20,
    ];
    for change in changes {
        let mut tunables = Tunables::default();
        change(&mut tunables);
        let artifact = read_as(&bytes, "x86_64-linux", |_| true, tunables).unwrap();
        assert!(artifact.identity.tunables.explicit_bounds);
        tunables.stack_guard_len *= 2;
        assert!(read_as(&bytes, "x86_64-linux", |_| true, tunables).is_err());
    }
}

#[test]
fn what_is_no_artifact_is_called_that() {
    let cases: [&[u8]; 5] = [b"", b"\0asm\x01\0\0\0", b"#!/bin/sh", b"\x7fELF", &[0; 500]];
    for bytes in cases {
        assert!(matches!(refused(bytes), ArtifactError::NotAnArtifact(_)));
    }
    // This test program is an ELF file too.
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(matches!(refused(&program), ArtifactError::NotAnArtifact(_)));
}

#[test]
fn the_same_module_gives_the_same_artifact_on_one_thread_and_on_many() {
    let parallel = artifact();
    let settings = Settings::default().with_parallel_compilation(false);
    let alone = Engine::new(&settings)
        .unwrap()
        .precompile(MODULES[0].as_bytes())
        .unwrap();
    assert!(parallel == alone);
}
