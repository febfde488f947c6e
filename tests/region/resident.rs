//! What an instance holds in memory while it is idle, beyond the pages that its guest has written to.

use selvedge::{Engine, InstanceHandle, Limits, Linker, Region, RegionOptions, Settings};
use selvedge_tests::children;
use selvedge_tests::held::own_len;

/// How many instances there are at a time: enough that a page more for all of them together says nothing.
const COUNT: usize = 4000;

/// A kind of instances, and bytes that each may hold.
struct Kind {
    name: &'static str,
    dense: bool,
    parts: &'static str,
    run: &'static str,
    most: usize,
}

const ADD: &str = "(global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g)";
const GLOBAL: &str = "(global $g (mut i32) (i32.const 0))";
const BOTH: &str = "(memory 1) (global $g (mut i32) (i32.const 0))";

/// Bytes of heap, with what the allocator adds.
const HEAP: usize = 1536;

/// A page for the context, or two where the guest may write to a part of it; where contexts are packed, a page that has
/// the beginning of the memory, too, or none.
const KINDS: [Kind; 8] = [
    kind("guarded, nothing", false, "", "(i32.const 1)", 4096 + HEAP),
    kind("guarded, globals", false, GLOBAL, ADD, 8192 + HEAP),
    kind(
        "guarded, memory",
        false,
        "(memory 1)",
        "(i32.const 1)",
        4096 + HEAP,
    ),
    kind("guarded, both", false, BOTH, ADD, 8192 + HEAP),
    kind("dense, nothing", true, "", "(i32.const 1)", 512 + HEAP),
    kind("dense, globals", true, GLOBAL, ADD, 512 + HEAP),
    kind(
        "dense, memory",
        true,
        "(memory 1)",
        "(i32.const 1)",
        4096 + HEAP,
    ),
    kind("dense, both", true, BOTH, ADD, 4096 + HEAP),
];

const fn kind(
    name: &'static str,
    dense: bool,
    parts: &'static str,
    run: &'static str,
    most: usize,
) -> Kind {
    Kind {
        name,
        dense,
        parts,
        run,
        most,
    }
}

#[test]
fn an_idle_instance_holds_no_more_than_its_context_and_some_heap() {
    for kind in KINDS {
        children::check_ends("resident::child", kind.name, 0);
    }
}

/// Not a test of its own: the body of the child. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    let kind = KINDS.iter().find(|kind| kind.name == case).unwrap();
    let (parts, run) = (kind.parts, kind.run);
    let engine = Engine::new(&Settings::default().with_dense_regions(kind.dense)).unwrap();
    let wat = format!("(module {parts} (func (export \"run\") (result i32) {run}))");
    let module = engine.compile(wat.as_bytes()).unwrap();
    let program = Linker::new(&engine).program(&module).unwrap();
    let (mut limits, mut options) = (Limits::default(), RegionOptions::default());
    if kind.dense {
        options.dense = true;
        limits.context_len = 512;
        limits.memory_len = if parts.contains("memory") { 1 << 16 } else { 0 };
    }
    let region = Region::with_options(&engine, COUNT as u32 + 1, &limits, &options).unwrap();
    let call = |instance: &mut InstanceHandle| {
        let run = instance.typed_func::<(), i32>("run").unwrap();
        assert_eq!(run.call(instance, ()).unwrap(), 1);
    };
    // What is made once is there then: a stack, for one.
    call(&mut region.new_instance(&program).unwrap());
    let mut instances: Vec<InstanceHandle> = Vec::with_capacity(COUNT);
    let before = own_len();
    instances.extend((0..COUNT).map(|_| region.new_instance(&program).unwrap()));
    let created = (own_len() - before) / COUNT;
    instances.iter_mut().for_each(call);
    let called = (own_len() - before) / COUNT;
    let most = kind.most;
    assert!(
        created <= most && called <= most,
        "{case}: {created} bytes for each, {called} once it was called; {most} at most"
    );
    // And no less than what it certainly takes, or nothing was counted.
    assert!(created >= 512, "{case}: {created} bytes for each");
}
