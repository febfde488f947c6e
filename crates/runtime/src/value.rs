//! Values that pass between host and guest when types are known only at run time.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use selvedge_artifact::types::{FuncType, HeapType, RefType, ValType};

use crate::error::Error;
use crate::host::suspend::YieldedVal;
use crate::vm::context::ArraySlot;
use crate::vm::ptr::FuncRefPtr;

/// A Wasm value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Val {
    /// `i32`
    I32(i32),
    /// `i64`
    I64(i64),
    /// `f32`; NaN payloads are kept.
    F32(f32),
    /// `f64`; NaN payloads are kept.
    F64(f64),
    /// `v128`; lane 0 stands in the lowest bits.
    V128(u128),
    /// `funcref`
    FuncRef(Option<Func>),
    /// `externref`
    ExternRef(Option<ExternRef>),
    /// `exnref`
    ExnRef(Option<ExnRef>),
}

impl Val {
    /// The type of the value. Of a reference that is the most general type of its kind, whatever it refers to.
    pub const fn ty(&self) -> ValType {
        match self {
            Self::I32(_) => ValType::I32,
            Self::I64(_) => ValType::I64,
            Self::F32(_) => ValType::F32,
            Self::F64(_) => ValType::F64,
            Self::V128(_) => ValType::V128,
            Self::FuncRef(_) => ValType::FUNCREF,
            Self::ExternRef(_) => ValType::EXTERNREF,
            Self::ExnRef(_) => ValType::EXNREF,
        }
    }

    /// The zero or null of a type; null also where the type does not have it.
    pub const fn default_of(ty: ValType) -> Self {
        match ty {
            ValType::I64 => Self::I64(0),
            ValType::F32 => Self::F32(0.0),
            ValType::F64 => Self::F64(0.0),
            ValType::V128 => Self::V128(0),
            ValType::Ref(ty) => match ty.heap.top() {
                HeapType::Extern => Self::ExternRef(None),
                HeapType::Exn => Self::ExnRef(None),
                _ => Self::FuncRef(None),
            },
            // `ValType` may gain types; those that this build knows are all above.
            _ => Self::I32(0),
        }
    }

    /// The value of an `i32`.
    pub const fn i32(&self) -> Option<i32> {
        if let Self::I32(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    /// The value of an `i64`.
    pub const fn i64(&self) -> Option<i64> {
        if let Self::I64(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    /// The value of an `f32`.
    pub const fn f32(&self) -> Option<f32> {
        if let Self::F32(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    /// The value of an `f64`.
    pub const fn f64(&self) -> Option<f64> {
        if let Self::F64(v) = self {
            Some(*v)
        } else {
            None
        }
    }

    /// The value of a `v128`.
    pub const fn v128(&self) -> Option<u128> {
        if let Self::V128(v) = self {
            Some(*v)
        } else {
            None
        }
    }
}

macro_rules! val_from {
    ($($ty:ty => $variant:ident($conv:expr);)*) => {$(
        impl From<$ty> for Val {
            fn from(value: $ty) -> Self {
                Self::$variant($conv(value))
            }
        }
    )*};
}

val_from! {
    i32 => I32(|v| v);
    u32 => I32(u32::cast_signed);
    i64 => I64(|v| v);
    u64 => I64(u64::cast_signed);
    f32 => F32(|v| v);
    f64 => F64(|v| v);
    u128 => V128(|v| v);
    bool => I32(i32::from);
    Option<Func> => FuncRef(|v| v);
    Option<ExternRef> => ExternRef(|v| v);
    Option<ExnRef> => ExnRef(|v| v);
}

/// A host object that a guest holds without seeing inside.
#[derive(Clone)]
pub struct ExternRef(Arc<dyn Any + Send + Sync>);

impl ExternRef {
    /// Wraps an object.
    pub fn new<T: Any + Send + Sync>(object: T) -> Self {
        Self(Arc::new(object))
    }

    /// The object, if it is of this type.
    pub fn downcast_ref<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }

    /// Whether two references name the same object.
    pub fn same(&self, other: &Self) -> bool {
        self.addr() == other.addr()
    }

    /// The object's address: references to one object are one handle to the guest.
    pub(crate) fn addr(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>().addr()
    }
}

impl fmt::Debug for ExternRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExternRef({:#x})", self.addr())
    }
}

/// A function of an instance, as a value. It is of use to that instance only: given to another one it
/// is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Func {
    pub(crate) store: u64,
    pub(crate) ptr: FuncRefAddr,
}

/// An exception of an instance, as a value. It is of use to that instance only, which keeps the exception
/// for as long as the value lives; see [`Instance::exception`](crate::Instance::exception).
#[derive(Clone, Debug)]
pub struct ExnRef {
    pub(crate) store: u64,
    /// The handle; the store knows by it that the host has the exception.
    pub(crate) root: Arc<u64>,
}

impl ExnRef {
    /// What generated code holds.
    pub(crate) fn handle(&self) -> u64 {
        *self.root
    }
}

/// A [`FuncRefPtr`] that may be kept beyond its store, since it says nothing by itself: it becomes a
/// pointer again only when the store it belongs to is at hand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FuncRefAddr(pub(crate) u64);

impl From<FuncRefPtr> for FuncRefAddr {
    fn from(ptr: FuncRefPtr) -> Self {
        Self(ptr.to_raw())
    }
}

/// How a run ended, if not with an error.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunResult {
    /// The function returned these values.
    Returned(UntypedRetVal),
    /// A host function suspended the guest and handed out a value or nothing.
    Yielded(YieldedVal),
    /// The guest was suspended from outside, by a [`PreemptSwitch`](crate::PreemptSwitch) or at the end of its slice.
    Preempted,
    /// The guest was suspended because it has no fuel left, see
    /// [`Instance::set_suspend_on_out_of_fuel`](crate::Instance::set_suspend_on_out_of_fuel).
    OutOfFuel,
    /// The guest was suspended because its epoch deadline is reached, see
    /// [`Instance::epoch_deadline_suspend`](crate::Instance::epoch_deadline_suspend).
    EpochReached,
}

impl RunResult {
    /// The values that the function returned.
    ///
    /// # Errors
    ///
    /// [`Error::InstanceNotReturned`] if it was suspended.
    pub fn returned(self) -> Result<UntypedRetVal, Error> {
        match self {
            Self::Returned(values) => Ok(values),
            Self::Yielded(_) | Self::Preempted | Self::OutOfFuel | Self::EpochReached => {
                Err(Error::InstanceNotReturned)
            }
        }
    }

    /// The values that the function returned.
    ///
    /// # Errors
    ///
    /// As [`RunResult::returned`].
    pub fn returned_ref(&self) -> Result<&UntypedRetVal, Error> {
        match self {
            Self::Returned(values) => Ok(values),
            Self::Yielded(_) | Self::Preempted | Self::OutOfFuel | Self::EpochReached => {
                Err(Error::InstanceNotReturned)
            }
        }
    }

    /// The values that the function returned.
    ///
    /// # Panics
    ///
    /// If it was suspended, as the name says; [`RunResult::returned`] does not.
    pub fn unwrap_returned(self) -> UntypedRetVal {
        match self {
            Self::Returned(values) => values,
            Self::Yielded(_) | Self::Preempted | Self::OutOfFuel | Self::EpochReached => {
                panic!("{}", Error::InstanceNotReturned)
            }
        }
    }

    /// What the guest handed out when it was suspended.
    ///
    /// # Errors
    ///
    /// [`Error::InstanceNotYielded`] if it returned.
    pub fn yielded(self) -> Result<YieldedVal, Error> {
        match self {
            Self::Yielded(val) => Ok(val),
            Self::Returned(_) | Self::Preempted | Self::OutOfFuel | Self::EpochReached => {
                Err(Error::InstanceNotYielded)
            }
        }
    }

    /// What the guest handed out when it was suspended.
    ///
    /// # Errors
    ///
    /// As [`RunResult::yielded`].
    pub fn yielded_ref(&self) -> Result<&YieldedVal, Error> {
        match self {
            Self::Yielded(val) => Ok(val),
            Self::Returned(_) | Self::Preempted | Self::OutOfFuel | Self::EpochReached => {
                Err(Error::InstanceNotYielded)
            }
        }
    }

    /// Whether the function returned.
    pub fn is_returned(&self) -> bool {
        matches!(self, Self::Returned(_))
    }

    /// Whether the guest was suspended from outside.
    pub fn is_preempted(&self) -> bool {
        matches!(self, Self::Preempted)
    }

    /// Whether the guest was suspended because it has no fuel left.
    pub fn is_out_of_fuel(&self) -> bool {
        matches!(self, Self::OutOfFuel)
    }

    /// Whether the guest was suspended because its epoch deadline is reached.
    pub fn is_epoch_reached(&self) -> bool {
        matches!(self, Self::EpochReached)
    }

    /// Whether a host function suspended the guest.
    pub fn is_yielded(&self) -> bool {
        matches!(self, Self::Yielded(_))
    }

    /// Whether the guest was suspended and handed out a value of this type.
    pub fn has_yielded<A: Any>(&self) -> bool {
        matches!(self, Self::Yielded(val) if val.is::<A>())
    }
}

/// The results of a function called by name. Converts to the scalar type that its first value has; a
/// function without results gives zero.
#[derive(Clone, Debug, Default)]
pub struct UntypedRetVal {
    values: Vec<Val>,
}

impl UntypedRetVal {
    pub(crate) fn new(values: Vec<Val>) -> Self {
        Self { values }
    }

    /// All results in order.
    pub fn values(&self) -> &[Val] {
        &self.values
    }

    /// All results in order.
    pub fn into_values(self) -> Vec<Val> {
        self.values
    }

    /// The bits of the first result; integers are zero-extended, of a vector it is the low half.
    pub fn bits(&self) -> u64 {
        self.bits_of(0)
    }

    /// As [`UntypedRetVal::bits`], of any result.
    pub(crate) fn bits_of(&self, i: usize) -> u64 {
        match self.values.get(i) {
            Some(Val::I32(v)) => u64::from(v.cast_unsigned()),
            Some(Val::I64(v)) => v.cast_unsigned(),
            Some(Val::F32(v)) => u64::from(v.to_bits()),
            Some(Val::F64(v)) => v.to_bits(),
            Some(Val::V128(v)) => *v as u64,
            _ => 0,
        }
    }
}

macro_rules! from_ret_val {
    ($($ty:ty => $conv:expr;)*) => {$(
        impl From<UntypedRetVal> for $ty {
            fn from(value: UntypedRetVal) -> Self {
                $conv(value.bits())
            }
        }
        impl From<&UntypedRetVal> for $ty {
            fn from(value: &UntypedRetVal) -> Self {
                $conv(value.bits())
            }
        }
    )*};
}

from_ret_val! {
    u64 => |bits| bits;
    i64 => u64::cast_signed;
    u32 => |bits| bits as u32;
    i32 => |bits| (bits as u32).cast_signed();
    f32 => |bits| f32::from_bits(bits as u32);
    f64 => f64::from_bits;
    bool => |bits| bits != 0;
}

/// Checks values against types, those of references with what their store knows of them.
pub(crate) fn check_types(
    references: &impl References,
    what: &'static str,
    values: &[Val],
    types: &[ValType],
) -> Result<(), Error> {
    let fits = |(value, ty): (&Val, &ValType)| references.fits(value, *ty);
    if values.len() == types.len() && values.iter().zip(types).all(fits) {
        return Ok(());
    }
    let given = FuncType::new(values.iter().map(|value| references.type_of(value)), []);
    let expected = FuncType::new(types.iter().copied(), []);
    let list = |ty: &FuncType| {
        ty.to_string()
            .split(" -> ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    Err(Error::TypeMismatch {
        what,
        expected: list(&expected),
        found: list(&given),
    })
}

/// Turns values into what generated code holds and back; references need the store they belong to.
pub(crate) trait References {
    /// The raw form of a function reference.
    fn func_to_raw(&self, func: Option<Func>) -> Result<u64, Error>;
    /// The function reference of a raw form that generated code gave.
    fn func_from_raw(&self, raw: u64) -> Option<Func>;
    /// The handle of an exception.
    fn exn_to_raw(&self, exn: Option<&ExnRef>) -> Result<u64, Error>;
    /// The exception of a handle that generated code gave.
    fn exn_from_raw(&self, raw: u64) -> Option<ExnRef>;
    /// The handle of an object.
    fn extern_to_raw(&self, object: Option<&ExternRef>) -> u64;
    /// The object of a handle.
    fn extern_from_raw(&self, raw: u64) -> Option<ExternRef>;

    /// The number of the type of a function, if it belongs to the store at hand.
    fn func_type_id(&self, func: Func) -> Option<u32>;

    /// The type of a value, as exactly as it is known.
    fn type_of(&self, value: &Val) -> ValType {
        let reference = |nullable, heap| ValType::Ref(RefType { nullable, heap });
        match value {
            Val::FuncRef(None) => reference(true, HeapType::NoFunc),
            // A function of another store is refused as what it is, not for its type.
            Val::FuncRef(Some(func)) => match self.func_type_id(*func) {
                Some(number) => reference(false, HeapType::Concrete(number)),
                None => reference(false, HeapType::Func),
            },
            Val::ExternRef(None) => reference(true, HeapType::NoExtern),
            Val::ExternRef(Some(_)) => reference(false, HeapType::Extern),
            Val::ExnRef(None) => reference(true, HeapType::NoExn),
            Val::ExnRef(Some(_)) => reference(false, HeapType::Exn),
            scalar => scalar.ty(),
        }
    }

    /// Whether a value is one of a type.
    fn fits(&self, value: &Val, ty: ValType) -> bool {
        self.type_of(value).is_subtype(ty)
    }

    /// Puts a value into a slot.
    fn val_to_slot(&self, val: &Val) -> Result<ArraySlot, Error> {
        Ok(ArraySlot::new(match val {
            Val::I32(v) => u64::from(v.cast_unsigned()),
            Val::I64(v) => v.cast_unsigned(),
            Val::F32(v) => u64::from(v.to_bits()),
            Val::F64(v) => v.to_bits(),
            Val::V128(v) => return Ok(ArraySlot::of_vector(*v)),
            Val::FuncRef(func) => self.func_to_raw(*func)?,
            Val::ExternRef(object) => self.extern_to_raw(object.as_ref()),
            Val::ExnRef(exn) => self.exn_to_raw(exn.as_ref())?,
        }))
    }

    /// Takes a value of a type out of a slot.
    fn val_from_slot(&self, slot: ArraySlot, ty: ValType) -> Val {
        let bits = slot.lo;
        match ty {
            ValType::I64 => Val::I64(bits.cast_signed()),
            ValType::F32 => Val::F32(f32::from_bits(bits as u32)),
            ValType::F64 => Val::F64(f64::from_bits(bits)),
            ValType::V128 => Val::V128(slot.vector()),
            ValType::Ref(ty) => match ty.heap.top() {
                HeapType::Extern => Val::ExternRef(self.extern_from_raw(bits)),
                HeapType::Exn => Val::ExnRef(self.exn_from_raw(bits)),
                _ => Val::FuncRef(self.func_from_raw(bits)),
            },
            _ => Val::I32((bits as u32).cast_signed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn return_values_convert_by_bits() {
        let ret = UntypedRetVal::new(vec![Val::I32(-1)]);
        assert_eq!(u64::from(&ret), 0xffff_ffff);
        assert_eq!(i32::from(&ret), -1);
        assert_eq!(u64::from(UntypedRetVal::default()), 0);
        let ret = UntypedRetVal::new(vec![Val::V128(3 << 64 | 7)]);
        assert_eq!((ret.bits(), ret.values()[0].v128()), (7, Some(3 << 64 | 7)));
        let nan = f64::from_bits(0x7ff4_0000_0000_0001);
        let ret = UntypedRetVal::new(vec![Val::F64(nan)]);
        assert_eq!(f64::from(&ret).to_bits(), nan.to_bits());
    }

    /// A store without functions and objects.
    struct NoReferences;

    impl References for NoReferences {
        fn func_to_raw(&self, _: Option<Func>) -> Result<u64, Error> {
            Err(Error::ForeignReference)
        }
        fn func_from_raw(&self, _: u64) -> Option<Func> {
            None
        }
        fn exn_to_raw(&self, _: Option<&ExnRef>) -> Result<u64, Error> {
            Err(Error::ForeignReference)
        }
        fn exn_from_raw(&self, _: u64) -> Option<ExnRef> {
            None
        }
        fn extern_to_raw(&self, _: Option<&ExternRef>) -> u64 {
            0
        }
        fn extern_from_raw(&self, _: u64) -> Option<ExternRef> {
            None
        }
        fn func_type_id(&self, func: Func) -> Option<u32> {
            u32::try_from(func.store).ok()
        }
    }

    #[test]
    fn references_fit_by_what_they_refer_to() {
        let of = |nullable, heap| ValType::Ref(RefType { nullable, heap });
        let (func, null) = (
            Val::FuncRef(Some(Func {
                store: 5,
                ptr: FuncRefAddr(0),
            })),
            Val::FuncRef(None),
        );
        let fits = |value: &Val, ty| NoReferences.fits(value, ty);
        assert!(fits(&func, of(false, HeapType::Concrete(5))) && fits(&func, ValType::FUNCREF));
        assert!(!fits(&func, of(true, HeapType::Concrete(6))));
        assert!(!fits(&func, ValType::EXTERNREF) && !fits(&func, of(true, HeapType::NoFunc)));
        assert!(fits(&null, of(true, HeapType::Concrete(6))));
        assert!(!fits(&null, of(false, HeapType::Func)) && !fits(&null, ValType::EXTERNREF));
    }

    #[test]
    fn mismatches_say_both_types() {
        let none = NoReferences;
        let error =
            check_types(&none, "the function takes", &[1u64.into()], &[ValType::I32]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "type mismatch: the function takes (i32), got (i64)"
        );
    }
}
