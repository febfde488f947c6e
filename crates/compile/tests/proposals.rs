//! Every proposal can be turned off: a module that uses it is then refused by its name and the place.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use selvedge_compile::{Error, Proposal, Settings, compile, validate};
use support::{settings, wasm};

/// A module that needs each proposal and nothing else that may be turned off but what that needs.
fn example(proposal: Proposal) -> Option<&'static str> {
    Some(match proposal {
        Proposal::MutableGlobal => "(module (global (export \"g\") (mut i32) (i32.const 0)))",
        Proposal::NontrappingFloatToInt => {
            "(module (func (drop (i32.trunc_sat_f32_s (f32.const 0)))))"
        }
        Proposal::SignExtension => "(module (func (drop (i32.extend8_s (i32.const 0)))))",
        Proposal::MultiValue => "(module (func (result i32 i32) (i32.const 0) (i32.const 1)))",
        Proposal::ReferenceTypes => "(module (func (param externref)))",
        Proposal::BulkMemory => {
            "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))"
        }
        Proposal::Simd => "(module (func (param v128)))",
        Proposal::RelaxedSimd => {
            "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))"
        }
        Proposal::TailCall => "(module (func $f (return_call $f)))",
        Proposal::ExtendedConst => "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
        Proposal::MultiMemory => "(module (memory 1) (memory 1))",
        Proposal::Memory64 => "(module (memory i64 1))",
        Proposal::FunctionReferences => {
            "(module (type $t (func)) (func (param (ref null $t)) (call_ref $t (local.get 0))))"
        }
        Proposal::ExceptionHandling => "(module (tag))",
        Proposal::Threads => "(module (memory 1 1 shared))",
        Proposal::CustomPageSizes => "(module (memory 1 (pagesize 1)))",
        Proposal::WideArithmetic => {
            "(module (func (i64.mul_wide_u (i64.const 1) (i64.const 2)) (drop) (drop)))"
        }
        Proposal::Gc => "(module (type (struct)))",
        _ => return None,
    })
}

/// Settings that leave only what an example may need beside the proposal itself.
fn settings_with(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = settings();
    change(&mut settings);
    settings
}

#[test]
fn every_proposal_can_be_turned_off_and_on() {
    for &proposal in Proposal::ALL {
        let wasm = wasm(example(proposal).unwrap_or_else(|| panic!("{proposal} has no example")));
        let off = settings_with(|settings| settings.proposals.disable(proposal));
        let error = compile(&wasm, &off).unwrap_err();
        assert_eq!(
            validate(&wasm, &off).unwrap_err().to_string(),
            error.to_string()
        );
        match error {
            Error::Disabled {
                proposal: named,
                offset,
            } => {
                assert!(proposal.is_built(), "{proposal}");
                assert_eq!(named, proposal);
                assert!(
                    (8..wasm.len() as u64).contains(&offset),
                    "{proposal}: {offset}"
                );
            }
            Error::Unsupported { feature, offset } => {
                assert!(!proposal.is_built(), "{proposal}");
                assert_eq!(feature, proposal.name());
                assert!(
                    (8..wasm.len() as u64).contains(&offset),
                    "{proposal}: {offset}"
                );
            }
            other => panic!("{proposal}: {other}"),
        }
        if proposal.is_built() {
            let on = settings_with(|settings| settings.proposals.enable(proposal).unwrap());
            compile(&wasm, &on).unwrap_or_else(|error| panic!("{proposal}: {error}"));
        }
    }
}

#[test]
fn an_example_needs_nothing_but_its_proposal_and_what_that_stands_on() {
    for &proposal in Proposal::ALL.iter().filter(|proposal| proposal.is_built()) {
        let only = settings_with(|settings| {
            settings.proposals = selvedge_compile::Proposals::NONE;
            settings.proposals.enable(proposal).unwrap();
        });
        let wasm = wasm(example(proposal).unwrap());
        validate(&wasm, &only).unwrap_or_else(|error| panic!("{proposal}: {error}"));
    }
}

#[test]
fn the_first_version_of_webassembly_needs_no_proposal() {
    let none = settings_with(|settings| settings.proposals = selvedge_compile::Proposals::NONE);
    let wasm = wasm(
        "(module (memory 1) (table 1 funcref) (global $g (mut i32) (i32.const 1))
            (data (i32.const 0) \"x\") (elem (i32.const 0) $f)
            (func $f (export \"f\") (param i32) (result i32)
                (global.set $g (i32.load (local.get 0)))
                (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))",
    );
    compile(&wasm, &none).unwrap();
}
