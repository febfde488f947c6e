//! Guests whose result tells whether anything of their state was lost.

use selvedge::{HostError, InstanceHandle, Limits, Vmctx};
use selvedge_tests::sandbox::Sandbox;

/// What each exported function does for so many rounds, and returns a sum of.
pub(crate) const KINDS: [&str; 9] = [
    "integers",
    "carries",
    "floats",
    "vectors",
    "calls",
    "tail_calls",
    "exceptions",
    "memory",
    "hostcalls",
];

/// A module with a function of each kind, and some that end otherwise.
pub(crate) const GUEST: &str = r#"(module
    (import "h" "twice" (func $twice (param i64) (result i64)))
    (import "h" "halves" (func $halves (param f64 f64) (result f64)))
    (tag $tag (param i64))
    (memory (export "heap") 1)
    (global $rounds (export "rounds") (mut i64) (i64.const 0))

    (func (export "integers") (param $n i64) (result i64)
        (local $a i64) (local $b i64) (local $c i64) (local $d i64) (local $i i64)
        (local.set $a (i64.const 1)) (local.set $b (i64.const 2))
        (local.set $c (i64.const 3)) (local.set $d (i64.const 4))
        (loop $l
            (local.set $a (i64.add (local.get $a) (i64.rotl (local.get $d) (i64.const 7))))
            (local.set $b (i64.xor (local.get $b) (i64.mul (local.get $a) (i64.const 6364136223846793005))))
            (local.set $c (i64.sub (local.get $c) (i64.shr_u (local.get $b) (i64.const 3))))
            (local.set $d (i64.add (local.get $d) (i64.rem_u (local.get $c) (i64.const 1000003))))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (i64.xor (i64.xor (local.get $a) (local.get $b)) (i64.xor (local.get $c) (local.get $d))))

    (func (export "carries") (param $n i64) (result i64)
        (local $lo i64) (local $hi i64) (local $i i64)
        (local.set $lo (i64.const 0x9e3779b97f4a7c15))
        (loop $l
            (i64.add128 (local.get $lo) (local.get $hi) (i64.const 0xbf58476d1ce4e5b9) (local.get $i))
            (local.set $hi) (local.set $lo)
            (i64.mul_wide_u (local.get $lo) (i64.const 0x94d049bb133111eb))
            (local.set $hi (i64.add (local.get $hi))) (local.set $lo)
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (i64.xor (local.get $lo) (local.get $hi)))

    (func (export "floats") (param $n i64) (result i64)
        (local $x f64) (local $y f64) (local $z f32) (local $i i64)
        (local.set $x (f64.const 0.5)) (local.set $y (f64.const 1.5)) (local.set $z (f32.const 3))
        (loop $l
            (local.set $x (f64.sub (f64.mul (f64.const 3.9) (local.get $x)) (f64.mul (f64.mul (f64.const 3.9) (local.get $x)) (local.get $x))))
            (local.set $y (f64.sqrt (f64.add (f64.mul (local.get $y) (local.get $y)) (local.get $x))))
            (local.set $z (f32.div (f32.add (local.get $z) (f32.demote_f64 (local.get $y))) (f32.const 1.25)))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (i64.xor (i64.reinterpret_f64 (local.get $x))
            (i64.xor (i64.reinterpret_f64 (local.get $y)) (i64.extend_i32_u (i32.reinterpret_f32 (local.get $z))))))

    (func (export "vectors") (param $n i64) (result i64)
        (local $a v128) (local $b v128) (local $c v128) (local $i i64)
        (local.set $a (v128.const i32x4 1 2 3 4)) (local.set $b (v128.const i32x4 5 6 7 8))
        (local.set $c (v128.const f32x4 1 2 3 4))
        (loop $l
            (local.set $a (i32x4.add (local.get $a) (i8x16.swizzle (local.get $b) (v128.const i8x16 5 6 7 4 9 10 11 8 13 14 15 12 1 2 3 0))))
            (local.set $b (v128.xor (i16x8.mul (local.get $b) (local.get $a)) (i64x2.splat (local.get $i))))
            (local.set $c (f32x4.mul (f32x4.sqrt (f32x4.abs (local.get $c))) (f32x4.convert_i32x4_s (local.get $a))))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (local.set $a (v128.xor (local.get $a) (v128.xor (local.get $b) (local.get $c))))
        (i64.xor (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a))))

    (func $fib (param $n i64) (result i64)
        (if (result i64) (i64.lt_u (local.get $n) (i64.const 2))
            (then (local.get $n))
            (else (i64.add
                (call $fib (i64.sub (local.get $n) (i64.const 1)))
                (call $fib (i64.sub (local.get $n) (i64.const 2)))))))
    (func (export "calls") (param $n i64) (result i64)
        (local $sum i64) (local $i i64)
        (loop $l
            (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (call $fib (i64.const 6))))
            (local.set $i (i64.add (local.get $i) (i64.const 8)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (local.get $sum))

    (func $even (param $n i64) (param $sum i64) (result i64)
        (if (i64.eqz (local.get $n)) (then (return (local.get $sum))))
        (return_call $odd (i64.sub (local.get $n) (i64.const 1)) (i64.rotl (local.get $sum) (i64.const 3)) (f64.const 2)))
    (func $odd (param $n i64) (param $sum i64) (param $x f64) (result i64)
        (if (i64.eqz (local.get $n)) (then (return (i64.const -1))))
        (return_call $even (i64.sub (local.get $n) (i64.const 1))
            (i64.xor (local.get $sum) (i64.add (local.get $n) (i64.trunc_f64_s (local.get $x))))))
    (func (export "tail_calls") (param $n i64) (result i64)
        (call $even (i64.mul (local.get $n) (i64.const 2)) (i64.const 1)))

    (func $throws (param $n i64) (param $depth i64) (result i64)
        (if (i64.eqz (local.get $depth)) (then (throw $tag (local.get $n))))
        (i64.add (call $throws (local.get $n) (i64.sub (local.get $depth) (i64.const 1))) (i64.const 1)))
    (func (export "exceptions") (param $n i64) (result i64)
        (local $sum i64) (local $i i64)
        (loop $l
            (block $caught (result i64)
                (try_table (result i64) (catch $tag $caught)
                    (call $throws (local.get $i) (i64.and (local.get $i) (i64.const 3)))))
            (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1))))
            (local.set $i (i64.add (local.get $i) (i64.const 16)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (local.get $sum))

    (func (export "memory") (param $n i64) (result i64)
        (local $at i32) (local $i i64)
        (if (i32.lt_u (memory.size) (i32.const 3)) (then (drop (memory.grow (i32.const 1)))))
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 4096))
        (loop $l
            (local.set $at (i32.and (i32.wrap_i64 (i64.mul (local.get $i) (i64.const 40503))) (i32.const 0xff8)))
            (i64.store (local.get $at) (i64.add (i64.load (local.get $at)) (i64.add (local.get $i) (i64.const 1))))
            (i64.store8 offset=3 (local.get $at) (i64.load offset=8 (local.get $at)))
            (memory.copy (i32.const 2048) (i32.const 100) (i32.const 64))
            (local.set $i (i64.add (local.get $i) (i64.const 1)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (local.set $i (i64.const 0))
        (local.set $at (i32.const 0))
        (loop $l
            (local.set $i (i64.add (i64.rotl (local.get $i) (i64.const 5)) (i64.load (local.get $at))))
            (br_if $l (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 4096))))
        (local.get $i))

    (func (export "hostcalls") (param $n i64) (result i64)
        (local $sum i64) (local $x f64) (local $i i64)
        (local.set $x (f64.const 1))
        (loop $l
            (local.set $sum (i64.add (call $twice (local.get $sum)) (local.get $i)))
            (local.set $x (call $halves (local.get $x) (f64.const 3)))
            (global.set $rounds (i64.add (global.get $rounds) (i64.const 1)))
            (local.set $i (i64.add (local.get $i) (i64.const 4)))
            (br_if $l (i64.lt_u (local.get $i) (local.get $n))))
        (i64.xor (local.get $sum) (i64.reinterpret_f64 (local.get $x))))

    (func (export "for_ever") (loop $l (br $l)))
    (func (export "for_ever_calling") (loop $l (drop (call $twice (i64.const 1))) (br $l)))
    (func (export "trap") (param $n i64) (result i64) (unreachable))
)"#;

/// A sandbox with the guest's imports.
pub(crate) fn sandbox(slots: u32) -> Sandbox {
    let mut sandbox = Sandbox::with(slots, &Limits::default());
    sandbox
        .linker
        .func(
            "h",
            "twice",
            |_: &Vmctx<'_>, x: i64| -> Result<i64, HostError> { Ok(x.wrapping_mul(2)) },
        )
        .expect("it is in order")
        .func("h", "halves", |_: &Vmctx<'_>, x: f64, y: f64| -> f64 {
            (x + y) / 2.0
        })
        .expect("it is in order");
    sandbox
}

/// An instance of the guest, in a region of its own.
pub(crate) fn instance() -> InstanceHandle {
    sandbox(1).instance(GUEST)
}
