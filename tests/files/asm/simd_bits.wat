;; Vectors as conditions, masks and bits.
;;
;; bitmask16: 16-bit lanes have no instruction of their own, bytes have.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (func $any_true (param v128) (result i32) (v128.any_true (local.get 0)))
    (func $if_all_true (param v128 i32) (result i32)
        (if (result i32) (i8x16.all_true (local.get 0)) (then (i32.const 1)) (else (local.get 1))))
    (func $if_all_equal (param v128 v128 i32) (result i32)
        (if (result i32) (i32x4.all_true (i32x4.eq (local.get 0) (local.get 1)))
            (then (i32.const 1)) (else (local.get 2))))
    (func $find (param v128 v128) (result i32)
        (i32.ctz (i8x16.bitmask (i8x16.eq (local.get 0) (local.get 1)))))
    (func $bitmask16 (param v128) (result i32) (i16x8.bitmask (local.get 0)))
    (func $bitselect (param v128 v128 v128) (result v128)
        (v128.bitselect (local.get 0) (local.get 1) (local.get 2)))
    (func $max_by_select (param v128 v128) (result v128)
        (v128.bitselect (local.get 0) (local.get 1) (i8x16.gt_s (local.get 0) (local.get 1))))
    (func $andnot (param v128 v128) (result v128) (v128.andnot (local.get 0) (local.get 1)))
    (func $not (param v128) (result v128) (v128.not (local.get 0)))
    (func $zero (result v128) (v128.const i64x2 0 0))
    (func $ones (result v128) (v128.const i64x2 -1 -1))
    (func $constant (result v128) (v128.const i32x4 1 2 3 4)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: any_true
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   ptest %xmm0, %xmm0
;;|   setne %sil
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: if_all_true
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pxor %xmm6, %xmm6
;;|   pcmpeqb %xmm6, %xmm0
;;|   ptest %xmm0, %xmm0
;;|   jz      label2; j label1
;;| block1:
;;|   movq %rsi, %rax
;;|   jmp     label3
;;| block2:
;;|   movl $0x1, %eax
;;|   jmp     label3
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: if_all_equal
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pxor %xmm1, %xmm0
;;|   ptest %xmm0, %xmm0
;;|   jz      label2; j label1
;;| block1:
;;|   movq %rsi, %rax
;;|   jmp     label3
;;| block2:
;;|   movl $0x1, %eax
;;|   jmp     label3
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: find
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpeqb %xmm1, %xmm0
;;|   pmovmskb %xmm0, %edi
;;|   movl $0x20, %esi
;;|   bsfl %edi, %eax
;;|   cmovel %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: bitmask16
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   packsswb %xmm0, %xmm0
;;|   pmovmskb %xmm0, %eax
;;|   shrq $0x8, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: bitselect
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pand %xmm2, %xmm0
;;|   movdqa %xmm0, %xmm7
;;|   pandn %xmm1, %xmm2
;;|   movdqa %xmm7, %xmm1
;;|   movdqa %xmm2, %xmm0
;;|   por %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: max_by_select
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pmaxsb %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: andnot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   pandn %xmm4, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: not
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpeqd %xmm3, %xmm3
;;|   pxor %xmm3, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pxor %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: ones
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   pcmpeqd %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: constant
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqu (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: any_true
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vptest %xmm0, %xmm0
;;|   setne %sil
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: if_all_true
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm5, %xmm5, %xmm7
;;|   vpcmpeqb %xmm7, %xmm0, %xmm0
;;|   vptest %xmm0, %xmm0
;;|   jz      label2; j label1
;;| block1:
;;|   movq %rsi, %rax
;;|   jmp     label3
;;| block2:
;;|   movl $0x1, %eax
;;|   jmp     label3
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: if_all_equal
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm1, %xmm0, %xmm6
;;|   vptest %xmm6, %xmm6
;;|   jz      label2; j label1
;;| block1:
;;|   movq %rsi, %rax
;;|   jmp     label3
;;| block2:
;;|   movl $0x1, %eax
;;|   jmp     label3
;;| block3:
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: find
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpeqb %xmm1, %xmm0, %xmm5
;;|   vpmovmskb %xmm5, %esi
;;|   tzcntl %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: bitmask16
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpacksswb %xmm0, %xmm0, %xmm2
;;|   vpmovmskb %xmm2, %eax
;;|   shrq $0x8, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: bitselect
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
;;| ;; function 6: max_by_select
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpmaxsb %xmm1, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: andnot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpandn %xmm0, %xmm1, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: not
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpeqd %xmm2, %xmm2, %xmm4
;;|   vpxor %xmm4, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: zero
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpxor %xmm0, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: ones
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vpcmpeqd %xmm0, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: constant
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   vmovdqu (%rip), %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
