//! Several guests at a time: on threads, in one region, each with its own streams.

use std::thread;

use selvedge::OptLevel;

use crate::program::{Guest, text, with_data};

#[test]
fn guests_on_several_threads_keep_their_streams_apart() {
    let guest = Guest::new("c/count.wasm", OptLevel::Speed);
    thread::scope(|scope| {
        for thread in 1..=4 {
            let guest = &guest;
            scope.spawn(move || {
                for round in 0..50 {
                    let words = thread * 100 + round;
                    let ended = guest.run(&[], &"w\n".repeat(words), |_| {});
                    assert_eq!(ended.output(), format!("{words} {words} {} -\n", words * 2));
                }
            });
        }
    });
    assert_eq!(guest.region.used_slots(), 0);
}

#[test]
fn a_slot_serves_one_guest_after_the_other() {
    let count = Guest::new("c/count.wasm", OptLevel::Speed);
    let first = count.run(&["/data/selvedge.txt"], "", with_data).output();
    for _ in 0..100 {
        // What one run left in its static buffers is not there for the next.
        assert_eq!(
            count.run(&["/data/selvedge.txt"], "", with_data).output(),
            first
        );
        let ended = count.run(&[], &text(), |_| {});
        assert_eq!(ended.output(), first.replace("/data/selvedge.txt", "-"));
    }
}
