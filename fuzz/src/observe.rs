//! Makes more of a module visible from outside: the global for fuel gets an export, and values that
//! instructions leave on the stack are mixed into one more global. Most of what a random module computes is
//! dropped again; without this, a wrong result would seldom be seen. It also keeps waits short.

mod atomics;

use anyhow::Result;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, Encode, ExportKind, ExportSection, Function, GlobalSection,
    GlobalType, HeapType, Instruction, RawSection, RefType, ValType,
};
use wasmparser::{
    FuncToValidate, FuncValidatorAllocations, FunctionBody, Operator, Parser, Payload,
    ValidPayload, Validator, ValidatorResources, WasmFeatures, WasmModuleResources,
};

use crate::random::Random;

/// The name under which the values that were seen are exported.
const SEEN: &str = "selvedge-fuzz seen";

/// What is put into functions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// One of so many values is observed; none if it is zero.
    pub(crate) rate: usize,
    /// Whether calls may go through typed references, and references be asked whether they are null.
    pub(crate) references: bool,
    /// Whether NaNs become canonical behind instructions that the generator leaves out there.
    pub(crate) canonical: bool,
    /// Whether most atomic accesses are put where they can succeed.
    pub(crate) tame: bool,
}

/// The module, if it exports anything, with its global for fuel exported under a name, and with more in its
/// functions.
pub(crate) fn observed(
    wasm: &[u8],
    random: &mut Random,
    how: How,
    fuel: (&str, u32),
) -> Result<Vec<u8>> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut module = wasm_encoder::Module::new();
    let mut code = CodeSection::new();
    let (fuel_name, fuel_index) = fuel;
    // The one for fuel is the last that there is.
    let seen = fuel_index + 1;
    let mut bodies = 0;
    let mut exported = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let ValidPayload::Func(func, body) = validator.payload(&payload)? {
            code.function(&observed_func(wasm, func, &body, seen, random, how)?);
            if code.len() == bodies {
                module.section(&code);
            }
            continue;
        }
        match payload {
            Payload::GlobalSection(section) => {
                let mut globals = GlobalSection::new();
                RoundtripReencoder.parse_global_section(&mut globals, section)?;
                let ty = GlobalType {
                    val_type: ValType::I64,
                    mutable: true,
                    shared: false,
                };
                globals.global(ty, &ConstExpr::i64_const(0));
                module.section(&globals);
            }
            Payload::ExportSection(section) => {
                exported = true;
                let mut exports = ExportSection::new();
                RoundtripReencoder.parse_export_section(&mut exports, section)?;
                exports.export(fuel_name, ExportKind::Global, fuel_index);
                exports.export(SEEN, ExportKind::Global, seen);
                module.section(&exports);
            }
            Payload::CodeSectionStart { count, .. } => bodies = count,
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    let data = &wasm[range.start as usize..range.end as usize];
                    module.section(&RawSection { id, data });
                }
            }
        }
    }
    // A module that exports nothing is only instantiated; the fuel that it begins with is enough for that.
    if !exported {
        return Ok(wasm.to_vec());
    }
    Ok(module.finish())
}

/// A function that mixes some of its values into the global at `seen`, and does with references what the
/// generator does not.
fn observed_func(
    wasm: &[u8],
    func: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    seen: u32,
    random: &mut Random,
    how: How,
) -> Result<Function> {
    let callees = callees(&func.resources);
    let mut validator = func.into_validator(FuncValidatorAllocations::default());
    validator.read_locals(&mut body.get_binary_reader())?;
    let mut scratch = Scratch {
        first: validator.len_locals(),
        types: Vec::new(),
    };
    let mut code = Vec::new();
    let mut ops = body.get_operators_reader()?;
    while !ops.eof() {
        let start = ops.original_position();
        let op = ops.read()?;
        let operands = atomics::operands(&validator, &op);
        validator.op(start, &op)?;
        let tame = operands.filter(|_| how.tame && !random.once_in(8));
        if let Some(operands) = tame {
            if !atomics::is_plain(&op) {
                atomics::tame(&mut code, &op, &operands, &mut scratch)?;
            } else if !random.once_in(4) {
                atomics::replace(&mut code, &op, &operands, random, &mut scratch)?;
            } else {
                code.extend(&wasm[start as usize..ops.original_position() as usize]);
            }
        } else if !(how.references
            && random.once_in(2)
            && call_by_reference(&mut code, &op, &callees, random, &mut scratch))
        {
            atomics::bound_wait(&mut code, &op);
            code.extend(&wasm[start as usize..ops.original_position() as usize]);
        }
        if how.canonical {
            make_canonical(&mut code, &op, &mut scratch);
        }
        let top = match (
            validator.get_control_frame(0),
            validator.get_operand_type(0),
        ) {
            (Some(frame), Some(Some(top)))
                if !frame.unreachable
                    // What lies below is of an outer block.
                    && validator.operand_stack_height() as usize > frame.height =>
            {
                top
            }
            _ => continue,
        };
        if let (true, wasmparser::ValType::Ref(ty)) = (how.references, top) {
            ask_for_null(&mut code, ty, seen, random, &mut scratch);
        }
        if how.rate > 0 && random.once_in(how.rate) && worth_it(&format!("{op:?}"), top) {
            mix(&mut code, top, seen, &mut scratch);
        }
    }
    let mut locals = Vec::new();
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.push((count, RoundtripReencoder.val_type(ty)?));
    }
    locals.extend(scratch.types.iter().map(|&(ty, _)| (1, ty)));
    let mut func = Function::new(locals);
    func.raw(code);
    Ok(func)
}

/// Whether the value on top is a new one of which all bits are settled. Vectors of floats may hold NaNs
/// before the generator makes them canonical, which it does next.
fn worth_it(op: &str, top: wasmparser::ValType) -> bool {
    let floats = op.starts_with("F32x4") || op.starts_with("F64x2");
    let old = [
        "Const", "Store", "Local", "Global", "Block", "Loop", "If", "Else", "Drop", "Nop",
    ];
    !(old.iter().any(|word| op.contains(word)) || floats && top == wasmparser::ValType::V128)
}

/// Locals behind a function's own.
struct Scratch {
    first: u32,
    types: Vec<(ValType, u32)>,
}

impl Scratch {
    /// The one for a type.
    fn of(&mut self, ty: ValType) -> u32 {
        self.nth(ty, 0)
    }

    /// One of several for a type.
    fn nth(&mut self, ty: ValType, number: u32) -> u32 {
        let wanted = (ty, number);
        let known = self.types.iter().position(|&known| known == wanted);
        let at = known.unwrap_or_else(|| {
            self.types.push(wanted);
            self.types.len() - 1
        });
        self.first + at as u32
    }
}

/// Replaces NaNs in what conversions between floats and relaxed arithmetic leave.
fn make_canonical(code: &mut Vec<u8>, op: &Operator<'_>, scratch: &mut Scratch) {
    use Instruction as I;
    use Operator as O;
    const NAN32: u32 = 0x7fc0_0000;
    const NAN64: u64 = 0x7ff8 << 48;
    let (ty, nan, equal, select) = match op {
        O::F32DemoteF64 => {
            let nan = I::F32Const(f32::from_bits(NAN32).into());
            (ValType::F32, nan, I::F32Eq, I::Select)
        }
        O::F64PromoteF32 => {
            let nan = I::F64Const(f64::from_bits(NAN64).into());
            (ValType::F64, nan, I::F64Eq, I::Select)
        }
        O::F32x4DemoteF64x2Zero
        | O::F32x4RelaxedMadd
        | O::F32x4RelaxedNmadd
        | O::F32x4RelaxedMin
        | O::F32x4RelaxedMax => {
            let nan = u128::from(NAN32) * (1 | 1 << 32 | 1 << 64 | 1 << 96);
            let nan = I::V128Const(nan.cast_signed());
            (ValType::V128, nan, I::F32x4Eq, I::V128Bitselect)
        }
        O::F64x2PromoteLowF32x4
        | O::F64x2RelaxedMadd
        | O::F64x2RelaxedNmadd
        | O::F64x2RelaxedMin
        | O::F64x2RelaxedMax => {
            let nan = u128::from(NAN64) * (1 | 1 << 64);
            let nan = I::V128Const(nan.cast_signed());
            (ValType::V128, nan, I::F64x2Eq, I::V128Bitselect)
        }
        _ => return,
    };
    let value = scratch.of(ty);
    let get = I::LocalGet(value);
    for instruction in [I::LocalTee(value), nan, get.clone(), get, equal, select] {
        instruction.encode(code);
    }
}

/// Of each function its type, if code may have a reference to it.
fn callees(resources: &ValidatorResources) -> Vec<Option<u32>> {
    let types = (0..).map_while(|func| Some((func, resources.type_index_of_function(func)?)));
    types
        .map(|(func, ty)| resources.is_function_referenced(func).then_some(ty))
        .collect()
}

/// Calls a function through a reference of its type, if the instruction calls one that has a reference.
fn call_by_reference(
    code: &mut Vec<u8>,
    op: &Operator<'_>,
    callees: &[Option<u32>],
    random: &mut Random,
    scratch: &mut Scratch,
) -> bool {
    use Instruction as I;
    let (func, tail) = match *op {
        Operator::Call { function_index } => (function_index, false),
        Operator::ReturnCall { function_index } => (function_index, true),
        _ => return false,
    };
    let Some(&Some(ty)) = callees.get(func as usize) else {
        return false;
    };
    let mut put = |instructions: &[I<'_>]| instructions.iter().for_each(|i| i.encode(code));
    if random.once_in(50) {
        put(&[I::RefNull(HeapType::Concrete(ty))]);
    } else {
        put(&[I::RefFunc(func)]);
    }
    if random.once_in(2) {
        let place = scratch.of(ValType::Ref(RefType {
            nullable: true,
            heap_type: HeapType::Concrete(ty),
        }));
        put(&[I::LocalSet(place), I::LocalGet(place)]);
    }
    if random.once_in(4) {
        put(&[I::RefAsNonNull]);
    }
    put(&[if tail {
        I::ReturnCallRef(ty)
    } else {
        I::CallRef(ty)
    }]);
    true
}

/// Asks in one of several ways whether the reference on top is null, and leaves it there.
fn ask_for_null(
    code: &mut Vec<u8>,
    top: wasmparser::RefType,
    seen: u32,
    random: &mut Random,
    scratch: &mut Scratch,
) {
    use Instruction as I;
    let ty = match top {
        wasmparser::RefType::FUNCREF => RefType::FUNCREF,
        wasmparser::RefType::EXTERNREF => RefType::EXTERNREF,
        wasmparser::RefType::EXNREF => RefType::EXNREF,
        _ => return,
    };
    let mut put = |instructions: &[I<'_>]| instructions.iter().for_each(|i| i.encode(code));
    match random.below(16) {
        0 => put(&[I::RefAsNonNull]),
        1..=3 => {
            let place = scratch.of(ValType::Ref(ty));
            put(&[
                I::LocalSet(place),
                I::Block(BlockType::Result(ValType::Ref(ty))),
                I::LocalGet(place),
                I::BrOnNonNull(0),
                I::GlobalGet(seen),
                I::I64Const(0x5bd1_e995),
                I::I64Add,
                I::GlobalSet(seen),
                I::RefNull(ty.heap_type),
                I::End,
            ]);
        }
        4..=6 => {
            let place = scratch.of(ValType::Ref(ty));
            put(&[
                I::LocalTee(place),
                I::Block(BlockType::Empty),
                I::LocalGet(place),
                I::BrOnNull(0),
                I::Drop,
                I::GlobalGet(seen),
                I::I64Const(0x1b87_3593),
                I::I64Add,
                I::GlobalSet(seen),
                I::End,
            ]);
        }
        _ => {}
    }
}

/// Mixes the value on top into a global, and leaves it there.
fn mix(code: &mut Vec<u8>, top: wasmparser::ValType, seen: u32, scratch: &mut Scratch) {
    use Instruction as I;
    let ty = match top {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(_) => return,
    };
    let value = scratch.of(ty);
    let get = I::LocalGet(value);
    let mut put = |instructions: &[I<'_>]| instructions.iter().for_each(|i| i.encode(code));
    put(&[
        I::LocalTee(value),
        I::GlobalGet(seen),
        I::I64Const(0x9e37_79b9_7f4a_7c15_u64.cast_signed()),
        I::I64Mul,
        I::I64Const(29),
        I::I64Rotl,
    ]);
    match ty {
        ValType::I32 => put(&[get, I::I64ExtendI32U]),
        ValType::I64 => put(&[get]),
        // One number stands for every NaN.
        ValType::F32 => put(&[
            get.clone(),
            I::I32ReinterpretF32,
            I::I32Const(-1),
            get.clone(),
            get,
            I::F32Eq,
            I::Select,
            I::I64ExtendI32U,
        ]),
        ValType::F64 => put(&[
            get.clone(),
            I::I64ReinterpretF64,
            I::I64Const(-1),
            get.clone(),
            get,
            I::F64Eq,
            I::Select,
        ]),
        _ => put(&[
            get.clone(),
            I::I64x2ExtractLane(0),
            get,
            I::I64x2ExtractLane(1),
            I::I64Const(7),
            I::I64Rotl,
            I::I64Xor,
        ]),
    }
    put(&[I::I64Xor, I::GlobalSet(seen)]);
}
