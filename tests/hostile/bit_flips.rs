//! Real modules with bits flipped, bytes changed, cut out and doubled. What compiles is instantiated, but
//! not run: it may loop.

use std::fs;
use std::path::Path;

use selvedge_tests::random::Random;

use crate::{Host, MODULES};

/// Changes a module in one of several ways.
fn damage(random: &mut Random, wasm: &[u8]) -> Vec<u8> {
    let mut bytes = wasm.to_vec();
    let times = 1 + random.below(3);
    for _ in 0..times {
        // The magic stays, or little would be tested.
        let at = 8 + random.below(bytes.len() - 8);
        match random.below(6) {
            0 | 1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.bits() as u8,
            3 => {
                // A large number in LEB128.
                let number = [0xff, 0xff, 0xff, 0xff, 0x0f];
                let end = (at + number.len()).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => {
                let len = 1 + random.below((bytes.len() - at).min(20));
                bytes.drain(at..at + len);
            }
            _ => {
                let len = 1 + random.below((bytes.len() - at).min(20));
                let again = bytes[at..at + len].to_vec();
                bytes.splice(at..at, again);
            }
        }
        if bytes.len() <= 9 {
            break;
        }
    }
    bytes
}

/// Feeds damaged copies; how many were still modules.
fn check(seed: u64, wasm: &[u8], count: usize) -> usize {
    let host = Host::new();
    let mut random = Random::new(seed);
    let mut accepted = 0;
    for case in 0..count {
        let bytes = damage(&mut random, wasm);
        accepted += usize::from(host.feed(&bytes).is_ok());
        if case % 500 == 0 {
            host.assert_usable();
        }
    }
    host.assert_usable();
    accepted
}

#[test]
fn damaged_small_modules_are_refused_or_are_modules() {
    for (seed, wat) in (0..).zip(MODULES) {
        let accepted = check(seed, &wat::parse_str(wat).unwrap(), 3000);
        assert!(accepted > 0, "damage is not always fatal");
        assert!(accepted < 3000);
    }
}

#[test]
fn damaged_real_programs_are_refused_or_are_modules() {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    for (seed, name) in (100..).zip(["c/count.wasm", "c/sort.wasm", "cpp/index.wasm"]) {
        check(seed, &fs::read(guests.join(name)).unwrap(), 150);
    }
}
