//! Instantiation: constant expressions, globals, segments (specification, "Instantiation").

use selvedge_artifact::ids::{DataIdx, ElemIdx, GlobalIdx, TableIdx};
use selvedge_artifact::module::{ConstOp, Elements, SegmentMode};

use crate::error::Error;
use crate::instance::record::Record;
use crate::vm::context::ArraySlot;
use crate::vm::ptr::FuncRefPtr;

/// Fills globals, tables and memories, in the order of the specification. What is in the images is
/// there already. After an error what was filled before it stays, as the specification says.
pub(crate) fn initialize(record: &Record) -> Result<(), Error> {
    initialize_globals_and_tables(record)?;
    initialize_memories(record)
}

fn initialize_globals_and_tables(record: &Record) -> Result<(), Error> {
    let info = record.module().info();
    for (i, init) in info.global_inits.iter().enumerate() {
        let global = GlobalIdx::new(info.imported.globals + i as u32);
        record.set_global_raw(global, eval(record, init));
    }
    for (i, init) in info.table_inits.iter().enumerate() {
        if let Some(init) = init {
            let table = TableIdx::new(info.imported.tables + i as u32);
            let value = eval(record, init).lo;
            let len = info.tables[table.index()].min;
            record
                .table_fill(table.as_u32(), 0, value, len)
                .map_err(|_| Error::ElemSegmentOutOfBounds)?;
        }
    }
    for (i, segment) in info.elems.iter().enumerate() {
        let elem = ElemIdx::new(i as u32);
        if let SegmentMode::Active { target, offset } = &segment.mode {
            let at = index(eval(record, offset).lo, info.tables[target.index()].is_64);
            let len = segment.elements.len() as u64;
            record
                .elem_values(elem, 0, len)
                .and_then(|values| record.write_refs(*target, at, &values))
                .map_err(|_| Error::ElemSegmentOutOfBounds)?;
        }
        if segment.mode != SegmentMode::Passive {
            record.drop_elem(elem);
        }
    }
    Ok(())
}

/// Copies data segments that are in no image to their memories.
pub(crate) fn initialize_memories(record: &Record) -> Result<(), Error> {
    let info = record.module().info();
    for (i, segment) in info.data.iter().enumerate() {
        let data = DataIdx::new(i as u32);
        if let SegmentMode::Active { target, offset } = &segment.mode {
            let at = index(eval(record, offset).lo, info.memories[target.index()].is_64);
            let pair = u64::from(target.as_u32()) << 32 | u64::from(data.as_u32());
            record
                .memory_init(pair, at, 0, segment.len)
                .map_err(|_| Error::DataSegmentOutOfBounds)?;
        }
        if segment.mode != SegmentMode::Passive {
            record.drop_data(data);
        }
    }
    Ok(())
}

/// The value of an expression of type `i64` or `i32` as an index.
fn index(value: u64, is_64: bool) -> u64 {
    if is_64 {
        value
    } else {
        value & u64::from(u32::MAX)
    }
}

/// An element of a segment, as generated code holds it.
pub(crate) fn element(record: &Record, elements: &Elements, index: usize) -> u64 {
    match elements {
        Elements::Funcs(funcs) => record.func_ref(funcs[index]).map_or(0, FuncRefPtr::to_raw),
        Elements::Exprs(exprs) => eval(record, &exprs[index]).lo,
    }
}

/// The value of a constant expression, as generated code holds it. The expression was validated when
/// the module was compiled, and its depth when the artifact was loaded.
fn eval(record: &Record, expr: &[ConstOp]) -> ArraySlot {
    let mut stack: Vec<ArraySlot> = Vec::new();
    for op in expr {
        let scalar = match *op {
            ConstOp::I32Const(v) => u64::from(v.cast_unsigned()),
            ConstOp::I64Const(v) => v.cast_unsigned(),
            ConstOp::F32Const(bits) => u64::from(bits),
            ConstOp::F64Const(bits) => bits,
            ConstOp::V128Const(bytes) => {
                stack.push(ArraySlot::of_vector(u128::from_le_bytes(bytes)));
                continue;
            }
            ConstOp::GlobalGet(global) => {
                stack.push(record.global_raw(global));
                continue;
            }
            ConstOp::RefFunc(func) => record.func_ref(func).map_or(0, FuncRefPtr::to_raw),
            ConstOp::I32Add => binary32(&mut stack, u32::wrapping_add),
            ConstOp::I32Sub => binary32(&mut stack, u32::wrapping_sub),
            ConstOp::I32Mul => binary32(&mut stack, u32::wrapping_mul),
            ConstOp::I64Add => binary64(&mut stack, u64::wrapping_add),
            ConstOp::I64Sub => binary64(&mut stack, u64::wrapping_sub),
            ConstOp::I64Mul => binary64(&mut stack, u64::wrapping_mul),
            // `ref.null`; other operators do not pass the artifact's check.
            _ => 0,
        };
        stack.push(ArraySlot::new(scalar));
    }
    stack.pop().unwrap_or_default()
}

fn binary64(stack: &mut Vec<ArraySlot>, op: fn(u64, u64) -> u64) -> u64 {
    let (b, a) = (
        stack.pop().unwrap_or_default(),
        stack.pop().unwrap_or_default(),
    );
    op(a.lo, b.lo)
}

fn binary32(stack: &mut Vec<ArraySlot>, op: fn(u32, u32) -> u32) -> u64 {
    let (b, a) = (
        stack.pop().unwrap_or_default(),
        stack.pop().unwrap_or_default(),
    );
    u64::from(op(a.lo as u32, b.lo as u32))
}
