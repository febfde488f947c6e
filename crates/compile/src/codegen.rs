//! One function's IR to machine code, with all that linking has to know about it.
//!
//! Limits that the code generator meets become errors that name the function; so does a reference
//! to anything that an artifact does not carry.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{
    DebugTag, ExternalName, Function, TrapCode as IrTrapCode, UserExternalName,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::isa::unwind::UnwindInfo;
use cranelift_codegen::isa::unwind::systemv;
use cranelift_codegen::{
    CodegenError, CompiledCode, Context, ExceptionContextLoc, Final, FinalizedMachExceptionHandler,
    FinalizedMachReloc, FinalizedRelocTarget, MachBufferFinalized,
};
use selvedge_artifact::catches::{CallSite, Catch, Handler};
use selvedge_artifact::ids::DefinedFuncIdx;
use selvedge_artifact::pcmap::NO_WASM_OFFSET;
use selvedge_artifact::traps::TrapCode;

use crate::env::{NS_FUNC, NS_TEXT};
use crate::error::Error;

/// Machine code of one function.
pub(crate) struct Code {
    /// The instructions, references open.
    pub(crate) bytes: Vec<u8>,
    /// What the start must be aligned to.
    pub(crate) align: u32,
    /// References to fill in.
    pub(crate) references: Vec<Reference>,
    /// Offsets of instructions that may trap, rising.
    pub(crate) traps: Vec<(u32, TrapCode)>,
    /// Offsets and the Wasm offsets they come from, rising; the first offset is 0.
    pub(crate) addresses: Vec<(u32, u32)>,
    /// Offsets of instructions that may trap, and what the count of fuel leaves out there, rising.
    pub(crate) fuel: Vec<(u32, u32)>,
    /// How to unwind.
    pub(crate) unwind: Option<systemv::UnwindInfo>,
    /// Calls that have handlers of exceptions, by rising return address.
    pub(crate) catches: Vec<CallSite>,
}

/// Four bytes that are to hold the distance from themselves to the target.
pub(crate) struct Reference {
    /// Where they are.
    pub(crate) offset: u32,
    /// What they lead to.
    pub(crate) target: Target,
    /// To be added.
    pub(crate) addend: i64,
}

/// What code may refer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A function of the module.
    Func(DefinedFuncIdx),
    /// The start of the text.
    TextStart,
}

/// Generates the code of `context.func`; `residuals` are the units of fuel that are pending at its Wasm
/// offsets.
pub(crate) fn generate(
    isa: &dyn TargetIsa,
    context: &mut Context,
    residuals: &[(u32, u32)],
    name: &dyn Fn() -> String,
) -> Result<Code, Error> {
    compile(isa, context, name)?;
    let compiled = context
        .compiled_code()
        .ok_or_else(|| Error::codegen(name(), "no code came"))?;
    code(isa, &context.func, compiled, residuals).map_err(|message| Error::codegen(name(), message))
}

/// The machine code as text.
pub(crate) fn disassemble(
    isa: &dyn TargetIsa,
    context: &mut Context,
    name: &dyn Fn() -> String,
) -> Result<String, Error> {
    context.set_disasm(true);
    compile(isa, context, name)?;
    context
        .take_compiled_code()
        .and_then(|compiled| compiled.vcode)
        .ok_or_else(|| Error::codegen(name(), "no text came"))
}

fn compile(
    isa: &dyn TargetIsa,
    context: &mut Context,
    name: &dyn Fn() -> String,
) -> Result<(), Error> {
    context
        .compile(isa, &mut ControlPlane::default())
        .map(drop)
        .map_err(|error| Error::codegen(name(), error_text(&error.inner)))
}

fn error_text(error: &CodegenError) -> String {
    match error {
        CodegenError::Verifier(errors) => format!("the verifier refused its IR: {errors}"),
        CodegenError::ImplLimitExceeded | CodegenError::CodeTooLarge => {
            format!("{error}; split the function or compile without optimisation")
        }
        other => other.to_string(),
    }
}

fn code(
    isa: &dyn TargetIsa,
    func: &Function,
    compiled: &CompiledCode,
    residuals: &[(u32, u32)],
) -> Result<Code, String> {
    let buffer = &compiled.buffer;
    let references = buffer
        .relocs()
        .iter()
        .map(|reloc| reference(func, reloc))
        .collect::<Result<_, _>>()?;
    let mut traps = Vec::with_capacity(buffer.traps().len());
    for trap in buffer.traps() {
        traps.push((trap.offset, trap_code(trap.code)?));
    }
    traps.sort_by_key(|(offset, _)| *offset);
    traps.dedup_by_key(|(offset, _)| *offset);
    let unwind = match compiled
        .create_unwind_info(isa)
        .map_err(|e| e.to_string())?
    {
        Some(UnwindInfo::SystemV(unwind)) => Some(unwind),
        Some(_) => return Err("unwind information of another system came".to_owned()),
        None => None,
    };
    let ranges = buffer.get_srclocs_sorted().iter();
    let addresses = addresses(ranges.map(|range| (range.start, range.end, range.loc.bits())));
    let fuel = fuel(&traps, &addresses, &marks(compiled), residuals)?;
    Ok(Code {
        bytes: buffer.data().to_vec(),
        align: buffer.alignment,
        references,
        traps,
        addresses,
        fuel,
        unwind,
        catches: catches(buffer)?,
    })
}

/// The calls that have handlers.
fn catches(buffer: &MachBufferFinalized<Final>) -> Result<Vec<CallSite>, String> {
    let mut sites = Vec::new();
    for site in buffer.call_sites() {
        let [context, handlers @ ..] = site.exception_handlers else {
            continue;
        };
        let &FinalizedMachExceptionHandler::Context(ExceptionContextLoc::SPOffset(context_offset)) =
            context
        else {
            return Err("a call has handlers, but no context on the stack".to_owned());
        };
        let handlers = handlers.iter().map(|handler| match *handler {
            FinalizedMachExceptionHandler::Tag(tag, code) => Ok(Handler {
                catch: Catch::from_u32(tag.as_u32()),
                code,
            }),
            ref other => Err(format!("a call has a handler of another kind: {other:?}")),
        });
        sites.push(CallSite {
            pc: site.ret_addr,
            frame_len: site.frame_offset.ok_or("a call's frame has no length")?,
            context_offset,
            handlers: handlers.collect::<Result<_, _>>()?,
        });
    }
    sites.sort_by_key(|site| site.pc);
    Ok(sites)
}

fn reference(func: &Function, reloc: &FinalizedMachReloc) -> Result<Reference, String> {
    if !matches!(reloc.kind, Reloc::X86PCRel4 | Reloc::X86CallPCRel4) {
        return Err(format!("it needs a relocation of kind {:?}", reloc.kind));
    }
    let target = match &reloc.target {
        FinalizedRelocTarget::ExternalName(ExternalName::User(name)) => {
            match func.params.user_named_funcs().get(*name) {
                Some(&UserExternalName {
                    namespace: NS_FUNC,
                    index,
                }) => Target::Func(DefinedFuncIdx::new(index)),
                Some(&UserExternalName {
                    namespace: NS_TEXT, ..
                }) => Target::TextStart,
                other => return Err(format!("it refers to an unknown name: {other:?}")),
            }
        }
        other => {
            return Err(format!(
                "it refers to {}",
                other.display(Some(&func.params))
            ));
        }
    };
    Ok(Reference {
        offset: reloc.offset,
        target,
        addend: reloc.addend,
    })
}

/// Our code for one of Cranelift's: it reserves a few for itself, the rest are our own numbers.
fn trap_code(code: IrTrapCode) -> Result<TrapCode, String> {
    match code {
        IrTrapCode::STACK_OVERFLOW => Ok(TrapCode::StackOverflow),
        IrTrapCode::INTEGER_OVERFLOW => Ok(TrapCode::IntegerOverflow),
        IrTrapCode::HEAP_OUT_OF_BOUNDS => Ok(TrapCode::HeapOutOfBounds),
        IrTrapCode::INTEGER_DIVISION_BY_ZERO => Ok(TrapCode::IntegerDivisionByZero),
        IrTrapCode::BAD_CONVERSION_TO_INTEGER => Ok(TrapCode::BadConversionToInteger),
        own => TrapCode::from_u8(own.as_raw().get())
            .ok_or_else(|| format!("it has the unknown trap code {own}")),
    }
}

/// Wasm offsets of checks of the fuel, and the code offsets behind them, rising.
fn marks(compiled: &CompiledCode) -> Vec<(u32, u32)> {
    let mut marks: Vec<_> = compiled
        .buffer
        .debug_tags()
        .flat_map(|list| list.tags.iter().map(move |tag| (tag, list.offset)))
        .filter_map(|(tag, offset)| match tag {
            DebugTag::User(wasm) => Some((*wasm, offset)),
            DebugTag::StackSlot(_) => None,
        })
        .collect();
    marks.sort_unstable();
    marks.dedup_by_key(|(wasm, _)| *wasm);
    marks
}

/// The fuel map: for a check where to go on behind it, for another trap the units that are pending.
fn fuel(
    traps: &[(u32, TrapCode)],
    addresses: &[(u32, u32)],
    marks: &[(u32, u32)],
    residuals: &[(u32, u32)],
) -> Result<Vec<(u32, u32)>, String> {
    let mut fuel = Vec::new();
    for (offset, code) in traps {
        let is_check = *code == TrapCode::OutOfFuel;
        let values = if is_check { marks } else { residuals };
        if values.is_empty() && !is_check {
            continue;
        }
        let range = addresses.partition_point(|(start, _)| start <= offset);
        let wasm = addresses[range.saturating_sub(1)].1;
        match values.binary_search_by_key(&wasm, |(wasm, _)| *wasm) {
            Ok(found) => fuel.push((*offset, values[found].1)),
            Err(_) if is_check => return Err("a check of the fuel has no way on".to_owned()),
            Err(_) => {}
        }
    }
    Ok(fuel)
}

/// Source ranges, rising by start, to an address map: gaps are filled, neighbours that say the same
/// are one.
fn addresses(ranges: impl Iterator<Item = (u32, u32, u32)>) -> Vec<(u32, u32)> {
    let mut map = vec![(0, NO_WASM_OFFSET)];
    let mut push = |start: u32, wasm: u32| match map.last_mut() {
        Some(last) if last.1 == wasm => {}
        Some(last) if last.0 == start => last.1 = wasm,
        _ => map.push((start, wasm)),
    };
    let mut covered_to = 0;
    for (start, end, wasm) in ranges {
        let start = start.max(covered_to);
        if start >= end {
            continue;
        }
        if start > covered_to {
            push(covered_to, NO_WASM_OFFSET);
        }
        push(start, wasm);
        covered_to = end;
    }
    push(covered_to, NO_WASM_OFFSET);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_map_has_no_gaps_and_no_repetitions() {
        let none = NO_WASM_OFFSET;
        assert_eq!(addresses([].into_iter()), [(0, none)]);
        let ranges = [(0, 4, 10), (4, 6, 10), (8, 9, 11), (9, 9, 12), (9, 12, 13)];
        assert_eq!(
            addresses(ranges.into_iter()),
            [(0, 10), (6, none), (8, 11), (9, 13), (12, none)]
        );
        assert_eq!(
            addresses([(3, 5, 7)].into_iter()),
            [(0, none), (3, 7), (5, none)]
        );
        // Ranges that overlap, which should not come, still give a map.
        assert_eq!(
            addresses([(0, 5, 7), (2, 8, 9)].into_iter()),
            [(0, 7), (5, 9), (8, none)]
        );
    }

    #[test]
    fn every_trap_code_comes_back() {
        for &code in TrapCode::ALL {
            assert_eq!(trap_code(crate::env::trap_code(code)), Ok(code));
        }
        for &code in IrTrapCode::non_user_traps() {
            assert!(trap_code(code).is_ok());
        }
        assert!(trap_code(IrTrapCode::unwrap_user(200)).is_err());
    }
}
