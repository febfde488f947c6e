//! Typed addresses of guest memory: right ones are read and written, wrong ones are errors.

use selvedge::{
    GuestAccessError, GuestPtr, GuestSlice, GuestValue, HostError, RuntimeError, Val, Vmctx,
};
use selvedge_tests::sandbox::{Sandbox, returned_i32};

selvedge::guest_struct! {
    /// Laid out with gaps.
    struct Item { kind: u8, price: f64, count: i16, name: GuestPtr<u8> }
}

#[test]
fn numbers_structs_and_pointers_go_in_and_out() {
    assert_eq!((Item::LEN, Item::ALIGN), (24, 8));
    let mut instance = Sandbox::new().instance("(module (memory 1))");
    let mut heap = instance.heap_mut().unwrap();
    heap[8..32].fill(0xff);
    let at = GuestPtr::<Item>::new(8);
    let name = GuestPtr::new(100);
    at.write(
        &mut heap,
        Item {
            kind: 3,
            price: 1.5,
            count: -2,
            name,
        },
    )
    .unwrap();
    heap[100..103].copy_from_slice("né".as_bytes());
    // As C has it, and what lies between is left alone.
    assert_eq!(heap[8..16], [3, 255, 255, 255, 255, 255, 255, 255]);
    assert_eq!(heap[16..24], 1.5_f64.to_le_bytes());
    assert_eq!(heap[24..32], [254, 255, 255, 255, 100, 0, 0, 0]);
    let item = at.read(&heap).unwrap();
    assert_eq!((item.kind, item.price, item.count), (3, 1.5, -2));
    assert_eq!(item.name.slice(3).text(&heap), Ok("né"));
    assert_eq!(item.name.slice(3).bytes(&heap).unwrap().len(), 3);
    let cut = item.name.slice(2).text(&heap);
    assert_eq!(
        cut,
        Err(GuestAccessError::NotUtf8 {
            address: 100,
            len: 2
        })
    );
    let numbers = GuestPtr::<u16>::new(200).slice(3);
    numbers.write(&mut heap, &[1, 2, 0xabcd]).unwrap();
    assert_eq!(numbers.read(&heap), Ok(vec![1, 2, 0xabcd]));
    assert_eq!(numbers.get(2).map(GuestPtr::address), Some(204));
    assert!(numbers.get(3).is_none() && !numbers.is_empty());
    let wrong = numbers.write(&mut heap, &[5, 6]);
    assert_eq!(wrong, Err(GuestAccessError::Length { given: 2, len: 3 }));
    assert_eq!(numbers.read(&heap), Ok(vec![1, 2, 0xabcd]));
}

fn out_of_bounds<T>(result: Result<T, GuestAccessError>) -> bool {
    matches!(result, Err(GuestAccessError::OutOfBounds { .. }))
}

#[test]
fn what_does_not_lie_in_the_memory_is_refused_at_every_edge() {
    let mut instance = Sandbox::new().instance("(module (memory 1))");
    let mut heap = instance.heap_mut().unwrap();
    let end = 1_u32 << 16;
    assert!(GuestPtr::<u64>::new(end - 8).read(&heap).is_ok());
    for address in [end, end + 8, 0x8000_0000, 0u32.wrapping_sub(8)] {
        assert!(
            out_of_bounds(GuestPtr::<u64>::new(address).read(&heap)),
            "{address:#x}"
        );
        assert!(
            out_of_bounds(GuestPtr::new(address).write(&mut heap, 1_u64)),
            "{address:#x}"
        );
    }
    for address in [1, 4, end - 7, u32::MAX] {
        let expected = Err(GuestAccessError::Misaligned { address, align: 8 });
        assert_eq!(GuestPtr::<u64>::new(address).read(&heap), expected);
    }
    assert_eq!(GuestPtr::<u8>::new(end - 1).read(&heap), Ok(0));
    assert!(out_of_bounds(GuestPtr::<u8>::new(end).read(&heap)));
    // Counts whose bytes overflow 32 bits, and empty slices up to the end.
    for len in [1 << 29, (1 << 29) + 1, u32::MAX] {
        let slice = GuestPtr::<u64>::new(8).slice(len);
        assert!(out_of_bounds(slice.read(&heap)), "{len}");
        assert!(slice.get(len).is_none());
    }
    let far: GuestSlice<u64> = GuestPtr::new(8).slice(u32::MAX);
    assert!(far.get(u32::MAX - 1).is_none(), "its address is none");
    assert_eq!(GuestPtr::<u64>::new(end).slice(0).read(&heap), Ok(vec![]));
    assert!(out_of_bounds(
        GuestPtr::<u64>::new(end + 8).slice(0).read(&heap)
    ));
    // Nothing was written on the way.
    assert!(heap.iter().all(|&byte| byte == 0));
}

#[test]
fn host_functions_take_and_give_typed_addresses() {
    let mut sandbox = Sandbox::new();
    sandbox
        .linker
        .func(
            "h",
            "sum",
            |vmctx: &Vmctx<'_>, at: GuestPtr<i32>, len: u32| -> Result<i32, HostError> {
                Ok(at.slice(len).read(&vmctx.heap()?)?.iter().sum())
            },
        )
        .unwrap()
        .func("h", "next", |_: &Vmctx<'_>, at: GuestPtr<i32>| {
            GuestPtr::<i32>::new(at.address() + 4)
        })
        .unwrap();
    let mut instance = sandbox.instance(
        r#"(module (import "h" "sum" (func $sum (param i32 i32) (result i32)))
            (import "h" "next" (func $next (param i32) (result i32)))
            (memory 1) (data (i32.const 16) "\01\00\00\00\02\00\00\00\04\00\00\00")
            (func (export "sum") (param i32 i32) (result i32) (call $sum (local.get 0) (local.get 1)))
            (func (export "next") (param i32) (result i32) (call $next (local.get 0))))"#,
    );
    let mut sum = |at: i32, len: i32| instance.run("sum", &[Val::I32(at), Val::I32(len)]);
    assert_eq!(returned_i32(sum(16, 3)), 7);
    for (at, len) in [(17, 1), (-4, 1), (16, -1), (65536, 1)] {
        match sum(at, len) {
            Err(RuntimeError::HostFunction(error)) => {
                assert!(error.is::<GuestAccessError>(), "{error}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(returned_i32(instance.run("next", &[Val::I32(16)])), 20);
    let next = instance
        .typed_func::<GuestPtr<i32>, GuestPtr<i32>>("next")
        .unwrap();
    let at = next.call(&mut instance, GuestPtr::new(16)).unwrap();
    assert_eq!(at.read(&instance.heap().unwrap()), Ok(2));
}
