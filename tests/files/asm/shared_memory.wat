;; A shared memory stands outside the slot, so its base is loaded; it never changes.

;;! cpu = x86-64-v2

(module
    (memory 1 2 shared)
    (func $load (param $a i32) (result i32)
        (i32.load (local.get $a)))
    (func $add (param $a i32) (param $v i64) (result i64)
        (i64.atomic.rmw.add (local.get $a) (local.get $v)))
    (func $lock (param $a i32) (result i32)
        (i32.atomic.rmw.cmpxchg (local.get $a) (i32.const 0) (i32.const 1)))
    (func $size (result i32)
        (memory.size)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: load
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %r8
;;|   movq -0x60(%rdi), %rsi
;;|   movq %r8, %rdi
;;|   movl %edi, %edi
;;|   movl (%rsi, %rdi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x7, %rsi
;;|   jnz #trap=user12
;;|   movq -0x60(%rdi), %r8
;;|   movq %rdx, %rax
;;|   lock xaddq %rax, (%r8, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: lock
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %r8d
;;|   testq $0x3, %r8
;;|   jnz #trap=user12
;;|   movq -0x60(%rdi), %r10
;;|   xorl %eax, %eax
;;|   movl $0x1, %r11d
;;|   lock cmpxchgl %r11d, (%r10, %r8) ;; implicit: %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: size
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x58(%rdi), %rsi
;;|   movq 8(%rsi), %rax
;;|   shrq $0x10, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
