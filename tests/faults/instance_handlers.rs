//! The handlers that an instance has of its own: for signals of its guest, and for faults that are no trap.
//!
//! What is unsafe here: vouching for handlers, the system calls that they make, and patching a guest's code.
#![allow(
    unsafe_code,
    reason = "an instance's signal handler is unsafe to vouch for; see the file's head"
)]
#![allow(
    clippy::print_stdout,
    reason = "children tell their parent how it went"
)]

use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use selvedge::{
    Engine, FatalFault, FuelCosts, HostError, InstanceHandle, Limits, Linker, Region, RuntimeError,
    Settings, SignalBehavior, SignalFacts, SignalHandler, TerminationDetails, TrapCode, Val, Vmctx,
};
use selvedge_tests::children;
use selvedge_tests::sandbox::{Sandbox, fault, returned_i32};

const CHILD: &str = "instance_handlers::child";

/// An address that is nobody's.
const WILD: usize = 0x1234_5678_9000;

const GUEST: &str = r#"(module
    (import "h" "f" (func $f (param i32)))
    (memory (export "memory") 1)
    (func (export "call") (param i32) (call $f (local.get 0)))
    (func (export "load") (result i32) (i32.load (i32.const 65540)))
    (func (export "trap") unreachable)
    (func (export "divide") (param i32) (result i32) (i32.div_u (i32.const 8) (local.get 0)))
    (func (export "fill") (memory.fill (i32.const 65535) (i32.const 0) (i32.const 2)))
    (func (export "five") (result i32) (i32.const 5))
    (func $deep (export "deep") (call $deep) (call $deep)))"#;

fn guest(func: impl Fn(&Vmctx<'_>, i32) + Send + Sync + 'static) -> InstanceHandle {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox.instance(GUEST)
}

fn set_handler(
    guest: &mut InstanceHandle,
    handler: impl Fn(&SignalFacts) -> SignalBehavior + Send + Sync + 'static,
) {
    // SAFETY: the handlers of this file touch atomics and make system calls, but for the one that is to
    // show what a panic does.
    guest.set_signal_handler(unsafe { SignalHandler::new(handler) });
}

fn assert_recovers(guest: &mut InstanceHandle) {
    guest.reset().unwrap();
    assert_eq!(returned_i32(guest.run("five", &[])), 5);
}

fn is_signal<T>(result: &Result<T, RuntimeError>) -> bool {
    matches!(
        result,
        Err(RuntimeError::RuntimeTerminated(TerminationDetails::Signal))
    )
}

#[test]
fn a_signal_handler_gets_the_facts_and_lets_things_take_their_course() {
    static SEEN: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];
    static ADDRESS: AtomicUsize = AtomicUsize::new(0);
    let mut guest = guest(|_, _| {});
    set_handler(&mut guest, |facts| {
        SEEN[0].store(facts.signum, Relaxed);
        SEEN[1].store(facts.trapcode.map_or(-1, |code| code as i32), Relaxed);
        ADDRESS.store(facts.address.unwrap_or(0), Relaxed);
        assert!(facts.pc != 0 && facts.code > 0);
        SignalBehavior::Default
    });
    let heap = guest.heap().unwrap().as_ptr().addr();
    for (name, args, signum, code) in [
        ("load", vec![], libc::SIGSEGV, TrapCode::HeapOutOfBounds),
        ("trap", vec![], libc::SIGILL, TrapCode::Unreachable),
        ("deep", vec![], libc::SIGSEGV, TrapCode::StackOverflow),
        (
            "divide",
            vec![Val::I32(0)],
            libc::SIGFPE,
            TrapCode::IntegerDivisionByZero,
        ),
    ] {
        let trapped = fault(guest.run(name, &args));
        assert_eq!(trapped.code, code, "{name}");
        assert!(guest.is_faulted());
        // A division by zero is found by an instruction of either kind.
        let seen = SEEN[0].load(Relaxed);
        assert!(
            seen == signum || (name == "divide" && seen == libc::SIGILL),
            "{name}"
        );
        assert_eq!(SEEN[1].load(Relaxed), code as i32, "{name}");
        if name == "load" {
            assert_eq!(ADDRESS.load(Relaxed), heap + 65540);
        }
    }
}

#[test]
fn a_signal_handler_ends_the_guest_which_recovers_by_a_reset() {
    let mut guest = guest(|_, _| {});
    set_handler(&mut guest, |_| SignalBehavior::Terminate);
    for name in ["load", "trap", "deep"] {
        let result = guest.run(name, &[]);
        assert!(is_signal(&result), "{name}: {result:?}");
        assert!(guest.is_terminated());
        assert!(matches!(
            guest.run("five", &[]),
            Err(RuntimeError::InvalidArgument(_))
        ));
        assert_recovers(&mut guest);
    }
    // The handler stayed through the resets; this takes it away.
    guest.set_signal_handler(SignalHandler::default());
    assert_eq!(
        fault(guest.run("load", &[])).code,
        TrapCode::HeapOutOfBounds
    );
}

#[test]
fn a_signal_handler_ends_an_inner_guest_and_its_host_function_may_go_on() {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let log = outcomes.clone();
    let mut guest = guest(move |vmctx, _| {
        let inner = vmctx.call_export("load", &[]);
        log.lock().unwrap().push(is_signal(&inner));
    });
    set_handler(&mut guest, |_| SignalBehavior::Terminate);
    guest.run("call", &[Val::I32(0)]).unwrap();
    assert!(guest.is_ready());
    assert_eq!(*outcomes.lock().unwrap(), [true]);
}

#[test]
fn handlers_go_with_their_instance_and_not_with_its_slot() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut sandbox = Sandbox::with(1, &selvedge::Limits::default());
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, _: i32| {})
        .unwrap();
    let program = sandbox.program(GUEST);
    for round in 1..=3 {
        let mut first = sandbox.region.new_instance(&program).unwrap();
        first.set_fatal_handler(exit);
        set_handler(&mut first, |_| {
            ASKED.fetch_add(1, Relaxed);
            SignalBehavior::Terminate
        });
        assert!(is_signal(&first.run("load", &[])));
        drop(first);
        let mut second = sandbox.region.new_instance(&program).unwrap();
        assert_eq!(
            fault(second.run("load", &[])).code,
            TrapCode::HeapOutOfBounds
        );
        assert_eq!(ASKED.load(Relaxed), round);
    }
}

#[test]
fn a_signal_handler_is_not_asked_for_what_is_no_signal_of_its_guest() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |_: &Vmctx<'_>, _: i32| -> Result<(), HostError> {
            Err(TrapCode::Unreachable.into())
        })
        .unwrap();
    let mut guest = sandbox.instance(GUEST);
    let mut other = sandbox.instance(GUEST);
    set_handler(&mut guest, |_| {
        ASKED.fetch_add(1, Relaxed);
        SignalBehavior::Terminate
    });
    // Found by the runtime.
    assert_eq!(
        fault(guest.run("fill", &[])).code,
        TrapCode::HeapOutOfBounds
    );
    // Raised by a host function.
    assert_eq!(
        fault(guest.run("call", &[Val::I32(0)])).code,
        TrapCode::Unreachable
    );
    // Another instance's.
    assert_eq!(
        fault(other.run("load", &[])).code,
        TrapCode::HeapOutOfBounds
    );
    assert_eq!(ASKED.load(Relaxed), 0);
    assert!(is_signal(&guest.run("load", &[])));
    assert_eq!(ASKED.load(Relaxed), 1);
}

#[test]
fn a_guest_that_a_signal_handler_ends_has_consumed_what_it_would_have() {
    let settings = Settings::default().with_fuel(FuelCosts::default());
    let engine = Engine::new(&settings).unwrap();
    let module = engine
        .compile(
            br#"(module (memory 1)
                (func (export "out") (loop (br 0)))
                (func (export "load") (drop (i32.const 1)) (drop (i32.load (i32.const 65536))) (drop (i32.const 1)))
                (func (export "trap") (drop (i32.const 1)) (drop (i32.const 1)) unreachable))"#,
        )
        .unwrap();
    let program = Linker::new(&engine).program(&module).unwrap();
    let region = Region::new(&engine, 2, &Limits::default()).unwrap();
    let mut plain = region.new_instance(&program).unwrap();
    let mut handled = region.new_instance(&program).unwrap();
    set_handler(&mut handled, |_| SignalBehavior::Terminate);
    for name in ["out", "load", "trap"] {
        plain.set_fuel(50).unwrap();
        handled.set_fuel(50).unwrap();
        fault(plain.run(name, &[]));
        assert!(is_signal(&handled.run(name, &[])), "{name}");
        let both = [&plain, &handled].map(|guest| (guest.fuel(), guest.get_instruction_count()));
        assert_eq!(both[0], both[1], "{name}");
        handled.reset().unwrap();
    }
    assert!(plain.get_instruction_count() > Some(50));
}

#[test]
fn a_signal_handler_that_makes_the_page_accessible_lets_the_guest_complete() {
    children::check_ends(CHILD, "mends", 0);
}

#[test]
fn a_signal_handler_ends_a_guest_whose_fault_would_be_fatal() {
    children::check_ends(CHILD, "wild terminate", 0);
}

#[test]
fn a_signal_handler_that_panics_ends_the_process() {
    children::check_dies(CHILD, "panics", libc::SIGABRT);
}

#[test]
fn a_fatal_handler_ends_the_process_as_it_likes() {
    let output = children::check_ends(CHILD, "fatal exit", 42);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("fatal fault of a guest: signal 11"), "{text}");
    assert!(text.contains("access to 0x123456789000"), "{text}");
    assert!(text.contains("<module>!load"), "{text}");
}

#[test]
fn a_fatal_handler_that_panics_leaves_an_instance_that_a_reset_brings_back() {
    children::check_ends(CHILD, "fatal panic", 0);
}

#[test]
fn a_fatal_fault_of_an_inner_guest_ends_the_outer_one_too() {
    children::check_ends(CHILD, "fatal nested", 0);
}

#[test]
fn the_fatal_handler_of_c_comes_first_and_may_return() {
    let output = children::check_ends(CHILD, "fatal c and exit", 42);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (c, rust) = (text.find("c handler"), text.find("fatal fault"));
    assert!(c.is_some() && c < rust, "{text}");
    let output = children::check_dies(CHILD, "fatal c", libc::SIGABRT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("c handler"), "{text}");
}

#[test]
fn without_a_fatal_handler_a_fatal_fault_is_the_signals_former_owners() {
    children::check_dies(CHILD, "fatal none", libc::SIGSEGV);
}

/// Not a test of its own: the body of the children. Without a case it does nothing.
#[test]
fn child() {
    let Some(case) = children::case() else {
        return;
    };
    let mut guest = guest(|vmctx, _| {
        let inner = catch_unwind(AssertUnwindSafe(|| vmctx.call_export("load", &[])));
        assert!(inner.is_err(), "the handler has panicked");
    });
    match case.as_str() {
        "mends" => mends(&mut guest),
        "panics" => {
            set_handler(&mut guest, |_| panic!("in a signal handler"));
            println!("{:?}", guest.run("load", &[]));
        }
        "wild terminate" => {
            patch(&mut guest);
            set_handler(&mut guest, |facts| {
                let wild = facts.trapcode.is_none() && facts.address == Some(WILD);
                [SignalBehavior::Default, SignalBehavior::Terminate][usize::from(wild)]
            });
            assert!(is_signal(&guest.run("load", &[])));
            assert_recovers(&mut guest);
        }
        "fatal none" => {
            patch(&mut guest);
            println!("{:?}", guest.run("load", &[]));
        }
        "fatal exit" => {
            patch(&mut guest);
            guest.set_fatal_handler(exit);
            println!("{:?}", guest.run("load", &[]));
        }
        "fatal panic" => {
            patch(&mut guest);
            guest.set_fatal_handler(|_| panic!("a fatal fault"));
            for _ in 0..3 {
                let payload = catch_unwind(AssertUnwindSafe(|| guest.run("load", &[])));
                assert_eq!(payload.unwrap_err().downcast_ref(), Some(&"a fatal fault"));
                assert!(guest.is_terminated());
                assert!(guest.run("five", &[]).is_err() && guest.resume().is_err());
                assert_recovers(&mut guest);
            }
        }
        "fatal nested" => {
            patch(&mut guest);
            guest.set_fatal_handler(|_| panic!("a fatal fault"));
            assert!(is_signal(&guest.run("call", &[Val::I32(0)])));
            assert!(guest.is_terminated());
            assert_recovers(&mut guest);
        }
        "fatal c and exit" => {
            patch(&mut guest);
            guest.set_c_fatal_handler(c_handler);
            guest.set_fatal_handler(exit);
            println!("{:?}", guest.run("load", &[]));
        }
        "fatal c" => {
            patch(&mut guest);
            guest.set_c_fatal_handler(c_handler);
            println!("{:?}", guest.run("load", &[]));
        }
        other => panic!("there is no case {other:?}"),
    }
}

fn exit(fault: &FatalFault) -> ! {
    println!("{fault}");
    std::process::exit(42)
}

extern "C" fn c_handler(fault: &FatalFault) {
    println!("c handler: signal {}", fault.signum);
}

/// Has the guest's page behind its memory opened when it is touched.
fn mends(guest: &mut InstanceHandle) {
    static OPENED: AtomicUsize = AtomicUsize::new(0);
    set_handler(guest, |facts| {
        let page = facts.address.unwrap_or(0) & !0xfff;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a page of the guest's memory, behind its end; nobody else uses it.
        let opened =
            unsafe { libc::mprotect(std::ptr::with_exposed_provenance_mut(page), 4096, rights) };
        OPENED.fetch_add(1, Relaxed);
        match opened {
            0 => SignalBehavior::Continue,
            _ => SignalBehavior::Default,
        }
    });
    assert_eq!(returned_i32(guest.run("load", &[])), 0);
    assert_eq!(returned_i32(guest.run("load", &[])), 0);
    assert_eq!(OPENED.load(Relaxed), 1);
    assert!(guest.is_ready());
}

/// Patches the guest's load, which may trap, to one of an address that is nobody's.
fn patch(guest: &mut InstanceHandle) {
    static PC: AtomicUsize = AtomicUsize::new(0);
    set_handler(guest, |facts| {
        PC.store(facts.pc, Relaxed);
        SignalBehavior::Default
    });
    assert_eq!(
        fault(guest.run("load", &[])).code,
        TrapCode::HeapOutOfBounds
    );
    guest.set_signal_handler(SignalHandler::default());
    // `mov eax, [0x123456789000]`: the opcode and an address of eight bytes.
    let mut instruction = vec![0xa1];
    instruction.extend(WILD.to_le_bytes());
    let memory = std::fs::OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .unwrap();
    memory
        .write_all_at(&instruction, PC.load(Relaxed) as u64)
        .unwrap();
}
