//! Who is asked when a memory or table grows, and what a failure is.

use std::sync::{Arc, Mutex};

use selvedge::{
    Growing, Growth, InstanceBuilder, InstanceHandle, Limiter, Limits, Program, RuntimeError,
    TerminationDetails, Val, Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

const GROWS: &str = r#"(module (import "h" "grow" (func $grow (param i32) (result i32)))
    (memory (export "m") 2 20) (table $t 3 50 funcref) (table $u 1 funcref)
    (func (export "memory") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "table") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
    (func (export "unbounded") (param i32) (result i32) (table.grow $u (ref.null func) (local.get 0)))
    (func (export "host") (param i32) (result i32) (call $grow (local.get 0))))"#;

/// What a limiter was asked and told.
type Log = Arc<Mutex<Vec<String>>>;

/// Allows memories so many bytes and tables so many elements, and writes down what happens.
struct Cap {
    bytes: u64,
    elements: u64,
    log: Log,
}

impl Cap {
    fn new(pages: u64, elements: u64) -> (Self, Log) {
        let log = Log::default();
        let cap = Self {
            bytes: pages << 16,
            elements,
            log: log.clone(),
        };
        (cap, log)
    }
}

impl Limiter for Cap {
    fn growing(&mut self, growth: &Growth) -> bool {
        let Growth {
            what,
            current,
            desired,
            maximum,
            ..
        } = growth;
        let line = format!("{what:?} {current} {desired} {maximum:?}");
        self.log.lock().unwrap().push(line);
        let cap = match what {
            Growing::Memory => self.bytes,
            _ => self.elements,
        };
        *desired <= cap
    }

    fn growth_failed(&mut self, growth: &Growth, error: &RuntimeError) {
        let line = format!("failed {:?} {}: {error}", growth.what, growth.desired);
        self.log.lock().unwrap().push(line);
    }
}

struct World {
    sandbox: Sandbox,
    program: Program,
}

impl World {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        sandbox
            .linker
            .func("h", "grow", |vmctx: &Vmctx<'_>, pages: u32| {
                vmctx.grow_memory(pages).map_or(-1, u32::cast_signed)
            })
            .unwrap();
        let program = sandbox.program(GROWS);
        Self { sandbox, program }
    }

    fn builder(&self) -> InstanceBuilder<'_> {
        self.sandbox.region.instance_builder(&self.program)
    }
}

fn grow(instance: &mut InstanceHandle, what: &str, by: i32) -> i32 {
    returned_i32(instance.run(what, &[Val::I32(by)]))
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn the_limiter_is_asked_with_what_there_is_is_wanted_and_is_the_maximum() {
    let (cap, log) = Cap::new(10, 20);
    let mut instance = World::new().builder().with_limiter(cap).build().unwrap();
    assert_eq!(grow(&mut instance, "memory", 1), 2);
    assert_eq!(grow(&mut instance, "host", 1), 3);
    assert_eq!(grow(&mut instance, "table", 2), 3);
    assert_eq!(grow(&mut instance, "unbounded", 1), 1);
    assert_eq!(
        taken(&log),
        [
            "Memory 131072 196608 Some(1310720)",
            "Memory 196608 262144 Some(1310720)",
            "Table 3 5 Some(50)",
            "Table 1 2 None",
        ]
    );
    // Growth by nothing is a question for the size; the embedder is its own limiter.
    assert_eq!(grow(&mut instance, "memory", 0), 4);
    assert_eq!(instance.grow_memory(10).unwrap(), 4);
    assert_eq!(taken(&log), [""; 0]);
}

#[test]
fn the_limiter_may_refuse_and_is_told_of_failures() {
    let (cap, log) = Cap::new(5, 10);
    let mut instance = World::new().builder().with_limiter(cap).build().unwrap();
    assert_eq!(grow(&mut instance, "memory", 3), 2);
    taken(&log);
    assert_eq!(grow(&mut instance, "memory", 1), -1);
    assert_eq!(grow(&mut instance, "host", 1), -1);
    assert_eq!(grow(&mut instance, "table", 8), -1);
    assert_eq!(instance.heap().unwrap().len(), 5 << 16);
    let refused = |what: &str, name: &str, desired: u64| {
        format!("failed {what} {desired}: the limiter of the instance refused to let {name} grow")
    };
    assert_eq!(
        taken(&log),
        [
            "Memory 327680 393216 Some(1310720)",
            &refused("Memory", "a memory", 393_216),
            "Memory 327680 393216 Some(1310720)",
            &refused("Memory", "a memory", 393_216),
            "Table 3 11 Some(50)",
            &refused("Table", "a table", 11),
        ]
    );
    // What stands against a growth before the limiter is asked is told too: the module's maximum, the limits.
    assert_eq!(grow(&mut instance, "memory", 16), -1);
    assert_eq!(grow(&mut instance, "unbounded", 10_000_000), -1);
    assert_eq!(
        taken(&log),
        [
            "failed Memory 1376256: limits exceeded: 1376256 bytes of memory are needed, 1310720 are given; \
             the module declares this maximum itself",
            "failed Table 10000001: limits exceeded: 10000001 table elements are needed, 10000000 are given; \
             raise table_elements in the limits",
        ]
    );
    // The instance goes on.
    assert!(instance.is_ready());
    assert_eq!(grow(&mut instance, "table", 7), 3);
}

struct Panics;

impl Limiter for Panics {
    fn growing(&mut self, _: &Growth) -> bool {
        std::panic::panic_any(17_u8)
    }
}

#[test]
fn a_panic_in_the_limiter_is_that_of_a_host_function() {
    for what in ["memory", "table", "host"] {
        let mut instance = World::new().builder().with_limiter(Panics).build().unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            instance.run(what, &[Val::I32(1)])
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&17_u8), "{what}");
        assert!(instance.is_terminated());
        instance.reset().unwrap();
        instance.set_catch_panics(true);
        match instance.run(what, &[Val::I32(1)]) {
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::OtherPanic(payload))) => {
                assert_eq!(payload.into_inner().downcast_ref(), Some(&17_u8));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_growth_that_fails_ends_the_guest_if_the_embedder_wants_it() {
    let (cap, _) = Cap::new(3, 5);
    let builder = World::new();
    let builder = builder.builder().with_limiter(cap);
    let mut instance = builder.terminate_on_growth_failure().build().unwrap();
    assert_eq!(grow(&mut instance, "memory", 1), 2);
    for (what, by, why) in [
        (
            "memory",
            4,
            "the limiter of the instance refused to let a memory grow",
        ),
        ("memory", 100, "the module declares this maximum itself"),
        (
            "table",
            4,
            "the limiter of the instance refused to let a table grow",
        ),
        ("table", -1, "the module declares this maximum itself"),
    ] {
        match instance.run(what, &[Val::I32(by)]) {
            Err(RuntimeError::RuntimeTerminated(TerminationDetails::GrowthFailed(text))) => {
                assert!(text.ends_with(why), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert!(instance.is_terminated());
        instance.reset().unwrap();
        // The limiter stays, and so does the choice.
        assert_eq!(grow(&mut instance, "table", 1), 3);
    }
    // A host function gets an error, and decides itself.
    assert_eq!(grow(&mut instance, "host", 5), -1);
    assert!(instance.is_ready());
}

#[test]
fn a_growth_that_meets_the_budget_ends_the_guest_likewise() {
    let world = World::new();
    let mut limits = Limits::default();
    limits.total_memory_len = (3 << 16) + 8 * 4;
    let builder = world.builder().with_limits(limits);
    let mut instance = builder.terminate_on_growth_failure().build().unwrap();
    assert_eq!(grow(&mut instance, "memory", 1), 2);
    match instance.run("table", &[Val::I32(1)]) {
        Err(RuntimeError::RuntimeTerminated(details)) => assert_eq!(
            details.to_string(),
            "it could not have more memory: limits exceeded: 196648 bytes of memories and tables together are \
             needed, 196640 are given; raise total_memory_len in the limits"
        ),
        other => panic!("{other:?}"),
    }
}
