;; The guard behind a memory is what finds an access beyond its end.

;;! cpu = host x86-64-v2
;;! invoke = run i32:65533

(module $m
    (memory 1)
    (func $load (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "run") (param i32) (result i32) (call $load (local.get 0))))

;;| guest trapped: out of bounds memory access: address 0x10000 of memory 0, which has 0x10000 bytes
;;| wasm backtrace:
;;|     0:     0x2a - m!load
;;|     1:     0x32 - m!run
