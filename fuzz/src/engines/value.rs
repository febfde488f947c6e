//! Values and outcomes as all engines are translated to, so that they can be compared bit by bit.

use std::fmt;

use crate::random::Random;

/// A type of value that can be passed in and out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    I32,
    I64,
    F32,
    F64,
    V128,
    FuncRef,
    ExternRef,
    ExnRef,
}

impl Type {
    /// The types of a list; `None` if one of them can't be passed.
    pub(crate) fn of_all(types: &[wasmparser::ValType]) -> Option<Vec<Self>> {
        use wasmparser::ValType;
        let one = |ty: &ValType| {
            Some(match *ty {
                ValType::I32 => Self::I32,
                ValType::I64 => Self::I64,
                ValType::F32 => Self::F32,
                ValType::F64 => Self::F64,
                ValType::V128 => Self::V128,
                ValType::FUNCREF => Self::FuncRef,
                ValType::EXTERNREF => Self::ExternRef,
                ValType::EXNREF => Self::ExnRef,
                _ => return None,
            })
        };
        types.iter().map(one).collect()
    }
}

/// A value. Floats are bits; a reference to a function or to an exception says only whether there is one,
/// since two engines have none in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
    V128(u128),
    FuncRef { null: bool },
    ExternRef(Option<u64>),
    ExnRef { null: bool },
}

impl Value {
    /// Zero or null.
    pub(crate) fn zero(ty: Type) -> Self {
        Self::of_bits(ty, 0)
    }

    /// A value whose bits are taken from a number; references are made of it as far as that goes.
    pub(crate) fn of_bits(ty: Type, bits: u128) -> Self {
        match ty {
            Type::I32 => Self::I32(bits as u32),
            Type::I64 => Self::I64(bits as u64),
            Type::F32 => Self::F32(canonical32(bits as u32)),
            Type::F64 => Self::F64(canonical64(bits as u64)),
            Type::V128 => Self::V128(bits),
            Type::FuncRef => Self::FuncRef { null: true },
            Type::ExnRef => Self::ExnRef { null: true },
            Type::ExternRef => Self::ExternRef((bits & 3 != 0).then_some(bits as u64)),
        }
    }

    /// A value for an argument: often one at which something changes.
    pub(crate) fn random(ty: Type, random: &mut Random) -> Self {
        let bits = match random.below(4) {
            0 => u128::from(random.bits()) << 64 | u128::from(random.bits()),
            1 => random.below(70_000) as u128,
            2 => {
                const EDGES: [i64; 10] = [
                    0,
                    1,
                    -1,
                    0x7f,
                    0x80,
                    0xffff,
                    1 << 16,
                    1 << 31,
                    i64::MIN,
                    i64::MAX,
                ];
                i128::from(random.pick(&EDGES)).cast_unsigned()
            }
            // Floats at the edges of integers, infinite, tiny, not a number, minus zero.
            _ => {
                let float = random.pick(&[
                    -0.0,
                    1.5,
                    -1.0,
                    2147483648.0,
                    -2147483649.0,
                    18446744073709551616.0,
                    f64::INFINITY,
                    f64::NEG_INFINITY,
                    f64::NAN,
                    f64::MIN_POSITIVE / 4.0,
                ]);
                match ty {
                    Type::F32 => u128::from((float as f32).to_bits()),
                    _ => u128::from(float.to_bits()) * (1 | 1 << 64),
                }
            }
        };
        Self::of_bits(ty, bits)
    }

    /// The bits, for hashing.
    pub(crate) fn bits(self) -> u128 {
        match self {
            Self::I32(v) | Self::F32(v) => v.into(),
            Self::I64(v) | Self::F64(v) => v.into(),
            Self::V128(v) => v,
            Self::FuncRef { null } | Self::ExnRef { null } => null.into(),
            Self::ExternRef(v) => v.map_or(0, |v| u128::from(v) + 1),
        }
    }
}

/// The one quiet NaN that generated modules hold too.
fn canonical32(bits: u32) -> u32 {
    if f32::from_bits(bits).is_nan() {
        0x7fc0_0000
    } else {
        bits
    }
}

fn canonical64(bits: u64) -> u64 {
    if f64::from_bits(bits).is_nan() {
        0x7ff8 << 48
    } else {
        bits
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::I32(v) => write!(f, "i32 {v:#x}"),
            Self::I64(v) => write!(f, "i64 {v:#x}"),
            Self::F32(v) => write!(f, "f32 {v:#x} ({})", f32::from_bits(v)),
            Self::F64(v) => write!(f, "f64 {v:#x} ({})", f64::from_bits(v)),
            Self::V128(v) => write!(f, "v128 {v:#034x}"),
            Self::FuncRef { null: true } => f.write_str("funcref null"),
            Self::FuncRef { null: false } => f.write_str("funcref"),
            Self::ExnRef { null: true } => f.write_str("exnref null"),
            Self::ExnRef { null: false } => f.write_str("exnref"),
            Self::ExternRef(None) => f.write_str("externref null"),
            Self::ExternRef(Some(v)) => write!(f, "externref {v:#x}"),
        }
    }
}

/// Why a guest trapped, as far as all engines tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trap {
    Unreachable,
    Memory,
    /// Outside a table, whether by `table.get` or by `call_indirect`.
    Table,
    NullElement,
    BadSignature,
    DivisionByZero,
    IntegerOverflow,
    BadConversion,
    /// A reference to a function, an object or an exception that must not be null.
    NullReference,
    /// An atomic access at an address that is no multiple of its length.
    Unaligned,
    /// A wait on a memory that is not shared.
    NotShared,
    /// One that has no counterpart.
    Other,
}

/// How a call or an instantiation ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Returned(Vec<Value>),
    Trapped(Trap),
    /// An exception left the guest, with these values.
    Threw(Vec<Value>),
    /// A host function failed, and the guest with it.
    HostFailed,
    /// A stack was used up, or what exceptions are kept in: how large frames are is each engine's own affair.
    Exhausted,
    /// The engine did not take the module, or something of the call.
    Refused(String),
    /// The engine panicked.
    Panicked(String),
}

impl Outcome {
    /// A number for a guest: what became of a call that a host function made for it.
    pub(crate) fn tag(&self) -> u32 {
        match self {
            Self::Returned(values) => values.iter().fold(1000, |tag: u32, value| {
                tag.rotate_left(5).wrapping_add(value.bits() as u32)
            }),
            Self::Threw(values) => values.iter().fold(2000, |tag: u32, value| {
                tag.rotate_left(7).wrapping_add(value.bits() as u32)
            }),
            Self::Trapped(trap) => 10 + *trap as u32,
            Self::HostFailed => 2,
            Self::Exhausted => 3,
            Self::Refused(_) => 4,
            Self::Panicked(_) => 5,
        }
    }
}
