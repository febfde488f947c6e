//! The table of a child whose parent's was being changed at the fork.

use std::sync::Arc;

use super::*;
use crate::vm::limits::LimitsCell;

#[derive(Clone)]
struct Alone(Arc<LimitsCell>);

impl Guest for Alone {
    fn words(&self) -> Words<'_> {
        self.0.words()
    }
    fn wake(&self) {}
}

fn set(epochs: &Epochs<Alone>, guest: &Alone, number: usize, former: u64, deadline: u64) {
    let key = (former, number);
    epochs.set(key, deadline, Wish::Trap, guest.words(), || guest.clone());
}

#[test]
fn whichever_line_is_locked_the_child_has_all_guests() {
    let epochs = Epochs::new();
    let guest = Alone(Arc::new(LimitsCell::new()));
    for number in 1..=5 {
        set(&epochs, &guest, number, NEVER, number as u64);
    }
    let parents = epochs.table();
    let keys = |table: &Table<Alone>| {
        let keys = table.lines.each_ref().map(|line| {
            let line = lock(line);
            line.keys().copied().collect::<Vec<_>>()
        });
        assert_eq!(keys[0], keys[1]);
        keys[0].clone()
    };
    let expected: Vec<_> = (1..=5).map(|number| (number as u64, number)).collect();
    let _turn = lock(&parents.turn);
    assert_eq!(keys(&Table::of_child(parents)), expected);
    for line in &parents.lines {
        let _changes = lock(line);
        assert_eq!(keys(&Table::of_child(parents)), expected);
    }
}

#[test]
fn a_guest_that_is_in_one_line_yet_has_its_bit() {
    // As a child finds it that was forked while guests left the lines.
    let epochs = Epochs::new();
    let guest = Alone(Arc::new(LimitsCell::new()));
    set(&epochs, &guest, 1, NEVER, 1);
    let child = Epochs::<Alone> {
        now: AtomicU64::new(0),
        next: AtomicU64::new(1),
        table: OfProcess::new(Table::of_child(epochs.table())),
    };
    assert_eq!(epochs.increment(|| (), |_| ()), 1);
    assert!(guest.words().is_to_end());
    assert_eq!((epochs.waiting(), child.waiting()), (0, 1));
    // It is reached once more there, which changes nothing, and its next deadline is as good as any.
    assert_eq!(child.increment(|| (), |_| ()), 1);
    assert!(guest.words().is_to_end());
    set(&child, &guest, 1, 1, 3);
    assert!(!guest.words().is_to_end());
    child.increment(|| (), |_| ());
    assert!(!guest.words().is_to_end());
    child.increment(|| (), |_| ());
    assert!(guest.words().is_to_end());
    assert_eq!(child.waiting(), 0);
}

#[test]
fn guests_that_leave_are_held_by_nobody() {
    let epochs = Epochs::new();
    let guest = Alone(Arc::new(LimitsCell::new()));
    set(&epochs, &guest, 1, NEVER, 5);
    set(&epochs, &guest, 1, 5, 7);
    assert_eq!(Arc::strong_count(&guest.0), 3);
    set(&epochs, &guest, 1, 7, NEVER);
    assert_eq!(Arc::strong_count(&guest.0), 1);
    // One that is over is reached at once.
    set(&epochs, &guest, 1, NEVER, 0);
    assert!(guest.words().is_to_end());
    assert_eq!((Arc::strong_count(&guest.0), epochs.waiting()), (1, 0));
}
