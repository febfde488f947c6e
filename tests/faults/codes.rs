//! Each trap code from real guest code, with its place in memory where it has one.

use selvedge::TrapCode::{self, *};
use selvedge::{Engine, FaultDetails, InstanceHandle, Linker, OptLevel, Settings, Val};
use selvedge_tests::sandbox::{self, Sandbox, fault, returned_i32};

/// Instances of a module, as each optimisation level compiles it.
fn instances(wat: &str) -> Vec<InstanceHandle> {
    let levels = [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize];
    levels
        .into_iter()
        .map(|level| {
            let engine = Engine::new(&Settings::default().with_opt_level(level)).unwrap();
            let module = engine
                .compile(wat.as_bytes())
                .unwrap_or_else(|e| panic!("{e}\n{wat}"));
            let program = Linker::new(&engine).program(&module).unwrap();
            let region = sandbox::region(&engine, 1, &selvedge::Limits::default());
            region.new_instance(&program).unwrap()
        })
        .collect()
}

/// Runs the body of a function in a module with a memory of one page and a table of 4, and an import of
/// everything that may be called.
fn faults(body: &str) -> Vec<FaultDetails> {
    let module = format!(
        r#"(module (memory 1 3) (table $t 4 10 funcref) (table $heap 4 funcref)
            (data $d "0123456789") (elem $e funcref (ref.func $f) (ref.func $f))
            (elem (table $t) (i32.const 0) func $f $g) (elem (table $heap) (i32.const 0) func $f $g)
            (func $f) (func $g (param i64) (result i64) (local.get 0))
            (func (export "ok") (result i32) (i32.const 42))
            (func (export "run") {body}))"#
    );
    instances(&module)
        .iter_mut()
        .map(|instance| {
            let fault = fault(instance.run("run", &[]));
            assert_eq!(
                returned_i32(instance.run("ok", &[])),
                42,
                "usable afterwards"
            );
            fault
        })
        .collect()
}

/// Checks the code of the body's fault.
fn check(body: &str, code: TrapCode) {
    for fault in faults(body) {
        assert_eq!(fault.code, code, "{body}");
        assert_eq!(fault.backtrace.frames.len(), 1, "{body}");
        assert_eq!(fault.backtrace.frames[0].func_name.as_deref(), Some("run"));
    }
}

/// Checks that the body's fault is an access outside memory, and where.
fn check_memory(body: &str, offset: Option<u64>) {
    for fault in faults(body) {
        assert_eq!(fault.code, HeapOutOfBounds, "{body}");
        assert_eq!(fault.memory_address(), offset, "{body}");
    }
}

#[test]
fn unreachable_traps() {
    check("unreachable", Unreachable);
    check("(block (br_if 0 (i32.const 0)) unreachable)", Unreachable);
}

#[test]
fn division_by_zero_traps() {
    for ty in ["i32", "i64"] {
        for op in ["div_s", "div_u", "rem_s", "rem_u"] {
            check(
                &format!("(drop ({ty}.{op} ({ty}.const 7) ({ty}.const 0)))"),
                IntegerDivisionByZero,
            );
        }
    }
}

#[test]
fn division_overflow_traps_and_its_remainder_does_not() {
    for (ty, min) in [("i32", "0x80000000"), ("i64", "0x8000000000000000")] {
        check(
            &format!("(drop ({ty}.div_s ({ty}.const {min}) ({ty}.const -1)))"),
            IntegerOverflow,
        );
        let wat = format!(
            r#"(module (func (export "run") (param {ty} {ty}) (result {ty})
                ({ty}.rem_s (local.get 0) (local.get 1))))"#
        );
        for mut instance in instances(&wat) {
            let args = match ty {
                "i32" => [Val::I32(i32::MIN), Val::I32(-1)],
                _ => [Val::I64(i64::MIN), Val::I64(-1)],
            };
            let result = instance.run("run", &args).unwrap().unwrap_returned();
            assert_eq!(result.bits(), 0);
        }
    }
}

#[test]
fn operands_known_only_at_run_time_trap_alike() {
    let wat = r#"(module (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
        (func (export "trunc") (param f64) (result i32) (i32.trunc_f64_u (local.get 0))))"#;
    for mut instance in instances(wat) {
        let mut div = |a: i32, b: i32| instance.run("div", &[Val::I32(a), Val::I32(b)]);
        assert_eq!(returned_i32(div(-7, 2)), -3);
        assert_eq!(fault(div(1, 0)).code, IntegerDivisionByZero);
        assert_eq!(fault(div(i32::MIN, -1)).code, IntegerOverflow);
        assert_eq!(returned_i32(div(i32::MIN, 1)), i32::MIN);
        let mut trunc = |a: f64| instance.run("trunc", &[Val::F64(a)]);
        assert_eq!(returned_i32(trunc(-0.99)), 0);
        assert_eq!(fault(trunc(-1.0)).code, IntegerOverflow);
        assert_eq!(fault(trunc(f64::NAN)).code, BadConversionToInteger);
    }
}

#[test]
fn conversions_of_what_is_no_integer_trap() {
    for (int, large) in [("i32", "0x1p33"), ("i64", "0x1p65")] {
        for float in ["f32", "f64"] {
            for sign in ["s", "u"] {
                let op = format!("{int}.trunc_{float}_{sign}");
                check(
                    &format!("(drop ({op} ({float}.const nan)))"),
                    BadConversionToInteger,
                );
                for value in [large, "inf", "-inf", "-0x1p65"] {
                    check(
                        &format!("(drop ({op} ({float}.const {value})))"),
                        IntegerOverflow,
                    );
                }
            }
        }
    }
}

#[test]
fn loads_and_stores_outside_memory_trap_with_the_offset() {
    let first = Some(65536);
    check_memory("(drop (i32.load8_u (i32.const 65536)))", first);
    check_memory("(i32.store8 (i32.const 65536) (i32.const 1))", first);
    check_memory("(drop (i64.load (i32.const 70000)))", Some(70000));
    check_memory("(f64.store (i32.const 70000) (f64.const 1))", Some(70000));
    // The first byte that was refused, not where the access began.
    check_memory("(drop (i64.load (i32.const 65529)))", first);
    check_memory("(drop (i32.load (i32.const 65533)))", first);
    // Index and constant offset are added without wrapping.
    check_memory(
        "(drop (i32.load8_u offset=100 (i32.const -1)))",
        Some((1 << 32) + 99),
    );
    check_memory(
        "(drop (i32.load8_u offset=1000 (i32.const 65000)))",
        Some(66000),
    );
    check_memory("(drop (i32.load (i32.const -1)))", Some((1 << 32) - 1));
}

#[test]
fn accesses_beyond_the_guard_are_checked_and_trap_too() {
    for fault in faults("(drop (i32.load8_u offset=0xffffffff (i32.const -1)))") {
        assert_eq!(fault.code, HeapOutOfBounds);
    }
    for fault in faults("(i64.store offset=0xfffffff8 (i32.const 0x80000000) (i64.const 1))") {
        assert_eq!(fault.code, HeapOutOfBounds);
    }
    for fault in faults("(drop (i32.load offset=0xc0000000 (i32.const 0)))") {
        assert_eq!(fault.code, HeapOutOfBounds);
    }
}

#[test]
fn accesses_around_the_end_of_the_guard_trap_and_reach_no_neighbour() {
    let ops = [
        ("i32.load8_u", "", "drop"),
        ("i32.load16_u", "", "drop"),
        ("i32.load", "", "drop"),
        ("i64.load", "", "drop"),
        ("i32.store8", "(i32.const 255)", "nop"),
        ("i32.store16", "(i32.const -1)", "nop"),
        ("i64.store", "(i64.const -1)", "nop"),
        ("f64.store", "(f64.const 1)", "nop"),
    ];
    let mut funcs = String::new();
    let mut names = Vec::new();
    for (op, value, after) in ops {
        // The guard is 2 GiB; the reservation before it 4 GiB.
        for offset in (0x7fff_fff0u32..=0x8000_0010).chain(0xffff_fff0..=u32::MAX) {
            let name = format!("{op} {offset:#x}");
            funcs += &format!(
                "(func (export \"{name}\") (param i32) ({op} offset={offset} (local.get 0) {value}) {after})\n"
            );
            names.push(name);
        }
    }
    let sandbox = Sandbox::new();
    let program = sandbox.program(&format!("(module (memory 1) {funcs})"));
    // The neighbours are in use, so that a stray access would find something.
    let mut instances: Vec<_> = (0..3)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    for instance in &mut instances {
        for name in &names {
            for index in [0, 1, i32::MAX, i32::MIN, -65536, -16, -8, -4, -1] {
                assert_eq!(
                    fault(instance.run(name, &[Val::I32(index)])).code,
                    HeapOutOfBounds,
                    "{name} {index}"
                );
            }
        }
    }
    assert!(
        instances
            .iter()
            .all(|i| i.heap().unwrap().iter().all(|&b| b == 0))
    );
}

#[test]
fn a_memory_without_pages_traps_at_once() {
    for mut instance in instances(
        r#"(module (memory 0 1) (func (export "run") (drop (i32.load8_u (i32.const 0))))
            (func (export "ok") (drop (memory.grow (i32.const 1))) (drop (i32.load (i32.const 65532)))))"#,
    ) {
        let found = fault(instance.run("run", &[]));
        assert_eq!(
            (found.code, found.memory_address()),
            (HeapOutOfBounds, Some(0))
        );
        instance.run("ok", &[]).unwrap();
        instance.run("run", &[]).unwrap();
    }
}

#[test]
fn bulk_memory_operations_outside_trap_and_change_nothing() {
    check(
        "(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))",
        HeapOutOfBounds,
    );
    check(
        "(memory.copy (i32.const 65530) (i32.const 0) (i32.const 7))",
        HeapOutOfBounds,
    );
    check(
        "(memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))",
        HeapOutOfBounds,
    );
    check(
        "(memory.copy (i32.const 0) (i32.const 0) (i32.const -1))",
        HeapOutOfBounds,
    );
    check(
        "(memory.init $d (i32.const 65530) (i32.const 0) (i32.const 7))",
        HeapOutOfBounds,
    );
    check(
        "(memory.init $d (i32.const 0) (i32.const 5) (i32.const 6))",
        HeapOutOfBounds,
    );
    check(
        "(data.drop $d) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))",
        HeapOutOfBounds,
    );
    let wat = r#"(module (memory 1) (func (export "run") (memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))))"#;
    for mut instance in instances(wat) {
        fault(instance.run("run", &[]));
        assert!(instance.heap().unwrap().iter().all(|&b| b == 0));
    }
}

#[test]
fn table_accesses_outside_trap() {
    for table in ["$t", "$heap"] {
        check(
            &format!("(drop (table.get {table} (i32.const 4)))"),
            TableOutOfBounds,
        );
        check(
            &format!("(drop (table.get {table} (i32.const -1)))"),
            TableOutOfBounds,
        );
        check(
            &format!("(table.set {table} (i32.const 4) (ref.null func))"),
            TableOutOfBounds,
        );
        check(
            &format!("(table.fill {table} (i32.const 2) (ref.null func) (i32.const 3))"),
            TableOutOfBounds,
        );
        check(
            &format!("(table.copy {table} {table} (i32.const 1) (i32.const 0) (i32.const 4))"),
            TableOutOfBounds,
        );
        check(
            &format!("(table.init {table} $e (i32.const 3) (i32.const 0) (i32.const 2))"),
            TableOutOfBounds,
        );
        check(
            &format!(
                "(elem.drop $e) (table.init {table} $e (i32.const 0) (i32.const 0) (i32.const 1))"
            ),
            TableOutOfBounds,
        );
    }
}

#[test]
fn indirect_calls_trap_for_each_reason_with_its_own_code() {
    for table in ["$t", "$heap"] {
        let call = |index: i32| format!("(call_indirect {table} (i32.const {index}))");
        check(&call(4), UndefinedElement);
        check(&call(-1), UndefinedElement);
        check(&call(i32::MIN), UndefinedElement);
        check(&call(2), IndirectCallToNull);
        check(&call(1), BadSignature);
        check(
            &format!(
                "(drop (table.grow {table} (ref.null func) (i32.const 2))) {}",
                call(5)
            ),
            IndirectCallToNull,
        );
        check(
            &format!(
                "(table.set {table} (i32.const 0) (ref.null func)) {}",
                call(0)
            ),
            IndirectCallToNull,
        );
    }
}

#[test]
fn a_mismatched_call_says_both_types() {
    for fault in
        faults("(call_indirect $t (param i32 f32) (i32.const 0) (f32.const 0) (i32.const 1))")
    {
        assert_eq!(fault.code, BadSignature);
        let info = fault.info.unwrap().to_string();
        assert_eq!(
            info,
            "expected (i32, f32) -> (), found (i64) -> (i64) in element 1 of table 0"
        );
    }
}

#[test]
fn recursion_without_end_exhausts_the_stack() {
    let wat = r#"(module (func $f (export "run") (call $f) (call $f)) (func (export "ok") (result i32) (i32.const 42)))"#;
    for mut instance in instances(wat) {
        let fault = fault(instance.run("run", &[]));
        assert_eq!(fault.code, StackOverflow);
        assert_eq!(fault.memory_address(), None);
        assert!(fault.backtrace.omitted > 1000);
        assert_eq!(returned_i32(instance.run("ok", &[])), 42);
    }
}

#[test]
fn a_fault_leaves_memory_and_globals_as_the_guest_left_them() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1) (global (export "g") (mut i32) (i32.const 0))
            (func (export "run") (i32.store (i32.const 8) (i32.const 5)) (global.set 0 (i32.const 6))
                (i32.store (i32.const 65536) (i32.const 7)) (global.set 0 (i32.const 8))))"#,
    );
    fault(instance.run("run", &[]));
    assert_eq!(instance.heap().unwrap()[8], 5);
    assert_eq!(instance.global("g").unwrap().i32(), Some(6));
}

#[test]
fn a_fault_reads_as_a_report() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module $app (memory 1) (func (export "run") (call $inner))
            (func $inner (drop (i32.load (i32.const 65536)))))"#,
    );
    let error = instance.run("run", &[]).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines[0],
        "guest trapped: out of bounds memory access: address 0x10000 of memory 0, which has 0x10000 bytes"
    );
    assert_eq!(lines[1], "wasm backtrace:");
    assert!(
        lines[2].trim_start().starts_with("0: ") && lines[2].ends_with(" - app!inner"),
        "{error}"
    );
    assert!(
        lines[3].trim_start().starts_with("1: ") && lines[3].ends_with(" - app!run"),
        "{error}"
    );
    assert_eq!(lines.len(), 4);
}
