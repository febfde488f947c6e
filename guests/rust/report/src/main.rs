//! A Rust guest: counts the words of a file, and ends in each way that a program can.
//!
//! `report words FILE`  the five most frequent words, and what the clocks and `HashMap` gave
//! `report panic`       a panic: message on standard error, then a trap (`panic = abort` on WASI)
//! `report overflow`    recursion without end: a trap, call stack exhausted
//! `report divide`      an integer division by zero that the compiler can't see: a panic
//! `report exit CODE`   `std::process::exit`
//!
//! Everything it prints on standard output depends on its arguments and the file only.
//! Exit codes: 0, 1 if the file can't be read, 2 for wrong usage, or the CODE asked for.

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, process};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["words", file] => words(file),
        ["panic"] => panic!("asked to panic"),
        ["overflow"] => {
            println!("depth {}", descend(1));
            ExitCode::SUCCESS
        }
        ["divide"] => {
            println!("{}", 1 / black_box(0));
            ExitCode::SUCCESS
        }
        ["exit", code] => match code.parse() {
            Ok(code) => process::exit(code),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: report words FILE | panic | overflow | divide | exit CODE");
    ExitCode::from(2)
}

fn words(file: &str) -> ExitCode {
    let start = Instant::now();
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("report: {file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    // HashMap takes its seed from `random_get`, so only a sorted view of it is deterministic.
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut ranked: Vec<(&str, usize)> = counts.iter().map(|(w, &n)| (w.as_str(), n)).collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));

    println!(
        "{} words, {} different",
        ranked.iter().map(|r| r.1).sum::<usize>(),
        ranked.len()
    );
    for (word, count) in ranked.iter().take(5) {
        println!("{count} {word}");
    }

    let since_2020 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .is_ok_and(|since| since.as_secs() > 1_577_836_800);
    println!("wall clock after 2020: {since_2020}");
    println!("monotonic clock goes on: {}", Instant::now() >= start);
    if let Ok(name) = env::var("REPORT_FOR") {
        println!("for {name}");
    }
    ExitCode::SUCCESS
}

/// Recursion that is no tail call, whose end nobody sees, and whose frames hold nothing in linear
/// memory: it is the call stack that overflows, not the guest's own stack pointer.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == u64::MAX {
        1
    } else {
        descend(depth + 1).rotate_left(3) ^ depth
    }
}
