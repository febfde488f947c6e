;; Memory bandwidth: run(n) copies 256 KiB n times, half of the times by a loop of 8-byte loads and
;; stores and half by memory.copy, changes a word between, and sums words at the end.
(module
  (memory 8)
  (func (export "run") (param $n i32) (result i64)
    (local $i i32) (local $sum i64)
    (local.set $i (i32.const 0))
    (loop $fill
      (i64.store (local.get $i)
        (i64.mul (i64.extend_i32_u (local.get $i)) (i64.const 0x9e3779b97f4a7c15)))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $fill (i32.lt_u (local.get $i) (i32.const 0x40000))))
    (loop $again
      (if (i32.and (local.get $n) (i32.const 1))
        (then
          (local.set $i (i32.const 0))
          (loop $word
            (i64.store offset=0x40000 (local.get $i) (i64.load (local.get $i)))
            (i64.store offset=0x40008 (local.get $i) (i64.load offset=8 (local.get $i)))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (br_if $word (i32.lt_u (local.get $i) (i32.const 0x40000)))))
        (else
          (memory.copy (i32.const 0) (i32.const 0x40000) (i32.const 0x40000))))
      (i64.store (i32.shl (i32.and (local.get $n) (i32.const 0x7fff)) (i32.const 3))
        (i64.extend_i32_u (local.get $n)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.set $i (i32.const 0))
    (loop $add
      (local.set $sum (i64.add (i64.rotl (local.get $sum) (i64.const 1)) (i64.load (local.get $i))))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $add (i32.lt_u (local.get $i) (i32.const 0x80000))))
    (local.get $sum)))
