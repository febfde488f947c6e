//! A region with keys, and guests that look at addresses of their neighbours.

use std::io::Write;

use selvedge::{
    Engine, Exception, Flow, FuncType, HostError, InstanceHandle, Limits, Linker, Region,
    RegionOptions, RuntimeError, Settings, Tag, TrapCode, Val, ValType, Vmctx, Yield,
};
use selvedge_tests::sandbox::{KEYS, Sandbox, fault, returned_i32};

/// Bytes that the guests' memories may have: so few that all keys lie within a guest's reach.
pub(crate) const MEMORY_LEN: u64 = 64 << 20;

/// How far below an address the accesses of the guest's "far" functions begin.
const FAR: i64 = 0x7fff_0000;

/// Reads and writes anywhere, at once and after each way back into a guest.
pub(crate) const GUEST: &str = r#"(module
    (import "h" "seen" (func $seen (param i32) (result i32)))
    (import "h" "many" (func $many (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "h" "yields" (func $yields (param i32) (result i32)))
    (import "h" "waits" (func $waits (param i32) (result i32)))
    (import "h" "calls" (func $calls (param i32) (result i32)))
    (import "h" "throws" (func $throws))
    (import "h" "fails" (func $fails))
    (import "h" "panics" (func $panics))
    (import "h" "tag" (tag $tag (param i32)))
    (type $i (func (param i32) (result i32)))
    (memory (export "m") 1 1024) (data (i32.const 0) "\01\02\03\04 is its own")
    (global $g (export "g") (mut i32) (i32.const 7))
    (table funcref (elem $seen $grow))
    (func $load (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "load_far") (param i32) (result i32) (i32.load offset=0x7fff0000 (local.get 0)))
    (func (export "store") (param i32) (result i32) (i32.store (local.get 0) (i32.const -1)) (i32.const 0))
    (func (export "store_far") (param i32) (result i32)
        (i32.store offset=0x7fff0000 (local.get 0) (i32.const -1)) (i32.const 0))
    (func (export "wide") (param i32) (result i32) (i32x4.extract_lane 0 (v128.load (local.get 0))))
    (func (export "atomic") (param i32) (result i32) (i32.atomic.rmw.add (local.get 0) (i32.const 0)))
    (func $grow (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "fill") (param i32) (result i32)
        (memory.fill (i32.const 100) (local.get 0) (i32.const 65000)) (i32.const 0))
    (func (export "first") (param i32) (result i32) (call $load (local.get 0)))
    (func (export "seen") (param i32) (result i32) (drop (call $seen (i32.const 5))) (call $load (local.get 0)))
    (func (export "many") (param i32) (result i32)
        (drop (call $many (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i32.const 6)))
        (call $load (local.get 0)))
    (func (export "indirect") (param i32) (result i32)
        (drop (call_indirect (type $i) (i32.const 5) (i32.const 0))) (call $load (local.get 0)))
    (func (export "tail") (param i32) (result i32) (return_call $load (call $tails (local.get 0))))
    (func $tails (param i32) (result i32) (return_call $seen (i32.sub (local.get 0) (i32.const 1))))
    (func (export "libcall") (param i32) (result i32)
        (drop (memory.grow (i32.const 0))) (memory.fill (i32.const 64) (i32.const 1) (i32.const 8))
        (call $load (local.get 0)))
    (func (export "yields") (param i32) (result i32) (drop (call $yields (i32.const 5))) (call $load (local.get 0)))
    (func (export "waits") (param i32) (result i32) (drop (call $waits (i32.const 5))) (call $load (local.get 0)))
    (func (export "calls") (param i32) (result i32) (drop (call $calls (i32.const 0))) (call $load (local.get 0)))
    (func (export "catches") (param i32) (result i32)
        (drop (block $caught (result i32) (try_table (catch $tag $caught) (call $throws)) (i32.const 0)))
        (call $load (local.get 0)))
    (func (export "throws") (param i32) (result i32) (call $throws) (i32.const 0))
    (func (export "fails") (param i32) (result i32) (call $fails) (i32.const 0))
    (func (export "panics") (param i32) (result i32) (call $panics) (i32.const 0))
    (func (export "traps") (param i32) (result i32) unreachable)
    (func $deep (export "deep") (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
    (func (export "spins") (param i32) (result i32) (local $n i32)
        (local.set $n (i32.const 3000000))
        (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (call $load (local.get 0)))
    (func (export "for_ever") (param i32) (result i32) (loop $l (br $l)) (i32.const 0)))"#;

/// Ways back into the guest, by the function that takes one and then reads where it is told. Those that suspend it
/// are others.
pub(crate) const WAYS: [&str; 8] = [
    "first", "seen", "many", "indirect", "tail", "libcall", "calls", "catches",
];

/// What a read of address 0 gives.
pub(crate) const OWN: i32 = 0x0403_0201;

/// A region with as many keys as there are; `None`, which is told, where there are none. Where the environment asks for
/// keys, there must be some.
pub(crate) fn region(
    engine: &Engine,
    slots: u32,
    change: impl FnOnce(&mut RegionOptions),
) -> Option<Region> {
    let mut limits = Limits::default();
    limits.memory_len = MEMORY_LEN;
    let mut options = RegionOptions::default();
    options.protection_keys = 15;
    change(&mut options);
    match Region::with_options(engine, slots, &limits, &options) {
        Ok(region) => Some(region),
        Err(selvedge::RuntimeError::Unsupported { why, .. })
            if std::env::var_os(KEYS).is_none() =>
        {
            // Past the harness, which keeps what tests that pass print.
            let _ =
                std::io::stderr().write_all(format!("nothing is tested here: {why}\n").as_bytes());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A sandbox with such a region, with at most so many keys, and with [`GUEST`]'s host functions; `seen` is called by all.
pub(crate) fn sandbox_with(
    slots: u32,
    keys: u32,
    seen: impl Fn() + Clone + Send + Sync + 'static,
) -> Option<Sandbox> {
    let engine = Engine::new(&Settings::default()).unwrap();
    let region = region(&engine, slots, |options| options.protection_keys = keys)?;
    let mut linker = Linker::new(&engine);
    add_functions(&mut linker, seen);
    Some(Sandbox {
        engine,
        linker,
        region,
    })
}

/// A sandbox with such a region.
pub(crate) fn sandbox(slots: u32) -> Option<Sandbox> {
    sandbox_with(slots, 15, || ())
}

/// Adds the host functions of [`GUEST`].
pub(crate) fn add_functions(linker: &mut Linker, seen: impl Fn() + Clone + Send + Sync + 'static) {
    let tag = Tag::new(FuncType::new([ValType::I32], [])).unwrap();
    linker.tag("h", "tag", &tag).unwrap();
    let look = seen.clone();
    linker
        .func("h", "seen", move |vmctx: &Vmctx<'_>, n: i32| {
            look();
            // The host can always look at its guest's memory.
            let heap = vmctx.heap().expect("nobody borrows it");
            i32::from(heap[0]) + n
        })
        .unwrap();
    let look = seen.clone();
    let six = FuncType::new([ValType::I32; 6], [ValType::I32]);
    linker
        .func_new("h", "many", six, move |_, args, results| {
            look();
            results[0] = args[5].clone();
            Ok(())
        })
        .unwrap();
    let look = seen.clone();
    linker
        .func("h", "yields", move |_: &Vmctx<'_>, n: i32| {
            look();
            Flow::from(Yield::returning(n))
        })
        .unwrap();
    let look = seen.clone();
    linker
        .suspending_func(
            "h",
            "waits",
            move |vmctx: &Vmctx<'_>, n: i32| -> Result<i32, HostError> {
                look();
                vmctx.yield_()?;
                look();
                Ok(n)
            },
        )
        .unwrap();
    let look = seen.clone();
    linker
        .func(
            "h",
            "calls",
            move |vmctx: &Vmctx<'_>, at: i32| -> Result<i32, HostError> {
                look();
                let inner = vmctx.call_export("seen", &[Val::I32(at)])?;
                // An inner guest that traps is left like an outer one.
                let trapped = vmctx.call_export("traps", &[Val::I32(0)]);
                assert!(trapped.is_err());
                look();
                Ok(inner[0].i32().unwrap())
            },
        )
        .unwrap();
    let (look, thrown) = (seen.clone(), tag.clone());
    linker
        .func(
            "h",
            "throws",
            move |_: &Vmctx<'_>| -> Result<(), HostError> {
                look();
                Err(Exception::new(&thrown, [Val::I32(3)])?.into())
            },
        )
        .unwrap();
    let look = seen.clone();
    linker
        .func(
            "h",
            "fails",
            move |_: &Vmctx<'_>| -> Result<(), HostError> {
                look();
                Err(HostError::terminate("enough"))
            },
        )
        .unwrap();
    linker
        .func("h", "panics", move |_: &Vmctx<'_>| -> () {
            seen();
            std::panic::resume_unwind(Box::new("as the test wants"))
        })
        .unwrap();
}

/// Instances in so many slots side by side, in the order of their addresses.
pub(crate) fn street(sandbox: &Sandbox, count: u32) -> Vec<InstanceHandle> {
    let program = sandbox.program(GUEST);
    let mut instances: Vec<_> = (0..count)
        .map(|_| sandbox.region.new_instance(&program).unwrap())
        .collect();
    instances.sort_by_key(base);
    instances
}

/// Address of an instance's memory.
pub(crate) fn base(instance: &InstanceHandle) -> usize {
    instance.heap().unwrap().as_ptr().addr()
}

/// An access that a guest is to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    near: &'static str,
    far: &'static str,
}

pub(crate) const LOAD: Access = Access {
    near: "load",
    far: "load_far",
};
pub(crate) const STORE: Access = Access {
    near: "store",
    far: "store_far",
};

impl Access {
    /// Makes the access at a distance from the guest's own memory; `None` if no guest can reach so far.
    pub(crate) fn make(
        self,
        instance: &mut InstanceHandle,
        distance: i64,
    ) -> Option<Result<selvedge::RunResult, RuntimeError>> {
        let (name, at) = match u32::try_from(distance) {
            Ok(at) => (self.near, at),
            Err(_) => (self.far, u32::try_from(distance - FAR).ok()?),
        };
        Some(instance.run(name, &[Val::I32(at.cast_signed())]))
    }
}

/// The guest was refused its access, as one that is outside of its memory.
#[track_caller]
pub(crate) fn check_refused(result: Result<selvedge::RunResult, RuntimeError>) {
    assert_eq!(fault(result).code, TrapCode::HeapOutOfBounds);
}

/// The guest reads its own memory where it is told, and is refused its neighbour's, on this way.
#[track_caller]
pub(crate) fn check_way(
    way: &str,
    neighbour: i32,
    mut run: impl FnMut(&str, i32) -> Result<selvedge::RunResult, RuntimeError>,
) {
    assert_eq!(returned_i32(run(way, 0)), OWN, "{way}");
    match run(way, neighbour) {
        Err(RuntimeError::RuntimeFault(fault)) => {
            assert_eq!(fault.code, TrapCode::HeapOutOfBounds, "{way}");
        }
        other => panic!("{way} is to be refused its neighbour's memory, not {other:?}"),
    }
}
