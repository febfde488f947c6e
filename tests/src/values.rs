//! Values of scripts: arguments to values, expectations against results.

use selvedge_runtime::{ExternRef, Val};
use wast::core::{AbstractHeapType, HeapType, NanPattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};

/// A host object of a script, known by its number.
#[derive(Debug, PartialEq, Eq)]
struct HostObject(u32);

/// Host objects of one script: the same number is the same object.
#[derive(Debug, Default)]
pub struct HostObjects(std::collections::HashMap<u32, ExternRef>);

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
pub fn arg(objects: &mut HostObjects, arg: &WastArg<'_>) -> Result<Val, String> {
    let WastArg::Core(arg) = arg else {
        return Err("an argument of the component model".to_owned());
    };
    Ok(match arg {
        WastArgCore::I32(v) => Val::I32(*v),
        WastArgCore::I64(v) => Val::I64(*v),
        WastArgCore::F32(v) => Val::F32(f32::from_bits(v.bits)),
        WastArgCore::F64(v) => Val::F64(f64::from_bits(v.bits)),
        WastArgCore::RefNull(ty) if is(ty, AbstractHeapType::Func) => Val::FuncRef(None),
        WastArgCore::RefNull(ty) if is(ty, AbstractHeapType::Extern) => Val::ExternRef(None),
        WastArgCore::RefExtern(number) => Val::ExternRef(Some(objects.get(*number))),
        other => return Err(format!("argument {other:?} is not supported")),
    })
}

fn is(ty: &HeapType<'_>, expected: AbstractHeapType) -> bool {
    matches!(ty, HeapType::Abstract { shared: false, ty } if *ty == expected)
}

/// Compares results with what a script expects.
///
/// # Errors
///
/// The first difference, in words.
pub fn check(found: &[Val], expected: &[WastRet<'_>]) -> Result<(), String> {
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
        (Val::F32(a), WastRetCore::F32(b)) => match b {
            NanPattern::CanonicalNan => a.to_bits() & 0x7fff_ffff == 0x7fc0_0000,
            NanPattern::ArithmeticNan => a.to_bits() & 0x7fc0_0000 == 0x7fc0_0000,
            NanPattern::Value(b) => a.to_bits() == b.bits,
        },
        (Val::F64(a), WastRetCore::F64(b)) => match b {
            NanPattern::CanonicalNan => a.to_bits() & (u64::MAX >> 1) == 0x7ff8_0000_0000_0000,
            NanPattern::ArithmeticNan => {
                a.to_bits() & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000
            }
            NanPattern::Value(b) => a.to_bits() == b.bits,
        },
        (Val::FuncRef(None) | Val::ExternRef(None), WastRetCore::RefNull(None)) => true,
        (Val::FuncRef(None), WastRetCore::RefNull(Some(ty))) => is(ty, AbstractHeapType::Func),
        (Val::ExternRef(None), WastRetCore::RefNull(Some(ty))) => is(ty, AbstractHeapType::Extern),
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
