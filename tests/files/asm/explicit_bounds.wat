;; Explicit bounds checks: no access relies on a guard. A 32-bit index can't wrap, so its end is compared with the
;; length, by one addition; the comparison comes twice, for the branch and for the address that holds under
;; misprediction, since no value of IR is a pair of flags.

;;! cpu = x86-64-v2
;;! bounds = explicit

(module
    (memory 1)
    (func $load (param i32) (result i32) (i32.load (local.get 0)))
    (func $load_offset (param i32) (result i64) (i64.load offset=8 (local.get 0)))
    (func $store (param i32 i32) (i32.store (local.get 0) (local.get 1)))
    (func $vector (param i32) (result v128) (v128.load (local.get 0)))
    (func $add (param i32 i32) (result i32) (i32.atomic.rmw.add (local.get 0) (local.get 1))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: load
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x18(%rdi), %rax
;;|   movl %esi, %ecx
;;|   leaq 4(%rcx), %rdx
;;|   cmpq %rax, %rdx
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rsi, %rsi
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
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 1: load_offset
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x18(%rdi), %rax
;;|   movl %esi, %ecx
;;|   leaq 0x10(%rcx), %rdx
;;|   cmpq %rax, %rdx
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rsi, %rsi
;;|   leaq 8(%rdi, %rcx), %rcx
;;|   cmpq %rax, %rdx
;;|   cmovaq %rsi, %rcx
;;|   movq (%rcx), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   movl $0x8, %r8d
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 2: store
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x18(%rdi), %rax
;;|   movl %esi, %ecx
;;|   leaq 4(%rcx), %rsi
;;|   cmpq %rax, %rsi
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %r8, %r8
;;|   leaq (%rdi, %rcx), %rcx
;;|   cmpq %rax, %rsi
;;|   cmovaq %r8, %rcx
;;|   movl %edx, (%rcx)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 3: vector
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x18(%rdi), %rax
;;|   movl %esi, %ecx
;;|   leaq 0x10(%rcx), %rdx
;;|   cmpq %rax, %rdx
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rsi, %rsi
;;|   leaq (%rdi, %rcx), %rcx
;;|   cmpq %rax, %rdx
;;|   cmovaq %rsi, %rcx
;;|   movdqu (%rcx), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 4: add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %ecx
;;|   testq $0x3, %rcx
;;|   jnz #trap=user12
;;|   movq -0x18(%rdi), %rax
;;|   leaq 4(%rcx), %rsi
;;|   cmpq %rax, %rsi
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %r8, %r8
;;|   leaq (%rdi, %rcx), %rcx
;;|   cmpq %rax, %rsi
;;|   cmovaq %r8, %rcx
;;|   movq %rdx, %rax
;;|   lock xaddl %eax, (%rcx)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
