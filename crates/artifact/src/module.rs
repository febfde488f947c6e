//! What is known of a module beside its code: types, imports, exports, initial contents.
//!
//! The compiler fills a [`ModuleInfo`] while it reads the sections of a Wasm file; the artifact
//! stores it; the runtime checks it once ([`ModuleInfo::check`]) and then indexes without fear.

use serde::{Deserialize, Serialize};

use crate::contract::ids::{
    DefinedFuncIdx, FuncIdx, GlobalIdx, MemoryIdx, SigIdx, TableIdx, TagIdx, TypeIdx,
};
use crate::contract::types::{
    AbiSig, ExternType, FuncType, GlobalType, MemoryType, TableType, ValType, WASM_PAGE_LEN,
};
use crate::error::Error;
use crate::image::MemoryImage;
use crate::state::State;

/// Counts of imports by kind; index spaces begin with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Functions.
    pub funcs: u32,
    /// Tables.
    pub tables: u32,
    /// Memories.
    pub memories: u32,
    /// Globals.
    pub globals: u32,
    /// Tags.
    pub tags: u32,
}

/// What an import or export refers to, by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExternIdx {
    /// A function.
    Func(FuncIdx),
    /// A table.
    Table(TableIdx),
    /// A memory.
    Memory(MemoryIdx),
    /// A global.
    Global(GlobalIdx),
    /// A tag.
    Tag(TagIdx),
}

/// An import.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Import {
    /// Name of the module asked for.
    pub module: String,
    /// Name of the item in it.
    pub name: String,
    /// The index it fills.
    pub item: ExternIdx,
}

/// An export.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// What it gives access to.
    pub item: ExternIdx,
}

/// An operator of a constant expression. Expressions are in postfix order, validated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConstOp {
    /// `i32.const`
    I32Const(i32),
    /// `i64.const`
    I64Const(i64),
    /// `f32.const`, the bits.
    F32Const(u32),
    /// `f64.const`, the bits.
    F64Const(u64),
    /// `v128.const`, the bytes in memory order: as an integer they would widen every operator.
    V128Const([u8; 16]),
    /// `global.get`
    GlobalGet(GlobalIdx),
    /// `ref.null` of any type.
    RefNull,
    /// `ref.func`
    RefFunc(FuncIdx),
    /// `i32.add`
    I32Add,
    /// `i32.sub`
    I32Sub,
    /// `i32.mul`
    I32Mul,
    /// `i64.add`
    I64Add,
    /// `i64.sub`
    I64Sub,
    /// `i64.mul`
    I64Mul,
}

/// A constant expression in postfix order.
pub type ConstExpr = Vec<ConstOp>;

/// When a segment is applied.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SegmentMode<Target> {
    /// At instantiation, at an offset.
    Active {
        /// The memory or table.
        target: Target,
        /// Where in it.
        offset: ConstExpr,
    },
    /// At instantiation; the compiler has put it into the image, nothing is left to do.
    InImage,
    /// When the guest asks.
    Passive,
    /// Never: it only declares functions for `ref.func`.
    Declared,
}

/// A data segment; its bytes are a range of the artifact's data section.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DataSegment {
    /// When it is applied.
    pub mode: SegmentMode<MemoryIdx>,
    /// Offset of its bytes in the data section.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The elements of an element segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Elements {
    /// Functions by index.
    Funcs(Vec<FuncIdx>),
    /// Constant expressions.
    Exprs(Vec<ConstExpr>),
}

impl Elements {
    /// Count of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Funcs(f) => f.len(),
            Self::Exprs(e) => e.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An element segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ElemSegment {
    /// When it is applied.
    pub mode: SegmentMode<TableIdx>,
    /// Type of the elements.
    pub ty: ValType,
    /// What it holds.
    pub elements: Elements,
}

/// A range of the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CodeRange {
    /// Offset from the start of the text.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The trampolines of one machine-level signature, as offsets into the text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SigTrampolines {
    /// The signature.
    pub sig: AbiSig,
    /// Host to guest: `(vmctx, body, argument array)` in the guest's convention. Loads the arguments
    /// from the array, calls `body(vmctx, arguments...)`, stores the results to the array.
    pub host_to_guest: CodeRange,
    /// Guest to guest of another instance: `(VMFuncRef, caller's vmctx, arguments...)`. Calls
    /// `body(ctx, arguments...)` of the `VMFuncRef`.
    pub guest_to_guest: CodeRange,
    /// Guest to host by array: `(VMFuncRef, caller's vmctx, arguments...)`. Stores the arguments to an
    /// array on the guest's stack, calls the `host_call` trampoline of the caller's `vmctx` as
    /// `(VMFuncRef, caller's vmctx, array)`, loads the results.
    pub guest_to_host_array: CodeRange,
}

/// The initial entries of one table: what the runtime copies into place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableImage {
    /// The table.
    pub table: TableIdx,
    /// Offset of the first entry's bytes in the tables section.
    pub offset: u32,
    /// Entries; those behind are null.
    pub len: u32,
}

/// Everything about a module but its code.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The module's own name for itself.
    pub name: Option<String>,
    /// Function types.
    pub types: Vec<FuncType>,
    /// Counts of types of each group in which they were declared, in order.
    pub type_groups: Vec<u32>,
    /// For each type the first type that equals it: the number that table entries carry.
    pub canonical_types: Vec<TypeIdx>,
    /// For each type its machine-level signature.
    pub type_sigs: Vec<SigIdx>,
    /// Trampolines by signature.
    pub sigs: Vec<SigTrampolines>,
    /// Imports in order.
    pub imports: Vec<Import>,
    /// How many imports of each kind.
    pub imported: ImportCounts,
    /// The type of each function, imported ones first.
    pub funcs: Vec<TypeIdx>,
    /// Where each defined function's code is. Offsets rise.
    pub code: Vec<CodeRange>,
    /// Offset in the Wasm file of each defined function's body.
    pub body_offsets: Vec<u32>,
    /// Offset in the Wasm file of the contents of the code section, from which DWARF counts.
    pub code_section_offset: u32,
    /// All tables, imported ones first.
    pub tables: Vec<TableType>,
    /// The initial value of each defined table's elements, if it is not null.
    pub table_inits: Vec<Option<ConstExpr>>,
    /// All memories, imported ones first.
    pub memories: Vec<MemoryType>,
    /// All globals, imported ones first.
    pub globals: Vec<GlobalType>,
    /// The initial value of each defined global.
    pub global_inits: Vec<ConstExpr>,
    /// The type of each tag, imported ones first.
    pub tags: Vec<TypeIdx>,
    /// Exports in order; names are unique.
    pub exports: Vec<Export>,
    /// The function to run before any other.
    pub start: Option<FuncIdx>,
    /// Element segments.
    pub elems: Vec<ElemSegment>,
    /// Data segments.
    pub data: Vec<DataSegment>,
    /// Initial contents of memory 0, if it is this module's own.
    pub memory_image: MemoryImage,
    /// Initial contents of tables.
    pub table_images: Vec<TableImage>,
    /// The state that instances begin with, if it is that of another one: then nothing is initialized, and the
    /// start function has run.
    pub state: Option<State>,
}

impl ModuleInfo {
    /// Replaces the numbers of types in all types, as when the module is loaded into an engine.
    pub fn renumber_types(&mut self, numbers: &[u32]) {
        // What is not in the list is refused by the check.
        let number = |ty: u32| numbers.get(ty as usize).copied().unwrap_or(u32::MAX);
        for ty in &mut self.types {
            *ty = ty.with_numbers(number);
        }
        let tables = self.tables.iter_mut().map(|table| &mut table.elem);
        let globals = self.globals.iter_mut().map(|global| &mut global.ty);
        let elems = self.elems.iter_mut().map(|segment| &mut segment.ty);
        for ty in tables.chain(globals).chain(elems) {
            *ty = ty.with_numbers(number);
        }
    }

    /// The type of a function.
    pub fn func_type(&self, func: FuncIdx) -> &FuncType {
        &self.types[self.funcs[func.index()].index()]
    }

    /// The type of a tag.
    pub fn tag_type(&self, tag: TagIdx) -> &FuncType {
        &self.types[self.tags[tag.index()].index()]
    }

    /// The function's position among those with a body; `None` for an imported one.
    pub fn defined_func(&self, func: FuncIdx) -> Option<DefinedFuncIdx> {
        func.as_u32()
            .checked_sub(self.imported.funcs)
            .map(DefinedFuncIdx::new)
    }

    /// The index of a function with a body in the space of all functions.
    pub fn func_idx(&self, func: DefinedFuncIdx) -> FuncIdx {
        FuncIdx::new(func.as_u32() + self.imported.funcs)
    }

    /// Whether memory 0 exists, is this module's own and lies in its slot, so that `vmctx` is its base.
    /// A memory that reservation and guard cannot bound lies elsewhere, and so does a shared one.
    pub fn owns_memory0(&self) -> bool {
        let near = |memory: &MemoryType| memory.is_guarded() && !memory.shared;
        self.imported.memories == 0 && self.memories.first().is_some_and(near)
    }

    /// The memories that this module defines and that do not lie in its slot.
    pub fn far_memories(&self) -> &[MemoryType] {
        let near = self.imported.memories as usize + usize::from(self.owns_memory0());
        self.memories.get(near..).unwrap_or_default()
    }

    /// The type of an import or export.
    pub fn extern_type(&self, item: ExternIdx) -> ExternType {
        match item {
            ExternIdx::Func(f) => ExternType::Func(self.func_type(f).clone()),
            ExternIdx::Table(t) => ExternType::Table(self.tables[t.index()]),
            ExternIdx::Memory(m) => ExternType::Memory(self.memories[m.index()]),
            ExternIdx::Global(g) => ExternType::Global(self.globals[g.index()]),
            ExternIdx::Tag(t) => ExternType::Tag(self.tag_type(t).clone()),
        }
    }

    /// The exported item of this name.
    pub fn export(&self, name: &str) -> Option<ExternIdx> {
        self.exports.iter().find(|e| e.name == name).map(|e| e.item)
    }

    /// The defined function whose code contains this offset of the text.
    pub fn func_at(&self, text_offset: u32) -> Option<DefinedFuncIdx> {
        let after = self
            .code
            .partition_point(|range| range.offset <= text_offset);
        let index = after.checked_sub(1)?;
        let range = self.code[index];
        (text_offset - range.offset < range.len).then(|| DefinedFuncIdx::new(index as u32))
    }

    /// Checks every index and range against the sections they point into, so that later uses
    /// need not. What a checked `ModuleInfo` says of its code is still only as good as the code.
    pub fn check(&self, lens: &SectionLens) -> Result<(), Error> {
        let ok = self.check_index_spaces() && self.check_segments(lens) && self.check_code(lens);
        if ok { Ok(()) } else { Err(Error::Inconsistent) }
    }

    fn check_index_spaces(&self) -> bool {
        let types = self.types.len();
        let counts = &self.imported;
        let item_ok = |item: ExternIdx| match item {
            ExternIdx::Func(f) => f.index() < self.funcs.len(),
            ExternIdx::Table(t) => t.index() < self.tables.len(),
            ExternIdx::Memory(m) => m.index() < self.memories.len(),
            ExternIdx::Global(g) => g.index() < self.globals.len(),
            ExternIdx::Tag(t) => t.index() < self.tags.len(),
        };
        let known = |ty: ValType| ty.concrete().is_none_or(|ty| (ty as usize) < types);
        self.check_types()
            && self.canonical_types.len() == types
            && self.tables.iter().all(|table| known(table.elem))
            && self.globals.iter().all(|global| known(global.ty))
            && self.elems.iter().all(|segment| known(segment.ty))
            && self.canonical_types.iter().all(|t| t.index() < types)
            && self.type_sigs.len() == types
            && self.type_sigs.iter().zip(&self.types).all(|(s, ty)| {
                self.sigs
                    .get(s.index())
                    .is_some_and(|sig| sig.sig == ty.abi())
            })
            && self.funcs.iter().all(|t| t.index() < types)
            && self.funcs.len() == counts.funcs as usize + self.code.len()
            && self.body_offsets.len() == self.code.len()
            && self.tables.len() == counts.tables as usize + self.table_inits.len()
            && self.memories.len() >= counts.memories as usize
            && self
                .memories
                .iter()
                .all(|m| m.page_len_log2 <= MAX_PAGE_LEN_LOG2 && (m.max.is_some() || !m.shared))
            && self.globals.len() == counts.globals as usize + self.global_inits.len()
            && self.tags.len() >= counts.tags as usize
            && self.tags.iter().all(|t| t.index() < types)
            && self.imports.iter().all(|i| item_ok(i.item))
            && self.exports.iter().all(|e| item_ok(e.item))
            && self.start.is_none_or(|f| f.index() < self.funcs.len())
            && self.global_inits.iter().all(|e| self.check_expr(e))
            && self
                .table_inits
                .iter()
                .flatten()
                .all(|e| self.check_expr(e))
    }

    /// Checks that types refer to types of their own group and of earlier ones only.
    fn check_types(&self) -> bool {
        let mut start = 0;
        for &count in &self.type_groups {
            let end = start + count as usize;
            let Some(group) = self.types.get(start..end) else {
                return false;
            };
            let known = |ty: ValType| ty.concrete().is_none_or(|ty| (ty as usize) < end);
            if !group.iter().flat_map(FuncType::val_types).all(known) {
                return false;
            }
            start = end;
        }
        start == self.types.len()
    }

    fn check_segments(&self, lens: &SectionLens) -> bool {
        let data_ok = self.data.iter().all(|segment| {
            let mode_ok = match &segment.mode {
                SegmentMode::Active { target, offset } => {
                    target.index() < self.memories.len() && self.check_expr(offset)
                }
                _ => true,
            };
            mode_ok && within(segment.offset.into(), segment.len.into(), lens.data)
        });
        let elems_ok = self.elems.iter().all(|segment| {
            let mode_ok = match &segment.mode {
                SegmentMode::Active { target, offset } => {
                    target.index() < self.tables.len() && self.check_expr(offset)
                }
                _ => true,
            };
            let elements_ok = match &segment.elements {
                Elements::Funcs(funcs) => funcs.iter().all(|f| f.index() < self.funcs.len()),
                Elements::Exprs(exprs) => exprs.iter().all(|e| self.check_expr(e)),
            };
            mode_ok && elements_ok
        });
        let tables_ok = self.table_images.iter().all(|image| {
            image.table.as_u32() >= self.imported.tables
                && self
                    .tables
                    .get(image.table.index())
                    .is_some_and(|table| u64::from(image.len) <= table.min)
                && within(image.offset.into(), u64::from(image.len) * 8, lens.tables)
        });
        let state_ok = self.state.as_ref().is_none_or(|state| state.fits(self));
        let pages = match &self.state {
            Some(state) => state.memory_len / WASM_PAGE_LEN,
            None => self.memories.first().map_or(0, |memory| memory.min),
        };
        let image_ok = if self.owns_memory0() {
            self.memory_image.check(pages, lens.image)
        } else {
            self.memory_image.runs.is_empty()
        };
        data_ok && elems_ok && tables_ok && state_ok && image_ok
    }

    fn check_code(&self, lens: &SectionLens) -> bool {
        let range_ok = |r: &CodeRange| within(r.offset.into(), r.len.into(), lens.text);
        self.code.iter().all(range_ok)
            && self.code.is_sorted_by(|a, b| a.offset + a.len <= b.offset)
            && self.sigs.iter().all(|sig| {
                [
                    &sig.host_to_guest,
                    &sig.guest_to_guest,
                    &sig.guest_to_host_array,
                ]
                .into_iter()
                .all(range_ok)
            })
    }

    /// Checks that an expression leaves one value and names what exists.
    fn check_expr(&self, expr: &ConstExpr) -> bool {
        let mut depth = 0u32;
        for op in expr {
            match op {
                ConstOp::GlobalGet(g) if g.index() >= self.globals.len() => return false,
                ConstOp::RefFunc(f) if f.index() >= self.funcs.len() => return false,
                ConstOp::I32Add
                | ConstOp::I32Sub
                | ConstOp::I32Mul
                | ConstOp::I64Add
                | ConstOp::I64Sub
                | ConstOp::I64Mul => {
                    if depth < 2 {
                        return false;
                    }
                    depth -= 1;
                }
                _ => depth += 1,
            }
        }
        depth == 1
    }
}

/// log2 of the longest page that a memory may have.
const MAX_PAGE_LEN_LOG2: u8 = WASM_PAGE_LEN.trailing_zeros() as u8;

/// Lengths in bytes of the sections that a [`ModuleInfo`] points into.
#[derive(Clone, Copy, Debug, Default)]
pub struct SectionLens {
    /// `.text`
    pub text: u64,
    /// `.selvedge.data`
    pub data: u64,
    /// `.selvedge.tables`
    pub tables: u64,
    /// `.selvedge.image`
    pub image: u64,
}

fn within(offset: u64, len: u64, bound: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_module_is_consistent() {
        ModuleInfo::default()
            .check(&SectionLens::default())
            .unwrap();
    }

    #[test]
    fn what_points_outside_is_refused() {
        let lens = SectionLens {
            text: 100,
            data: 10,
            tables: 16,
            image: 0,
        };
        let code = |offset, len| ModuleInfo {
            types: vec![FuncType::default()],
            type_groups: vec![1],
            canonical_types: vec![TypeIdx::new(0)],
            type_sigs: vec![SigIdx::new(0)],
            sigs: vec![SigTrampolines {
                sig: AbiSig::default(),
                host_to_guest: CodeRange::default(),
                guest_to_guest: CodeRange::default(),
                guest_to_host_array: CodeRange::default(),
            }],
            funcs: vec![TypeIdx::new(0)],
            code: vec![CodeRange { offset, len }],
            body_offsets: vec![50],
            ..ModuleInfo::default()
        };
        code(0, 100).check(&lens).unwrap();
        let mut unplaced = code(0, 100);
        unplaced.body_offsets.clear();
        assert!(unplaced.check(&lens).is_err());
        assert!(code(1, 100).check(&lens).is_err());
        assert!(code(u32::MAX, u32::MAX).check(&lens).is_err());
        let mut start = code(0, 1);
        start.start = Some(FuncIdx::new(1));
        assert!(start.check(&lens).is_err());
        let mut data = code(0, 1);
        data.data.push(DataSegment {
            mode: SegmentMode::Passive,
            offset: 5,
            len: 6,
        });
        assert!(data.check(&lens).is_err());
    }

    #[test]
    fn types_refer_to_their_own_group_and_to_earlier_ones() {
        let takes = |ty| {
            let heap = crate::types::HeapType::Concrete(ty);
            let nullable = false;
            FuncType::new([ValType::Ref(crate::types::RefType { nullable, heap })], [])
        };
        let info = |types: [u32; 3], type_groups: &[u32]| ModuleInfo {
            types: types.map(takes).to_vec(),
            type_groups: type_groups.to_vec(),
            ..ModuleInfo::default()
        };
        assert!(info([0, 0, 1], &[1, 1, 1]).check_types());
        assert!(info([1, 0, 2], &[2, 1]).check_types());
        assert!(!info([1, 0, 2], &[1, 1, 1]).check_types());
        assert!(!info([0, 0, 3], &[1, 2]).check_types());
        for groups in [&[1][..], &[1, 1], &[4], &[u32::MAX, 1]] {
            assert!(!info([0, 0, 0], groups).check_types(), "{groups:?}");
        }
    }

    #[test]
    fn an_expression_must_leave_one_value() {
        let info = ModuleInfo::default();
        assert!(info.check_expr(&vec![ConstOp::I32Const(1)]));
        assert!(info.check_expr(&vec![
            ConstOp::I32Const(1),
            ConstOp::I32Const(2),
            ConstOp::I32Add
        ]));
        assert!(!info.check_expr(&vec![ConstOp::I32Add]));
        assert!(!info.check_expr(&vec![]));
        assert!(!info.check_expr(&vec![ConstOp::GlobalGet(GlobalIdx::new(0))]));
    }

    #[test]
    fn functions_are_found_by_offset() {
        let info = ModuleInfo {
            code: vec![
                CodeRange { offset: 0, len: 10 },
                CodeRange { offset: 16, len: 4 },
            ],
            ..ModuleInfo::default()
        };
        assert_eq!(info.func_at(9), Some(DefinedFuncIdx::new(0)));
        assert_eq!(info.func_at(10), None);
        assert_eq!(info.func_at(19), Some(DefinedFuncIdx::new(1)));
        assert_eq!(info.func_at(20), None);
    }
}
