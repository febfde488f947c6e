;; An access whose constant offset the guard covers is an addition and a load; one with 64-bit addresses is
;; checked, and its address is null where the check fails.

(module
    (memory $small 1)
    (memory $large i64 1)
    (func $guarded (param i32) (result i32) (i32.load offset=4 (local.get 0)))
    (func $checked (param i64) (result i32) (i32.load $large offset=4 (local.get 0))))

;;| ==== x86-64-v2 ====
;;| ;; function 0: guarded
;;| function u0:0(i64, i32) -> i32 tail {
;;|     region0 = 0 "heap"
;;|
;;|                                 block0(v0: i64, v1: i32):
;;| @0028                               v2 = uextend.i64 v1
;;| @0028                               v3 = iadd v0, v2
;;| @0028                               v4 = load.i32 user2 little region0 v3+4
;;| @002b                               return v4
;;| }
;;|
;;| ;; function 1: checked
;;| function u0:1(i64, i64) -> i32 tail {
;;|     region0 = 1 "context"
;;|     region1 = 0 "heap"
;;|     sig0 = (i64, i64, i32, i64, i64) tail
;;|
;;|                                 block0(v0: i64, v1: i64):
;;| @0030                               v2 = load.i64 notrap aligned readonly can_move region0 v0-96
;;| @0030                               v3 = load.i64 notrap aligned region0 v0-88
;;| @0030                               v4 = iconst.i64 8
;;| @0030                               v5 = isub v3, v4  ; v4 = 8
;;| @0030                               v6 = icmp ugt v1, v5
;;| @0030                               brif v6, block1, block2
;;|
;;|                                 block1 cold:
;;| @0030                               v7 = iconst.i32 1
;;| @0030                               v8 = iconst.i64 4
;;| @0030                               v9 = load.i64 notrap aligned readonly can_move region0 v0-64
;;| @0030                               v10 = iconst.i64 128
;;| @0030                               v11 = iadd v9, v10  ; v10 = 128
;;| @0030                               v12 = load.i64 notrap aligned readonly can_move region0 v11
;;| @0030                               call_indirect sig0, v12(v11, v0, v7, v1, v8)  ; v7 = 1, v8 = 4
;;| @0030                               trap user2
;;|
;;|                                 block2:
;;| @0030                               v13 = iconst.i64 4
;;| @0030                               v14 = iadd.i64 v1, v13  ; v13 = 4
;;| @0030                               v15 = iadd.i64 v2, v14
;;| @0030                               v16 = iconst.i64 0
;;| @0030                               v17 = select_spectre_guard v6, v16, v15  ; v16 = 0
;;| @0030                               v18 = load.i32 user2 little region1 v17
;;| @0034                               return v18
;;| }
