;; Loads, multiplications and additions of f64: run(n) multiplies two 96 x 96 matrices n times, each
;; product being a factor of the next, and returns the bits of one element.
(module
  (memory 4)
  (global $side i32 (i32.const 96))
  ;; A at 0, B at 0x12000, C at 0x24000; 0x12000 bytes each.

  (func $prepare
    (local $i i32)
    (loop $fill
      (f64.store (i32.shl (local.get $i) (i32.const 3))
        (f64.div (f64.convert_i32_u (i32.add (i32.const 1) (i32.rem_u (local.get $i) (i32.const 7))))
                 (f64.const 390)))
      (f64.store offset=0x12000 (i32.shl (local.get $i) (i32.const 3))
        (f64.div (f64.convert_i32_u (i32.add (i32.const 1) (i32.rem_u (local.get $i) (i32.const 11))))
                 (f64.const 580)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $i) (i32.const 9216)))))

  (func (export "run") (param $n i32) (result i64)
    (local $i i32) (local $j i32) (local $k i32) (local $a i32) (local $b i32) (local $sum f64)
    (call $prepare)
    (loop $again
      (local.set $i (i32.const 0))
      (loop $row
        (local.set $j (i32.const 0))
        (loop $column
          (local.set $sum (f64.const 0))
          (local.set $k (i32.const 0))
          (local.set $a (i32.shl (i32.mul (local.get $i) (global.get $side)) (i32.const 3)))
          (local.set $b (i32.shl (local.get $j) (i32.const 3)))
          (loop $inner
            (local.set $sum
              (f64.add (local.get $sum)
                (f64.mul (f64.load (local.get $a)) (f64.load offset=0x12000 (local.get $b)))))
            (local.set $a (i32.add (local.get $a) (i32.const 8)))
            (local.set $b (i32.add (local.get $b) (i32.const 768)))
            (local.set $k (i32.add (local.get $k) (i32.const 1)))
            (br_if $inner (i32.lt_u (local.get $k) (global.get $side))))
          (f64.store offset=0x24000
            (i32.shl (i32.add (i32.mul (local.get $i) (global.get $side)) (local.get $j)) (i32.const 3))
            (local.get $sum))
          (local.set $j (i32.add (local.get $j) (i32.const 1)))
          (br_if $column (i32.lt_u (local.get $j) (global.get $side))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $row (i32.lt_u (local.get $i) (global.get $side))))
      (memory.copy (i32.const 0) (i32.const 0x24000) (i32.const 0x12000))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (i64.load offset=0x24000 (i32.const 4328))))
