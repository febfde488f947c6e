;; Exceptions.
;;
;; A call in a `try_table` is the call and no more: its landing pads stand behind the function, and the runtime
;; finds them by the return address, and vmctx in the frame. No register but the pinned one outlives a throw, so a
;; function with such a call stores the five that its own caller wants preserved, once, as it begins, and
;; what it needs behind the call stands in its frame. A `try_table` without a call in it is nothing.

;;! cpu = x86-64-v2

(module
    (tag $e (param i32))
    (tag $pair (param i32 i64))
    (func $g (param i32) (result i32) (local.get 0))
    (func $plain (param $x i32) (result i32)
        (call $g (local.get $x)))
    (func $caught (param $x i32) (result i32)
        (block $caught (result i32)
            (try_table (result i32) (catch $e $caught)
                (call $g (local.get $x)))))
    (func $caught_all (param $x i32) (result i32)
        (block $caught
            (return (try_table (result i32) (catch_all $caught)
                (call $g (local.get $x)))))
        (i32.const -1))
    (func $keeps (param $x i32) (result i32)
        (i32.add
            (local.get $x)
            (block $caught (result i32)
                (try_table (result i32) (catch $e $caught)
                    (call $g (local.get $x))))))
    (func $nothing_to_catch (param $x i32) (result i32)
        (block $caught (result i32)
            (try_table (result i32) (catch $e $caught)
                (i32.add (local.get $x) (i32.const 1)))))
    (func $throw (param $x i32)
        (throw $e (local.get $x)))
    (func $throw_pair (param $x i32) (param $y i64)
        (throw $pair (local.get $x) (local.get $y)))
    (func $throw_if (param $x i32) (result i32)
        (if (i32.eqz (local.get $x)) (then (throw $e (i32.const 5))))
        (local.get $x)))

;;| ==== x86-64-v2 ====
;;| ;; function 0: g
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movq %rsi, %rax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 1: plain
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   call    User(userextname0)
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 2: caught
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x40, %rsp
;;|   movq %rbx, 0x10(%rsp)
;;|   movq %r12, 0x18(%rsp)
;;|   movq %r13, 0x20(%rsp)
;;|   movq %r14, 0x28(%rsp)
;;|   movq %r15, 0x30(%rsp)
;;| block0:
;;|   movq %rdi, <offset:1>+(%rsp)
;;|   call    User(userextname0); jmp MachLabel(1); catch [context stack0, tag0: MachLabel(3)]
;;| block1:
;;|   jmp     label2
;;| block2:
;;|   jmp     label4
;;| block4:
;;|   movq 0x10(%rsp), %rbx
;;|   movq 0x18(%rsp), %r12
;;|   movq 0x20(%rsp), %r13
;;|   movq 0x28(%rsp), %r14
;;|   movq 0x30(%rsp), %r15
;;|   addq $0x40, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block3:
;;|   movl (%rax), %eax
;;|   jmp     label4
;;|
;;| ;; function 3: caught_all
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x40, %rsp
;;|   movq %rbx, 0x10(%rsp)
;;|   movq %r12, 0x18(%rsp)
;;|   movq %r13, 0x20(%rsp)
;;|   movq %r14, 0x28(%rsp)
;;|   movq %r15, 0x30(%rsp)
;;| block0:
;;|   movq %rdi, <offset:1>+(%rsp)
;;|   call    User(userextname0); jmp MachLabel(1); catch [context stack0, tag2147483646: MachLabel(3)]
;;| block1:
;;|   jmp     label2
;;| block2:
;;|   movq 0x10(%rsp), %rbx
;;|   movq 0x18(%rsp), %r12
;;|   movq 0x20(%rsp), %r13
;;|   movq 0x28(%rsp), %r14
;;|   movq 0x30(%rsp), %r15
;;|   addq $0x40, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block4:
;;|   movl $0xffffffff, %eax
;;|   movq 0x10(%rsp), %rbx
;;|   movq 0x18(%rsp), %r12
;;|   movq 0x20(%rsp), %r13
;;|   movq 0x28(%rsp), %r14
;;|   movq 0x30(%rsp), %r15
;;|   addq $0x40, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block3:
;;|   jmp     label4
;;|
;;| ;; function 4: keeps
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x40, %rsp
;;|   movq %rbx, 0x10(%rsp)
;;|   movq %r12, 0x18(%rsp)
;;|   movq %r13, 0x20(%rsp)
;;|   movq %r14, 0x28(%rsp)
;;|   movq %r15, 0x30(%rsp)
;;| block0:
;;|   movq %rdi, <offset:1>+(%rsp)
;;|   movq %rsi, <offset:1>+8(%rsp)
;;|   call    User(userextname0); jmp MachLabel(1); catch [context stack0, tag0: MachLabel(3)]
;;| block1:
;;|   jmp     label2
;;| block2:
;;|   movq <offset:1>+8(%rsp), %rcx
;;|   jmp     label4
;;| block4:
;;|   leal (%rcx, %rax), %eax
;;|   movq 0x10(%rsp), %rbx
;;|   movq 0x18(%rsp), %r12
;;|   movq 0x20(%rsp), %r13
;;|   movq 0x28(%rsp), %r14
;;|   movq 0x30(%rsp), %r15
;;|   addq $0x40, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block3:
;;|   movl (%rax), %eax
;;|   movq <offset:1>+8(%rsp), %rcx
;;|   jmp     label4
;;|
;;| ;; function 5: nothing_to_catch
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   leal 1(%rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;|
;;| ;; function 6: throw
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x10, %rsp
;;| block0:
;;|   leaq <offset:1>+(%rsp), %rcx
;;|   movl %esi, <offset:1>+(%rsp)
;;|   movq -0x40(%rdi), %r9
;;|   movq %rdi, %rsi
;;|   leaq 0x200(%r9), %rdi
;;|   movq 0x200(%r9), %r9
;;|   xorl %edx, %edx
;;|   call    *%r9
;;|   ud2
;;|
;;| ;; function 7: throw_pair
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x20, %rsp
;;| block0:
;;|   leaq <offset:1>+(%rsp), %rcx
;;|   movl %esi, <offset:1>+(%rsp)
;;|   movq %rdx, <offset:1>+0x10(%rsp)
;;|   movq -0x40(%rdi), %r10
;;|   movq %rdi, %rsi
;;|   leaq 0x200(%r10), %rdi
;;|   movq 0x200(%r10), %r10
;;|   movl $0x1, %edx
;;|   call    *%r10
;;|   ud2
;;|
;;| ;; function 8: throw_if
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;|   subq $0x10, %rsp
;;| block0:
;;|   testl %esi, %esi
;;|   jz      label2; j label1
;;| block1:
;;|   movq %rsi, %rax
;;|   addq $0x10, %rsp
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
;;| block2:
;;|   leaq <offset:1>+(%rsp), %rcx
;;|   movl $0x5, <offset:1>+(%rsp)
;;|   movq -0x40(%rdi), %rax
;;|   movq %rdi, %rsi
;;|   leaq 0x200(%rax), %rdi
;;|   movq 0x200(%rax), %rax
;;|   xorl %edx, %edx
;;|   call    *%rax
;;|   ud2
