;; Relaxed SIMD with the same results on every CPU.

;;! cpu = x86-64-v3
;;! relaxed-simd = deterministic

(module
    (func $madd (param v128 v128 v128) (result v128)
        (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2)))
    (func $swizzle (param v128 v128) (result v128)
        (i8x16.relaxed_swizzle (local.get 0) (local.get 1)))
    (func $min (param v128 v128) (result v128) (f32x4.relaxed_min (local.get 0) (local.get 1)))
    (func $trunc (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))
    (func $laneselect (param v128 v128 v128) (result v128)
        (i8x16.relaxed_laneselect (local.get 0) (local.get 1) (local.get 2)))
    (func $q15mulr (param v128 v128) (result v128)
        (i16x8.relaxed_q15mulr_s (local.get 0) (local.get 1)))
    (func $dot (param v128 v128) (result v128)
        (i16x8.relaxed_dot_i8x16_i7x16_s (local.get 0) (local.get 1))))

;;| ==== x86-64-v3 ====
;;| ;; function 0: madd
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmulps %xmm1, %xmm0, %xmm5
;;|   vaddps %xmm2, %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: swizzle
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpaddusb (%rip), %xmm1, %xmm3
;;|   vpshufb %xmm3, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vminps %xmm1, %xmm0, %xmm3
;;|   vminps %xmm0, %xmm1, %xmm5
;;|   vorps %xmm5, %xmm3, %xmm7
;;|   vcmpunordps %xmm5, %xmm7, %xmm1
;;|   vorps %xmm1, %xmm7, %xmm0
;;|   vpsrld $0xa, %xmm1, %xmm1
;;|   vandnps %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: trunc
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcmpeqps %xmm0, %xmm0, %xmm2
;;|   vandps %xmm2, %xmm0, %xmm4
;;|   vpxor %xmm4, %xmm2, %xmm6
;;|   vcvttps2dq %xmm4, %xmm0
;;|   vpand %xmm6, %xmm0, %xmm1
;;|   vpsrad $0x1f, %xmm1, %xmm1
;;|   vpxor %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: laneselect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpand %xmm2, %xmm0, %xmm4
;;|   vpandn %xmm1, %xmm2, %xmm6
;;|   vpor %xmm4, %xmm6, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: q15mulr
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmulhrsw %xmm1, %xmm0, %xmm3
;;|   vpcmpeqw (%rip), %xmm3, %xmm5
;;|   vpxor %xmm5, %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: dot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmovsxbw %xmm0, %xmm2
;;|   vpmovsxbw %xmm1, %xmm3
;;|   vpmaddwd %xmm3, %xmm2, %xmm2
;;|   vpalignr $0x8, %xmm0, %xmm0, %xmm0
;;|   vpmovsxbw %xmm0, %xmm0
;;|   vpalignr $0x8, %xmm1, %xmm1, %xmm1
;;|   vpmovsxbw %xmm1, %xmm1
;;|   vpmaddwd %xmm1, %xmm0, %xmm0
;;|   vpackssdw %xmm0, %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
