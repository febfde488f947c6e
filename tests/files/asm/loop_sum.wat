;; A loop over memory: nothing of the context is read in it.
;;
;; The additions do not take their operand from memory: the code generator counts a value that two blocks
;; use, as the sums here, as used twice with all it is made of. `leal 4(%rsi)` leaves the flags alone and is
;; as short as an addition.

;;! cpu = x86-64-v3

(module
    (memory 1)
    (func $sum (param $at i32) (param $end i32) (result i32)
        (local $sum i32)
        (loop $next
            (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
            (br_if $next (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 4)))
                (local.get $end))))
        (local.get $sum))
    (func $vector_sum (param $at i32) (param $end i32) (result v128)
        (local $sum v128)
        (loop $next
            (local.set $sum (f32x4.add (local.get $sum) (v128.load (local.get $at))))
            (br_if $next (i32.lt_u
                (local.tee $at (i32.add (local.get $at) (i32.const 16)))
                (local.get $end))))
        (local.get $sum)))

;;| ==== x86-64-v3 ====
;;| ;; function 0: sum
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   xorl %eax, %eax
;;|   jmp     label1
;;| block1:
;;|   movl %esi, %ecx
;;|   movl (%rdi, %rcx), %ecx
;;|   leal 4(%rsi), %esi
;;|   leal (%rax, %rcx), %eax
;;|   cmpl %edx, %esi
;;|   jb      label2; j label3
;;| block2:
;;|   jmp     label1
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: vector_sum
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm0, %xmm0, %xmm0
;;|   jmp     label1
;;| block1:
;;|   movl %esi, %eax
;;|   vmovups (%rdi, %rax), %xmm1
;;|   leal 0x10(%rsi), %esi
;;|   vaddps %xmm1, %xmm0, %xmm0
;;|   cmpl %edx, %esi
;;|   jb      label2; j label3
;;| block2:
;;|   jmp     label1
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
