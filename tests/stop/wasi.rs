//! Ending guests that wait: in WASI, and in instructions that do.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails where it meets the unexpected"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use selvedge::wasi::{self, WasiCtx};
use selvedge::{
    InstanceHandle, KillSuccess, Limits, RunResult, RuntimeError, TerminationDetails, TrapCode,
    Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, fault};
use selvedge_tests::threads::sleeps;

/// Guests that wait for what never comes, and begin again if they return.
const WASI: &str = r#"(module
    (import "h" "here" (func $here))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory 2)
    (data (i32.const 400) "alone") (data (i32.const 410) "quiet")
    (func $open_pipe (param $name i32) (param $rights i64) (result i32)
        (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 5) (i32.const 0)
            (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 300)))
    (func (export "open_to_read")
        (call $here)
        (loop $l (drop (call $open_pipe (i32.const 400) (i64.const 2))) (br $l)))
    (func (export "open_to_write")
        (call $here)
        (loop $l (drop (call $open_pipe (i32.const 400) (i64.const 64))) (br $l)))
    (func (export "read_from_pipe")
        (if (call $open_pipe (i32.const 410) (i64.const 2)) (then unreachable))
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 8))
        (call $here)
        (loop $l
            (if (call $read (i32.load (i32.const 300)) (i32.const 0) (i32.const 1) (i32.const 200))
                (then unreachable))
            (br $l)))
    (func (export "sleep")
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const -1))
        (call $here)
        (loop $l (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))) (br $l)))
    (func (export "poll")
        (i32.store8 (i32.const 8) (i32.const 1))
        (call $here)
        (loop $l (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))) (br $l)))
    (func (export "read")
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 8))
        (call $here)
        (loop $l (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 200))) (br $l)))
    (func (export "write")
        (i32.store (i32.const 0) (i32.const 100))
        (i32.store (i32.const 4) (i32.const 70000))
        (call $here)
        (loop $l (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 200))) (br $l)))
)"#;

/// What they wait for, each in another call.
const WAITING: [&str; 7] = [
    "sleep",
    "poll",
    "read",
    "write",
    "open_to_read",
    "open_to_write",
    "read_from_pipe",
];

/// The same by an instruction.
const ATOMIC: &str = r#"(module
    (import "h" "here" (func $here))
    (memory 1 1 shared)
    (func (export "wait")
        (call $here)
        (loop $l (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))) (br $l)))
)"#;

/// When a guest is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// In a host function that it calls just before it waits.
    Before,
    /// At any time from then on.
    About,
    /// When its thread sleeps.
    While,
}

/// Guests, and what tells of them.
struct Waiting {
    instance: InstanceHandle,
    /// The thread of the guest, once it has called the host function.
    here: Arc<AtomicI32>,
    /// Whether the host function is to end the guest.
    ends: Arc<AtomicBool>,
    _other_ends: (PipeWriter, PipeReader, File, tempfile::TempDir),
}

/// Makes a pipe with a name.
fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

impl Waiting {
    fn new(wat: &str) -> Waiting {
        let here = Arc::new(AtomicI32::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let (publish, end) = (here.clone(), ends.clone());
        let mut sandbox = Sandbox::with(1, &Limits::default());
        wasi::add_to_linker(&mut sandbox.linker).unwrap();
        sandbox
            .linker
            .func("h", "here", move |vmctx: &Vmctx<'_>| {
                if end.load(Ordering::Acquire) {
                    let switch = vmctx.kill_switch();
                    let killed = thread::spawn(move || switch.terminate()).join().unwrap();
                    assert_eq!(killed, Ok(KillSuccess::Pending));
                    assert!(vmctx.interrupted());
                }
                let thread = rustix::thread::gettid().as_raw_nonzero().get();
                publish.store(thread, Ordering::Release);
            })
            .unwrap();
        let (stdin, writer) = std::io::pipe().unwrap();
        let (reader, stdout) = std::io::pipe().unwrap();
        let file = |fd: OwnedFd| File::from(fd);
        let mut ctx = WasiCtx::builder();
        ctx.stdin(file(stdin.into())).stdout(file(stdout.into()));
        // A pipe whose other end nobody opens, and one in which nobody writes.
        let dir = tempfile::tempdir().unwrap();
        make_pipe(&dir.path().join("alone"));
        make_pipe(&dir.path().join("quiet"));
        let mut options = File::options();
        let quiet = options.read(true).write(true);
        let quiet = quiet.open(dir.path().join("quiet")).unwrap();
        ctx.preopened_dir(dir.path(), "/").unwrap();
        let program = sandbox.program(wat);
        let builder = sandbox.region.instance_builder(&program);
        let instance = builder
            .with_embed_ctx(ctx.build().unwrap())
            .build()
            .unwrap();
        Waiting {
            instance,
            here,
            ends,
            _other_ends: (writer, reader, quiet, dir),
        }
    }

    /// Runs a guest and ends it from another thread.
    fn end(&mut self, name: &str, when: When) -> Option<KillSuccess> {
        self.here.store(0, Ordering::Release);
        self.ends.store(when == When::Before, Ordering::Release);
        let killer = (when != When::Before).then(|| {
            let (switch, here) = (self.instance.kill_switch(), self.here.clone());
            thread::spawn(move || {
                let thread = loop {
                    match here.load(Ordering::Acquire) {
                        0 => thread::yield_now(),
                        thread => break thread,
                    }
                };
                while when == When::While && !sleeps(thread) {
                    thread::yield_now();
                }
                switch.terminate().expect("the guest is in its run")
            })
        });
        is_ended(self.instance.run(name, &[]));
        assert_ne!(self.here.load(Ordering::Acquire), 0);
        self.instance.reset().unwrap();
        killer.map(|killer| killer.join().unwrap())
    }
}

impl Waiting {
    /// Runs a guest whose epoch deadline is reached while it waits.
    fn expire(&mut self, name: &str) {
        self.here.store(0, Ordering::Release);
        self.ends.store(false, Ordering::Release);
        self.instance.set_epoch_deadline(1).unwrap();
        let (engine, here) = (self.instance.region().engine().clone(), self.here.clone());
        let ticker = thread::spawn(move || {
            let thread = loop {
                match here.load(Ordering::Acquire) {
                    0 => thread::yield_now(),
                    thread => break thread,
                }
            };
            while !sleeps(thread) {
                thread::yield_now();
            }
            engine.increment_epoch();
        });
        let fault = fault(self.instance.run(name, &[]));
        assert_eq!(fault.code, TrapCode::EpochDeadline, "{name}");
        ticker.join().unwrap();
        self.instance.clear_epoch_deadline();
        self.instance.reset().unwrap();
    }
}

#[test]
fn a_guest_that_waits_traps_at_its_epoch_deadline() {
    let mut waiting = Waiting::new(WASI);
    for name in WAITING {
        for _ in 0..20 {
            waiting.expire(name);
        }
    }
    let mut waiting = Waiting::new(ATOMIC);
    for _ in 0..20 {
        waiting.expire("wait");
    }
}

#[track_caller]
fn is_ended(result: Result<RunResult, RuntimeError>) {
    assert!(
        matches!(
            result,
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::Remote))
        ),
        "{result:?}"
    );
}

/// Ends a guest often, at each time; how often it was in a host function.
fn hammer(waiting: &mut Waiting, name: &str) -> BTreeMap<&'static str, u32> {
    let mut pending = BTreeMap::new();
    for _ in 0..100 {
        for (when, key) in [
            (When::Before, "before"),
            (When::About, "about"),
            (When::While, "while"),
        ] {
            let killed = waiting.end(name, when);
            let count = pending.entry(key).or_default();
            *count += u32::from(killed == Some(KillSuccess::Pending));
        }
    }
    pending
}

#[test]
fn a_guest_that_waits_in_wasi_is_ended_at_once() {
    let mut waiting = Waiting::new(WASI);
    for name in WAITING {
        let pending = hammer(&mut waiting, name);
        assert!(pending["while"] > 0, "{name}: {pending:?}");
    }
}

#[test]
fn a_guest_that_waits_for_a_notification_is_ended_at_once() {
    let mut waiting = Waiting::new(ATOMIC);
    hammer(&mut waiting, "wait");
}

#[test]
fn a_guest_that_was_ended_before_it_began_does_not_wait() {
    let mut waiting = Waiting::new(WASI);
    for name in WAITING {
        let switch = waiting.instance.kill_switch();
        assert_eq!(switch.terminate(), Ok(KillSuccess::Cancelled));
        is_ended(waiting.instance.run(name, &[]));
        assert_eq!(waiting.here.load(Ordering::Acquire), 0);
        waiting.instance.reset().unwrap();
    }
}
