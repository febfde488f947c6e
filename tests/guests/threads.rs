//! A guest of threads, made as `wasi-threads` asks: one shared memory, an instance a thread, and WASI calls
//! from all of them at once. The text stands here, since what it does with addresses is the point.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use selvedge::wasi::{self, ReadPipe, WasiCtx, WritePipe};
use selvedge::{Engine, Limits, Linker, Program, Settings, SharedMemory, Vmctx};
use selvedge_tests::sandbox;

use crate::program::with_data;

const GUEST: &str = r#"(module
    (import "env" "memory" (memory 2 2 shared))
    (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read"
        (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get"
        (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get"
        (func $args_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
        (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir"
        (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
    (data (i32.const 64) "thread ")
    (data (i32.const 80) "done\n")
    (data (i32.const 96) "selvedge.txt")

    (func $must_be (param $found i32) (param $wanted i32)
        (if (i32.ne (local.get $found) (local.get $wanted)) (then unreachable)))
    (func $buffer (param $at i32) (param $addr i32) (param $len i32)
        (i32.store (local.get $at) (local.get $addr))
        (i32.store offset=4 (local.get $at) (local.get $len)))

    ;; Fifty lines, and 300 random bytes; thread n has the kilobyte at n * 1024.
    (func (export "wasi_thread_start") (param $tid i32) (param $n i32) (local $base i32) (local $i i32)
        (local.set $base (i32.mul (local.get $n) (i32.const 1024)))
        (call $must_be (local.get $tid) (local.get $n))
        (i32.store16 offset=32 (local.get $base) (i32.add (local.get $n) (i32.const 0x0a30)))
        (call $buffer (local.get $base) (i32.const 64) (i32.const 7))
        (call $buffer (i32.add (local.get $base) (i32.const 8))
            (i32.add (local.get $base) (i32.const 32)) (i32.const 2))
        (loop $again
            (call $must_be (i32.const 0)
                (call $fd_write (i32.const 1) (local.get $base) (i32.const 2)
                    (i32.add (local.get $base) (i32.const 16))))
            (call $must_be (i32.load offset=16 (local.get $base)) (i32.const 9))
            (br_if $again (i32.lt_u
                (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50))))
        (call $must_be (i32.const 0)
            (call $random_get (i32.add (local.get $base) (i32.const 512)) (i32.const 300)))
        (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
        (drop (memory.atomic.notify (i32.const 0) (i32.const 1))))

    ;; Writes so many bytes from 0x10000 on.
    (func $echo (param $len i32)
        (call $buffer (i32.const 40) (i32.const 0x10000) (local.get $len))
        (call $must_be (i32.const 0)
            (call $fd_write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 56))))
    (func (export "_start") (local $i i32)
        (loop $again
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (call $must_be (call $spawn (local.get $i)) (local.get $i))
            (br_if $again (i32.lt_u (local.get $i) (i32.const 3))))
        (block $all (loop $wait
            (br_if $all (i32.eq (local.tee $i (i32.atomic.load (i32.const 0))) (i32.const 3)))
            (drop (memory.atomic.wait32 (i32.const 0) (local.get $i) (i64.const -1)))
            (br $wait)))
        ;; Arguments: the second one.
        (call $must_be (i32.const 0) (call $args_get (i32.const 40) (i32.const 0x10000)))
        (i32.store (i32.const 48) (i32.load (i32.const 44)))
        (i64.store (i32.const 0x10000) (i64.load (i32.load (i32.const 48))))
        (call $echo (i32.const 6))
        ;; What stands on standard input.
        (call $buffer (i32.const 40) (i32.const 0x10000) (i32.const 0x9000))
        (call $must_be (i32.const 0)
            (call $fd_read (i32.const 0) (i32.const 40) (i32.const 1) (i32.const 56)))
        (call $echo (i32.load (i32.const 56)))
        ;; The beginning of a file below the directory that is descriptor 3, and its name.
        (call $must_be (i32.const 0)
            (call $fd_prestat_dir_name (i32.const 3) (i32.const 0x10000) (i32.const 5)))
        (call $echo (i32.const 5))
        (call $must_be (i32.const 0)
            (call $path_open (i32.const 3) (i32.const 0) (i32.const 96) (i32.const 12)
                (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 56)))
        (call $buffer (i32.const 40) (i32.const 0x10000) (i32.const 8))
        (call $must_be (i32.const 0)
            (call $fd_read (i32.load (i32.const 56)) (i32.const 40) (i32.const 1) (i32.const 60)))
        (call $echo (i32.const 8))
        (call $must_be (i32.const 0)
            (call $fd_readdir (i32.const 3) (i32.const 0x10000) (i32.const 100) (i64.const 0) (i32.const 56)))
        (call $must_be (i32.load (i32.const 56)) (i32.const 100))
        ;; Addresses that are not in the memory.
        (call $must_be (i32.const 21)
            (call $fd_write (i32.const 1) (i32.const 0x1fffc) (i32.const 1) (i32.const 56)))
        (call $must_be (i32.const 21) (call $random_get (i32.const 0x1ff00) (i32.const 257)))
        (call $must_be (i32.const 21) (call $args_get (i32.const 40) (i32.const -1)))
        (call $buffer (i32.const 40) (i32.const 80) (i32.const 5))
        (call $must_be (i32.const 0)
            (call $fd_write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 56)))))"#;

#[test]
fn threads_of_a_guest_call_wasi_on_the_memory_they_share() {
    let engine = Engine::new(&Settings::default()).unwrap();
    let region = sandbox::region(&engine, 4, &Limits::default());
    let memory = SharedMemory::new(&engine, 2, 2).unwrap();
    let stdout = WritePipe::new();
    let program: Arc<OnceLock<Program>> = Arc::default();
    let threads: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();

    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker).unwrap();
    linker.shared_memory("env", "memory", &memory).unwrap();
    let (region_of_all, program_of_all, handles, out) = (
        region.clone(),
        Arc::clone(&program),
        Arc::clone(&threads),
        stdout.clone(),
    );
    let last = AtomicI32::new(0);
    let spawn = move |_: &Vmctx<'_>, n: i32| -> i32 {
        let tid = last.fetch_add(1, Ordering::Relaxed) + 1;
        let program = program_of_all.get().unwrap().clone();
        let (region, stdout) = (region_of_all.clone(), out.clone());
        let handle = thread::spawn(move || {
            let ctx = WasiCtx::builder().stdout(stdout).build().unwrap();
            let builder = region.instance_builder(&program).with_embed_ctx(ctx);
            let mut instance = builder.build().unwrap();
            let ended = instance.run("wasi_thread_start", &[tid.into(), n.into()]);
            ended.unwrap();
        });
        handles.lock().unwrap().push(handle);
        tid
    };
    linker.func("wasi", "thread-spawn", spawn).unwrap();
    let module = engine.compile(GUEST.as_bytes()).unwrap();
    program.set(linker.program(&module).unwrap()).unwrap();

    let stdin = "0123456789".repeat(3000);
    let mut builder = WasiCtx::builder();
    builder
        .args(["guest", "second"])
        .stdin(ReadPipe::new(stdin.clone()))
        .stdout(stdout.clone());
    with_data(&mut builder);
    let main = region.instance_builder(program.get().unwrap());
    let mut main = main
        .with_embed_ctx(builder.build().unwrap())
        .build()
        .unwrap();
    main.run("_start", &[]).unwrap();
    for thread in threads.lock().unwrap().drain(..) {
        thread.join().unwrap();
    }

    let text = String::from_utf8(stdout.take()).unwrap();
    let (lines, rest) = text.split_at(3 * 50 * "thread 1\n".len());
    for n in 1..=3 {
        let line = format!("thread {n}");
        assert_eq!(lines.lines().filter(|found| **found == line).count(), 50);
        let mut random = [0; 300];
        memory.read(n * 1024 + 512, &mut random).unwrap();
        assert_ne!(random, [0; 300], "would take 2^2400 tries");
    }
    let file = crate::program::text();
    assert_eq!(rest, format!("second{stdin}/data{}done\n", &file[..8]));
}
