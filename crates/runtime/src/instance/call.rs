//! Calls: untyped with values, typed with Rust scalars.

use std::fmt;
use std::marker::PhantomData;

use selvedge_artifact::types::FuncType;

use crate::error::Error;
use crate::host::func::{WasmParams, WasmResults};
use crate::instance::store::Store;
use crate::instance::{Instance, Member};
use crate::value::{References, Val, check_types};
use crate::vm::callee::Callee;
use crate::vm::context::ArraySlot;

/// Slots that most typed calls need; they are made zero for each call, so fewer are faster.
const FEW_SLOTS: usize = 4;
/// Slots that any typed call needs: the most parameters or results that a typed function can have.
const MOST_SLOTS: usize = 16;

/// Calls a function with values, checked against its type.
pub(crate) fn call(
    store: &Store,
    callee: &Callee,
    ty: &FuncType,
    args: &[Val],
) -> Result<Vec<Val>, Error> {
    check_types(store, "the function takes", args, &ty.params)?;
    let mut slots = vec![ArraySlot::default(); ty.params.len().max(ty.results.len())];
    for (slot, arg) in slots.iter_mut().zip(args) {
        *slot = store.val_to_slot(arg)?;
    }
    callee.call(store, &mut slots)?;
    Ok(slots
        .iter()
        .zip(&ty.results)
        .map(|(&slot, &ty)| store.val_from_slot(slot, ty))
        .collect())
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
    /// As [`Instance::run`], less the errors about names and types; [`Error::ForeignReference`] if it is a
    /// function of another instance.
    ///
    /// # Panics
    ///
    /// If a host function panics, its panic goes on here.
    #[inline]
    pub fn call(&self, instance: &mut Instance, params: P) -> Result<R, Error> {
        instance.check_started()?;
        if P::COUNT <= FEW_SLOTS && R::COUNT <= FEW_SLOTS {
            self.call_with::<FEW_SLOTS>(instance, params)
        } else {
            self.call_with::<MOST_SLOTS>(instance, params)
        }
    }

    #[inline(always)]
    fn call_with<const SLOTS: usize>(&self, instance: &Instance, params: P) -> Result<R, Error> {
        let mut slots = [ArraySlot::default(); SLOTS];
        params.store(&mut |i, bits| slots[i].lo = bits);
        self.callee.call(&instance.store, &mut slots)?;
        Ok(R::load(&|i| slots[i].lo))
    }
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
        let asked = FuncType::new(P::types(), R::types());
        if *ty != asked {
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
