;; A call to a function of another type says both types.

;;! invoke = run i32:1

(module $m
    (type $unary (func (param i32) (result i32)))
    (table 3 3 funcref)
    (elem (i32.const 0) $one $two)
    (func $one (param i32) (result i32) (local.get 0))
    (func $two (param i64) (result i64) (local.get 0))
    (func (export "run") (param i32) (result i32)
        (call_indirect (type $unary) (i32.const 7) (local.get 0))))

;;| guest trapped: indirect call type mismatch: expected (i32) -> (i32), found (i64) -> (i64) in element 1 of table 0
;;| wasm backtrace:
;;|     0:     0x48 - m!run
