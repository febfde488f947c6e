//! Data and element segments to initial contents, where that cannot be told from applying them.
//!
//! Segments are applied in order at instantiation, element segments first, and the first that does
//! not fit ends it. So a segment goes into an image only if all segments before it are sure to
//! fit; from the first doubtful one on, they are left to the runtime. Images are sparse where the
//! segments are, but never much larger than what the segments hold.

use std::collections::BTreeMap;

use selvedge_artifact::ids::{DefinedFuncIdx, FuncIdx, MemoryIdx, TableIdx};
use selvedge_artifact::image::{IMAGE_PAGE_LEN, ImageBuilder};
use selvedge_artifact::module::{
    ConstExpr, ConstOp, DataSegment, ElemSegment, Elements, ModuleInfo, SegmentMode,
};
use selvedge_artifact::types::MemoryType;

use super::{TableContents, const_expr};
use crate::error::Error;

/// An image may have this many times the bytes or elements of its segments, ...
const MAX_SPREAD: u64 = 4;
/// ... and this many bytes more, ...
const MEMORY_SLACK: u64 = 1 << 20;
/// ... or this many table elements more.
const TABLE_SLACK: u64 = 1 << 16;
/// Bytes that the data section of an artifact can have.
const MAX_DATA_LEN: u64 = i32::MAX as u64;

/// A data segment as it is read.
pub(super) struct DataSource<'a> {
    pub(super) mode: SegmentMode<MemoryIdx>,
    pub(super) bytes: &'a [u8],
}

/// What becomes of all data segments.
pub(super) struct MemoryContents {
    /// The image section.
    pub(super) image: Vec<u8>,
    /// The data section.
    pub(super) data: Vec<u8>,
}

/// Cuts data segments into the memory image and the data section and enters them into `info`.
pub(super) fn memory(
    info: &mut ModuleInfo,
    sources: &[DataSource<'_>],
    elems_may_trap: bool,
) -> Result<MemoryContents, Error> {
    let mut placed = if elems_may_trap {
        Vec::new()
    } else {
        sure_offsets(info, sources)
    };
    if !is_compact(sources, &placed) {
        placed.clear();
    }
    let mut builder = ImageBuilder::default();
    let mut data = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let segment = match (&source.mode, placed.get(index)) {
            (SegmentMode::Active { .. }, Some(&Some(offset))) => {
                builder.add(offset, source.bytes);
                DataSegment {
                    mode: SegmentMode::InImage,
                    offset: 0,
                    len: 0,
                }
            }
            (mode, _) => {
                let end = data.len() as u64 + source.bytes.len() as u64;
                if end > MAX_DATA_LEN {
                    return Err(Error::LimitExceeded {
                        what: "bytes of data segments",
                        found: end,
                        limit: MAX_DATA_LEN,
                    });
                }
                let offset = data.len() as u32;
                data.extend_from_slice(source.bytes);
                DataSegment {
                    mode: mode.clone(),
                    offset,
                    len: source.bytes.len() as u32,
                }
            }
        };
        info.data.push(segment);
    }
    let (memory_image, image) = builder.build();
    info.memory_image = memory_image;
    Ok(MemoryContents { image, data })
}

/// The offset of each segment in the image, up to the first active one that might not fit. `None`
/// for a passive one, and for one that is sure to fit another memory than that of the image.
fn sure_offsets(info: &ModuleInfo, sources: &[DataSource<'_>]) -> Vec<Option<u64>> {
    if !info.owns_memory0() {
        return Vec::new();
    }
    let mut offsets = Vec::new();
    for source in sources {
        offsets.push(match &source.mode {
            SegmentMode::Active { target, offset } => {
                let memory = info.memories.get(target.index());
                let len = memory.map_or(0, MemoryType::min_len);
                let place = const_expr::index_value(offset)
                    .filter(|at| at.saturating_add(source.bytes.len() as u64) <= len);
                let Some(at) = place else { return offsets };
                (target.index() == 0).then_some(at)
            }
            _ => None,
        });
    }
    offsets
}

/// Whether an image of these segments is not much larger than they are.
fn is_compact(sources: &[DataSource<'_>], placed: &[Option<u64>]) -> bool {
    let mut ranges = Vec::new();
    let mut bytes_len = 0;
    for (source, offset) in sources.iter().zip(placed) {
        let len = source.bytes.len() as u64;
        if let Some(start) = offset.filter(|_| len > 0) {
            bytes_len += len;
            ranges.push((
                start / IMAGE_PAGE_LEN * IMAGE_PAGE_LEN,
                (start + len).next_multiple_of(IMAGE_PAGE_LEN),
            ));
        }
    }
    ranges.sort_unstable();
    let mut image_len = 0;
    let mut covered_to = 0;
    for (start, end) in ranges {
        image_len += end.saturating_sub(start.max(covered_to));
        covered_to = covered_to.max(end);
    }
    image_len <= MAX_SPREAD * bytes_len + MEMORY_SLACK
}

/// Moves active element segments into table contents. Also says whether an element segment might
/// not fit, so that instantiation could end before any data segment is applied.
pub(super) fn tables(info: &mut ModuleInfo) -> (Vec<TableContents>, bool) {
    let mut elems = std::mem::take(&mut info.elems);
    let mut plan = TablePlan::default();
    let mut may_trap = false;
    for elem in &mut elems {
        let SegmentMode::Active { target, offset } = &elem.mode else {
            continue;
        };
        let table = *target;
        let place = const_expr::index_value(offset).filter(|at| {
            info.tables
                .get(table.index())
                .is_some_and(|ty| at.saturating_add(elem.elements.len() as u64) <= ty.min)
        });
        match place {
            Some(at) if plan.place(info, table, at, elem) => {
                elem.mode = SegmentMode::InImage;
                elem.elements = Elements::Funcs(Vec::new());
            }
            Some(_) => plan.leave(table),
            None => {
                may_trap = true;
                break;
            }
        }
    }
    info.elems = elems;
    (plan.finish(), may_trap)
}

/// Table contents while segments are gathered.
#[derive(Default)]
struct TablePlan {
    tables: BTreeMap<TableIdx, Plan>,
    /// Elements that segments have put in.
    elements: u64,
    /// Entries of all tables together.
    entries: u64,
}

#[derive(Default)]
struct Plan {
    funcs: Vec<Option<DefinedFuncIdx>>,
    /// A segment was left to the runtime, so all later ones are too.
    closed: bool,
}

impl TablePlan {
    /// Takes a segment that fits its table. False if it has to be left to the runtime.
    fn place(&mut self, info: &ModuleInfo, table: TableIdx, at: u64, elem: &ElemSegment) -> bool {
        let Some(funcs) = own_funcs(info, table, elem) else {
            return false;
        };
        let plan = self.tables.entry(table).or_default();
        let old_len = plan.funcs.len() as u64;
        let new_len = if funcs.is_empty() {
            old_len
        } else {
            old_len.max(at + funcs.len() as u64)
        };
        let elements = self.elements + funcs.len() as u64;
        let entries = self.entries + new_len - old_len;
        if plan.closed || entries > MAX_SPREAD * elements + TABLE_SLACK {
            return false;
        }
        plan.funcs.resize(new_len as usize, None);
        for (entry, func) in plan.funcs.iter_mut().skip(at as usize).zip(funcs) {
            *entry = func;
        }
        self.elements = elements;
        self.entries = entries;
        true
    }

    /// Leaves a segment to the runtime.
    fn leave(&mut self, table: TableIdx) {
        self.tables.entry(table).or_default().closed = true;
    }

    fn finish(self) -> Vec<TableContents> {
        let tables = self.tables.into_iter();
        tables
            .filter(|(_, plan)| !plan.funcs.is_empty())
            .map(|(table, plan)| TableContents {
                table,
                funcs: plan.funcs,
            })
            .collect()
    }
}

/// The elements, if the table is the module's own and of functions, begins as null, and all
/// elements are null or functions with a body.
fn own_funcs(
    info: &ModuleInfo,
    table: TableIdx,
    elem: &ElemSegment,
) -> Option<Vec<Option<DefinedFuncIdx>>> {
    let defined = table.as_u32().checked_sub(info.imported.tables)?;
    if info.table_inits.get(defined as usize)?.is_some()
        || !info.tables.get(table.index())?.elem.is_func_ref()
    {
        return None;
    }
    let own = |func: FuncIdx| info.defined_func(func).map(Some);
    match &elem.elements {
        Elements::Funcs(funcs) => funcs.iter().map(|func| own(*func)).collect(),
        Elements::Exprs(exprs) => exprs.iter().map(|expr| expr_func(expr, own)).collect(),
    }
}

fn expr_func(
    expr: &ConstExpr,
    own: impl Fn(FuncIdx) -> Option<Option<DefinedFuncIdx>>,
) -> Option<Option<DefinedFuncIdx>> {
    match expr[..] {
        [ConstOp::RefNull] => Some(None),
        [ConstOp::RefFunc(func)] => own(func),
        _ => None,
    }
}
