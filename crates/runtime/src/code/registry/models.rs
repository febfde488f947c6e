//! Model checks of the registry: whatever the order, no reader sees what has been freed.

use super::*;
use crate::primitive::{Arc, model};
use loom::thread;

/// A registry of one model run, never dropped: a registration refers to it for good.
fn registry() -> &'static Registry {
    Box::leak(Box::new(Registry::new()))
}

/// What the pointer of an entry leads to, as a module's trap table.
fn owner() -> Arc<Witness> {
    Arc::new(Witness::default())
}

fn entry(start: usize, owner: &Witness) -> CodeEntry {
    CodeEntry {
        start,
        end: start + 10,
        traps: ptr::from_ref(owner).cast(),
        traps_len: 0,
    }
}

/// Looks at the owner of what is registered at an address, if anything is.
fn look(registry: &Registry, pc: usize) -> bool {
    let seen = registry.lookup(pc, |entry| {
        // SAFETY: the model keeps the owner's memory.
        let owner = unsafe { &*entry.traps.cast::<Witness>() };
        owner.read(|| ());
    });
    seen.is_some()
}

/// Unregisters, and then does what a module does whose trap table is unmapped.
fn go(registration: Registration, owner: &Witness) {
    drop(registration);
    owner.end();
}

// Readers are the first threads of their models: a reader can then be stopped where it has read the number
// of its lane, and again in that lane, without interrupting any thread once more to begin.

#[test]
fn loom_an_owner_may_go_when_its_entry_is_unregistered() {
    model(|| {
        let registry = registry();
        let owner = owner();
        let registration = registry.register(entry(100, &owner));
        let writer = thread::spawn({
            let owner = owner.clone();
            move || {
                go(registration, &owner);
                assert!(!look(registry, 105));
            }
        });
        look(registry, 105);
        writer.join().unwrap();
    });
}

#[test]
fn loom_what_stays_is_found_while_others_come_and_go() {
    model(|| {
        let registry = registry();
        let stays = owner();
        let _stays = registry.register(entry(100, &stays));
        let writer = thread::spawn(|| {
            let passes = owner();
            let registration = registry.register(entry(200, &passes));
            go(registration, &passes);
        });
        assert!(look(registry, 105));
        look(registry, 205);
        writer.join().unwrap();
    });
}

#[test]
fn loom_two_writers_and_a_reader() {
    model(|| {
        let registry = registry();
        let owners = [owner(), owner()];
        let first = registry.register(entry(100, &owners[0]));
        let writer = thread::spawn({
            let owner = owners[0].clone();
            move || go(first, &owner)
        });
        let reader = thread::spawn(|| {
            look(registry, 105);
        });
        let second = registry.register(entry(200, &owners[1]));
        assert!(look(registry, 205));
        writer.join().unwrap();
        reader.join().unwrap();
        assert!(!look(registry, 105));
        go(second, &owners[1]);
    });
}

#[test]
fn loom_readers_of_two_writes_in_a_row_are_waited_for_in_both_lanes() {
    model(|| {
        let registry = registry();
        let owner = owner();
        let registration = registry.register(entry(100, &owner));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                thread::spawn(|| {
                    look(registry, 105);
                })
            })
            .collect();
        go(registration, &owner);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}
