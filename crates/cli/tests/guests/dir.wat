;; Writes the name of its first directory and the contents of `note.txt` in it to standard output.
;; Ends with the errno of what fails.
(module
  (import "wasi_snapshot_preview1" "fd_prestat_get"
    (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name"
    (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "note.txt")
  ;; 0: prestat {tag, name length}, 16: iovec, 24: bytes, 28: descriptor, 1024: buffer
  (func $check (param $errno i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $errno)))))
  (func $write (param $len i32)
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (local.get $len))
    (call $check (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
  (func (export "_start") (local $len i32)
    (call $check (call $fd_prestat_get (i32.const 3) (i32.const 0)))
    (local.set $len (i32.load (i32.const 4)))
    (call $check
      (call $fd_prestat_dir_name (i32.const 3) (i32.const 1024) (local.get $len)))
    (i32.store8 (i32.add (i32.const 1024) (local.get $len)) (i32.const 10))
    (call $write (i32.add (local.get $len) (i32.const 1)))
    ;; rights: 2 is fd_read
    (call $check
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 8) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 28)))
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (i32.const 4096))
    (call $check
      (call $fd_read (i32.load (i32.const 28)) (i32.const 16) (i32.const 1) (i32.const 24)))
    (call $write (i32.load (i32.const 24)))))
