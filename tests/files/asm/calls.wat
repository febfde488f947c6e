;; Calls: within the module, to an import, through a table that is read in the context, and tail calls.
;;
;; indirect: callee-saved registers are stored for the cold path, whose libcall must leave the arguments
;; alone; a function that calls twice has stored them anyway. The comparison of the index is a conditional
;; move to an element that has no type, so there is one branch. An import is two loads: the callee's record,
;; and its code.

;;! cpu = x86-64-v2
;;! funcs = direct import indirect tail tail_import tail_indirect many_results table_size

(module
    (type $unary (func (param i32) (result i32)))
    (import "" "f" (func $f (param i32) (result i32)))
    (table $t 10 10 funcref)
    (table $growing 10 funcref)
    (func $leaf (param i32) (result i32) (local.get 0))
    (func $direct (param i32) (result i32) (i32.add (call $leaf (local.get 0)) (i32.const 1)))
    (func $import (param i32) (result i32) (call $f (local.get 0)))
    (func $indirect (param i32 i32) (result i32)
        (call_indirect $t (type $unary) (local.get 0) (local.get 1)))
    (func $tail (param i32) (result i32) (return_call $leaf (local.get 0)))
    (func $tail_import (param i32) (result i32) (return_call $f (local.get 0)))
    (func $tail_indirect (param i32 i32) (result i32)
        (return_call_indirect $growing (type $unary) (local.get 0) (local.get 1)))
    (func $many_results (param i32) (result i32 i32) (local.get 0) (local.get 0))
    (func $table_size (result i32) (table.size $growing)))

;;| ==== x86-64-v2 ====
;;| ;; function 2: direct
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   call    User(userextname0)
;;|   leal 1(%rax), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: import
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rdi, %r9
;;|   movq -0x48(%rdi), %rdi
;;|   movq (%rdi), %r8
;;|   movq %rsi, %rdx
;;|   movq %r9, %rsi
;;|   call    *%r8
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: indirect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x10, %rsp
;;|   movq %rbx, (%rsp)
;;|   movq %r12, 8(%rsp)
;;| block0:
;;|   movq %rsi, %rbx
;;|   movl %edx, %ecx
;;|   movl $0x17, %eax
;;|   cmpq $0xa, %rcx
;;|   cmovbq %rcx, %rax
;;|   movq -0xc0(%rdi, %rax, 8), %r11
;;|   cmpl $0x2, %r11d
;;|   jz      label2; j label1
;;| block2:
;;|   movq %rdi, %r12
;;|   load_ext_name userextname0+0, %rax
;;|   shrq $0x20, %r11
;;|   leaq (%rax, %r11), %rax
;;|   movq %rbx, %rsi
;;|   call    *%rax
;;|   jmp     label3
;;| block3:
;;|   movq (%rsp), %rbx
;;|   movq 8(%rsp), %r12
;;|   addq $0x10, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block1:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %r12
;;|   leaq 0x1e0(%rax), %rdi
;;|   movq 0x1e0(%rax), %rax
;;|   xorq %rdx, %rdx
;;|   movq %r12, %rsi
;;|   call    *%rax
;;|   movq (%rax), %rcx
;;|   movq %rbx, %rdx
;;|   movq %r12, %rsi
;;|   movq %rax, %rdi
;;|   call    *%rcx
;;|   jmp     label3
;;|
;;| ;; function 5: tail
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   return_call_known User(userextname0) (0) tmp=%r11 %rdi=%rdi %rsi=%rsi
;;|
;;| ;; function 6: tail_import
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rdi, %r8
;;|   movq -0x48(%rdi), %rdi
;;|   movq (%rdi), %r10
;;|   movq %rsi, %rdx
;;|   movq %r8, %rsi
;;|   return_call_unknown %r10 (0) tmp=%r11 %rdi=%rdi %rsi=%rsi %rdx=%rdx
;;|
;;| ;; function 7: tail_indirect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x10, %rsp
;;|   movq %rbx, (%rsp)
;;|   movq %r12, 8(%rsp)
;;| block0:
;;|   movq %rsi, %rbx
;;|   movq -0x58(%rdi), %rax
;;|   movq -0x60(%rdi), %rsi
;;|   movl %edx, %ecx
;;|   leaq (%rsi, %rcx, 8), %rdx
;;|   leaq -8(%rdi), %rsi
;;|   cmpq %rax, %rcx
;;|   cmovbq %rdx, %rsi
;;|   movq (%rsi), %rax
;;|   cmpl $0x2, %eax
;;|   jz      label2; j label1
;;| block2:
;;|   movq %rdi, %r12
;;|   load_ext_name userextname0+0, %rcx
;;|   shrq $0x20, %rax
;;|   leaq (%rcx, %rax), %r10
;;|   movq %rbx, %rsi
;;|   return_call_unknown %r10 (0) tmp=%r11 %rdi=%rdi %rsi=%rsi
;;| block1:
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %r12
;;|   leaq 0x1e0(%rax), %rdi
;;|   movq 0x1e0(%rax), %rax
;;|   movabsq $0x100000000, %rdx
;;|   movq %r12, %rsi
;;|   call    *%rax
;;|   movq (%rax), %r10
;;|   movq %rbx, %rdx
;;|   movq %r12, %rsi
;;|   movq %rax, %rdi
;;|   return_call_unknown %r10 (0) tmp=%r11 %rdi=%rdi %rsi=%rsi %rdx=%rdx
;;|
;;| ;; function 8: many_results
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rcx
;;|   movq %rcx, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: table_size
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl -0x58(%rdi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
