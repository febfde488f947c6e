//! Initialiser expressions: from Wasm bytes to postfix operators, and the value of those that
//! depend on nothing.

use selvedge_artifact::ids::{FuncIdx, GlobalIdx};
use selvedge_artifact::module::{ConstExpr, ConstOp};
use wasmparser::Operator;

use crate::error::Error;
use crate::operators;

/// Reads a validated expression.
pub(super) fn read(expr: &wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error> {
    let mut ops = ConstExpr::new();
    for op in expr.get_operators_reader().into_iter_with_offsets() {
        let (op, offset) = op?;
        ops.push(match op {
            Operator::I32Const { value } => ConstOp::I32Const(value),
            Operator::I64Const { value } => ConstOp::I64Const(value),
            Operator::F32Const { value } => ConstOp::F32Const(value.bits()),
            Operator::F64Const { value } => ConstOp::F64Const(value.bits()),
            Operator::V128Const { value } => ConstOp::V128Const(*value.bytes()),
            Operator::GlobalGet { global_index } => {
                ConstOp::GlobalGet(GlobalIdx::new(global_index))
            }
            Operator::RefNull { .. } => ConstOp::RefNull,
            Operator::RefFunc { function_index } => ConstOp::RefFunc(FuncIdx::new(function_index)),
            Operator::I32Add => ConstOp::I32Add,
            Operator::I32Sub => ConstOp::I32Sub,
            Operator::I32Mul => ConstOp::I32Mul,
            Operator::I64Add => ConstOp::I64Add,
            Operator::I64Sub => ConstOp::I64Sub,
            Operator::I64Mul => ConstOp::I64Mul,
            Operator::End => continue,
            other => {
                return Err(Error::unsupported(operators::proposal(&other), offset));
            }
        });
    }
    Ok(ops)
}

/// The value of an integer expression that reads no global, as an index; `None` for any other.
pub(super) fn index_value(expr: &ConstExpr) -> Option<u64> {
    let mut stack: Vec<u64> = Vec::new();
    for op in expr {
        let value = match op {
            ConstOp::I32Const(value) => value.cast_unsigned().into(),
            ConstOp::I64Const(value) => value.cast_unsigned(),
            ConstOp::I32Add | ConstOp::I32Sub | ConstOp::I32Mul => {
                let right = stack.pop()? as u32;
                let left = stack.pop()? as u32;
                u64::from(match op {
                    ConstOp::I32Add => left.wrapping_add(right),
                    ConstOp::I32Sub => left.wrapping_sub(right),
                    _ => left.wrapping_mul(right),
                })
            }
            ConstOp::I64Add | ConstOp::I64Sub | ConstOp::I64Mul => {
                let right = stack.pop()?;
                let left = stack.pop()?;
                match op {
                    ConstOp::I64Add => left.wrapping_add(right),
                    ConstOp::I64Sub => left.wrapping_sub(right),
                    _ => left.wrapping_mul(right),
                }
            }
            _ => return None,
        };
        stack.push(value);
    }
    stack.pop().filter(|_| stack.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_folded_as_wasm_does() {
        use ConstOp::{GlobalGet, I32Add, I32Const, I32Mul, I32Sub, I64Const, I64Mul, I64Sub};
        assert_eq!(index_value(&vec![I32Const(-1)]), Some(u32::MAX.into()));
        assert_eq!(
            index_value(&vec![I32Const(7), I32Const(9), I32Sub]),
            Some(u64::from(u32::MAX) - 1)
        );
        let nested = vec![I32Const(3), I32Const(4), I32Const(5), I32Mul, I32Add];
        assert_eq!(index_value(&nested), Some(23));
        assert_eq!(index_value(&vec![GlobalGet(GlobalIdx::new(0))]), None);
        assert_eq!(index_value(&vec![I64Const(-1)]), Some(u64::MAX));
        let wide = vec![I64Const(1 << 40), I64Const(8), I64Mul, I64Const(1), I64Sub];
        assert_eq!(index_value(&wide), Some((1 << 43) - 1));
        assert_eq!(index_value(&vec![]), None);
        assert_eq!(index_value(&vec![I32Add]), None);
    }
}
