//! Modules that end too early.

use std::fs;
use std::path::Path;

use crate::{Host, MODULES};

/// Feeds every prefix at a distance of `step`; all but very few are refused.
fn check(host: &Host, wasm: &[u8], step: usize) {
    let mut accepted = 0;
    let lens: Vec<usize> = (0..wasm.len()).step_by(step).collect();
    for &len in &lens {
        // What ends between two sections may be a module.
        if host.feed(&wasm[..len]).is_ok() {
            accepted += 1;
        }
    }
    assert!(
        accepted <= 12,
        "{accepted} of {} prefixes were accepted",
        lens.len()
    );
    assert!(host.feed(wasm).is_ok());
}

#[test]
fn every_prefix_of_small_modules_is_refused_or_is_a_module() {
    let host = Host::new();
    for wat in MODULES {
        check(&host, &wat::parse_str(wat).unwrap(), 1);
        host.assert_usable();
    }
}

#[test]
fn prefixes_of_real_programs_are_refused() {
    let host = Host::new();
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    for name in ["c/count.wasm", "cpp/index.wasm"] {
        check(&host, &fs::read(guests.join(name)).unwrap(), 211);
        host.assert_usable();
    }
}
