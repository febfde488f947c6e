//! Memory 0 as the host sees it: reading and writing, growing, and the rules of borrowing.

use selvedge::{HostError, RuntimeError, TerminationDetails, Val, Vmctx};
use selvedge_tests::sandbox::{Sandbox, fault, returned, returned_i32};

const PAGE: usize = 65536;

/// A guest with one page that may become ten, and a host function `h.f`.
const GUEST: &str = r#"(module
    (import "h" "f" (func $f (result i32)))
    (memory (export "memory") 1 10)
    (data (i32.const 100) "in the image")
    (func (export "run") (result i32) (call $f))
    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "size") (result i32) (memory.size)))"#;

/// A sandbox whose `h.f` is this function.
fn sandbox(func: impl Fn(&Vmctx<'_>) -> Result<i32, HostError> + Send + Sync + 'static) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.linker.func("h", "f", func).unwrap();
    sandbox
}

fn idle() -> Sandbox {
    sandbox(|_| Ok(0))
}

#[test]
fn host_and_guest_see_the_same_bytes() {
    let sandbox = idle();
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(instance.heap().unwrap().len(), PAGE);
    assert_eq!(&instance.heap().unwrap()[100..112], b"in the image");
    instance.heap_mut().unwrap()[8..12].copy_from_slice(&7i32.to_le_bytes());
    assert_eq!(returned_i32(instance.run("load", &[Val::I32(8)])), 7);
    returned(instance.run("store", &[Val::I32(PAGE as i32 - 4), Val::I32(-2)]));
    assert_eq!(instance.heap().unwrap()[PAGE - 4..], (-2i32).to_le_bytes());
}

#[test]
fn a_host_function_reads_and_writes_the_callers_memory() {
    let sandbox = sandbox(|vmctx| {
        let sum: u32 = vmctx.heap()?[100..112].iter().map(|&b| u32::from(b)).sum();
        vmctx.heap_mut()?[0..4].copy_from_slice(&sum.to_le_bytes());
        Ok(vmctx.heap()?.len() as i32)
    });
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("run", &[])), PAGE as i32);
    let sum: u32 = b"in the image".iter().map(|&b| u32::from(b)).sum();
    assert_eq!(
        returned_i32(instance.run("load", &[Val::I32(0)])),
        sum as i32
    );
}

#[test]
fn memory_grown_by_the_guest_is_there_for_the_host() {
    let sandbox = idle();
    let mut instance = sandbox.instance(GUEST);
    let last = 3 * PAGE as i32 - 4;
    fault(instance.run("store", &[Val::I32(last), Val::I32(5)]));
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(2)])), 1);
    assert_eq!(instance.heap().unwrap().len(), 3 * PAGE);
    assert!(instance.heap().unwrap()[PAGE..].iter().all(|&b| b == 0));
    returned(instance.run("store", &[Val::I32(last), Val::I32(5)]));
    assert_eq!(instance.heap().unwrap()[3 * PAGE - 4], 5);
}

#[test]
fn memory_grown_by_the_host_is_there_for_the_guest() {
    let sandbox = idle();
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(instance.grow_memory(0).unwrap(), 1);
    assert_eq!(instance.grow_memory(4).unwrap(), 1);
    assert_eq!(returned_i32(instance.run("size", &[])), 5);
    returned(instance.run("store", &[Val::I32(5 * PAGE as i32 - 4), Val::I32(5)]));
    assert_eq!(instance.grow_memory(5).unwrap(), 5);
    assert_eq!(instance.heap().unwrap().len(), 10 * PAGE);
}

#[test]
fn memory_grown_by_a_host_function_is_there_when_the_guest_goes_on() {
    let sandbox = sandbox(|vmctx| {
        let old = vmctx.grow_memory(3)?;
        assert_eq!(vmctx.heap()?.len(), (old as usize + 3) * PAGE);
        vmctx.heap_mut()?[4 * PAGE - 4] = 9;
        Ok(old as i32)
    });
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("run", &[])), 1);
    assert_eq!(
        returned_i32(instance.run("load", &[Val::I32(4 * PAGE as i32 - 4)])),
        9
    );
}

#[test]
fn memory_does_not_grow_beyond_the_modules_maximum() {
    let sandbox = idle();
    let mut instance = sandbox.instance(GUEST);
    for too_many in [10, 1 << 16, u32::MAX] {
        let error = instance.grow_memory(too_many).unwrap_err();
        assert!(
            matches!(error, RuntimeError::LimitsExceeded { .. }),
            "{error}"
        );
        let arg = Val::I32(too_many as i32);
        assert_eq!(returned_i32(instance.run("grow", &[arg])), -1);
    }
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(9)])), 1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(1)])), -1);
    assert_eq!(returned_i32(instance.run("grow", &[Val::I32(0)])), 10);
}

#[test]
fn a_module_without_memory_has_none_to_borrow_or_grow() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func("h", "f", |vmctx: &Vmctx<'_>| {
            assert!(vmctx.heap().is_err());
            assert!(vmctx.heap_mut().is_err());
            assert!(vmctx.grow_memory(1).is_err());
        })
        .unwrap();
    let mut instance =
        sandbox.instance(r#"(module (import "h" "f" (func $f)) (func (export "run") (call $f)))"#);
    assert!(matches!(
        instance.heap(),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(matches!(
        instance.heap_mut(),
        Err(RuntimeError::InvalidArgument(_))
    ));
    assert!(matches!(
        instance.grow_memory(1),
        Err(RuntimeError::InvalidArgument(_))
    ));
    returned(instance.run("run", &[]));
}

#[test]
fn many_may_read_and_one_may_write() {
    let sandbox = sandbox(|vmctx| {
        let first = vmctx.heap()?;
        let second = vmctx.heap()?;
        assert_eq!(first.len(), second.len());
        let refused = vmctx.heap_mut().unwrap_err();
        assert!(matches!(
            refused,
            HostError::Terminate(TerminationDetails::BorrowError(_))
        ));
        drop((first, second));
        let _writer = vmctx.heap_mut()?;
        assert!(vmctx.heap().is_err());
        assert!(vmctx.heap_mut().is_err());
        Ok(1)
    });
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("run", &[])), 1);
    // All were given back.
    instance.heap_mut().unwrap()[0] = 1;
}

#[test]
fn two_writers_end_the_guest_if_the_host_function_passes_the_refusal_on() {
    let sandbox = sandbox(|vmctx| {
        let _first = vmctx.heap_mut()?;
        let _second = vmctx.heap_mut()?;
        Ok(1)
    });
    let mut instance = sandbox.instance(GUEST);
    let error = instance.run("run", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the guest was terminated: a host function called heap_mut while that was borrowed"
    );
    assert!(instance.heap_mut().is_ok());
}

#[test]
fn the_guest_is_not_entered_while_the_host_holds_its_memory() {
    let sandbox = sandbox(|vmctx| {
        let args = [Val::I32(0)];
        for writing in [false, true] {
            let (reader, writer) = match writing {
                false => (Some(vmctx.heap()?), None),
                true => (None, Some(vmctx.heap_mut()?)),
            };
            let error = vmctx.call_export("load", &args).unwrap_err();
            assert!(matches!(error, RuntimeError::MemoryBorrowed), "{error}");
            drop((reader, writer));
            vmctx.call_export("load", &args)?;
        }
        Ok(1)
    });
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("run", &[])), 1);
}

#[test]
fn memory_does_not_grow_while_the_host_holds_it() {
    let sandbox = sandbox(|vmctx| {
        let held = vmctx.heap()?;
        assert!(vmctx.grow_memory(1).is_err());
        assert!(vmctx.grow_memory(0).is_err());
        assert_eq!(held.len(), PAGE);
        drop(held);
        Ok(vmctx.grow_memory(1)? as i32)
    });
    let mut instance = sandbox.instance(GUEST);
    assert_eq!(returned_i32(instance.run("run", &[])), 1);
}

#[test]
fn a_borrow_that_is_never_given_back_stays_until_the_instance_goes() {
    let sandbox = sandbox(|vmctx| {
        std::mem::forget(vmctx.heap()?);
        Ok(3)
    });
    let mut instance = sandbox.instance(GUEST);
    // The call that is under way can still return.
    assert_eq!(returned_i32(instance.run("run", &[])), 3);
    assert!(matches!(
        instance.heap_mut(),
        Err(RuntimeError::MemoryBorrowed)
    ));
    assert!(matches!(
        instance.grow_memory(1),
        Err(RuntimeError::MemoryBorrowed)
    ));
    assert_eq!(instance.heap().unwrap().len(), PAGE);
    // Its slot is as good as any other afterwards.
    drop(instance);
    let mut next = sandbox.instance(GUEST);
    assert_eq!(returned_i32(next.run("size", &[])), 1);
}

#[test]
fn bulk_operations_of_the_guest_are_seen_by_the_host() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module (memory 1) (data $d "abcdef")
            (func (export "fill") (memory.fill (i32.const 10) (i32.const 0xee) (i32.const 5)))
            (func (export "init") (memory.init $d (i32.const 20) (i32.const 1) (i32.const 4)))
            (func (export "copy") (memory.copy (i32.const 21) (i32.const 20) (i32.const 4)))
            (func (export "drop") (data.drop $d)))"#,
    );
    returned(instance.run("fill", &[]));
    assert_eq!(
        instance.heap().unwrap()[9..16],
        [0, 0xee, 0xee, 0xee, 0xee, 0xee, 0]
    );
    returned(instance.run("init", &[]));
    returned(instance.run("copy", &[]));
    assert_eq!(&instance.heap().unwrap()[20..26], b"bbcde\0");
    returned(instance.run("drop", &[]));
    fault(instance.run("init", &[]));
}

#[test]
fn long_copies_and_fills_are_whole_in_both_directions() {
    let sandbox = Sandbox::new();
    let mut instance = sandbox.instance(
        r#"(module
            (memory (export "heap") 600) (memory $other 600)
            (func (export "copy") (param i32 i32 i32)
                (memory.copy (local.get 0) (local.get 1) (local.get 2)))
            (func (export "away_and_back") (param i32 i32 i32)
                (memory.copy $other 0 (local.get 0) (local.get 1) (local.get 2))
                (memory.fill (local.get 1) (i32.const 7) (local.get 2))
                (memory.copy 0 $other (local.get 1) (local.get 0) (local.get 2))))"#,
    );
    // More than two of the parts in which it is done.
    let len = 34 << 20;
    let pattern: Vec<u8> = (0..600_u32 << 16)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    instance.heap_mut().unwrap().copy_from_slice(&pattern);
    let args = |to: usize, from: usize| [to, from, len].map(|n| Val::I32(n as i32));
    let mut expected = pattern;
    for (to, from) in [(5, 0), (0, 9), (1 << 20, 3), (2, 2)] {
        instance.run("copy", &args(to, from)).unwrap();
        expected.copy_within(from..from + len, to);
        assert!(instance.heap().unwrap()[..] == expected[..], "{to} {from}");
    }
    instance.run("away_and_back", &args(11, 13)).unwrap();
    assert!(instance.heap().unwrap()[..] == expected[..]);
}
