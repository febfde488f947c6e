//! Calls: untyped with values, typed with Rust scalars.

use std::fmt;
use std::marker::PhantomData;

use selvedge_artifact::types::FuncType;

use crate::error::Error;
use crate::host::func::{WasmParams, WasmResults};
use crate::host::future::TypedCall;
use crate::host::typed_future::CallAsync;
use crate::instance::store::Store;
use crate::instance::{Instance, Member};
use crate::value::{References, Val, check_types};
use crate::vm::callee::Callee;
use crate::vm::context::ArraySlot;
use crate::vm::enter::Stopped;

/// Calls a function with values, checked against its type.
pub(crate) fn call(
    store: &Store,
    callee: &Callee,
    ty: &FuncType,
    args: &[Val],
) -> Result<Vec<Val>, Error> {
    check_types(store, "the function takes", args, &ty.params)?;
    let args = args
        .iter()
        .map(|arg| store.val_to_slot(arg))
        .collect::<Result<Vec<_>, _>>()?;
    let result = callee.call(
        store,
        callee.slots(),
        |slots| slots[..args.len()].copy_from_slice(&args),
        |slots| {
            let values = slots.iter().zip(&ty.results);
            values
                .map(|(&slot, &ty)| store.val_from_slot(slot, ty))
                .collect()
        },
    );
    result.map_err(Stopped::into_error)
}

/// An exported function of one instance whose type was checked against Rust types once.
pub struct TypedFunc<P, R> {
    callee: Callee,
    _types: PhantomData<fn(P) -> R>,
}

impl<P: WasmParams, R: WasmResults> TypedFunc<P, R> {
    /// Calls the function.
    ///
    /// # Errors
    ///
    /// As [`Instance::run`], less the errors about names and types; [`Error::InstanceYielded`] if the guest was
    /// suspended; [`Error::ForeignReference`] if it is a function of another instance.
    ///
    /// # Panics
    ///
    /// If a host function panics, its panic goes on here.
    #[inline]
    pub fn call(&self, instance: &mut Instance, params: P) -> Result<R, Error> {
        let store = &instance.store;
        store.state.get().check_run()?;
        let count = const {
            if P::COUNT > R::COUNT {
                P::COUNT
            } else {
                R::COUNT
            }
        };
        let result = self.callee.call(
            store,
            count,
            |slots| params.store(&mut |i, bits| slots[i].lo = bits),
            |slots| R::load(&|i| slots[i].lo),
        );
        match result {
            Ok(results) => Ok(results),
            Err(stopped) => not_returned(instance, stopped),
        }
    }

    /// Calls the function as a future, as [`Instance::run_async`] runs one by its name: it waits where the guest waits
    /// for a host function's future, and after each slice of time others get the thread.
    ///
    /// # Errors
    ///
    /// The future's: as [`TypedFunc::call`] and [`Instance::run_for`].
    ///
    /// # Panics
    ///
    /// When it is polled: as [`TypedFunc::call`].
    pub fn call_async<'a>(&self, instance: &'a mut Instance, params: P) -> CallAsync<'a, R> {
        let mut args = Vec::with_capacity(P::COUNT);
        params.store(&mut |i, bits| {
            let slot = ArraySlot::new(bits);
            args.push(instance.store.val_from_slot(slot, P::types()[i]));
        });
        let call = TypedCall {
            callee: self.callee,
            ty: FuncType::new(P::types().iter().copied(), R::types().iter().copied()),
            args,
        };
        CallAsync::new(instance.call_as_future(call))
    }
}

/// What a typed call comes to whose guest has not returned.
#[cold]
#[inline(never)]
fn not_returned<R: WasmResults>(instance: &Instance, stopped: Stopped) -> Result<R, Error> {
    match stopped {
        Stopped::Preempted => past_epochs(instance),
        stopped => Err(stopped.into_error()),
    }
}

/// The results of a guest that was suspended, if a callback lets it go on at its epoch deadlines.
fn past_epochs<R: WasmResults>(instance: &Instance) -> Result<R, Error> {
    let values = instance.past_epochs(Err(Error::InstancePreempted))?;
    let slots = values.iter().map(|val| instance.store.val_to_slot(val));
    let slots = slots.collect::<Result<Vec<_>, _>>()?;
    Ok(R::load(&|i| slots[i].lo))
}

impl Instance {
    /// An exported function as a typed one.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownExport`], [`Error::ExportKind`], [`Error::TypeMismatch`].
    pub fn typed_func<P: WasmParams, R: WasmResults>(
        &self,
        name: &str,
    ) -> Result<TypedFunc<P, R>, Error> {
        self.member_typed_func(Member::MAIN, name)
    }

    /// An exported function of a linked module as a typed one.
    ///
    /// # Errors
    ///
    /// As [`Instance::typed_func`].
    pub fn member_typed_func<P: WasmParams, R: WasmResults>(
        &self,
        member: Member,
        name: &str,
    ) -> Result<TypedFunc<P, R>, Error> {
        let record = self.record(member)?;
        let func = record.exported_func(name)?;
        let ty = record.module().info().func_type(func);
        if *ty.params != *P::types() || *ty.results != *R::types() {
            let asked = FuncType::new(P::types().iter().copied(), R::types().iter().copied());
            return Err(Error::TypeMismatch {
                what: "the function is",
                expected: ty.to_string(),
                found: asked.to_string(),
            });
        }
        let callee = Callee::of(record, func).ok_or(Error::ForeignReference)?;
        Ok(TypedFunc {
            callee,
            _types: PhantomData,
        })
    }
}

impl<P, R> Clone for TypedFunc<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for TypedFunc<P, R> {}

impl<P, R> fmt::Debug for TypedFunc<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedFunc")
            .field("callee", &self.callee)
            .finish()
    }
}
