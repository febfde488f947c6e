//! A module's bytes made ready to be instantiated, on all threads and on one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::{Case, Work};
use crate::peers::Mode;

/// Real modules, the first of which is in the repository. The others are compiled if
/// `guests/fetch.sh` has brought them; the biggest are left out, being of the same kind.
const MODULES: [(&str, &str); 2] = [
    ("index", "../guests/cpp/index.wasm"),
    ("quickjs", "../guests/fetched/quickjs/quickjs.wasm"),
];

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, path) in MODULES {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let wasm = match fs::read(&path) {
            Ok(wasm) => Arc::new(wasm),
            Err(_) if path.iter().any(|part| part == "fetched") => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        for (parallel, threads) in [(true, "all-threads"), (false, "one-thread")] {
            let wasm = Arc::clone(&wasm);
            cases.push(Case {
                group: "compile",
                name: format!("{name}-{threads}"),
                what: format!("{name}.wasm, {} bytes, on {threads}", wasm.len()),
                mode: Mode::Default,
                // From tens of milliseconds to seconds: fewer rounds are as telling.
                work: Work::Once { rounds_divisor: 3 },
                make: Box::new(move |peer| peer.compile(&wasm, parallel)),
            });
        }
    }
    Ok(cases)
}
