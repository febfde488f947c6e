//! The C guest that computes with vectors, beside the same computed here without.

use selvedge::OptLevel;

use crate::program::{Guest, text, with_data};

const WIDTH: usize = 256;
const PIXELS: usize = WIDTH * 64;

/// What the guest starts from: a pattern, the beginning of which a text covers.
fn picture(text: &[u8]) -> Vec<u8> {
    let pattern = (0..PIXELS).map(|i| (i * 7 + i / WIDTH * 13) as u8);
    let rest = pattern.skip(text.len());
    text.iter().copied().chain(rest).collect()
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().map(|&byte| u32::from(byte)).sum()
}

fn mixed(bytes: &[u8]) -> u32 {
    let mut lanes = [0u32; 16];
    for row in bytes.chunks(16) {
        for (lane, byte) in lanes.iter_mut().zip(row) {
            *lane = (*lane ^ u32::from(*byte)).wrapping_mul(16_777_619);
        }
    }
    let all = lanes.iter();
    all.fold(0, |all, lane| all.wrapping_mul(31).wrapping_add(*lane))
}

/// What the guest prints of a picture.
fn printed(picture: &[u8]) -> String {
    let other: Vec<u8> = picture
        .chunks(WIDTH)
        .flat_map(|row| row.iter().rev().copied())
        .collect();
    let develop = |(a, b): (&u8, &u8)| {
        let mean = (u16::from(a.saturating_add(40)) + u16::from(*b)).div_ceil(2);
        if mean >= 96 { mean as u8 } else { 0 }
    };
    let result: Vec<u8> = picture.iter().zip(&other).map(develop).collect();
    let signed = |byte: &u8| i32::from(*byte) - 128;
    let products = picture.iter().zip(&other);
    let correlation: i32 = products.map(|(a, b)| signed(a) * signed(b)).sum();
    let energy = picture.iter().map(|&p| (f64::from(p) * 0.25).min(48.0));
    format!(
        "sum {} {} {}\nblack {}\ncorrelation {correlation}\nenergy {:.2}\nmixed {:08x} {:08x}\n",
        sum(picture),
        sum(&other),
        sum(&result),
        result.iter().filter(|byte| **byte == 0).count(),
        energy.sum::<f64>(),
        mixed(&result),
        mixed(&other)
    )
}

#[test]
fn pixels_computes_with_vectors_what_is_computed_without() {
    let text = text();
    let read = format!(
        "read {}\n{}",
        text.len(),
        printed(&picture(text.as_bytes()))
    );
    for guest in Guest::at_all_levels("simd/pixels.wasm") {
        assert_eq!(guest.run(&[], "", |_| {}).output(), printed(&picture(b"")));
        let ended = guest.run(&["/data/selvedge.txt"], "", with_data);
        assert_eq!(ended.output(), read);
    }
}

#[test]
fn pixels_fails_without_its_file() {
    let guest = Guest::new("simd/pixels.wasm", OptLevel::Speed);
    let ended = guest.run(&["/nowhere"], "", with_data);
    assert!(matches!(ended.code, Ok(1)));
    assert_eq!(ended.stderr, "pixels: cannot read /nowhere\n");
}
