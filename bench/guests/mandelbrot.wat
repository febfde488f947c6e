;; Floating point in registers: run(n) is the number of steps over an n x n picture of the Mandelbrot
;; set, at most 100 a point.
(module
  (func (export "run") (param $n i32) (result i64)
    (local $px i32) (local $py i32) (local $step i32) (local $steps i64)
    (local $cx f64) (local $cy f64) (local $x f64) (local $y f64) (local $xx f64) (local $yy f64)
    (local.set $py (i32.const 0))
    (loop $row
      (local.set $px (i32.const 0))
      (local.set $cy (f64.sub (f64.mul (f64.div (f64.convert_i32_u (local.get $py))
        (f64.convert_i32_u (local.get $n))) (f64.const 2.4)) (f64.const 1.2)))
      (loop $point
        (local.set $cx (f64.sub (f64.mul (f64.div (f64.convert_i32_u (local.get $px))
          (f64.convert_i32_u (local.get $n))) (f64.const 3)) (f64.const 2.2)))
        (local.set $x (f64.const 0))
        (local.set $y (f64.const 0))
        (local.set $step (i32.const 100))
        (block $escaped
          (loop $iterate
            (local.set $xx (f64.mul (local.get $x) (local.get $x)))
            (local.set $yy (f64.mul (local.get $y) (local.get $y)))
            (br_if $escaped (f64.gt (f64.add (local.get $xx) (local.get $yy)) (f64.const 4)))
            (local.set $y (f64.add (local.get $cy)
              (f64.mul (f64.const 2) (f64.mul (local.get $x) (local.get $y)))))
            (local.set $x (f64.add (local.get $cx) (f64.sub (local.get $xx) (local.get $yy))))
            (local.set $step (i32.sub (local.get $step) (i32.const 1)))
            (br_if $iterate (local.get $step))))
        (local.set $steps (i64.add (local.get $steps) (i64.extend_i32_u (local.get $step))))
        (local.set $px (i32.add (local.get $px) (i32.const 1)))
        (br_if $point (i32.lt_u (local.get $px) (local.get $n))))
      (local.set $py (i32.add (local.get $py) (i32.const 1)))
      (br_if $row (i32.lt_u (local.get $py) (local.get $n))))
    (i64.sub (i64.mul (i64.const 100) (i64.mul (i64.extend_i32_u (local.get $n))
      (i64.extend_i32_u (local.get $n)))) (local.get $steps))))
