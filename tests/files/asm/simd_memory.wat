;; Vectors in memory. With AVX a load is part of the instruction that uses it; without, operands in memory
;; would have to be aligned, which a guest's address is not known to be.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (memory 1)
    (func $add (param i32 v128) (result v128)
        (i32x4.add (local.get 1) (v128.load offset=32 (local.get 0))))
    (func $add_first (param i32 v128) (result v128)
        (i32x4.add (v128.load offset=32 (local.get 0)) (local.get 1)))
    (func $mul (param i32 v128) (result v128)
        (f32x4.mul (local.get 1) (v128.load (local.get 0))))
    (func $and (param i32 v128) (result v128)
        (v128.and (local.get 1) (v128.load (local.get 0))))
    (func $copy (param i32 i32) (v128.store (local.get 0) (v128.load offset=16 (local.get 1))))
    (func $load8x8_s (param i32) (result v128) (v128.load8x8_s (local.get 0)))
    (func $load16x4_u (param i32) (result v128) (v128.load16x4_u (local.get 0)))
    (func $load32x2_s (param i32) (result v128) (v128.load32x2_s (local.get 0)))
    (func $load8_splat (param i32) (result v128) (v128.load8_splat (local.get 0)))
    (func $load32_splat (param i32) (result v128) (v128.load32_splat (local.get 0)))
    (func $load64_splat (param i32) (result v128) (v128.load64_splat (local.get 0)))
    (func $load32_zero (param i32) (result v128) (v128.load32_zero (local.get 0)))
    (func $load64_zero (param i32) (result v128) (v128.load64_zero (local.get 0)))
    (func $load8_lane (param i32 v128) (result v128) (v128.load8_lane 5 (local.get 0) (local.get 1)))
    (func $load64_lane (param i32 v128) (result v128) (v128.load64_lane 1 (local.get 0) (local.get 1)))
    (func $store16_lane (param i32 v128) (v128.store16_lane 3 (local.get 0) (local.get 1)))
    (func $store32_lane (param i32 v128) (v128.store32_lane 0 (local.get 0) (local.get 1)))
    (func $store64_lane (param i32 v128) (v128.store64_lane 1 (local.get 0) (local.get 1)))
    (func $kept (param i32) (result v128) (local v128)
        (local.set 1 (v128.load (local.get 0)))
        (i32x4.add (local.get 1) (local.get 1))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movdqu 0x20(%rdi, %rsi), %xmm5
;;|   paddd %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: add_first
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movdqu 0x20(%rdi, %rsi), %xmm5
;;|   paddd %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: mul
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movdqu (%rdi, %rsi), %xmm5
;;|   mulps %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: and
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movdqu (%rdi, %rsi), %xmm5
;;|   pand %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: copy
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %edx, %r8d
;;|   movdqu 0x10(%rdi, %r8), %xmm6
;;|   movl %esi, %esi
;;|   movdqu %xmm6, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: load8x8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pmovsxbw (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: load16x4_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pmovzxwd (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: load32x2_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pmovsxdq (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: load8_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %r8d
;;|   pinsrb $0x0, (%rdi, %r8), %xmm0
;;|   pxor %xmm1, %xmm1
;;|   pshufb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: load32_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movss (%rdi, %rsi), %xmm0
;;|   shufps $0x0, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: load64_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movddup (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: load32_zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movss (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: load64_zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movsd (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: load8_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pinsrb $0x5, (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: load64_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pinsrq $0x1, (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: store16_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pextrw $0x3, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 16: store32_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pextrd $0x0, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: store64_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   pextrq $0x1, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 18: kept
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movdqu (%rdi, %rsi), %xmm0
;;|   paddd %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpaddd 0x20(%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: add_first
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpaddd 0x20(%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: mul
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vmulps (%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: and
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpand (%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: copy
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %edx, %r8d
;;|   vmovdqu 0x10(%rdi, %r8), %xmm6
;;|   movl %esi, %esi
;;|   vmovdqu %xmm6, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: load8x8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpmovsxbw (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: load16x4_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpmovzxwd (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: load32x2_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpmovsxdq (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: load8_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpbroadcastb (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: load32_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vbroadcastss (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: load64_splat
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vmovddup (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: load32_zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vmovss (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: load64_zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vmovsd (%rdi, %rsi), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: load8_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpinsrb $0x5, (%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: load64_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpinsrq $0x1, (%rdi, %rsi), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: store16_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpextrw $0x3, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 16: store32_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpextrd $0x0, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: store64_lane
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vpextrq $0x1, %xmm0, (%rdi, %rsi)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 18: kept
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   vmovdqu (%rdi, %rsi), %xmm5
;;|   vpaddd %xmm5, %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
