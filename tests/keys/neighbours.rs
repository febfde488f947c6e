//! Accesses of a guest to every place of its neighbours that it can name.

use selvedge::{InstanceHandle, TrapCode, Val};
use selvedge_tests::sandbox::{fault, returned_i32};

use crate::guests::{self, Access, LOAD, OWN, STORE, base, check_refused};

/// Slots: one after the last that a guest can reach has its key again.
const SLOTS: u32 = 20;

/// Distances from the base of a memory: what a slot holds below it and from there on. Context first.
const PLACES: [i64; 10] = [
    -64 << 10,
    -8 << 10,
    -4 << 10,
    -64,
    -8,
    0,
    4,
    65_532,
    65_536,
    2 * 65_536 - 4,
];

fn is_as_it_was(instance: &mut InstanceHandle) -> bool {
    let heap = instance.heap().unwrap();
    let whole = heap.len() == 2 * 65_536;
    let kept = heap[0..4] == OWN.to_le_bytes() && heap[65_536..].iter().all(|&byte| byte == 0xab);
    drop(heap);
    let global = instance.global("g").unwrap().i32();
    let load = |instance: &mut InstanceHandle| returned_i32(instance.run("seen", &[Val::I32(0)]));
    whole && kept && global == Some(7) && load(instance) == OWN
}

#[test]
fn a_guest_reads_and_writes_nothing_of_any_slot_within_its_reach() {
    let Some(sandbox) = guests::sandbox(SLOTS) else {
        return;
    };
    assert!(sandbox.region.protection_keys() >= 2);
    let mut street = guests::street(&sandbox, SLOTS);
    for instance in &mut street {
        // Half of what there is has grown.
        assert_eq!(instance.grow_memory(1).unwrap(), 1);
        instance.heap_mut().unwrap()[65_536..].fill(0xab);
    }
    let bases: Vec<usize> = street.iter().map(base).collect();
    let stride = bases[1] - bases[0];
    let mut tried = 0;
    for at in 0..street.len() {
        let instance = &mut street[at];
        let mut refused = |access: Access, distance: i64| {
            if let Some(result) = access.make(instance, distance) {
                check_refused(result);
                instance.reset().unwrap();
                tried += 1;
            }
        };
        for &other in &bases[at + 1..] {
            let distance = (other - bases[at]) as i64;
            assert_eq!(distance as usize % stride, 0);
            for place in PLACES {
                refused(LOAD, distance + place);
                refused(STORE, distance + place);
            }
        }
        // What lies behind the last slot is reserved.
        refused(LOAD, 0xffff_fff0);
        refused(STORE, (6 << 30) - 0x2_0000);
        instance.grow_memory(1).unwrap();
        instance.heap_mut().unwrap()[65_536..].fill(0xab);
    }
    assert!(tried > 2_000, "{tried} accesses");
    for instance in &mut street {
        assert!(is_as_it_was(instance));
    }
}

#[test]
fn accesses_of_every_form_are_refused() {
    let Some(sandbox) = guests::sandbox(2) else {
        return;
    };
    let mut street = guests::street(&sandbox, 2);
    let distance = (base(&street[1]) - base(&street[0])) as i32;
    let [first, second] = &mut street[..] else {
        unreachable!("two were made");
    };
    for name in ["load", "store", "wide", "atomic"] {
        for place in [-16, 0, 128] {
            let at = Val::I32(distance + place);
            check_refused(first.run(name, &[at]));
            first.reset().unwrap();
        }
    }
    assert_eq!(second.heap().unwrap()[..4], OWN.to_le_bytes());
    // The fault is told as that of a memory, with the address that the guest gave.
    let told = fault(first.run("load", &[Val::I32(distance)]));
    assert_eq!(told.code, TrapCode::HeapOutOfBounds);
    let text = told.to_string();
    assert!(text.contains(&format!("{distance:#x}")), "{text}");
}

#[test]
fn slots_lie_as_close_as_keys_allow() {
    let Some(sandbox) = guests::sandbox(4) else {
        return;
    };
    let street = guests::street(&sandbox, 4);
    let keys = sandbox.region.protection_keys() as usize;
    let stride = base(&street[1]) - base(&street[0]);
    let whole = (6usize << 30) + sandbox.region.limits().context_len;
    assert!(stride * keys >= whole && (stride - (2 << 20)) * keys < whole);
}
