//! Threads of a test that wait for each other.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets a flag when it is dropped, so that a thread which goes on until then ends also when its test fails.
#[derive(Debug)]
pub struct WhenDone<'a>(pub &'a AtomicBool);

impl Drop for WhenDone<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether the kernel says that a thread of this process, which has not ended, waits for something.
pub fn sleeps(thread: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat"));
    let stat = stat.expect("the thread has not ended");
    // Behind the name of the thread, which may hold anything.
    let (_, state) = stat.rsplit_once(") ").expect("a name stands in it");
    state.starts_with('S')
}
