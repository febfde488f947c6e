//! Rust functions as host functions: which types they may have, and what is kept of them.

use std::any::Any;
use std::fmt;

use selvedge_artifact::types::{FuncType, ValType};

use crate::host::error::HostError;
use crate::host::suspend::Flow;
use crate::host::vmctx::Vmctx;
use crate::value::Val;
use crate::vm::context::ArraySlot;
use crate::vm::host_entry;

pub(crate) mod sealed {
    /// Keeps the traits of this file to types of this crate.
    pub trait Sealed {}
}
use sealed::Sealed;

/// A Rust type that a Wasm scalar has.
pub trait WasmTy: Sealed + Copy + Default + 'static {
    /// Its Wasm type.
    const TYPE: ValType;
    /// What the machine passes: a type with the same register and bits.
    type Abi: Copy + Default + 'static;
    /// From the machine.
    fn from_abi(abi: Self::Abi) -> Self;
    /// To the machine.
    fn into_abi(self) -> Self::Abi;
    /// To 64 bits; integers are zero-extended.
    fn to_bits(self) -> u64;
    /// From 64 bits; what does not fit is ignored.
    fn from_bits(bits: u64) -> Self;
}

macro_rules! wasm_ty {
    ($($ty:ty, $abi:ty, $val:ident, $from:expr, $into:expr, $to:expr, $of:expr;)*) => {$(
        impl Sealed for $ty {}
        impl WasmTy for $ty {
            const TYPE: ValType = ValType::$val;
            type Abi = $abi;
            fn from_abi(abi: $abi) -> Self {
                $from(abi)
            }
            fn into_abi(self) -> $abi {
                $into(self)
            }
            fn to_bits(self) -> u64 {
                $to(self)
            }
            fn from_bits(bits: u64) -> Self {
                $of(bits)
            }
        }
    )*};
}

wasm_ty! {
    i32, i32, I32, |v| v, |v| v, |v: i32| u64::from(v.cast_unsigned()), |b| (b as u32).cast_signed();
    u32, i32, I32, i32::cast_unsigned, u32::cast_signed, u64::from, |b| b as u32;
    i64, i64, I64, |v| v, |v| v, i64::cast_unsigned, u64::cast_signed;
    u64, i64, I64, i64::cast_unsigned, u64::cast_signed, |v| v, |b| b;
    f32, f32, F32, |v| v, |v| v, |v: f32| u64::from(v.to_bits()), |b| f32::from_bits(b as u32);
    f64, f64, F64, |v| v, |v| v, f64::to_bits, f64::from_bits;
}

/// Results of a function: `()`, a scalar, or a tuple of up to eight scalars.
pub trait WasmResults: Sealed + Sized + 'static {
    /// What a function with at most one result returns in a register.
    #[doc(hidden)]
    type Reg: Default + 'static;
    /// How many there are.
    const COUNT: usize;
    /// Their Wasm types.
    fn types() -> &'static [ValType];
    /// To a register.
    #[doc(hidden)]
    fn into_reg(self) -> Self::Reg;
    /// To slots; there are as many as types.
    #[doc(hidden)]
    fn store(self, slots: &mut dyn FnMut(usize, u64));
    /// From slots.
    #[doc(hidden)]
    fn load(slots: &dyn Fn(usize) -> u64) -> Self;
}

/// Parameters of a function: `()`, a scalar, or a tuple of up to sixteen scalars.
pub trait WasmParams: Sealed + Sized + 'static {
    /// How many there are.
    const COUNT: usize;
    /// Their Wasm types.
    fn types() -> &'static [ValType];
    /// To slots.
    #[doc(hidden)]
    fn store(self, slots: &mut dyn FnMut(usize, u64));
}

impl<T: WasmTy> WasmResults for T {
    type Reg = T::Abi;
    const COUNT: usize = 1;
    fn types() -> &'static [ValType] {
        const { &[T::TYPE] }
    }
    fn into_reg(self) -> T::Abi {
        self.into_abi()
    }
    #[inline(always)]
    fn store(self, slots: &mut dyn FnMut(usize, u64)) {
        slots(0, self.to_bits());
    }
    #[inline(always)]
    fn load(slots: &dyn Fn(usize) -> u64) -> Self {
        T::from_bits(slots(0))
    }
}

impl<T: WasmTy> WasmParams for T {
    const COUNT: usize = 1;
    fn types() -> &'static [ValType] {
        const { &[T::TYPE] }
    }
    #[inline(always)]
    fn store(self, slots: &mut dyn FnMut(usize, u64)) {
        slots(0, self.to_bits());
    }
}

/// What a host function may return: [`WasmResults`], a [`Flow`] of them, or a `Result` of either.
pub trait HostReturn {
    /// The results when it succeeds.
    type Results: WasmResults;
    /// How the host function ends.
    ///
    /// # Errors
    ///
    /// Why there are no results.
    fn into_flow(self) -> Result<Flow<Self::Results>, HostError>;
}

impl<T: WasmResults> HostReturn for T {
    type Results = T;
    #[inline(always)]
    fn into_flow(self) -> Result<Flow<T>, HostError> {
        Ok(Flow::Return(self))
    }
}

impl<T: WasmResults> HostReturn for Flow<T> {
    type Results = T;
    fn into_flow(self) -> Result<Self, HostError> {
        Ok(self)
    }
}

impl<T: WasmResults, E: Into<HostError>> HostReturn for Result<T, E> {
    type Results = T;
    #[inline(always)]
    fn into_flow(self) -> Result<Flow<T>, HostError> {
        self.map(Flow::Return).map_err(Into::into)
    }
}

impl<T: WasmResults, E: Into<HostError>> HostReturn for Result<Flow<T>, E> {
    type Results = T;
    fn into_flow(self) -> Result<Flow<T>, HostError> {
        self.map_err(Into::into)
    }
}

/// A Rust function that can be a host function: `Fn(&Vmctx, scalars...) -> HostReturn`.
pub trait IntoHostFunc<Params, Return>: Send + Sync + 'static {
    /// Its Wasm type.
    fn func_type() -> FuncType;
    #[doc(hidden)]
    fn into_host_func(self) -> HostFunc;
    #[doc(hidden)]
    fn into_suspending_func(self) -> HostFunc;
}

/// Calls a macro for every count of parameters, with names for their types and values.
macro_rules! for_each_arity {
    ($callback:ident) => {
        $callback!();
        $callback!(A a 0);
        $callback!(A a 0, B b 1);
        $callback!(A a 0, B b 1, C c 2);
        $callback!(A a 0, B b 1, C c 2, D d 3);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10, L l 11);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10, L l 11, M m 12);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10, L l 11, M m 12, N n 13);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10, L l 11, M m 12, N n 13, O o 14);
        $callback!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7, I i 8, J j 9, K k 10, L l 11, M m 12, N n 13, O o 14, P p 15);
    };
}

macro_rules! params_tuple {
    ($($ty:ident $var:ident $n:literal),*) => {
        impl<$($ty: WasmTy),*> WasmParams for ($($ty,)*) {
            const COUNT: usize = 0 $(+ { let _ = $n; 1 })*;
            fn types() -> &'static [ValType] {
                const { &[$($ty::TYPE),*] }
            }
            #[inline(always)]
            #[allow(unused_variables, reason = "the empty tuple stores nothing")]
            fn store(self, slots: &mut dyn FnMut(usize, u64)) {
                let ($($var,)*) = self;
                $(slots($n, $var.to_bits());)*
            }
        }
        impl<$($ty),*> Sealed for ($($ty,)*) {}
    };
}
for_each_arity!(params_tuple);

macro_rules! results_tuple {
    ($($ty:ident $var:ident $n:literal),*) => {
        impl<$($ty: WasmTy),*> WasmResults for ($($ty,)*) {
            // Several results never travel in a register, see `AbiSig::fits_registers`.
            type Reg = ();
            const COUNT: usize = 0 $(+ { let _ = $n; 1 })*;
            fn types() -> &'static [ValType] {
                const { &[$($ty::TYPE),*] }
            }
            fn into_reg(self) {}
            #[inline(always)]
            #[allow(unused_variables, reason = "the empty tuple stores nothing")]
            fn store(self, slots: &mut dyn FnMut(usize, u64)) {
                let ($($var,)*) = self;
                $(slots($n, $var.to_bits());)*
            }
            #[inline(always)]
            #[allow(unused_variables, clippy::unused_unit, reason = "the empty tuple loads nothing")]
            fn load(slots: &dyn Fn(usize) -> u64) -> Self {
                ($($ty::from_bits(slots($n)),)*)
            }
        }
    };
}
results_tuple!();
results_tuple!(A a 0, B b 1);
results_tuple!(A a 0, B b 1, C c 2);
results_tuple!(A a 0, B b 1, C c 2, D d 3);
results_tuple!(A a 0, B b 1, C c 2, D d 3, E e 4);
results_tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5);
results_tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6);
results_tuple!(A a 0, B b 1, C c 2, D d 3, E e 4, F f 5, G g 6, H h 7);

macro_rules! into_host_func {
    ($($ty:ident $var:ident $n:literal),*) => {
        impl<Fun, Ret, $($ty: WasmTy),*> IntoHostFunc<($($ty,)*), Ret> for Fun
        where
            Fun: Fn(&Vmctx<'_>, $($ty),*) -> Ret + Send + Sync + 'static,
            Ret: HostReturn + 'static,
        {
            fn func_type() -> FuncType {
                FuncType::new([$($ty::TYPE),*], Ret::Results::types().iter().copied())
            }
            fn into_host_func(self) -> HostFunc {
                let ty = <Self as IntoHostFunc<($($ty,)*), Ret>>::func_type();
                host_entry::typed!(run, self, Fun, Ret, ty, $($ty $var $n),*)
            }
            fn into_suspending_func(self) -> HostFunc {
                let ty = <Self as IntoHostFunc<($($ty,)*), Ret>>::func_type();
                host_entry::typed!(run_on_fiber, self, Fun, Ret, ty, $($ty $var $n),*)
            }
        }
    };
}
for_each_arity!(into_host_func);

/// A host function as the runtime keeps it: its type, its environment, and its entries from generated
/// code. The environment lives as long as any program or instance that names it (I-11).
pub struct HostFunc {
    pub(crate) ty: FuncType,
    /// Entry with arguments in registers, if the signature allows that.
    pub(crate) regs_entry: Option<usize>,
    /// Address of the environment, which begins with the address of the array entry.
    pub(crate) env_addr: usize,
    /// Owns the environment.
    pub(crate) _env: Box<dyn Any + Send + Sync>,
}

impl HostFunc {
    /// A host function whose type is known only at run time.
    pub(crate) fn untyped(
        ty: FuncType,
        suspending: bool,
        body: impl Fn(&Vmctx<'_>, &[Val], &mut [Val]) -> Result<(), HostError> + Send + Sync + 'static,
    ) -> Self {
        let body_ty = ty.clone();
        let by_slots = move |vmctx: &Vmctx<'_>, slots: &mut [ArraySlot]| {
            let params: Vec<Val> = vmctx.vals_from_slots(slots, &body_ty.params);
            let mut results: Vec<Val> = body_ty
                .results
                .iter()
                .map(|&t| Val::default_of(t))
                .collect();
            body(vmctx, &params, &mut results)?;
            vmctx.vals_to_slots(&results, &body_ty.results, slots)
        };
        host_entry::by_array(ty, suspending, by_slots)
    }
}

impl fmt::Debug for HostFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFunc({})", self.ty)
    }
}
