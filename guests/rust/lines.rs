//! A Rust guest that traps in a function that is inlined into another, at lines that are marked.

use std::hint::black_box;

#[inline(always)]
fn innermost(n: u32) -> u32 {
    let at = if n > 2 { 0xffff_fff0_u32 } else { 16 };
    let at = black_box(at as *const u32);
    // SAFETY: the second address lies outside the memory, and that is the point.
    unsafe { at.read_volatile() } // line: innermost
}

#[inline(never)]
fn middle(n: u32) -> u32 {
    let sum = innermost(black_box(n)); // line: middle
    black_box(sum) + 1
}

fn main() {
    let mut sum = 0;
    for n in 0..black_box(5) {
        sum += middle(n); // line: main
    }
    println!("{sum}");
}
