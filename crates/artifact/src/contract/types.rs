//! Wasm types as the artifact stores them, and how each is passed in machine code.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Wasm value type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ValType {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 32-bit IEEE 754 float.
    F32,
    /// 64-bit IEEE 754 float.
    F64,
    /// 128-bit vector.
    V128,
    /// Reference.
    Ref(RefType),
}

/// The type of a reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct RefType {
    /// Whether it may be null.
    pub nullable: bool,
    /// What it refers to.
    pub heap: HeapType,
}

/// What a reference refers to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HeapType {
    /// Any function.
    Func,
    /// No function: such a reference is null.
    NoFunc,
    /// Any host object.
    Extern,
    /// No host object.
    NoExtern,
    /// Any exception.
    Exn,
    /// No exception.
    NoExn,
    /// Functions of one type, by its number: in an artifact its index among the module's types, in a module
    /// that is loaded its number in the engine.
    Concrete(u32),
}

impl HeapType {
    /// The most general type of its kind.
    pub const fn top(self) -> Self {
        match self {
            Self::Func | Self::NoFunc | Self::Concrete(_) => Self::Func,
            Self::Extern | Self::NoExtern => Self::Extern,
            Self::Exn | Self::NoExn => Self::Exn,
        }
    }

    /// Whether every value of this type is one of the other. Types are of one engine, or of one module whose
    /// equal types have equal numbers. No type of functions is declared to be a subtype of another one.
    pub fn is_subtype(self, of: Self) -> bool {
        self == of
            || match self {
                Self::NoFunc | Self::NoExtern | Self::NoExn => self.top() == of.top(),
                Self::Concrete(_) => of == Self::Func,
                Self::Func | Self::Extern | Self::Exn => false,
            }
    }
}

impl RefType {
    /// Whether it is to a function, if not null.
    pub fn is_func(self) -> bool {
        self.heap.top() == HeapType::Func
    }

    /// Whether every reference of this type is one of the other, see [`HeapType::is_subtype`].
    pub fn is_subtype(self, of: Self) -> bool {
        (of.nullable || !self.nullable) && self.heap.is_subtype(of.heap)
    }
}

impl fmt::Display for RefType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (long, short) = match self.heap {
            HeapType::Func => ("func", "funcref"),
            HeapType::NoFunc => ("nofunc", "nullfuncref"),
            HeapType::Extern => ("extern", "externref"),
            HeapType::NoExtern => ("noextern", "nullexternref"),
            HeapType::Exn => ("exn", "exnref"),
            HeapType::NoExn => ("noexn", "nullexnref"),
            HeapType::Concrete(number) => {
                let null = if self.nullable { "null " } else { "" };
                return write!(f, "(ref {null}{number})");
            }
        };
        if self.nullable {
            f.write_str(short)
        } else {
            write!(f, "(ref {long})")
        }
    }
}

impl ValType {
    /// Nullable reference to any function.
    pub const FUNCREF: Self = Self::nullable(HeapType::Func);
    /// Nullable reference to any host object.
    pub const EXTERNREF: Self = Self::nullable(HeapType::Extern);
    /// Nullable reference to any exception.
    pub const EXNREF: Self = Self::nullable(HeapType::Exn);

    const fn nullable(heap: HeapType) -> Self {
        Self::Ref(RefType {
            nullable: true,
            heap,
        })
    }

    /// Whether values of this type are references.
    pub const fn is_ref(self) -> bool {
        matches!(self, Self::Ref(_))
    }

    /// Whether values of this type are references to functions, if not null.
    pub fn is_func_ref(self) -> bool {
        matches!(self, Self::Ref(ty) if ty.is_func())
    }

    /// Whether values of this type are references to exceptions, if not null.
    pub fn is_exn_ref(self) -> bool {
        matches!(self, Self::Ref(ty) if ty.heap.top() == HeapType::Exn)
    }

    /// Whether every value of this type is one of the other, see [`HeapType::is_subtype`].
    pub fn is_subtype(self, of: Self) -> bool {
        match (self, of) {
            (Self::Ref(ty), Self::Ref(of)) => ty.is_subtype(of),
            _ => self == of,
        }
    }

    /// The type with the numbers of types in it replaced.
    #[must_use]
    pub fn with_numbers(self, number: impl FnOnce(u32) -> u32) -> Self {
        match self {
            Self::Ref(RefType {
                nullable,
                heap: HeapType::Concrete(ty),
            }) => Self::Ref(RefType {
                nullable,
                heap: HeapType::Concrete(number(ty)),
            }),
            _ => self,
        }
    }

    /// The number of the type that it refers to, if it does.
    pub const fn concrete(self) -> Option<u32> {
        match self {
            Self::Ref(RefType {
                heap: HeapType::Concrete(ty),
                ..
            }) => Some(ty),
            _ => None,
        }
    }

    /// How the value travels in machine code.
    pub const fn abi(self) -> AbiType {
        match self {
            Self::I32 => AbiType::I32,
            Self::I64 | Self::Ref(_) => AbiType::I64,
            Self::F32 => AbiType::F32,
            Self::F64 => AbiType::F64,
            Self::V128 => AbiType::V128,
        }
    }
}

impl fmt::Display for ValType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ref(ty) => return ty.fmt(f),
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
        })
    }
}

/// The machine-level class of a value: references are pointers or handles in an `i64`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AbiType {
    /// Low half of an integer register; the upper half is undefined.
    I32,
    /// An integer register.
    I64,
    /// Low 32 bits of a vector register.
    F32,
    /// Low 64 bits of a vector register.
    F64,
    /// A vector register; only among guests, see [`AbiSig::fits_registers`].
    V128,
}

impl AbiType {
    /// Whether the value travels in an integer register.
    pub const fn is_int(self) -> bool {
        matches!(self, Self::I32 | Self::I64)
    }
}

/// The type of a function.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct FuncType {
    /// Parameter types, in order.
    pub params: Vec<ValType>,
    /// Result types, in order.
    pub results: Vec<ValType>,
}

impl FuncType {
    /// Makes a function type.
    pub fn new(
        params: impl IntoIterator<Item = ValType>,
        results: impl IntoIterator<Item = ValType>,
    ) -> Self {
        Self {
            params: params.into_iter().collect(),
            results: results.into_iter().collect(),
        }
    }

    /// The types of parameters and results.
    pub fn val_types(&self) -> impl Iterator<Item = ValType> {
        self.params.iter().chain(&self.results).copied()
    }

    /// The type with the numbers of types in it replaced.
    #[must_use]
    pub fn with_numbers(&self, number: impl Fn(u32) -> u32) -> Self {
        let list = |types: &[ValType]| types.iter().map(|ty| ty.with_numbers(&number)).collect();
        Self {
            params: list(&self.params),
            results: list(&self.results),
        }
    }

    /// [`AbiSig::array_slots`] of [`FuncType::abi`], which is not made for it.
    pub fn array_slots(&self) -> usize {
        self.params.len().max(self.results.len())
    }

    /// The machine-level signature.
    pub fn abi(&self) -> AbiSig {
        AbiSig {
            params: self.params.iter().map(|t| t.abi()).collect(),
            results: self.results.iter().map(|t| t.abi()).collect(),
        }
    }
}

impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, types: &[ValType]| {
            f.write_str("(")?;
            for (i, ty) in types.iter().enumerate() {
                write!(f, "{}{ty}", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(")")
        };
        list(f, &self.params)?;
        f.write_str(" -> ")?;
        list(f, &self.results)
    }
}

/// A signature as machine code sees it. Trampolines are made per `AbiSig`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct AbiSig {
    /// Parameters, without the context.
    pub params: Vec<AbiType>,
    /// Results.
    pub results: Vec<AbiType>,
}

/// Integer arguments that a host function can take in registers, beside its two context arguments.
pub const HOST_INT_REGS: usize = 4;
/// Float arguments that a host function can take in registers.
pub const HOST_FLOAT_REGS: usize = 8;

impl AbiSig {
    /// Whether a host function of this signature is called with all arguments in registers and at
    /// most one result. Only then do the guest's convention and the host's agree, so that one
    /// trampoline in assembly serves every such signature; all others pass an array. So do those with
    /// a vector, for which the host's convention has no type that is the same on every compiler.
    pub fn fits_registers(&self) -> bool {
        if self.params.contains(&AbiType::V128) || self.results.contains(&AbiType::V128) {
            return false;
        }
        let ints = self.params.iter().filter(|p| p.is_int()).count();
        let floats = self.params.len() - ints;
        ints <= HOST_INT_REGS && floats <= HOST_FLOAT_REGS && self.results.len() <= 1
    }

    /// Slots of the argument array that carries arguments in and results out.
    pub fn array_slots(&self) -> usize {
        self.params.len().max(self.results.len())
    }
}

/// Bytes of one slot of an argument array; wide enough for a 128-bit vector.
pub const ARRAY_SLOT_LEN: u32 = 16;

/// The type of a memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct MemoryType {
    /// Pages at the start.
    pub min: u64,
    /// Pages at most; `None` where the module sets no bound.
    pub max: Option<u64>,
    /// Whether addresses are 64 bits wide instead of 32.
    pub is_64: bool,
    /// log2 of the bytes of a page: 16 unless the module says otherwise.
    pub page_len_log2: u8,
    /// Whether instances on several threads may have it at the same time. It has a maximum then.
    pub shared: bool,
}

impl MemoryType {
    /// A memory with 32-bit addresses and pages of 64 KiB.
    pub const fn new(min: u64, max: Option<u64>) -> Self {
        Self {
            min,
            max,
            is_64: false,
            page_len_log2: WASM_PAGE_LEN.trailing_zeros() as u8,
            shared: false,
        }
    }

    /// Bytes of a page.
    pub const fn page_len(&self) -> u64 {
        1 << self.page_len_log2
    }

    /// Bytes at the start; saturates where no memory could be so long.
    pub const fn min_len(&self) -> u64 {
        self.min.saturating_mul(self.page_len())
    }

    /// Bytes at most, as far as the module and the width of addresses say; saturates.
    pub const fn max_len(&self) -> u64 {
        let reach = if self.is_64 {
            u64::MAX
        } else if self.page_len_log2 == 0 {
            // The count of pages must fit what `memory.size` returns.
            u32::MAX as u64
        } else {
            1 << 32
        };
        let max = match self.max {
            Some(max) => max.saturating_mul(self.page_len()),
            None => u64::MAX,
        };
        if max < reach { max } else { reach }
    }

    /// Whether a reservation and a guard can do the work of bounds checks: addresses must not reach
    /// beyond them, and the length must be of whole pages of the host.
    pub const fn is_guarded(&self) -> bool {
        !self.is_64 && self.page_len() == WASM_PAGE_LEN
    }
}

/// Bytes of a Wasm page.
pub const WASM_PAGE_LEN: u64 = 65536;

/// The type of a table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct TableType {
    /// Type of the elements.
    pub elem: ValType,
    /// Elements at the start.
    pub min: u64,
    /// Elements at most; `None` where the module sets no bound.
    pub max: Option<u64>,
    /// Whether indices are 64 bits wide instead of 32.
    pub is_64: bool,
}

/// The type of a global.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct GlobalType {
    /// Type of the value.
    pub ty: ValType,
    /// Whether the guest may change it.
    pub mutable: bool,
}

/// The type of an import or export.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExternType {
    /// A function.
    Func(FuncType),
    /// A table.
    Table(TableType),
    /// A memory.
    Memory(MemoryType),
    /// A global.
    Global(GlobalType),
    /// A tag of exceptions: its parameters are what they carry, it has no results.
    Tag(FuncType),
}

impl ExternType {
    /// The kind in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Func(_) => "function",
            Self::Table(_) => "table",
            Self::Memory(_) => "memory",
            Self::Global(_) => "global",
            Self::Tag(_) => "tag",
        }
    }
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = |f: &mut fmt::Formatter<'_>, max: Option<u64>| match max {
            Some(max) => write!(f, "{max}"),
            None => f.write_str("any"),
        };
        match self {
            Self::Func(ty) => write!(f, "function {ty}"),
            Self::Tag(ty) => write!(f, "tag {ty}"),
            Self::Table(ty) => {
                let width = if ty.is_64 { "64-bit " } else { "" };
                write!(f, "{width}table of {} with {} to ", ty.elem, ty.min)?;
                max(f, ty.max)?;
                f.write_str(" elements")
            }
            Self::Memory(ty) => {
                let shared = if ty.shared { "shared " } else { "" };
                let width = if ty.is_64 { "64-bit " } else { "" };
                write!(f, "{shared}{width}memory of {} to ", ty.min)?;
                max(f, ty.max)?;
                match ty.page_len() {
                    WASM_PAGE_LEN => f.write_str(" pages"),
                    len => write!(f, " pages of length {len}"),
                }
            }
            Self::Global(ty) => {
                write!(
                    f,
                    "{} global of type {}",
                    if ty.mutable { "mutable" } else { "constant" },
                    ty.ty
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_integers_and_eight_floats_fit_registers() {
        let sig = |ints: usize, floats: usize, results: usize| {
            FuncType::new(
                std::iter::repeat_n(ValType::I64, ints)
                    .chain(std::iter::repeat_n(ValType::F32, floats)),
                std::iter::repeat_n(ValType::EXTERNREF, results),
            )
            .abi()
        };
        assert!(sig(4, 8, 1).fits_registers());
        assert!(!sig(5, 0, 0).fits_registers());
        assert!(!sig(0, 9, 0).fits_registers());
        assert!(!sig(0, 0, 2).fits_registers());
        assert_eq!(sig(1, 1, 3).array_slots(), 3);
    }

    #[test]
    fn vectors_reach_the_host_by_array_only() {
        let v128 = [ValType::V128];
        assert!(!FuncType::new(v128, []).abi().fits_registers());
        assert!(!FuncType::new([], v128).abi().fits_registers());
        let sig = FuncType::new(v128, v128).abi();
        assert_eq!((sig.array_slots(), sig.params[0].is_int()), (1, false));
    }

    #[test]
    fn lengths_of_memories_stay_within_what_addresses_reach() {
        let usual = MemoryType::new(1, None);
        assert_eq!((usual.min_len(), usual.max_len()), (65536, 1 << 32));
        assert!(usual.is_guarded());
        let bytes = MemoryType {
            page_len_log2: 0,
            ..usual
        };
        assert_eq!((bytes.min_len(), bytes.max_len()), (1, u32::MAX.into()));
        assert!(!bytes.is_guarded());
        let wide = MemoryType {
            is_64: true,
            max: Some(1 << 48),
            ..usual
        };
        assert_eq!(wide.max_len(), u64::MAX);
        assert!(!wide.is_guarded());
        assert_eq!(
            ExternType::Memory(wide).to_string(),
            "64-bit memory of 1 to 281474976710656 pages"
        );
        let shared = MemoryType {
            max: Some(2),
            shared: true,
            ..usual
        };
        assert_eq!(
            ExternType::Memory(shared).to_string(),
            "shared memory of 1 to 2 pages"
        );
        assert_eq!(
            ExternType::Memory(bytes).to_string(),
            "memory of 1 to any pages of length 1"
        );
    }

    #[test]
    fn references_are_subtypes_by_nullability_and_by_what_they_refer_to() {
        use HeapType::{Concrete, Extern, Func, NoExtern, NoFunc};
        let of = |nullable, heap| ValType::Ref(RefType { nullable, heap });
        for (sub, sup) in [
            (of(false, Func), of(true, Func)),
            (of(true, Concrete(3)), of(true, Func)),
            (of(false, Concrete(3)), of(true, Concrete(3))),
            (of(true, NoFunc), of(true, Concrete(3))),
            (of(true, NoExtern), of(true, Extern)),
        ] {
            assert!(sub.is_subtype(sup), "{sub} {sup}");
            assert!(!sup.is_subtype(sub), "{sup} {sub}");
            assert!(sub.is_subtype(sub));
        }
        assert!(!of(true, Concrete(3)).is_subtype(of(true, Concrete(4))));
        assert!(!of(true, NoFunc).is_subtype(of(true, Extern)));
        assert!(!of(true, Func).is_subtype(ValType::I64));
        assert_eq!(of(false, Concrete(7)).to_string(), "(ref 7)");
        assert_eq!(of(true, NoFunc).to_string(), "nullfuncref");
        assert_eq!(of(false, Extern).to_string(), "(ref extern)");
    }

    #[test]
    fn types_read_as_in_the_text_format() {
        let ty = FuncType::new([ValType::I32, ValType::F64], [ValType::FUNCREF]);
        assert_eq!(ty.to_string(), "(i32, f64) -> (funcref)");
    }
}
