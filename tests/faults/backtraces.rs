//! Backtraces: names, indices and offsets of every frame, through host functions and between modules.

use selvedge::{Member, RuntimeError, Val, Vmctx, WasmBacktrace};
use selvedge_tests::sandbox::{Sandbox, fault, returned};

/// Names of the frames, innermost first.
fn names(backtrace: &WasmBacktrace) -> Vec<&str> {
    let name = |frame| -> &str {
        let frame: &selvedge::Frame = frame;
        frame.func_name.as_deref().unwrap_or("?")
    };
    backtrace.frames.iter().map(name).collect()
}

#[test]
fn frames_have_names_from_the_name_section_and_from_exports() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module $mod
            (func $by_name (call 1))
            (func (export "by export") (call 2))
            (func (call $last))
            (func $last unreachable)
            (func (export "run") (call $by_name)))"#,
    );
    let backtrace = fault(instance.run("run", &[])).backtrace;
    assert_eq!(
        names(&backtrace),
        ["last", "?", "by export", "by_name", "run"]
    );
    let indices: Vec<u32> = backtrace.frames.iter().map(|f| f.func_index).collect();
    assert_eq!(indices, [3, 2, 1, 0, 4]);
    assert!(
        backtrace
            .frames
            .iter()
            .all(|f| f.module.as_deref() == Some("mod"))
    );
    assert_eq!(backtrace.omitted, 0);
    assert!(
        backtrace.to_string().contains("mod!<function 2>"),
        "{backtrace}"
    );
}

/// Where the instruction behind a marker (`drop` of a constant) stands in a binary.
pub(crate) fn behind_marker(wasm: &[u8], marker: i32) -> u32 {
    let mut pattern = vec![0x41];
    let mut rest = marker;
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 && byte & 0x40 == 0 {
            pattern.push(byte);
            break;
        }
        pattern.push(byte | 0x80);
    }
    pattern.push(0x1a);
    let found: Vec<usize> = wasm
        .windows(pattern.len())
        .enumerate()
        .filter_map(|(at, window)| (window == pattern).then_some(at + pattern.len()))
        .collect();
    assert_eq!(found.len(), 1, "the marker {marker:#x} stands once");
    found[0] as u32
}

#[test]
fn frames_have_the_offset_of_their_instruction_in_the_file() {
    const A: i32 = 0x1234_5671;
    const B: i32 = 0x2345_6782;
    const C: i32 = 0x3456_7893;
    let wat = format!(
        r#"(module (type $t (func (param i32) (result i32))) (table funcref (elem $b))
            (func $c (param i32) (result i32) (local i64) (local.set 1 (i64.const 5))
                (drop (i32.const {C})) unreachable)
            (func $b (param i32) (result i32)
                (if (local.get 0) (then nop)) (i32.const 1)
                (local.get 0) (drop (i32.const {B})) (call $c) (i32.add))
            (func (export "run") (param i32) (result i32)
                (local.get 0) (i32.const 0) (drop (i32.const {A})) (call_indirect (type $t))))"#
    );
    let wasm = wat::parse_str(&wat).unwrap();
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&wat);
    let backtrace = fault(instance.run("run", &[Val::I32(1)])).backtrace;
    let offsets: Vec<Option<u32>> = backtrace.frames.iter().map(|f| f.wasm_offset).collect();
    let expected = [C, B, A].map(|marker| Some(behind_marker(&wasm, marker)));
    assert_eq!(offsets, expected);
}

#[test]
fn an_access_outside_memory_has_the_offset_of_its_instruction() {
    const MARKER: i32 = 0x1234_5671;
    let wat = format!(
        r#"(module (memory 1) (func (export "run") (param i32) (result i32)
            (drop (i32.load offset=4 (i32.const 0)))
            (local.get 0) (drop (i32.const {MARKER})) (i32.load offset=8)
            (drop (i32.load offset=16 (local.get 0)))))"#
    );
    let wasm = wat::parse_str(&wat).unwrap();
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(&wat);
    let fault = fault(instance.run("run", &[Val::I32(65536)]));
    assert_eq!(fault.memory_address(), Some(65544));
    assert_eq!(
        fault.backtrace.frames[0].wasm_offset,
        Some(behind_marker(&wasm, MARKER))
    );
}

/// A guest that goes through the host: `run(n)` calls `middle`, which calls `h.f(n)`.
const THROUGH: &str = r#"(module
    (import "h" "f" (func $f (param i32)))
    (import "h" "wide" (func $wide (param i32 i32 i32 i32 i32 i32)))
    (func (export "run") (param i32) (call $middle (local.get 0)))
    (func $middle (param i32) (call $f (local.get 0)))
    (func (export "run wide") (param i32) (call $before (local.get 0)))
    (func $before (param i32)
        (call $wide (local.get 0) (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5)))
    (func (export "divide") (param i32) (call $divide (local.get 0)))
    (func $divide (param i32) (drop (i32.div_u (i32.const 1) (local.get 0)))))"#;

fn through() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let call = |vmctx: &Vmctx<'_>, name: &str, n: i32| -> Result<(), RuntimeError> {
        let (name, n) = if n == 0 { ("divide", 0) } else { (name, n - 1) };
        vmctx.call_export(name, &[Val::I32(n)]).map(drop)
    };
    sandbox
        .linker
        .func("h", "f", move |vmctx: &Vmctx<'_>, n: i32| {
            call(vmctx, "run", n)
        })
        .unwrap()
        .func(
            "h",
            "wide",
            move |vmctx: &Vmctx<'_>, n: i32, _: i32, _: i32, _: i32, _: i32, _: i32| {
                call(vmctx, "run wide", n)
            },
        )
        .unwrap();
    sandbox
}

#[test]
fn a_backtrace_goes_on_behind_host_functions() {
    let sandbox = through();
    let mut instance = sandbox.instance(THROUGH);
    let backtrace = fault(instance.run("run", &[Val::I32(0)])).backtrace;
    assert_eq!(names(&backtrace), ["divide", "divide", "middle", "run"]);
    let backtrace = fault(instance.run("run", &[Val::I32(2)])).backtrace;
    assert_eq!(
        names(&backtrace),
        [
            "divide", "divide", "middle", "run", "middle", "run", "middle", "run"
        ]
    );
    // Also behind one whose arguments do not fit in registers.
    let backtrace = fault(instance.run("run wide", &[Val::I32(1)])).backtrace;
    assert_eq!(
        names(&backtrace),
        [
            "divide", "divide", "before", "run wide", "before", "run wide"
        ]
    );
}

#[test]
fn a_backtrace_begins_where_a_host_function_trapped() {
    let mut sandbox = Sandbox::new();
    let trap = |_: &Vmctx<'_>, _: i32| -> Result<(), selvedge::TrapCode> {
        Err(selvedge::TrapCode::NullReference)
    };
    sandbox.linker.func("h", "f", trap).unwrap();
    let wide = |_: &Vmctx<'_>,
                _: i32,
                _: i32,
                _: i32,
                _: i32,
                _: i32,
                _: i32|
     -> Result<(), selvedge::TrapCode> { Err(selvedge::TrapCode::NullReference) };
    sandbox.linker.func("h", "wide", wide).unwrap();
    let mut instance = sandbox.instance(THROUGH);
    let backtrace = fault(instance.run("run", &[Val::I32(0)])).backtrace;
    assert_eq!(names(&backtrace), ["middle", "run"]);
    let backtrace = fault(instance.run("run wide", &[Val::I32(0)])).backtrace;
    assert_eq!(names(&backtrace), ["before", "run wide"]);
}

#[test]
fn a_backtrace_begins_where_the_runtime_trapped_for_the_guest() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1) (table 1 funcref)
            (func (export "run") (call $fill))
            (func $fill (memory.fill (i32.const 65536) (i32.const 0) (i32.const 1)))
            (func (export "run call") (call $call))
            (func $call (call_indirect (i32.const 0))))"#,
    );
    let backtrace = fault(instance.run("run", &[])).backtrace;
    assert_eq!(names(&backtrace), ["fill", "run"]);
    let backtrace = fault(instance.run("run call", &[])).backtrace;
    assert_eq!(names(&backtrace), ["call", "run call"]);
}

#[test]
fn a_backtrace_names_the_module_of_each_frame() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module $lib (func (export "fail") (call $deeper)) (func $deeper unreachable))"#,
    );
    instance.set_member_name("lib", Member::MAIN).unwrap();
    let app = sandbox.module(
        r#"(module $app (import "lib" "fail" (func $fail)) (table funcref (elem $fail))
            (func (export "run") (call $fail))
            (func (export "indirect") (call_indirect (i32.const 0))))"#,
    );
    let app = instance.link(&sandbox.linker, &app).unwrap();
    for name in ["run", "indirect"] {
        let backtrace = fault(instance.run_member(app, name, &[])).backtrace;
        let frames: Vec<String> = backtrace
            .frames
            .iter()
            .map(|f| {
                format!(
                    "{}!{}",
                    f.module.as_deref().unwrap(),
                    f.func_name.as_deref().unwrap()
                )
            })
            .collect();
        assert_eq!(frames, ["lib!deeper", "lib!fail", &format!("app!{name}")]);
    }
}

#[test]
fn recursion_is_cut_at_the_limit_and_the_rest_is_counted() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (func $f (export "run") (param i32)
            (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else unreachable))
            (drop (i32.const 1))))"#,
    );
    let backtrace = fault(instance.run("run", &[Val::I32(999)])).backtrace;
    assert_eq!(backtrace.frames.len(), 64);
    assert_eq!(backtrace.omitted, 1000 - 64);
    assert!(
        backtrace.to_string().ends_with("... 936 more frames"),
        "{backtrace}"
    );
}

#[test]
fn a_trap_in_a_functions_first_instructions_has_its_callers() {
    // An overflow strikes in a prologue, before the frame is made.
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (func $f (call $g)) (func $g (call $f)) (func (export "run") (call $f)))"#,
    );
    let backtrace = fault(instance.run("run", &[])).backtrace;
    let names = names(&backtrace);
    assert!(
        names.iter().all(|name| ["f", "g"].contains(name)),
        "{names:?}"
    );
    // Beyond the first two, callers and callees alternate.
    assert!(
        names[2..].windows(2).all(|pair| pair[0] != pair[1]),
        "{names:?}"
    );
}

#[test]
fn a_backtrace_is_only_of_the_instance_that_trapped() {
    let mut sandbox = Sandbox::new();
    let inner = std::sync::Mutex::new(
        sandbox.instance(r#"(module $inner (func (export "run") unreachable))"#),
    );
    sandbox
        .linker
        .func("h", "f", move |_: &Vmctx<'_>| -> Result<(), RuntimeError> {
            inner.lock().unwrap().run("run", &[]).map(drop)
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module $outer (import "h" "f" (func $f)) (func (export "run") (call $f)) (func (export "ok")))"#,
    );
    let backtrace = fault(instance.run("run", &[])).backtrace;
    assert_eq!(backtrace.frames.len(), 1);
    assert_eq!(backtrace.frames[0].module.as_deref(), Some("inner"));
    returned(instance.run("ok", &[]));
}

#[test]
fn an_export_that_tail_calls_the_host_has_a_backtrace() {
    let mut sandbox = Sandbox::new();
    let end =
        |_: &Vmctx<'_>| -> Result<(), selvedge::TrapCode> { Err(selvedge::TrapCode::Unreachable) };
    sandbox.linker.func("h", "f", end).unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "f" (func $f)) (func (export "run") (return_call $f))
            (func $middle (return_call $f)) (func (export "through") (call $middle)))"#,
    );
    // The frames of those that tail called are gone, and there may be none at all.
    assert!(names(&fault(instance.run("run", &[])).backtrace).is_empty());
    assert_eq!(
        names(&fault(instance.run("through", &[])).backtrace),
        ["through"]
    );
}

#[test]
fn a_host_function_sees_where_its_callers_stand() {
    let mut sandbox = Sandbox::new();
    let (tell, told) = std::sync::mpsc::channel();
    let here = move |vmctx: &Vmctx<'_>| {
        tell.send(vmctx.backtrace()).unwrap();
    };
    let again = |vmctx: &Vmctx<'_>| vmctx.call_export("inner", &[]).map(drop);
    sandbox
        .linker
        .func("h", "here", here)
        .unwrap()
        .func("h", "again", again)
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module $mod
            (import "h" "here" (func $here))
            (import "h" "again" (func $again))
            (export "here" (func $here))
            (func $f (call $here))
            (func $wide (param i64 i64 i64 i64 i64 i64) (call $f) (call $here))
            (func $inner (export "inner")
                (call $wide (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6)))
            (func $middle (call $again) (call $here))
            (func $outer (export "outer") (call $middle) (return_call $here)))"#,
    );
    returned(instance.run("outer", &[]));
    let expected: [&[&str]; 3] = [
        &["f", "wide", "inner", "middle", "outer"],
        &["wide", "inner", "middle", "outer"],
        &["middle", "outer"],
    ];
    for names_ in expected {
        assert_eq!(names(&told.recv().unwrap()), names_);
    }
    // It is called in the place of the function that the host has called, of which nothing is left.
    assert_eq!(names(&told.recv().unwrap()), [""; 0]);
    returned(instance.run("here", &[]));
    assert_eq!(told.recv().unwrap().frames.len(), 0, "the host calls it");
}

#[test]
fn a_host_function_on_a_stack_of_its_own_sees_them_before_and_after_it_waits() {
    let mut sandbox = Sandbox::new();
    let (tell, told) = std::sync::mpsc::channel();
    sandbox
        .linker
        .suspending_func("h", "wait", move |vmctx: &Vmctx<'_>| {
            tell.send(vmctx.backtrace()).unwrap();
            vmctx.yield_()?;
            tell.send(vmctx.backtrace()).unwrap();
            Ok::<(), selvedge::HostError>(())
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "wait" (func $wait))
            (func $f (call $wait)) (func $g (export "g") (call $f)))"#,
    );
    assert!(instance.run("g", &[]).unwrap().is_yielded());
    assert_eq!(names(&instance.backtrace()), ["f", "g"]);
    returned(instance.resume());
    for _ in 0..2 {
        assert_eq!(names(&told.recv().unwrap()), ["f", "g"]);
    }
}
