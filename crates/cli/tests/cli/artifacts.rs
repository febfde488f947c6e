//! `selvedge compile`, and artifacts that are run, damaged and refused.

use std::ops::Range;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::command::{Folder, Run, guest, hello_wat, selvedge, selvedge_with_stdin};

/// Where fields lie in the header, from its first byte: see `crates/artifact/src/header.rs`.
const MAGIC: &[u8] = b"SLVDGART";
const VERSION: usize = 8;
const IDENTITY_LEN: usize = 12;
const HEADER_SUM: Range<usize> = 32..40;
const FIXED_LEN: usize = 40;

/// Compiles a module to a file.
fn compile(module: &Path, out: &Path) -> Run {
    selvedge([
        "compile".as_ref(),
        module.as_os_str(),
        "-o".as_ref(),
        out.as_os_str(),
    ])
}

/// An artifact of `add.wat`.
fn artifact(folder: &Folder) -> (PathBuf, Vec<u8>) {
    let out = folder.path("add.sva");
    compile(&guest("add.wat"), &out).prints("");
    let bytes = std::fs::read(&out).unwrap();
    (out, bytes)
}

fn run_add(file: &Path) -> Run {
    selvedge(["run", "--invoke", "add", file.to_str().unwrap(), "20", "22"])
}

/// The place of the header in an artifact.
fn header_at(bytes: &[u8]) -> usize {
    let mut found = bytes
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, w)| *w == MAGIC);
    let (at, _) = found.next().unwrap();
    assert!(found.next().is_none(), "one header");
    at
}

#[test]
fn what_is_compiled_runs_as_what_it_was_compiled_from() {
    let folder = Folder::new();
    let (out, _) = artifact(&folder);
    run_add(&out).prints("42\n");
    let trap = folder.path("trap.sva");
    compile(&guest("trap.wat"), &trap).prints("");
    let (from_source, from_artifact) = (selvedge([guest("trap.wat")]), selvedge([&trap]));
    assert_eq!(from_source.code, from_artifact.code);
    assert_eq!(from_source.stderr, from_artifact.stderr);
}

#[test]
fn shared_memories_and_atomics_go_through_an_artifact() {
    let folder = Folder::new();
    let module = folder.file(
        "shared.wat",
        r#"(module
            (memory (export "m") 1 3 shared)
            (data (i32.const 64) "\28\00\00\00")
            (func (export "add") (param i32) (result i32)
                (drop (i32.atomic.rmw.add (i32.const 64) (local.get 0)))
                (i32.atomic.load (i32.const 64)))
            (func (export "grow") (result i32)
                (drop (memory.grow (i32.const 2)))
                (i32.sub (memory.size) (memory.grow (i32.const 1))))
            (func (export "wait") (result i32)
                (memory.atomic.wait32 (i32.const 64) (i32.const 40) (i64.const 1))))"#,
    );
    let out = folder.path("shared.sva");
    compile(&module, &out).prints("");
    for file in [&module, &out] {
        let file = file.to_str().unwrap();
        selvedge(["run", "--invoke", "add", file, "2"]).prints("42\n");
        selvedge(["run", "--invoke", "grow", file]).prints("4\n");
        // Nobody notifies.
        selvedge(["run", "--invoke", "wait", file]).prints("2\n");
        let shown = selvedge(["inspect", file]);
        assert!(
            shown.stdout.contains("shared memory of 1 to 3 pages"),
            "{}",
            shown.stdout
        );
    }
}

#[test]
fn every_level_of_optimisation_gives_an_artifact_that_runs() {
    let folder = Folder::new();
    let hello = folder.path("hello.sva");
    let (module, out) = (hello_wat(), hello.to_str().unwrap());
    for level in ["none", "speed", "size"] {
        let module = module.to_str().unwrap();
        selvedge(["compile", "--opt-level", level, module, "-o", out]).prints("");
        selvedge([out]).prints("hello from a sandbox\n");
    }
}

#[test]
fn the_same_module_gives_the_same_artifact() {
    let folder = Folder::new();
    let (_, first) = artifact(&folder);
    let (_, second) = artifact(&folder);
    assert!(first == second, "compilation is deterministic");
}

#[test]
fn an_artifact_must_promise_of_floats_what_the_flags_ask() {
    let folder = Folder::new();
    let out = folder.path("add.sva");
    let (module, out) = (guest("add.wat"), out.to_str().unwrap());
    let module = module.to_str().unwrap();
    let add = |flags: &[&str]| {
        let rest = ["--invoke", "add", out, "20", "22"];
        selvedge([&["run"], flags, &rest].concat())
    };
    selvedge(["compile", module, "-o", out]).prints("");
    add(&["--deterministic"]).fails(1, &["nan_canonicalization: true"]);
    add(&["--canonical-nans"]).fails(1, &["nan_canonicalization: true"]);
    selvedge(["compile", "--canonical-nans", module, "-o", out]).prints("");
    add(&["--deterministic"]).fails(1, &["relaxed_simd_deterministic: true"]);
    add(&["--canonical-nans"]).prints("42\n");
    selvedge(["compile", "--deterministic", module, "-o", out]).prints("");
    for flags in [&[][..], &["--canonical-nans"], &["--deterministic"]] {
        add(flags).prints("42\n");
    }
}

#[test]
fn an_artifact_that_checks_its_addresses_says_so() {
    let folder = Folder::new();
    let out = folder.path("add.sva");
    let (module, out) = (guest("add.wat"), out.to_str().unwrap());
    let module = module.to_str().unwrap();
    let add = |flags: &[&str]| {
        let rest = ["--invoke", "add", out, "20", "22"];
        selvedge([&["run"], flags, &rest].concat())
    };
    selvedge(["compile", module, "-o", out]).prints("");
    add(&["--explicit-bounds"]).fails(1, &["explicit_bounds: true"]);
    selvedge(["compile", "--explicit-bounds", module, "-o", out]).prints("");
    for flags in [&[][..], &["--explicit-bounds"]] {
        add(flags).prints("42\n");
    }
}

#[test]
fn without_a_name_the_artifact_lies_beside_the_module() {
    let folder = Folder::new();
    let file = folder.file("my.guest.wat", std::fs::read(guest("add.wat")).unwrap());
    selvedge(["compile".as_ref(), file.as_os_str()]).prints("");
    assert_eq!(folder.names(), ["my.guest.sva", "my.guest.wat"]);
    run_add(&folder.path("my.guest.sva")).prints("42\n");
}

#[test]
fn what_comes_from_stdin_needs_a_name() {
    let folder = Folder::new();
    let module = std::fs::read(guest("add.wat")).unwrap();
    selvedge_with_stdin(["compile", "-"], &module).fails(1, &["--output"]);
    let out = folder.path("add.sva");
    selvedge_with_stdin(["compile", "-", "-o", out.to_str().unwrap()], &module).prints("");
    run_add(&out).prints("42\n");
}

#[test]
fn a_failed_compilation_leaves_nothing_behind_and_replaces_nothing() {
    let folder = Folder::new();
    let (out, bytes) = artifact(&folder);
    let broken = folder.file("broken.wat", "(module (func (result i32)))");
    compile(&broken, &out).fails(1, &["broken.wat"]);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    assert_eq!(folder.names(), ["add.sva", "broken.wat"]);
}

#[test]
fn the_module_itself_is_not_overwritten() {
    let folder = Folder::new();
    let text = std::fs::read(guest("add.wat")).unwrap();
    for name in ["add.wat", "add.sva"] {
        let module = folder.file(name, &text);
        compile(&module, &module).fails(1, &[name, "--output"]);
        assert_eq!(std::fs::read(&module).unwrap(), text);
    }
    selvedge(["compile".as_ref(), folder.path("add.sva").as_os_str()]).fails(1, &["--output"]);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let folder = Folder::new();
    compile(&guest("add.wat"), &folder.path("missing/add.sva")).fails(1, &["missing/add.sva"]);
    compile(&guest("add.wat"), &folder.path("")).fails(1, &["directory"]);
    assert!(folder.names().is_empty());
}

#[test]
fn an_output_that_is_no_file_is_written_through() {
    compile(&guest("add.wat"), Path::new("/dev/null")).prints("");
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn an_output_that_is_a_link_is_followed() {
    let folder = Folder::new();
    let target = folder.file("target.sva", "old");
    let link = folder.path("link.sva");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    compile(&guest("add.wat"), &link).prints("");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    run_add(&target).prints("42\n");
}

#[test]
fn an_artifact_is_not_compiled_again() {
    let folder = Folder::new();
    let (out, _) = artifact(&folder);
    selvedge(["compile".as_ref(), out.as_os_str()])
        .fails(1, &["add.sva", "artifact", "selvedge run"]);
}

#[test]
fn an_artifact_can_come_from_stdin() {
    let folder = Folder::new();
    let (_, bytes) = artifact(&folder);
    selvedge_with_stdin(["run", "--invoke", "add", "-", "1", "2"], &bytes).prints("3\n");
    selvedge_with_stdin(["run", "-"], &bytes[..bytes.len() - 1]).fails(1, &["stdin", "truncated"]);
}

#[test]
fn a_truncated_artifact_is_refused() {
    let folder = Folder::new();
    let (_, bytes) = artifact(&folder);
    for len in [bytes.len() - 1, bytes.len() / 2, 4096, 100] {
        let cut = folder.file("cut.sva", &bytes[..len]);
        run_add(&cut).fails(1, &["cut.sva", "truncated", "compile"]);
    }
    for len in [4, 16, 63] {
        let cut = folder.file("cut.sva", &bytes[..len]);
        run_add(&cut).fails(1, &["cut.sva", "compile"]);
    }
}

#[test]
fn an_artifact_with_a_flipped_byte_in_its_header_is_refused() {
    let folder = Folder::new();
    let (_, bytes) = artifact(&folder);
    let at = header_at(&bytes);
    for offset in 0..FIXED_LEN + 8 {
        let mut flipped = bytes.clone();
        flipped[at + offset] ^= 0xff;
        let file = folder.file("flipped.sva", flipped);
        run_add(&file).fails(1, &["flipped.sva", "header is damaged", "compile"]);
    }
}

#[test]
fn an_artifact_with_a_flipped_byte_elsewhere_is_refused() {
    let folder = Folder::new();
    let (_, bytes) = artifact(&folder);
    let step = (bytes.len() / 64).max(1);
    for offset in (0..bytes.len()).step_by(step) {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 0x55;
        let file = folder.file("flipped.sva", flipped);
        let run = run_add(&file);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (Some(1), ""),
            "{offset}: {run:?}"
        );
        assert!(run.stderr.starts_with("error: "), "{offset}: {run:?}");
    }
}

#[test]
fn an_artifact_of_another_version_is_refused() {
    let folder = Folder::new();
    let (_, mut bytes) = artifact(&folder);
    let at = header_at(&bytes);
    bytes[at + VERSION] = bytes[at + VERSION].wrapping_add(1);
    // The header's checksum is made anew: what is refused is the version and not an accident.
    let field =
        |bytes: &[u8], from: usize| u32::from_le_bytes(bytes[at + from..][..4].try_into().unwrap());
    let header_len = FIXED_LEN + field(&bytes, IDENTITY_LEN) as usize;
    let mut header = bytes[at..at + header_len].to_vec();
    header[HEADER_SUM].fill(0);
    let sum = xxh3_64(&header);
    bytes[at..][HEADER_SUM].copy_from_slice(&sum.to_le_bytes());
    let version = field(&bytes, VERSION).to_string();
    let file = folder.file("newer.sva", bytes);
    run_add(&file).fails(1, &["newer.sva", "version", &version, "compile"]);
}

#[test]
fn an_elf_file_that_is_no_artifact_is_called_that() {
    let file = env!("CARGO_BIN_EXE_selvedge");
    selvedge(["run", file]).fails(1, &["not a Selvedge artifact"]);
}
