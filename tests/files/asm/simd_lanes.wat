;; Single lanes, splats and shuffles.
;;
;; extract8_u: `pextrb` clears the upper bits already; the code generator extends a lane as any other value.
;; swizzle: lanes from 16 on must give zero, which the CPU has for those from 128 on; of a constant that is
;; done while it is compiled.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (func $splat8 (param i32) (result v128) (i8x16.splat (local.get 0)))
    (func $splat32 (param i32) (result v128) (i32x4.splat (local.get 0)))
    (func $splat_f32 (param f32) (result v128) (f32x4.splat (local.get 0)))
    (func $splat_f64 (param f64) (result v128) (f64x2.splat (local.get 0)))
    (func $splat_const (result v128) (i16x8.splat (i32.const 255)))
    (func $extract8_u (param v128) (result i32) (i8x16.extract_lane_u 3 (local.get 0)))
    (func $extract8_s (param v128) (result i32) (i8x16.extract_lane_s 3 (local.get 0)))
    (func $extract16_u (param v128) (result i32) (i16x8.extract_lane_u 0 (local.get 0)))
    (func $extract32 (param v128) (result i32) (i32x4.extract_lane 0 (local.get 0)))
    (func $extract_f32 (param v128) (result f32) (f32x4.extract_lane 2 (local.get 0)))
    (func $replace32 (param v128 i32) (result v128) (i32x4.replace_lane 2 (local.get 0) (local.get 1)))
    (func $replace_f64 (param v128 f64) (result v128) (f64x2.replace_lane 0 (local.get 0) (local.get 1)))
    (func $swizzle (param v128 v128) (result v128) (i8x16.swizzle (local.get 0) (local.get 1)))
    (func $swizzle_const (param v128) (result v128)
        (i8x16.swizzle (local.get 0) (v128.const i8x16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0)))
    (func $swizzle_const_outside (param v128) (result v128)
        (i8x16.swizzle (local.get 0) (v128.const i8x16 4 5 6 7 99 99 99 99 0 1 2 3 255 128 16 17)))
    (func $shuffle_dwords (param v128) (result v128)
        (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get 0) (local.get 0)))
    (func $interleave (param v128 v128) (result v128)
        (i8x16.shuffle 0 16 1 17 2 18 3 19 4 20 5 21 6 22 7 23 (local.get 0) (local.get 1)))
    (func $slide (param v128 v128) (result v128)
        (i8x16.shuffle 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 (local.get 0) (local.get 1)))
    (func $shuffle_any (param v128 v128) (result v128)
        (i8x16.shuffle 0 31 2 29 4 27 6 25 8 23 10 21 12 19 14 17 (local.get 0) (local.get 1))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: splat8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movd %esi, %xmm0
;;|   pxor %xmm5, %xmm5
;;|   pshufb %xmm5, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: splat32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movd %esi, %xmm2
;;|   pshufd $0x0, %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: splat_f32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   shufps $0x0, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: splat_f64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufd $0x44, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: splat_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqu (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: extract8_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pextrb $0x3, %xmm0, %esi
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: extract8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pextrb $0x3, %xmm0, %esi
;;|   movsbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: extract16_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pextrw $0x0, %xmm0, %esi
;;|   movzwl %si, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: extract32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pextrd $0x0, %xmm0, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: extract_f32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufd $0x2, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: replace32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pinsrd $0x2, %esi, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: replace_f64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movsd %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: swizzle
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   paddusb (%rip), %xmm1
;;|   pshufb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: swizzle_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufb (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: swizzle_const_outside
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqu (%rip), %xmm3
;;|   pshufb %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: shuffle_dwords
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufd $0xb1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 16: interleave
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   punpcklbw %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: slide
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   palignr $0x4, %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 18: shuffle_any
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pshufb (%rip), %xmm0
;;|   pshufb (%rip), %xmm1
;;|   por %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: splat8
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovd %esi, %xmm2
;;|   vpbroadcastb %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: splat32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovd %esi, %xmm2
;;|   vpbroadcastd %xmm2, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: splat_f32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vbroadcastss %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: splat_f64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufd $0x44, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: splat_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovdqu (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: extract8_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpextrb $0x3, %xmm0, %esi
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: extract8_s
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpextrb $0x3, %xmm0, %esi
;;|   movsbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: extract16_u
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpextrw $0x0, %xmm0, %esi
;;|   movzwl %si, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: extract32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpextrd $0x0, %xmm0, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: extract_f32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufd $0x2, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: replace32
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpinsrd $0x2, %esi, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: replace_f64
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovsd %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 12: swizzle
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpaddusb (%rip), %xmm1, %xmm3
;;|   vpshufb %xmm3, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 13: swizzle_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufb (%rip), %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 14: swizzle_const_outside
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovdqu (%rip), %xmm3
;;|   vpshufb %xmm3, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 15: shuffle_dwords
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufd $0xb1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 16: interleave
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpunpcklbw %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 17: slide
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpalignr $0x4, %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 18: shuffle_any
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpshufb (%rip), %xmm0, %xmm3
;;|   vpshufb (%rip), %xmm1, %xmm5
;;|   vpor %xmm5, %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
