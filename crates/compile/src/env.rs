//! What translated functions know of their module, and how they see the memory around `vmctx`.
//!
//! Signatures, trap codes and memory flags are made here and nowhere else, so that translated
//! functions and trampolines agree on them.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self, AbiParam, InstBuilder, types};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::FunctionBuilder;
use selvedge_artifact::ids::GlobalIdx;
use selvedge_artifact::module::ModuleInfo;
use selvedge_artifact::traps::TrapCode;
use selvedge_artifact::tunables::Tunables;
use selvedge_artifact::types::{AbiSig, AbiType, FuncType, HeapType, RefType, ValType};
use selvedge_artifact::vmoffsets::VMOffsets;

use crate::fuel_costs::FuelCosts;
use crate::target::RelaxedSimd;

/// Namespace of functions with a body, by `DefinedFuncIdx`.
pub(crate) const NS_FUNC: u32 = 0;
/// Namespace whose only member, number 0, is the start of the text.
pub(crate) const NS_TEXT: u32 = 1;

/// Pointers, references and handles.
pub(crate) const POINTER: ir::Type = types::I64;

/// Vectors where no lanes are known: in parameters, results, locals, globals, and between blocks.
pub(crate) const V128: ir::Type = types::I8X16;

/// What the functions of a module are translated against.
pub(crate) struct ModuleEnv<'a> {
    /// Types, imports and index spaces.
    pub info: &'a ModuleInfo,
    /// Where the fields of the module's `VMContext` lie.
    pub offsets: &'a VMOffsets,
    /// What may be assumed of the runtime.
    pub tunables: &'a Tunables,
    /// What each instruction costs in fuel, if it is counted.
    pub fuel: Option<&'a FuelCosts>,
    /// How the instructions of relaxed SIMD choose among their results.
    pub relaxed_simd: RelaxedSimd,
    /// What the function builder must know of the target.
    pub pointer_frontend: TargetFrontendConfig,
}

/// The IR type of a machine-level class.
pub(crate) const fn abi_type(ty: AbiType) -> ir::Type {
    match ty {
        AbiType::I32 => types::I32,
        AbiType::I64 => types::I64,
        AbiType::F32 => types::F32,
        AbiType::F64 => types::F64,
        AbiType::V128 => V128,
    }
}

/// The IR type of a Wasm value.
pub(crate) const fn ir_type(ty: ValType) -> ir::Type {
    abi_type(ty.abi())
}

/// The value type of the artifact for one of the parser's, if it is supported.
pub(crate) fn val_type(ty: wasmparser::ValType) -> Option<ValType> {
    Some(match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(ty) => ValType::Ref(ref_type(ty)?),
    })
}

/// The reference type of the artifact for one of the parser's, if it is supported.
pub(crate) fn ref_type(ty: wasmparser::RefType) -> Option<RefType> {
    use wasmparser::AbstractHeapType as Abstract;
    let heap = match ty.heap_type() {
        wasmparser::HeapType::Abstract { shared: false, ty } => match ty {
            Abstract::Func => HeapType::Func,
            Abstract::NoFunc => HeapType::NoFunc,
            Abstract::Extern => HeapType::Extern,
            Abstract::NoExtern => HeapType::NoExtern,
            Abstract::Exn => HeapType::Exn,
            Abstract::NoExn => HeapType::NoExn,
            _ => return None,
        },
        wasmparser::HeapType::Concrete(index) => HeapType::Concrete(index.as_module_index()?),
        _ => return None,
    };
    Some(RefType {
        nullable: ty.is_nullable(),
        heap,
    })
}

fn signature(contexts: usize, sig: &AbiSig) -> ir::Signature {
    let mut signature = ir::Signature::new(CallConv::Tail);
    let param = |ty: &AbiType| AbiParam::new(abi_type(*ty));
    signature
        .params
        .extend(std::iter::repeat_n(AbiParam::new(POINTER), contexts));
    signature.params.extend(sig.params.iter().map(param));
    signature.returns.extend(sig.results.iter().map(param));
    signature
}

/// The signature of a function with a body: `(vmctx, arguments...) -> results`.
pub(crate) fn guest_signature(ty: &FuncType) -> ir::Signature {
    signature(1, &ty.abi())
}

/// The signature of `VMFuncRef::call`: `(VMFuncRef, caller's vmctx, arguments...) -> results`.
pub(crate) fn foreign_signature(sig: &AbiSig) -> ir::Signature {
    signature(2, sig)
}

/// A trap code as Cranelift carries it.
pub(crate) const fn trap_code(code: TrapCode) -> ir::TrapCode {
    ir::TrapCode::unwrap_user(code.as_u8())
}

/// Own globals that have a memory region to themselves. Alias analysis keeps a record per region
/// and block, so there must be few; toolchains put the stack pointer and its kin first.
const SINGLE_GLOBALS: u32 = 8;

/// Disjoint parts of memory: a store to one leaves what was loaded from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Region {
    /// Linear memories.
    Heap,
    /// Lengths, bases and pointers of the context; written by the runtime only.
    Context,
    /// Entries of function tables; written by the runtime only.
    Tables,
    /// Locals that are kept in memory.
    Locals,
    /// Globals of other instances.
    ImportedGlobals,
    /// A global of this instance, counted from the first with a cell of its own.
    OwnGlobal(u32),
}

impl Region {
    /// The region of a global.
    pub(crate) fn of_global(info: &ModuleInfo, global: GlobalIdx) -> Self {
        match global.as_u32().checked_sub(info.imported.globals) {
            Some(own) => Self::OwnGlobal(own.min(SINGLE_GLOBALS)),
            None => Self::ImportedGlobals,
        }
    }

    fn data(self) -> ir::AliasRegionData {
        let (user_id, description) = match self {
            Self::Heap => (0, "heap"),
            Self::Context => (1, "context"),
            Self::Tables => (2, "tables"),
            Self::Locals => (3, "locals"),
            Self::ImportedGlobals => (4, "imported globals"),
            Self::OwnGlobal(own) => (5 + own, "own globals"),
        };
        ir::AliasRegionData {
            user_id,
            description: description.into(),
        }
    }

    /// Flags of an access that is aligned and can't trap.
    pub(crate) fn trusted(self, func: &mut ir::Function) -> ir::MemFlagsData {
        let region = func.dfg.alias_regions.insert(self.data());
        ir::MemFlagsData::trusted().with_alias_region(Some(region))
    }

    /// Flags of a load whose result is the same during the whole life of the instance.
    pub(crate) fn constant(self, func: &mut ir::Function) -> ir::MemFlagsData {
        self.trusted(func).with_readonly().with_can_move()
    }
}

/// Traps if a count of fuel has come to zero, and marks where a guest that is given more goes on: the tag
/// is the place in the Wasm file, by which the mark is found again.
pub(crate) fn check_fuel(builder: &mut FunctionBuilder<'_>, count: ir::Value) {
    let out = builder
        .ins()
        .icmp_imm_s(IntCC::SignedGreaterThanOrEqual, count, 0);
    builder.ins().trapnz(out, trap_code(TrapCode::OutOfFuel));
    let here = builder.ins().sequence_point();
    let tag = ir::DebugTag::User(builder.srcloc().bits());
    builder.func.debug_tags.set(here, [tag]);
}

/// Flags of an access by the guest to a linear memory: of any alignment, and a fault is a trap.
pub(crate) fn heap_flags(func: &mut ir::Function) -> ir::MemFlagsData {
    let region = func.dfg.alias_regions.insert(Region::Heap.data());
    ir::MemFlagsData::new()
        .with_endianness(ir::Endianness::Little)
        .with_trap_code(Some(trap_code(TrapCode::HeapOutOfBounds)))
        .with_alias_region(Some(region))
}
