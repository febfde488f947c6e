;; Indirect calls: run(n) makes n method calls on objects of eight classes that lie in memory in a
;; mixed order. Each call loads the object's class, and its method from the table, as C++ does.
(module
  (type $method (func (param $self i32) (param $x i64) (result i64)))
  (memory 1)
  (table 16 funcref)
  (elem (i32.const 3) $add $xor $rotate $multiply $subtract $shift $field $count)

  (func $add (param $self i32) (param $x i64) (result i64)
    (i64.add (local.get $x) (i64.extend_i32_u (local.get $self))))
  (func $xor (param $self i32) (param $x i64) (result i64)
    (i64.xor (local.get $x) (i64.const 0x5bd1e9955bd1e995)))
  (func $rotate (param $self i32) (param $x i64) (result i64)
    (i64.rotl (local.get $x) (i64.const 13)))
  (func $multiply (param $self i32) (param $x i64) (result i64)
    (i64.mul (local.get $x) (i64.const 0x9e3779b97f4a7c15)))
  (func $subtract (param $self i32) (param $x i64) (result i64)
    (i64.sub (local.get $x) (i64.const 0x1234567)))
  (func $shift (param $self i32) (param $x i64) (result i64)
    (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 29))))
  (func $field (param $self i32) (param $x i64) (result i64)
    (i64.add (local.get $x) (i64.load offset=8 (local.get $self))))
  (func $count (param $self i32) (param $x i64) (result i64)
    (i64.store offset=8 (local.get $self)
      (i64.add (i64.load offset=8 (local.get $self)) (i64.const 1)))
    (local.get $x))

  ;; 1024 objects of 16 bytes: the class at 0, a field at 8.
  (func $prepare
    (local $i i32) (local $seed i32)
    (local.set $seed (i32.const 0x2545f491))
    (loop $fill
      (local.set $seed (i32.xor (local.get $seed) (i32.shl (local.get $seed) (i32.const 13))))
      (local.set $seed (i32.xor (local.get $seed) (i32.shr_u (local.get $seed) (i32.const 17))))
      (local.set $seed (i32.xor (local.get $seed) (i32.shl (local.get $seed) (i32.const 5))))
      (i32.store (i32.shl (local.get $i) (i32.const 4))
        (i32.add (i32.const 3) (i32.shr_u (local.get $seed) (i32.const 29))))
      (i64.store offset=8 (i32.shl (local.get $i) (i32.const 4)) (i64.const 0))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $i) (i32.const 1024)))))

  (func (export "run") (param $n i32) (result i64)
    (local $self i32) (local $x i64)
    (call $prepare)
    (loop $call
      (local.set $self (i32.shl (i32.and (local.get $n) (i32.const 1023)) (i32.const 4)))
      (local.set $x
        (call_indirect (type $method)
          (local.get $self) (local.get $x) (i32.load (local.get $self))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $call (local.get $n)))
    (local.get $x)))
