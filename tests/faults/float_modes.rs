//! Guests compute with floats as WebAssembly says on threads with any modes, and leave the modes alone.
//!
//! What is unsafe here: changing the modes of a thread, as libraries built with `-ffast-math` do.
#![allow(
    unsafe_code,
    reason = "only an instruction changes the modes; see the file's head"
)]

use std::arch::asm;

use selvedge::{Flow, InstanceHandle, Val, Vmctx, Yield};
use selvedge_tests::sandbox::Sandbox;

/// Computes what every mode changes: a third, a denormal sum, a denormal operand; before and behind a call.
const GUEST: &str = r#"(module
    (import "h" "f" (func $f))
    (memory 1) (data (i32.const 0) "\01\00\00\00\00\00\00\00")
    (func $digest (result i64)
        (i64.xor
            (i64.xor
                (i64.reinterpret_f64 (f64.div (f64.const 1) (f64.load (i32.const 8))))
                (i64.reinterpret_f64 (f64.div (f64.const -1) (f64.load (i32.const 8)))))
            (i64.xor
                (i64.rotl (i64.reinterpret_f64 (f64.mul (f64.load (i32.const 16)) (f64.const 0.5))) (i64.const 13))
                (i64.rotl (i64.reinterpret_f64 (f64.mul (f64.load (i32.const 0)) (f64.const 3))) (i64.const 29)))))
    (func (export "run") (result i64) (local i64)
        (f64.store (i32.const 8) (f64.const 3))
        (f64.store (i32.const 16) (f64.const 0x1p-1022))
        (local.set 0 (call $digest))
        (call $f)
        (i64.xor (local.get 0) (i64.rotl (call $digest) (i64.const 7)))))"#;

const PLAIN: u32 = 0x1f80;
const STATUS: u32 = 0x3f;

fn modes() -> u32 {
    let mut modes = 0_u32;
    // SAFETY: stores four bytes into the local.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut modes, options(nostack)) };
    modes & !STATUS
}

fn set_modes(modes: u32) {
    // SAFETY: loads four bytes; no float is computed by this test until they are put back.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const modes, options(nostack)) };
}

fn instance(suspends: bool) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", move |vmctx: &Vmctx<'_>| {
            assert_eq!(modes(), PLAIN, "host functions have the guest's modes");
            assert!(vmctx.heap().is_ok());
            match suspends {
                true => Flow::from(Yield::returning(())),
                false => Flow::Return(()),
            }
        })
        .unwrap();
    sandbox.instance(GUEST)
}

/// Runs the guest to its end; the modes are the same at every stop.
fn run(instance: &mut InstanceHandle) -> u64 {
    let before = modes();
    let mut result = instance.run("run", &[]).unwrap();
    while result.is_yielded() {
        assert_eq!(modes(), before);
        result = instance.resume().unwrap();
    }
    assert_eq!(modes(), before);
    result.unwrap_returned().bits()
}

#[test]
fn the_hosts_floating_point_modes_do_not_reach_the_guest() {
    for suspends in [false, true] {
        let mut instance = instance(suspends);
        let expected = run(&mut instance);
        // Rounding down, up and to zero; flushing results and operands to zero; all of it.
        for bits in [
            1 << 13,
            1 << 14,
            3 << 13,
            1 << 15,
            1 << 6,
            3 << 13 | 1 << 15 | 1 << 6,
        ] {
            set_modes(PLAIN | bits);
            let found = run(&mut instance);
            let trapped = instance.run("absent", &[Val::I32(1)]).is_err();
            let after = modes();
            set_modes(PLAIN);
            assert_eq!(found, expected, "{bits:#x}");
            assert_eq!(after, PLAIN | bits);
            assert!(trapped);
        }
    }
}
