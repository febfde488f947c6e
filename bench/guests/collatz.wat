;; Tight loop without memory: run(n) is the sum of the lengths of the Collatz sequences from 1 to n.
(module
  (func (export "run") (param $n i32) (result i64)
    (local $from i64) (local $x i64) (local $steps i64)
    (local.set $from (i64.extend_i32_u (local.get $n)))
    (loop $next
      (local.set $x (local.get $from))
      (loop $step
        (if (i64.gt_u (local.get $x) (i64.const 1))
          (then
            (local.set $steps (i64.add (local.get $steps) (i64.const 1)))
            (local.set $x
              (if (result i64) (i64.eqz (i64.and (local.get $x) (i64.const 1)))
                (then (i64.shr_u (local.get $x) (i64.const 1)))
                (else (i64.add (i64.mul (local.get $x) (i64.const 3)) (i64.const 1)))))
            (br $step))))
      (local.set $from (i64.sub (local.get $from) (i64.const 1)))
      (br_if $next (i64.gt_u (local.get $from) (i64.const 0))))
    (local.get $steps)))
