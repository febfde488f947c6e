;; The smallest WASI program: one line on standard output, and a normal return.
;; Not a test of anything but the way from `_start` to `fd_write`.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovs i32) (param $iovs_len i32) (param $nwritten i32)
      (result i32)))

  (memory (export "memory") 1)

  ;; 0: one iovec {pointer, length}; 8: where the count of bytes written goes; 16: the line
  (data (i32.const 0) "\10\00\00\00\15\00\00\00")
  (data (i32.const 16) "hello from a sandbox\n")

  (func (export "_start")
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable)))
)
