;; Float lanes.
;;
;; min: the CPU's has another answer for zeros of both signs and for NaN. trunc_s, convert_u: the CPU has no
;; saturation, and no conversion of unsigned lanes before AVX-512. abs, neg: their masks are made, not loaded.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (func $min (param v128 v128) (result v128) (f32x4.min (local.get 0) (local.get 1)))
    (func $pmin (param v128 v128) (result v128) (f32x4.pmin (local.get 0) (local.get 1)))
    (func $pmax (param v128 v128) (result v128) (f64x2.pmax (local.get 0) (local.get 1)))
    (func $abs (param v128) (result v128) (f32x4.abs (local.get 0)))
    (func $neg (param v128) (result v128) (f64x2.neg (local.get 0)))
    (func $floor (param v128) (result v128) (f32x4.floor (local.get 0)))
    (func $lt (param v128 v128) (result v128) (f32x4.lt (local.get 0) (local.get 1)))
    (func $trunc_s (param v128) (result v128) (i32x4.trunc_sat_f32x4_s (local.get 0)))
    (func $convert_s (param v128) (result v128) (f32x4.convert_i32x4_s (local.get 0)))
    (func $convert_u (param v128) (result v128) (f32x4.convert_i32x4_u (local.get 0)))
    (func $convert_low_u (param v128) (result v128) (f64x2.convert_low_i32x4_u (local.get 0)))
    (func $demote (param v128) (result v128) (f32x4.demote_f64x2_zero (local.get 0)))
    (func $promote (param v128) (result v128) (f64x2.promote_low_f32x4 (local.get 0))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm7
;;|   minps %xmm1, %xmm7
;;|   minps %xmm0, %xmm1
;;|   orps %xmm1, %xmm7
;;|   movdqa %xmm7, %xmm0
;;|   cmpunordps %xmm1, %xmm0
;;|   orps %xmm0, %xmm7
;;|   psrld $0xa, %xmm0
;;|   andnps %xmm7, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: pmin
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   minps %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: pmax
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   maxpd %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: abs
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpeqd %xmm4, %xmm4
;;|   psrld $0x1, %xmm4
;;|   andps %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: neg
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpeqd %xmm4, %xmm4
;;|   psllq $0x3f, %xmm4
;;|   xorpd %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: floor
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   roundps $0x1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: lt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cmpltps %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: trunc_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   cmpeqps %xmm0, %xmm4
;;|   andps %xmm4, %xmm0
;;|   pxor %xmm0, %xmm4
;;|   cvttps2dq %xmm0, %xmm1
;;|   movdqa %xmm1, %xmm0
;;|   pand %xmm4, %xmm0
;;|   psrad $0x1f, %xmm0
;;|   pxor %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: convert_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvtdq2ps %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: convert_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm3
;;|   pslld $0x10, %xmm3
;;|   psrld $0x10, %xmm3
;;|   psubd %xmm3, %xmm0
;;|   cvtdq2ps %xmm3, %xmm1
;;|   psrld $0x1, %xmm0
;;|   cvtdq2ps %xmm0, %xmm0
;;|   addps %xmm0, %xmm0
;;|   addps %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: convert_low_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   unpcklps (%rip), %xmm0
;;|   subpd (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: demote
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvtpd2ps %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: promote
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvtps2pd %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: min
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
;;| ;; function 1: pmin
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vminps %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: pmax
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmaxpd %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: abs
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpeqd %xmm2, %xmm2, %xmm4
;;|   vpsrld $0x1, %xmm4, %xmm6
;;|   vandps %xmm6, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: neg
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpeqd %xmm2, %xmm2, %xmm4
;;|   vpsllq $0x3f, %xmm4, %xmm6
;;|   vxorpd %xmm6, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: floor
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vroundps $0x1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: lt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcmpltps %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: trunc_s
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
;;| ;; function 8: convert_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcvtdq2ps %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: convert_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpslld $0x10, %xmm0, %xmm2
;;|   vpsrld $0x10, %xmm2, %xmm4
;;|   vpsubd %xmm4, %xmm0, %xmm6
;;|   vcvtdq2ps %xmm4, %xmm0
;;|   vpsrld $0x1, %xmm6, %xmm1
;;|   vcvtdq2ps %xmm1, %xmm1
;;|   vaddps %xmm1, %xmm1, %xmm1
;;|   vaddps %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: convert_low_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vunpcklps (%rip), %xmm0, %xmm2
;;|   vsubpd (%rip), %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: demote
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcvtpd2ps %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: promote
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vcvtps2pd %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
