//! The key of every mapping that a guest can reach, as the kernel tells it, through all that is done with a slot.
//!
//! A new mapping has key 0, which all guests may use: an engine that forgot that once had no isolation left.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;

use selvedge::{AllocStrategy, Engine, InstanceHandle, Linker, Program, Region, Settings, Val};

use crate::guests::{self, GUEST, base};

/// Bytes around the base of a memory that belong to its slot.
const BELOW: usize = 2 << 20;
const ABOVE: usize = guests::MEMORY_LEN as usize;

/// A mapping that can be accessed.
struct Mapping {
    range: Range<usize>,
    rights: String,
    key: u32,
}

/// Those of this process.
pub(crate) fn mappings() -> Vec<(Range<usize>, String, u32)> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut found: Vec<(Range<usize>, String, u32)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(key) = line.strip_prefix("ProtectionKey:") {
            found.last_mut().unwrap().2 = key.trim().parse().unwrap();
        } else if let Some((start, end)) = first.split_once('-') {
            let number = |text| usize::from_str_radix(text, 16);
            if let (Ok(start), Ok(end)) = (number(start), number(end)) {
                found.push((start..end, second.to_owned(), 0));
            }
        }
    }
    found
}

/// What can be accessed of the slot with a base, of all that is mapped.
fn of_slot(all: &[(Range<usize>, String, u32)], base: usize) -> Vec<Mapping> {
    let slot = base - BELOW..base + ABOVE;
    let inside = all.iter().filter(|(range, rights, _)| {
        range.start < slot.end && range.end > slot.start && !rights.starts_with("---")
    });
    inside
        .map(|(range, rights, key)| Mapping {
            range: range.clone(),
            rights: rights.clone(),
            key: *key,
        })
        .collect()
}

/// Slots by the bases of their memories, with their keys.
#[derive(Default)]
struct Slots(HashMap<usize, u32>);

impl Slots {
    /// Everything of all slots that were seen has one key.
    #[track_caller]
    fn check(&self) {
        self.check_all(&mappings());
    }

    #[track_caller]
    fn check_all(&self, all: &[(Range<usize>, String, u32)]) {
        for (&base, &key) in &self.0 {
            for mapping in of_slot(all, base) {
                let Mapping {
                    range,
                    rights,
                    key: found,
                } = mapping;
                assert_eq!(found, key, "{range:x?} {rights} of {base:x}");
            }
        }
    }

    /// The slot of an instance has a key, which it always had, in its context and in so much of its memory.
    #[track_caller]
    fn see(&mut self, instance: &InstanceHandle, len: usize) {
        let base = base(instance);
        let all = mappings();
        let mappings = of_slot(&all, base);
        let last = mappings
            .iter()
            .find(|mapping| mapping.range.end >= base + len && mapping.range.start < base + len);
        let key = last.expect("the memory is mapped").key;
        assert_ne!(key, 0);
        assert_eq!(*self.0.entry(base).or_insert(key), key);
        let read_only = mappings.iter().find(|mapping| mapping.range.end == base);
        let read_only = read_only.expect("the context lies below the memory");
        assert_eq!((read_only.rights.as_str(), read_only.key), ("r--s", key));
        let writable = mappings
            .iter()
            .find(|mapping| mapping.range.end == read_only.range.start);
        let writable = writable.expect("globals lie below that");
        assert_eq!((writable.rights.as_str(), writable.key), ("rw-s", key));
        // The whole of the memory, without a gap, and nothing behind it.
        let mut at = base;
        for mapping in mappings
            .iter()
            .filter(|mapping| mapping.range.start >= base)
        {
            assert_eq!(mapping.range.start, at);
            at = mapping.range.end;
        }
        assert_eq!(at, base + len);
        self.check_all(&all);
    }
}

/// A program with so many pages, and data up to an offset.
fn program(engine: &Engine, linker: &Linker, pages: u32, data_at: Option<u32>) -> Program {
    let data = data_at.map_or(String::new(), |at| {
        format!("(data (i32.const {at}) \"data\")")
    });
    let wat = format!(
        "(module (memory (export \"m\") {pages} 1024) {data} (global (export \"g\") (mut i32) (i32.const 1)) (table 10 funcref)
            (func (export \"grow\") (param i32) (result i32) (memory.grow (local.get 0)))
            (func (export \"fill\") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0))))"
    );
    linker
        .program(&engine.compile(wat.as_bytes()).unwrap())
        .unwrap()
}

/// Has an instance of a program in the one slot of its kind, and all that can become of it.
fn live(region: &Region, program: &Program, slots: &mut Slots) {
    // Always the same one, so that all programs meet in it.
    let first = AllocStrategy::Chosen(std::sync::Arc::new(|_| 0));
    let mut instance = region
        .instance_builder(program)
        .with_alloc_strategy(first)
        .build()
        .unwrap();
    let len = instance.heap().unwrap().len();
    slots.see(&instance, len);
    for pages in [1usize, 30] {
        instance.run("fill", &[Val::I32(len as i32)]).unwrap();
        instance.run("grow", &[Val::I32(pages as i32)]).unwrap();
        slots.see(&instance, len + (pages << 16));
        let grown = Val::I32((len + (pages << 16)) as i32);
        instance.run("fill", &[grown]).unwrap();
        instance.reset().unwrap();
        slots.see(&instance, len);
        assert!(
            instance
                .heap()
                .unwrap()
                .iter()
                .filter(|&&byte| byte == 1)
                .count()
                == 0
        );
    }
    let fork = instance.fork().unwrap();
    slots.see(&fork, len);
    drop(fork);
    slots.check();
    instance.run("grow", &[Val::I32(3)]).unwrap();
    drop(instance);
    slots.check();
}

#[test]
fn every_mapping_of_a_slot_has_its_key_whatever_is_done_with_it() {
    let engine = Engine::new(&Settings::default()).unwrap();
    for (keep_resident_len, find_written_pages) in [
        (2 << 20, true),
        (2 << 20, false),
        (16 << 10, true),
        (0, false),
    ] {
        let change = |options: &mut selvedge::RegionOptions| {
            options.keep_resident_len = keep_resident_len;
            options.find_written_pages = find_written_pages;
        };
        let Some(region) = guests::region(&engine, 3, change) else {
            return;
        };
        let linker = Linker::new(&engine);
        let programs = [
            program(&engine, &linker, 1, None),
            program(&engine, &linker, 40, Some(30 << 16)),
            program(&engine, &linker, 1, Some(4)),
            program(&engine, &linker, 5, None),
            program(&engine, &linker, 5, Some(70_000)),
        ];
        let mut slots = Slots::default();
        for round in 0..2 {
            for program in &programs {
                live(&region, program, &mut slots);
                live(&region, program, &mut slots);
            }
            // The other way round, and of a state.
            let instance = region.new_instance(&programs[round + 1]).unwrap();
            let state = instance.snapshot().unwrap();
            drop(instance);
            live(&region, &state, &mut slots);
            live(&region, &programs[3], &mut slots);
        }
        // A program that is dropped takes its husks away.
        drop(programs);
        slots.check();
        assert!(!slots.0.is_empty());
    }
}

#[test]
fn neighbours_have_different_keys_and_the_hosts_view_has_none() {
    let Some(sandbox) = guests::sandbox(20) else {
        return;
    };
    let program = sandbox.program(GUEST);
    let mut instances: Vec<_> = (0..20)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    instances.sort_by_key(base);
    let mut slots = Slots::default();
    for instance in &instances {
        slots.see(instance, 65_536);
    }
    let keys: Vec<u32> = instances
        .iter()
        .map(|instance| slots.0[&base(instance)])
        .collect();
    let count = sandbox.region.protection_keys() as usize;
    for (at, key) in keys.iter().enumerate() {
        let near = &keys[at + 1..keys.len().min(at + count)];
        assert!(!near.contains(key), "{keys:?}");
        assert!(
            keys.get(at + count).is_none_or(|next| next == key),
            "{keys:?}"
        );
    }
    let contexts = fs::read_to_string("/proc/self/maps").unwrap();
    let alias: Vec<&str> = contexts
        .lines()
        .filter(|line| line.contains("selvedge-contexts") && line.contains("rw-s"))
        .collect();
    assert!(!alias.is_empty());
    let spans = |range: &Range<usize>| range.len() >= 20 * (2 << 20);
    let found = mappings();
    let host = found
        .iter()
        .filter(|(range, rights, _)| rights == "rw-s" && spans(range));
    let host: Vec<u32> = host.map(|&(.., key)| key).collect();
    assert!(
        !host.is_empty() && host.iter().all(|&key| key == 0),
        "{host:?}"
    );
}
