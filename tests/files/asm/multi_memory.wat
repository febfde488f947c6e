;; A second memory, and an imported one, are found through the context.

;;! cpu = x86-64-v2

(module
    (import "" "" (memory $imported 1))
    (memory $own 1)
    (func $copy (param i32)
        (i32.store $own (local.get 0) (i32.load $imported (local.get 0))))
    (func $size (result i32) (memory.size $own)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: copy
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x68(%rdi), %r8
;;|   movq (%r8), %r9
;;|   movl %esi, %r8d
;;|   movl (%r9, %r8), %r9d
;;|   movq -0x60(%rdi), %rdi
;;|   movl %r9d, (%rdi, %r8)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: size
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x58(%rdi), %rax
;;|   shrq $0x10, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
