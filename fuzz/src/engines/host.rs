//! The host functions that modules may import: one table, and what each does, told once for all engines.
//! The same arguments and memory give the same results on every side.

use std::fmt;

use super::value::{Type, Value};

/// The module name of all of them.
pub(crate) const MODULE: &str = "host";

/// A host function by its name and type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFunc {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Type],
    pub(crate) results: &'static [Type],
    pub(crate) does: Does,
}

/// What a host function does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Does {
    /// Results are a hash of the arguments.
    Mix,
    /// As `Mix`, but once in four times it fails and ends the guest.
    Fail,
    /// Writes a byte to memory 0.
    Poke,
    /// Reads a byte of memory 0.
    Peek,
    /// Calls an exported function, with zeros.
    Again,
}

/// Every host function. Signatures that fit registers and such that do not.
pub(crate) const FUNCS: &[HostFunc] = {
    use Type::{ExternRef, F32, F64, FuncRef, I32, I64};
    &[
        HostFunc {
            name: "nothing",
            params: &[],
            results: &[],
            does: Does::Mix,
        },
        HostFunc {
            name: "one",
            params: &[I32],
            results: &[I32],
            does: Does::Mix,
        },
        HostFunc {
            name: "floats",
            params: &[F32, F64],
            results: &[F64],
            does: Does::Mix,
        },
        HostFunc {
            name: "float",
            params: &[I64],
            results: &[F32],
            does: Does::Mix,
        },
        HostFunc {
            name: "two",
            params: &[I64],
            results: &[I32, I64],
            does: Does::Mix,
        },
        HostFunc {
            name: "many",
            params: &[I32, F64, I64, F32, I32, I64, I32],
            results: &[I64],
            does: Does::Mix,
        },
        HostFunc {
            name: "several",
            params: &[I32, I32],
            results: &[F32, I32, F64, I64],
            does: Does::Mix,
        },
        HostFunc {
            name: "references",
            params: &[ExternRef, FuncRef],
            results: &[ExternRef],
            does: Does::Mix,
        },
        HostFunc {
            name: "fail",
            params: &[I32],
            results: &[I64],
            does: Does::Fail,
        },
        HostFunc {
            name: "poke",
            params: &[I32, I32],
            results: &[],
            does: Does::Poke,
        },
        HostFunc {
            name: "peek",
            params: &[I32],
            results: &[I32],
            does: Does::Peek,
        },
        HostFunc {
            name: "again",
            params: &[I32],
            results: &[I32],
            does: Does::Again,
        },
    ]
};

/// Calls that host functions may have made of each other's guests at once. Beyond it the host's own
/// stack is at stake, which is not what is tested.
pub(crate) const MAX_DEPTH: u32 = 6;

/// The imports as a module, for the generator to choose from.
pub(crate) fn imports() -> Vec<u8> {
    use wasm_encoder::{EntityType, ImportSection, Module, TypeSection, ValType};
    let of = |types: &[Type]| {
        let one = |ty: &Type| match ty {
            Type::I32 => ValType::I32,
            Type::I64 => ValType::I64,
            Type::F32 => ValType::F32,
            Type::F64 => ValType::F64,
            Type::V128 => ValType::V128,
            Type::FuncRef => ValType::FUNCREF,
            Type::ExternRef => ValType::EXTERNREF,
            Type::ExnRef => ValType::EXNREF,
        };
        types.iter().map(one).collect::<Vec<_>>()
    };
    let mut types = TypeSection::new();
    let mut imports = ImportSection::new();
    for (index, func) in (0..).zip(FUNCS) {
        types.ty().function(of(func.params), of(func.results));
        imports.import(MODULE, func.name, EntityType::Function(index));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

/// Whether the host function of a name needs the guest that calls it.
pub(crate) fn touches_guest(name: &str) -> bool {
    let func = FUNCS.iter().find(|func| func.name == name);
    func.is_some_and(|func| matches!(func.does, Does::Poke | Does::Peek | Does::Again))
}

/// The host function failed on purpose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed on purpose")
    }
}

impl std::error::Error for Failed {}

/// A memory to a host function: a slice, or one that is shared and of which there are no slices.
pub(crate) trait Bytes {
    /// The byte at an address, if there is one.
    fn get(&mut self, at: usize) -> Option<u8>;

    /// Writes a byte, if there is one at that address.
    fn set(&mut self, at: usize, byte: u8);
}

impl Bytes for [u8] {
    fn get(&mut self, at: usize) -> Option<u8> {
        <[u8]>::get(self, at).copied()
    }

    fn set(&mut self, at: usize, byte: u8) {
        if let Some(place) = self.get_mut(at) {
            *place = byte;
        }
    }
}

impl HostFunc {
    /// The results of a function that needs no guest.
    pub(crate) fn mix(&self, args: &[Value]) -> Result<Vec<Value>, Failed> {
        let mut hash = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834_u128;
        for value in args {
            hash = (hash ^ value.bits()).wrapping_mul(0xda94_2042_e4dd_58b5_0000_0000_0000_0001);
            hash ^= hash >> 61;
        }
        if self.does == Does::Fail && hash & 3 == 0 {
            return Err(Failed);
        }
        let result = |(i, &ty): (u32, &Type)| Value::of_bits(ty, hash.rotate_left(i * 23));
        Ok((0..).zip(self.results).map(result).collect())
    }

    /// Writes or reads a byte; outside the memory it does nothing or reads a number of its own.
    pub(crate) fn touch(&self, args: &[Value], memory: &mut (impl Bytes + ?Sized)) -> Vec<Value> {
        let arg = |i: usize| args.get(i).map_or(0, |value| value.bits() as u32);
        let at = arg(0) as usize % (1 << 20);
        if self.does == Does::Poke {
            memory.set(at, arg(1) as u8);
            return Vec::new();
        }
        vec![Value::I32(memory.get(at).map_or(0xffff, Into::into))]
    }
}
