;; Accesses that are checked: addresses of 64 bits, and pages of one byte.
;;
;; The index is compared twice, for the branch and for the address that holds under misprediction, since no
;; value of IR is a pair of flags. A 32-bit index can't wrap, so there the end is compared, by one addition.
;; load64_far: an offset beyond the least length needs a second comparison.

;;! cpu = x86-64-v2

(module
    (memory $wide i64 1)
    (memory $bytes 4096 4096 (pagesize 1))
    (func $load64 (param i64) (result i32) (i32.load $wide (local.get 0)))
    (func $load64_far (param i64) (result i32) (i32.load $wide offset=0x10000 (local.get 0)))
    (func $store64 (param i64 i64) (i64.store $wide (local.get 0) (local.get 1)))
    (func $load_byte (param i32) (result i32) (i32.load8_u $bytes (local.get 0)))
    (func $size (result i64) (memory.size $wide)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: load64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x68(%rdi), %rax
;;|   subq $0x4, %rax
;;|   cmpq %rax, %rsi
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rcx, %rcx
;;|   movq %rsi, %rdx
;;|   addq -0x70(%rdi), %rdx
;;|   cmpq %rax, %rsi
;;|   cmovaq %rcx, %rdx
;;|   movl (%rdx), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq %rsi, %rcx
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 1: load64_far
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x68(%rdi), %rcx
;;|   movq %rcx, %rax
;;|   subq $0x10004, %rax
;;|   cmpq %rax, %rsi
;;|   seta %al
;;|   cmpq $0x10004, %rcx
;;|   setb %cl
;;|   orl %ecx, %eax
;;|   testb %al, %al
;;|   jnz     label2; j label1
;;| block1:
;;|   xorq %rcx, %rcx
;;|   leaq 0x10000(%rsi), %rdx
;;|   addq -0x70(%rdi), %rdx
;;|   testb %al, %al
;;|   cmovneq %rcx, %rdx
;;|   movl (%rdx), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq %rsi, %rcx
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   movl $0x10000, %r8d
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 2: store64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x68(%rdi), %rax
;;|   subq $0x8, %rax
;;|   cmpq %rax, %rsi
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rcx, %rcx
;;|   movq %rsi, %r8
;;|   addq -0x70(%rdi), %r8
;;|   cmpq %rax, %rsi
;;|   cmovaq %rcx, %r8
;;|   movq %rdx, (%r8)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq %rsi, %rcx
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   xorl %edx, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 3: load_byte
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x58(%rdi), %rax
;;|   movl %esi, %ecx
;;|   leaq 1(%rcx), %rdx
;;|   cmpq %rax, %rdx
;;|   jnbe    label2; j label1
;;| block1:
;;|   xorq %rsi, %rsi
;;|   addq -0x60(%rdi), %rcx
;;|   cmpq %rax, %rdx
;;|   cmovaq %rsi, %rcx
;;|   movzbq (%rcx), %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x80(%rax), %rdi
;;|   movq 0x80(%rax), %rax
;;|   movl $0x1, %edx
;;|   xorq %r8, %r8
;;|   call    *%rax
;;|   ud2
;;|
;;| ;; function 4: size
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x68(%rdi), %rax
;;|   shrq $0x10, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
