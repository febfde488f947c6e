;; Latency of memory: run(n) follows n links of one random cycle through 256 KiB, and sums where it
;; came. Each load needs the one before it, so it is the time of a load from the second-level cache
;; plus the address computation. More memory would measure the neighbours' use of the caches beyond.
(module
  (memory 4)
  (global $ready (mut i32) (i32.const 0))

  ;; Sattolo's shuffle of 2^16 words makes a permutation of a single cycle.
  (func $prepare
    (local $i i32) (local $j i32) (local $t i32) (local $seed i32)
    (local.set $seed (i32.const 0x2545f491))
    (loop $fill
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $i))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $i) (i32.const 0x10000))))
    (local.set $i (i32.const 0xffff))
    (loop $swap
      (local.set $seed (i32.xor (local.get $seed) (i32.shl (local.get $seed) (i32.const 13))))
      (local.set $seed (i32.xor (local.get $seed) (i32.shr_u (local.get $seed) (i32.const 17))))
      (local.set $seed (i32.xor (local.get $seed) (i32.shl (local.get $seed) (i32.const 5))))
      (local.set $j (i32.shl (i32.rem_u (local.get $seed) (local.get $i)) (i32.const 2)))
      (local.set $t (i32.load (local.get $j)))
      (i32.store (local.get $j) (i32.load (i32.shl (local.get $i) (i32.const 2))))
      (i32.store (i32.shl (local.get $i) (i32.const 2)) (local.get $t))
      (local.set $i (i32.sub (local.get $i) (i32.const 1)))
      (br_if $swap (local.get $i)))
    (global.set $ready (i32.const 1)))

  (func (export "run") (param $n i32) (result i64)
    (local $at i32) (local $sum i64)
    (if (i32.eqz (global.get $ready)) (then (call $prepare)))
    (loop $link
      (local.set $at (i32.load (i32.shl (local.get $at) (i32.const 2))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_u (local.get $at))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $link (local.get $n)))
    (local.get $sum)))
