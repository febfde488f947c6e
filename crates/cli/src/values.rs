//! Wasm values as words of the command line: arguments of `--invoke` by their type, and results as
//! they are printed.

use std::ops::RangeInclusive;

use selvedge::{Val, ValType};

/// Magnitudes of floats that are printed without an exponent.
const PLAIN_FLOATS: RangeInclusive<f64> = 1e-5..=1e16;

/// Reads a value of a type; the error says what would be one.
pub(crate) fn parse(text: &str, ty: ValType) -> Result<Val, &'static str> {
    match ty {
        ValType::I32 => integer(text, i32::MIN.into(), u32::MAX.into())
            .map(|v| Val::I32(v as i32))
            .ok_or("write a 32-bit integer, decimal or with 0x in front"),
        ValType::I64 => integer(text, i64::MIN.into(), u64::MAX.into())
            .map(|v| Val::I64(v as i64))
            .ok_or("write a 64-bit integer, decimal or with 0x in front"),
        ValType::F32 => text
            .parse()
            .map(Val::F32)
            .map_err(|_| "write a number, inf or nan"),
        ValType::F64 => text
            .parse()
            .map(Val::F64)
            .map_err(|_| "write a number, inf or nan"),
        ValType::V128 => vector(text)
            .map(Val::V128)
            .ok_or("write 0x and up to 32 hexadecimal digits, the last lane first"),
        _ => Err("references cannot be given on the command line"),
    }
}

/// An integer between the smallest signed and the largest unsigned value of its width.
fn integer(text: &str, min: i128, max: i128) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse::<u64>(),
    };
    // A second sign would be read by `parse` and `from_str_radix`.
    if digits.contains(['+', '-']) {
        return None;
    }
    let magnitude = i128::from(magnitude.ok()?);
    let value = if negative { -magnitude } else { magnitude };
    (min..=max).contains(&value).then_some(value)
}

/// A vector as one number: lane 0 stands at its low end.
fn vector(text: &str) -> Option<u128> {
    let digits = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))?;
    // A sign would be read by `from_str_radix`.
    if digits.starts_with('+') {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

/// A result as a word: integers signed, vectors as [`parse`] reads them, references as what they
/// are.
pub(crate) fn format(value: &Val) -> String {
    match value {
        Val::I32(v) => v.to_string(),
        Val::I64(v) => v.to_string(),
        Val::F32(v) if is_plain(f64::from(*v)) => v.to_string(),
        Val::F32(v) => format!("{v:e}"),
        Val::F64(v) if is_plain(*v) => v.to_string(),
        Val::F64(v) => format!("{v:e}"),
        Val::V128(v) => format!("{v:#034x}"),
        Val::FuncRef(None) | Val::ExternRef(None) | Val::ExnRef(None) => "null".to_owned(),
        other => other.ty().to_string(),
    }
}

fn is_plain(value: f64) -> bool {
    value == 0.0 || !value.is_finite() || PLAIN_FLOATS.contains(&value.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_signed_or_unsigned_decimal_or_hexadecimal() {
        let i32_of = |text| parse(text, ValType::I32).ok().and_then(|v| v.i32());
        assert_eq!(i32_of("-1"), Some(-1));
        assert_eq!(i32_of("+1"), Some(1));
        assert_eq!(i32_of("4294967295"), Some(-1));
        assert_eq!(i32_of("0xffffffff"), Some(-1));
        assert_eq!(i32_of("-0x80000000"), Some(i32::MIN));
        let wrong = [
            "",
            "-",
            "0x",
            "--1",
            "+-1",
            "0x-1",
            "-+1",
            "1.0",
            "4294967296",
            "-2147483649",
        ];
        for text in wrong {
            assert_eq!(i32_of(text), None, "{text}");
        }
        let i64_of = |text| parse(text, ValType::I64).ok().and_then(|v| v.i64());
        assert_eq!(i64_of("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(i64_of("18446744073709551615"), Some(-1));
        assert_eq!(i64_of("18446744073709551616"), None);
        assert_eq!(i64_of("-9223372036854775809"), None);
    }

    #[test]
    fn vectors_are_one_hexadecimal_number() {
        let v128_of = |text: &str| parse(text, ValType::V128).ok().and_then(|v| v.v128());
        assert_eq!(v128_of("0x2a"), Some(42));
        assert_eq!(v128_of(&format!("0x{}", "f".repeat(32))), Some(u128::MAX));
        for text in [
            "",
            "42",
            "0x",
            "0x+1",
            "-0x1",
            &format!("0x1{}", "0".repeat(32)),
        ] {
            assert_eq!(v128_of(text), None, "{text}");
        }
        let text = "0x0000000300000002000000010000002a";
        assert_eq!(
            v128_of(text).map(|v| format(&Val::V128(v))).as_deref(),
            Some(text)
        );
    }

    #[test]
    fn references_are_not_read_and_printed_by_kind() {
        assert!(parse("null", ValType::FUNCREF).is_err());
        assert_eq!(format(&Val::ExternRef(None)), "null");
    }

    #[test]
    fn floats_are_printed_short() {
        assert_eq!(format(&Val::F64(0.1)), "0.1");
        assert_eq!(format(&Val::F64(-0.0)), "-0");
        assert_eq!(format(&Val::F64(1e300)), "1e300");
        assert_eq!(format(&Val::F64(1e-7)), "1e-7");
        assert_eq!(format(&Val::F64(f64::INFINITY)), "inf");
        assert_eq!(format(&Val::F32(0.1)), "0.1");
    }
}
