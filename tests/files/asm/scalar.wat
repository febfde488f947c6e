;; Scalar arithmetic.

;;! cpu = x86-64-v2 x86-64-v3

(module
    (func $popcnt (param i32) (result i32) (i32.popcnt (local.get 0)))
    (func $clz (param i64) (result i64) (i64.clz (local.get 0)))
    (func $ctz (param i32) (result i32) (i32.ctz (local.get 0)))
    (func $div (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
    (func $rem_const (param i32) (result i32) (i32.rem_u (local.get 0) (i32.const 10)))
    (func $andnot (param i64 i64) (result i64)
        (i64.and (local.get 0) (i64.xor (local.get 1) (i64.const -1))))
    (func $rotl (param i32 i32) (result i32) (i32.rotl (local.get 0) (local.get 1)))
    (func $select (param i32 i32 i32 i32) (result i32)
        (select (local.get 0) (local.get 1) (i32.lt_s (local.get 2) (local.get 3))))
    (func $f32_min (param f32 f32) (result f32) (f32.min (local.get 0) (local.get 1)))
    (func $trunc (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
    (func $wide_add (param i64 i64 i64 i64) (result i64 i64)
        (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
    (func $wide_mul (param i64 i64) (result i64 i64)
        (i64.mul_wide_u (local.get 0) (local.get 1))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: popcnt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   popcntl %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: clz
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq $0xffffffffffffffff, %rdx
;;|   bsrq %rsi, %rsi
;;|   cmoveq %rdx, %rsi
;;|   movl $0x3f, %eax
;;|   subq %rsi, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: ctz
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl $0x20, %edx
;;|   bsfl %esi, %eax
;;|   cmovel %edx, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: div
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   movq %rdx, %r11
;;|   cltd  ;; implicit: %edx, %eax
;;|   testl %r11d, %r11d
;;|   jz #trap=int_divz
;;|   idivl %r11d ;; implicit: %eax, %edx, trap=252
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: rem_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   mull (%rip) ;; implicit: %eax, %edx
;;|   shrl $0x3, %edx
;;|   imull $0xa, %edx, %edi
;;|   movq %rsi, %rax
;;|   subl %edi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: andnot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   notq %rdx
;;|   movq %rsi, %rax
;;|   andq %rdx, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: rotl
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rdx, %rcx
;;|   movq %rsi, %rax
;;|   roll %cl, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: select
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cmpl %r8d, %ecx
;;|   movq %rdx, %rax
;;|   cmovll %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: f32_min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   xmm min seq f32 %xmm4, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: trunc
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvt_float64_to_sint32_seq %xmm0, %eax, %rsi, %xmm3
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: wide_add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   addq %rcx, %rax
;;|   movq %rdx, %rcx
;;|   adcq %r8, %rcx
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: wide_mul
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   mulq %rdx ;; implicit: %rax, %rdx
;;|   movq %rdx, %rcx
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;|
;;| ==== x86-64-v3 ====
;;| ;; function 0: popcnt
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   popcntl %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: clz
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   lzcntq %rsi, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: ctz
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   tzcntl %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: div
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   movq %rdx, %r11
;;|   cltd  ;; implicit: %edx, %eax
;;|   testl %r11d, %r11d
;;|   jz #trap=int_divz
;;|   idivl %r11d ;; implicit: %eax, %edx, trap=252
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 4: rem_const
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rdx
;;|   mulxl (%rip), %esi, %esi ;; implicit: %edx
;;|   shrl $0x3, %esi
;;|   imull $0xa, %esi, %esi
;;|   movq %rdx, %rax
;;|   subl %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: andnot
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   andnq %rsi, %rdx, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: rotl
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rdx, %rcx
;;|   movq %rsi, %rax
;;|   roll %cl, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: select
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cmpl %r8d, %ecx
;;|   movq %rdx, %rax
;;|   cmovll %esi, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 8: f32_min
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movdqa %xmm0, %xmm4
;;|   movdqa %xmm1, %xmm0
;;|   xmm min seq f32 %xmm4, %xmm0, %xmm0
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 9: trunc
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   cvt_float64_to_sint32_seq %xmm0, %eax, %rsi, %xmm3
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 10: wide_add
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   addq %rcx, %rax
;;|   movq %rdx, %rcx
;;|   adcq %r8, %rcx
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 11: wide_mul
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rdx, %rax
;;|   movq %rsi, %rdx
;;|   movq %rax, %rsi
;;|   mulxq %rsi, %rax, %rcx ;; implicit: %rdx
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
