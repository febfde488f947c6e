;; Relaxed SIMD where each instruction may give what the CPU does fastest.

;;! cpu = x86-64-v2 x86-64-v3

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

;;| ==== x86-64-v2 ====
;;| ;; function 0: madd
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   mulps %xmm1, %xmm0
;;|   addps %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: swizzle
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   minps %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: trunc
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvttps2dq %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: laneselect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm6
;;|   movdqa %xmm2, %xmm0
;;|   movdqa %xmm1, %xmm4
;;|   pblendvb %xmm0, %xmm6, %xmm4
;;|   movdqa %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: q15mulr
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pmulhrsw %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: dot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   pmaddubsw %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: madd
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vfmadd213ps %xmm2, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: swizzle
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufb %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vminps %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: trunc
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcvttps2dq %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: laneselect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpblendvb %xmm2, %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: q15mulr
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmulhrsw %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: dot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmaddubsw %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
