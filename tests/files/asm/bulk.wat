;; Bulk operations and growth are libcalls: a load of the builtins, one of the code, and the call.

;;! cpu = x86-64-v2

(module
    (memory 1)
    (table 1 funcref)
    (func $fill (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func $grow (param i32) (result i32) (memory.grow (local.get 0)))
    (func $table_get (param i32) (result funcref) (table.get (local.get 0))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: fill
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rcx, %rax
;;|   movq %rdx, %r10
;;|   movq -0x40(%rdi), %r11
;;|   movq %rdi, %r8
;;|   leaq 0x40(%r11), %rdi
;;|   movq 0x40(%r11), %r11
;;|   xorl %edx, %edx
;;|   movl %esi, %ecx
;;|   movl %eax, %r9d
;;|   movq %r8, %rsi
;;|   movq %r10, %r8
;;|   call    *%r11
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: grow
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x40(%rdi), %r9
;;|   movq %rdi, %r10
;;|   movq (%r9), %r8
;;|   xorl %edx, %edx
;;|   movl %esi, %ecx
;;|   movq %r10, %rsi
;;|   movq %r9, %rdi
;;|   call    *%r8
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: table_get
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x40(%rdi), %r9
;;|   movq %rdi, %r11
;;|   leaq 0xe0(%r9), %rdi
;;|   movq 0xe0(%r9), %r9
;;|   xorl %edx, %edx
;;|   movl %esi, %ecx
;;|   movq %r11, %rsi
;;|   call    *%r9
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
