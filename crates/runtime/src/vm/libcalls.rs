//! Entries of the libcalls, generated from the table of builtins. Their bodies are safe code in
//! `instance/builtins.rs`.
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::sync::LazyLock;

use selvedge_artifact::vmfields::KIND_HOST_REGS;
use selvedge_artifact::with_builtins;

use super::activation::Outcome;
use super::context::VMFuncRef;
use super::resume::{Place, park};
use crate::arch;
use crate::host::suspend::Yield;
use crate::instance::builtins::LibTrap;
use crate::instance::record::Record;
use crate::traphandlers::{host_boundary, on_host_stack};

macro_rules! abi {
    (I32) => {
        u32
    };
    (I64) => {
        u64
    };
}

macro_rules! result {
    () => {
        ()
    };
    ($ty:ident) => {
        abi!($ty)
    };
}

macro_rules! entries {
    ($($name:ident $method:ident ($($arg:ident : $ty:ident),*) $(-> $ret:ident)?;)*) => {
        $(
            // SAFETY: called through `guest_to_host`, which passes the calling instance's record.
            unsafe extern "C" fn $method(
                _entry: *const VMFuncRef,
                caller: *const Record,
                $($arg: abi!($ty)),*
            ) -> result!($($ret)?) {
                // SAFETY: the record lives as long as its instance, which is calling.
                let caller = unsafe { &*caller };
                run(caller, || caller.$method($($arg),*))
            }
        )*

        /// Addresses by number.
        fn bodies() -> Vec<usize> {
            vec![$($method as *const () as usize),*]
        }
    };
}
with_builtins!(entries);

/// Runs a libcall; one that traps leaves its reason in the store and a request to leave the guest.
fn run<T: Default>(caller: &Record, body: impl FnOnce() -> Result<T, LibTrap>) -> T {
    let outcome = match host_boundary(|| on_host_stack(body)) {
        Ok(Ok(value)) => return value,
        Ok(Err(trap)) => Outcome::Trap(trap.code, trap.info),
        Err(reason) => reason.into(),
    };
    caller.store().raise(outcome);
    T::default()
}

/// Has the guest of a libcall left until it is resumed, as `suspended` says: it gives what the libcall returns.
pub(crate) fn suspend(caller: &Record, suspended: Yield<u64>) {
    park(caller, Place::Register, suspended);
}

/// The arrays that contexts point to: of guests that count fuel, and of others; each for guests whose pages have a key,
/// and for others.
static TABLES: [LazyLock<Box<[VMFuncRef]>>; 4] = [
    LazyLock::new(|| entries(false, false)),
    LazyLock::new(|| entries(true, false)),
    LazyLock::new(|| entries(false, true)),
    LazyLock::new(|| entries(true, true)),
];

fn entries(counts_fuel: bool, keyed: bool) -> Box<[VMFuncRef]> {
    let call = arch::way_to_host(counts_fuel, keyed);
    bodies()
        .into_iter()
        .map(|body| VMFuncRef {
            call,
            body,
            ctx: 0,
            type_id: u32::MAX,
            kind: KIND_HOST_REGS,
        })
        .collect()
}

/// Address of the array of builtins.
pub(crate) fn table(counts_fuel: bool, keyed: bool) -> usize {
    TABLES[usize::from(counts_fuel) + 2 * usize::from(keyed)]
        .as_ptr()
        .expose_provenance()
}
