//! Code between calling conventions, three functions a machine-level signature.
//!
//! ```text
//!  host -> guest         host_to_guest(vmctx, body, array)
//!                          array -> registers, body(vmctx, ...), results -> array
//!  guest -> other guest  guest_to_guest(VMFuncRef, caller's vmctx, ...)
//!                          becomes body(ctx, ...) of the VMFuncRef: a tail call, no frame of its own
//!  guest -> host         guest_to_host_array(VMFuncRef, caller's vmctx, ...)
//!                          ... -> array, host_call(VMFuncRef, vmctx, array), array -> results
//! ```
//!
//! A slot of the array is [`ARRAY_SLOT_LEN`] bytes; a value stands at its start, arguments and
//! results begin at slot 0. What switches stacks or looks at requests is assembly of the runtime's.

use cranelift_codegen::ir::{
    self, AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind,
    UserFuncName, Value, types,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use selvedge_artifact::ids::SigIdx;
use selvedge_artifact::types::{ARRAY_SLOT_LEN, AbiSig, AbiType};
use selvedge_artifact::vmfields::{vm_context_header, vm_func_ref};
use selvedge_artifact::vmoffsets::VMOffsets;

use crate::env::{POINTER, Region, abi_type, check_fuel, foreign_signature};

/// Namespace of trampolines; only their own names are in it.
const NS_TRAMPOLINE: u32 = 2;

/// The three ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    HostToGuest,
    GuestToGuest,
    GuestToHostArray,
}

impl Kind {
    /// All of them, in the order of the text.
    pub(crate) const ALL: [Self; 3] = [
        Self::HostToGuest,
        Self::GuestToGuest,
        Self::GuestToHostArray,
    ];

    /// The name of the trampoline of a signature in symbols and dumps.
    pub(crate) fn symbol(self, sig: SigIdx) -> String {
        let way = match self {
            Self::HostToGuest => "host_to_guest",
            Self::GuestToGuest => "guest_to_guest",
            Self::GuestToHostArray => "guest_to_host_array",
        };
        format!("{way}_{}", sig.as_u32())
    }
}

/// Builds a trampoline in `out`, which must be empty.
pub(crate) fn build(
    kind: Kind,
    index: SigIdx,
    sig: &AbiSig,
    fuel: bool,
    frontend: TargetFrontendConfig,
    context: &mut FunctionBuilderContext,
    out: &mut ir::Function,
) {
    let number = index.as_u32() * Kind::ALL.len() as u32 + kind as u32;
    out.name = UserFuncName::user(NS_TRAMPOLINE, number);
    out.signature = match kind {
        Kind::HostToGuest => pointers(3),
        Kind::GuestToGuest | Kind::GuestToHostArray => foreign_signature(sig),
    };
    let mut builder = FunctionBuilder::new(out, context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let params = builder.block_params(entry).to_vec();
    match kind {
        Kind::HostToGuest => {
            if fuel {
                let count = builder.ins().get_pinned_reg(types::I64);
                check_fuel(&mut builder, count);
            }
            host_to_guest(&mut builder, sig, &params);
        }
        Kind::GuestToGuest => guest_to_guest(&mut builder, sig, &params),
        Kind::GuestToHostArray => guest_to_host_array(&mut builder, sig, &params),
    }
    builder.finalize(frontend);
}

fn host_to_guest(builder: &mut FunctionBuilder<'_>, sig: &AbiSig, params: &[Value]) {
    let [vmctx, body, array] = params[..] else {
        return;
    };
    let mut args = vec![vmctx];
    args.extend(load_slots(builder, array, &sig.params));
    let body_sig = builder.import_signature(body_signature(sig));
    let call = builder.ins().call_indirect(body_sig, body, &args);
    let results = builder.inst_results(call).to_vec();
    store_slots(builder, array, &results);
    builder.ins().return_(&[]);
}

fn guest_to_guest(builder: &mut FunctionBuilder<'_>, sig: &AbiSig, params: &[Value]) {
    let [func_ref, _, arguments @ ..] = params else {
        return;
    };
    let fields = &vm_func_ref::OFFSETS;
    let flags = MemFlagsData::trusted();
    let body = builder
        .ins()
        .load(POINTER, flags, *func_ref, fields.body.cast_signed());
    let ctx = builder
        .ins()
        .load(POINTER, flags, *func_ref, fields.ctx.cast_signed());
    let mut args = vec![ctx];
    args.extend(arguments);
    let body_sig = builder.import_signature(body_signature(sig));
    builder.ins().return_call_indirect(body_sig, body, &args);
}

fn guest_to_host_array(builder: &mut FunctionBuilder<'_>, sig: &AbiSig, params: &[Value]) {
    let [func_ref, vmctx, arguments @ ..] = params else {
        return;
    };
    let slots = sig.array_slots().max(1) as u32;
    let array = builder.create_sized_stack_slot(StackSlotData::new(
        StackSlotKind::ExplicitSlot,
        slots * ARRAY_SLOT_LEN,
        ARRAY_SLOT_LEN.trailing_zeros() as u8,
    ));
    let array = builder.ins().stack_addr(POINTER, array, 0);
    store_slots(builder, array, arguments);
    let flags = Region::Context.constant(builder.func);
    let host_call = VMOffsets::header(vm_context_header::OFFSETS.host_call);
    let host_call = builder.ins().load(POINTER, flags, *vmctx, host_call);
    let host_sig = builder.import_signature(pointers(3));
    builder
        .ins()
        .call_indirect(host_sig, host_call, &[*func_ref, *vmctx, array]);
    let results = load_slots(builder, array, &sig.results);
    builder.ins().return_(&results);
}

/// `(pointer, ...)` without results.
fn pointers(count: usize) -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature
        .params
        .extend(std::iter::repeat_n(AbiParam::new(POINTER), count));
    signature
}

/// The signature of a body: that of a foreign call without the `VMFuncRef`.
fn body_signature(sig: &AbiSig) -> Signature {
    let mut signature = foreign_signature(sig);
    signature.params.remove(0);
    signature
}

fn load_slots(builder: &mut FunctionBuilder<'_>, array: Value, types: &[AbiType]) -> Vec<Value> {
    let load = |(slot, ty): (usize, &AbiType)| {
        builder.ins().load(
            abi_type(*ty),
            MemFlagsData::trusted(),
            array,
            slot_offset(slot),
        )
    };
    types.iter().enumerate().map(load).collect()
}

fn store_slots(builder: &mut FunctionBuilder<'_>, array: Value, values: &[Value]) {
    for (slot, value) in values.iter().enumerate() {
        builder
            .ins()
            .store(MemFlagsData::trusted(), *value, array, slot_offset(slot));
    }
}

/// Signatures have a thousand values at most, so the offset is far from the limits of `i32`.
fn slot_offset(slot: usize) -> i32 {
    slot as i32 * ARRAY_SLOT_LEN.cast_signed()
}
