;; Vectors of bytes and of floats: run(n) blurs 64 KiB n times, each byte with its right neighbour, and sums
;; up four floats a step meanwhile.
(module
  (memory 2)
  (func (export "run") (param $n i32) (result i64)
    (local $at i32) (local $sum v128) (local $bytes v128)
    ;; A pattern to begin with.
    (loop $fill
      (i32.store8 (local.get $at) (i32.mul (local.get $at) (i32.const 37)))
      (br_if $fill (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 65552))))
    (loop $pass
      (local.set $at (i32.const 0))
      (loop $step
        (local.set $bytes
          (i8x16.avgr_u (v128.load (local.get $at)) (v128.load offset=1 (local.get $at))))
        (v128.store (local.get $at) (i8x16.add (local.get $bytes) (i8x16.splat (local.get $n))))
        (local.set $sum (f32x4.add (f32x4.mul (local.get $sum) (v128.const f32x4 0.5 0.25 0.5 0.25))
          (f32x4.convert_i32x4_u (i32x4.extend_low_i16x8_u (i16x8.extend_low_i8x16_u (local.get $bytes))))))
        (br_if $step (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (i32.const 65536))))
      (br_if $pass (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (i64.xor
      (i64.trunc_sat_f32_u (f32x4.extract_lane 1 (local.get $sum)))
      (i64x2.extract_lane 0 (v128.load offset=4096 (i32.const 0))))))
