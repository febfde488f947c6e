;; Loads and stores of scalars from memory 0.
;;
;; load_add: of its three moves one is the extension; the register allocator makes the others, though the
;; index could be extended where it is. far: the guard covers constant offsets up to 2 GiB. too_far: the end
;; of the access is compared with the length, for a branch and again for the address that holds under
;; misprediction, since no value of IR is a pair of flags; toolchains do not emit such offsets.

;;! cpu = x86-64-v2

(module
    (memory 1)
    (func $load_add (param i32 i32) (result i32)
        (i32.add (local.get 0) (i32.load offset=16 (local.get 1))))
    (func $load8_u (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func $load32_s (param i32) (result i64) (i64.load32_s offset=4 (local.get 0)))
    (func $load_const (result i32) (i32.load (i32.const 1024)))
    (func $store_const (param i32) (i32.store offset=8 (local.get 0) (i32.const 7)))
    (func $increment (param i32)
        (i64.store (local.get 0) (i64.add (i64.load (local.get 0)) (i64.const 1))))
    (func $element (param $base i32) (param $i i32) (result i32)
        (i32.load (i32.add (local.get $base) (i32.shl (local.get $i) (i32.const 2)))))
    (func $load_f64 (param i32 f64) (result f64)
        (f64.add (local.get 1) (f64.load (local.get 0))))
    (func $far (param i32) (result i32) (i32.load offset=0x7fffff00 (local.get 0)))
    (func $too_far (param i32) (result i32) (i32.load offset=0xffffff00 (local.get 0))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: load_add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %r8
;;|   movl %edx, %esi
;;|   movq %r8, %rax
;;|   addl 0x10(%rdi, %rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: load8_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movzbq (%rdi, %rsi), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: load32_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movslq 4(%rdi, %rsi), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: load_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl 0x400(%rdi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: store_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movl $0x7, 8(%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: increment
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   addq $0x1, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: element
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   leal (%rsi, %rdx, 4), %esi
;;|   movl (%rdi, %rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: load_f64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   addsd (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: far
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movl 0x7fffff00(%rdi, %rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: too_far
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x18(%rdi), %rax
;;|   movl %esi, %ecx
;;|   movl $0xffffff04, %edx
;;|   leaq (%rcx, %rdx), %rdx
;;|   cmpq %rax, %rdx
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rsi, %rsi
;;|   movl $0xffffff00, %r8d
;;|   leaq (%rcx, %r8), %rcx
;;|   leaq (%rdi, %rcx), %rcx
;;|   cmpq %rax, %rdx
;;|   cmovaq %rsi, %rcx
;;|   movl (%rcx), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   movl $0xffffff00, %r8d
;;|   call    *%rax
;;|   ud2
