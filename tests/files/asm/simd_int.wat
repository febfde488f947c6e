;; Integer lanes.
;;
;; mul64, shr64_s: the instructions for these came with AVX-512. shl8: there are no shifts of bytes, so what
;; crosses lanes is masked away. shl32_by: Wasm takes the count modulo 32, the CPU does not.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (func $dot (param v128 v128) (result v128) (i32x4.dot_i16x8_s (local.get 0) (local.get 1)))
    (func $extmul_low (param v128 v128) (result v128)
        (i32x4.extmul_low_i16x8_s (local.get 0) (local.get 1)))
    (func $extadd (param v128) (result v128) (i16x8.extadd_pairwise_i8x16_u (local.get 0)))
    (func $mul64 (param v128 v128) (result v128) (i64x2.mul (local.get 0) (local.get 1)))
    (func $popcnt (param v128) (result v128) (i8x16.popcnt (local.get 0)))
    (func $shl8 (param v128) (result v128) (i8x16.shl (local.get 0) (i32.const 3)))
    (func $shr8_s (param v128) (result v128) (i8x16.shr_s (local.get 0) (i32.const 3)))
    (func $shl32 (param v128) (result v128) (i32x4.shl (local.get 0) (i32.const 3)))
    (func $shl32_by (param v128 i32) (result v128) (i32x4.shl (local.get 0) (local.get 1)))
    (func $shr64_s (param v128) (result v128) (i64x2.shr_s (local.get 0) (i32.const 3)))
    (func $abs8 (param v128) (result v128) (i8x16.abs (local.get 0)))
    (func $abs64 (param v128) (result v128) (i64x2.abs (local.get 0)))
    (func $neg (param v128) (result v128) (i32x4.neg (local.get 0)))
    (func $ge_u (param v128 v128) (result v128) (i8x16.ge_u (local.get 0) (local.get 1)))
    (func $gt_s (param v128 v128) (result v128) (i64x2.gt_s (local.get 0) (local.get 1)))
    (func $q15mulr (param v128 v128) (result v128) (i16x8.q15mulr_sat_s (local.get 0) (local.get 1)))
    (func $narrow (param v128 v128) (result v128) (i8x16.narrow_i16x8_u (local.get 0) (local.get 1)))
    (func $extend_high (param v128) (result v128) (i16x8.extend_high_i8x16_s (local.get 0))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: dot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pmaddwd %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: extmul_low
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm5
;;|   pmullw %xmm1, %xmm5
;;|   pmulhw %xmm1, %xmm0
;;|   movdqa %xmm0, %xmm1
;;|   movdqa %xmm5, %xmm0
;;|   punpcklwd %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: extadd
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pmaddubsw (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: mul64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm1, %xmm2
;;|   movdqa %xmm0, %xmm1
;;|   psrlq $0x20, %xmm1
;;|   pmuludq %xmm2, %xmm1
;;|   movdqa %xmm2, %xmm7
;;|   psrlq $0x20, %xmm7
;;|   movdqa %xmm0, %xmm3
;;|   pmuludq %xmm7, %xmm3
;;|   paddq %xmm3, %xmm1
;;|   psllq $0x20, %xmm1
;;|   pmuludq %xmm2, %xmm0
;;|   paddq %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: popcnt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm2
;;|   pand (%rip), %xmm2
;;|   psrlw $0x4, %xmm0
;;|   pand (%rip), %xmm0
;;|   movdqa %xmm0, %xmm3
;;|   movdqu (%rip), %xmm1
;;|   movdqa %xmm1, %xmm0
;;|   pshufb %xmm2, %xmm0
;;|   movdqa %xmm3, %xmm2
;;|   pshufb %xmm2, %xmm1
;;|   paddb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: shl8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   psllw $0x3, %xmm0
;;|   movdqu (%rip), %xmm4
;;|   pand %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: shr8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm6
;;|   punpcklbw %xmm0, %xmm6
;;|   punpckhbw %xmm0, %xmm0
;;|   movdqa %xmm0, %xmm1
;;|   movdqa %xmm6, %xmm0
;;|   psraw $0xb, %xmm0
;;|   psraw $0xb, %xmm1
;;|   packsswb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: shl32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pslld $0x3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: shl32_by
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   andq $0x1f, %rsi
;;|   movd %esi, %xmm5
;;|   pslld %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: shr64_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm2
;;|   psrad $0x3, %xmm2
;;|   pshufd $0xed, %xmm2, %xmm4
;;|   psrlq $0x3, %xmm0
;;|   pshufd $0xe8, %xmm0, %xmm0
;;|   punpckldq %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: abs8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pabsb %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: abs64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm6
;;|   pxor %xmm0, %xmm0
;;|   movdqa %xmm6, %xmm1
;;|   psubq %xmm1, %xmm0
;;|   blendvpd %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: neg
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm5
;;|   pxor %xmm0, %xmm0
;;|   movdqa %xmm5, %xmm7
;;|   psubd %xmm7, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: ge_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm3
;;|   pmaxub %xmm1, %xmm3
;;|   pcmpeqb %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: gt_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpgtq %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: q15mulr
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pmulhrsw %xmm1, %xmm0
;;|   movdqa %xmm0, %xmm5
;;|   pcmpeqw (%rip), %xmm5
;;|   pxor %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 16: narrow
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   packuswb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: extend_high
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   palignr $0x8, %xmm0, %xmm0
;;|   pmovsxbw %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: dot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmaddwd %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: extmul_low
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmullw %xmm1, %xmm0, %xmm3
;;|   vpmulhw %xmm1, %xmm0, %xmm5
;;|   vpunpcklwd %xmm5, %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: extadd
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmaddubsw (%rip), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: mul64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpsrlq $0x20, %xmm0, %xmm3
;;|   vpmuludq %xmm1, %xmm3, %xmm5
;;|   vpsrlq $0x20, %xmm1, %xmm7
;;|   vpmuludq %xmm7, %xmm0, %xmm2
;;|   vpaddq %xmm2, %xmm5, %xmm2
;;|   vpsllq $0x20, %xmm2, %xmm2
;;|   vpmuludq %xmm1, %xmm0, %xmm0
;;|   vpaddq %xmm2, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: popcnt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpand (%rip), %xmm0, %xmm2
;;|   vpsrlw $0x4, %xmm0, %xmm4
;;|   vpand (%rip), %xmm4, %xmm6
;;|   vmovdqu (%rip), %xmm1
;;|   vpshufb %xmm2, %xmm1, %xmm0
;;|   vpshufb %xmm6, %xmm1, %xmm1
;;|   vpaddb %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: shl8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpsllw $0x3, %xmm0, %xmm2
;;|   vmovdqu (%rip), %xmm4
;;|   vpand %xmm4, %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: shr8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpunpcklbw %xmm0, %xmm0, %xmm2
;;|   vpunpckhbw %xmm0, %xmm0, %xmm4
;;|   vpsraw $0xb, %xmm2, %xmm6
;;|   vpsraw $0xb, %xmm4, %xmm0
;;|   vpacksswb %xmm0, %xmm6, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: shl32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpslld $0x3, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: shl32_by
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   andq $0x1f, %rsi
;;|   vmovd %esi, %xmm5
;;|   vpslld %xmm5, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: shr64_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpsrad $0x3, %xmm0, %xmm2
;;|   vpshufd $0xed, %xmm2, %xmm4
;;|   vpsrlq $0x3, %xmm0, %xmm6
;;|   vpshufd $0xe8, %xmm6, %xmm0
;;|   vpunpckldq %xmm4, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: abs8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpabsb %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: abs64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm2, %xmm2, %xmm4
;;|   vpsubq %xmm0, %xmm4, %xmm6
;;|   vblendvpd %xmm6, %xmm0, %xmm6, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: neg
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm2, %xmm2, %xmm4
;;|   vpsubd %xmm0, %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: ge_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmaxub %xmm1, %xmm0, %xmm3
;;|   vpcmpeqb %xmm3, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: gt_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpgtq %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: q15mulr
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
;;| ;; function 16: narrow
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpackuswb %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: extend_high
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpalignr $0x8, %xmm0, %xmm0, %xmm2
;;|   vpmovsxbw %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
