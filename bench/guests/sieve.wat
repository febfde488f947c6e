;; Tight loop over bytes of memory: run(n) is the number of primes below 2^20, found n times.
(module
  (memory 16)
  (func (export "run") (param $n i32) (result i64)
    (local $i i32) (local $k i32) (local $count i64)
    (loop $again
      (memory.fill (i32.const 0) (i32.const 0) (i32.const 0x100000))
      (local.set $i (i32.const 2))
      (loop $candidate
        (if (i32.eqz (i32.load8_u (local.get $i)))
          (then
            (local.set $count (i64.add (local.get $count) (i64.const 1)))
            (local.set $k (i32.shl (local.get $i) (i32.const 1)))
            (block $done
              (loop $multiple
                (br_if $done (i32.ge_u (local.get $k) (i32.const 0x100000)))
                (i32.store8 (local.get $k) (i32.const 1))
                (local.set $k (i32.add (local.get $k) (local.get $i)))
                (br $multiple)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $candidate (i32.lt_u (local.get $i) (i32.const 0x100000))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (local.get $count)))
