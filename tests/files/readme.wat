;; The manual of file tests, which is one itself.
;;
;; A file is a module in the text format. Lines at its top that begin with `;;!` say what is done with it:
;;
;;   kind = asm | clif | trap      without it: the name of the folder that the file is in
;;       asm     shows the machine code of functions, as the code generator lays it out
;;       clif    shows what functions are translated to, before any optimisation
;;       trap    invokes an exported function; shows its results, or the trap and where it was
;;   cpu = x86-64-v2 ...           made for these CPUs, one after the other; without it for x86-64-v2
;;   opt-level = speed             or none, or size
;;   relaxed-simd = fast           or deterministic
;;   bounds = guarded              or explicit: every address is compared with the memory's length
;;   funcs = NAME ...              only these functions, by name or index (asm, clif)
;;   invoke = NAME i32:1 ...       what is called, and with what (trap)
;;
;; What came out stands at the end, each line behind `;;|`. A file is right if it is what comes out now.
;; With BLESS=1 in the environment it is written into the file instead, to be read as a difference:
;;
;;   BLESS=1 cargo test -p selvedge-tests --test files
;;
;; Comments between say what the output is to show; where code is longer than it could be, they say why.
;;
;; To read `asm`: operands are in the order of AT&T, the destination last. A guest function gets its vmctx,
;; which is the base of memory 0, in rdi, and its first arguments in rsi, rdx, rcx, r8, r9 and xmm0 to xmm7;
;; it returns in rax or xmm0. The upper half of a register that holds an i32 is undefined, so an i32 that
;; becomes an address is moved to itself first. Every function keeps a frame pointer, for backtraces. Jumps
;; are shown as the code generator has them before it lays out blocks: of `jz label2; j label1`, and of
;; `jmp label3`, what leads to the next block is no instruction.

;;! kind = asm
;;! cpu = x86-64-v2

(module
    (memory 1)
    (func $third (param $words i32) (result i32)
        (i32.load offset=8 (local.get $words))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: third
;;|   pushq %rbp
;;|   movq %rsp, %rbp
;;| block0:
;;|   movl %esi, %esi
;;|   movl 8(%rdi, %rsi), %eax
;;|   movq %rbp, %rsp
;;|   popq %rbp
;;|   retq
