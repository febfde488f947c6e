//! Drives the guests that are libraries, not programs: Ruby and QuickJS. An example of an embedder
//! that calls exports, hands over strings, and defines host functions that call back.
//!
//! `embed ruby ruby.wasm SCRIPT` or `embed quickjs quickjs.wasm SCRIPT`
//!
//! Exit code: 0, 1 if something failed (the script too), 2 for wrong usage.

mod library;
mod quickjs;
mod ruby;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (run, wasm, script): (fn(&Path, &str) -> Result<()>, _, _) = match args.as_slice() {
        ["ruby", wasm, script] => (ruby::run, wasm, script),
        ["quickjs", wasm, script] => (quickjs::run, wasm, script),
        _ => {
            eprintln!("usage: embed ruby|quickjs WASM SCRIPT");
            return ExitCode::from(2);
        }
    };
    let text = fs::read_to_string(script).with_context(|| format!("cannot read {script}"));
    match text.and_then(|text| run(Path::new(wasm), &text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
