;; Its start section runs at instantiation, before `_start`.
(module
  (global $started (mut i32) (i32.const 0))
  (func $begin (global.set $started (i32.const 1)))
  (start $begin)
  (func (export "started") (result i32) (global.get $started)))
