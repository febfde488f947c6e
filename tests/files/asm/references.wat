;; Typed function references.
;;
;; A reference points at a `VMFuncRef`. Its type is known, so a call compares it with null and nothing else;
;; the callee gets the reference and the caller's vmctx before its arguments. A reference that can't be null
;; by its type is not compared at all.

;;! cpu = x86-64-v2

(module
    (type $unary (func (param i32) (result i32)))
    (func $call_ref (param $f (ref null $unary)) (param $x i32) (result i32)
        (i32.add (i32.const 1) (call_ref $unary (local.get $x) (local.get $f))))
    (func $call_known (param $f (ref $unary)) (param $x i32) (result i32)
        (i32.add (i32.const 1) (call_ref $unary (local.get $x) (local.get $f))))
    (func $call_twice (param $f (ref null $unary)) (param $x i32) (result i32)
        (call_ref $unary (call_ref $unary (local.get $x) (local.get $f)) (local.get $f)))
    (func $return_call_ref (param $f (ref null $unary)) (param $x i32) (result i32)
        (return_call_ref $unary (local.get $x) (local.get $f)))
    (func $is_null (param $f (ref null $unary)) (result i32)
        (ref.is_null (local.get $f)))
    (func $as_non_null (param $f (ref null $unary)) (result (ref $unary))
        (ref.as_non_null (local.get $f)))
    (func $br_on_null (param $f (ref null $unary)) (param $x i32) (result i32)
        (block $none
            (return_call_ref $unary (local.get $x) (br_on_null $none (local.get $f))))
        (local.get $x))
    (func $br_on_non_null (param $f (ref null $unary)) (param $x i32) (result i32)
        (block $some (result (ref $unary))
            (br_on_non_null $some (local.get $f))
            (return (local.get $x)))
        (drop)
        (i32.const 7)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: call_ref
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   jz #trap=user13
;;|   movq (%rsi), %r8
;;|   movq %rsi, %rax
;;|   movq %rdi, %rsi
;;|   movq %rax, %rdi
;;|   call    *%r8
;;|   leal 1(%rax), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: call_known
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq (%rsi), %r8
;;|   movq %rsi, %rax
;;|   movq %rdi, %rsi
;;|   movq %rax, %rdi
;;|   call    *%r8
;;|   leal 1(%rax), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: call_twice
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x10, %rsp
;;|   movq %r12, (%rsp)
;;|   movq %r13, 8(%rsp)
;;| block0:
;;|   movq %rdi, %r13
;;|   testq %rsi, %rsi
;;|   jz #trap=user13
;;|   movq (%rsi), %r9
;;|   movq %rsi, %r12
;;|   movq %r13, %rsi
;;|   movq %r12, %rdi
;;|   call    *%r9
;;|   movq %rax, %rdx
;;|   movq (%r12), %r9
;;|   movq %r13, %rsi
;;|   movq %r12, %rdi
;;|   call    *%r9
;;|   movq (%rsp), %r12
;;|   movq 8(%rsp), %r13
;;|   addq $0x10, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 3: return_call_ref
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   jz #trap=user13
;;|   movq (%rsi), %r10
;;|   movq %rsi, %rax
;;|   movq %rdi, %rsi
;;|   movq %rax, %rdi
;;|   return_call_unknown %r10 (0) tmp=%r11 %rdi=%rdi %rsi=%rsi %rdx=%rdx
;;|
;;| ;; function 4: is_null
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   sete %sil
;;|   movzbl %sil, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 5: as_non_null
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   jz #trap=user11
;;|   movq %rsi, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: br_on_null
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   jz      label2; j label1
;;| block1:
;;|   movq (%rsi), %r10
;;|   movq %rsi, %rax
;;|   movq %rdi, %rsi
;;|   movq %rax, %rdi
;;|   return_call_unknown %r10 (0) tmp=%r11 %rdi=%rdi %rsi=%rsi %rdx=%rdx
;;| block2:
;;|   movq %rdx, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 7: br_on_non_null
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   testq %rsi, %rsi
;;|   jnz     label2; j label1
;;| block1:
;;|   movq %rdx, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   movl $0x7, %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
