//! Values of scripts: arguments to values, expectations against results.

use std::collections::HashMap;

use selvedge::{ExternRef, Val};
use wast::core::{AbstractHeapType, HeapType, NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wast::token::{F32, F64};
use wast::{WastArg, WastRet};

/// A host object of a script, known by its number.
#[derive(Debug, PartialEq, Eq)]
struct HostObject(u32);

/// Host objects of one script: the same number is the same object.
#[derive(Debug, Default)]
pub(crate) struct HostObjects(HashMap<u32, ExternRef>);

impl HostObjects {
    fn get(&mut self, number: u32) -> ExternRef {
        self.0
            .entry(number)
            .or_insert_with(|| ExternRef::new(HostObject(number)))
            .clone()
    }
}

/// An argument as a value.
///
/// # Errors
///
/// What is not supported, in words.
pub(crate) fn arg(objects: &mut HostObjects, arg: &WastArg<'_>) -> Result<Val, String> {
    let WastArg::Core(arg) = arg else {
        return Err("an argument of the component model".to_owned());
    };
    Ok(match arg {
        WastArgCore::I32(v) => Val::I32(*v),
        WastArgCore::I64(v) => Val::I64(*v),
        WastArgCore::F32(v) => Val::F32(f32::from_bits(v.bits)),
        WastArgCore::F64(v) => Val::F64(f64::from_bits(v.bits)),
        WastArgCore::V128(v) => Val::V128(u128::from_le_bytes(v.to_le_bytes())),
        WastArgCore::RefNull(ty) if is_func(ty) => Val::FuncRef(None),
        WastArgCore::RefNull(ty) if is_extern(ty) => Val::ExternRef(None),
        WastArgCore::RefExtern(number) => Val::ExternRef(Some(objects.get(*number))),
        other => return Err(format!("argument {other:?} is not supported")),
    })
}

/// Whether a type is of functions; all types with a number are.
fn is_func(ty: &HeapType<'_>) -> bool {
    use AbstractHeapType::{Func, NoFunc};
    matches!(
        ty,
        HeapType::Abstract {
            shared: false,
            ty: Func | NoFunc
        } | HeapType::Concrete(_)
    )
}

/// Whether a type is of host objects.
fn is_extern(ty: &HeapType<'_>) -> bool {
    use AbstractHeapType::{Extern, NoExtern};
    matches!(
        ty,
        HeapType::Abstract {
            shared: false,
            ty: Extern | NoExtern
        }
    )
}

/// Compares results with what a script expects.
///
/// # Errors
///
/// The first difference, in words.
pub(crate) fn check(found: &[Val], expected: &[WastRet<'_>]) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!(
            "expected {} results, found {found:?}",
            expected.len()
        ));
    }
    for (found, expected) in found.iter().zip(expected) {
        let WastRet::Core(expected) = expected else {
            return Err("a result of the component model".to_owned());
        };
        if !matches(found, expected)? {
            return Err(format!("expected {expected:?}, found {found:?}"));
        }
    }
    Ok(())
}

fn matches(found: &Val, expected: &WastRetCore<'_>) -> Result<bool, String> {
    Ok(match (found, expected) {
        (Val::I32(a), WastRetCore::I32(b)) => a == b,
        (Val::I64(a), WastRetCore::I64(b)) => a == b,
        (Val::F32(a), WastRetCore::F32(b)) => matches_f32(a.to_bits(), b),
        (Val::F64(a), WastRetCore::F64(b)) => matches_f64(a.to_bits(), b),
        (Val::V128(a), WastRetCore::V128(b)) => matches_v128(*a, b),
        (
            Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None),
            WastRetCore::RefNull(None),
        ) => true,
        (Val::FuncRef(None), WastRetCore::RefNull(Some(ty))) => is_func(ty),
        (Val::ExternRef(None), WastRetCore::RefNull(Some(ty))) => is_extern(ty),
        (Val::FuncRef(Some(_)), WastRetCore::RefFunc(_)) => true,
        (Val::ExternRef(Some(_)), WastRetCore::RefExtern(None)) => true,
        (Val::ExternRef(Some(object)), WastRetCore::RefExtern(Some(number))) => {
            object.downcast_ref() == Some(&HostObject(*number))
        }
        (_, WastRetCore::Either(options)) => {
            for option in options {
                if matches(found, option)? {
                    return Ok(true);
                }
            }
            false
        }
        _ => false,
    })
}

fn matches_f32(found: u32, expected: &NanPattern<F32>) -> bool {
    match expected {
        NanPattern::CanonicalNan => found & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => found & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(expected) => found == expected.bits,
    }
}

fn matches_f64(found: u64, expected: &NanPattern<F64>) -> bool {
    match expected {
        NanPattern::CanonicalNan => found & (u64::MAX >> 1) == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => found & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(expected) => found == expected.bits,
    }
}

/// Lane by lane, since a lane of floats may be any of several NaNs.
fn matches_v128(found: u128, expected: &V128Pattern) -> bool {
    let lane = |bits: u32, index: usize| (found >> (bits * index as u32)) as u64;
    match expected {
        V128Pattern::I8x16(lanes) => all(lanes, |i, &v| lane(8, i) as i8 == v),
        V128Pattern::I16x8(lanes) => all(lanes, |i, &v| lane(16, i) as i16 == v),
        V128Pattern::I32x4(lanes) => all(lanes, |i, &v| lane(32, i) as i32 == v),
        V128Pattern::I64x2(lanes) => all(lanes, |i, &v| lane(64, i) as i64 == v),
        V128Pattern::F32x4(lanes) => all(lanes, |i, v| matches_f32(lane(32, i) as u32, v)),
        V128Pattern::F64x2(lanes) => all(lanes, |i, v| matches_f64(lane(64, i), v)),
    }
}

fn all<T>(lanes: &[T], test: impl Fn(usize, &T) -> bool) -> bool {
    lanes.iter().enumerate().all(|(i, lane)| test(i, lane))
}
