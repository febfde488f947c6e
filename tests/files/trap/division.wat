;; The quotient that an i32 can't hold.

;;! invoke = run i32:-2147483648 i32:-1

(module
    (func (export "run") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1))))

;;| guest trapped: integer overflow
;;| wasm backtrace:
;;|     0:     0x27 - <module>!run
