//! The methods that Selvedge was founded on, each by its name: that they are there with the types that they have,
//! and that each does what it says.

use std::cell::{BorrowError, BorrowMutError, Ref, RefMut};

use selvedge::{
    FatalFault, Globals, GlobalsMut, HeapRef, HeapRefMut, HeapU32Ref, HeapU32RefMut, Instance,
    KillSwitch, RunResult, RuntimeError, SignalHandler, TerminationDetails, Val,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

type Result<T> = std::result::Result<T, RuntimeError>;
type Borrowed<'a> = std::result::Result<Ref<'a, u8>, BorrowError>;
type BorrowedMut<'a> = std::result::Result<RefMut<'a, u8>, BorrowMutError>;

/// A method of this type is there; the compiler says so.
macro_rules! is {
    ($method:expr, $ty:ty) => {{
        let _method: $ty = $method;
        stringify!($method)
    }};
}

#[test]
fn an_instance_has_every_founding_method() {
    let methods = [
        is!(
            Instance::run,
            fn(&mut Instance, &str, &[Val]) -> Result<RunResult>
        ),
        is!(
            Instance::run_func_idx,
            fn(&mut Instance, u32, u32, &[Val]) -> Result<RunResult>
        ),
        is!(Instance::resume, fn(&mut Instance) -> Result<RunResult>),
        is!(
            Instance::resume_with_val::<u64>,
            fn(&mut Instance, u64) -> Result<RunResult>
        ),
        is!(Instance::reset, fn(&mut Instance) -> Result<()>),
        is!(Instance::grow_memory, fn(&mut Instance, u32) -> Result<u32>),
        is!(Instance::heap, fn(&Instance) -> Result<HeapRef<'_>>),
        is!(
            Instance::heap_mut,
            fn(&mut Instance) -> Result<HeapRefMut<'_>>
        ),
        is!(Instance::heap_u32, fn(&Instance) -> Result<HeapU32Ref<'_>>),
        is!(
            Instance::heap_u32_mut,
            fn(&mut Instance) -> Result<HeapU32RefMut<'_>>
        ),
        is!(Instance::globals, fn(&Instance) -> Globals<'_>),
        is!(Instance::globals_mut, fn(&mut Instance) -> GlobalsMut<'_>),
        is!(
            Instance::check_heap::<u8>,
            fn(&Instance, *const u8, usize) -> bool
        ),
        is!(Instance::contains_embed_ctx::<u8>, fn(&Instance) -> bool),
        is!(
            Instance::get_embed_ctx::<u8>,
            fn(&Instance) -> Option<Borrowed<'_>>
        ),
        is!(
            Instance::get_embed_ctx_mut::<u8>,
            fn(&Instance) -> Option<BorrowedMut<'_>>
        ),
        is!(
            Instance::insert_embed_ctx::<u8>,
            fn(&mut Instance, u8) -> Option<u8>
        ),
        is!(
            Instance::remove_embed_ctx::<u8>,
            fn(&mut Instance) -> Option<u8>
        ),
        is!(
            Instance::set_signal_handler,
            fn(&mut Instance, SignalHandler)
        ),
        is!(
            Instance::set_fatal_handler,
            fn(&mut Instance, fn(&FatalFault) -> !)
        ),
        is!(
            Instance::set_c_fatal_handler,
            fn(&mut Instance, extern "C" fn(&FatalFault))
        ),
        is!(Instance::kill_switch, fn(&Instance) -> KillSwitch),
        is!(Instance::is_ready, fn(&Instance) -> bool),
        is!(Instance::is_yielded, fn(&Instance) -> bool),
        is!(Instance::is_faulted, fn(&Instance) -> bool),
        is!(Instance::is_terminated, fn(&Instance) -> bool),
        is!(
            Instance::get_instruction_count,
            fn(&Instance) -> Option<u64>
        ),
        is!(
            Instance::set_instruction_count,
            fn(&mut Instance, u64) -> Result<()>
        ),
        is!(Instance::run_start, fn(&mut Instance) -> Result<()>),
    ];
    assert_eq!(methods.len(), 29);
}

#[test]
fn termination_details_have_every_founding_variant_and_method() {
    let shown = |details: &TerminationDetails| match details {
        TerminationDetails::Signal => "Signal",
        TerminationDetails::CtxNotFound => "CtxNotFound",
        TerminationDetails::YieldTypeMismatch => "YieldTypeMismatch",
        TerminationDetails::BorrowError(what) => what,
        TerminationDetails::Provided(_) => "Provided",
        TerminationDetails::Remote => "Remote",
        other => panic!("{other:?}"),
    };
    for (details, name) in [
        (TerminationDetails::Signal, "Signal"),
        (TerminationDetails::CtxNotFound, "CtxNotFound"),
        (TerminationDetails::YieldTypeMismatch, "YieldTypeMismatch"),
        (TerminationDetails::BorrowError("heap"), "heap"),
        (TerminationDetails::Remote, "Remote"),
    ] {
        assert_eq!(shown(&details), name);
        assert_eq!(details, details);
        assert!(details.provided_details().is_none());
        assert!(format!("{details:?}").contains(name));
    }
    let provided = TerminationDetails::provide("a text");
    assert_eq!(shown(&provided), "Provided");
    assert_ne!(
        provided, provided,
        "a value of the host's can't be compared"
    );
    let text = provided.provided_details().unwrap().downcast_ref::<&str>();
    assert_eq!(text, Some(&"a text"));
    const fn sent_and_shared<T: Send + Sync + 'static>() {}
    const { sent_and_shared::<TerminationDetails>() };
}

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32) (result i32)))
    (memory (export "memory") 1 3) (data (i32.const 4) "\78\56\34\12\ff")
    (global $hidden (mut i32) (i32.const -1))
    (global (export "constant") i64 (i64.const 7))
    (global $float (mut f64) (f64.const 0.5))
    (global $func (mut funcref) (ref.null func))
    (table $t (export "t") 4 funcref) (elem (i32.const 1) $double $f $global)
    (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
    (func $global (export "global") (result i32) (global.get $hidden))
    (func (export "set") (global.set $hidden (i32.const 99)))
    (func (export "word") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "call") (param i32) (result i32) (call $f (local.get 0)))
    (func (export "trap") unreachable))"#;

fn guest(
    func: impl Fn(&selvedge::Vmctx<'_>, i32) -> std::result::Result<i32, selvedge::HostError>
    + Send
    + Sync
    + 'static,
) -> selvedge::InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox.instance(GUEST)
}

#[test]
fn the_heap_is_seen_as_words_that_the_guest_sees_too() {
    let mut instance = guest(|_, n| Ok(n));
    let words = instance.heap_u32().unwrap();
    assert_eq!(words.len(), 1 << 14);
    assert_eq!(words[..4], [0, 0x1234_5678, 0xff, 0]);
    assert!(instance.heap_u32().is_ok(), "many may read");
    drop(words);
    instance.heap_u32_mut().unwrap()[(1 << 14) - 1] = 0xdead_beef;
    let last = instance.run("word", &[Val::I32(65532)]);
    assert_eq!(returned_i32(last).cast_unsigned(), 0xdead_beef);
    instance.grow_memory(2).unwrap();
    assert_eq!(instance.heap_u32().unwrap().len(), 3 << 14);
    std::mem::forget(instance.heap().unwrap());
    assert!(matches!(
        instance.heap_u32_mut(),
        Err(RuntimeError::MemoryBorrowed)
    ));
    let mut without = Sandbox::new().instance("(module)");
    assert!(matches!(
        without.heap_u32(),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(matches!(
        without.heap_u32_mut(),
        Err(RuntimeError::InvalidArgument(_))
    ));
}

#[test]
fn bytes_behind_the_last_whole_word_are_left_out() {
    let mut instance = Sandbox::new().instance("(module (memory 11 (pagesize 1)))");
    assert_eq!(instance.heap().unwrap().len(), 11);
    assert_eq!(instance.heap_u32().unwrap().len(), 2);
    assert_eq!(instance.heap_u32_mut().unwrap().len(), 2);
}

#[test]
fn globals_are_seen_by_number_exported_or_not() {
    let mut instance = guest(|_, n| Ok(n));
    let globals = instance.globals();
    assert_eq!((globals.len(), globals.is_empty()), (4, false));
    assert_eq!(globals.get(0).unwrap().i32(), Some(-1));
    assert_eq!(globals.get(1).unwrap().i64(), Some(7));
    assert_eq!(globals.get(2).unwrap().f64(), Some(0.5));
    assert!(matches!(globals.get(3), Some(Val::FuncRef(None))));
    assert!(globals.get(4).is_none() && globals.ty(4).is_none());
    assert!(globals.get(u32::MAX).is_none());
    assert!(globals.ty(0).unwrap().mutable && !globals.ty(1).unwrap().mutable);
    assert_eq!(globals.iter().count(), 4);
    assert_eq!(format!("{globals:?}").matches("I64(7)").count(), 1);

    let func = instance.table_get("t", 1).unwrap().unwrap();
    let mut globals = instance.globals_mut();
    globals.set(0, &Val::I32(5)).unwrap();
    globals.set(2, &Val::F64(-1.5)).unwrap();
    globals.set(3, &func).unwrap();
    assert_eq!(globals.get(2).unwrap().f64(), Some(-1.5));
    assert_eq!(globals.as_globals().get(0).unwrap().i32(), Some(5));
    assert!(matches!(
        globals.set(1, &Val::I64(8)),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(matches!(
        globals.set(4, &Val::I64(8)),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(matches!(
        globals.set(0, &Val::I64(8)),
        Err(RuntimeError::ValueType { .. })
    ));
    let foreign = guest(|_, n| Ok(n)).table_get("t", 1).unwrap().unwrap();
    let mut globals = instance.globals_mut();
    assert!(matches!(
        globals.set(3, &foreign),
        Err(RuntimeError::ForeignReference)
    ));
    assert_eq!(returned_i32(instance.run("global", &[])), 5);
    instance.run("set", &[]).unwrap();
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(99));
    instance.reset().unwrap();
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(-1));
    assert!(Sandbox::new().instance("(module)").globals().is_empty());
}

#[test]
fn imported_globals_are_seen_in_both_modules() {
    let sandbox = Sandbox::new();
    let mut instance =
        sandbox.instance(r#"(module (global (export "g") (mut i32) (i32.const 3)))"#);
    instance
        .set_member_name("main", selvedge::Member::MAIN)
        .unwrap();
    let module = sandbox.module(
        r#"(module (import "main" "g" (global $g (mut i32)))
            (func (export "add") (global.set $g (i32.add (global.get $g) (i32.const 1)))))"#,
    );
    let member = instance.link(&sandbox.linker, &module).unwrap();
    instance.globals_mut().set(0, &Val::I32(10)).unwrap();
    instance.run_member(member, "add", &[]).unwrap();
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(11));
}

#[test]
fn an_address_is_in_the_heap_or_not_at_every_edge() {
    let mut instance = guest(|_, n| Ok(n));
    let base = instance.heap().unwrap().as_ptr();
    let len = 1 << 16;
    let at = |offset: isize| base.wrapping_offset(offset);
    for (offset, count, expected) in [
        (0, 0, true),
        (0, len, true),
        (0, len + 1, false),
        (1, len, false),
        (len as isize - 1, 1, true),
        (len as isize - 1, 0, true),
        (len as isize - 1, 2, false),
        (len as isize, 0, false),
        (len as isize, 1, false),
        (-1, 1, false),
        (-1, 2, false),
        (0, usize::MAX, false),
        (5, usize::MAX - 2, false),
    ] {
        assert_eq!(
            instance.check_heap(at(offset), count),
            expected,
            "{offset} {count}"
        );
    }
    assert!(!instance.check_heap(std::ptr::null::<u64>(), 0));
    assert!(!instance.check_heap(usize::MAX as *const u8, 1));
    assert!(!instance.check_heap(&raw const len, 1), "the host's");
    instance.grow_memory(1).unwrap();
    assert!(instance.check_heap(at(0), len + 1));
    instance.reset().unwrap();
    assert!(!instance.check_heap(at(0), len + 1));
    assert!(!Sandbox::new().instance("(module)").check_heap(base, 1));
}

#[test]
fn a_host_function_sees_globals_and_addresses_of_its_caller() {
    let mut instance = guest(|vmctx, n| {
        let (view, mut other) = (vmctx.globals(), vmctx.globals_mut());
        assert_eq!(view.get(0).unwrap().i32(), Some(-1));
        other.set(0, &Val::I32(n))?;
        assert_eq!(view.get(0).unwrap().i32(), Some(n), "what is there now");
        // The guest is called back while both are held, and they are right afterwards.
        vmctx.call_export("set", &[])?;
        assert_eq!(other.get(0).unwrap().i32(), Some(99));
        assert!(other.set(1, &Val::I64(1)).is_err());
        let heap = vmctx.heap()?;
        assert!(vmctx.check_heap(heap.as_ptr(), heap.len()));
        assert!(!vmctx.check_heap(heap.as_ptr(), heap.len() + 1));
        Ok(0)
    });
    assert_eq!(returned_i32(instance.run("call", &[Val::I32(8)])), 0);
    assert_eq!(instance.globals().get(0).unwrap().i32(), Some(99));
}

#[test]
fn a_host_function_calls_back_by_an_index_of_a_table() {
    let mut instance = guest(|vmctx, n| {
        for (table, index) in [(0, 0), (0, 4), (0, u32::MAX), (1, 0), (u32::MAX, 0)] {
            let refused = vmctx.get_func_from_idx(table, index);
            assert!(matches!(refused, Err(RuntimeError::InvalidArgument(_))));
        }
        if n == 0 {
            return Ok(100);
        }
        let double = vmctx.get_func_from_idx(0, 1)?;
        let doubled = vmctx.call_func(double, &[Val::I32(n)])?;
        // A host function in the table is called like any other, this one again.
        let own = vmctx.get_func_from_idx(0, 2)?;
        let inner = vmctx.call_func(own, &[Val::I32(n - 1)])?;
        assert!(matches!(
            vmctx.call_func(double, &[Val::I64(1)]),
            Err(RuntimeError::TypeMismatch { .. } | RuntimeError::ValueType { .. })
        ));
        match (&doubled[..], &inner[..]) {
            ([Val::I32(a)], [Val::I32(b)]) => Ok(a + b),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(
        returned_i32(instance.run("call", &[Val::I32(3)])),
        6 + 4 + 2 + 100
    );
}

#[test]
fn a_host_function_terminates_its_guest_with_a_value() {
    let mut instance = guest(|vmctx, n| vmctx.terminate(format!("with {n}")));
    match instance.run("call", &[Val::I32(3)]) {
        Err(RuntimeError::RuntimeTerminated(details)) => {
            let text = details.provided_details().unwrap().downcast_ref::<String>();
            assert_eq!(text.unwrap(), "with 3");
        }
        other => panic!("{other:?}"),
    }
    assert!(instance.is_terminated());
    instance.reset().unwrap();
    assert_eq!(returned_i32(instance.run("global", &[])), -1);
}
