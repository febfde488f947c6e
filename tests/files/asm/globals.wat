;; Globals are words below vmctx; one that can't change and that the module spells out is its value.

;;! cpu = x86-64-v2

(module
    (import "" "i" (global $imported (mut i32)))
    (global $stack (mut i32) (i32.const 65536))
    (global $v (mut v128) (v128.const i64x2 1 2))
    (global $constant i32 (i32.const 42))
    (memory 1)
    (func $push (param i32) (result i32)
        (global.set $stack (i32.sub (global.get $stack) (local.get 0)))
        (global.get $stack))
    (func $get_constant (result i32) (global.get $constant))
    (func $set_imported (global.set $imported (i32.const 1)))
    (func $add_to_vector (global.set $v (i64x2.add (global.get $v) (global.get $v)))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: push
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl -0x1030(%rdi), %eax
;;|   subl %esi, %eax
;;|   movl %eax, -0x1030(%rdi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: get_constant
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl $0x2a, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: set_imported
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq -0x58(%rdi), %rdx
;;|   movl $0x1, (%rdx)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: add_to_vector
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqu -0x1020(%rdi), %xmm2
;;|   paddq %xmm2, %xmm2
;;|   movdqu %xmm2, -0x1020(%rdi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
