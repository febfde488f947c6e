//! A new instance, a call that writes to so many pages, and its end: by what the program has and what is to be
//! put back, on one thread and on two.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::{Case, Work, binary};
use crate::peers::Mode;

const NO_MEMORY: &str = r#"
(module
  (func (export "run") (param i32) (result i32) (local.get 0)))
"#;

/// `PAGES` of memory that begin with `DATA`; `run` writes a word to each of so many pages of 4 KiB.
const MEMORY: &str = r#"
(module
  (memory PAGES)
  (data (i32.const 0) "DATA")
  (func (export "run") (param $n i32) (result i32) (local $i i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
        (i32.store offset=64 (i32.shl (local.get $i) (i32.const 12)) (i32.const 1))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    (local.get $i)))
"#;

/// A big real module, if `guests/fetch.sh` has brought one; it is instantiated and not called.
const BIG: [(&str, &str); 2] = [
    ("quickjs", "../guests/fetched/quickjs/quickjs.wasm"),
    ("python", "../guests/fetched/python/python.wasm"),
];

fn memory(pages: u32, data_len: usize) -> String {
    MEMORY
        .replace("PAGES", &pages.to_string())
        .replace("DATA", &"some data".repeat(data_len / 9))
}

pub(super) fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let programs: [(&str, &str, String, &[i32]); 3] = [
        ("a-no-memory", "no memory", NO_MEMORY.to_owned(), &[0]),
        (
            "b-one-page",
            "64 KiB and a little data",
            memory(1, 100),
            &[0, 1, 16],
        ),
        (
            "c-16-mib",
            "16 MiB, of which 1 MiB is data",
            memory(256, 1 << 20),
            &[0, 1, 16, 256],
        ),
    ];
    for (name, what, wat, written) in programs {
        let wasm = Arc::new(binary(&wat)?);
        for &written in written {
            for threads in [1, 2] {
                let wasm = Arc::clone(&wasm);
                cases.push(Case {
                    group: "start",
                    name: format!("{name}-{written}-{threads}t"),
                    what: format!("{what}; {written} pages written; {threads} threads"),
                    mode: Mode::Lean,
                    work: Work::Repeated,
                    make: Box::new(move |peer| peer.start(&wasm, Some(written), threads)),
                });
            }
        }
    }
    for (name, path) in BIG {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let wasm = match fs::read(&path) {
            Ok(wasm) => Arc::new(wasm),
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        for threads in [1, 2] {
            let wasm = Arc::clone(&wasm);
            cases.push(Case {
                group: "start",
                name: format!("d-{name}-{threads}t"),
                what: format!(
                    "{name}.wasm, {} bytes, not called; {threads} threads",
                    wasm.len()
                ),
                mode: Mode::Lean,
                work: Work::Repeated,
                make: Box::new(move |peer| peer.start(&wasm, None, threads)),
            });
        }
    }
    Ok(cases)
}
