//! The table of structures that generated code reads or writes: fields, order, width.
//!
//! This side expands the table to offsets; the runtime expands the same table to `repr(C)`
//! structures. Every field is 8 bytes wide (`ptr`, `u64`, `i64`) or 4 (`u32`).

/// Calls `$callback!` with the table of VM structures.
#[macro_export]
macro_rules! with_vm_structs {
    ($callback:ident) => {
        $callback! {
            /// A function that may belong to another instance or to the host: what a non-null
            /// `funcref` points to, what imports and builtins are arrays of.
            VMFuncRef vm_func_ref {
                /// Code to call as `call(this VMFuncRef, caller's vmctx, arguments...)`.
                call: ptr,
                /// The body: for a guest function its own code, called as `body(ctx, arguments...)`;
                /// for a host function its entry in the host's convention.
                body: ptr,
                /// For a guest function its `vmctx`; for a host function its environment.
                ctx: ptr,
                /// The type's number in the engine.
                type_id: u32,
                /// One of the kinds below: guest, host in registers, host by array.
                kind: u32,
            }
            /// Where a memory that is not memory 0 of its own instance lies. A shared memory has one for
            /// all instances, beside its bytes; what stands in the context of a module that defines it is
            /// `base` and, in place of `len`, the address of that one.
            VMMemoryDefinition vm_memory_definition {
                /// Address of byte 0.
                base: ptr,
                /// Accessible bytes.
                len: u64,
            }
            /// Where a table lies.
            VMTableDefinition vm_table_definition {
                /// Address of entry 0; entries are 8 bytes.
                base: ptr,
                /// Entries.
                len: u64,
            }
            /// The fixed part of `VMContext`: it ends where memory 0 begins. Read-only to the guest.
            VMContextHeader vm_context_header {
                /// Array of the engine's type numbers, by the module's type index.
                type_ids: ptr,
                /// Array of `VMFuncRef`, one an imported function.
                imports: ptr,
                /// Array of `VMFuncRef`, one a builtin.
                builtins: ptr,
                /// The trampoline to host functions that take their arguments by array.
                host_call: ptr,
                /// The runtime's record of this instance, passed to host functions.
                instance: ptr,
                /// The limits shared by all modules linked into this instance.
                limits: ptr,
                /// Memory 0 as others see it, a `VMMemoryDefinition`: its base is `vmctx` itself.
                memory0_base: ptr,
                /// Accessible bytes of memory 0.
                memory0_len: u64,
                /// Room for a field of a later format version.
                reserved: u64,
                /// `VMCONTEXT_MAGIC`, which tells a context of this format from anything else.
                magic: u64,
            }
            /// Per-instance state of the guest's thread of control, shared by all modules linked
            /// into the instance. Trampolines and the host write it, on the thread that runs the guest but
            /// for the last field; generated code reaches it through the header and writes none of it.
            VMRuntimeLimits vm_runtime_limits {
                /// Lowest usable address of the guest's stack. The host writes it when the guest is given a
                /// stack. Nothing of the guest reads it: a guard lies below.
                stack_limit: u64,
                /// Fuel consumed beyond what the guest may consume: negative while some is left, and
                /// counted up. While guest code runs, the count is in the pinned register; trampolines
                /// write it here on the way to the host and read it on the way back.
                fuel_consumed: i64,
                /// Epoch of the engine at which the guest is to stop; the greatest number for never. The host
                /// writes it when a deadline is set, and reads it to set another: the guest does not run then.
                /// Nothing of the guest reads it: who begins the epoch says so in `interrupt`.
                epoch_deadline: u64,
                /// Frame pointer of the trampoline through which the guest was last left, which writes it. An
                /// entry from within a host function saves and restores this and the two fields behind it.
                /// Backtraces, searches for handlers and resuming read it, while the guest is left.
                last_wasm_exit_fp: u64,
                /// Return address into the guest at that moment; written and read with it.
                last_wasm_exit_pc: u64,
                /// Guest stack pointer at the last entry, which writes it: where walks of the stack end.
                last_wasm_entry_sp: u64,
                /// Host stack pointer to return to: written at each entry, which keeps the former one on the
                /// host's stack; read on every way out of the guest.
                host_sp: u64,
                /// Why the guest is to be left, as the thread that runs it says. The trampolines test this and
                /// the next field before they return to the guest.
                request: u32,
                /// What other threads want of the guest. They and the signal handler change it, atomically.
                interrupt: u32,
            }
        }
    };
}

macro_rules! width {
    (ptr) => {
        8
    };
    (u64) => {
        8
    };
    (i64) => {
        8
    };
    (u32) => {
        4
    };
}

macro_rules! offsets {
    ($($(#[$sdoc:meta])* $name:ident $module:ident { $($(#[$doc:meta])* $field:ident : $ty:ident,)* })*) => {$(
        $(#[$sdoc])*
        ///
        /// Byte offsets of the fields from the start of the structure.
        pub mod $module {
            /// Offsets by field.
            #[derive(Clone, Copy, Debug)]
            pub struct Offsets {
                $($(#[$doc])* pub $field: u32,)*
                /// Bytes of the whole structure.
                pub struct_len: u32,
            }
            /// Offsets by field.
            pub const OFFSETS: Offsets = {
                let mut at = 0;
                $(
                    let $field = at;
                    at += width!($ty);
                )*
                Offsets { $($field,)* struct_len: at }
            };
        }
    )*};
}

with_vm_structs!(offsets);

/// First word below memory 0: tells a `VMContext` of this format from anything else.
pub const VMCONTEXT_MAGIC: u64 = u64::from_le_bytes(*b"SLVDGEv1");

/// `VMFuncRef::kind` of a guest function.
pub const KIND_GUEST: u32 = 0;
/// `VMFuncRef::kind` of a host function that takes its arguments in registers.
pub const KIND_HOST_REGS: u32 = 1;
/// `VMFuncRef::kind` of a host function that takes its arguments by array.
pub const KIND_HOST_ARRAY: u32 = 2;

/// Type value of a null table entry.
pub const ENTRY_NULL: u32 = 0;
/// Type value of a table entry that names a function of another instance or of the host; its code
/// value is an index into the runtime's list of such functions.
pub const ENTRY_FOREIGN: u32 = 1;
/// Type value of the module's canonical type 0; type `n` has this plus `n`.
pub const ENTRY_FIRST_TYPE: u32 = 2;

/// A function table entry: the type value in the low half, the code value in the high half.
pub const fn table_entry(type_value: u32, code: u32) -> u64 {
    (code as u64) << 32 | type_value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_keeps_16_byte_alignment_below_it() {
        assert_eq!(vm_context_header::OFFSETS.struct_len % 16, 0);
        let (header, memory) = (vm_context_header::OFFSETS, vm_memory_definition::OFFSETS);
        assert_eq!(
            header.memory0_len - header.memory0_base,
            memory.len - memory.base
        );
        assert_eq!(vm_func_ref::OFFSETS.struct_len, 32);
    }
}
