;; The last four bytes of a memory are inside.

;;! cpu = host x86-64-v2
;;! invoke = run i32:65532

(module $m
    (memory 1)
    (func (export "run") (param i32) (result i32) (i32.load (local.get 0))))

;;| returned [I32(0)]
