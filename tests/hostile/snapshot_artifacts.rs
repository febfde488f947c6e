//! Artifacts of snapshots that are not what they were, and states that are not of their module.

use selvedge::{Compiled, Module, RuntimeError, Tunables};
use selvedge_artifact::header::Accepts;
use selvedge_artifact::image::ImageBuilder;
use selvedge_artifact::read::{self, Artifact};
use selvedge_artifact::state::{EntryState, GlobalState, State};
use selvedge_artifact::{Error, ids, write};
use selvedge_tests::random::Random;
use selvedge_tests::sandbox::{Sandbox, returned};

const WAT: &str = r#"(module $m (import "env" "f" (func $f))
    (memory 1 4) (data (i32.const 8) "some data") (data $p "passive")
    (table $t 2 8 funcref) (table $e 1 externref) (elem (i32.const 1) func $f)
    (global (mut i64) (i64.const 5)) (global (mut funcref) (ref.func $f))
    (func (export "init")
        (drop (memory.grow (i32.const 1))) (data.drop $p)
        (i32.store (i32.const 100000) (i32.const 7))
        (drop (table.grow $t (ref.func $f) (i32.const 2)))))"#;

fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let f = |_: &selvedge::Vmctx<'_>| {};
    sandbox.linker.func("env", "f", f).unwrap();
    sandbox
}

fn snapshot() -> Compiled {
    let sandbox = sandbox();
    let mut instance = sandbox.instance(WAT);
    returned(instance.run("init", &[]));
    instance
        .snapshot()
        .unwrap()
        .to_artifact(&[("note", "value")])
        .unwrap()
}

fn check(bytes: &[u8]) -> Result<Artifact, Error> {
    let accepts = Accepts {
        target: "x86_64-linux",
        has_feature: |_| true,
        tunables: &Tunables::default(),
    };
    read::read(bytes, &accepts)
}

#[test]
fn one_that_is_cut_anywhere_or_changed_in_any_byte_is_refused() {
    let bytes = snapshot().into_bytes();
    assert!(check(&bytes).unwrap().info.state.is_some());
    for len in 0..bytes.len() {
        assert!(check(&bytes[..len]).is_err(), "{len}");
    }
    let mut random = Random::new(3);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 + random.below(255) as u8;
        assert!(check(&damaged).is_err(), "{at}");
    }
}

#[test]
fn a_state_that_is_not_of_the_module_is_refused() {
    let bytes = snapshot().into_bytes();
    let artifact = check(&bytes).unwrap();
    let state = artifact.info.state.clone().unwrap();
    let again = |change: &dyn Fn(&mut State)| {
        let mut state = state.clone();
        change(&mut state);
        let mut memory = ImageBuilder::default();
        memory.add(100_000, &[7]);
        write::write_snapshot(&bytes, &artifact.layout, state, memory).unwrap()
    };
    assert_eq!(
        check(again(&|_| {}).as_bytes()).unwrap().info.state,
        Some(state.clone())
    );
    let func = ids::FuncIdx::new;
    let changes: [&dyn Fn(&mut State); 17] = [
        &|s| s.memory_len = 0,
        &|s| s.memory_len = 1 << 16,
        &|s| s.memory_len += 1,
        &|s| s.memory_len = 5 << 16,
        &|s| s.memory_len = u64::MAX,
        &|s| s.globals.truncate(1),
        &|s| s.globals.push(GlobalState::Bits(0, 0)),
        &|s| s.globals[1] = GlobalState::Func(func(2)),
        &|s| s.globals[1] = GlobalState::Func(func(u32::MAX)),
        &|s| s.tables.truncate(1),
        &|s| s.tables.push(Vec::new()),
        &|s| s.tables[0].truncate(1),
        &|s| s.tables[0].resize(9, EntryState::Bits(0)),
        // The first that is the module's own.
        &|s| s.tables[0][0] = EntryState::Import(func(1)),
        &|s| s.dropped_data.push(true),
        &|s| s.dropped_data.clear(),
        &|s| s.dropped_elems.clear(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let error = check(again(change).as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Inconsistent), "{i}: {error}");
        let sandbox = sandbox();
        let error = Module::from_compiled(&sandbox.engine, again(change)).unwrap_err();
        assert!(matches!(error, RuntimeError::Artifact(_)), "{i}: {error}");
    }
}

#[test]
fn one_whose_imports_are_missing_or_others_is_refused_as_the_module_is() {
    let empty = Sandbox::new();
    let module = Module::from_compiled(&empty.engine, snapshot()).unwrap();
    let error = empty.linker.program(&module).unwrap_err();
    assert!(
        matches!(error, RuntimeError::UnknownImport { .. }),
        "{error}"
    );
    let mut other = Sandbox::new();
    let f = |_: &selvedge::Vmctx<'_>, n: i32| n;
    other.linker.func("env", "f", f).unwrap();
    let module = Module::from_compiled(&other.engine, snapshot()).unwrap();
    let error = other.linker.program(&module).unwrap_err();
    assert!(matches!(error, RuntimeError::ImportType { .. }), "{error}");
}
