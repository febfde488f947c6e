//! The numbered checks of the table in `traps.md` that have no better place.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use selvedge::{HostError, InstanceHandle, Limits, Member, RuntimeError, TrapCode, Val, Vmctx};
use selvedge_tests::children;
use selvedge_tests::held::Held;
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

use crate::backtraces::behind_marker;

const MARKER: i32 = 0x1234_5671;

#[test]
fn x_01_every_trap_in_every_place_has_its_code_and_its_offset() {
    let zero = "i32.const 0 i32.load";
    let traps = [
        ("", "unreachable", TrapCode::Unreachable),
        (
            "i32.const 131072",
            "i32.load drop",
            TrapCode::HeapOutOfBounds,
        ),
        (
            "i32.const 131066 i32.const 0 i32.const 9",
            "memory.fill",
            TrapCode::HeapOutOfBounds,
        ),
        (
            "i32.const -1",
            "i32.load offset=0xffffffff drop",
            TrapCode::HeapOutOfBounds,
        ),
        (
            "i32.const 1 ZERO",
            "i32.div_u drop",
            TrapCode::IntegerDivisionByZero,
        ),
        (
            "i32.const 0x80000000 ZERO i32.const 1 i32.sub",
            "i32.div_s drop",
            TrapCode::IntegerOverflow,
        ),
        (
            "f32.const nan",
            "i32.trunc_f32_s drop",
            TrapCode::BadConversionToInteger,
        ),
        (
            "i32.const 9",
            "table.get $t drop",
            TrapCode::TableOutOfBounds,
        ),
        (
            "i32.const 9",
            "call_indirect $t",
            TrapCode::UndefinedElement,
        ),
        (
            "i32.const 2",
            "call_indirect $t",
            TrapCode::IndirectCallToNull,
        ),
        (
            "i64.const 0 i32.const 0",
            "call_indirect $t (param i64)",
            TrapCode::BadSignature,
        ),
    ];
    // What surrounds the trap: nothing; a call before it; more values than registers; a frame larger
    // than the guard; a tail call on the way.
    let keep = |count: usize| {
        let loads: String = (0..count)
            .map(|i| format!("i32.const {} i64.load local.set {i} ", i * 8))
            .collect();
        let stores: String = (0..count)
            .map(|i| format!("i32.const {} local.get {i} i64.store ", i * 8))
            .collect();
        (format!("(local {})", "i64 ".repeat(count)), loads, stores)
    };
    let places = [
        ("leaf", keep(0), "call $here"),
        (
            "call",
            (
                String::new(),
                "call $nothing ".into(),
                "call $nothing".into(),
            ),
            "call $here",
        ),
        ("spill", keep(60), "call $here"),
        ("probe", keep(9_000), "call $here"),
        ("tail call", keep(3), "return_call $here"),
    ];
    let sandbox = Sandbox::new();
    for (operands, op, code) in traps {
        let operands = operands.replace("ZERO", zero);
        for (place, (locals, before, after), call) in &places {
            let wat = format!(
                r#"(module (memory 2) (table $t 3 funcref) (elem (i32.const 0) func $nothing)
                    (func $nothing) (func (export "run") {call})
                    (func $here {locals} {before} {operands} i32.const {MARKER} drop {op} {after}))"#
            );
            let wasm = wat::parse_str(&wat).unwrap_or_else(|e| panic!("{e}\n{wat}"));
            let trapped = fault(sandbox.instance(&wat).run("run", &[]));
            assert_eq!(trapped.code, code, "{op} in {place}");
            let expected = Some(behind_marker(&wasm, MARKER));
            assert_eq!(
                trapped.backtrace.frames[0].wasm_offset, expected,
                "{op} in {place}"
            );
            let frames = if *place == "tail call" { 1 } else { 2 };
            assert_eq!(trapped.backtrace.frames.len(), frames, "{op} in {place}");
        }
    }
}

#[test]
fn x_02_overflow_in_every_form_at_every_alignment_is_the_guests_trap() {
    let mut limits = Limits::default();
    limits.stack_len = 64 << 10;
    let mut sandbox = Sandbox::with(1, &limits);
    let nested =
        |vmctx: &Vmctx<'_>| -> Result<(), RuntimeError> { vmctx.call_export("run", &[]).map(drop) };
    sandbox.linker.func("h", "nested", nested).unwrap();
    let many = |count: usize, what: &str| what.repeat(count);
    for padding in 0..16 {
        let locals = format!("(local {})", many(padding, "i64 "));
        let keep: String = (0..padding)
            .map(|i| format!("(local.set {i} (i64.load offset={} (i32.const 0)))", i * 8))
            .collect();
        let give: String = (0..padding)
            .map(|i| format!("(i64.store offset={} (i32.const 0) (local.get {i}))", i * 8))
            .collect();
        let huge = 12_000 + padding;
        let huge_keep: String = (0..huge)
            .map(|i| format!("(local.set {i} (i64.load (i32.const {})))", i * 8))
            .collect();
        let huge_give: String = (0..huge)
            .map(|i| format!("(i64.store (i32.const {}) (local.get {i}))", i * 8))
            .collect();
        let params = 300 + padding;
        let forms = [
            format!("(func $f (export \"run\") {locals} {keep} (call $f) {give})"),
            format!("(func $f (export \"run\") {locals} {keep} (call $nested) {give})"),
            format!(
                "(func $f (param {}) (call $f {}) (i64.store (i32.const 0) (local.get 9)))
                 (func (export \"run\") (call $f {}))",
                many(params, "i64 "),
                (0..params)
                    .map(|i| format!("(local.get {i})"))
                    .collect::<String>(),
                many(params, "(i64.const 1)")
            ),
            format!(
                "(func (export \"run\") (local {}) {huge_keep} (call $nothing) {huge_give})",
                many(huge, "i64 ")
            ),
        ];
        // A frame of 12,000 values is compiled once only: it takes its time.
        let forms = if padding == 0 {
            &forms[..]
        } else {
            &forms[..3]
        };
        for form in forms {
            let wat = format!(
                "(module (import \"h\" \"nested\" (func $nested)) (memory 2) (func $nothing) {form}
                    (func (export \"ok\") (result i32) (i32.const 42)))"
            );
            let mut instance = sandbox.instance(&wat);
            for _ in 0..3 {
                assert_eq!(
                    fault(instance.run("run", &[])).code,
                    TrapCode::StackOverflow
                );
                assert_eq!(returned_i32(instance.run("ok", &[])), 42);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an error of the embedder's, number {0}")]
struct OwnError(i32);

#[test]
fn x_05_whatever_a_host_function_ends_with_at_every_depth() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    // The argument: how deep, how it ends there, and whether the levels above swallow it.
    let func = move |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
        let _count = Count(count.clone());
        let (depth, kind, swallow) = (n & 15, n >> 4 & 15, n >> 8);
        if depth > 1 {
            let below = || vmctx.call_export("run", &[Val::I32(n - 1)]);
            if swallow == 0 {
                return Ok(below()?[0].i32().unwrap());
            }
            let swallowed = catch_unwind(AssertUnwindSafe(below));
            assert!(!matches!(swallowed, Ok(Ok(_))) || depth > 2);
            return Ok(7);
        }
        match kind {
            0 => Err(TrapCode::NullReference.into()),
            1 => Err(HostError::new("in words")),
            2 => Err(HostError::new(OwnError(n))),
            3 => Err(HostError::terminate(n)),
            _ => std::panic::resume_unwind(Box::new(n)),
        }
    };
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f (param i32) (result i32)))
            (func (export "run") (param i32) (result i32) (call $f (local.get 0))))"#,
    );
    for depth in 1..=3 {
        for kind in 0..5 {
            dropped.store(0, Relaxed);
            let n = depth | kind << 4;
            let bottom = n - depth + 1;
            let run = |instance: &mut InstanceHandle| instance.run("run", &[Val::I32(n)]);
            let ended = catch_unwind(AssertUnwindSafe(|| run(&mut instance)));
            match (kind, ended) {
                (0, Ok(Err(RuntimeError::RuntimeFault(fault)))) => {
                    assert_eq!(fault.code, TrapCode::NullReference);
                    assert_eq!(fault.backtrace.frames.len(), depth as usize);
                }
                (1, Ok(Err(RuntimeError::HostFunction(error)))) => {
                    assert_eq!(error.to_string(), "in words");
                }
                (2, Ok(Err(RuntimeError::HostFunction(error)))) => {
                    assert_eq!(error.downcast_ref::<OwnError>().unwrap().0, bottom);
                }
                (3, Ok(Err(RuntimeError::RuntimeTerminated(details)))) => {
                    let value = details.provided_details().unwrap().downcast_ref();
                    assert_eq!(value, Some(&bottom));
                }
                (4, Err(payload)) => assert_eq!(payload.downcast_ref(), Some(&bottom)),
                (_, other) => panic!("{depth} {kind}: {other:?}"),
            }
            assert_eq!(dropped.load(Relaxed), depth as usize);
            // Ended from the host's side, the guest must begin anew.
            assert_eq!(instance.is_terminated(), kind >= 3);
            if kind >= 3 {
                instance.reset().unwrap();
            }
            if depth > 1 {
                let swallowed = instance.run("run", &[Val::I32(n | 1 << 8)]);
                assert_eq!(returned_i32(swallowed), 7, "the outermost goes on");
            }
        }
    }
}

#[test]
fn x_09_threads_that_end_give_their_stacks_back() {
    children::check_ends("checklist::child", "threads", 0);
}

/// Not a test of its own: the body of a child.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    assert_eq!(case, "threads");
    let sandbox = Sandbox::new();
    let program = sandbox.program("(module (func (export \"run\") unreachable))");
    let run = |threads: usize| {
        for _ in 0..threads {
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let mut instance = sandbox.region.new_instance(&program).unwrap();
                    fault(instance.run("run", &[]));
                });
                // The scope alone would wait for the closure, not for destructors of thread-locals: the next
                // thread could come before this one has given its stack back.
                thread.join().unwrap();
            });
        }
    };
    run(500);
    let early = Held::now();
    run(10_000);
    early.check_flat();
}

#[test]
fn x_12_random_modules_see_the_context_where_the_runtime_put_it() {
    let sandbox = Sandbox::new();
    let mut random = Random::new(12);
    for _ in 0..60 {
        let mut fields = String::new();
        let mut checks = Vec::new();
        for memory in 0..random.below(4) {
            let pages = 1 + random.below(5);
            fields += &format!("(memory $m{memory} {pages} 9)");
            fields +=
                &format!("(func (export \"m{memory}\") (result i32) (memory.size $m{memory}))");
            checks.push((format!("m{memory}"), pages as i32));
        }
        for table in 0..random.below(5) {
            let len = random.below(70_000);
            let max = ["", "70000", "65536"][random.below(3)];
            let len = if max.is_empty() { len } else { len.min(65_536) };
            fields += &format!("(table $t{table} {len} {max} funcref)");
            fields += &format!("(func (export \"t{table}\") (result i32) (table.size $t{table}))");
            checks.push((format!("t{table}"), len as i32));
        }
        for global in 0..random.below(40) {
            let value = random.below(1 << 30) as i32;
            let (ty, get) = match random.below(4) {
                0 => (format!("i32 (i32.const {value})"), "(global.get $G)"),
                1 => (
                    format!("(mut i64) (i64.const {value})"),
                    "(i32.wrap_i64 (global.get $G))",
                ),
                2 => (
                    format!("(mut v128) (v128.const i32x4 0 0 0 {value})"),
                    "(i32x4.extract_lane 3 (global.get $G))",
                ),
                _ => (
                    format!("(mut f64) (f64.const {value})"),
                    "(i32.trunc_f64_s (global.get $G))",
                ),
            };
            let get = get.replace('G', &format!("g{global}"));
            fields += &format!("(global $g{global} {ty})");
            fields += &format!("(func (export \"g{global}\") (result i32) {get})");
            checks.push((format!("g{global}"), value));
        }
        let mut instance = sandbox.instance(&format!(
            "(module {fields} (func (export \"trap\") unreachable))"
        ));
        for (name, expected) in &checks {
            assert_eq!(
                returned_i32(instance.run(name, &[])),
                *expected,
                "{name}: {fields}"
            );
        }
        fault(instance.run("trap", &[]));
    }
}

#[test]
fn x_13_modules_with_memories_of_their_own_imported_or_none_share_everything() {
    let memories = ["(memory 1)", "(import \"base\" \"m\" (memory 1))", ""];
    for base_memory in ["(memory (export \"m\") 1)"] {
        for user_memory in memories {
            let sandbox = Sandbox::new();
            let mut instance = sandbox.instance(&format!(
                r#"(module {base_memory} (table (export "t") 4 funcref) (global (export "g") (mut i32) (i32.const 1))
                    (elem (i32.const 0) func $add $trap)
                    (func $add (export "add") (param i32) (result i32)
                        (global.set 0 (i32.add (global.get 0) (local.get 0))) (global.get 0))
                    (func $trap (export "trap") (param i32) (result i32)
                        (i32.div_u (local.get 0) (i32.load (i32.const 1024))))
                    (func (export "tail") (param i32) (result i32) (return_call $add (local.get 0))))"#
            ));
            instance.set_member_name("base", Member::MAIN).unwrap();
            let imports_first = user_memory.starts_with("(import");
            let (first, last) = if imports_first {
                (user_memory, "")
            } else {
                ("", user_memory)
            };
            let user = sandbox.module(&format!(
                r#"(module {first} (import "base" "add" (func $add (param i32) (result i32)))
                    (import "base" "trap" (func $trap (param i32) (result i32)))
                    (import "base" "tail" (func $tail (param i32) (result i32)))
                    (import "base" "t" (table 4 funcref)) (import "base" "g" (global $g (mut i32))) {last}
                    (type $f (func (param i32) (result i32)))
                    (func (export "all") (param i32) (result i32)
                        (drop (call $add (local.get 0))) (drop (call $tail (local.get 0)))
                        (drop (call_indirect (type $f) (local.get 0) (i32.const 0)))
                        (i32.mul (global.get $g) (i32.const 2)))
                    (func (export "trap") (param i32) (result i32) (call $trap (local.get 0)))
                    (func (export "indirect trap") (param i32) (result i32)
                        (call_indirect (type $f) (local.get 0) (i32.const 1)))
                    (func (export "tail trap") (param i32) (result i32) (return_call $trap (local.get 0))))"#
            ));
            let member = instance.link(&sandbox.linker, &user).unwrap();
            let mut expected = 1;
            for n in 1..20 {
                expected += 3 * n;
                let all = instance.run_member(member, "all", &[Val::I32(n)]);
                assert_eq!(returned_i32(all), 2 * expected, "{user_memory}");
                for name in ["trap", "indirect trap", "tail trap"] {
                    let trapped = fault(instance.run_member(member, name, &[Val::I32(n)]));
                    assert_eq!(trapped.code, TrapCode::IntegerDivisionByZero, "{name}");
                }
                assert_eq!(instance.global("g").unwrap().i32(), Some(expected));
            }
        }
    }
}

#[test]
fn x_14_a_table_element_is_called_as_what_it_is_however_it_got_there() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, n: i32| n + 100)
        .unwrap();
    for table in ["(table $t 8 20 funcref)", "(table $t 8 funcref)"] {
        let mut instance = sandbox.instance(&format!(
            r#"(module (import "h" "f" (func $host (param i32) (result i32))) {table}
                (export "t" (table $t)) (type $f (func (param i32) (result i32)))
                (elem (table $t) (i32.const 0) func $own $host $other)
                (elem $e func $own $host $other)
                (func $own (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
                (func $other (param i64) (result i32) (i32.const 9))
                (func (export "call") (param i32) (result i32)
                    (call_indirect $t (type $f) (i32.const 5) (local.get 0)))
                (func (export "init") (table.init $t $e (i32.const 3) (i32.const 0) (i32.const 3)))
                (func (export "copy") (table.copy $t $t (i32.const 4) (i32.const 0) (i32.const 3)))
                (func (export "fill") (table.fill $t (i32.const 3) (table.get $t (i32.const 1)) (i32.const 2)))
                (func (export "clear") (table.fill $t (i32.const 0) (ref.null func) (i32.const 8)))
                (func (export "grow") (result i32) (table.grow $t (table.get $t (i32.const 0)) (i32.const 2)))
                (func (export "own") (result funcref) (table.get $t (i32.const 0)))
                (elem declare func $own))"#
        ));
        // What a call of each element gives: a value, or why not.
        let elements = |instance: &mut InstanceHandle| -> Vec<Result<i32, TrapCode>> {
            (0..11)
                .map(|i| match instance.run("call", &[Val::I32(i)]) {
                    Ok(result) => Ok(i32::from(result.unwrap_returned())),
                    Err(error) => Err(fault::<()>(Err(error)).code),
                })
                .collect()
        };
        let (own, host) = (Ok(6), Ok(105));
        let null = Err(TrapCode::IndirectCallToNull);
        let (other, none) = (Err(TrapCode::BadSignature), Err(TrapCode::UndefinedElement));
        let mut expected = vec![
            own, host, other, null, null, null, null, null, none, none, none,
        ];
        assert_eq!(elements(&mut instance), expected);
        instance.run("init", &[]).unwrap();
        expected[3..6].clone_from_slice(&[own, host, other]);
        assert_eq!(elements(&mut instance), expected);
        instance.run("copy", &[]).unwrap();
        expected[4..7].clone_from_slice(&[own, host, other]);
        assert_eq!(elements(&mut instance), expected);
        instance.run("fill", &[]).unwrap();
        expected[3..5].clone_from_slice(&[host, host]);
        assert_eq!(elements(&mut instance), expected);
        assert_eq!(returned_i32(instance.run("grow", &[])), 8);
        expected[8..10].clone_from_slice(&[own, own]);
        assert_eq!(elements(&mut instance), expected);
        let kept = returned(instance.run("own", &[])).remove(0);
        instance.run("clear", &[]).unwrap();
        expected[..8].fill(null);
        assert_eq!(elements(&mut instance), expected);
        instance.table_set("t", 7, &kept).unwrap();
        expected[7] = own;
        assert_eq!(elements(&mut instance), expected);
    }
}

#[test]
fn x_16_every_width_at_the_end_of_memory() {
    let widths = [
        ("load8_u", 1u64),
        ("load16_u", 2),
        ("load32_u", 4),
        ("load", 8),
    ];
    let guard = 2u64 << 30;
    let mut fields = String::new();
    for (op, width) in widths {
        for (number, (memory, index)) in [("$a", "i32"), ("$b", "i32"), ("$c", "i64")]
            .into_iter()
            .enumerate()
        {
            for (tag, offset) in [
                ("none", 0),
                ("page", 65_536 - width),
                ("max", u32::MAX.into()),
            ] {
                fields += &format!(
                    "(func (export \"{width} {number} {tag}\") (param {index}) (result i64)
                        (i64.{op} {memory} offset={offset} (local.get 0)))"
                );
            }
        }
    }
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&format!(
        "(module (memory $a 1 1) (memory $b 1 1) (memory $c i64 1 1) {fields})"
    ));
    let size = 65_536u64;
    for (_, width) in widths {
        for number in 0..3 {
            for (tag, offset) in [
                ("none", 0),
                ("page", 65_536 - width),
                ("max", u64::from(u32::MAX)),
            ] {
                for at in [
                    0,
                    1,
                    size - width,
                    size - width + 1,
                    size - 1,
                    size,
                    size + guard - 1,
                    u32::MAX.into(),
                ] {
                    let index = if number == 2 {
                        Val::I64(at.cast_signed())
                    } else {
                        Val::I32(at as i32)
                    };
                    let name = format!("{width} {number} {tag}");
                    let result = instance.run(&name, &[index]);
                    let start = at + offset;
                    if start + width <= size {
                        assert_eq!(returned(result)[0].i64(), Some(0), "{name} at {at}");
                        continue;
                    }
                    let fault = fault(result);
                    assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{name} at {at}");
                    assert_eq!(
                        fault.memory_address(),
                        Some(start.max(size)),
                        "{name} at {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn x_18_an_instance_that_fails_at_any_step_gives_its_slot_back() {
    let mut limits = Limits::default();
    limits.memory_len = 1 << 20;
    limits.table_elements = 100;
    let mut sandbox = Sandbox::with(2, &limits);
    sandbox
        .linker
        .func("h", "fail", |_: &Vmctx<'_>| -> Result<(), HostError> {
            Err(HostError::new("not today"))
        })
        .unwrap();
    let modules = [
        // Limits, elements, data, in the order in which they come.
        "(module (memory 17))",
        "(module (memory 1) (memory 17))",
        "(module (table 101 funcref))",
        "(module (memory 1) (memory 1) (table 3 funcref) (elem (i32.const 1) func $f $f $f) (func $f))",
        "(module (memory 1) (memory 2) (data (memory 1) (i32.const 131072) \"x\"))",
        "(module (memory 1) (data (i32.const 0) \"fits\") (data (i32.const 65534) \"does not\"))",
    ];
    for round in 0..50 {
        for wat in modules {
            let module = sandbox.module(wat);
            let made = sandbox
                .linker
                .program(&module)
                .and_then(|program| sandbox.region.new_instance(&program).map(drop));
            assert!(made.is_err(), "{wat}");
            assert_eq!(sandbox.region.used_slots(), 0, "{round}: {wat}");
        }
        for body in ["unreachable", "(call $fail)", "(call $start)"] {
            let mut instance = sandbox.instance(&format!(
                "(module (import \"h\" \"fail\" (func $fail)) (memory 1) (func $start {body}) (start $start))"
            ));
            assert!(instance.run_start().is_err());
            drop(instance);
            assert_eq!(sandbox.region.used_slots(), 0, "{body}");
        }
        // The last slot is taken, and everything before it is given back.
        let full: Vec<_> = (0..2)
            .map(|_| sandbox.instance("(module (memory 1))"))
            .collect();
        let program = sandbox.program("(module (memory 1) (memory 1))");
        let refused = sandbox.region.new_instance(&program);
        assert!(matches!(refused, Err(RuntimeError::RegionFull { .. })));
        drop(full);
        assert_eq!(sandbox.region.used_slots(), 0);
    }
    let mut works = sandbox.instance(
        "(module (memory 1) (func (export \"run\") (result i32) (i32.load8_u (i32.const 3))))",
    );
    assert_eq!(returned_i32(works.run("run", &[])), 0);
}
