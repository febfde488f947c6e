//! Where generated code arrives in Rust: one entry a host function, in registers or by array.
//!
//! An entry runs on the host's stack. It never unwinds into generated code: an error or a panic is
//! kept in the store, a request is raised, and the trampoline leaves the guest (I-2, R-4).
#![allow(unsafe_code, reason = "room R5, SAFETY.md")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use selvedge_artifact::types::FuncType;

use super::activation::Outcome;
use super::context::{ArraySlot, VMFuncRef};
use super::resume::{self, Place};
use crate::host::error::HostError;
use crate::host::func::{HostFunc, WasmResults};
use crate::host::suspend::{Flow, to_bits};
use crate::host::vmctx::Vmctx;
use crate::instance::record::Record;
use crate::traphandlers::{host_boundary, on_host_stack};

/// Entry by array: `(VMFuncRef, caller, slots)`.
pub(crate) type ArrayEntry = unsafe extern "C" fn(*const VMFuncRef, *const Record, *mut ArraySlot);

/// What `VMFuncRef::ctx` of a host function points to.
#[repr(C)]
pub(crate) struct Env<F> {
    /// Always first, so that the host can call any host function without knowing its type.
    array_entry: ArrayEntry,
    func: F,
}

impl<F: Send + Sync + 'static> Env<F> {
    /// Keeps a function with its entries.
    pub(crate) fn host_func(
        ty: FuncType,
        func: F,
        regs_entry: usize,
        array_entry: ArrayEntry,
    ) -> HostFunc {
        let env = Box::new(Self { array_entry, func });
        HostFunc {
            regs_entry: ty
                .abi()
                .fits_registers()
                .then_some(regs_entry)
                .filter(|&e| e != 0),
            ty,
            env_addr: (&raw const *env).addr(),
            _env: env,
        }
    }
}

/// Runs a host function's body for an entry; `None` if it did not return, which is then on record. `slots`
/// are those of the entry, null if the result is to be in a register.
///
/// # Safety
///
/// - `func_ref` is the `VMFuncRef` of a host function whose environment is an `Env<F>`.
/// - `caller` is the record that the calling instance's context names.
/// - `slots` is null or points to as many slots as the type has results.
#[inline(always)]
pub(crate) unsafe fn run<F: 'static, T: WasmResults>(
    func_ref: *const VMFuncRef,
    caller: *const Record,
    slots: *mut ArraySlot,
    body: impl FnOnce(&F, &Vmctx<'_>) -> Result<Flow<T>, HostError>,
) -> Option<T> {
    // SAFETY: the caller vouches for both pointers; they live at least as long as this hostcall, since
    // the instance that is calling owns the record and keeps the function (I-11).
    let (env, caller) = unsafe { (&*((*func_ref).ctx as *const Env<F>), &*caller) };
    let vmctx = Vmctx::new(caller);
    // What the body says is looked at inside, where it need not be moved first.
    let run = || match on_host_stack(|| body(&env.func, &vmctx)) {
        Ok(Flow::Return(value)) => Some(value),
        Ok(Flow::Yield(suspended)) => {
            resume::park(caller, place::<T>(slots), suspended);
            None
        }
        Err(error) => fail(caller, Outcome::Host(error)),
    };
    match host_boundary(run) {
        Ok(value) => value,
        Err(reason) => fail(caller, reason.into()),
    }
}

/// As [`run`], on a fiber, so that the body can suspend the guest in the middle.
///
/// # Safety
///
/// As [`run`].
#[inline(always)]
pub(crate) unsafe fn run_on_fiber<F: 'static, T: WasmResults>(
    func_ref: *const VMFuncRef,
    caller: *const Record,
    slots: *mut ArraySlot,
    body: impl FnOnce(&F, &Vmctx<'_>) -> Result<Flow<T>, HostError> + 'static,
) -> Option<T> {
    // SAFETY: as for `run`.
    let (env, record) = unsafe { ((*func_ref).ctx as *const Env<F>, &*caller) };
    let place = place::<T>(slots);
    // SAFETY: the root catches what the body raises. Environment and record are there as long as the
    // instance, which gives the fiber up before it drops them (I-50).
    let done = unsafe {
        resume::start_fiber(record, place, move |yielder| {
            let (env, caller) = (&*env, &*caller);
            let vmctx = Vmctx::on_fiber(caller, yielder);
            match host_boundary(|| body(&env.func, &vmctx)) {
                Ok(Ok(Flow::Return(value))) => {
                    caller.store().suspension.set_results(to_bits(value));
                }
                Ok(Ok(Flow::Yield(suspended))) => {
                    resume::park(caller, place, suspended);
                }
                Ok(Err(error)) => caller.store().raise(Outcome::Host(error)),
                Err(reason) => caller.store().raise(reason.into()),
            }
        })
    };
    done.then(|| {
        let results = record.store().suspension.results();
        T::load(&|i| results[i])
    })
}

/// Where the results of a host function of these types belong.
fn place<T: WasmResults>(slots: *mut ArraySlot) -> Place {
    if slots.is_null() {
        Place::Register
    } else {
        Place::Slots(slots, T::COUNT)
    }
}

#[cold]
fn fail<T>(caller: &Record, outcome: Outcome) -> Option<T> {
    caller.store().raise(outcome);
    None
}

/// Makes a [`HostFunc`] of a closure with scalar parameters: defines both entries for its types.
macro_rules! typed {
    ($run:ident, $func:expr, $Fun:ident, $Ret:ident, $func_ty:expr, $($ty:ident $var:ident $n:literal),*) => {{
        use $crate::host::func::{HostReturn, WasmResults};
        use $crate::host::vmctx::Vmctx;
        use $crate::instance::record::Record;
        use $crate::vm::context::{ArraySlot, VMFuncRef};

        $crate::vm::host_entry::entries! {
            $run, $Fun, $Ret, $($ty $var $n),*
        }
        $crate::vm::host_entry::Env::host_func(
            $func_ty,
            $func,
            regs::<$Fun, $Ret, $($ty),*> as *const () as usize,
            array::<$Fun, $Ret, $($ty),*>,
        )
    }};
}
pub(crate) use typed;

/// The two entries of a closure type.
macro_rules! entries {
    ($run:ident, $Fun:ident, $Ret:ident, $($ty:ident $var:ident $n:literal),*) => {
        // SAFETY: called through `guest_to_host` with a `VMFuncRef` made by `Env::host_func` from these
        // very types, by code compiled for the type that `func_type` gives.
        #[allow(unsafe_code, reason = "room R5: expanded from vm/host_entry.rs")]
        unsafe extern "C" fn regs<$Fun, $Ret, $($ty: WasmTy),*>(
            func_ref: *const VMFuncRef,
            caller: *const Record,
            $($var: $ty::Abi),*
        ) -> <<$Ret as HostReturn>::Results as WasmResults>::Reg
        where
            $Fun: Fn(&Vmctx<'_>, $($ty),*) -> $Ret + Send + Sync + 'static,
            $Ret: HostReturn + 'static,
        {
            // SAFETY: the pointers are what the trampoline passes, see above.
            let result = unsafe {
                let slots = core::ptr::null_mut();
                $crate::vm::host_entry::$run::<$Fun, _>(func_ref, caller, slots, move |func, vmctx| {
                    func(vmctx, $($ty::from_abi($var)),*).into_flow()
                })
            };
            result.map(WasmResults::into_reg).unwrap_or_default()
        }

        // SAFETY: as for `regs`, with as many slots as the type has parameters or results.
        #[allow(unsafe_code, reason = "room R5: expanded from vm/host_entry.rs")]
        #[allow(unused_variables, reason = "a function without parameters or results uses no slot")]
        unsafe extern "C" fn array<$Fun, $Ret, $($ty: WasmTy),*>(
            func_ref: *const VMFuncRef,
            caller: *const Record,
            slots: *mut ArraySlot,
        )
        where
            $Fun: Fn(&Vmctx<'_>, $($ty),*) -> $Ret + Send + Sync + 'static,
            $Ret: HostReturn + 'static,
        {
            // SAFETY: slots up to the count of parameters are there and written.
            $(let $var = $ty::from_bits(unsafe { (*slots.add($n)).lo });)*
            // SAFETY: as for `regs`.
            let result = unsafe {
                $crate::vm::host_entry::$run::<$Fun, _>(func_ref, caller, slots, move |func, vmctx| {
                    func(vmctx, $($var),*).into_flow()
                })
            };
            if let Some(results) = result {
                results.store(&mut |i, bits| {
                    // SAFETY: `i` is below the count of results, and slots are there for all.
                    unsafe { *slots.add(i) = ArraySlot::new(bits) }
                });
            }
        }
    };
}
pub(crate) use entries;

/// A host function that takes its slots as a slice, and puts its results there.
pub(crate) fn by_array<F>(ty: FuncType, suspending: bool, func: F) -> HostFunc
where
    F: Fn(&Vmctx<'_>, &mut [ArraySlot]) -> Result<(), HostError> + Send + Sync + 'static,
{
    let slots = ty.array_slots();
    let entry = if suspending {
        array_on_fiber::<F>
    } else {
        array_counted::<F>
    };
    // No entry in registers: this form is for functions whose type is only known at run time.
    Env::host_func(ty, Counted { slots, func }, 0, entry)
}

/// A function and how many slots its type has.
struct Counted<F> {
    slots: usize,
    func: F,
}

impl<F> Counted<F>
where
    F: Fn(&Vmctx<'_>, &mut [ArraySlot]) -> Result<(), HostError>,
{
    /// # Safety
    ///
    /// - `slots` are as many as were counted, and belong to this call alone.
    unsafe fn call(&self, vmctx: &Vmctx<'_>, slots: *mut ArraySlot) -> Result<(), HostError> {
        let slots = match self.slots {
            0 => &mut [],
            // SAFETY: the caller's promise.
            count => unsafe { core::slice::from_raw_parts_mut(slots, count) },
        };
        (self.func)(vmctx, slots)
    }
}

// SAFETY: called with a `VMFuncRef` made by `by_array`, with as many slots as its type needs.
unsafe extern "C" fn array_counted<F>(
    func_ref: *const VMFuncRef,
    caller: *const Record,
    slots: *mut ArraySlot,
) where
    F: Fn(&Vmctx<'_>, &mut [ArraySlot]) -> Result<(), HostError> + Send + Sync + 'static,
{
    // SAFETY: the pointers are what the trampoline passes; the slots belong to this call alone.
    unsafe {
        run::<Counted<F>, ()>(func_ref, caller, slots, |counted, vmctx| {
            counted.call(vmctx, slots).map(Flow::Return)
        });
    }
}

// SAFETY: as `array_counted`. The slots are on the guest's stack, which waits for the host function.
unsafe extern "C" fn array_on_fiber<F>(
    func_ref: *const VMFuncRef,
    caller: *const Record,
    slots: *mut ArraySlot,
) where
    F: Fn(&Vmctx<'_>, &mut [ArraySlot]) -> Result<(), HostError> + Send + Sync + 'static,
{
    // SAFETY: as for `array_counted`.
    unsafe {
        run_on_fiber::<Counted<F>, ()>(func_ref, caller, slots, move |counted, vmctx| {
            counted.call(vmctx, slots).map(Flow::Return)
        });
    }
}

/// A host function, and how often it and others were called.
struct Noted {
    func: Arc<HostFunc>,
    calls: Arc<AtomicU64>,
}

/// A host function that counts its calls and passes them on.
pub(crate) fn noted(func: &Arc<HostFunc>, calls: &Arc<AtomicU64>) -> HostFunc {
    let noted = Noted {
        func: func.clone(),
        calls: calls.clone(),
    };
    // No entry in registers: what is passed on would have to be known by type.
    Env::host_func(func.ty.clone(), noted, 0, array_noted)
}

// SAFETY: called with a `VMFuncRef` made by `noted`, and otherwise as the function behind it.
unsafe extern "C" fn array_noted(
    func_ref: *const VMFuncRef,
    caller: *const Record,
    slots: *mut ArraySlot,
) {
    // SAFETY: as for `run`. The function behind it has an `Env` of its own, which begins with the array entry, and
    // lives as long as this one; slots are passed on. It reads its `VMFuncRef` before anything else.
    unsafe {
        let env = &*((*func_ref).ctx as *const Env<Noted>);
        env.func.calls.fetch_add(1, Ordering::Relaxed);
        let behind = VMFuncRef {
            ctx: env.func.func.env_addr,
            ..*func_ref
        };
        let entry = *(behind.ctx as *const ArrayEntry);
        entry(&raw const behind, caller, slots);
    }
}

/// Calls a host function from the host, as a guest that imports it would. A failure is left in the
/// caller's store.
///
/// # Safety
///
/// - `func_ref` is of a host function.
/// - `slots` has as many slots as its type needs, typed as it says.
pub(crate) unsafe fn call_from_host(
    func_ref: &VMFuncRef,
    caller: &Record,
    slots: &mut [ArraySlot],
) {
    // SAFETY: `ctx` of a host function points to an `Env`, which begins with the array entry.
    unsafe {
        let entry = *(func_ref.ctx as *const ArrayEntry);
        entry(func_ref, caller, slots.as_mut_ptr());
    }
}

/// Address of the array entry of a host function.
pub(crate) fn array_entry(func: &HostFunc) -> usize {
    // SAFETY: `env_addr` is the address of the `Env` that the function owns, which begins with the
    // array entry.
    unsafe { *(func.env_addr as *const ArrayEntry) as usize }
}
