//! The table of calls and states in `crates/runtime/src/instance/state.rs`: every cell is walked.

use selvedge::{
    FatalFault, Flow, HostError, InstanceHandle, Linker, PreemptSwitch, Program, RuntimeError,
    SignalHandler, Val, Vmctx, Yield,
};
use selvedge_tests::sandbox::Sandbox;

const DOCUMENT: &str = include_str!("../../crates/runtime/src/instance/state.rs");

/// What the table says, cell by cell: call, state, outcome.
fn cells() -> Vec<(String, String, String)> {
    let rows: Vec<Vec<String>> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::to_owned).collect())
        .filter(|row: &Vec<String>| row[0] != "---")
        .collect();
    let (head, rows) = rows.split_first().expect("the document has the table");
    let cells = rows.iter().flat_map(|row| {
        assert_eq!(row.len(), head.len(), "{row:?}");
        let cells = head.iter().zip(row).skip(1);
        cells.map(|(state, cell)| (row[0].clone(), state.clone(), cell.clone()))
    });
    cells.collect()
}

fn guest(start: bool) -> String {
    let start = if start { "(start $nothing)" } else { "" };
    format!(
        r#"(module
            (import "h" "suspend" (func $suspend))
            (import "h" "end" (func $end))
            (import "h" "preempt" (func $preempt))
            (memory (export "memory") 1)
            (table (export "table") 2 funcref)
            (global (export "global") (mut i32) (i32.const 3))
            (func $nothing (export "nothing"))
            (elem (i32.const 1) $nothing)
            (func (export "suspend") (call $suspend))
            (func (export "trap") unreachable)
            (func (export "end") (call $end))
            (func (export "preempt") (call $preempt))
            {start})"#
    )
}

struct World {
    sandbox: Sandbox,
    started: Program,
    plain: Program,
}

impl World {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        sandbox
            .linker
            .func("h", "suspend", |_: &Vmctx<'_>| {
                Flow::from(Yield::returning(()))
            })
            .unwrap()
            .func("h", "end", |_: &Vmctx<'_>| -> Result<(), HostError> {
                Err(HostError::terminate(1u8))
            })
            .unwrap()
            .func("h", "preempt", |vmctx: &Vmctx<'_>| {
                let switch = vmctx.get_embed_ctx::<PreemptSwitch>().unwrap();
                assert!(switch.preempt());
            })
            .unwrap();
        let (started, plain) = (
            sandbox.program(&guest(true)),
            sandbox.program(&guest(false)),
        );
        Self {
            sandbox,
            started,
            plain,
        }
    }

    /// An instance in a state; with a start function if that is wanted or needed.
    fn instance(&self, state: &str, with_start: bool) -> InstanceHandle {
        let with_start = with_start || state == "NotStarted";
        let program = if with_start {
            &self.started
        } else {
            &self.plain
        };
        let mut instance = self.sandbox.region.new_instance(program).unwrap();
        if with_start && state != "NotStarted" {
            instance.run_start().unwrap();
        }
        match state {
            "NotStarted" | "Ready" => {}
            "Yielded" => assert!(instance.run("suspend", &[]).unwrap().is_yielded()),
            "Preempted" => {
                let switch = instance.preempt_switch().unwrap();
                instance.insert_embed_ctx(switch);
                assert!(instance.run("preempt", &[]).unwrap().is_preempted());
            }
            "Faulted" => assert!(instance.run("trap", &[]).is_err()),
            "Terminated" => assert!(instance.run("end", &[]).is_err()),
            other => panic!("there is no state {other}"),
        }
        assert_eq!(state_of(&instance), state);
        instance
    }
}

/// The state, by the predicates: exactly one of them holds.
fn state_of(instance: &InstanceHandle) -> &'static str {
    let predicates = [
        ("NotStarted", instance.is_not_started()),
        ("Ready", instance.is_ready()),
        ("Yielded", instance.is_yielded()),
        ("Preempted", instance.is_preempted()),
        ("Faulted", instance.is_faulted()),
        ("Terminated", instance.is_terminated()),
    ];
    let mut holding = predicates.iter().filter(|(_, holds)| *holds);
    let (state, _) = holding.next().expect("one predicate holds");
    assert!(holding.next().is_none(), "two predicates hold");
    state
}

fn outcome<T>(result: Result<T, RuntimeError>, fine: &'static str) -> String {
    match result {
        Ok(_) => fine.to_owned(),
        Err(RuntimeError::InstanceNeedsStart) => "InstanceNeedsStart".to_owned(),
        Err(RuntimeError::StartAlreadyRun) => "StartAlreadyRun".to_owned(),
        Err(RuntimeError::InvalidArgument(_)) => "InvalidArgument".to_owned(),
        Err(RuntimeError::InstancePreempted) => "InstancePreempted".to_owned(),
        Err(other) => panic!("{other}"),
    }
}

extern "C" fn tell_nobody(_: &FatalFault) {}

/// Changes what the guest has; all of it is allowed, or none.
fn change(instance: &mut InstanceHandle) -> String {
    let results = [
        instance.heap_mut().map(|mut heap| heap[0] = 1),
        instance
            .memory_mut("memory")
            .map(|mut memory| memory[0] = 1),
        instance.heap_u32_mut().map(|mut words| words[1] = 1),
        instance.grow_memory(0).map(drop),
        instance.globals_mut().set(0, &Val::I32(5)),
        instance.set_global("global", &Val::I32(4)),
        instance.table_set("table", 0, &Val::FuncRef(None)),
    ];
    let mut outcomes = results.map(|result| outcome(result, "allowed")).to_vec();
    outcomes.dedup();
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

/// Does what everybody may do in every state.
fn everything_else(instance: &mut InstanceHandle) {
    assert!(!instance.heap().unwrap().is_empty());
    assert_eq!(instance.heap_u32().unwrap().len(), 1 << 14);
    let first = instance.heap().unwrap().as_ptr();
    assert!(instance.check_heap(first, 1));
    assert!(instance.globals().get(0).is_some());
    instance.set_signal_handler(SignalHandler::default());
    instance.set_fatal_handler(|_| std::process::abort());
    instance.set_c_fatal_handler(tell_nobody);
    assert!(instance.global("global").unwrap().i32().is_some());
    assert_eq!(instance.table_len("table").unwrap(), 2);
    assert!(instance.typed_func::<(), ()>("nothing").is_ok());
    assert_eq!(instance.insert_embed_ctx(1u8), None);
    assert!(instance.contains_embed_ctx::<u8>());
    assert!(instance.get_embed_ctx::<u8>().unwrap().is_ok());
    assert!(instance.get_embed_ctx_mut::<u8>().unwrap().is_ok());
    assert_eq!(instance.remove_embed_ctx::<u8>(), Some(1));
    assert_eq!(instance.get_instruction_count(), None);
    instance.set_catch_panics(false);
    drop(instance.kill_switch());
    assert!(instance.member_module(selvedge::Member::MAIN).is_ok());
}

#[test]
fn every_cell_of_the_table_of_calls_and_states_holds() {
    let world = World::new();
    let mut walked = 0;
    for (call, state, expected) in cells() {
        if expected == "-" {
            continue;
        }
        let mut instance = world.instance(&state, call == "`run_start`, there is one");
        let typed = instance.typed_func::<(), ()>("nothing").unwrap();
        let found = match &*call {
            "`run`" => outcome(instance.run("nothing", &[]), "runs"),
            "`run_func_idx`" => outcome(instance.run_func_idx(0, 1, &[]), "runs"),
            "`run_func`" => {
                let Some(Val::FuncRef(Some(func))) = instance.table_get("table", 1).unwrap() else {
                    panic!("the table has a function")
                };
                outcome(instance.run_func(func, &[]), "runs")
            }
            "`TypedFunc::call`" => outcome(typed.call(&mut instance, ()), "runs"),
            "`run_start`, there is one" => outcome(instance.run_start(), "runs"),
            "`run_start`, there is none" => outcome(instance.run_start(), "nothing"),
            "`resume`" => outcome(instance.resume(), "runs"),
            "`resume_with_val`" if expected == "runs" => {
                // The guest of the other cells expects nothing; this one is of a function that does.
                assert!(outcome(instance.resume_with_val(1u8), "runs") == "InvalidArgument");
                assert_eq!(state_of(&instance), "Yielded");
                expecting_value()
            }
            "`resume_with_val`" => outcome(instance.resume_with_val(1u8), "runs"),
            "`link`" => {
                let module = world.sandbox.module("(module)");
                let linker = Linker::new(&world.sandbox.engine);
                outcome(instance.link(&linker, &module), "links")
            }
            "`reset`" => outcome(instance.reset(), "resets"),
            "changing memories, tables, globals" => change(&mut instance),
            "everything else" => {
                everything_else(&mut instance);
                "allowed".to_owned()
            }
            other => panic!("the test knows no call {other}"),
        };
        assert_eq!(found, expected, "{call} in {state}");
        let after = match &*expected {
            "runs" | "resets" if state != "NotStarted" || expected == "runs" => "Ready",
            _ => &*state,
        };
        if call != "`resume_with_val`" {
            assert_eq!(state_of(&instance), after, "after {call} in {state}");
        }
        walked += 1;
    }
    assert_eq!(walked, 12 * 6 - 1);
}

/// A suspended guest that is resumed with the value that it expects.
fn expecting_value() -> String {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>| -> Flow<()> {
            Yield::expecting(|_: &Vmctx<'_>, _: u8| Ok(Flow::Return(()))).into()
        })
        .unwrap();
    let mut instance =
        sandbox.instance(r#"(module (import "h" "f" (func $f)) (func (export "run") (call $f)))"#);
    instance.run("run", &[]).unwrap();
    outcome(instance.resume_with_val(1u8), "runs")
}

#[test]
fn a_call_that_does_not_fit_leaves_the_state_as_it_is() {
    let world = World::new();
    for state in [
        "NotStarted",
        "Ready",
        "Yielded",
        "Preempted",
        "Faulted",
        "Terminated",
    ] {
        let mut instance = world.instance(state, false);
        assert!(matches!(
            instance.run("absent", &[]),
            Err(RuntimeError::UnknownExport { .. })
        ));
        assert!(instance.run("nothing", &[Val::I32(1)]).is_err());
        assert!(instance.run_func_idx(0, 0, &[]).is_err(), "it is null");
        assert!(instance.run_func_idx(0, 2, &[]).is_err(), "it is outside");
        assert!(
            instance.run_func_idx(1, 0, &[]).is_err(),
            "there is no such table"
        );
        assert_eq!(state_of(&instance), state);
    }
}

#[test]
fn a_reset_brings_everything_back_but_what_is_the_embedders() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (memory (export "memory") 1 4) (data (i32.const 10) "begin") (data $passive "passive")
            (memory $other 1 2) (data (memory $other) (i32.const 0) "\07")
            (global (export "g") (mut i64) (i64.const 5))
            (table (export "t") 2 8 funcref) (elem (i32.const 0) $f)
            (table (export "u") 1 funcref)
            (func $f (export "f") (result i32) (i32.const 1))
            (func (export "change") (result i32)
                (memory.init $passive (i32.const 100) (i32.const 0) (i32.const 7))
                (data.drop $passive)
                (i32.store8 (i32.const 10) (i32.const 33))
                (drop (memory.grow (i32.const 2)))
                (i32.store (i32.const 150000) (i32.const 1))
                (i32.store8 $other (i32.const 0) (i32.const 9))
                (drop (memory.grow $other (i32.const 1)))
                (global.set 0 (i64.const 6))
                (table.set 0 (i32.const 0) (ref.null func))
                (drop (table.grow 0 (ref.func $f) (i32.const 3)))
                (drop (table.grow 1 (ref.func $f) (i32.const 20)))
                (memory.size))
            (func (export "other") (result i32) (i32.load8_u $other (i32.const 0)))
            (func (export "other_size") (result i32) (memory.size $other)))"#,
    );
    instance.insert_embed_ctx(8u8);
    let change = instance.typed_func::<(), i32>("change").unwrap();
    let other = instance.typed_func::<(), i32>("other").unwrap();
    let other_size = instance.typed_func::<(), i32>("other_size").unwrap();
    for _ in 0..5 {
        assert_eq!(other.call(&mut instance, ()).unwrap(), 7);
        assert_eq!(change.call(&mut instance, ()).unwrap(), 3);
        assert_eq!(instance.heap().unwrap().len(), 3 << 16);
        assert_eq!(other_size.call(&mut instance, ()).unwrap(), 2);
        instance.reset().unwrap();
        let heap = instance.heap().unwrap();
        assert_eq!(
            (heap.len(), &heap[10..15], heap[100]),
            (1 << 16, &b"begin"[..], 0)
        );
        drop(heap);
        assert_eq!(instance.grow_memory(2).unwrap(), 1);
        assert!(instance.heap().unwrap()[1 << 16..].iter().all(|&b| b == 0));
        instance.reset().unwrap();
        assert_eq!(other_size.call(&mut instance, ()).unwrap(), 1);
        assert_eq!(instance.global("g").unwrap().i64(), Some(5));
        assert_eq!(instance.table_len("t").unwrap(), 2);
        assert_eq!(instance.table_len("u").unwrap(), 1);
        let func = instance.table_get("t", 0).unwrap();
        assert!(matches!(func, Some(Val::FuncRef(Some(_)))));
        assert_eq!(*instance.get_embed_ctx::<u8>().unwrap().unwrap(), 8);
    }
}

#[test]
fn a_reset_of_linked_modules_runs_their_start_functions_with_the_next_start() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (global (export "g") (mut i32) (i32.const 0)) (table (export "t") 1 funcref)
            (func (export "call") (result i32) (call_indirect (result i32) (i32.const 0))))"#,
    );
    instance
        .set_member_name("main", selvedge::Member::MAIN)
        .unwrap();
    let module = sandbox.module(
        r#"(module (import "main" "g" (global $g (mut i32))) (import "main" "t" (table 1 funcref))
            (func $f (result i32) (i32.const 77)) (elem (i32.const 0) $f)
            (func $start (global.set $g (i32.add (global.get $g) (i32.const 10)))) (start $start))"#,
    );
    instance.link(&sandbox.linker, &module).unwrap();
    assert!(instance.is_ready());
    assert_eq!(instance.global("g").unwrap().i32(), Some(10));
    for _ in 0..3 {
        instance.set_global("g", &Val::I32(500)).unwrap();
        instance.reset().unwrap();
        assert!(instance.is_not_started());
        assert_eq!(instance.global("g").unwrap().i32(), Some(0));
        instance.run_start().unwrap();
        assert_eq!(instance.global("g").unwrap().i32(), Some(10));
        let called = instance.run("call", &[]).unwrap().unwrap_returned();
        assert_eq!(i32::from(called), 77);
    }
}

#[test]
fn a_leaked_view_of_memory_stands_against_a_reset() {
    let world = World::new();
    let mut instance = world.instance("Ready", false);
    std::mem::forget(instance.heap().unwrap());
    assert!(matches!(
        instance.reset(),
        Err(RuntimeError::MemoryBorrowed)
    ));
    assert!(instance.is_ready());
}
