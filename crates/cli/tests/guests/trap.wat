;; Divides by zero three calls deep; the middle one bears a name as Rust mangles it.
(module
  (func $divide (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func $_ZN5guest6middle17h0123456789abcdefE (result i32)
    (call $divide (i32.const 1) (i32.const 0)))
  (func $outer (export "_start") (drop (call $_ZN5guest6middle17h0123456789abcdefE))))
