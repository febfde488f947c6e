//! The Rust guest, built here for `wasm32-wasip1`, and every way in which it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use selvedge::{OptLevel, TrapCode};

use crate::program::{Guest, folder, text, with_data};

/// Builds the guest, once a process; cargo sees to it that nothing is built twice.
fn report() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../guests");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--locked",
                "--target",
                "wasm32-wasip1",
            ])
            .arg("--target-dir")
            .arg(&target_dir)
            .current_dir(folder().join("rust/report"))
            // Flags for the tests, such as those of a sanitiser, are not for the guest.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "the guest does not build; is the target wasm32-wasip1 installed?\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        target_dir.join("wasm32-wasip1/release/report.wasm")
    })
}

fn guest() -> Guest {
    Guest::new(report(), OptLevel::Speed)
}

/// What `report words` prints of a text.
fn words(text: &str) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let words = text.split(|c: char| !c.is_alphabetic());
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut ranked: Vec<_> = counts.iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut out = format!(
        "{} words, {} different\n",
        counts.values().sum::<usize>(),
        counts.len()
    );
    for (word, count) in ranked.iter().take(5) {
        out += &format!("{count} {word}\n");
    }
    out + "wall clock after 2020: true\nmonotonic clock goes on: true\n"
}

#[test]
fn report_ranks_words_and_sees_the_clocks() {
    for opt_level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
        let guest = Guest::new(report(), opt_level);
        let ended = guest.run(&["words", "/data/selvedge.txt"], "", with_data);
        assert_eq!(ended.output(), words(&text()));
    }
}

#[test]
fn report_sees_its_environment_and_only_that() {
    let guest = guest();
    let ended = guest.run(&["words", "/data/selvedge.txt"], "", |builder| {
        with_data(builder);
        builder.env("REPORT_FOR", "the weavers");
    });
    assert_eq!(ended.output(), words(&text()) + "for the weavers\n");
    let ended = guest.run(&["words", "/data/absent"], "", with_data);
    assert!(matches!(ended.code, Ok(1)));
    assert!(
        ended.stderr.starts_with("report: /data/absent: "),
        "{ended:?}"
    );
}

#[test]
fn report_exits_with_the_code_that_it_is_asked_for() {
    let guest = guest();
    for code in [0, 1, 42, 255] {
        let ended = guest.run(&["exit", &code.to_string()], "", |_| {});
        assert!(
            matches!(ended.code, Ok(found) if found == code),
            "{ended:?}"
        );
    }
    assert!(matches!(guest.run(&[], "", |_| {}).code, Ok(2)));
}

#[test]
fn a_panic_of_the_guest_is_its_message_and_a_trap() {
    let guest = guest();
    for (how, message) in [
        ("panic", "asked to panic"),
        ("divide", "attempt to divide by zero"),
    ] {
        let ended = guest.run(&[how], "", |_| {});
        assert!(ended.stderr.contains(message), "{ended:?}");
        let fault = ended.code.unwrap_err();
        assert_eq!(fault.code, TrapCode::Unreachable);
        // From the panic's machinery down to the entry, by name.
        let text = fault.to_string();
        assert!(text.contains("rust_panic"), "{text}");
        assert!(text.contains("_start"), "{text}");
    }
}

#[test]
fn endless_recursion_of_the_guest_is_a_trap_that_names_the_function() {
    let guest = guest();
    for _ in 0..3 {
        let ended = guest.run(&["overflow"], "", |_| {});
        let fault = ended.code.unwrap_err();
        assert_eq!(fault.code, TrapCode::StackOverflow);
        let frames = &fault.backtrace.frames;
        assert!(
            frames[1..]
                .iter()
                .all(|f| f.to_string().contains("report::descend")),
            "{fault}"
        );
        assert!(fault.backtrace.omitted > 1000);
    }
    // The region serves on.
    let ended = guest.run(&["words", "/data/selvedge.txt"], "", with_data);
    assert_eq!(ended.output(), words(&text()));
}
