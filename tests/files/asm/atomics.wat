;; Atomics, of an own memory and of a shared one.
;;
;; An access must lie at a multiple of its length, which is tested before anything else; a constant offset is
;; part of the address. A load is a plain one, as the processor orders loads; a store is an exchange, which needs
;; no fence. load8: the code generator widens a byte twice. count: it adds no constants to memory under a lock.

;;! cpu = x86-64-v2

(module
    (memory 1)
    (func $load32 (param $a i32) (result i32)
        (i32.atomic.load (local.get $a)))
    (func $load64_offset (param $a i32) (result i64)
        (i64.atomic.load offset=16 (local.get $a)))
    (func $load64_odd_offset (param $a i32) (result i64)
        (i64.atomic.load offset=12 (local.get $a)))
    (func $load8 (param $a i32) (result i32)
        (i32.atomic.load8_u offset=5 (local.get $a)))
    (func $store32 (param $a i32) (param $v i32)
        (i32.atomic.store (local.get $a) (local.get $v)))
    (func $store64 (param $a i32) (param $v i64)
        (i64.atomic.store (local.get $a) (local.get $v)))
    (func $add32 (param $a i32) (param $v i32) (result i32)
        (i32.atomic.rmw.add (local.get $a) (local.get $v)))
    (func $add64 (param $a i32) (param $v i64) (result i64)
        (i64.atomic.rmw.add (local.get $a) (local.get $v)))
    (func $count (param $a i32)
        (drop (i32.atomic.rmw.add (local.get $a) (i32.const 1))))
    (func $exchange (param $a i32) (param $v i32) (result i32)
        (i32.atomic.rmw.xchg (local.get $a) (local.get $v)))
    (func $cmpxchg32 (param $a i32) (param $old i32) (param $new i32) (result i32)
        (i32.atomic.rmw.cmpxchg (local.get $a) (local.get $old) (local.get $new)))
    (func $cmpxchg64 (param $a i32) (param $old i64) (param $new i64) (result i64)
        (i64.atomic.rmw.cmpxchg (local.get $a) (local.get $old) (local.get $new)))
    (func $fence
        (atomic.fence)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: load32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   movl (%rdi, %rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: load64_offset
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x7, %rsi
;;|   jnz #trap=user12
;;|   movq 0x10(%rdi, %rsi), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: load64_odd_offset
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   leaq 4(%rsi), %r8
;;|   testq $0x7, %r8
;;|   jnz #trap=user12
;;|   movq 0xc(%rdi, %rsi), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: load8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movzbq 5(%rdi, %rsi), %rsi
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: store32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   xchgl %edx, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: store64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x7, %rsi
;;|   jnz #trap=user12
;;|   xchgq %rdx, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: add32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   movq %rdx, %rax
;;|   lock xaddl %eax, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: add64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x7, %rsi
;;|   jnz #trap=user12
;;|   movq %rdx, %rax
;;|   lock xaddq %rax, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: count
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   movl $0x1, %r8d
;;|   lock addl %r8d, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: exchange
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   movq %rdx, %rax
;;|   xchgl %eax, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: cmpxchg32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x3, %rsi
;;|   jnz #trap=user12
;;|   movq %rdx, %rax
;;|   lock cmpxchgl %ecx, (%rdi, %rsi) ;; implicit: %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: cmpxchg64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   testq $0x7, %rsi
;;|   jnz #trap=user12
;;|   movq %rdx, %rax
;;|   lock cmpxchgq %rcx, (%rdi, %rsi) ;; implicit: %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: fence
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   mfence
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
