//! Whatever a guest does with its instance, and its host, and other threads: the next one in the slot is like one in
//! a slot that nobody has used. `cargo run --release --manifest-path fuzz/Cargo.toml -- tenants` does it for ever.

use selvedge_tests::tenants::walk;

#[test]
fn the_next_tenant_finds_nothing_of_the_former_ones() {
    for seed in 0..12 {
        walk(seed, 60).unwrap();
    }
}
